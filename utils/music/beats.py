"""Beats of a song: the tracker of the music features, from a sound file or from samples.

Preparation, `--dance`, the metrics and the page all track beats here, so that they agree. `standard` and
`compat` are the versions of the music features, which `datasets.music` explains: librosa's present behaviour,
and that of librosa 0.8.1. Onset strength as in Böck & Widmer (DAFx 2013), beats by dynamic programming as in
Ellis (JNMR 2007).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import librosa
import numpy as np

import utils.music.numba_cache  # noqa: F401  locks the cache before librosa's functions are compiled
from utils.music import FeatureVersion
from utils.music.audio import MonoMix, decode_audio, resample
from utils.music.hpss import BLOCK, FFT_SIZE, HOP, PadMode, percussive_part, spectrum_blocks
from utils.music.resampling import resample_as_published

MIN_SECONDS = 2.0
_MEL_BANDS = 128
_COMPAT_HIGHEST_HZ = 11025.0
_TEMPO_SECONDS = 8.0  # how far apart librosa looks for beats that repeat
_FASTEST_BPM = 320.0  # librosa's own limit


def song_beats(path: str | Path, fps: float = 60.0, version: FeatureVersion = "standard") -> np.ndarray:
    """Beat flags (T,) bool of a sound file, those of its prepared data.

    Args:
        path: any sound file.
        fps: frames per second.
        version: `standard` or `compat`.

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
    """Beat flags (T,) bool of mono samples: those of the music features at this rate.

    Args:
        samples: (N,) float32 in [-1, 1], at `feature_sample_rate(fps)`.
        fps: frames per second.
        version: `standard` or `compat`.

    Raises:
        ValueError: if the samples are not mono, not finite or too short, or the version is unknown.
    """
    rate = feature_sample_rate(fps)
    check_samples(samples, rate, version)
    flags = np.zeros(1 + len(samples) // HOP, bool)
    if samples.any():
        onset = onset_strength(percussive_part(samples, padding(version)), rate, version)
        flags[beat_frames(onset, rate, version)] = True
    return flags


def mono_mix(version: str) -> MonoMix:
    """Channel mix of a feature version: `compat` takes the mean, as published, even where channels cancel."""
    return "mean" if version == "compat" else "audible"


def to_feature_rate(samples: np.ndarray, rate: int, fps: float, version: str) -> np.ndarray:
    """Samples (N,) at `rate` resampled to `feature_sample_rate(fps)`, by the filter of the version."""
    convert = resample_as_published if version == "compat" else resample
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
    if version not in get_args(FeatureVersion):
        raise ValueError(
            f"feature version {version!r} is unknown; expected one of {', '.join(get_args(FeatureVersion))}"
        )
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
    return "reflect" if version == "compat" else "constant"


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
