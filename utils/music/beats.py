"""Beats of a song: the tracker of the music features, from a sound file or from samples.

Preparation, `--dance`, the metrics and the page all track beats here, so that they agree. Versions are those
of the music features, which `datasets.music` explains. Onset strength as in Böck & Widmer (DAFx 2013), beats
by dynamic programming as in Ellis (JNMR 2007). `standard` and `compat` assume one tempo throughout a song, as
librosa and librosa 0.8.1 do; `beat_phase` follows a tempo that changes (`utils.music.tempo_curve`).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import librosa
import numpy as np

import utils.music.numba_cache  # noqa: F401  locks the cache before librosa's functions are compiled
from utils.music import FeatureVersion, check_version
from utils.music.audio import MonoMix, decode_audio, resample
from utils.music.hpss import BLOCK, FFT_SIZE, HOP, PadMode, percussive_part, spectrum_blocks
from utils.music.resampling import resample_as_published
from utils.music.tempo_curve import tempo_curve

MIN_SECONDS = 2.0
_MEL_BANDS = 128
_COMPAT_HIGHEST_HZ = 11025.0
_TEMPO_SECONDS = 8.0  # how far apart librosa looks for beats that repeat
_FASTEST_BPM = 320.0  # librosa's own limit
AS_LIBROSA_0_8 = ("compat", "frames")  # versions with which published weights were trained
FOLLOW_TEMPO = ("beat_phase", "frames_beat_phase")  # versions whose beats follow a tempo that changes


class Rhythm(NamedTuple):
    """Onsets and beats of a song.

    Attributes:
        onset: (T,) onset strength in dB, >= 0.
        beats: (N,) frames of the beats, ascending.
    """

    onset: np.ndarray
    beats: np.ndarray


def song_beats(path: str | Path, fps: float = 60.0, version: FeatureVersion = "standard") -> np.ndarray:
    """Beat flags (T,) bool of a sound file, those of its prepared data.

    Args:
        path: any sound file.
        fps: frames per second.
        version: of the music features.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the file, if it cannot be read or lasts less than two seconds.
    """
    samples, rate = decode_audio(path, mono_mix(version))
    try:
        return track_beats(to_feature_rate(samples, rate, fps, version), fps, version)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def track_beats(samples: np.ndarray, fps: float, version: FeatureVersion = "standard") -> np.ndarray:
    """Beat flags (T,) bool of mono samples, as `rhythm` finds them."""
    found = rhythm(samples, fps, version)
    flags = np.zeros(len(found.onset), bool)
    flags[found.beats] = True
    return flags


def rhythm(
    samples: np.ndarray, fps: float, version: FeatureVersion = "standard", bpm: float | None = None
) -> Rhythm:
    """Onsets and beats of mono samples; none of digital silence.

    Args:
        samples: (N,) float32 in [-1, 1], at `feature_sample_rate(fps)`.
        fps: frames per second.
        version: of the music features.
        bpm: tempo in beats per minute; found in the onsets if None.

    Raises:
        ValueError: if the samples are not mono, not finite or too short, or the version is unknown.
    """
    rate = feature_sample_rate(fps)
    check_samples(samples, rate, version)
    if not samples.any():
        return Rhythm(np.zeros(1 + len(samples) // HOP, np.float32), np.zeros(0, np.int64))
    onset = onset_strength(percussive_part(samples, padding(version)), rate, version)
    return Rhythm(onset, beat_frames(onset, rate, version, bpm))


def mono_mix(version: str) -> MonoMix:
    """Channel mix of a feature version: the mean, as published, even where channels cancel, or audible."""
    return "mean" if version in AS_LIBROSA_0_8 else "audible"


def to_feature_rate(samples: np.ndarray, rate: int, fps: float, version: str) -> np.ndarray:
    """Samples (N,) at `rate` resampled to `feature_sample_rate(fps)`, by the filter of the version."""
    convert = resample_as_published if version in AS_LIBROSA_0_8 else resample
    return convert(samples, rate, feature_sample_rate(fps))


def feature_sample_rate(fps: float) -> int:
    """Samples per second that give features at `fps` steps per second.

    Raises:
        ValueError: if that is no whole number of samples per second.
    """
    rate = HOP * fps
    if rate <= 0 or rate != int(rate):
        raise ValueError(
            f"features at {fps} steps per second would need {rate} samples per second, not a whole number"
        )
    return int(rate)


def check_samples(samples: np.ndarray, rate: int, version: str) -> None:
    """Check that samples (N,) at a rate and a version of the features can be used.

    Raises:
        ValueError: if the samples are not mono, not finite or too short, or the version is unknown.
    """
    check_version(version)
    if samples.ndim != 1:
        raise ValueError(f"expected finite mono samples (N,), got shape {samples.shape}")
    finite = np.isfinite(samples)
    if not finite.all():
        first = int(np.argmin(finite))
        raise ValueError(
            f"expected finite mono samples (N,), got {np.count_nonzero(~finite)} that are NaN or infinite, "
            f"the first ({samples[first]}) at {first / rate:.2f} s"
        )
    if len(samples) < MIN_SECONDS * rate:
        raise ValueError(
            f"{len(samples) / rate:.2f} s of music are too short; at least {MIN_SECONDS:g} s are needed"
        )


def padding(version: FeatureVersion) -> PadMode:
    """Padding mode beyond the ends of a song."""
    return "reflect" if version in AS_LIBROSA_0_8 else "constant"


def onset_strength(percussive: np.ndarray, rate: int, version: FeatureVersion) -> np.ndarray:
    """Median over mel bands of the rise of their level, in dB: (T,) of the percussive part (N,).

    `compat` and `frames` span their bands up to 11,025 Hz whatever the rate; those above rate / 2 are empty
    and never rise.
    """
    compat = version in AS_LIBROSA_0_8
    bank = _mel_bank(rate, _COMPAT_HIGHEST_HZ if compat else rate / 2)
    blocks = spectrum_blocks(percussive, "reflect" if compat else "constant")
    mel = np.concatenate([bank @ np.abs(block.values) ** 2 for block in blocks], axis=1)
    return librosa.onset.onset_strength(S=librosa.power_to_db(S=mel), sr=rate, aggregate=np.median)


def beat_frames(
    onset: np.ndarray, rate: int, version: FeatureVersion, bpm: float | None = None
) -> np.ndarray:
    """Frames of the tracked beats, ascending, of an onset strength (T,); none where there are no onsets.

    Args:
        onset: the onset strength.
        rate: samples per second.
        version: of the music features.
        bpm: tempo in beats per minute; found in the onsets if None.
    """
    if not onset.any():
        return np.zeros(0, np.int64)
    tempo: float | np.ndarray
    if bpm is not None:
        tempo = bpm
    elif version in FOLLOW_TEMPO:
        tempo = tempo_curve(onset, rate / HOP)
    else:
        tempo = _one_tempo(onset, rate)
    compat = version in AS_LIBROSA_0_8
    _, beats = librosa.beat.beat_track(
        onset_envelope=onset, sr=rate, hop_length=HOP, bpm=tempo, trim=not compat
    )
    return _trim_as_0_8(beats, onset, rate, float(tempo)) if compat else beats


def _one_tempo(onset: np.ndarray, rate: int) -> float:
    """Tempo of a whole song by its onset strength (T,), in beats per minute."""
    fastest = min(_FASTEST_BPM, 60 * rate / HOP / 1.5)  # the tracker needs two frames per beat, rounded
    lags = librosa.time_to_frames(_TEMPO_SECONDS, sr=rate, hop_length=HOP).item()
    mean = sum(part.sum(axis=1, keepdims=True) for part in _tempogram_blocks(onset, lags)) / len(onset)
    return librosa.feature.tempo(tg=mean, sr=rate, hop_length=HOP, max_tempo=fastest).item()


def tempogram(onset: np.ndarray, lags: int, kept: int | None = None) -> np.ndarray:
    """Autocorrelation of an onset strength (T,) around every frame: (lags, T), in [-1, 1].

    Args:
        onset: the onset strength.
        lags: length of the window, in frames.
        kept: how many lags are returned; None: all.
    """
    return np.concatenate([block[:kept] for block in _tempogram_blocks(onset, lags)], axis=1)


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
