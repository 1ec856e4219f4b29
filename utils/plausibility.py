"""Plausibility of recorded dances: axes, units, missing joints, T-poses, and motion that no body makes.

The only checks of their kind: preparation, `utils.metrics` and `utils.export` report what is found here.
The limits lie between the fastest motion of clean AIST++ dances (joints 9 m/s, pelvis 3 m/s, 19 degrees per
frame of 60 fps) and that of its broken fits (joints 15 m/s and more, 85 degrees per frame and more).
"""

from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from utils.recording import UP_AXES, UpAxis
from utils.skeleton import SMPL_24, Skeleton

BODY_METRES = (0.3, 3.0)  # largest extent of a body over its joints
SPEED = 15.0  # m/s of any joint
ROOT_SPEED = 8.0  # m/s of the root
TURN = 3000.0  # degrees per second of a bone, or of a joint's rotation: 50 per frame of 60 fps
BONE_CHANGE = 0.5  # share of a bone's median length by which it may change
LOST_SECONDS = 0.1  # longest run of lost frames that is bridged
T_POSE_SECONDS = 0.5

_UNITS = {"decimetres": 0.1, "centimetres": 0.01, "millimetres": 0.001, "inches": 0.0254, "feet": 0.3048}
_USUAL = (0.9, 2.2)  # metres that a body measures most of the time
_SHORT_BONE = 0.01  # metres below which a bone has no direction
_WITHIN = 0.5  # cosine of the angle between an axis and the direction from toes to head: 60 degrees
_MANY, _FEW = 0.8, 0.1  # shares of frames that decide for an axis, and against y
_GAP_SECONDS = 0.1  # stretches that are nearer than this are one
_ALIGNED = 0.94  # cosine of 20 degrees, between the bones of a T-pose and straight ones
_TRAVEL_FRAMES = 16
_SHOWN = 3


class Stretch(NamedTuple):
    """Frames `start` to `end`, both included, and what is wrong with them."""

    start: int
    end: int
    what: str

    def __str__(self) -> str:
        frames = f"frame {self.start}" if self.start == self.end else f"frames {self.start}-{self.end}"
        return f"{frames}: {self.what}"


class Findings(NamedTuple):
    """Properties of a recorded dance.

    Attributes:
        seconds: its length.
        speed: mean speed of the joints, m/s.
        upright: share of frames in which the head is above the toes along y; None if the skeleton has no
            joint `head`.
        unit: why the body cannot be in metres; '' if it can.
        axis: why y cannot point up; '' if it can.
        others: remarks on missing joints, exchanged sides and T-poses.
        implausible: stretches of motion that no body makes; none are looked for in a body of another unit.
        t_poses: stretches in which the body stands in a T-pose.
    """

    seconds: float
    speed: float
    upright: float | None
    unit: str
    axis: str
    others: list[str]
    implausible: list[Stretch]
    t_poses: list[Stretch]

    @property
    def remarks(self) -> list[str]:
        """Everything that is wrong, a line each."""
        wrong = [text for text in (self.unit, self.axis) if text] + self.others
        if self.implausible:
            wrong.append(f"no body moves like this: {listed(self.implausible)}")
        return wrong + ([f"T-pose: {listed(self.t_poses)}"] if self.t_poses else [])


def inspect(
    joints: np.ndarray,
    fps: float = SMPL_24.fps,
    skeleton: Skeleton = SMPL_24,
    poses: np.ndarray | None = None,
) -> Findings:
    """Check a recorded dance.

    Args:
        joints: (T >= 1, J, 3) finite numbers, meant as metres, y up.
        fps: frame rate in Hz.
        skeleton: names and tree of the joints.
        poses: (T, J * 3) axis-angle rotations relative to the parents, if the source has them: they show
            twists that positions do not.
    """
    joints = np.asarray(joints, np.float64)
    unit = wrong_unit(joints)
    shares = up_shares(joints, skeleton)
    speed = speeds(joints, fps)
    others = missing_joints(joints, skeleton) + exchanged_sides(joints, skeleton)
    return Findings(
        len(joints) / fps,
        float(speed.mean()) if len(speed) else 0.0,
        shares.get("y"),
        unit,
        wrong_axis(shares),
        others,
        [] if unit else implausible_motion(joints, fps, skeleton, poses),
        [] if unit else t_poses(joints, fps, skeleton),
    )


