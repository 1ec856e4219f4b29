"""The perspective camera: it looks in one direction and follows the dancer smoothly."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

_FOLLOW_SECONDS = 0.7  # spread of the Gaussian that smooths the walk of the camera


@dataclass(frozen=True)
class Camera:
    """A perspective camera that looks along one direction for the whole dance.

    Attributes:
        targets: (T, 3) the point in the middle of the picture, metres.
        span: metres of height that the picture shows at the target.
        width: of the picture, pixels.
        height: of the picture, pixels.
        yaw: radians that the camera stands to the dancer's left of the +z axis.
        pitch: radians that it looks down.
        middle: where the target is in the picture, as a share of its height from the top.
    """

    targets: np.ndarray
    span: float
    width: int
    height: int
    yaw: float = 0.3
    pitch: float = 0.2
    middle: float = 0.5

    @property
    def axes(self) -> np.ndarray:
        """(3, 3) rows: to the right, up, and forward."""
        sin_yaw, cos_yaw = np.sin(self.yaw), np.cos(self.yaw)
        sin_pitch, cos_pitch = np.sin(self.pitch), np.cos(self.pitch)
        forward = np.array([-sin_yaw * cos_pitch, -sin_pitch, -cos_yaw * cos_pitch])
        right = np.array([cos_yaw, 0.0, -sin_yaw])
        return np.stack([right, np.cross(right, forward), forward])

    @property
    def focal(self) -> float:
        """Focal length in pixels: a field of view of 28 degrees."""
        return self.height / 2 / np.tan(np.radians(14))

    @property
    def distance(self) -> float:
        """Metres from the camera to the target."""
        return self.focal * self.span / self.height

    def project(self, points: np.ndarray, frame: int | slice) -> tuple[np.ndarray, np.ndarray]:
        """Project points into the picture.

        Args:
            points: (..., 3) metres; (T, N, 3) when `frame` is a slice of T frames.
            frame: which of the targets the camera looks at.

        Returns:
            (..., 2) pixels from the top left, and (...) pixels per metre there, which falls with the depth.
        """
        target = self.targets[frame]
        relative = (points - (target[:, None] if isinstance(frame, slice) else target)) @ self.axes.T
        scale = self.focal / np.maximum(relative[..., 2] + self.distance, 0.2)
        x = self.width / 2 + relative[..., 0] * scale
        y = self.middle * self.height - relative[..., 1] * scale
        return np.stack([x, y], -1), scale


def following(
    joints: np.ndarray, floor: float, fps: float, width: int, height: int, *, follow: bool = True
) -> Camera:
    """A camera that follows the dancer, smoothed over the whole dance, so that it never jerks.

    Args:
        joints: (T, J, 3) metres.
        floor: height of the floor.
        fps: frames per second.
        width: of the picture, pixels.
        height: of the picture, pixels.
        follow: whether it follows; if not, it stands at the middle of the dance.
    """
    walk = joints[:, 0, ::2].astype(np.float64)
    walk = gaussian_filter1d(walk, _FOLLOW_SECONDS * fps, axis=0, mode="nearest") if follow else walk
    walk = walk if follow else np.broadcast_to((walk.min(0) + walk.max(0)) / 2, walk.shape)
    tall = float(np.percentile(joints[..., 1].max(1), 99)) - floor
    beside = np.abs(joints[..., ::2] - walk[:, None]).max((1, 2))
    wide = 2 * float(np.percentile(beside, 99))
    span = max(2.5, 1.4 * tall, 1.1 * wide * height / width)
    targets = np.stack([walk[:, 0], np.full(len(walk), floor + 0.36 * span), walk[:, 1]], 1)
    return Camera(targets, span, width, height)
