"""Song -> 438 features per step: timbre, harmony, onsets, beats, tempo; columns as in `COLUMNS`.

As in the published system's preparation: the song as mono at 512 samples per step, then librosa. There are
two versions:

* `standard` (the default): librosa's present behaviour.
* `compat`: that of librosa 0.8.1, with which the published features were made and the published weights
  were trained: mirrored edges, an onset filter bank up to 11,025 Hz whatever the sample rate, the last
  tracked beat dropped. As published, though: at 7.5 steps per second half of that bank lies above the
  highest frequency, so the median over its bands is zero, and columns 52 to 437 are silent: the published
  GPT was trained on timbre and harmony only.

`compat` also resamples songs as the published system did (`utils.music.resampling`), `standard` by soxr. On a
drum track the MFCC of `compat` come within 0.002 (60 steps per second) and 0.008 (7.5) of a coefficient's
standard deviation of those made from the published system's samples (mean difference, median over the 20);
soxr left 0.10 and 0.45.
"""

from pathlib import Path
from typing import NamedTuple

import librosa
import numpy as np

import utils.music.numba_cache  # noqa: F401  locks the cache before librosa's functions are compiled
from datasets.sequences import BEAT_COLUMN, COLUMNS, NUM_FEATURES
from utils.music import FeatureVersion
from utils.music.audio import decode_audio
from utils.music.beats import (
    MIN_SECONDS,
    beat_frames,
    check_samples,
    feature_sample_rate,
    mono_mix,
    onset_strength,
    padding,
    tempogram,
    to_feature_rate,
    track_beats,
)
from utils.music.hpss import FFT_SIZE, HOP, PadMode, harmonic_percussive, spectrum_blocks

_LOWEST_HZ = 440.0 * 2.0 ** ((24 - 69) / 12)  # C1, MIDI note 24
_MAX_OCTAVES = 7
_LONGEST_SECONDS = 2.5  # of the filter of the lowest note: shorter songs are padded to it, for librosa warns
_CHROMA_BINS = 36  # per octave, folded to 12
_MEL_BANDS = 128


__all__ = [
    "MIN_SECONDS",
    "NUM_FEATURES",
    "SongFeatures",
    "feature_sample_rate",
    "music_beats",
    "music_features",
    "song_features",
    "track_beats",
]


class SongFeatures(NamedTuple):
    """Features and beats of a song.

    Attributes:
        features: (T', 438) float32, at the code rate.
        beats: (T,) bool at the motion's rate, true on a music beat.
    """

    features: np.ndarray
    beats: np.ndarray