def wrong_unit(joints: np.ndarray) -> str:
    """Why a body (T, J, 3) is not in metres, with the numbers and the cure; '' if it may be."""
    size = float(np.median(np.ptp(joints, axis=1).max(axis=1)))
    if not BODY_METRES[0] <= size <= BODY_METRES[1]:
        named = [name for name, m in _UNITS.items() if _USUAL[0] <= size * m <= _USUAL[1]]
        cure = f" ({named[0]}: multiply by {_UNITS[named[0]]:g})" if named else ""
        return f"the body measures {size:.3g}; in metres it would be about 1.5{cure}"
    return ""


def wrong_travel(joints: np.ndarray, fps: float) -> str:
    """Why the root of joints (T, J, 3) cannot travel in metres; '' if it may, or in less than 16 frames."""
    travel = speeds(joints[:, :1], fps)
    if len(travel) < _TRAVEL_FRAMES or (usual := float(np.median(travel))) <= ROOT_SPEED:
        return ""
    size = float(np.median(np.ptp(joints, axis=1).max(axis=1)))
    return (
        f"the root travels at {usual:.0f} m/s in the median frame while the body measures {size:.2f} m: its "
        "translations are in another unit (those of AIST++ are divided by smpl_scaling), or the rate is wrong"
    )


def up_shares(joints: np.ndarray, skeleton: Skeleton = SMPL_24) -> dict[UpAxis, float]:
    """Share of frames of joints (T, J, 3) in which the head is above the toes, by the axis that points up.

    Above: within 60 degrees of the axis. Empty if the skeleton has no joint `head`.
    """
    if "head" not in skeleton.joints:
        return {}
    toes = joints[:, [foot[-1] for foot in skeleton.feet]].mean(1)
    body = joints[:, skeleton.index("head")] - toes
    along = body / np.maximum(np.linalg.norm(body, axis=-1, keepdims=True), 1e-12)
    signs = {axis: -1.0 if axis.startswith("-") else 1.0 for axis in UP_AXES}
    return {axis: float((signs[axis] * along[:, "xyz".index(axis[-1])] > _WITHIN).mean()) for axis in UP_AXES}


def wrong_axis(shares: dict[UpAxis, float]) -> str:
    """Why y does not point up, by the shares of `up_shares`; '' if it may."""
    if not shares or shares["y"] > _FEW:
        return ""
    best = max(UP_AXES, key=lambda axis: shares[axis])
    if shares[best] < _MANY:
        return ""
    option = f"--up {best}" if len(best) == 1 else f"--up={best}"
    return (
        f"the head is above the toes along {best}, not y ({100 * shares[best]:.0f} % of frames against "
        f"{100 * shares['y']:.0f} %); {option} says so"
    )


def missing_joints(joints: np.ndarray, skeleton: Skeleton = SMPL_24) -> list[str]:
    """Remarks on joints of (T, J, 3) that lie on their parent, at the origin, or still in a moving body."""
    remarks = []
    moves = np.ptp(joints, axis=0).max(-1)
    for parent, child in skeleton.bones:
        name, above = skeleton.joints[child], skeleton.joints[parent]
        at_origin = int((joints[:, child] == 0).all(-1).sum())
        if (np.abs(joints[:, child] - joints[:, parent]) < 1e-6).all():
            remarks.append(f"{name} is missing: it lies on {above} in every frame")
        elif at_origin:
            remarks.append(f"{name} is missing: it is at the origin in {at_origin} of {len(joints)} frames")
        elif moves[child] < 1e-6 < 0.05 < moves[0]:
            remarks.append(f"{name} is missing: it never moves, but the {skeleton.joints[0]} does")
    return remarks


def exchanged_sides(joints: np.ndarray, skeleton: Skeleton = SMPL_24) -> list[str]:
    """A remark if the toes of joints (T, J, 3) point backwards wherever the body is upright."""
    needed = ("left_hip", "right_hip", "head")
    if any(name not in skeleton.joints for name in needed):
        return []
    left, right, head = (joints[:, skeleton.index(name)] for name in needed)
    heels, toes = (joints[:, [foot[end] for foot in skeleton.feet]].mean(1) for end in (0, -1))
    body = head - toes
    upright = body[:, 1] > _WITHIN * np.linalg.norm(body, axis=-1)
    if upright.mean() < _MANY:
        return []
    forward = np.cross(left - right, [0.0, 1.0, 0.0])
    backwards = float((((toes - heels) * forward).sum(-1) < 0)[upright].mean())
    if backwards < _MANY:
        return []
    return [
        f"left and right are exchanged (the toes point backwards in {100 * backwards:.0f} % of frames): the "
        "joints are in another order, or the axes are left-handed"
    ]


