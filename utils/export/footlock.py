"""Foot locking: planted feet are held in place and above the floor; optional clean-up of a fitted dance.

A toe is planted while it is low and slow. Over each such stretch the foot is moved to one place, and into
and out of it along a smooth curve; hip and knee follow in closed form (two bones, knee bent in the plane it
was in), and the foot keeps the way it points. Bones keep their lengths. Arms and body are not touched.
"""

import itertools
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d

from utils.dance import checked_joints
from utils.export.align import HINGES, smallest_turn, unit
from utils.export.chain import forward
from utils.export.fit import Fit, continuous, matrices, measured, quaternions_of
from utils.skeleton import SMPL_24, Skeleton

LOW = 0.05  # metres above the floor below which a toe may be planted
SLOW = 0.35  # m/s along the floor, averaged over a few frames, below which it may be
_STRAYS = 0.08  # metres from its place after which a slow foot is taken to have moved on
_SHORTEST, _EASE, _AVERAGE = 0.1, 0.15, 0.03  # seconds: of a stretch; into and out of it; of the speed
_REACH = 0.999  # share of the straight leg that is used


class FootLock(NamedTuple):
    """A dance with its feet locked.

    Attributes:
        fit: the dance; its errors are to the joints before.
        skate_before: mean speed of planted toes along the floor, m/s; 0 if none is planted.
        skate_after: the same, in the same frames.
        sunk_before: how far the lowest foot joint is below the floor, metres, mean over frames.
        sunk_after: the same.
        planted: share of frames in which a toe is planted, 0..1.
    """

    fit: Fit
    skate_before: float
    skate_after: float
    sunk_before: float
    sunk_after: float
    planted: float


def lock_feet(
    fit: Fit, joints: np.ndarray, floor: float, fps: float = SMPL_24.fps, *, skeleton: Skeleton = SMPL_24
) -> FootLock:
    """Keep planted feet in place.

    Args:
        fit: a dance.
        joints: (T, J, 3) that it was fitted to: what its errors are measured against.
        floor: height at which a standing toe is, metres.
        fps: frames per second.
        skeleton: whose feet.

    Raises:
        ValueError: if joints and fit differ in length.
    """
    joints = checked_joints(joints, skeleton).astype(np.float64)
    if len(joints) != len(fit.root):
        raise ValueError(f"the fit has {len(fit.root)} frames, the joints {len(joints)}")
    local = matrices(fit.rotations)
    body, _ = forward(local, fit.root, fit.offsets, skeleton)
    stretches = [planted(body[:, toe], floor, fps) for _, toe in skeleton.feet]
    for (ankle, toe), found in zip(skeleton.feet, stretches, strict=True):
        shift = _shift(body[:, toe], found, floor, fps)
        lowest = (body[:, [ankle, toe], 1] + shift[:, None, 1]).min(1)
        shift[:, 1] += np.maximum(floor - lowest, 0.0)
        local = _move_foot(local, fit, ankle, shift, skeleton)
    new = measured(joints, fit.offsets, continuous(quaternions_of(local)), fit.root, skeleton)
    after, _ = forward(local, fit.root, fit.offsets, skeleton)
    feet = [joint for foot in skeleton.feet for joint in foot]
    sunk, sunk_after = (float(np.maximum(floor - p[:, feet, 1].min(1), 0).mean()) for p in (body, after))
    skate, skate_after = (_skate(p, stretches, fps, skeleton) for p in (body, after))
    down = np.zeros(len(body), bool)
    for start, end in (stretch for found in stretches for stretch in found):
        down[start:end] = True
    return FootLock(new, skate, skate_after, sunk, sunk_after, float(down.mean()))


def planted(toe: np.ndarray, floor: float, fps: float) -> list[tuple[int, int]]:
    """Stretches (first, one past the last frame) in which a toe (T, 3) is low, slow and stays put."""
    if len(toe) < 2:
        return []
    speed = np.linalg.norm(np.gradient(toe[:, [0, 2]], axis=0), axis=-1) * fps
    speed = gaussian_filter1d(speed, _AVERAGE * fps, mode="nearest")
    still = (toe[:, 1] < floor + LOW) & (speed < SLOW)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], still, [False]]).astype(int)))
    found: list[tuple[int, int]] = []
    for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        first = start
        for t in range(start, end):
            if np.linalg.norm(toe[t, [0, 2]] - toe[first : t + 1, [0, 2]].mean(0)) > _STRAYS:
                found.append((first, t))
                first = t
        found.append((first, end))
    return _apart(found, max(1, round(_EASE * fps)), _SHORTEST * fps)


