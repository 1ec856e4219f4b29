"""SMPL parameters -> 24 joints, by forward kinematics on the rest joints of the mean shape (betas = 0).

Source: SMPL (Loper et al. 2015), the kinematic chain only: with betas = 0 the joints need no mesh, so the
rest joints of the three public models are all that is kept here, and no licensed file is required.
"""

import json
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np

from utils.skeleton import SMPL_24

Gender = Literal["male", "female", "neutral"]
GENDERS: tuple[Gender, ...] = ("male", "female", "neutral")


@cache
def _rest_joint_table() -> dict[str, np.ndarray]:
    table = json.loads(Path(__file__).with_name("smpl_rest_joints.json").read_text())
    return {gender: np.asarray(table[gender], np.float64) for gender in GENDERS}


def rest_joints(gender: Gender = "male") -> np.ndarray:
    """Rest positions (24, 3) of the SMPL joints for betas = 0, metres, y up. AIST++ uses the male model."""
    return _rest_joint_table()[gender].copy()


def forward_kinematics(
    poses: np.ndarray, translation: np.ndarray, rest: np.ndarray | None = None
) -> np.ndarray:
    """World positions of the joints.

    Args:
        poses: (T, 72) axis-angle rotations in radians, each joint's relative to its parent's.
        translation: (T, 3) metres. Added to the rest pelvis, which stays in, as in AIST++.
        rest: (24, 3) rest joints, metres; the male model's if None.

    Returns:
        (T, 24, 3) float64 joints, metres, y up.

    Raises:
        ValueError: on shapes other than these.
    """
    from scipy.spatial.transform import Rotation  # configs import this file for the names of genders

    skeleton = SMPL_24
    rest = rest_joints() if rest is None else np.asarray(rest, np.float64)
    poses, translation = np.asarray(poses, np.float64), np.asarray(translation, np.float64)
    num = skeleton.num_joints
    if poses.ndim != 2 or poses.shape[1] != 3 * num:
        raise ValueError(f"poses must be (T, {3 * num}) axis-angle, got {poses.shape}")
    if translation.shape != (len(poses), 3):
        raise ValueError(f"translation must be ({len(poses)}, 3) to match the poses, got {translation.shape}")
    if rest.shape != (num, 3):
        raise ValueError(f"rest joints must be ({num}, 3), got {rest.shape}")

    local = Rotation.from_rotvec(poses.reshape(-1, 3)).as_matrix().reshape(-1, num, 3, 3)
    joints = np.empty((len(poses), num, 3))
    world = np.empty_like(local)
    world[:, 0], joints[:, 0] = local[:, 0], rest[0] + translation
    for parent, child in skeleton.bones:  # parents come before children in SMPL order
        world[:, child] = world[:, parent] @ local[:, child]
        joints[:, child] = joints[:, parent] + world[:, parent] @ (rest[child] - rest[parent])
    return joints
