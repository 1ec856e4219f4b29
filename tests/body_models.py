"""Files of SMPL's format that tests make: a body of capsules around the built-in rest joints.

6,890 vertices, 24 joints, ten shape coefficients and 207 pose directions; the numbers are our own. The first
coefficient makes the body taller, the second thicker, the others are random. Pose directions are random
bulges near the joint that turns, as SMPL's are.
"""

import pickle
import sys
import types
from functools import cache

import numpy as np
from scipy.sparse import csc_matrix

from utils.export.align import frames_of, unit
from utils.limbs import HEAD_BEYOND_M, HEAD_RADIUS_M, limb_radii
from utils.skeleton import SMPL_24
from utils.smpl import rest_joints

_THICKER = {"pelvis": 1.5, "spine1": 1.5, "spine2": 1.5, "spine3": 1.4, "hip": 1.15}


@cache
def smpl_arrays(gender="male"):
    """The arrays of a model file; J_regressor is dense."""
    rest, rng = rest_joints(gender), np.random.default_rng(0)
    points, normals, faces, weights, rings = _body(rest)
    regressor = np.zeros((24, len(points)))
    for joint, ring in rings.items():
        regressor[joint, ring] = 1 / len(ring)  # the middle of a ring around the joint is the joint
    shapes = rng.normal(0, 0.002, (len(points), 3, 10))
    shapes[..., 0] = 0.05 * (points - rest[0])
    shapes[..., 1] = 0.01 * normals
    bulge = np.einsum("vjc,jcf->vjf", points[:, None] - rest[1:], rng.normal(0, 0.08, (23, 3, 9)))
    poses = normals[..., None] * (bulge * weights[:, 1:, None]).reshape(len(points), 1, 207)
    return {
        "v_template": points,
        "shapedirs": shapes,
        "posedirs": poses,
        "J_regressor": regressor,
        "weights": weights,
        "kintree_table": np.array([SMPL_24.parents, range(24)], np.int64).astype(np.uint32),
        "f": faces.astype(np.uint32),
    }


def _body(rest):
    """Points (6890, 3), normals, triangles, weights, and joint -> vertices of a ring around it."""
    names, radius = SMPL_24.joints, limb_radii(SMPL_24)
    thick = radius * [_THICKER.get(name.split("_")[-1], 1.0) for name in names]
    head = names.index("head")
    middle = rest[head] + HEAD_BEYOND_M * unit(rest[head] - rest[SMPL_24.parents[head]])
    limbs = [(p, c, rest[p], rest[c], thick[p], thick[c], 20, 14) for p, c in SMPL_24.bones]
    limbs.append((head, head, middle, middle, HEAD_RADIUS_M, HEAD_RADIUS_M, 67, 6))
    points, normals, faces, weights, rings = [], [], [], [], {}
    for parent, child, start, end, first, last, around, along in limbs:
        offset = sum(map(len, points))
        shape, out, triangles, share = _capsule(start, end, first, last, around, along)
        points.append(shape)
        normals.append(out)
        faces.append(triangles + offset)
        weights.append(_weights(parent, child, share))
        if child != head or parent != head:
            ring = np.arange(around) + offset + 1
            rings.setdefault(parent, ring + around * (along // 4))
            rings[child] = ring + around * (along - 1 - along // 4)
    return (*map(np.concatenate, (points, normals, faces, weights)), rings)


def _capsule(start, end, first, last, around, along):
    """Points, normals, triangles, and how far each point is from start (0) to end (1)."""
    axis = unit(end - start) if np.linalg.norm(end - start) > 1e-9 else np.array([0.0, 1.0, 0.0])
    _, side, third = frames_of(axis, np.eye(3)[np.abs(axis).argmin()]).T
    quarter = along // 4
    share = np.concatenate([np.zeros(quarter), np.linspace(0, 1, along - 2 * quarter), np.ones(quarter)])
    up = np.zeros(along)
    up[: quarter + 1] = np.linspace(-np.pi / 2, 0, quarter + 2)[1:]
    up[along - 1 - quarter :] = np.linspace(0, np.pi / 2, quarter + 2)[:-1]
    if not np.linalg.norm(end - start):  # a ball
        up = np.linspace(-np.pi / 2, np.pi / 2, along + 2)[1:-1]
    turn = np.arange(around) * 2 * np.pi / around
    ring = np.cos(turn)[:, None] * side + np.sin(turn)[:, None] * third
    out = np.cos(up)[:, None, None] * ring + np.sin(up)[:, None, None] * axis
    size = first + share * (last - first)
    centre = start + share[:, None] * (end - start)
    shape = centre[:, None] + size[:, None, None] * out
    points = np.concatenate([[start - first * axis], shape.reshape(-1, 3), [end + last * axis]])
    normals = np.concatenate([[-axis], out.reshape(-1, 3), [axis]])
    corner = 1 + np.arange(along * around).reshape(along, around)
    a, b = corner[:-1], corner[1:]
    c, d = np.roll(a, -1, 1), np.roll(b, -1, 1)
    tip = np.full(around, len(points) - 1)
    triangles = [
        np.stack([a, c, d], -1),
        np.stack([a, d, b], -1),
        np.stack([0 * tip, np.roll(corner[0], -1), corner[0]], -1),
        np.stack([tip, corner[-1], np.roll(corner[-1], -1)], -1),
    ]
    return (
        points,
        normals,
        np.concatenate([part.reshape(-1, 3) for part in triangles]),
        np.concatenate([[0], np.repeat(share, around), [1]]),
    )


def _weights(parent, child, share):
    """Skinning weights: a limb hangs on its parent joint, and on the joints at both ends near them."""
    weights = np.zeros((len(share), 24))
    weights[:, parent] = 1
    for joint, near in ((SMPL_24.parents[parent], 0.5 - 2 * share), (child, 2 * share - 1.5)):
        if joint >= 0 and joint != parent:
            weights[:, joint] += np.clip(near, 0, 0.5)
    return weights / weights.sum(1, keepdims=True)


def save_npz(path, gender="male", **changes):
    """Write the model as a .npz; returns its path."""
    np.savez(path, **{**smpl_arrays(gender), **changes})
    return path


def chumpy_pickle(gender="male", protocol=2, **changes):
    """Bytes of the model as distributed: chumpy arrays, one of them a selection, and a sparse matrix."""
    arrays = {**smpl_arrays(gender), **changes}
    package, module, other = (types.ModuleType(f"chumpy{end}") for end in ("", ".ch", ".reordering"))

    class Ch:
        def __init__(self, x):
            self.x = x

    class Select:
        def __init__(self, a, idxs, preferred_shape):
            self.a, self.idxs, self.preferred_shape = a, idxs, preferred_shape

    for kind, home in ((Ch, module), (Select, other)):
        kind.__module__, kind.__qualname__ = home.__name__, kind.__name__
        setattr(home, kind.__name__, kind)
    content = {key: Ch(arrays[key]) for key in ("v_template", "posedirs", "weights")}
    shapes = arrays["shapedirs"]
    more = np.concatenate([shapes.ravel(), np.zeros(3)])
    content["shapedirs"] = Select(Ch(more), np.arange(shapes.size), shapes.shape)
    content["J_regressor"] = csc_matrix(arrays["J_regressor"])
    content |= {key: arrays[key] for key in ("kintree_table", "f")}
    content |= {"bs_style": "lbs", "bs_type": "lrotmin"}
    modules = {m.__name__: m for m in (package, module, other)}
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        return pickle.dumps(content, protocol)
    finally:
        for name, there in before.items():
            sys.modules.pop(name)
            if there is not None:
                sys.modules[name] = there
