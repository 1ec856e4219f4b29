"""Geometric features: the share of frames in which each of 32 relations between joints holds.

Source: Müller et al. 2005 (relational features), as in fairmotion and AIST++; the variant behind Bailando's
FID_g and Div_g ("manual" features). Lengths are measured once on SMPL's neutral rest pose.
"""

import math
from typing import NamedTuple

import numpy as np

from utils.metrics.checks import as_joints
from utils.skeleton import SMPL_24

# SMPL's neutral rest pose, metres
_LEFT_SHOULDER, _LEFT_ELBOW = (
    (0.199113488, 0.236807942, -0.0180702247),
    (0.454445392, 0.221158922, -0.0410167128),
)
_RIGHT_SHOULDER = (-0.191692337, 0.236928746, -0.0123055102)
_LEFT_HIP, _RIGHT_HIP = (
    (0.0564076714, -0.323069185, 0.0109197125),
    (-0.0624834076, -0.331302464, 0.0150412619),
)
UPPER_ARM = math.dist(_LEFT_SHOULDER, _LEFT_ELBOW)
SHOULDERS = math.dist(_LEFT_SHOULDER, _RIGHT_SHOULDER)
HIPS = math.dist(_LEFT_HIP, _RIGHT_HIP)
# Hz; velocities are divided by 1/120 s at any frame rate, and published numbers depend on it
PUBLISHED_RATE = 120.0


class Relation(NamedTuple):
    """One relation: the points it reads, and the open interval its value must lie in."""

    kind: str
    points: tuple[str, ...]
    low: float
    high: float = np.inf


RELATIONS = (
    Relation("normal_velocity", ("neck", "right_hip", "left_hip", "right_wrist"), 1.8 * UPPER_ARM),
    Relation("normal_velocity", ("neck", "left_hip", "right_hip", "left_wrist"), 1.8 * UPPER_ARM),
    Relation("distance_along", ("spine3", "neck", "neck", "right_wrist"), 0.2 * UPPER_ARM),
    Relation("distance_along", ("spine3", "neck", "neck", "left_wrist"), 0.2 * UPPER_ARM),
    Relation("velocity_along", ("spine1", "spine3", "spine3"), 1.8 * UPPER_ARM),
    Relation(
        "velocity_along", ("spine1", "spine3", "spine3"), 1.8 * UPPER_ARM
    ),  # as published: meant for a wrist
    Relation("angle", ("right_elbow", "right_shoulder", "right_elbow", "right_wrist"), 0, 110),
    Relation("angle", ("left_elbow", "left_shoulder", "left_elbow", "left_wrist"), 0, 110),
    Relation(
        "distance_along", ("left_shoulder", "right_shoulder", "left_wrist", "right_wrist"), 2.5 * SHOULDERS
    ),
    Relation("velocity_along", ("left_wrist", "right_wrist", "right_wrist"), 1.4 * UPPER_ARM),
    Relation("velocity_along", ("right_wrist", "pelvis", "left_wrist"), 1.4 * UPPER_ARM),
    Relation("velocity_along", ("left_wrist", "pelvis", "right_wrist"), 1.4 * UPPER_ARM),
    Relation("speed", ("right_wrist",), 2.5 * UPPER_ARM),
    Relation("speed", ("left_wrist",), 2.5 * UPPER_ARM),
    Relation("distance_from_plane", ("pelvis", "left_hip", "left_foot", "right_ankle"), 0.38 * UPPER_ARM),
    Relation("distance_from_plane", ("pelvis", "right_hip", "right_foot", "left_ankle"), 0.38 * UPPER_ARM),
    Relation("distance_along", ("origin", "up", "floor", "right_ankle"), 1.2 * UPPER_ARM),
    Relation("distance_along", ("origin", "up", "floor", "left_ankle"), 1.2 * UPPER_ARM),
    Relation("distance_along", ("left_hip", "right_hip", "left_ankle", "right_ankle"), 2.1 * HIPS),
    Relation("angle", ("right_knee", "right_hip", "right_knee", "right_ankle"), 0, 110),
    Relation("angle", ("left_knee", "left_hip", "left_knee", "left_ankle"), 0, 110),
    Relation("speed", ("right_ankle",), 2.5 * UPPER_ARM),
    Relation("speed", ("left_ankle",), 2.5 * UPPER_ARM),
    Relation("angle", ("neck", "pelvis", "right_shoulder", "right_elbow"), 25, 180),
    Relation("angle", ("neck", "pelvis", "left_shoulder", "left_elbow"), 25, 180),
    Relation("angle", ("neck", "pelvis", "right_hip", "right_knee"), 50, 180),
    Relation("angle", ("neck", "pelvis", "left_hip", "left_knee"), 50, 180),
    Relation("distance_from_plane", ("right_ankle", "neck", "left_ankle", "pelvis"), 0.5 * UPPER_ARM),
    Relation("angle", ("neck", "pelvis", "origin", "up"), 70, 110),
    Relation("distance_along", ("origin", "down", "floor", "right_wrist"), -1.2 * UPPER_ARM),
    Relation("distance_along", ("origin", "down", "floor", "left_wrist"), -1.2 * UPPER_ARM),
    Relation("speed", ("pelvis",), 2.3 * UPPER_ARM),
)
NUM_FEATURES = len(RELATIONS)
POINTS = (
    *SMPL_24.joints,
    "origin",
    "up",
    "down",
    "floor",
)  # floor: straight below the origin, as low as the lowest joint


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.stack([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _along(a: np.ndarray, direction: np.ndarray) -> np.ndarray:
    return _dot(a, direction) / np.sqrt(_dot(direction, direction))


def _value(kind: str, p: list[np.ndarray], last: list[np.ndarray], rate: float) -> np.ndarray:
    """Values (n, T-1) of n tests of one kind, from their points (each (3, n, T-1)) now and a frame before."""
    if kind == "speed":
        step = p[0] - last[0]
        return rate * np.sqrt(_dot(step, step))
    a, b, c = p[:3]
    if kind == "velocity_along":  # of c seen from a, along a -> b
        return rate * _along((c - a) - (last[2] - last[0]), b - a)
    d = p[3]
    if kind == "distance_along":  # of d from the plane through c that a -> b is normal to
        return _along(d - c, b - a)
    if kind == "angle":  # degrees between a -> b and c -> d
        first, second = b - a, d - c
        cosine = _dot(first, second) / np.sqrt(_dot(first, first) * _dot(second, second))
        return np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))
    normal = _cross(c - a, b - a)
    if kind == "distance_from_plane":  # of d from the plane through a, b, c
        return _along(d - a, normal)
    assert kind == "normal_velocity", kind  # of d seen from a, along that plane's normal
    return rate * _along((d - a) - (last[3] - last[0]), normal)


