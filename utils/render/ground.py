"""What lies on the floor: the grid, which stays in the world, the shadow, the trail, and the beat's ring."""

import numpy as np

from utils.render.camera import Camera
from utils.render.canvas import Canvas, Colour
from utils.render.figure import LOWER, capsules, thickness
from utils.skeleton import Skeleton

_CELL = 1.0  # metres between the lines of the grid
_REACH = 4.5  # metres from the camera's target to where they have faded out
_LEVELS = 7  # shades of the grid from here to there
_TRAIL_SECONDS = 2.5
_TRAIL_PIECES = 7
_SHADOW = ((1.0, 0.15), (0.6, 0.18), (0.25, 0.22))  # spread and strength of its layers
_LINE: Colour = (0.55, 0.68, 0.95)
_FAINT = 1 - (1 - 0.42) ** (1 / _LEVELS)  # strength of one shade; all of them, one over the other, give 0.42


def on_floor(plane: np.ndarray, floor: float) -> np.ndarray:
    """(..., 3) points of the floor from (..., 2) x and z."""
    return np.stack([plane[..., 0], np.full(plane.shape[:-1], floor), plane[..., 1]], -1)


def draw_grid(canvas: Canvas, camera: Camera, frame: int, floor: float) -> None:
    """Lines on the whole metres of the world, fading with the distance from the dancer.

    They are chords of circles around the camera's target, faint ones, one circle within the other.
    """
    centre = camera.targets[frame][::2]
    for radius in _REACH * np.arange(1, _LEVELS + 1) / _LEVELS:
        chords = grid_chords(centre, float(radius))
        if len(chords):
            seen, _ = camera.project(on_floor(chords, floor), frame)
            canvas.lines(seen, (*_LINE, _FAINT), max(1.0, camera.height / 480))


def grid_chords(centre: np.ndarray, radius: float) -> np.ndarray:
    """(N, 2, 2) ends (x, z) of the grid's lines within a circle, metres.

    Args:
        centre: (2,) x and z of the circle's centre.
        radius: of the circle, metres.
    """
    ends = []
    for axis in (0, 1):
        at = _CELL * np.arange(
            np.ceil((centre[axis] - radius) / _CELL), np.floor((centre[axis] + radius) / _CELL) + 1
        )
        half = np.sqrt(np.maximum(radius**2 - (at - centre[axis]) ** 2, 0.0))
        chord = np.empty((len(at), 2, 2))
        chord[..., axis] = at[:, None]
        chord[..., 1 - axis] = centre[1 - axis] + np.stack([-half, half], 1)
        ends.append(chord)
    return np.concatenate(ends)


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
    each = max(1, round(length / (_TRAIL_PIECES * 5)))  # frames between its corners
    seen, scale = camera.project(on_floor(roots[max(0, frame - length) : frame + 1][::-each], floor), frame)
    for piece in range(0, len(seen) - 1, 5):
        youth = 1 - each * piece / (length + 1)
        canvas.lines(
            seen[None, piece : piece + 6], (*LOWER, 0.55 * youth**1.5), 0.018 * float(scale.mean())
        )


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
