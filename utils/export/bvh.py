"""BVH: a body and its dance as text, which Blender, MotionBuilder and game engines read.

The root carries its place and rotation, every other joint its rotation, in degrees, in the order Z X Y
(each about the axes that the ones before have turned). The root's offset is zero, so its place is in the
world. y up.
Source: the Biovision hierarchy format, as in Meredith and Maddock (2001), "Motion Capture File Formats
Explained".
"""

from pathlib import Path
from typing import Literal

import numpy as np

from utils.export.chain import children
from utils.export.fit import Fit, matrices
from utils.files import write_beside
from utils.skeleton import SMPL_24, Skeleton

Unit = Literal["cm", "m"]
PER_METRE = {"cm": 100.0, "m": 1.0}
_ROTATIONS = "Zrotation Xrotation Yrotation"


def write_bvh(
    path: Path, fit: Fit, fps: float = SMPL_24.fps, *, unit: Unit = "cm", skeleton: Skeleton = SMPL_24
) -> None:
    """Write a dance as .bvh.

    Args:
        path: of the file.
        fit: the dance.
        fps: frames per second.
        unit: of lengths. Blender reads metres as they are, and centimetres with scale 0.01.
        skeleton: names of the joints.

    Raises:
        ValueError: if the unit or the frame rate is not usable.
    """
    if unit not in PER_METRE:
        raise ValueError(f"the unit of a .bvh must be one of {', '.join(PER_METRE)}, got {unit!r}")
    if not fps > 0:
        raise ValueError(f"the frame rate must be positive, got {fps}")
    scale, below = PER_METRE[unit], children(skeleton)
    lines, order = ["HIERARCHY"], []
    _joint(lines, order, 0, 0, fit.offsets * scale, below, skeleton)
    angles = euler_zxy(matrices(fit.rotations))[:, order]
    values = np.concatenate([fit.root * scale, angles.reshape(len(angles), -1)], axis=1)
    lines += ["MOTION", f"Frames: {len(values)}", f"Frame Time: {1 / fps:.8f}"]
    row = " ".join(["%.5f"] * values.shape[1])
    lines += [row % tuple(frame) for frame in values.tolist()]
    write_beside(Path(path), ("\n".join(lines) + "\n").encode("ascii"))


def euler_zxy(turns: np.ndarray) -> np.ndarray:
    """Angles (T, J, 3) in degrees about z, x and y of rotations Rz Rx Ry (T, J, 3, 3), without jumps in time.

    Of the two triples that give a rotation, and all the whole turns, the ones nearest to the frame before.
    """
    z = np.arctan2(-turns[..., 0, 1], turns[..., 1, 1])
    x = np.arcsin(np.clip(turns[..., 2, 1], -1.0, 1.0))
    y = np.arctan2(-turns[..., 2, 0], turns[..., 2, 2])
    locked = np.abs(turns[..., 2, 1]) > 1 - 1e-12  # z and y turn about the same axis: let z do it all
    z = np.where(locked, np.arctan2(turns[..., 1, 0], turns[..., 0, 0]), z)
    angles = np.stack([z, x, np.where(locked, 0.0, y)], axis=-1)
    other = np.stack([z + np.pi, np.pi - x, angles[..., 2] + np.pi], axis=-1)
    turn = 2 * np.pi
    for t in range(1, len(angles)):
        before = angles[t - 1]
        one, two = (a[t] + turn * np.round((before - a[t]) / turn) for a in (angles, other))
        nearer = np.abs(one - before).sum(-1) <= np.abs(two - before).sum(-1)
        angles[t] = np.where(nearer[..., None], one, two)
    return np.degrees(angles)


def _joint(
    lines: list[str], order: list[int], joint: int, depth: int, offsets: np.ndarray,
    below: list[list[int]], skeleton: Skeleton,
) -> None:  # fmt: skip
    """Append a joint and all below it; `order` collects the joints as the channels have them."""
    order.append(joint)
    pad = "\t" * depth
    lines += [f"{pad}{'JOINT' if depth else 'ROOT'} {skeleton.joints[joint]}", f"{pad}{{"]
    lines.append(f"{pad}\tOFFSET {_numbers(offsets[joint])}")
    place = "" if depth else "Xposition Yposition Zposition "
    lines.append(f"{pad}\tCHANNELS {3 if depth else 6} {place}{_ROTATIONS}")
    for kid in below[joint]:
        _joint(lines, order, kid, depth + 1, offsets, below, skeleton)
    if not below[joint]:
        size = np.linalg.norm(offsets, axis=-1).sum() / max(len(offsets) - 1, 1)
        along = offsets[joint] / max(float(np.linalg.norm(offsets[joint])), 1e-9)
        lines += [
            f"{pad}\tEnd Site",
            f"{pad}\t{{",
            f"{pad}\t\tOFFSET {_numbers(along * size / 2)}",
            f"{pad}\t}}",
        ]
    lines.append(f"{pad}}}")


def _numbers(vector: np.ndarray) -> str:
    return " ".join(f"{value:.6f}" for value in vector)
