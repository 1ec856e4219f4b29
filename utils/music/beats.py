"""Beats of a song: the tracker of the music features, from a sound file or from samples.

Preparation, `--dance`, the metrics and the page all track beats here, so that they agree. `standard` and
`compat` are the versions of the music features, which `datasets.music` explains.
"""

from pathlib import Path
from typing import get_args

import numpy as np

from utils.music import FeatureVersion
from utils.music.audio import MonoMix, decode_audio, resample
from utils.music.hpss import HOP, PadMode, percussive_part
from utils.music.resampling import resample_as_published
from utils.music.rhythm import beat_frames, onset_strength

MIN_SECONDS = 2.0


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
