"""What lies on the floor: the grid, which stays in the world, the shadow, the trail, and the beat's ring."""

import numpy as np

from utils.render.camera import Camera
from utils.render.canvas import Canvas, Colour
from utils.render.figure import LOWER, capsules, thickness
from utils.skeleton import Skeleton

_CELL = 1.0  # metres between the lines of the grid
_REACH = 4.5  # metres from the camera's target to where they have faded out
_LEVELS = 8  # shades of the grid from here to there
_TRAIL_SECONDS = 2.5
_TRAIL_PIECES = 10
_SHADOW = ((1.0, 0.15), (0.6, 0.18), (0.25, 0.22))  # spread and strength of its layers
_LINE: Colour = (0.55, 0.68, 0.95)


def _grid_pieces() -> np.ndarray:
    """(N, 2, 2) ends (x, z) of the pieces, half a cell long, of the lines around the origin, metres."""
    outer = np.ceil(_REACH) + _CELL
    lines, starts = np.arange(-outer, outer + _CELL, _CELL), np.arange(-outer, outer, _CELL / 2)
    line, start = (axis.ravel() for axis in np.meshgrid(lines, starts, indexing="ij"))
    along_z = np.stack([np.stack([line, start], 1), np.stack([line, start + _CELL / 2], 1)], 1)
    return np.concatenate([along_z, along_z[..., ::-1]])


_PIECES = _grid_pieces()


def on_floor(plane: np.ndarray, floor: float) -> np.ndarray:
    """(..., 3) points of the floor from (..., 2) x and z."""
    return np.stack([plane[..., 0], np.full(plane.shape[:-1], floor), plane[..., 1]], -1)


def draw_grid(canvas: Canvas, camera: Camera, frame: int, floor: float) -> None:
    """Lines on the whole metres of the world, fading with the distance from the dancer."""
    centre = camera.targets[frame][::2]
    pieces = _PIECES + np.floor(centre / _CELL) * _CELL
    far = np.linalg.norm(pieces.mean(1) - centre, axis=-1) / _REACH
    levels = np.ceil(_LEVELS * np.clip(1 - far, 0, 1)).astype(int)
    seen, _ = camera.project(on_floor(pieces, floor), frame)
    outside = (seen < 0).all(1) | (seen > [camera.width, camera.height]).all(1)
    levels[outside.any(1)] = 0
    for level in range(1, _LEVELS + 1):
        chosen = seen[levels == level]
        if len(chosen):
            canvas.lines(chosen, (*_LINE, 0.42 * level / _LEVELS), max(1.0, camera.height / 480))


def draw_trail(
    canvas: Canvas, camera: Camera, frame: int, roots: np.ndarray, floor: float, fps: float
) -> None:
    """Where the root was above in the last seconds, fading with its age.

    Args:
        canvas: to draw on.
        camera: what it is seen by.
        frame: now.
        roots: (T, 2) x and z of the root.
        floor: height of the floor.
        fps: frames per second.
    """
    length = round(_TRAIL_SECONDS * fps)
    times = np.linspace(max(0, frame - length), frame, 4 * _TRAIL_PIECES + 1)
    if frame < 2:
        return
    past = np.stack([np.interp(times, np.arange(len(roots)), roots[:, axis]) for axis in (0, 1)], 1)
    seen, scale = camera.project(on_floor(past, floor), frame)
    for piece in range(_TRAIL_PIECES):
        age = 1 - (frame - times[4 * piece]) / (length + 1)
        part = seen[4 * piece : 4 * piece + 5]
        canvas.lines(part[None], (*LOWER, 0.55 * max(age, 0.0) ** 1.5), 0.018 * float(scale.mean()))


def shadows(
    joints: np.ndarray, skeleton: Skeleton, camera: Camera, frames: slice, floor: float
) -> np.ndarray:
    """Outlines of the shadow under the dancer: sharp where joints touch the floor, soft where they are high.

    Args:
        joints: (T, J, 3) metres, of `frames` only.
        skeleton: whose joints they are.
        camera: what it is seen by.
        frames: which frames of the camera these are.
        floor: height of the floor.

    Returns:
        (T, 3, N, corners, 2) pixels: the widest of three layers first.
    """
    bones = np.array(skeleton.bones)
    plane, high = joints[..., ::2], np.maximum(joints[..., 1] - floor, 0.0)
    layers = []
    for spread, _ in _SHADOW:
        radii = 0.8 * thickness(skeleton) + spread * (0.03 + 0.09 * high)
        layers.append(capsules(plane[:, bones], radii[:, bones])[..., ::2, :])
    outlines = on_floor(np.stack(layers, 1), floor)
    seen, _ = camera.project(outlines.reshape(len(joints), -1, 3), frames)
    return seen.reshape(*outlines.shape[:-1], 2)


def draw_shadow(canvas: Canvas, layers: np.ndarray) -> None:
    """Draw one frame, (3, N, corners, 2), of the shadow."""
    for layer, (_, alpha) in zip(layers, _SHADOW, strict=True):
        canvas.polygons(layer, (0.0, 0.0, 0.0, alpha))


def draw_beat(
    canvas: Canvas, camera: Camera, frame: int, centre: np.ndarray, floor: float, strength: float
) -> None:
    """A ring that spreads over the floor after a beat; strength falls from 1 at the beat to 0."""
    if strength < 0.02:
        return
    turn = np.linspace(0, 2 * np.pi, 73)
    circle = np.stack([np.cos(turn), np.sin(turn)], 1)
    radius = 0.42 + 0.55 * (1 - strength)
    seen, scale = camera.project(on_floor(centre + radius * circle, floor), frame)
    wide = float(scale.mean())
    canvas.lines(seen[None], (1.0, 0.86, 0.5, 0.85 * strength), wide * (0.012 + 0.03 * strength))
