"""The instruments of the sample songs: each function returns one struck or held note, mono, around [-1, 1].

Percussion that marks a beat is broad-band and what plays between the beats is narrow-band: the music
features take the median over frequency bands of the onset strength, so beats stand out and the tempo is
unmistakable.
"""

from functools import cache

import numpy as np
from scipy.signal import butter, sosfilt

SAMPLE_RATE_HZ = 22050


def _seconds(duration: float) -> np.ndarray:
    return np.arange(round(duration * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ


def _filtered(signal: np.ndarray, kind: str, cutoff_hz: float) -> np.ndarray:
    return sosfilt(butter(4, cutoff_hz, kind, fs=SAMPLE_RATE_HZ, output="sos"), signal)


def _noise(num: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1.0, 1.0, num)


def _fade_out(signal: np.ndarray, duration: float = 0.01) -> np.ndarray:
    num = min(len(signal), int(duration * SAMPLE_RATE_HZ))
    faded = signal.copy()
    faded[len(signal) - num :] *= np.linspace(1.0, 0.0, num)
    return faded


def midi_hz(note: float) -> float:
    """Frequency in Hz of a MIDI note number (69 = A4 = 440 Hz)."""
    return 440.0 * 2.0 ** ((note - 69.0) / 12.0)


@cache
def kick(click: float = 1.0) -> np.ndarray:
    """Bass drum: a falling sine and a broad-band click of the given level (0 for a ghost note)."""
    t = _seconds(0.28)
    body = np.sin(2 * np.pi * (48.0 * t + 110.0 * 0.03 * (1 - np.exp(-t / 0.03)))) * np.exp(-t / 0.09)
    return _fade_out(0.9 * body + 0.55 * click * _noise(len(t), 1) * np.exp(-t / 0.012))


@cache
def snare() -> np.ndarray:
    """Snare drum: two skin tones and a burst of noise."""
    t = _seconds(0.22)
    skin = np.sin(2 * np.pi * 185 * t) + 0.6 * np.sin(2 * np.pi * 330 * t)
    return _fade_out(0.35 * skin * np.exp(-t / 0.05) + 0.6 * _noise(len(t), 2) * np.exp(-t / 0.045))


@cache
def clap() -> np.ndarray:
    """Hand clap: a sharp burst with a short room."""
    t = _seconds(0.2)
    burst = np.exp(-t / 0.01) + 0.35 * np.exp(-t / 0.06)
    return _fade_out(0.6 * _filtered(_noise(len(t), 3), "highpass", 500) * burst)


@cache
def crash() -> np.ndarray:
    """Cymbal: a broad-band stroke with a long hiss."""
    t = _seconds(0.9)
    hiss = _filtered(_noise(len(t), 6), "highpass", 4500) * np.exp(-t / 0.25)
    return _fade_out(0.3 * hiss + 0.5 * _noise(len(t), 7) * np.exp(-t / 0.015))


@cache
def rim() -> np.ndarray:
    """Rim shot: a dry broad-band tick with a wooden tone."""
    t = _seconds(0.12)
    wood = np.sin(2 * np.pi * 820 * t) * np.exp(-t / 0.02)
    return _fade_out(0.35 * wood + 0.6 * _noise(len(t), 4) * np.exp(-t / 0.016))


@cache
def hat(length: float = 0.025) -> np.ndarray:
    """Hi-hat: noise above 7 kHz that dies with the given time constant in seconds."""
    t = _seconds(6 * length)
    return _fade_out(0.4 * _filtered(_noise(len(t), 5), "highpass", 7000) * np.exp(-t / length))


@cache
def cowbell() -> np.ndarray:
    """Cowbell: two detuned square-ish tones."""
    t = _seconds(0.16)
    tone = np.tanh(3 * np.sin(2 * np.pi * 562 * t)) + np.tanh(3 * np.sin(2 * np.pi * 845 * t))
    return _fade_out(0.25 * tone * np.exp(-t / 0.045) * np.minimum(t / 0.004, 1.0))


@cache
def conga(note: float) -> np.ndarray:
    """Hand drum tuned to a MIDI note, without a noisy attack."""
    t = _seconds(0.2)
    tone = np.sin(2 * np.pi * midi_hz(note) * t)
    return _fade_out(0.6 * tone * np.exp(-t / 0.06) * np.minimum(t / 0.005, 1.0))


def bass(note: float, duration: float, bite: float) -> np.ndarray:
    """Bass note; `bite` in [0, 1] goes from a round sine to a growling saw."""
    t = _seconds(duration)
    phase = 2 * np.pi * midi_hz(note) * t
    saw = sum(np.sin(k * phase) / k * np.exp(-t * k * 2.0) for k in range(1, 9))
    tone = (1 - bite) * np.sin(phase) + bite * 0.8 * saw
    return _fade_out(0.6 * tone * np.minimum(t / 0.008, 1.0) * np.exp(-t / 0.6), 0.02)


def chord(notes: tuple[float, ...], duration: float, timbre: str) -> np.ndarray:
    """A chord in one of the timbres `rhodes`, `organ`, `strings`, `piano`, `synth`.

    Raises:
        ValueError: on another timbre.
    """
    t = _seconds(duration)
    if timbre not in _TIMBRES:
        raise ValueError(f"timbre {timbre!r} is unknown; there are: {', '.join(_TIMBRES)}")
    partials, attack, decay, wobble = _TIMBRES[timbre]
    tone = np.zeros(len(t))
    for note in notes:
        phase = 2 * np.pi * midi_hz(note) * t + wobble * np.sin(2 * np.pi * 5.3 * t)
        for k, level in enumerate(partials, start=1):
            tone += level * np.sin(k * phase) * np.exp(-t * (k - 1) / decay)
    envelope = np.minimum(t / attack, 1.0) * np.exp(-t / decay)
    return _fade_out(0.5 / len(notes) * tone * envelope, 0.05)


# Levels of the partials, attack and decay in seconds, depth of the vibrato in radians.
_TIMBRES = {
    "rhodes": ((1.0, 0.1, 0.0, 0.35), 0.012, 0.9, 0.0),
    "organ": ((0.8, 0.6, 0.4, 0.3, 0.0, 0.25), 0.015, 3.0, 0.15),
    "strings": ((0.8, 0.5, 0.35, 0.3, 0.2, 0.15, 0.1), 0.06, 4.0, 0.25),
    "piano": ((1.0, 0.5, 0.25, 0.15, 0.08), 0.008, 0.7, 0.0),
    "synth": ((0.7, 0.0, 0.45, 0.0, 0.35, 0.0, 0.25, 0.0, 0.2), 0.01, 0.35, 0.0),
}
