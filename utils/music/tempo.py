"""The tempo of a song, from its beats."""

import math
from typing import NamedTuple

import numpy as np

UNSTEADY = (
    0.1  # spread of the beat intervals, relative to their median, from which a tempo is called unsteady
)
_SPAN = 4  # beats that an interval is averaged over: beats lie on frames, so that a single one is coarse
_FEWEST = 4  # fewer beats than this give no tempo


class Tempo(NamedTuple):
    """A tempo.

    Attributes:
        bpm: beats per minute; nan if there are fewer than four beats.
        spread: 90th less 10th percentile of the beat intervals, averaged over four beats, relative to their
            median; 0 of a metronome, nan without a tempo.
        slowest: beats per minute of the 90th percentile of the intervals; nan without a tempo.
        fastest: beats per minute of the 10th percentile; nan without a tempo.
    """

    bpm: float
    spread: float
    slowest: float = math.nan
    fastest: float = math.nan

    @property
    def known(self) -> bool:
        """Whether there are beats enough for a tempo."""
        return math.isfinite(self.bpm)

    @property
    def unsteady(self) -> bool:
        """Whether beat intervals vary by more than `UNSTEADY` over the song."""
        return self.known and self.spread > UNSTEADY

    def __str__(self) -> str:
        """Text such as `128 BPM` or `118 BPM, unsteady (100 to 140)`."""
        if not self.known:
            return "no tempo found"
        varies = f", unsteady ({self.slowest:.0f} to {self.fastest:.0f})" if self.unsteady else ""
        return f"{self.bpm:.0f} BPM{varies}"


def tempo_of(beats: np.ndarray, fps: float) -> Tempo:
    """The tempo of tracked beats.

    Intervals are those between a beat and the fourth after it, divided by four: a beat that lies up to half a
    frame off changes them by 1 % at most at 60 fps. `bpm` is their mean without the lowest and highest tenth,
    so that a pause without beats, or a few beats that were missed, do not change it.

    Args:
        beats: (T,) bool flags per frame, or (N,) frame indices, ascending.
        fps: frames per second.
    """
    frames = np.flatnonzero(beats) if np.asarray(beats).dtype == bool else np.asarray(beats)
    if len(frames) < _FEWEST:
        return Tempo(math.nan, math.nan)
    span = min(_SPAN, len(frames) - 1)
    intervals = (frames[span:] - frames[:-span]) / (span * fps)
    low, middle, high = np.quantile(intervals, (0.1, 0.5, 0.9))
    usual = intervals[(intervals >= low) & (intervals <= high)]
    return Tempo(60 / float(usual.mean()), float((high - low) / middle), 60 / float(high), 60 / float(low))
