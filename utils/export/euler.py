"""Rotations as three angles, in an order per joint that keeps interpolation between frames right.

A program that plays a .bvh interpolates each angle by itself. Near the order's singularity, the middle angle
at 90 degrees, the two others turn fast against each other although the joint hardly moves, and half-way
between two frames the joint points elsewhere. Each joint has one of the six orders of three different axes:
the one whose angles step least between frames and interpolate best, in the worst place of the dance.
"""

from typing import NamedTuple

import numpy as np

from utils.export.fit import matrices

ORDERS = ("ZXY", "YXZ", "ZYX", "XYZ", "YZX", "XZY")  # the first of equally good ones is taken
_HALFWAY = 10.0  # how much more a degree half-way between frames counts than one of a step
_NO_WORSE = 1.1, 1.0  # times the smallest cost, and degrees more, that still count as the smallest


class Angles(NamedTuple):
    """Rotations as angles.

    Attributes:
        degrees: (T, J, 3) about the axes of `orders`, without jumps in time.
        orders: for each joint, its axes from the outermost (turned first in the file) to the innermost.
        halfway: (J,) largest angle in degrees, half-way between frames, from the rotation that lies there.
    """

    degrees: np.ndarray
    orders: tuple[str, ...]
    halfway: np.ndarray


def euler_angles(rotations: np.ndarray, every: int = 1) -> Angles:
    """Angles of unit quaternions (T, J, 4).

    Args:
        rotations: (T, J, 4) x, y, z, w.
        every: frames from one that a file keeps to the next; half-way is between those.

    Returns:
        Angles of all frames, in the orders that are best for the kept ones.
    """
    turns = matrices(rotations)
    candidates = np.stack([_principal(turns, order) for order in ORDERS], axis=1)  # (T, 6, J, 3)
    candidates = np.degrees(np.moveaxis(_nearest(candidates), 1, 0))  # (6, T, J, 3)
    kept, joints = candidates[:, ::every], np.arange(rotations.shape[1])
    if kept.shape[1] < 2:
        return Angles(candidates[0], (ORDERS[0],) * len(joints), np.zeros(len(joints)))
    steps = np.abs(np.diff(kept, axis=1)).max((1, 3))  # (6, J)
    halfway = _halfway(kept, rotations[::every])
    cost = steps + _HALFWAY * halfway
    factor, more = _NO_WORSE
    best = (cost <= factor * cost.min(0) + more).argmax(0)
    degrees = np.stack([candidates[i, :, joint] for joint, i in enumerate(best)], axis=1)
    return Angles(degrees, tuple(ORDERS[i] for i in best), halfway[best, joints])


def _halfway(degrees: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    """(6, J) largest angle from interpolated angles to interpolated rotations, half-way between frames."""
    sign = np.where((rotations[:-1] * rotations[1:]).sum(-1, keepdims=True) < 0, -1.0, 1.0)
    middle = matrices(rotations[:-1] + sign * rotations[1:])  # a quaternion of any length is one rotation
    worst = np.empty((len(ORDERS), rotations.shape[1]))
    for i, order in enumerate(ORDERS):
        found = composed((degrees[i, :-1] + degrees[i, 1:]) / 2, order)
        trace = np.einsum("tjik,tjik->tj", middle, found)
        worst[i] = np.degrees(np.arccos(np.clip((trace - 1) / 2, -1.0, 1.0))).max(0)
    return worst


def _principal(turns: np.ndarray, order: str) -> np.ndarray:
    """Angles (T, J, 3) in radians of rotations (T, J, 3, 3), the middle one between -90 and 90 degrees."""
    i, j, k = ("XYZ".index(axis) for axis in order)
    parity = 1.0 if (j - i) % 3 == 1 else -1.0
    sine = parity * turns[..., i, k]
    first = np.arctan2(-parity * turns[..., j, k], turns[..., k, k])
    second = np.arcsin(np.clip(sine, -1.0, 1.0))
    third = np.arctan2(-parity * turns[..., i, j], turns[..., i, i])
    locked = np.abs(sine) > 1 - 1e-12  # the first and the third turn about one axis: the first does it all
    first = np.where(locked, np.arctan2(parity * turns[..., k, j], turns[..., j, j]), first)
    third = np.where(locked, 0.0, third)
    return np.stack([first, second, third], axis=-1)


def _nearest(angles: np.ndarray) -> np.ndarray:
    """Triples (T, ..., 3) in radians of the same rotations, each nearest to that of the frame before."""
    angles = angles.copy()
    other = angles * [1.0, -1.0, 1.0] + np.pi
    turn = 2 * np.pi
    for t in range(1, len(angles)):
        before = angles[t - 1]
        one, two = (a[t] + turn * np.round((before - a[t]) / turn) for a in (angles, other))
        nearer = np.abs(one - before).sum(-1) <= np.abs(two - before).sum(-1)
        angles[t] = np.where(nearer[..., None], one, two)
    return angles


def composed(degrees: np.ndarray, order: str) -> np.ndarray:
    """Rotations (..., 3, 3) of angles (..., 3) about the axes of `order`, the first outermost."""
    product: np.ndarray | None = None
    for axis, angle in zip(order, np.moveaxis(np.radians(degrees), -1, 0), strict=True):
        i = "XYZ".index(axis)
        j, k = (i + 1) % 3, (i + 2) % 3
        turn = np.zeros((*angle.shape, 3, 3))
        turn[..., i, i] = 1.0
        turn[..., j, j] = turn[..., k, k] = np.cos(angle)
        turn[..., k, j] = np.sin(angle)
        turn[..., j, k] = -turn[..., k, j]
        product = turn if product is None else product @ turn
    assert product is not None
    return product
