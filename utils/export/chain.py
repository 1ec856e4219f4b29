"""A chain of rigid bones: rest offsets, rotations at the joints, and forward kinematics.

Offsets (J, 3) are each joint's place as seen from its parent while no joint is turned (the root's is zero);
a rotation turns all joints below its own. Metres, y up.
Source: forward kinematics as in SMPL (Loper et al. 2015), without its mesh.
"""

from typing import NamedTuple

import numpy as np

from utils.skeleton import SMPL_24, Skeleton

_ROUNDS = 20
_SETTLED = 1e-9  # metres


class Stretch(NamedTuple):
    """The bone of a dance whose length changes most.

    Attributes:
        bone: names of its joints, `parent-child`.
        change: largest distance of its length from its median length, metres.
        shortest: its smallest length, metres.
        longest: its largest length, metres.
    """

    bone: str
    change: float
    shortest: float
    longest: float


def children(skeleton: Skeleton) -> list[list[int]]:
    """For each joint, its children."""
    return [[j for j, p in enumerate(skeleton.parents) if p == joint] for joint in range(skeleton.num_joints)]


def descendants(skeleton: Skeleton) -> np.ndarray:
    """(J, J) bool: [i, j] says whether turning joint i moves joint j."""
    moved = np.zeros((skeleton.num_joints,) * 2, bool)
    for parent, child in skeleton.bones:  # parents come first
        moved[:, child] = moved[:, parent]
        moved[parent, child] = True
    return moved


def lengths(joints: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """(..., B) lengths in metres of the bones of joints (..., J, 3), in the order of `skeleton.bones`."""
    parents, kids = np.array(skeleton.bones).T
    return np.linalg.norm(joints[..., kids, :] - joints[..., parents, :], axis=-1)


def drift(joints: np.ndarray, skeleton: Skeleton) -> float:
    """Mean over bones and frames of |length / median length - 1|: 0 if the bones are rigid."""
    length = lengths(joints, skeleton)
    usual = np.median(length, axis=0)
    there = usual > 1e-9
    return float(np.abs(length[:, there] / usual[there] - 1.0).mean()) if there.any() else 0.0


def worst_stretch(joints: np.ndarray, skeleton: Skeleton = SMPL_24) -> Stretch:
    """The bone of joints (T >= 1, J, 3), in metres, that deviates most from its median length."""
    length = lengths(np.asarray(joints, np.float64), skeleton)
    change = np.abs(length - np.median(length, axis=0)).max(0)
    worst = int(change.argmax())
    parent, child = skeleton.bones[worst]
    own = length[:, worst]
    name = f"{skeleton.joints[parent]}-{skeleton.joints[child]}"
    return Stretch(name, float(change[worst]), float(own.min()), float(own.max()))


def offsets_of(rest: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Offsets (J, 3) of rest joints (J, 3).

    Raises:
        ValueError: on another shape.
    """
    rest = np.asarray(rest, np.float64)
    if rest.shape != (skeleton.num_joints, 3) or not np.isfinite(rest).all():
        raise ValueError(f"rest joints must be ({skeleton.num_joints}, 3) finite numbers, got {rest.shape}")
    offsets = np.zeros_like(rest)
    for parent, child in skeleton.bones:
        offsets[child] = rest[child] - rest[parent]
    return offsets


def best_turn(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Rotation (T, 3, 3) that lays vectors (N, 3) on vectors (T, N, 3) with the least squared error."""
    u, _, vt = np.linalg.svd(np.einsum("tni,nj->tij", end, start))
    flip = np.ones((*u.shape[:-2], 3))
    flip[..., 2] = np.linalg.det(u @ vt)  # a reflection is no rotation
    return (u * flip[..., None, :]) @ vt


def clip_offsets(joints: np.ndarray, rest: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Offsets (J, 3) of the dancer of a clip: its median bone lengths and its angles where bones branch.

    A single bone has the direction of the rest joints: which one is a convention, as its joint turns freely.

    Args:
        joints: (T, J, 3) metres.
        rest: (J, 3) joints of a body at rest, of any size.
        skeleton: the tree of joints.
    """
    joints = np.asarray(joints, np.float64)
    offsets = offsets_of(rest, skeleton)
    usual = np.median(lengths(joints, skeleton), axis=0)
    kids = [child for _, child in skeleton.bones]
    size = np.maximum(np.linalg.norm(offsets[kids], axis=-1), 1e-9)
    offsets[kids] *= (usual / size)[:, None]
    for joint, below in enumerate(children(skeleton)):
        if len(below) > 1:
            offsets[below] = _branch(joints[:, below] - joints[:, [joint]], offsets[below])
    return offsets


def _branch(bones: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Bones of one joint at rest, (N, 3), of the lengths of `start` and as near to its directions as can be.

    Generalised Procrustes analysis of bones (T, N, 3): the median of the frames after each is turned onto it.
    """
    size = np.linalg.norm(start, axis=-1, keepdims=True)
    shape = start
    for _ in range(_ROUNDS):
        before, turns = shape, best_turn(shape, bones)
        shape = np.median(np.einsum("tij,tni->tnj", turns, bones), axis=0)
        shape *= size / np.maximum(np.linalg.norm(shape, axis=-1, keepdims=True), 1e-12)
        if np.abs(shape - before).max() < _SETTLED:
            break
    return shape @ best_turn(shape, start[None])[0].T


def body_size(joints: np.ndarray, rest: np.ndarray, skeleton: Skeleton) -> float:
    """Size of the dancer relative to the rest joints: least squares over median bone lengths."""
    usual = np.median(lengths(np.asarray(joints, np.float64), skeleton), axis=0)
    own = lengths(np.asarray(rest, np.float64), skeleton)
    return float((usual * own).sum() / (own * own).sum())


def forward(
    local: np.ndarray, root: np.ndarray, offsets: np.ndarray, skeleton: Skeleton
) -> tuple[np.ndarray, np.ndarray]:
    """Forward kinematics.

    Args:
        local: (T, J, 3, 3) each joint's rotation relative to its parent's.
        root: (T, 3) place of the root, metres.
        offsets: (J, 3) metres.
        skeleton: the tree of joints.

    Returns:
        Joints (T, J, 3) in metres, and rotations (T, J, 3, 3) relative to the world.
    """
    joints = np.empty((*local.shape[:2], 3))
    world = np.empty_like(local)
    joints[:, 0], world[:, 0] = root, local[:, 0]
    for parent, child in skeleton.bones:
        world[:, child] = world[:, parent] @ local[:, child]
        joints[:, child] = joints[:, parent] + world[:, parent] @ offsets[child]
    return joints, world


def ground_track(root: np.ndarray, in_place: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Split the path of the pelvis (T, 3) into that of a node on the ground, and the pelvis relative to it.

    Args:
        root: (T, 3) metres, y up, the ground at height 0.
        in_place: whether the node stays at the origin, so that the path on the ground is left out.

    Returns:
        (T, 3) with x and z, height 0; and (T, 3) with the height, x and z 0.
    """
    ground, above = np.zeros_like(root), np.zeros_like(root)
    above[:, 1] = root[:, 1]
    if not in_place:
        ground[:, [0, 2]] = root[:, [0, 2]]
    return ground, above