def implausible_motion(
    joints: np.ndarray,
    fps: float = SMPL_24.fps,
    skeleton: Skeleton = SMPL_24,
    poses: np.ndarray | None = None,
) -> list[Stretch]:
    """Stretches of a dance that no body makes: too fast, turning too fast, or bones of another length.

    If the root travels faster than any dancer most of the time, the only stretch is the whole dance.

    Args:
        joints: (T >= 1, J, 3) metres, y up.
        fps: frame rate in Hz.
        skeleton: names and tree of the joints.
        poses: (T, J * 3) axis-angle rotations relative to the parents; None if they are not known.
    """
    if travel := wrong_travel(joints, fps):
        return [Stretch(0, len(joints) - 1, travel)]
    parents, kids = (list(ends) for ends in zip(*skeleton.bones, strict=True))
    bones = joints[:, kids] - joints[:, parents]
    length = np.linalg.norm(bones, axis=-1)
    usual = np.median(length, axis=0)
    change = np.where(usual > _SHORT_BONE, np.abs(length - usual), 0.0)
    turn = _bone_turns(bones, length, usual)
    turning = np.array(parents)
    if poses is not None:
        own = _rotation_turns(poses, skeleton)
        turn, turning = np.concatenate([turn, own], 1), np.concatenate([turning, np.arange(own.shape[1])])
    speed = speeds(joints, fps)
    fast = speed > SPEED
    fast[:, 0] |= speed[:, 0] > ROOT_SPEED
    turned, grown = turn * fps > TURN, change > np.maximum(BONE_CHANGE * usual, 0.05)
    step = fast.any(1) | turned.any(1)
    flagged = grown.any(1)
    flagged[:-1] |= step
    flagged[1:] |= step
    found = []
    for start, end in _runs(flagged, max(1, round(_GAP_SECONDS * fps))):
        what, steps, frames = [], slice(start, end), slice(start, end + 1)
        if turned[steps].any():
            worst, place = _largest(np.where(turned[steps], turn[steps], 0))
            what.append(f"{skeleton.joints[turning[place]]} turns by {worst:.0f} degrees in one frame")
        if fast[steps].any():
            worst, place = _largest(np.where(fast[steps], speed[steps], 0))
            what.append(f"{skeleton.joints[place]} moves at {worst:.0f} m/s")
        if grown[frames].any():
            worst, place = _largest(np.where(grown[frames], change[frames], 0))
            bone = f"{skeleton.joints[parents[place]]}-{skeleton.joints[kids[place]]}"
            what.append(f"bone {bone} of {1000 * usual[place]:.0f} mm changes by {1000 * worst:.0f} mm")
        found.append(Stretch(start, end, ", ".join(what)))
    return found


def t_poses(joints: np.ndarray, fps: float = SMPL_24.fps, skeleton: Skeleton = SMPL_24) -> list[Stretch]:
    """Stretches of half a second or more in which joints (T, J, 3) stand upright with straight arms out."""
    arms = [(f"{side}_shoulder", f"{side}_elbow", f"{side}_wrist") for side in ("left", "right")]
    legs = [(f"{side}_hip", f"{side}_knee", f"{side}_ankle") for side in ("left", "right")]
    if any(name not in skeleton.joints for limb in (*arms, *legs) for name in limb):
        return []

    def directions(limb: tuple[str, ...]) -> np.ndarray:
        bones = np.diff(joints[:, [skeleton.index(name) for name in limb]], axis=1)
        return bones / np.maximum(np.linalg.norm(bones, axis=-1, keepdims=True), 1e-12)

    across = directions(("right_shoulder", "left_shoulder"))
    level = np.abs(across[..., 1:2]) < np.sqrt(1 - _ALIGNED**2)
    stands = level.all((1, 2))
    for limb, side in zip(arms, (1, -1), strict=True):
        stands &= (side * (directions(limb) * across).sum(-1) > _ALIGNED).all(-1)
    for limb in legs:
        stands &= (directions(limb)[..., 1] < -_ALIGNED).all(-1)
    least = max(2, round(T_POSE_SECONDS * fps))
    runs = [(start, end) for start, end in _runs(stands, 0) if end - start + 1 >= least]
    return [Stretch(start, end, f"{(end - start + 1) / fps:.1f} s") for start, end in runs]


