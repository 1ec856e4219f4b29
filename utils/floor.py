"""Floor height of a dance: the one estimate that metrics, foot locking, videos, pages and exports use.

The floor is estimated, as that of AIST++ lies at any height and a generated root starts at height 0. There
are two heights. `floor_height` is that of the lowest foot joint of a standing dancer; metrics and foot
locking compare joints with it. `ground_height` is lower by the sole, the radius of the drawn foot, so that a
drawn foot stands on the ground and not in it.
"""

import numpy as np

from utils.limbs import limb_radii
from utils.skeleton import SMPL_24, Skeleton

SETTLED_SPEED = 0.2  # m/s of the lowest foot joint below which it is taken to stand on the floor


def floor_height(joints: np.ndarray, fps: float = SMPL_24.fps, skeleton: Skeleton = SMPL_24) -> float:
    """Height in metres of the foot joints of a standing dancer, estimated from the dance.

    The median height of the lowest foot joint over the frames in which it moves slower than 0.2 m/s: where a
    foot stands. If it never does, the 5th percentile of the lowest foot joint's height.

    Args:
        joints: (T >= 1, J, 3) metres, y up.
        fps: frames per second.
        skeleton: which joints are feet.
    """
    feet = np.asarray(joints)[:, [joint for foot in skeleton.feet for joint in foot]].astype(np.float64)
    lowest = feet[..., 1].argmin(1)
    height = np.take_along_axis(feet[..., 1], lowest[:, None], 1)[:, 0]
    steps = np.diff(feet, axis=0)
    speed = np.take_along_axis(np.sqrt(np.einsum("...c,...c->...", steps, steps)) * fps, lowest[1:, None], 1)
    settled = height[1:][speed[:, 0] < SETTLED_SPEED]
    return float(np.median(settled) if len(settled) else np.percentile(height, 5))


def sole_thickness(skeleton: Skeleton = SMPL_24) -> float:
    """Metres from a standing foot's lowest joint (the toe base) down to the sole."""
    return float(limb_radii(skeleton)[[foot[-1] for foot in skeleton.feet]].max())


def ground_height(joints: np.ndarray, fps: float = SMPL_24.fps, skeleton: Skeleton = SMPL_24) -> float:
    """Height of the ground in metres: `floor_height` of joints (T >= 1, J, 3) less the sole."""
    return floor_height(joints, fps, skeleton) - sole_thickness(skeleton)


def on_ground(
    joints: np.ndarray, fps: float = SMPL_24.fps, skeleton: Skeleton = SMPL_24
) -> tuple[np.ndarray, float]:
    """The dance with the ground at height 0.

    Args:
        joints: (T >= 1, J, 3) metres, y up.
        fps: frames per second.
        skeleton: which joints are feet.

    Returns:
        Joints (T, J, 3) of the same kind, and the height in metres that the ground had.
    """
    ground = ground_height(joints, fps, skeleton)
    moved = np.array(joints)
    moved[..., 1] -= ground
    return moved, ground
