"""The body's mesh in videos: smoothly shaded triangles in the colours of the two halves, the nearest last."""

import numpy as np
from scipy.sparse import csr_matrix

from utils.body_model import BodyMotion
from utils.export.align import unit
from utils.render.camera import Camera
from utils.render.canvas import Canvas
from utils.render.figure import Palette, joint_colours
from utils.skeleton import Skeleton

_CHUNK = 16  # frames whose vertices are computed at once: 15 MB within smplx
_KEY, _FILL = (-0.45, 0.75, -0.6), (0.9, 0.1, -0.35)  # towards the lights: to the right, up, forward
_AMBIENT, _KEY_STRENGTH, _FILL_STRENGTH = 0.40, 0.66, 0.16
_EDGE = 0.55  # how dark the body is where it turns away, so that limbs stand out from what is behind


class BodyMesh:
    """The mesh of a body in motion, drawn frame by frame, in order or not.

    Args:
        motion: of the body, one frame for each of the video.
        skeleton: which joints are of which half.
        palette: colours of the halves.
    """

    def __init__(self, motion: BodyMotion, skeleton: Skeleton, palette: Palette) -> None:
        self.motion, self.faces = motion, motion.model.faces
        self._colours = motion.model.weights @ np.array(joint_colours(skeleton, palette), np.float32)
        num, corners = len(self.faces), self.faces.reshape(-1)
        each = np.repeat(np.arange(num), 3)
        shape = len(self._colours), num
        self._around = csr_matrix((np.ones(3 * num, np.float32), (corners, each)), shape)
        self._chunk = -1
        self._vertices = np.zeros((0, len(self._colours), 3), np.float32)

    def draw(self, canvas: Canvas, camera: Camera, frame: int) -> None:
        """Draw a frame: the triangles that face the camera, the farthest first."""
        vertices = self._at(frame)
        colours = self._shaded(vertices, camera, frame)
        seen, scale = camera.project(vertices.astype(np.float64), frame)
        corners = seen[self.faces]
        (ax, ay), (bx, by) = (corners[:, 1] - corners[:, 0]).T, (corners[:, 2] - corners[:, 0]).T
        facing = ax * by < ay * bx  # counter-clockwise as seen, with y down
        depth = scale[self.faces[facing]].mean(1)
        shown = np.flatnonzero(facing)[np.argsort(depth, kind="stable")]
        canvas.triangles(corners[shown], colours[self.faces[shown]])

    def _at(self, frame: int) -> np.ndarray:
        """Vertices (V, 3) of a frame; a chunk is kept until another one is needed."""
        if frame // _CHUNK != self._chunk:
            self._chunk = frame // _CHUNK
            self._vertices = self.motion.vertices(slice(self._chunk * _CHUNK, (self._chunk + 1) * _CHUNK))
        return self._vertices[frame % _CHUNK]

    def _shaded(self, vertices: np.ndarray, camera: Camera, frame: int) -> np.ndarray:
        """Colours (V, 4) under two lights that stand still beside the camera."""
        a, b, c = vertices[self.faces].transpose(1, 0, 2)
        normals = unit(self._around @ np.cross(b - a, c - a))  # larger triangles count for more
        eye = camera.targets[frame] - camera.distance * camera.axes[2]
        towards = (normals * unit(eye - vertices)).sum(1)
        key, fill = unit(np.array([_KEY, _FILL])) @ camera.axes
        light = _AMBIENT + _KEY_STRENGTH * np.maximum(normals @ key, 0)
        light += _FILL_STRENGTH * np.maximum(normals @ fill, 0)
        light *= 1 - _EDGE * (1 - np.clip(towards, 0, 1)) ** 3
        shaded = np.ones((len(vertices), 4))
        shaded[:, :3] = np.clip(
            self._colours * light[:, None] + 0.10 * np.maximum(light - 0.9, 0)[:, None], 0, 1
        )
        return shaded
