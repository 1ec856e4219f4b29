"""A floor that stays where it is: the slow drift of height is taken out of a dance.

A generated root is the sum of predicted velocities, and their errors add up: a dancer rises or sinks by
millimetres per second, which is a hand's breadth over a song and metres over an hour. Not in the paper.
"""

import numpy as np
from scipy.ndimage import gaussian_filter1d, percentile_filter

_WINDOW_SECONDS = 8.0  # within it a dancer stands for two seconds or more
_SMOOTH_SECONDS = 4.0  # spread of the Gaussian over the floor's height


def level_floor(joints: np.ndarray, fps: float) -> tuple[np.ndarray, float]:
    """The dance on a level floor, which is where it was at the start, and how far the floor had wandered.

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
