"""The data of a dance on a page: joints packed in 16 bits, the floor, the camera's path, the speed."""

import base64
from typing import Any, NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d

from utils.floor import ground_height
from utils.limbs import limb_radii
from utils.metrics.beats import SMOOTHING_SECONDS, mean_speed
from utils.render.camera import following
from utils.render.figure import Palette, limb_colours
from utils.skeleton import Skeleton

_WALK_HZ = 10.0  # of the camera's walk, which is smooth
_SPEED_HZ = 30.0  # of the curve of the joints' speed


class Packed(NamedTuple):
    """Joints as a page holds them.

    Attributes:
        root: (T, 3) float32 metres, base64, little endian.
        pose: (T, J - 1, 3) int16, the joints after the root and relative to it, base64, little endian.
        scale: metres per unit of the pose.
    """

    root: str
    pose: str
    scale: float


def pack(joints: np.ndarray) -> Packed:
    """Pack joints (T, J, 3) in metres; the error is at most scale / 2, below 0.05 mm for a body."""
    joints = np.asarray(joints, np.float64)
    root = joints[:, 0].astype("<f4")
    pose = joints[:, 1:] - root[:, None].astype(np.float64)
    scale = max(float(np.abs(pose).max()), 1e-6) / 32767
    return Packed(_text(root), _text(np.rint(pose / scale).astype("<i2")), scale)


def _text(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()


def stage(joints: np.ndarray, skeleton: Skeleton, fps: float) -> dict[str, Any]:
    """The floor, the height of the dancer, and the paths of a camera that follows and one that stands.

    Returns:
        `floor` and `tall` in metres; `walk` (N, 2) x and z at `walkHz`; `still` x and z; `wide` and
        `wideStill`, metres that the dance takes across each camera's target.
    """
    floor = ground_height(joints, fps, skeleton)
    walking, standing = (
        following(joints, floor, fps, 1, 1, follow=follow).targets[:, ::2] for follow in (True, False)
    )
    wide, wide_still = (
        2 * float(np.percentile(np.abs(joints[..., ::2] - targets[:, None]).max((1, 2)), 99))
        for targets in (walking, standing)
    )
    seconds = np.arange(0, len(joints) / fps + 1 / _WALK_HZ, 1 / _WALK_HZ)
    walk = np.stack([np.interp(seconds * fps, np.arange(len(joints)), axis) for axis in walking.T], 1)
    return {
        "floor": round(floor, 4),
        "tall": round(float(np.percentile(joints[..., 1].max(1), 99)) - floor, 3),
        "walkHz": _WALK_HZ,
        "walk": np.round(walk, 3).ravel().tolist(),
        "still": np.round(standing[0], 3).tolist(),
        "wide": round(wide, 3),
        "wideStill": round(wide_still, 3),
    }


def speed_curve(joints: np.ndarray, fps: float) -> dict[str, Any]:
    """Mean speed of the joints, smoothed as for the motion beats: `speed` in cm/s at `speedHz`."""
    if len(joints) < 2:
        return {"speedHz": _SPEED_HZ, "speed": [0]}
    speed = gaussian_filter1d(mean_speed(joints, fps), SMOOTHING_SECONDS * fps) * fps
    at = np.arange(0, len(joints) / fps, 1 / _SPEED_HZ)
    return {
        "speedHz": _SPEED_HZ,
        "speed": np.rint(100 * np.interp(at * fps, np.arange(len(speed)) + 0.5, speed)).astype(int).tolist(),
    }


def skeleton_facts(skeleton: Skeleton, palette: Palette) -> dict[str, Any]:
    """Bones, their radii in metres and colours as in the videos, and joints that leave trails."""
    head = skeleton.index("head")
    return {
        "bones": [list(bone) for bone in skeleton.bones],
        "radii": limb_radii(skeleton).tolist(),
        "colours": [hex_colour(colour) for colour in limb_colours(skeleton, palette)],
        "head": head,
        "neck": skeleton.parents[head],
        "feet": [foot[-1] for foot in skeleton.feet],
        "hands": [skeleton.index("left_hand"), skeleton.index("right_hand")],
    }


def hex_colour(colour: tuple[float, ...]) -> str:
    """A colour in 0..1 as #rrggbb."""
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in colour[:3])
