"""Joints -> a body of rigid bones: rotations and root, fitted to every frame of a clip.

The closed form of `align.py` is the start; a few Gauss-Newton steps over the whole clip then minimise

    sum |p - joints|²  +  REST sum w |log R|²  +  SMOOTH sum v |log(R[t]^-1 R[t+1])|²

p = forward kinematics of local rotations R and root, all in metres and radians. The two small terms decide
what joints cannot tell (twist of straight limbs, how a bent back shares its bend among its joints); knees
and elbows are cheap to bend about their hinge and dear about the rest. The weights v make turns that the
positions do not show (twist of thigh, upper arm and forearm; ankle and wrist) up to ten times as dear, so
that no joint spins while the body is still. Neighbouring frames meet only in the last term, so that the
normal equations are banded and a clip costs time in proportion to its length.
"""

from typing import NamedTuple

import numpy as np
from scipy.linalg import solveh_banded
from scipy.spatial.transform import Rotation

from utils.dance import checked_joints
from utils.export.align import align
from utils.export.chain import children, clip_offsets, descendants, drift, forward, offsets_of
from utils.skeleton import SMPL_24, Skeleton

REST = 1e-5  # m²/rad²: price of a turn
SMOOTH = 3e-4  # m²/rad²: price of a turn between one frame and the next
_PRICES = {  # per axis, of the turns that are not as free as the others
    "left_knee": (0.1, 3, 3), "right_knee": (0.1, 3, 3),
    "left_elbow": (1, 0.1, 3), "right_elbow": (1, 0.1, 3),
    "left_ankle": (3, 3, 3), "right_ankle": (3, 3, 3), "left_wrist": (3, 3, 3), "right_wrist": (3, 3, 3),
}  # fmt: skip
_STEADY = {  # per axis, of the turns from frame to frame that are dearer than the others
    "left_hip": (1, 10, 1), "right_hip": (1, 10, 1),
    "left_shoulder": (10, 1, 1), "right_shoulder": (10, 1, 1),
    "left_elbow": (10, 1, 1), "right_elbow": (10, 1, 1),
    "left_ankle": (10, 10, 10), "right_ankle": (10, 10, 10),
    "left_wrist": (10, 10, 10), "right_wrist": (10, 10, 10),
    "spine1": (3, 3, 3), "spine2": (3, 3, 3), "spine3": (3, 3, 3),  # of short bones, noise makes wide turns
}  # fmt: skip
_STEPS = 20
_DAMPING = 1e-6  # m²/rad²; grows while steps go wrong
_ENOUGH = 3e-3  # share of the energy below which a step's gain ends the fit
_AGREES = 1e-3  # metres; float32 is exact to 1e-6
_WINDOW, _MARGIN = 1200, 120  # frames fitted at a time, so that an hour needs no more memory than a minute


class Turn(NamedTuple):
    """The fastest rotation of a dance.

    Attributes:
        degrees: angle between one frame and the next, of a joint relative to its parent.
        joint: name of the joint; empty if there is a single frame.
        frame: the first of the two frames.
    """

    degrees: float
    joint: str
    frame: int


class Fit(NamedTuple):
    """A dance as rotations of a body of rigid bones, fitted to joints or decoded with them.

    Attributes:
        offsets: (J, 3) each joint as seen from its parent at rest, metres; the root's is zero.
        rotations: (T, J, 4) unit quaternions x, y, z, w relative to the parent, signs continuous in time.
        root: (T, 3) place of the root, metres.
        error: mean distance of the body's joints from the given ones, metres.
        worst: the largest such distance, metres.
        drift_before: how much the bones of the given joints change, mean |length / median length - 1|.
        drift_after: the same of the body; 0 up to rounding.
        turn: the fastest rotation of a joint; what positions do not show can only be seen here.
    """

    offsets: np.ndarray
    rotations: np.ndarray
    root: np.ndarray
    error: float
    worst: float
    drift_before: float
    drift_after: float
    turn: Turn


