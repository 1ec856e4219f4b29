"""Analytic two-bone inverse kinematics of the legs, from the pelvis and the feet.

A foot is given by where its toe base stands, so a heel can rise and a foot can pivot without sliding. The
knee is a hinge: it bends about one axis only, and only backward, whatever the targets.
"""

from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from utils.skeleton import SMPL_24
from utils.smpl import rest_joints

TOE_HEIGHT_M = 0.02  # of the toe base of a standing foot
PELVIS_HEIGHT_M = float(
    rest_joints()[0, 1] - rest_joints()[10:12, 1].mean() + TOE_HEIGHT_M
)  # legs quite straight
_STRETCH = 0.992  # a leg never gets longer than this share of its bones
_SOFTNESS_M = 0.008


class Foot(NamedTuple):
    """Trajectory of one foot: `toe` (T, 3) metres in the world, `yaw` and heel `pitch` (T,) radians."""

    toe: np.ndarray
    yaw: np.ndarray
    pitch: np.ndarray


class LegPose(NamedTuple):
    """Local rotations of the hip, knee, ankle and toe joints of one leg."""

    hip: Rotation
    knee: Rotation
    ankle: Rotation
    toe: Rotation


def _chain(side: int) -> tuple[int, int, int, int]:
    ankle, toe = SMPL_24.feet[side]
    knee = SMPL_24.parents[ankle]
    return SMPL_24.parents[knee], knee, ankle, toe


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector, axis=-1, keepdims=True)


def _foot_rotation(foot: Foot) -> Rotation:
    return Rotation.from_euler("YX", np.stack([foot.yaw, foot.pitch], axis=-1))


def ankle_position(foot: Foot, side: int) -> np.ndarray:
    """Where the ankle is, (T, 3) metres; side 0 is left, 1 is right."""
    _, _, ankle, toe = _chain(side)
    rest = rest_joints()
    return foot.toe + _foot_rotation(foot).apply(rest[ankle] - rest[toe])


def reachable_height(
    height: np.ndarray, ground: np.ndarray, pelvis: Rotation, feet: tuple[Foot, Foot]
) -> np.ndarray:
    """The wished pelvis height, lowered smoothly where a leg would otherwise be too short.

    Args:
        height: (T,) wished height of the pelvis joint, metres.
        ground: (T, 2) x and z of the pelvis, metres.
        pelvis: T orientations of the pelvis.
        feet: left and right foot.

    Returns:
        (T,) height, metres.

    Raises:
        ValueError: if a foot is farther from the pelvis, horizontally, than a leg is long.
    """
    rest = rest_joints()
    limits = [height]
    for side, foot in enumerate(feet):
        hip, knee, ankle, _ = _chain(side)
        length = np.linalg.norm(rest[knee] - rest[hip]) + np.linalg.norm(rest[ankle] - rest[knee])
        offset, target = pelvis.apply(rest[hip] - rest[0]), ankle_position(foot, side)
        distance = target[:, [0, 2]] - ground - offset[:, [0, 2]]
        room = (_STRETCH * length) ** 2 - np.sum(distance**2, axis=-1)
        if room.min() <= 0:
            far = np.linalg.norm(distance, axis=-1).max()
            raise ValueError(
                f"foot {side} is {far:.2f} m from its hip, farther than the leg's {length:.2f} m"
            )
        limits.append(target[:, 1] + np.sqrt(room) - offset[:, 1])
    return -_SOFTNESS_M * np.logaddexp.reduce(-np.stack(limits) / _SOFTNESS_M, axis=0)


def _hinge_frame(direction: np.ndarray, axis: np.ndarray) -> Rotation:
    """Orientation that takes (x, -y) to (axis made orthogonal to direction, direction)."""
    axis = _unit(axis - np.sum(axis * direction, axis=-1, keepdims=True) * direction)
    return Rotation.from_matrix(np.stack([axis, -direction, np.cross(axis, -direction)], axis=-1))


def solve_leg(
    pelvis_position: np.ndarray, pelvis: Rotation, knee_yaw: np.ndarray, foot: Foot, side: int
) -> LegPose:
    """Rotations of one leg.

    Args:
        pelvis_position: (T, 3) metres.
        pelvis: T orientations of the pelvis.
        knee_yaw: (T,) radians, horizontal direction into which the knee points (0 is +z).
        foot: where the foot shall be.
        side: 0 is left, 1 is right.

    Returns:
        The local rotations that put the foot there.
    """
    rest = rest_joints()
    hip, knee, ankle, _ = _chain(side)
    thigh, shin = rest[knee] - rest[hip], rest[ankle] - rest[knee]
    upper, lower = np.linalg.norm(thigh), np.linalg.norm(shin)

    line = ankle_position(foot, side) - pelvis_position - pelvis.apply(rest[hip] - rest[0])
    distance = np.clip(np.linalg.norm(line, axis=-1), 0.45, upper + lower - 1e-6)[:, None]
    line = _unit(line)
    axis = np.stack([np.cos(knee_yaw), np.zeros_like(knee_yaw), -np.sin(knee_yaw)], axis=-1)
    forward = _unit(np.cross(line, axis))
    along = (upper**2 - lower**2 + distance**2) / (2 * distance)
    bend = along * line + np.sqrt(np.maximum(upper**2 - along**2, 0.0)) * forward

    grounded = np.exp(
        -(((foot.toe[:, 1:2] - TOE_HEIGHT_M) / 0.04) ** 2)
    )  # toes stay flat while the heel rises
    x = np.array([1.0, 0.0, 0.0])
    thigh_world = _hinge_frame(_unit(bend), axis) * _hinge_frame(_unit(thigh), x).inv()
    shin_world = _hinge_frame(_unit(distance * line - bend), axis) * _hinge_frame(_unit(shin), x).inv()
    return LegPose(
        hip=pelvis.inv() * thigh_world,
        knee=thigh_world.inv() * shin_world,
        ankle=shin_world.inv() * _foot_rotation(foot),
        toe=Rotation.from_euler("X", -foot.pitch[:, None] * grounded),
    )