def _apart(stretches: list[tuple[int, int]], room: int, shortest: float) -> list[tuple[int, int]]:
    """The stretches, cut back where fewer than `room` frames lie between two; short ones are removed."""
    kept: list[tuple[int, int]] = []
    for start, end in stretches:
        if end - start < shortest:
            continue
        lacking = max(0, room - (start - kept[-1][1])) if kept else 0
        start += lacking - lacking // 2
        if lacking:
            kept[-1] = (kept[-1][0], kept[-1][1] - lacking // 2)
        kept.append((start, end))
    return [(start, end) for start, end in kept if end - start >= shortest]


def _shift(toe: np.ndarray, stretches: list[tuple[int, int]], floor: float, fps: float) -> np.ndarray:
    """Translation (T, 3) of a foot: onto one place within stretches, eased to zero between them."""
    shift, frames, ease = np.zeros_like(toe), len(toe), max(1, round(_EASE * fps))
    for start, end in stretches:
        place = np.median(toe[start:end], axis=0)
        place[1] = max(place[1], floor)
        shift[start:end] = place - toe[start:end]
    bounds = [(0, 0), *stretches, (frames, frames)]
    for (_, left), (right, _) in itertools.pairwise(bounds):
        t = np.arange(left, right)
        if not len(t):
            continue
        room = min(ease, len(t))
        fading = _smooth(1 - (t - left + 1) / (room + 1)) if left > 0 else np.zeros(len(t))
        coming = _smooth(1 - (right - t) / (room + 1)) if right < frames else np.zeros(len(t))
        total = np.maximum(fading + coming, 1.0)[:, None]  # both at once: in shares
        before = shift[left - 1] if left > 0 else np.zeros(3)
        after = shift[right] if right < frames else np.zeros(3)
        shift[t] = (fading[:, None] * before + coming[:, None] * after) / total
    return shift


def _smooth(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0.0, 1.0)
    return x * x * (3 - 2 * x)


def _move_foot(local: np.ndarray, fit: Fit, ankle: int, shift: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """The rotations with one ankle moved by shift (T, 3), as far as the leg reaches."""
    knee = skeleton.parents[ankle]
    hip = skeleton.parents[knee]
    body, world = forward(local, fit.root, fit.offsets, skeleton)
    thigh, shin = (float(np.linalg.norm(fit.offsets[joint])) for joint in (knee, ankle))
    straight = body[:, ankle] - body[:, hip]
    wanted = straight + shift
    size = np.linalg.norm(wanted, axis=-1)
    reach = np.clip(size, abs(thigh - shin) + 1e-3, _REACH * (thigh + shin))
    reach = np.where(np.linalg.norm(shift, axis=-1) > 1e-9, reach, size)  # a foot that stays is left alone
    swing = smallest_turn(unit(straight), unit(wanted))
    axis = np.cross(body[:, knee] - body[:, hip], body[:, ankle] - body[:, knee])
    at_rest = world[:, hip] @ np.array(HINGES[skeleton.joints[hip]])
    axis = unit(axis + 1e-3 * at_rest)
    direction = np.einsum("tij,tj->ti", swing, unit(straight))
    axis = np.einsum("tij,tj->ti", swing, axis)
    axis = unit(axis - (axis * direction).sum(-1, keepdims=True) * direction)
    front = np.cross(direction, axis)  # the side the shin folds to; the knee is on the other
    part = np.clip((thigh**2 + reach**2 - shin**2) / (2 * thigh * reach), -1, 1)  # cosine at the hip
    high = part[:, None] * direction - np.sqrt(1 - part**2)[:, None] * front * _side(
        body, hip, knee, swing, front
    )
    low = unit(reach[:, None] * direction - thigh * high)
    turned = smallest_turn(unit(np.einsum("tij,tj->ti", swing, body[:, knee] - body[:, hip])), high) @ swing
    new_hip = turned @ world[:, hip]
    shin_now = np.einsum("tij,tj->ti", turned, unit(body[:, ankle] - body[:, knee]))
    new_knee = smallest_turn(shin_now, low) @ turned @ world[:, knee]
    moved = np.linalg.norm(shift, axis=-1)[:, None, None] > 1e-9
    new = local.copy()
    above = world[:, skeleton.parents[hip]]
    for joint, turn in (
        (hip, _inverse(above) @ new_hip),
        (knee, _inverse(new_hip) @ new_knee),
        (ankle, _inverse(new_knee) @ world[:, ankle]),
    ):
        new[:, joint] = np.where(moved, turn, local[:, joint])
    return new


def _side(body: np.ndarray, hip: int, knee: int, swing: np.ndarray, front: np.ndarray) -> np.ndarray:
    """(T, 1) sign, +1 or -1, that keeps the knee on its side of the line of the leg."""
    at = np.einsum("tij,tj->ti", swing, body[:, knee] - body[:, hip])
    return np.where((at * front).sum(-1, keepdims=True) > 0, -1.0, 1.0)


def _skate(body: np.ndarray, stretches: list[list[tuple[int, int]]], fps: float, skeleton: Skeleton) -> float:
    steps = [
        np.linalg.norm(np.diff(body[start:end, toe][:, [0, 2]], axis=0), axis=-1) * fps
        for (_, toe), found in zip(skeleton.feet, stretches, strict=True)
        for start, end in found
    ]
    return float(np.concatenate(steps).mean()) if steps else 0.0


def _inverse(turns: np.ndarray) -> np.ndarray:
    return np.swapaxes(turns, -1, -2)
