"""SMPL's mesh in one binary file (.glb): skinned, animated, with the body's shape and its corrections.

Nodes, names, floor and animation are those of `utils.export.gltf`; the mesh is SMPL's at the dancer's size,
with SMPL's skinning weights. SMPL (Loper et al. 2015) corrects its vertices for the pose, then skins them.
Those corrections are morph targets here: the principal directions of this dance's corrections, as many as
bring every vertex within half a millimetre, each with a weight per key frame. glTF applies morph targets
before the skin, so that its vertices are SMPL's.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from utils.body_model import BodyModel, BodyMotion
from utils.export.align import unit
from utils.export.gltf import COLOURS, INDICES, VERTICES, Buffer, animate, save_glb
from utils.export.names import Names, joint_names
from utils.skeleton import SMPL_24

_EXACT = 5e-4  # metres: largest distance of a vertex from SMPL's
_JUDGED = 200  # number of frames, spread evenly over the dance, on which that is measured
_CHUNK = 4096  # frames processed at a time, so that an hour needs little more memory than a minute
_INFLUENCES = 4  # joints that one attribute of a vertex holds


class Corrections(NamedTuple):
    """Corrections of a dance's vertices for its poses, as morph targets.

    Attributes:
        targets: (K, V, 3) displacements at rest, metres.
        weights: (T, K) of each target in each frame, 0..1, as Blender clamps negative ones. The first target,
            whose weight is 1 throughout, makes up for what the others would need below 0.
    """

    targets: np.ndarray
    weights: np.ndarray


def write_mesh(
    path: Path,
    body: BodyMotion,
    fps: float = SMPL_24.fps,
    *,
    every: int = 1,
    name: str = "dance",
    names: Names = "smpl",
    in_place: bool = False,
) -> None:
    """Write a body in motion as .glb.

    Args:
        path: of the file.
        body: the dance.
        fps: frames per second of the dance.
        every: keep each n-th frame (and the last); what lies between is interpolated by whoever plays it.
        name: of the animation.
        names: whose names the joints get.
        in_place: whether the dancer stays over the origin, without the path on the ground.

    Raises:
        ValueError: if the frame rate is not positive, `every` is below 1, or the names are not usable.
    """
    model, named = body.model, joint_names(names)
    points = body.size * (model.rest_vertices - model.rest_joints[0])  # the pelvis above the origin
    rest = body.size * (model.rest_joints - model.rest_joints[0])
    sole = points[:, 1].min()  # at rest the soles stand on the ground
    points[:, 1] -= sole
    rest[:, 1] -= sole
    corrections = principal_corrections(body)
    buffer = Buffer()
    animation = animate(
        buffer, body.rotations, body.root, range(len(rest)), fps, every=every, name=name, in_place=in_place,
        morphs=corrections.weights if len(corrections.targets) else None,
    )  # fmt: skip
    mesh = _mesh(buffer, points, model, corrections.targets)
    save_glb(path, buffer, rest, mesh, animation, SMPL_24, named)


def principal_corrections(body: BodyMotion) -> Corrections:
    """The corrections of a dance in as few morph targets as half a millimetre allows."""
    num_frames, shape = len(body.root), body.model.rest_vertices.shape
    chunks = [slice(start, start + _CHUNK) for start in range(0, num_frames, _CHUNK)]
    # features @ directions = (features @ upper.T) @ orthogonal.T: the principal axes of few numbers per frame
    orthogonal, upper = np.linalg.qr(body.size * body.model.pose_directions.T.astype(np.float64))
    moments = np.zeros_like(upper)
    for chunk in chunks:
        coordinates = body.pose_features(chunk) @ upper.T
        moments += coordinates.T @ coordinates
    strengths, axes = np.linalg.eigh(moments)
    axes = axes[:, ::-1]  # the strongest first
    targets, onto = (orthogonal @ axes).T, upper.T @ axes
    judged = body.pose_features(slice(None, None, -(-num_frames // _JUDGED))) @ onto
    low, high = 0, int((strengths > 0).sum())
    while low < high:
        middle = (low + high) // 2
        left = judged[:, middle:] @ targets[middle:]
        enough = np.linalg.norm(left.reshape(-1, 3), axis=1).max() <= _EXACT
        low, high = (low, middle) if enough else (middle + 1, high)
    if not low:
        return Corrections(np.zeros((0, *shape)), np.zeros((num_frames, 0)))
    targets = targets[:low]
    weights = np.concatenate([body.pose_features(chunk) @ onto[:, :low] for chunk in chunks])
    least, span = weights.min(0), np.maximum(np.ptp(weights, axis=0), 1e-12)
    shapes = np.concatenate([(least @ targets)[None], span[:, None] * targets])
    shares = np.concatenate([np.ones((len(weights), 1)), (weights - least) / span], axis=1)
    return Corrections(shapes.reshape(len(shapes), *shape), shares)


def _mesh(buffer: Buffer, points: np.ndarray, model: BodyModel, targets: np.ndarray) -> dict[str, Any]:
    """The glTF object: a part for each half of the body, both with the vertices of the whole."""
    corners = points[model.faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(points)
    for corner in model.faces.T:
        np.add.at(normals, corner, across)
    normals = unit(normals)
    normals[~normals.any(1)] = (0.0, 1.0, 0.0)  # of vertices without a triangle
    attributes = {
        "POSITION": buffer.add(points.astype(np.float32), VERTICES, bounds=True),
        "NORMAL": buffer.add(normals.astype(np.float32), VERTICES),
        **_influences(buffer, model.weights),
    }
    shapes = [{"POSITION": buffer.add(shape.astype(np.float32), VERTICES, bounds=True)} for shape in targets]
    morphs = {"targets": shapes} if shapes else {}
    lower = np.isin(model.weights.argmax(1), SMPL_24.lower)[model.faces].sum(1) >= 2
    parts = [
        {
            "attributes": attributes,
            "indices": buffer.add(model.faces[chosen].reshape(-1).astype(np.uint16), INDICES),
            "material": list(COLOURS).index(half),
            **morphs,
        }
        for half, chosen in (("upper", ~lower), ("lower", lower))
        if chosen.any()
    ]
    mesh: dict[str, Any] = {"name": "dancer", "primitives": parts}
    if shapes:
        names = [f"correction_{number}" for number in range(len(shapes))]
        mesh |= {"weights": [0.0] * len(shapes), "extras": {"targetNames": names}}
    return mesh


def _influences(buffer: Buffer, weights: np.ndarray) -> dict[str, int]:
    """Accessors of the joints and weights (V, 24) of the vertices, in groups of four, the strongest first."""
    groups = -(-int((weights > 0).sum(1).max()) // _INFLUENCES)
    order = np.argsort(-weights, axis=1, kind="stable")[:, : groups * _INFLUENCES]
    strength = np.maximum(np.take_along_axis(weights, order, 1), 0).astype(np.float64)
    strength = (strength / strength.sum(1, keepdims=True)).astype(np.float32)
    joints = np.where(strength > 0, order + 1, 0).astype(np.uint8)  # the first of the skin's is the root
    attributes = {}
    for group in range(groups):
        chosen = slice(group * _INFLUENCES, (group + 1) * _INFLUENCES)
        attributes[f"JOINTS_{group}"] = buffer.add(np.ascontiguousarray(joints[:, chosen]), VERTICES)
        attributes[f"WEIGHTS_{group}"] = buffer.add(np.ascontiguousarray(strength[:, chosen]), VERTICES)
    return attributes