def lost_frames(joints: np.ndarray, fps: float = SMPL_24.fps, skeleton: Skeleton = SMPL_24) -> list[Stretch]:
    """Runs of at most 0.1 s of frames that do not belong to the motion around them.

    A run is lost if its joints are not finite, or if the motion that enters and the motion that leaves it
    are implausible while that over the gap is plausible.

    Args:
        joints: (T, J, 3) metres; may hold NaN and infinity.
        fps: frame rate in Hz.
        skeleton: names and tree of the joints.
    """
    most = max(1, round(LOST_SECONDS * fps))
    finite = np.isfinite(joints).all((1, 2))
    lost = [Stretch(a, b, "not finite") for a, b in _runs(~finite, 0) if b - a < most]
    whole = bridged(joints, lost)
    if not np.isfinite(whole).all() or wrong_unit(whole) or wrong_travel(whole, fps):
        return lost
    for stretch in implausible_motion(whole, fps, skeleton):
        for run in _gaps(whole, stretch, fps, skeleton, most):
            lost.append(Stretch(*run, stretch.what))
    return sorted(lost)


def bridged(joints: np.ndarray, lost: list[Stretch]) -> np.ndarray:
    """Joints (T, J, 3) with lost frames replaced by the line between their neighbours, or by the nearest."""
    held = np.array(joints)
    for start, end, _ in lost:
        before, after = start - 1, end + 1
        if before < 0 and after >= len(held):
            continue
        if before < 0 or after >= len(held):
            held[start : end + 1] = held[after if before < 0 else before]
            continue
        share = ((np.arange(start, after) - before) / (after - before))[:, None, None]
        held[start:after] = (1 - share) * held[before] + share * held[after]
    return held


def speeds(joints: np.ndarray, fps: float) -> np.ndarray:
    """Speeds (T-1, J) of joints (T, J, 3) from each frame to the next, m/s."""
    return np.linalg.norm(np.diff(joints, axis=0), axis=-1) * fps


def listed(stretches: list[Stretch]) -> str:
    """The first three stretches, and the number of the others."""
    more = f" and {len(stretches) - _SHOWN} more" if len(stretches) > _SHOWN else ""
    return "; ".join(map(str, stretches[:_SHOWN])) + more


def _gaps(
    joints: np.ndarray, stretch: Stretch, fps: float, skeleton: Skeleton, most: int
) -> list[tuple[int, int]]:
    """First and last frames of the runs within a stretch whose removal makes the motion plausible."""
    found, start, last = [], stretch.start, len(joints) - 1
    while start <= stretch.end:
        enters = start == 0 or implausible_motion(joints[start - 1 : start + 1], fps, skeleton)
        for end in range(start, min(start + most, stretch.end + 1)) if enters else ():
            leaves = end == last or implausible_motion(joints[end : end + 2], fps, skeleton)
            if not leaves or (start == 0 and end == last):
                continue
            first = max(start - 2, 0)
            part = bridged(joints[first : end + 3], [Stretch(start - first, end - first, "")])
            if not implausible_motion(part, fps, skeleton):
                found.append((start, end))
                start = end
                break
        start += 1
    return found


def _bone_turns(bones: np.ndarray, length: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """Degrees (T-1, B) between a bone's directions in neighbouring frames; 0 for bones without any."""
    along = bones / np.maximum(length, 1e-12)[..., None]
    cosine = (along[1:] * along[:-1]).sum(-1)
    there = (length[1:] > _SHORT_BONE) & (length[:-1] > _SHORT_BONE) & (usual > _SHORT_BONE)
    return np.where(there, np.degrees(np.arccos(np.clip(cosine, -1, 1))), 0.0)


def _rotation_turns(poses: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Degrees (T-1, J) between the rotations of a joint in neighbouring frames; 0 where no joint follows."""
    rotations = Rotation.from_rotvec(np.asarray(poses, np.float64).reshape(-1, 3)).as_quat()
    rotations = rotations.reshape(len(poses), -1, 4)
    shared = np.abs((rotations[1:] * rotations[:-1]).sum(-1))
    turns = np.degrees(2 * np.arccos(np.clip(shared, 0, 1)))
    moving = sorted({parent for parent, _ in skeleton.bones})
    return np.where(np.isin(np.arange(turns.shape[1]), moving), turns, 0.0)


def _runs(flags: np.ndarray, gap: int) -> list[tuple[int, int]]:
    """First and last indices of the runs of true flags (T,); runs with fewer than `gap` between are one."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(np.int8), [0]))))
    runs: list[tuple[int, int]] = []
    for start, end in zip(edges[::2].tolist(), (edges[1::2] - 1).tolist(), strict=True):
        if runs and start - runs[-1][1] - 1 < gap:
            runs[-1] = runs[-1][0], end
        else:
            runs.append((start, end))
    return runs


def _largest(values: np.ndarray) -> tuple[float, int]:
    """The largest of values (N, M), and its column."""
    column = int(values.max(0).argmax())
    return float(values[:, column].max()), column
