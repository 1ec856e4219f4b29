"""Input validation of all metrics, in one place, so that every message has the same form."""

import math

import numpy as np

from utils.skeleton import SMPL_24


def as_joints(joints: np.ndarray, fps: float = 60, least: int = 2) -> np.ndarray:
    """Joints as float64 (T, 24, 3).

    Raises:
        ValueError: on other shapes, fewer than `least` frames, values that are not finite, or a rate that is
            not > 0.
    """
    joints = np.asarray(joints)
    shape = (SMPL_24.num_joints, 3)
    if joints.ndim != 3 or joints.shape[1:] != shape:
        raise ValueError(f"joints must be (T, {shape[0]}, {shape[1]}), got shape {joints.shape}")
    if len(joints) < least:
        raise ValueError(f"a dance needs at least {least} frames here, got {len(joints)}")
    joints = joints.astype(np.float64)
    finite = np.isfinite(joints)
    if not finite.all():
        frame, joint, axis = np.argwhere(~finite)[0]
        raise ValueError(
            f"joints must be finite, got {joints[frame, joint, axis]} in frame {frame}, "
            f"joint {SMPL_24.joints[joint]}, axis {'xyz'[axis]}"
        )
    if not (math.isfinite(fps) and fps > 0):
        raise ValueError(f"the frame rate must be a positive number of Hz, got {fps}")
    return joints
