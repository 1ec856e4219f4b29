"""Kinetic features: horizontal and vertical kinetic energy and energy expenditure of each joint.

Source: Onuma et al. 2008 as written in fairmotion and AIST++; the features behind FID_k and Div_k.
"""

import numpy as np

from utils.metrics.checks import as_joints
from utils.skeleton import SMPL_24

WINDOW = 2  # frames to either side that velocities and accelerations are averaged over, at 60 fps
NUM_FEATURES = 3 * SMPL_24.num_joints


def _window_mean(x: np.ndarray, length: int, window: int) -> np.ndarray:
    """Means (length, J, 3) of x (n <= length, J, 3) over the rows i - window .. i + window that exist."""
    total = np.zeros((length, *x.shape[1:]))
    count = np.zeros(length)
    for shift in range(-window, window + 1):
        start, stop = max(0, -shift), min(length, len(x) - shift)
        if start < stop:
            total[start:stop] += x[start + shift : stop + shift]
            count[start:stop] += 1
    total /= np.maximum(count, 1)[:, None, None]
    return total


def kinetic_features(joints: np.ndarray, fps: float = 60, corrected: bool = False) -> np.ndarray:
    """Kinetic features (72,) float32: for each joint (horizontal energy, vertical energy, expenditure).

    With v = velocity in m/s averaged over frames t-2 .. t+2: horizontal = mean over t >= 1 of vx² + vz²,
    vertical = mean of vy². Expenditure = mean over t >= 1 of |a|, with a averaged over the same window.
    As published, though, "a" is ((p[t+1] - p[t]) / dt - (p[t] - p[t-1] / dt)) / dt: for want of a bracket it
    measures the distance from the origin (about 3,530 times it) instead of the acceleration, so the frame-0
    root must be subtracted first for published numbers. `corrected` gives the acceleration in m/s², which is
    independent of the place of the dance, and averages over the same time at any rate (two frames to either
    side at 60 fps, one at 30).

    Args:
        joints: (T >= 2, 24, 3) metres, y up. With T = 2 there is no acceleration, and expenditure is 0.
        fps: frame rate in Hz; published numbers are at 60.
        corrected: the true acceleration.

    Raises:
        ValueError: on wrong shapes, values that are not finite, or a rate that is not positive.
    """
    p = as_joints(joints, fps)
    window = max(1, round(WINDOW * fps / SMPL_24.fps)) if corrected else WINDOW
    steps = np.diff(p, axis=0)  # (T-1, J, 3); row t is from frame t to t+1
    velocity = _window_mean(steps, len(steps), window)
    velocity *= fps
    velocity *= velocity
    energy = velocity.mean(0)  # (J, 3)

    acceleration = np.diff(steps, axis=0)  # (T-2, J, 3); row t is around frame t+1
    acceleration *= fps * fps
    if not corrected:  # (p[s] - p[s-1] / dt) instead of (p[s] - p[s-1]) / dt
        acceleration += p[1:-1] * (fps * (fps - 1.0))
    acceleration = _window_mean(acceleration, len(steps), window)
    expenditure = np.sqrt(np.einsum("tjc,tjc->tj", acceleration, acceleration)).mean(0)

    return (
        np.stack([energy[:, 0] + energy[:, 2], energy[:, 1], expenditure], -1).reshape(-1).astype(np.float32)
    )
