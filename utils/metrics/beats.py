"""Motion beats, and the beat-align score (BAS) in its published and corrected forms.

Source: Bailando (CVPR 2022), section 4 (BAS, over the music's beats), after AIST++ (over the motion's beats).
Both give each beat exp(-d² / (2 sigma²)) with d the distance to the nearest beat of the other kind, which is
Cemgil's beat tracking accuracy up to its scale.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

from utils.dance import beat_indices
from utils.metrics.checks import as_joints
from utils.skeleton import SMPL_24

SMOOTHING = 5.0  # sigma of the smoothing of the speed, in frames, as published
TOLERANCE = 3.0  # sigma of the score, in frames, as published
SMOOTHING_SECONDS = SMOOTHING / SMPL_24.fps
TOLERANCE_SECONDS = TOLERANCE / SMPL_24.fps
PROMINENCE = 0.05  # m/s by which the speed must rise on both sides of a corrected motion beat


class BeatScores(NamedTuple):
    """Beat alignment in 0..1, higher is better, NaN where there is nothing to average over.

    Attributes:
        recall: mean over music beats; the published BAS has this form. More motion beats raise it, jitter
            included.
        precision: mean over motion beats (the form of FACT).
        f1: harmonic mean of both.
    """

    recall: float
    precision: float
    f1: float


def mean_speed(joints: np.ndarray, fps: float = 60) -> np.ndarray:
    """Mean speed of the joints (T-1,) in metres per *frame*; entry t is between frames t and t+1."""
    steps = np.diff(as_joints(joints, fps), axis=0)
    return np.sqrt(np.einsum("tjc,tjc->tj", steps, steps)).mean(1)


def prominent_minima(speed: np.ndarray, prominence: float) -> np.ndarray:
    """Ascending indices of the local minima of a speed (T,) that have a prominence.

    Prominence is the smaller of the rises to the highest speeds on either side of the minimum, each up to the
    end or the next lower speed, as in topography (`scipy.signal.find_peaks` of the negative speed). A minimum
    of several equal values counts once, at their middle. Without a floor of prominence, the ripple of a
    decoder that repeats a code is a motion beat every few frames, and a dancer who stands still scores a BAS
    of 0.6.

    Args:
        speed: smoothed mean joint speed.
        prominence: least prominence, in the unit of the speed.
    """
    return find_peaks(-speed, prominence=prominence)[0]


def motion_beats(joints: np.ndarray, fps: float = 60, smoothing: float = SMOOTHING) -> np.ndarray:
    """Motion beats as ascending frame indices: strict local minima of the smoothed mean joint speed.

    Args:
        joints: (T >= 2, 24, 3) metres.
        fps: frame rate in Hz; the published form, in frames, does not depend on it.
        smoothing: sigma of the Gaussian, in frames.

    Raises:
        ValueError: on wrong shapes or values that are not finite.
    """
    x = gaussian_filter1d(mean_speed(joints, fps), smoothing)
    return np.flatnonzero((x[1:-1] < x[:-2]) & (x[1:-1] < x[2:])) + 1


def smoothed_speed(joints: np.ndarray, fps: float = 60) -> np.ndarray:
    """Mean joint speed (T-1,) in m/s, smoothed as for motion beats; entry t is at (t + ½)/fps seconds."""
    return gaussian_filter1d(mean_speed(joints, fps) * fps, SMOOTHING_SECONDS * fps)


def motion_beat_times(joints: np.ndarray, fps: float = 60, prominence: float = PROMINENCE) -> np.ndarray:
    """Motion beats in seconds, for the corrected score: smoothed in seconds, placed between samples.

    The speed between frames t and t+1 belongs to time (t + ½)/fps; each minimum is moved to the vertex of the
    parabola through it and its neighbours, so that 30 and 60 fps give the same times.

    Args:
        joints: (T >= 2, 24, 3) metres.
        fps: frame rate in Hz.
        prominence: least prominence of a beat, m/s (`prominent_minima`).
    """
    speed = smoothed_speed(joints, fps)
    minima = prominent_minima(speed, prominence)
    before, at, after = speed[minima - 1], speed[minima], speed[minima + 1]
    curvature = before - 2.0 * at + after  # at least 0, and 0 within a plateau
    vertex = np.divide(0.5 * (before - after), curvature, out=np.zeros_like(at), where=curvature > 0)
    return (minima + 0.5 + vertex) / fps


def nearness(of: np.ndarray, to: np.ndarray, tolerance: float) -> np.ndarray:
    """exp(-d² / (2 tolerance²)) of each of `of` (n,), d the distance to the nearest of `to` (m,).

    Range 0..1, (n,) float64; both in the same unit; 0 if `to` is empty.
    """
    of = np.asarray(of, np.float64)
    if len(to) == 0:
        return np.zeros(len(of))
    to = np.sort(np.asarray(to, np.float64))
    right = np.searchsorted(to, of).clip(1, max(len(to) - 1, 1))
    distance = np.minimum(np.abs(of - to[right - 1]), np.abs(of - to[np.minimum(right, len(to) - 1)]))
    return np.exp(-(distance**2) / (2.0 * tolerance**2))


def alignment(of: np.ndarray, to: np.ndarray, tolerance: float) -> float:
    """Mean `nearness` of `of` (n,) to `to` (m,).

    Range 0..1; both in the same unit. NaN if `of` is empty (nothing to average), 0 if only `to` is.
    """
    return float(nearness(of, to, tolerance).mean()) if len(of) else math.nan


def beat_align(joints: np.ndarray, music_beats: np.ndarray) -> float:
    """Published beat-align score (BAS) of a dance: mean over *music* beats of exp(-d² / 18), d in frames.

    Range 0..1, higher is called better, but unrelated motion reaches 0.12 to 0.47 and jitter raises it:
    compare with real dances whose songs are shuffled. NaN without music beats, 0 without motion beats.

    Args:
        joints: (T >= 2, 24, 3) at 60 fps.
        music_beats: frame indices, or a bool per frame; those past the dance's end are left out.

    Raises:
        ValueError: on wrong shapes or values.
    """
    return alignment(beat_indices(music_beats, len(joints)), motion_beats(joints), TOLERANCE)


def beat_scores(motion: np.ndarray, music: np.ndarray, tolerance: float = TOLERANCE_SECONDS) -> BeatScores:
    """Corrected scores from motion and music beats in seconds; tolerance is the Gaussian's sigma in seconds.

    Without music beats all three are NaN; without motion beats recall is 0, precision NaN, F1 0.
    """
    recall = alignment(music, motion, tolerance)
    precision = alignment(motion, music, tolerance) if len(music) else math.nan
    if math.isnan(recall):
        return BeatScores(math.nan, math.nan, math.nan)
    total = recall + (0.0 if math.isnan(precision) else precision)
    f1 = 0.0 if math.isnan(precision) or total == 0 else 2 * recall * precision / total
    return BeatScores(recall, precision, f1)
