"""The scene of a dance: background, floor and figure, without the text over it."""

import numpy as np

from utils.body_model import BodyMotion
from utils.floor import ground_height
from utils.render import ground
from utils.render.body import BodyMesh
from utils.render.camera import Camera, following
from utils.render.canvas import Canvas
from utils.render.figure import Limbs, Palette, draw_figure, limb_colours, limbs
from utils.skeleton import Skeleton

_SKY_TOP, _SKY_LOW = (11, 13, 20), (27, 31, 46)
_FLOOR_NEAR, _FLOOR_FAR = (50, 56, 78), (23, 26, 39)
_CHUNK = 64  # frames whose limbs are computed at once


class Scene:
    """A dance, drawn frame by frame, in order or not.

    Args:
        joints: (T, J, 3) metres, y up, at least one frame.
        skeleton: whose joints they are.
        fps: frames per second.
        width: of the picture, pixels.
        height: of the picture, pixels.
        beats: (T,) how strongly the beat's ring shows in each frame, 0..1.
        body: drawn instead of a figure of limbs; its joints are `joints`.

    Attributes:
        background: (height, width, 4) uint8, what every frame begins with; may be replaced.
    """

    def __init__(
        self,
        joints: np.ndarray,
        skeleton: Skeleton,
        fps: float,
        width: int,
        height: int,
        beats: np.ndarray,
        body: BodyMotion | None = None,
    ) -> None:
        self.joints, self.skeleton, self.fps, self.beats = joints.astype(np.float64), skeleton, fps, beats
        self.floor = ground_height(self.joints, fps, skeleton)
        self.camera = following(self.joints, self.floor, fps, width, height)
        self.palette = Palette()
        self._colours = limb_colours(skeleton, self.palette)
        self._mesh = None if body is None else BodyMesh(body, skeleton, self.palette)
        off = floor_distance(self.camera, self.floor)
        self.background = background(self.camera, off)
        self._grid = ground.grid_light(self.camera, self.background, off)
        self._chunk = -1
        self._seen: tuple[Limbs, np.ndarray] | None = None

    def draw(self, canvas: Canvas, frame: int) -> None:
        """Draw a frame over the whole canvas."""
        canvas.pixels[:] = self.background
        camera, floor = self.camera, self.floor
        roots = self.joints[:, 0, ::2]
        ground.draw_grid(canvas, camera, frame, floor, self._grid)
        ground.draw_trail(canvas, camera, frame, roots, floor, self.fps)
        ground.draw_beat(canvas, camera, frame, roots[frame], floor, float(self.beats[frame]))
        body, shadow = self._shapes(frame // _CHUNK)
        ground.draw_shadow(canvas, shadow[frame % _CHUNK])
        if self._mesh is None:
            draw_figure(canvas, body, frame % _CHUNK, self._colours, self.palette.outline)
        else:
            self._mesh.draw(canvas, camera, frame)

    def _shapes(self, chunk: int) -> tuple[Limbs, np.ndarray]:
        """Limbs and shadows of a chunk of frames, kept until another chunk is needed."""
        if chunk != self._chunk or self._seen is None:
            frames = slice(chunk * _CHUNK, (chunk + 1) * _CHUNK)
            joints = self.joints[frames]
            self._chunk = chunk
            self._seen = (
                limbs(joints, self.skeleton, self.camera, frames),
                ground.shadows(joints, self.skeleton, self.camera, frames, self.floor),
            )
        return self._seen


def view_rays(camera: Camera) -> np.ndarray:
    """(height, width, 3) directions in which the pixels look; not of unit length."""
    rows, columns = np.mgrid[: camera.height, : camera.width] + 0.5
    right, up, forward = camera.axes
    x = (columns - camera.width / 2)[..., None] / camera.focal
    y = (camera.middle * camera.height - rows)[..., None] / camera.focal
    return forward + x * right + y * up


def floor_distance(camera: Camera, floor: float) -> np.ndarray:
    """(height, width) metres on the floor from below the camera's target; very large above the horizon."""
    rays = view_rays(camera)
    eye = -camera.axes[2] * camera.distance  # from the target
    below = camera.targets[0, 1] - floor
    reach = (eye[1] + below) / np.maximum(-rays[..., 1], 1e-6)
    return np.hypot(eye[0] + reach * rays[..., 0], eye[2] + reach * rays[..., 2])


def background(camera: Camera, off: np.ndarray) -> np.ndarray:
    """(height, width, 4) uint8: a lit floor that fades into the dark; the same wherever the camera moves.

    Args:
        camera: whose picture it is.
        off: of `floor_distance`.
    """
    rows, columns = np.ogrid[: camera.height, : camera.width]
    rise = view_rays(camera)[:, :1, 1:2]  # of the rays, the same along a row
    glow = np.exp(-((off / 2.6) ** 2))[..., None]
    share = np.clip((off - 2) / 9, 0, 1)[..., None]
    horizon = np.asarray(_SKY_LOW, float)
    lit = np.asarray(_FLOOR_FAR) + glow * (np.subtract(_FLOOR_NEAR, _FLOOR_FAR))
    ground_colour = lit + share * (horizon - lit)
    height = np.clip(rise / 0.35, 0, 1)
    sky = horizon + height**0.7 * np.subtract(_SKY_TOP, _SKY_LOW)
    colour = np.where(rise < 0, ground_colour, sky)
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (*off.shape, 1))  # keeps gradients smooth
    edge = np.hypot((columns / camera.width - 0.5) * 1.1, rows / camera.height - 0.5)[..., None]
    colour = colour * (1 - 0.45 * np.clip(edge - 0.3, 0, 1)) + noise
    picture = np.full((camera.height, camera.width, 4), 255, np.uint8)
    picture[..., :3] = np.clip(np.rint(colour), 0, 255)
    return picture
