"""Onsets and beats of the percussive part of a song, in librosa's present manner or that of librosa 0.8.1.

Onset strength as in Böck & Widmer (DAFx 2013), beats by dynamic programming as in Ellis (JNMR 2007).
"""

from collections.abc import Iterator

import librosa
import numpy as np

import utils.music.numba_cache  # noqa: F401  locks the cache before librosa's functions are compiled
from utils.music import FeatureVersion
from utils.music.hpss import BLOCK, FFT_SIZE, HOP, spectrum_blocks

_MEL_BANDS = 128
_COMPAT_HIGHEST_HZ = 11025.0
_TEMPO_SECONDS = 8.0  # how far apart librosa looks for beats that repeat
_FASTEST_BPM = 320.0  # librosa's own limit


def onset_strength(percussive: np.ndarray, rate: int, version: FeatureVersion) -> np.ndarray:
    """Median over mel bands of the rise of their level, in dB: (T,) of the percussive part (N,).

    `compat` spans its bands up to 11,025 Hz whatever the rate; those above rate / 2 are empty and never rise.
    """
    compat = version == "compat"
    bank = _mel_bank(rate, _COMPAT_HIGHEST_HZ if compat else rate / 2)
    blocks = spectrum_blocks(percussive, "reflect" if compat else "constant")
    mel = np.concatenate([bank @ np.abs(block.values) ** 2 for block in blocks], axis=1)
    return librosa.onset.onset_strength(S=librosa.power_to_db(S=mel), sr=rate, aggregate=np.median)


def beat_frames(onset: np.ndarray, rate: int, version: FeatureVersion) -> np.ndarray:
    """Frames of the tracked beats, ascending, of an onset strength (T,); none where there are no onsets."""
    if not onset.any():
        return np.zeros(0, np.int64)
    compat = version == "compat"
    fastest = min(_FASTEST_BPM, 60 * rate / HOP / 1.5)  # the tracker needs two frames per beat, rounded
    lags = librosa.time_to_frames(_TEMPO_SECONDS, sr=rate, hop_length=HOP).item()
    mean = sum(part.sum(axis=1, keepdims=True) for part in _tempogram_blocks(onset, lags)) / len(onset)
    tempo = librosa.feature.tempo(tg=mean, sr=rate, hop_length=HOP, max_tempo=fastest).item()
    _, beats = librosa.beat.beat_track(
        onset_envelope=onset, sr=rate, hop_length=HOP, bpm=tempo, trim=not compat
    )
    return _trim_as_0_8(beats, onset, rate, tempo) if compat else beats


def tempogram(onset: np.ndarray, lags: int) -> np.ndarray:
    """Autocorrelation of an onset strength (T,) around every frame: (lags, T), in [-1, 1]."""
    return np.concatenate(list(_tempogram_blocks(onset, lags)), axis=1)


def _tempogram_blocks(onset: np.ndarray, lags: int) -> Iterator[np.ndarray]:
    """Tempogram (lags, T) as librosa's, in blocks of frames: in one piece it takes hundreds of MB."""
    padded = np.pad(onset, lags // 2, mode="linear_ramp", end_values=0)
    for start in range(0, len(onset), BLOCK):
        stop = min(start + BLOCK, len(onset))
        part = padded[start : stop + lags - 1]
        whole = librosa.feature.tempogram(onset_envelope=part, hop_length=HOP, win_length=lags, center=False)
        yield whole[:, : stop - start]


def _trim_as_0_8(beats: np.ndarray, onset: np.ndarray, rate: int, tempo: float) -> np.ndarray:
    """Cuts weak beats off both ends as librosa 0.8.1 did, which always cut the last one as well.

    Weak: their score, smoothed over five beats, is at most half its rms. The score of a frame is the onset
    strength, in standard deviations, under a Gaussian of 1/32 of a beat.
    """
    period = round(60 * rate / HOP / tempo)
    window = np.exp(-0.5 * (np.arange(-period, period + 1) * 32 / period) ** 2)
    score = np.convolve(onset / onset.std(ddof=1), window)[period:-period]
    smooth = np.convolve(score[beats], np.hanning(5), mode="full")[2:-2]
    strong = np.flatnonzero(smooth > 0.5 * np.sqrt(np.mean(smooth**2)))
    return beats[strong[0] : strong[-1]] if len(strong) else beats[:0]


def _mel_bank(rate: int, highest: float) -> np.ndarray:
    """Mel filter bank (128, bins) of librosa.filters.mel, without its warning of empty bands (intended)."""
    edges = librosa.mel_frequencies(n_mels=_MEL_BANDS + 2, fmin=0.0, fmax=highest)
    bins = librosa.fft_frequencies(sr=rate, n_fft=FFT_SIZE)
    widths = np.diff(edges)
    ramps = edges[:, None] - bins
    triangles = np.minimum(-ramps[:-2] / widths[:-1, None], ramps[2:] / widths[1:, None])
    return (np.maximum(0, triangles) * (2 / (edges[2:] - edges[:-2]))[:, None]).astype(np.float32)
