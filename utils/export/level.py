"""Removal of the slow drift of height from a dance, so that its floor stays level.

A generated root is the sum of predicted velocities, and their errors add up: the dancer rises or sinks by
millimetres per second, about 0.1 m over a song and metres over an hour. Not in the paper.
"""

import numpy as np
from scipy.ndimage import gaussian_filter1d, percentile_filter
from scipy.signal import lfilter

_WINDOW_SECONDS = 8.0  # within it a dancer stands for two seconds or more
_SMOOTH_SECONDS = 4.0  # spread of the Gaussian over the floor's height
_PAST_SECONDS = 3.0  # the window of a dance that arrives in pieces: it is all behind
_LAG_SECONDS = 0.5  # of each of the two filters that smooth its floor


def level_floor(joints: np.ndarray, fps: float) -> tuple[np.ndarray, float]:
    """The dance on a level floor, at its height of the start, and how far the floor had drifted.

    The floor at a moment is the lower quartile of the lowest joint's height (a hand's or the head's counts as
    well as a foot's) in the 8 s around it, smoothed; jumps and steps are left as they are.

    Args:
        joints: (T, J, 3) metres, y up.
        fps: frames per second.

    Returns:
        Joints (T, J, 3) of the same kind, and metres between the floor's highest and lowest place before.
    """
    lowest = joints[..., 1].min(1).astype(np.float64)
    quartile = percentile_filter(lowest, 25, size=2 * round(_WINDOW_SECONDS * fps / 2) + 1, mode="reflect")
    floor = gaussian_filter1d(quartile, _SMOOTH_SECONDS * fps, mode="nearest")
    levelled = joints.copy()
    levelled[..., 1] -= (floor - floor[0])[:, None]
    return levelled, float(np.ptp(floor))


class LevelStream:
    """Levels a dance that arrives in pieces, causally, in constant memory; for `models.streaming`.

    The correction lags by two or three seconds: a floor that rises by 10 mm/s stays 30 mm high. The first
    three seconds are unchanged and determine the height of the floor.
    """

    def __init__(self, fps: float) -> None:
        self.window = max(1, round(_PAST_SECONDS * fps))
        self.decay = float(np.exp(-1 / (_LAG_SECONDS * fps)))
        self.past = np.zeros(0)
        self.start: float | None = None
        self.states = [np.zeros(1), np.zeros(1)]

    def push(self, joints: np.ndarray) -> np.ndarray:
        """The next joints (m >= 0, J, 3) in metres, levelled; the same whatever the pieces."""
        heights = np.concatenate([self.past, joints[..., 1].min(1).astype(np.float64)])
        self.past = heights[max(0, len(heights) - self.window + 1) :]
        levelled = joints.copy()
        if len(heights) < self.window:
            return levelled
        windows = np.lib.stride_tricks.sliding_window_view(heights, self.window)
        rise = np.percentile(windows, 25, axis=1)
        self.start = float(rise[0]) if self.start is None else self.start
        rise -= self.start
        for i, state in enumerate(self.states):
            rise, self.states[i] = lfilter([1 - self.decay], [1, -self.decay], rise, zi=state)
        levelled[len(joints) - len(rise) :, :, 1] -= rise[:, None]
        return levelled