def fit_body(
    joints: np.ndarray, rest: np.ndarray, *, offsets: np.ndarray | None = None, skeleton: Skeleton = SMPL_24
) -> Fit:
    """Fit a body to a dance.

    Args:
        joints: (T, J, 3) metres, y up, at the skeleton's frame rate.
        rest: (J, 3) rest joints of a body of any size; single bones have its directions at rest.
        offsets: (J, 3) the body to be used, metres; by default the dancer's own (`clip_offsets`).
        skeleton: the tree of joints.

    Raises:
        ValueError: if the joints are not (T >= 1, J, 3) finite numbers, or the rest joints do not fit.
    """
    joints = checked_joints(joints, skeleton).astype(np.float64)
    offsets = clip_offsets(joints, rest, skeleton) if offsets is None else np.asarray(offsets, np.float64)
    if offsets.shape != joints.shape[1:]:
        raise ValueError(f"offsets must be {joints.shape[1:]}, got {offsets.shape}")
    rotations, root = np.empty((*joints.shape[:2], 4)), np.empty((len(joints), 3))
    for start in range(0, len(joints), _WINDOW):
        end = min(start + _WINDOW, len(joints))
        first, last = max(0, start - _MARGIN), min(end + _MARGIN, len(joints))
        local, place = _fit_window(joints[first:last], offsets, skeleton)
        kept = slice(start - first, end - first)
        rotations[start:end], root[start:end] = quaternions_of(local[kept]), place[kept]
    return measured(joints, offsets, continuous(rotations), root, skeleton)


def body_of_rotations(
    joints: np.ndarray, rotations: np.ndarray, rest: np.ndarray, skeleton: Skeleton = SMPL_24
) -> Fit:
    """The body of a dance whose rotations are known: nothing is fitted.

    Args:
        joints: (T, J, 3) metres, y up; the root's path is taken from them.
        rotations: (T, J, 3, 3) each joint's relative to its parent's.
        rest: (J, 3) rest joints of the body that the rotations move.
        skeleton: the tree of joints.

    Raises:
        ValueError: if the rotations do not give the joints.
    """
    joints = checked_joints(joints, skeleton).astype(np.float64)
    quaternions = continuous(quaternions_of(np.asarray(rotations, np.float64)))
    body = measured(joints, offsets_of(rest, skeleton), quaternions, joints[:, 0], skeleton)
    if body.worst > _AGREES:
        raise ValueError(
            f"the rotations of the dance give joints {1000 * body.worst:.0f} mm from its own, "
            f"{1000 * _AGREES:.0f} mm at most are expected: they are of another dance or body; "
            "without them (smpl_rotations in its file) a body is fitted to the joints"
        )
    return body


def measured(
    joints: np.ndarray,
    offsets: np.ndarray,
    rotations: np.ndarray,
    root: np.ndarray,
    skeleton: Skeleton = SMPL_24,
) -> Fit:
    """The `Fit` of a body to joints (T, J, 3), with its errors."""
    body = chain_joints(offsets, rotations, root, skeleton)
    error = np.linalg.norm(body - joints, axis=-1)
    before, after = drift(joints, skeleton), drift(body, skeleton)
    turn = fastest_turn(rotations, skeleton)
    return Fit(offsets, rotations, root, float(error.mean()), float(error.max()), before, after, turn)


def fastest_turn(rotations: np.ndarray, skeleton: Skeleton = SMPL_24) -> Turn:
    """The fastest rotation between neighbouring frames of unit quaternions (T, J, 4)."""
    if len(rotations) < 2:
        return Turn(0.0, "", 0)
    shared = np.abs((rotations[1:] * rotations[:-1]).sum(-1))
    angles = np.degrees(2 * np.arccos(np.clip(shared, 0.0, 1.0)))
    frame, joint = np.unravel_index(angles.argmax(), angles.shape)
    return Turn(float(angles[frame, joint]), skeleton.joints[joint], int(frame))


def fitted_joints(fit: Fit, skeleton: Skeleton = SMPL_24) -> np.ndarray:
    """Joints (T, J, 3) of the body, metres."""
    return chain_joints(fit.offsets, fit.rotations, fit.root, skeleton)


def chain_joints(
    offsets: np.ndarray, rotations: np.ndarray, root: np.ndarray, skeleton: Skeleton
) -> np.ndarray:
    """Joints (T, J, 3) of offsets (J, 3), quaternions (T, J, 4) and root (T, 3)."""
    return forward(matrices(rotations), root, offsets, skeleton)[0]


