"""Radii of the limbs of the drawn body, in videos and in skinned figures."""

import numpy as np

from utils.skeleton import Skeleton

HEAD_RADIUS_M = 0.105
HEAD_BEYOND_M = 0.07  # from the head joint to the middle of the head, away from the neck
_OTHER_M = 0.045  # of joints with other names
_RADIUS_M = {
    "pelvis": 0.075, "hip": 0.066, "knee": 0.049, "ankle": 0.034, "foot": 0.030, "spine1": 0.072,
    "spine2": 0.076, "spine3": 0.070, "neck": 0.044, "collar": 0.050, "head": 0.042, "shoulder": 0.050,
    "elbow": 0.038, "wrist": 0.028, "hand": 0.026,
}  # fmt: skip


def limb_radii(skeleton: Skeleton) -> np.ndarray:
    """(J,) radius of the limbs at each joint, metres."""
    names = (name.removeprefix("left_").removeprefix("right_") for name in skeleton.joints)
    return np.array([_RADIUS_M.get(name, _OTHER_M) for name in names])