def geometric_tests(joints: np.ndarray, fps: float = 60, corrected: bool = False) -> np.ndarray:
    """The tests: (T-1, 32) booleans for frames 1 .. T-1, from joints (T >= 2, 24, 3) in metres, y up.

    A direction of length zero (two joints in one place) makes the value not a number and the test false, as
    published.

    Args:
        joints: the dance.
        fps: frame rate in Hz; only the corrected form reads it.
        corrected: divide velocities by 1/fps instead of by 1/120 s.

    Raises:
        ValueError: on wrong shapes, values that are not finite, or a rate that is not positive.
    """
    p = as_joints(joints, fps)
    rate = float(fps) if corrected else PUBLISHED_RATE
    points = np.zeros((3, len(POINTS), len(p)))  # axis first and time last: every operation runs along memory
    points[:, : SMPL_24.num_joints] = p.transpose(2, 1, 0)
    points[1, POINTS.index("floor")] = p[:, :, 1].min(1)
    points[1, POINTS.index("up")], points[1, POINTS.index("down")] = 1.0, -1.0

    result = np.empty((len(p) - 1, NUM_FEATURES), bool)
    for kind in sorted({test.kind for test in RELATIONS}):
        columns = [column for column, test in enumerate(RELATIONS) if test.kind == kind]
        places = np.array([[POINTS.index(name) for name in RELATIONS[column].points] for column in columns])
        chosen = [points[:, place] for place in places.T]
        now, last = [point[..., 1:] for point in chosen], [point[..., :-1] for point in chosen]
        with np.errstate(divide="ignore", invalid="ignore"):
            value = _value(kind, now, last, rate)
        low = np.array([[RELATIONS[column].low] for column in columns])
        high = np.array([[RELATIONS[column].high] for column in columns])
        result[:, columns] = ((value > low) & (value < high)).T
    return result


def geometric_features(joints: np.ndarray, fps: float = 60, corrected: bool = False) -> np.ndarray:
    """Geometric features (32,) float32 in 0..1: the share of frames 1 .. T-1 in which each test holds.

    Arguments and errors are those of `geometric_tests`.
    """
    return geometric_tests(joints, fps, corrected).mean(0).astype(np.float32)