def song_features(
    path: str | Path, version: FeatureVersion = "standard", code_fps: float = 7.5, beat_fps: float = 60.0
) -> SongFeatures:
    """Features of a sound file at the code rate, and its beats at the motion's.

    Args:
        path: any sound file.
        version: `standard` or `compat`.
        code_fps: steps of the features per second.
        beat_fps: frames of the beats per second.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the file, if it cannot be read or lasts less than two seconds.
    """
    samples, rate = decode_audio(path, mono_mix(version))
    try:
        at_code_rate = to_feature_rate(samples, rate, code_fps, version)
        features = music_features(at_code_rate, code_fps, version)
        samples = to_feature_rate(samples, rate, beat_fps, version)  # minutes of it are tens of MB
        return SongFeatures(features, track_beats(samples, beat_fps, version))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def music_features(samples: np.ndarray, fps: float, version: FeatureVersion = "standard") -> np.ndarray:
    """Features of mono samples.

    Digital silence gives zeros throughout.

    Args:
        samples: (N,) float32 in [-1, 1], at `feature_sample_rate(fps)`.
        fps: steps per second.
        version: `standard` or `compat`.

    Returns:
        (T', 438) float32 with T' = 1 + floor(N / 512); columns as in `COLUMNS`.

    Raises:
        ValueError: if the samples are not mono, not finite or too short, or the version is unknown.
    """
    rate = feature_sample_rate(fps)
    check_samples(samples, rate, version)
    if not samples.any():
        return np.zeros((1 + len(samples) // HOP, NUM_FEATURES), np.float32)
    pad_mode = padding(version)
    mfcc = _mfcc(samples, rate, pad_mode)
    harmonic, percussive = harmonic_percussive(samples, pad_mode)
    onset = onset_strength(percussive, rate, version)
    beats = np.zeros((1, len(onset)), np.float32)
    beats[:, beat_frames(onset, rate, version)] = 1
    rows = {
        "mfcc": mfcc,
        "mfcc_delta": librosa.feature.delta(data=mfcc, width=3),
        "chroma": _chroma(harmonic, rate, pad_mode),
        "onset": onset[None],
        "beat": beats,
        "tempogram": tempogram(onset, COLUMNS["tempogram"].stop - COLUMNS["tempogram"].start),
    }
    return np.ascontiguousarray(np.concatenate([rows[name] for name in COLUMNS]).T, dtype=np.float32)


def compile_functions() -> None:
    """Compile all numba functions of the features into numba's cache, on three seconds of noise."""
    for fps in (7.5, 60.0):
        size = 3 * feature_sample_rate(fps)
        noise = np.random.default_rng(0).uniform(-0.5, 0.5, size).astype(np.float32)
        music_features(noise, fps)
        track_beats(noise, fps)


def music_beats(features: np.ndarray) -> np.ndarray:
    """Beat flags (T,) bool of features (T, 438)."""
    return features[:, BEAT_COLUMN] > 0


def _mfcc(samples: np.ndarray, rate: int, pad_mode: PadMode) -> np.ndarray:
    """20 cepstral coefficients (20, T) of the mel spectrum of samples (N,)."""
    bands = [
        librosa.feature.melspectrogram(S=np.abs(part.values) ** 2, sr=rate, n_fft=FFT_SIZE, n_mels=_MEL_BANDS)
        for part in spectrum_blocks(samples, pad_mode)
    ]
    level = librosa.power_to_db(S=np.concatenate(bands, axis=1), ref=np.max)
    return librosa.feature.mfcc(S=level, n_mfcc=COLUMNS["mfcc"].stop)


def _chroma(harmonic: np.ndarray, rate: int, pad_mode: PadMode) -> np.ndarray:
    """Chroma (12, T) of the harmonic part's (N,) constant-Q transform, over the octaves the rate carries."""
    octaves = min(_MAX_OCTAVES, int(np.log2(rate / 2 / _LOWEST_HZ)))  # 7 at 30,720 Hz, 5 at 3,840
    size = max(len(harmonic), int(_LONGEST_SECONDS * rate))
    transform = librosa.cqt(
        y=librosa.util.fix_length(data=harmonic, size=size, mode=pad_mode),
        sr=rate,
        hop_length=HOP,
        fmin=_LOWEST_HZ,
        n_bins=octaves * _CHROMA_BINS,
        bins_per_octave=_CHROMA_BINS,
        tuning=_tuning(harmonic, rate, pad_mode),
        pad_mode=pad_mode,
    )
    return librosa.feature.chroma_cqt(
        C=np.abs(transform[:, : 1 + len(harmonic) // HOP]),
        sr=rate,
        n_octaves=octaves,
        bins_per_octave=_CHROMA_BINS,
    )


def _tuning(harmonic: np.ndarray, rate: int, pad_mode: PadMode) -> float:
    """Tuning of the song relative to 440 Hz, in bins of the constant-Q transform; 0 if it has no pitch."""
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for part in spectrum_blocks(harmonic, pad_mode):
        pitch, strength = librosa.piptrack(S=np.abs(part.values), sr=rate, n_fft=FFT_SIZE)
        found.append((pitch[pitch > 0], strength[pitch > 0]))
    pitch, strength = (np.concatenate(column) for column in zip(*found, strict=True))
    if not len(pitch):
        return 0.0
    clear = strength >= np.median(strength)
    return librosa.pitch_tuning(frequencies=pitch[clear], resolution=0.01, bins_per_octave=_CHROMA_BINS)