def matrices(rotations: np.ndarray) -> np.ndarray:
    """Quaternions (..., 4) as rotation matrices (..., 3, 3)."""
    return Rotation.from_quat(rotations.reshape(-1, 4)).as_matrix().reshape(*rotations.shape[:-1], 3, 3)


def quaternions_of(turns: np.ndarray) -> np.ndarray:
    """Rotation matrices (..., 3, 3) as unit quaternions (..., 4), x, y, z, w.

    Source: Shepperd (1978): of 4 q q^T, which is linear in the matrix, the row with the largest component.
    `Rotation.from_matrix` projects by SVD first, which takes ten times as long.
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = np.moveaxis(turns, (-2, -1), (0, 1))
    rows = [
        [1 + xx - yy - zz, xy + yx, xz + zx, zy - yz],
        [xy + yx, 1 - xx + yy - zz, yz + zy, xz - zx],
        [xz + zx, yz + zy, 1 - xx - yy + zz, yx - xy],
        [zy - yz, xz - zx, yx - xy, 1 + xx + yy + zz],
    ]
    products = np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
    largest = np.diagonal(products, axis1=-2, axis2=-1).argmax(-1)
    row = np.take_along_axis(products, largest[..., None, None], axis=-2)[..., 0, :]
    return row / np.linalg.norm(row, axis=-1, keepdims=True)


def continuous(rotations: np.ndarray) -> np.ndarray:
    """Quaternions (T, J, 4) signed so that each is near the one before; w of the first is positive."""
    sign = np.ones(rotations.shape[:2])
    sign[0] = np.where(rotations[0, :, 3] < 0, -1.0, 1.0)
    sign[1:] = np.where((rotations[1:] * rotations[:-1]).sum(-1) < 0, -1.0, 1.0)
    return rotations * np.cumprod(sign, axis=0)[..., None]


def _fit_window(joints: np.ndarray, offsets: np.ndarray, skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray]:
    """Local rotations (T, J, 3, 3) and root (T, 3) of a stretch of frames."""
    turning = [
        joint for joint, kids in enumerate(children(skeleton)) if kids
    ]  # a last joint's turn moves nothing
    price = np.array([_PRICES.get(skeleton.joints[joint], (1, 1, 1)) for joint in turning]) * REST
    price[turning.index(0)] = 0.0  # facing anywhere costs nothing
    steady = np.array([_STEADY.get(skeleton.joints[joint], (1, 1, 1)) for joint in turning]) * SMOOTH
    start = align(joints, offsets, skeleton)
    now = _state(joints, start, joints[:, 0], offsets, turning, price, steady, skeleton)
    damping = _DAMPING
    for _ in range(_STEPS):
        try:
            step = _solve(joints, now, turning, price, steady, damping, skeleton)
        except np.linalg.LinAlgError:  # rounding of joints far from a body's size
            damping *= 1000
            continue
        local = now.local.copy()
        local[:, turning] = local[:, turning] @ _exp(step[:, 3:].reshape(len(step), -1, 3))
        root = now.root + step[:, :3]
        new = _state(joints, local, root, offsets, turning, price, steady, skeleton)
        if not new.energy <= now.energy:
            damping *= 30
            continue
        done, now, damping = new.energy > now.energy * (1 - _ENOUGH), new, max(damping / 10, _DAMPING)
        if done:
            break
    return now.local, now.root


class _State(NamedTuple):
    """State of the fit of a window."""

    local: np.ndarray  # (T, J, 3, 3)
    root: np.ndarray  # (T, 3)
    body: np.ndarray  # (T, J, 3)
    world: np.ndarray  # (T, J, 3, 3)
    turns: np.ndarray  # (T, N, 3) logarithms of the N turning joints' rotations
    moves: np.ndarray  # (T-1, N, 3) logarithms of what they turn from frame to frame
    energy: float


def _state(
    joints: np.ndarray, local: np.ndarray, root: np.ndarray, offsets: np.ndarray, turning: list[int],
    price: np.ndarray, steady: np.ndarray, skeleton: Skeleton,
) -> _State:  # fmt: skip
    body, world = forward(local, root, offsets, skeleton)
    some = local[:, turning]
    turns, moves = _log(some), _log(np.swapaxes(some[:-1], -1, -2) @ some[1:])
    energy = ((body - joints) ** 2).sum() + (price * turns**2).sum() + (steady * moves**2).sum()
    return _State(local, root, body, world, turns, moves, float(energy))


def _solve(
    joints: np.ndarray, now: _State, turning: list[int], price: np.ndarray, steady: np.ndarray,
    damping: float, skeleton: Skeleton,
) -> np.ndarray:  # fmt: skip
    """The Gauss-Newton step (T, 3 + 3 N): root, then a turn in the frame of each of the N turning joints."""
    frames, num = len(joints), 3 + 3 * len(turning)
    arms = now.body[:, None] - now.body[:, turning][:, :, None]  # (T, N, J, 3) from what turns to each joint
    arms = arms.astype(np.float32)  # enough for the slopes, and twice as fast
    arms *= descendants(skeleton)[turning][None, :, :, None]
    slopes = np.empty((frames, num, *joints.shape[1:]), np.float32)
    slopes[:, :3] = np.eye(3)[:, None]
    axes = np.swapaxes(now.world[:, turning], -1, -2)[:, :, :, None].astype(
        np.float32
    )  # (T, N, 3, 1, 3): each joint's
    turned, arms = slopes[:, 3:].reshape(frames, -1, 3, *joints.shape[1:]), arms[:, :, None]
    for c in range(3):  # the cross product, axes x arms
        a, b = (c + 1) % 3, (c + 2) % 3
        turned[..., c] = axes[..., a] * arms[..., b] - axes[..., b] * arms[..., a]
    slopes[:, 3:] = turned.reshape(frames, num - 3, *joints.shape[1:])
    slopes = slopes.reshape(frames, num, -1)
    normal = (slopes @ np.swapaxes(slopes, -1, -2)).astype(np.float64)  # (T, num, num)
    right = (slopes @ (joints - now.body).reshape(frames, -1, 1))[..., 0]

    bend = _log_slope(now.turns)  # (T, N, 3, 3)
    right[:, 3:] -= (np.swapaxes(bend, -1, -2) @ (price * now.turns)[..., None]).reshape(frames, -1)
    blocks = np.swapaxes(bend, -1, -2) @ (price[:, :, None] * bend)
    for place in range(len(turning)):
        own = slice(3 + 3 * place, 6 + 3 * place)
        normal[:, own, own] += blocks[:, place]
    steps = (steady * now.moves).reshape(frames - 1, num - 3)
    right[:-1, 3:] += steps
    right[1:, 3:] -= steps
    neighbours = np.full(frames, 2.0)
    neighbours[0] -= 1
    neighbours[-1] -= 1
    banded = np.zeros((num + 1, frames, num))
    for below in range(num):
        banded[below, :, : num - below] = normal.diagonal(-below, axis1=1, axis2=2)
    banded[0, :, 3:] += steady.reshape(-1) * neighbours[:, None]
    banded[0] += damping
    banded[num, :-1, 3:] = -steady.reshape(-1)
    return solveh_banded(
        banded.reshape(num + 1, -1), right.reshape(-1), lower=True, check_finite=False
    ).reshape(frames, num)


def _log_slope(turns: np.ndarray) -> np.ndarray:
    """D log(R exp(x)) / dx at x = 0, (..., 3, 3), for turns log R (..., 3)."""
    angle = np.linalg.norm(turns, axis=-1)[..., None, None]
    half = np.maximum(angle / 2, 1e-4)
    x, y, z = np.moveaxis(turns, -1, 0)
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*turns.shape, 3)
    return np.eye(3) + cross / 2 + (1 - half / np.tan(half)) / (4 * half**2) * (cross @ cross)


def _log(turns: np.ndarray) -> np.ndarray:
    return Rotation.from_matrix(turns.reshape(-1, 3, 3)).as_rotvec().reshape(turns.shape[:-1])


def _exp(vectors: np.ndarray) -> np.ndarray:
    return Rotation.from_rotvec(vectors.reshape(-1, 3)).as_matrix().reshape(*vectors.shape, 3)
