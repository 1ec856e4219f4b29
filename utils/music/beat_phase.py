"""Where in the beat a moment falls: phase, time to the next beat, local tempo."""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import uniform_filter1d

_SPAN = 4  # beat intervals that a local tempo is averaged over: beats lie on frames, so one alone is coarse
_PAUSE_SECONDS = 3.0  # longer intervals are pauses: no beat is kept through them


class BeatPhase(NamedTuple):
    """Position of moments within the beat; all are 0 in a pause and where fewer than two beats are known.

    Attributes:
        sine: (T,) of the phase, which is 0 on a beat and grows by 2 pi until the next.
        cosine: (T,) of the phase.
        to_next: (T,) seconds to the next beat; 0 on a beat.
        bpm: (T,) local tempo, beats per minute.
    """

    sine: np.ndarray
    cosine: np.ndarray
    to_next: np.ndarray
    bpm: np.ndarray


def beat_phase(beats: np.ndarray, places: np.ndarray, fps: float) -> BeatPhase:
    """Position of moments within the beat.

    Before the first beat and after the last one the beat goes on at the tempo that it has there.

    Args:
        beats: (N,) frames of the beats, ascending, not necessarily whole.
        places: (T,) moments in frames, ascending.
        fps: frames per second.
    """
    zeros = np.zeros(len(places))
    steady = np.diff(beats) <= _PAUSE_SECONDS * fps
    if not steady.any() or not len(places):
        return BeatPhase(zeros, zeros, zeros, zeros)
    lengths = _local_lengths(np.diff(beats), steady)
    before = np.arange(beats[0], places[0] - lengths[0], -lengths[0])[:0:-1]
    after = np.arange(beats[-1], places[-1] + 2 * lengths[-1], lengths[-1])[1:]
    grid = np.concatenate([before, beats, after])
    length = np.pad(lengths, (len(before), len(after)), mode="edge")
    known = np.pad(steady, (len(before), len(after)), constant_values=True)
    last = np.searchsorted(grid, places, side="right") - 1  # the beat at or before the moment
    share = (places - grid[last]) / (grid[last + 1] - grid[last])
    to_next = np.where(share > 0, grid[last + 1] - places, 0) / fps
    found = BeatPhase(np.sin(2 * np.pi * share), np.cos(2 * np.pi * share), to_next, 60 * fps / length[last])
    return BeatPhase(*(np.where(known[last], values, 0) for values in found))


def _local_lengths(intervals: np.ndarray, steady: np.ndarray) -> np.ndarray:
    """Mean of the intervals (N,) around each one, those that are not steady left out."""
    total = uniform_filter1d(np.where(steady, intervals, 0.0), _SPAN, mode="nearest")
    share = uniform_filter1d(steady.astype(np.float64), _SPAN, mode="nearest")
    typical = float(np.median(intervals[steady]))
    some = share > 0.5 / _SPAN
    return np.where(some, total / np.where(some, share, 1.0), typical)
