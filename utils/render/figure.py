"""The figure: tapered limbs in the colours of the two halves, lighter on the left side, nearest last."""

from typing import NamedTuple

import numpy as np

from utils.limbs import HEAD_BEYOND_M, HEAD_RADIUS_M, limb_radii
from utils.render.camera import Camera
from utils.render.canvas import Canvas, Colour, mixed
from utils.skeleton import Skeleton

UPPER: Colour = (1.0, 0.52, 0.28)
LOWER: Colour = (0.16, 0.66, 0.92)
GREY: Colour = (0.42, 0.45, 0.50)
_WHITE, _BLACK = (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)
_ARC = 14  # corners of the rounding at each end of a limb


class Palette(NamedTuple):
    """Colours of a figure: of each half, and of the outline that parts limbs which overlap."""

    upper: Colour = UPPER
    lower: Colour = LOWER
    outline: Colour = (0.05, 0.06, 0.09)


class Limbs(NamedTuple):
    """Limbs of T frames as the camera sees them, the head last.

    Attributes:
        shapes: (T, N, corners, 2) pixels.
        lights: (T, N, corners, 2) pixels: the lighter streak on each.
        scales: (T, N) pixels per metre: the larger, the nearer.
    """

    shapes: np.ndarray
    lights: np.ndarray
    scales: np.ndarray


def capsules(ends: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Outlines of limbs: the hulls of two discs each.

    Args:
        ends: (..., 2, 2) the two centres.
        radii: (..., 2) the two radii.

    Returns:
        (..., 28, 2) corners, all in the same turning direction.
    """
    along = ends[..., 1, :] - ends[..., 0, :]
    length = np.maximum(np.linalg.norm(along, axis=-1), 1e-9)
    angle = np.arctan2(along[..., 1], along[..., 0])
    opening = np.arccos(np.clip((radii[..., 0] - radii[..., 1]) / length, -1, 1))
    ramp = np.linspace(-1, 1, _ARC)
    far = angle[..., None] + opening[..., None] * ramp
    near = angle[..., None] + np.pi + (np.pi - opening[..., None]) * ramp
    arcs = [
        ends[..., end, None, :] + radii[..., end, None, None] * np.stack([np.cos(turn), np.sin(turn)], -1)
        for end, turn in ((1, far), (0, near))
    ]
    return np.concatenate(arcs, -2)


def head_centres(joints: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """(T, 3) middle of the head: beyond the head joint, as seen from the neck."""
    head = skeleton.index("head")
    neck = skeleton.parents[head]
    along = joints[:, head] - joints[:, neck]
    return joints[:, head] + HEAD_BEYOND_M * along / np.maximum(
        np.linalg.norm(along, axis=-1, keepdims=True), 1e-6
    )


def limbs(joints: np.ndarray, skeleton: Skeleton, camera: Camera, frames: slice) -> Limbs:
    """Limbs of (T, J, 3) joints in the frames of the camera that `frames` selects."""
    bones = np.array(skeleton.bones)
    points = np.concatenate([joints, head_centres(joints, skeleton)[:, None]], 1)
    seen, scales = camera.project(points, frames)
    thick = np.append(limb_radii(skeleton), HEAD_RADIUS_M)
    ends = np.concatenate([bones, [[len(thick) - 1] * 2]])
    centres, radii = seen[:, ends], (thick * scales)[:, ends]
    shift = -0.28 * radii[..., None] * np.array([0.6, 0.8])
    return Limbs(capsules(centres, radii), capsules(centres + shift, 0.42 * radii), scales[:, ends].mean(-1))


def joint_colours(skeleton: Skeleton, palette: Palette) -> list[Colour]:
    """Colour of each joint by its half and side."""
    colours = []
    for joint, name in enumerate(skeleton.joints):
        base = palette.lower if joint in skeleton.lower else palette.upper
        if name.startswith("left_"):
            base = mixed(base, _WHITE, 0.38)
        elif name.startswith("right_"):
            base = mixed(base, _BLACK, 0.16)
        colours.append(base)
    return colours


def limb_colours(skeleton: Skeleton, palette: Palette) -> list[Colour]:
    """Colour of each bone, that of its child joint; then that of the head."""
    colours = joint_colours(skeleton, palette)
    return [*(colours[child] for _, child in skeleton.bones), mixed(palette.upper, _WHITE, 0.15)]


def draw_figure(canvas: Canvas, seen: Limbs, frame: int, colours: list[Colour], outline: Colour) -> None:
    """Draw one frame of the limbs, the farthest first."""
    edge = max(0.8, 0.010 * float(seen.scales[frame].mean()))
    order = np.argsort(seen.scales[frame], kind="stable")
    layers = np.stack([seen.shapes[frame, order], seen.lights[frame, order]], 1)  # (N, 2, corners, 2)
    base = np.array([(*colour, 1.0) for colour in colours])[order]
    light = base + 0.22 * (1.0 - base)
    canvas.shapes(
        layers.reshape(-1, *layers.shape[2:]),
        np.stack([base, light], 1).reshape(-1, 4),
        np.array([(*outline, 1.0), (0.0, 0.0, 0.0, 0.0)]),  # taken in turn: the light has no outline
        np.array([edge, 0.0]),
    )
