"""Drawing on the floor: the grid, which is fixed in the world, shadow, trail, and the ring of a beat."""

import numpy as np

from utils.limbs import limb_radii
from utils.render.camera import Camera
from utils.render.canvas import Canvas, Colour
from utils.render.figure import LOWER, capsules
from utils.skeleton import Skeleton

_CELL = 1.0  # metres between the lines of the grid
_REACH = 4.5  # metres from the camera's target to where they have faded out
_TRAIL_SECONDS = 2.5
_TRAIL_PIECES = 7
_SHADOW = ((1.0, 0.15), (0.6, 0.18), (0.25, 0.22))  # spread and strength of its layers
_LINE: Colour = (0.55, 0.68, 0.95)
_STRENGTH = 0.42  # of its lines at the target


def on_floor(plane: np.ndarray, floor: float) -> np.ndarray:
    """(..., 3) points of the floor from (..., 2) x and z."""
    return np.stack([plane[..., 0], np.full(plane.shape[:-1], floor), plane[..., 1]], -1)


def grid_light(camera: Camera, background: np.ndarray, off: np.ndarray) -> np.ndarray:
    """The light that a line of the grid adds, for every pixel of the picture.

    The camera never turns, so this is the same wherever it walks; only where the lines are changes.

    Args:
        camera: whose picture it is.
        background: (height, width, 4) uint8, the picture without the grid.
        off: (height, width) metres on the floor from below the camera's target.

    Returns:
        (height * width, 4) float32.
    """
    strength = _STRENGTH * np.clip(1 - off / _REACH, 0, 1)[..., None]
    light = np.zeros(background.shape, np.float32)
    light[..., :3] = strength * (255 * np.asarray(_LINE) - background[..., :3])
    return light.reshape(camera.height * camera.width, 4)


def draw_grid(canvas: Canvas, camera: Camera, frame: int, floor: float, light: np.ndarray) -> None:
    """Draw lines at whole metres of the world, fading with the distance from the dancer.

    Every line runs along the rows or columns, whichever it crosses more of, and is smoothed across them:
    half of the time that Agg takes, and it fades without steps.

    Args:
        canvas: to draw on.
        camera: what it is seen by.
        frame: now.
        floor: height of the floor.
        light: of `grid_light`.
    """
    ends, _ = camera.project(on_floor(grid_chords(camera.targets[frame][::2], _REACH), floor), frame)
    size = np.array([camera.width, camera.height])
    pitch = np.array([1, camera.width])  # from a pixel to the next in x and y
    lines = np.arange(len(ends))
    along = np.abs(ends[:, 1] - ends[:, 0]).argmax(1)  # the axis that each line runs along
    across = 1 - along
    ends = np.take_along_axis(ends, ends[lines, :, along].argsort(1)[..., None], 1) - 0.5  # pixel centres
    (low, high), (start, end) = ends[lines, :, along].T, ends[lines, :, across].T
    slope = (end - start) / np.maximum(high - low, 1e-9)
    slope = np.where(slope == 0, 1e-9, slope)
    enter, leave = np.sort([low - start / slope, low + (size[across] - 1 - start) / slope], 0)
    first = np.ceil(np.maximum(np.maximum(low, enter), 0)).astype(int)
    last = np.floor(np.minimum(np.minimum(high, leave), size[along] - 1)).astype(int)
    counts = np.maximum(last - first + 1, 0)

    line = np.repeat(lines, counts)
    u = np.arange(len(line)) - np.repeat(np.cumsum(counts) - counts - first, counts)
    v = (start - slope * low)[line] + slope[line] * u
    width = max(1.0, camera.height / 540)
    pixels = canvas.pixels.reshape(-1, 4).view(np.uint32)[:, 0]  # whole pixels move faster than channels
    base = np.floor(v - (width - 1) / 2)
    for tap in range(int(np.ceil(width)) + 1):
        row = base + tap
        cover = np.clip(width / 2 + 0.5 - np.abs(row - v), 0, 1).astype(np.float32)
        row = np.clip(row, 0, (size - 1)[across][line])
        place = (u * pitch[along][line] + row * pitch[across][line]).astype(np.int64)
        old = pixels.take(place).view(np.uint8).reshape(-1, 4)
        new = old + cover[:, None] * light.take(place, 0)
        pixels[place] = new.astype(np.uint8).view(np.uint32)[:, 0]


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
    """Draw the path of the root over the last seconds, fading with its age.

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
        canvas.lines(seen[None, piece : piece + 6], (*LOWER, 0.55 * youth**1.5), 0.018 * float(scale.mean()))


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
        radii = 0.8 * limb_radii(skeleton) + spread * (0.03 + 0.09 * high)
        layers.append(capsules(plane[:, bones], radii[:, bones])[..., ::3, :])
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
    """Draw a ring that spreads over the floor after a beat; strength falls from 1 at the beat to 0."""
    if strength < 0.02:
        return
    turn = np.linspace(0, 2 * np.pi, 73)
    circle = np.stack([np.cos(turn), np.sin(turn)], 1)
    radius = 0.42 + 0.55 * (1 - strength)
    seen, scale = camera.project(on_floor(centre + radius * circle, floor), frame)
    wide = float(scale.mean())
    canvas.lines(seen[None], (1.0, 0.86, 0.5, 0.85 * strength), wide * (0.012 + 0.03 * strength))
