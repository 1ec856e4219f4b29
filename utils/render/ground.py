"""What lies on the floor: the grid, which stays in the world, the dancer's shadow and trail, and the beat's ring."""

import numpy as np

from utils.render.camera import Camera
from utils.render.canvas import Canvas, Colour
from utils.render.figure import LOWER, capsules, thickness
from utils.skeleton import Skeleton

_CELL = 0.5  # metres between the lines of the grid
_REACH = 5.0  # metres from the camera's target to where the grid has faded out
_LEVELS = 10  # shades of the grid from there to here
_TRAIL_SECONDS = 2.5
_TRAIL_PIECES = 10
_LINE: Colour = (0.55, 0.68, 0.95)


def _grid_pieces() -> np.ndarray:
    """(N, 2, 2) ends (x, z) of the pieces of the grid's lines around the origin, metres."""
    ticks = np.arange(-_REACH, _REACH + _CELL, _CELL)
    line, start = (axis.ravel() for axis in np.meshgrid(ticks, ticks[:-1], indexing="ij"))
    along_z = np.stack([np.stack([line, start], 1), np.stack([line, start + _CELL], 1)], 1)
    return np.concatenate([along_z, along_z[..., ::-1]])


_PIECES = _grid_pieces()


def on_floor(plane: np.ndarray, floor: float) -> np.ndarray:
    """(..., 3) points of the floor from (..., 2) x and z."""
    return np.stack([plane[..., 0], np.full(plane.shape[:-1], floor), plane[..., 1]], -1)


def draw_grid(canvas: Canvas, camera: Camera, frame: int, floor: float) -> None:
    """Lines every half metre of the world, fading with the distance from the dancer."""
    centre = camera.targets[frame][::2]
    pieces = _PIECES + np.floor(centre / _CELL) * _CELL
    far = np.linalg.norm(pieces.mean(1) - centre, axis=-1) / _REACH
    levels = np.ceil(_LEVELS * np.clip(1 - far, 0, 1) ** 1.2).astype(int)
    seen, _ = camera.project(on_floor(pieces, floor), frame)
    size = [camera.width, camera.height]
    levels[((seen < 0).all(1) | (seen > size).all(1)).any(1)] = 0  # out of the picture
    width = max(1.0, camera.height / 500)
    for level in range(1, _LEVELS + 1):
        chosen = seen[levels == level]
        if len(chosen):
            canvas.lines(chosen, (*_LINE, 0.34 * level / _LEVELS), width)


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


def draw_shadow(
    canvas: Canvas, camera: Camera, frame: int, joints: np.ndarray, floor: float, skeleton: Skeleton
) -> None:
    """A shadow under the (J, 3) joints: sharp where they touch the floor, soft where they are high."""
    bones = np.array(skeleton.bones)
    plane, high = joints[:, ::2], np.maximum(joints[:, 1] - floor, 0.0)
    thick = thickness(skeleton)
    for spread, alpha in ((1.0, 0.13), (0.72, 0.13), (0.45, 0.14), (0.22, 0.16)):
        radii = 0.9 * thick + spread * (0.03 + 0.16 * high)
        shapes = capsules(plane[bones], radii[bones])
        seen, _ = camera.project(on_floor(shapes, floor), frame)
        canvas.polygons(seen, (0.0, 0.0, 0.0, alpha))


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
    canvas.polygons(seen[None], (1.0, 0.86, 0.5, 0.10 * strength))
    canvas.lines(seen[None], (1.0, 0.86, 0.5, 0.85 * strength), wide * (0.012 + 0.03 * strength))
