"""The figure's skin: a tapered capsule around each bone and a ball for the head, rigid with its joint."""

from typing import NamedTuple

import numpy as np

from utils.export.align import frames_of, unit
from utils.limbs import HEAD_BEYOND_M, HEAD_RADIUS_M, limb_radii
from utils.skeleton import Skeleton

_ROUND, _CAP = 12, 3  # corners around a limb; rings on each of its ends


class Skin(NamedTuple):
    """A mesh at rest.

    Attributes:
        points: (V, 3) metres.
        normals: (V, 3) of length 1.
        joints: (V,) the joint that carries each vertex.
        faces: name of a half -> (F, 3) vertices of its triangles, counter-clockwise from outside.
    """

    points: np.ndarray
    normals: np.ndarray
    joints: np.ndarray
    faces: dict[str, np.ndarray]


def skin_of(rest: np.ndarray, skeleton: Skeleton) -> Skin:
    """The skin of a body with joints (J, 3) at rest."""
    radius = limb_radii(skeleton)
    points, normals, joints = [], [], []
    faces: dict[str, list[np.ndarray]] = {"upper": [], "lower": []}
    limbs = [(p, c, rest[p], rest[c], radius[p], radius[c]) for p, c in skeleton.bones]
    if "head" in skeleton.joints:
        head = skeleton.index("head")
        middle = rest[head] + HEAD_BEYOND_M * unit(rest[head] - rest[skeleton.parents[head]])
        limbs.append((head, head, middle, middle, HEAD_RADIUS_M, HEAD_RADIUS_M))
    for joint, child, start, end, first, last in limbs:
        shape, out, triangles = capsule(start, end, first, last)
        half = "lower" if child in skeleton.lower else "upper"
        faces[half].append(triangles + sum(map(len, points)))
        points.append(shape)
        normals.append(out)
        joints.append(np.full(len(shape), joint))
    return Skin(
        np.concatenate(points),
        np.concatenate(normals),
        np.concatenate(joints),
        {half: np.concatenate(parts) for half, parts in faces.items() if parts},
    )


def capsule(
    start: np.ndarray, end: np.ndarray, first: float, last: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (V, 3), normals (V, 3) and triangles (F, 3) of two balls and the cone between."""
    along = end - start
    axis = unit(along) if np.linalg.norm(along) > 1e-9 else np.array([0.0, 1.0, 0.0])
    spare = np.eye(3)[np.abs(axis).argmin()]
    _, side, third = frames_of(axis, spare).T
    around = np.arange(_ROUND) * 2 * np.pi / _ROUND
    ring = np.cos(around)[:, None] * side + np.sin(around)[:, None] * third  # (round, 3)
    up = np.concatenate([np.linspace(-np.pi / 2, 0, _CAP + 1), np.linspace(0, np.pi / 2, _CAP + 1)])
    normals = np.cos(up)[:, None, None] * ring + np.sin(up)[:, None, None] * axis  # (rings, round, 3)
    far = np.arange(len(up)) > _CAP
    centre, size = np.where(far[:, None], end, start), np.where(far, last, first)
    points = centre[:, None] + size[:, None, None] * normals
    corner = np.arange(len(up) * _ROUND).reshape(len(up), _ROUND)
    a, b = corner[:-1], corner[1:]
    c, d = np.roll(a, -1, axis=1), np.roll(b, -1, axis=1)
    triangles = np.concatenate(
        [np.stack([a, c, d], -1).reshape(-1, 3), np.stack([a, d, b], -1).reshape(-1, 3)]
    )
    shape = points.reshape(-1, 3)
    p = shape[triangles]
    area = np.linalg.norm(np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]), axis=-1)
    return shape, normals.reshape(-1, 3), triangles[area > 1e-10]  # at the poles a ring is a point
