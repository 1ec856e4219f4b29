"""Rotations from joints in closed form, bone by bone from the root: the start of the fit.

Where bones branch (pelvis, chest) the rotation is the one that aligns the rest bones best with the real ones
(Kabsch 1976); where a single bone follows, the smallest turn that points it the right way. The
remaining freedom, the twist of a limb, is read off the plane in which its knee or elbow bends; while it is
straight, from frames near by.
"""

import numpy as np
from scipy.ndimage import gaussian_filter1d

from utils.export.chain import best_turn, children
from utils.skeleton import Skeleton

# joint -> axis, of the body at rest (arms out, y up, facing +z), about which the next joint bends
HINGES = {
    "left_hip": (1.0, 0.0, 0.0),
    "right_hip": (1.0, 0.0, 0.0),
    "left_shoulder": (0.0, -1.0, 0.0),
    "right_shoulder": (0.0, 1.0, 0.0),
}
_STRAIGHT = 0.5  # sine of the bend at which its plane is trusted as much as the smallest turn
_NEARBY = 0.05  # seconds over which the plane is averaged


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (..., 3) at length 1; zeros stay zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def smallest_turn(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Rotations (..., 3, 3) of the smallest angle that bring unit vectors (..., 3) onto others.

    For opposite vectors, half a turn about some axis at right angles.
    """
    start, end = np.broadcast_arrays(start, end)
    middle = start + end
    square = (middle * middle).sum(-1)
    spare = np.eye(3)[np.abs(start).argmin(-1)]
    side = unit(spare - (spare * start).sum(-1, keepdims=True) * start)
    opposite = square < 1e-12
    middle = np.where(opposite[..., None], side, middle)
    square = np.where(opposite, 1.0, square)
    # half a turn about the start, then half a turn about the middle, is the smallest turn
    first = 2 * start[..., :, None] * start[..., None, :] - np.eye(3)
    second = 2 * middle[..., :, None] * middle[..., None, :] / square[..., None, None] - np.eye(3)
    return np.where(opposite[..., None, None], second, second @ first)


def frames_of(along: np.ndarray, side: np.ndarray) -> np.ndarray:
    """Orthonormal axes (..., 3, 3), in columns: `along` (unit), `side` made square to it, and the third.

    A `side` that is parallel to `along` is replaced by the coordinate axis that is farthest from it.
    """
    side = side - (side * along).sum(-1, keepdims=True) * along
    spare = np.eye(3)[np.abs(along).argmin(-1)]
    spare = spare - (spare * along).sum(-1, keepdims=True) * along
    side = unit(np.where(np.linalg.norm(side, axis=-1, keepdims=True) > 1e-9, side, spare))
    return np.stack([along, side, np.cross(along, side)], axis=-1)


def align(joints: np.ndarray, offsets: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Rotations relative to the parents, (T, J, 3, 3), of joints (T, J, 3) with rest offsets (J, 3)."""
    below = children(skeleton)
    local = np.tile(np.eye(3), (*joints.shape[:2], 1, 1))
    world = local.copy()
    for joint, kids in enumerate(below):
        parent = skeleton.parents[joint]
        above = world[:, parent] if parent >= 0 else world[:, joint].copy()
        if len(kids) > 1:
            world[:, joint] = best_turn(offsets[kids], joints[:, kids] - joints[:, [joint]])
        elif kids and np.linalg.norm(offsets[kids[0]]) > 1e-9:
            bone, rest = joints[:, kids[0]] - joints[:, joint], unit(offsets[kids[0]])
            there = np.linalg.norm(bone, axis=-1, keepdims=True) > 1e-9
            along = np.where(there, unit(bone), above @ rest)  # a bone without length has no direction
            world[:, joint] = smallest_turn(above @ rest, along) @ above
            name, last = skeleton.joints[joint], below[kids[0]]
            if name in HINGES and len(last) == 1:
                further = unit(joints[:, last[0]] - joints[:, kids[0]])
                axis = np.cross(along, further) + _STRAIGHT * (world[:, joint] @ np.array(HINGES[name]))
                axis = gaussian_filter1d(axis, _NEARBY * skeleton.fps, axis=0, mode="nearest")
                at_rest = frames_of(rest, np.array(HINGES[name]))
                world[:, joint] = frames_of(along, axis) @ at_rest.T
        else:
            world[:, joint] = above
        local[:, joint] = np.swapaxes(above, -1, -2) @ world[:, joint]
    return local
