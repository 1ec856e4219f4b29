"""Input validation of all metrics, in one place, so that every message has the same form."""

import math

import numpy as np

from utils.dance import checked_joints


def as_joints(joints: np.ndarray, fps: float = 60, least: int = 2) -> np.ndarray:
    """Joints as float64 (T, 24, 3).

    Raises:
        ValueError: on other shapes, fewer than `least` frames, values that are not finite, or a rate that is
            not > 0.
    """
    joints = checked_joints(joints, least=least).astype(np.float64)
    if not (math.isfinite(fps) and fps > 0):
        raise ValueError(f"the frame rate must be a positive number of Hz, got {fps}")
    return joints
