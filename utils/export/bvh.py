"""BVH: a body and its dance as text, which Blender, MotionBuilder and game engines read.

The hierarchy begins with a node `root` on the ground, which carries the pelvis' x and z; the pelvis follows
it with its height. Both have six channels, every other joint its rotation, in degrees, in an order of its own
that stays away from its singularity (`euler.py`). Both offsets are zero: whether a position replaces the
offset of a joint (Blender) or is added to it (three.js), the pelvis is in the right place. y up.
Source: the Biovision hierarchy format, as in Meredith and Maddock (2001), "Motion Capture File Formats
Explained".
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from utils.export.chain import children, ground_track
from utils.export.euler import euler_angles
from utils.export.fit import Fit
from utils.export.names import ROOT, Names, joint_names
from utils.files import write_beside
from utils.skeleton import SMPL_24, Skeleton

Unit = Literal["cm", "m"]
PER_METRE = {"cm": 100.0, "m": 1.0}
_POSITION = "Xposition Yposition Zposition"


def write_bvh(
    path: Path,
    fit: Fit,
    fps: float = SMPL_24.fps,
    *,
    unit: Unit = "cm",
    every: int = 1,
    names: Names = "smpl",
    in_place: bool = False,
    skeleton: Skeleton = SMPL_24,
) -> None:
    """Write a dance as .bvh.

    Args:
        path: of the file.
        fit: the dance.
        fps: frames per second of the dance.
        unit: of lengths. Blender reads metres as they are, and centimetres with scale 0.01.
        every: keep each n-th frame, n / fps seconds apart; frames after the last of them are lost.
        names: whose names the joints get.
        in_place: whether the dancer stays over the origin, without the path on the ground.
        skeleton: names of the joints.

    Raises:
        ValueError: if the unit, the frame rate, `every` or the names are not usable.
    """
    if unit not in PER_METRE:
        raise ValueError(f"the unit of a .bvh must be one of {', '.join(PER_METRE)}, got {unit!r}")
    if not fps > 0 or every < 1:
        raise ValueError(f"the frame rate must be positive and every at least 1, got {fps} and {every}")
    scale, below, named = PER_METRE[unit], children(skeleton), joint_names(names, skeleton)
    angles = euler_angles(fit.rotations, every)
    lines = ["HIERARCHY", f"ROOT {ROOT}", "{", "\tOFFSET 0.000000 0.000000 0.000000"]
    order: list[int] = []
    lines.append(f"\tCHANNELS 6 {_POSITION} {_channels('ZXY')}")
    _joint(lines, order, 0, 1, fit.offsets * scale, below, named, angles.orders)
    lines.append("}")
    ground, pelvis = ground_track(fit.root, in_place)
    still = np.zeros_like(ground)
    turned = angles.degrees[:, np.array(order)].reshape(len(ground), -1)
    values = np.concatenate([ground * scale, still, pelvis * scale, turned], axis=1)[::every]
    lines += ["MOTION", f"Frames: {len(values)}", f"Frame Time: {every / fps:.12f}"]
    row = " ".join(["%.5f"] * values.shape[1])
    lines += [row % tuple(frame) for frame in values.tolist()]
    write_beside(Path(path), ("\n".join(lines) + "\n").encode("ascii"))


def _channels(order: str) -> str:
    return " ".join(f"{axis}rotation" for axis in order)


def _joint(
    lines: list[str], order: list[int], joint: int, depth: int, offsets: np.ndarray,
    below: list[list[int]], named: Sequence[str], orders: Sequence[str],
) -> None:  # fmt: skip
    """Append a joint and all below it; `order` collects the joints as the channels have them."""
    order.append(joint)
    pad = "\t" * depth
    lines += [f"{pad}JOINT {named[joint]}", f"{pad}{{"]
    lines.append(f"{pad}\tOFFSET {_numbers(offsets[joint])}")
    place = f"3 {_channels(orders[joint])}" if joint else f"6 {_POSITION} {_channels(orders[joint])}"
    lines.append(f"{pad}\tCHANNELS {place}")
    for kid in below[joint]:
        _joint(lines, order, kid, depth + 1, offsets, below, named, orders)
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
