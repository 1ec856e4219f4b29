"""A dance and its features: computed once per dance, then combined into any score."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from utils.dance import Dance, beat_indices
from utils.metrics.beats import motion_beat_times, motion_beats, smoothed_speed
from utils.metrics.checks import as_joints
from utils.metrics.geometric import geometric_features
from utils.metrics.kinetic import kinetic_features
from utils.metrics.physical import physical_metrics, resample
from utils.metrics.rhythm import foot_landings
from utils.skeleton import SMPL_24

# Generated dances are cut to this many frames (at 60 fps), as published; real ones are taken whole.
MAX_FRAMES = 1200


@dataclass(frozen=True)
class DanceFeatures:
    """Features of one dance. Frames and beats named `frames` and `*_beats` are at 60 fps.

    Attributes:
        name, song, fps: as in `Dance`.
        frames: length used.
        kinetic, geometric: (72,) and (32,), as published.
        kinetic_corrected, geometric_corrected: the corrected forms, at the dance's own rate.
        motion_beats: frame indices, as published.
        motion_times: seconds, corrected.
        music_beats: frame indices within the dance, empty where there are none; None if the music is not
            known.
        speed: (frames - 1,) smoothed mean joint speed, m/s.
        landings: seconds at which feet land.
        loudness: (frames,) of the music, in any unit that rises with it; None if it is not known.
        physical: name -> value, see `utils.metrics.physical`.
    """

    name: str
    song: str
    fps: float
    frames: int
    kinetic: np.ndarray
    geometric: np.ndarray
    kinetic_corrected: np.ndarray
    geometric_corrected: np.ndarray
    motion_beats: np.ndarray
    motion_times: np.ndarray
    music_beats: np.ndarray | None
    speed: np.ndarray
    landings: np.ndarray
    loudness: np.ndarray | None
    physical: dict[str, float]


def dance_features(
    dance: Dance, max_frames: int | None = None, loudness: np.ndarray | None = None
) -> DanceFeatures:
    """Compute all features of one dance, after subtracting the root position of frame 0.

    Args:
        dance: the dance.
        max_frames: frames at 60 fps that it is cut to (`MAX_FRAMES` for generated dances); None: whole.
        loudness: (F,) of the music at 60 frames per second, from the dance's start; the last value is
            repeated where it is shorter than the dance. None if it is not known.

    Raises:
        ValueError: naming the dance, on wrong shapes, too few frames, values that are not finite, or wrong
            beats.
    """
    try:
        if max_frames is not None and max_frames < 2:
            raise ValueError(f"max_frames must be at least 2, got {max_frames}")
        p = as_joints(dance.joints, dance.fps)
        if max_frames is not None:
            p = p[: max(2, round(max_frames * dance.fps / SMPL_24.fps))]
        at_60 = resample(p, dance.fps, SMPL_24.fps)
        music = None if dance.music_beats is None else beat_indices(dance.music_beats, len(p))
        motion, times = motion_beats(at_60), motion_beat_times(p, dance.fps)
        zeroed, zeroed_60 = p - p[:1, :1], at_60 - at_60[:1, :1]
        return DanceFeatures(
            name=dance.name,
            song=dance.song,
            fps=float(dance.fps),
            frames=len(at_60),
            kinetic=kinetic_features(zeroed_60),
            geometric=geometric_features(zeroed_60),
            kinetic_corrected=kinetic_features(zeroed, dance.fps, corrected=True),
            geometric_corrected=geometric_features(zeroed, dance.fps, corrected=True),
            motion_beats=motion,
            motion_times=times,
            music_beats=None
            if music is None
            else np.unique(np.round(music * (SMPL_24.fps / dance.fps)).astype(int)),
            speed=smoothed_speed(at_60).astype(np.float32),
            landings=foot_landings(p, dance.fps),
            loudness=_fitted(loudness, len(at_60)),
            physical=physical_metrics(p, dance.fps),
        )
    except ValueError as error:
        raise ValueError(f"dance {dance.name!r}: {error}") from None


def _fitted(loudness: np.ndarray | None, frames: int) -> np.ndarray | None:
    """Loudness (frames,), cut or padded by its last value; None where there is none."""
    if loudness is None or not len(loudness):
        return None
    cut = np.asarray(loudness[:frames], np.float32)
    return np.pad(cut, (0, frames - len(cut)), mode="edge")


def all_features(
    dances: Sequence[Dance | DanceFeatures], max_frames: int | None = None
) -> list[DanceFeatures]:
    """Features of each dance; items that already are features are passed through.

    Raises:
        ValueError: if there is no dance, two have one name, or one is wrong.
    """
    if not dances:
        raise ValueError("there is no dance to score")
    names = [dance.name for dance in dances]
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise ValueError(f"two dances have one name: {', '.join(twice[:3])}")
    return [
        dance if isinstance(dance, DanceFeatures) else dance_features(dance, max_frames) for dance in dances
    ]
