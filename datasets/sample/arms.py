"""Arm poses by name, and the shoulder and elbow rotations that make them.

A pose says where the upper arm and the forearm point, for the left arm in the frame of the chest: x
outward, y up, z forward. The elbow is a hinge that only flexes, so it never bends the wrong way.
"""

from functools import cache

import numpy as np
from scipy.spatial.transform import Rotation

from utils.smpl import rest_joints

# name: (upper arm direction, forearm direction)
ARM_POSES = {
    "down": ((0.26, -1.0, -0.05), (0.16, -1.0, 0.30)),
    "ready": ((0.45, -1.0, -0.20), (0.10, -0.30, 1.00)),
    "low": ((0.55, -1.0, -0.10), (0.25, -0.75, 0.60)),
    "hip": ((0.75, -0.70, -0.45), (-0.72, -0.68, 0.42)),
    "chest": ((0.75, -0.75, 0.40), (-0.95, 0.12, 0.60)),
    "guard": ((0.50, -0.90, 0.35), (-0.10, 0.90, 0.75)),
    "front": ((0.25, -0.20, 1.0), (0.02, 0.05, 1.0)),
    "front_low": ((0.35, -0.80, 0.55), (0.02, -0.25, 1.0)),
    "cross": ((0.35, -0.75, 0.60), (-0.75, -0.35, 0.75)),
    "swing_front": ((0.25, -0.85, 0.50), (-0.15, -0.25, 1.0)),
    "swing_back": ((0.40, -0.90, -0.45), (0.25, -1.0, 0.05)),
    "side": ((1.0, -0.08, 0.05), (1.0, 0.02, 0.28)),
    "side_low": ((0.85, -0.65, 0.05), (0.85, -0.55, 0.35)),
    "side_high": ((0.90, 0.50, 0.10), (0.85, 0.65, 0.30)),
    "up": ((0.40, 1.0, 0.10), (0.10, 1.0, 0.22)),
    "victory": ((0.70, 0.75, 0.05), (0.45, 0.95, 0.22)),
    "goal": ((1.0, 0.0, 0.10), (0.15, 1.0, 0.15)),
    "hang": ((1.0, 0.08, 0.15), (0.15, -1.0, 0.25)),
    "over": ((0.75, 0.75, 0.10), (-0.65, 0.60, 0.12)),
    "behind": ((0.85, 0.55, 0.0), (-0.60, 0.35, -0.45)),
    "shoulder": ((0.80, -0.45, 0.45), (-0.80, 0.50, 0.05)),
    "clap": ((0.35, -0.70, 0.60), (-0.66, 0.25, 0.70)),
    "clap_high": ((0.45, 0.25, 0.85), (-0.62, 0.55, 0.55)),
    "point_up": ((0.60, 0.70, 0.40), (0.55, 0.75, 0.60)),
    "point_front": ((0.50, 0.05, 1.0), (0.30, 0.15, 1.0)),
    "wave_1": ((0.95, 0.18, 0.10), (0.85, -0.42, 0.25)),
    "wave_2": ((0.97, -0.14, 0.12), (0.82, 0.40, 0.25)),
    "wave_3": ((0.90, -0.36, 0.15), (0.92, -0.05, 0.38)),
    "embrace": ((0.60, -0.20, 0.80), (-0.35, 0.05, 0.95)),
}  # fmt: skip

_SHOULDERS, _ELBOWS, _WRISTS = (16, 17), (18, 19), (20, 21)
_MIN_FLEX = np.radians(6.0)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def _frame(direction: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Rotation matrix with columns direction, hinge axis made orthogonal to it, and their product."""
    axis = _unit(axis - (axis @ direction) * direction)
    return np.stack([direction, axis, np.cross(direction, axis)], axis=-1)


def elbow_axis(side: int) -> np.ndarray:
    """Unit (3,) axis of the elbow in its own frame; turning about it by a positive angle flexes the arm."""
    rest = rest_joints()
    bone = _unit(rest[_ELBOWS[side]] - rest[_SHOULDERS[side]])
    outward = np.array([0.0, -1.0, 0.0]) if side == 0 else np.array([0.0, 1.0, 0.0])
    return _unit(outward - (outward @ bone) * bone)


@cache
def _solve(pose: str, side: int) -> tuple[Rotation, float]:
    upper, fore = (_unit(np.asarray(direction)) for direction in ARM_POSES[pose])
    if side:
        upper, fore = upper * (-1, 1, 1), fore * (-1, 1, 1)
    rest = rest_joints()
    bone = _unit(rest[_ELBOWS[side]] - rest[_SHOULDERS[side]])
    shoulder = Rotation.from_matrix(_frame(upper, np.cross(upper, fore)) @ _frame(bone, elbow_axis(side)).T)
    return shoulder, max(float(np.arccos(np.clip(upper @ fore, -1, 1))), _MIN_FLEX)


def solve_arm(pose: str, side: int) -> tuple[Rotation, float]:
    """Rotation of the upper arm relative to the chest, and flexion of the elbow in radians.

    Raises:
        ValueError: if there is no such pose.
    """
    if pose not in ARM_POSES:
        raise ValueError(f"arm pose {pose!r} is unknown; there are: {', '.join(ARM_POSES)}")
    return _solve(pose, side)
