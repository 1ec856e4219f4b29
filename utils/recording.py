"""Conversion of dances from other systems to this one's conventions: the axis that points up, the frame rate.

All commands that read dances (preparation, `utils.metrics`, `utils.export`) convert them here.
"""

import math
from typing import Literal, get_args

import numpy as np
from scipy.interpolate import CubicSpline

UpAxis = Literal["y", "z", "x", "-y", "-z", "-x"]
UP_AXES: tuple[UpAxis, ...] = get_args(UpAxis)
RATES = (10.0, 1000.0)  # Hz; outside, a rate is a mistake

# Axes of the file that become x, y and z, with their signs; each is a rotation.
_TO_Y_UP: dict[UpAxis, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "y": ((0, 1, 2), (1, 1, 1)),
    "z": ((0, 2, 1), (1, 1, -1)),
    "x": ((1, 0, 2), (-1, 1, 1)),
    "-y": ((0, 1, 2), (1, -1, -1)),
    "-z": ((0, 2, 1), (1, -1, 1)),
    "-x": ((1, 0, 2), (1, -1, 1)),
}


def to_y_up(joints: np.ndarray, up: UpAxis) -> np.ndarray:
    """Joints (..., 3) rotated such that the axis `up` of the file becomes y; unchanged if it is y."""
    if up == "y":
        return joints
    axes, signs = _TO_Y_UP[up]
    return joints[..., list(axes)] * np.array(signs, joints.dtype)


def checked_rate(fps: float) -> float:
    """The frame rate in Hz.

    Raises:
        ValueError: if it is not a number from 10 to 1000.
    """
    if not (math.isfinite(fps) and RATES[0] <= fps <= RATES[1]):
        raise ValueError(f"the frame rate must be {RATES[0]:g} to {RATES[1]:g} Hz, got {fps:g}")
    return float(fps)


def resampled(joints: np.ndarray, fps: float, new_fps: float) -> np.ndarray:
    """Joints (T, ...) at another rate: every n-th frame if the rates divide, else cubic splines.

    Frame 0 stays where it is, and no frame lies after the last one. Linear interpolation would bend the
    motion at each frame of the source: from 30 to 60 fps its jitter is about three times that of splines.
    """
    if math.isclose(fps, new_fps, rel_tol=1e-9) or len(joints) < 2:
        return joints
    step = fps / new_fps
    if math.isclose(step, round(step), rel_tol=1e-9):
        return joints[:: round(step)]
    places = np.arange(math.floor((len(joints) - 1) / step + 1e-9) + 1) * step
    return CubicSpline(np.arange(len(joints)), joints)(np.minimum(places, len(joints) - 1))


def mean_jerk(joints: np.ndarray, fps: float) -> float:
    """Mean length of the third difference of joints (T, J, 3), in m/s³; 0 with fewer than 4 frames."""
    if len(joints) < 4:
        return 0.0
    return float(np.linalg.norm(np.diff(joints, n=3, axis=0), axis=-1).mean() * fps**3)
