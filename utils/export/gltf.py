"""glTF 2.0 in one binary file (.glb): a skinned, animated figure for Blender, game engines and browsers.

A node `root` on the ground, which carries the pelvis' x and z, and one node per joint below it; one mesh of
capsules, upper and lower half in a colour each; one animation with the rotation of each joint that moves, the
place of the root and the height of the pelvis. Metres, y up, facing +z.
Source: Khronos Group, glTF 2.0 specification.
"""

import json
import math
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from utils.export.align import frames_of, unit
from utils.export.chain import children, forward, ground_track
from utils.export.fit import Fit
from utils.export.names import ROOT, Names, joint_names
from utils.files import write_beside
from utils.limbs import HEAD_BEYOND_M, HEAD_RADIUS_M, limb_radii
from utils.skeleton import SMPL_24, Skeleton

COLOURS = {"upper": (1.0, 0.23, 0.06), "lower": (0.02, 0.39, 0.83)}  # linear RGB
_TYPES = {np.dtype("f4"): 5126, np.dtype("u1"): 5121, np.dtype("u2"): 5123, np.dtype("u4"): 5125}
_SHAPES = {(): "SCALAR", (3,): "VEC3", (4,): "VEC4", (16,): "MAT4"}
VERTICES, INDICES = 34962, 34963
_ROUND, _CAP = 12, 3  # corners around a limb; rings on each of its ends


class Buffer:
    """The binary part, and the accessors that describe it."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict[str, int]] = []
        self.accessors: list[dict[str, Any]] = []

    def add(self, array: np.ndarray, target: int | None = None, bounds: bool = False) -> int:
        """Append an array; returns the number of its accessor."""
        self.data += bytes(-len(self.data) % 4)
        view = {"buffer": 0, "byteOffset": len(self.data), "byteLength": array.nbytes}
        self.views.append(view | ({} if target is None else {"target": target}))
        self.data += np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()
        accessor: dict[str, Any] = {
            "bufferView": len(self.views) - 1,
            "componentType": _TYPES[array.dtype],
            "count": len(array),
            "type": _SHAPES[array.shape[1:]],
        }
        if bounds:
            low, high = (np.atleast_1d(edge(array, axis=0)).tolist() for edge in (np.min, np.max))
            accessor |= {"min": low, "max": high}
        self.accessors.append(accessor)
        return len(self.accessors) - 1


def write_glb(
    path: Path,
    fit: Fit,
    fps: float = SMPL_24.fps,
    *,
    every: int = 1,
    name: str = "dance",
    names: Names = "smpl",
    in_place: bool = False,
    skeleton: Skeleton = SMPL_24,
) -> None:
    """Write a dance as .glb.

    Args:
        path: of the file.
        fit: the dance.
        fps: frames per second of the dance.
        every: keep each n-th frame (and the last); what lies between is interpolated by whoever plays it.
        name: of the animation.
        names: whose names the joints get.
        in_place: whether the dancer stays over the origin, without the path on the ground.
        skeleton: names of the joints.

    Raises:
        ValueError: if the frame rate is not positive, `every` is below 1, or the names are not usable.
    """
    num = skeleton.num_joints
    still = np.tile(np.eye(3), (1, num, 1, 1))
    rest = forward(still, np.zeros((1, 3)), fit.offsets, skeleton)[0][0]
    rest[:, 1] -= skin_of(rest, skeleton).points[:, 1].min()  # at rest the soles stand on the ground
    buffer = Buffer()
    turns = np.abs(fit.rotations[..., :3]).max((0, 2)) > 0  # a fit leaves joints without children as they are
    turning = [joint for joint, kids in enumerate(children(skeleton)) if kids or turns[joint]]
    animation = animate(
        buffer, fit.rotations, fit.root, turning, fps, every=every, name=name, in_place=in_place
    )
    mesh = _mesh(buffer, rest, skeleton)
    save_glb(path, buffer, rest, mesh, animation, skeleton, joint_names(names, skeleton))


def save_glb(
    path: Path,
    buffer: Buffer,
    rest: np.ndarray,
    mesh: dict[str, Any],
    animation: dict[str, Any],
    skeleton: Skeleton,
    names: Sequence[str],
) -> None:
    """Write a skinned figure: a node on the ground, one per joint below it, a mesh and an animation.

    Args:
        path: of the .glb.
        buffer: with the arrays of mesh and animation.
        rest: (J, 3) joints at rest, metres, the pelvis above the origin.
        mesh: the glTF object; its skin has the node on the ground first, then the joints.
        animation: the glTF object, of `animate`.
        skeleton: the tree of joints.
        names: of the joints in the file.
    """
    num = skeleton.num_joints
    nodes: list[dict[str, Any]] = [{"name": ROOT, "translation": [0.0, 0.0, 0.0], "children": [1]}]
    for joint, kids in enumerate(children(skeleton)):  # node of a joint: one after its number
        place = rest[0] if joint == 0 else rest[joint] - rest[skeleton.parents[joint]]
        node = {"name": names[joint], "translation": np.float32(place).tolist()}
        nodes.append(node | ({"children": [kid + 1 for kid in kids]} if kids else {}))
    nodes.append({"name": "dancer", "mesh": 0, "skin": 0})
    inverse = _inverse(buffer, np.concatenate([np.zeros((1, 3)), rest]))
    content = {
        "asset": {"version": "2.0", "generator": "utils.export"},
        "scene": 0,
        "scenes": [{"nodes": [0, num + 1]}],
        "nodes": nodes,
        "meshes": [mesh],
        "materials": [_material(half) for half in COLOURS],
        "skins": [{"joints": list(range(num + 1)), "skeleton": 0, "inverseBindMatrices": inverse}],
        "animations": [animation],
        "buffers": [{"byteLength": len(buffer.data)}],
        "bufferViews": buffer.views,
        "accessors": buffer.accessors,
    }
    text = json.dumps(content, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 4)
    binary = bytes(buffer.data) + bytes(-len(buffer.data) % 4)
    head = struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + len(binary))
    chunks = (
        struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    )
    write_beside(Path(path), head + chunks)


def _material(half: str) -> dict[str, Any]:
    look = {"baseColorFactor": [*COLOURS[half], 1.0], "metallicFactor": 0.0, "roughnessFactor": 0.7}
    return {"name": half, "pbrMetallicRoughness": look}


def _inverse(buffer: Buffer, rest: np.ndarray) -> int:
    """Matrices from the world to each joint at rest: minus the joint's position. Column-major."""
    matrices = np.tile(np.eye(4, dtype=np.float32), (len(rest), 1, 1))
    matrices[:, 3, :3] = -rest  # the transpose of a 4 x 4 whose last column is the translation
    return buffer.add(matrices.reshape(-1, 16))


def _mesh(buffer: Buffer, rest: np.ndarray, skeleton: Skeleton) -> dict[str, Any]:
    skin = skin_of(rest, skeleton)
    joints, weights = np.zeros((len(skin.points), 4), np.uint8), np.zeros((len(skin.points), 4), np.float32)
    joints[:, 0], weights[:, 0] = skin.joints + 1, 1.0  # the first of the skin's joints is the root
    attributes = {
        "POSITION": buffer.add(skin.points.astype(np.float32), VERTICES, bounds=True),
        "NORMAL": buffer.add(skin.normals.astype(np.float32), VERTICES),
        "JOINTS_0": buffer.add(joints, VERTICES),
        "WEIGHTS_0": buffer.add(weights, VERTICES),
    }
    kind = np.uint16 if len(skin.points) < 2**16 - 1 else np.uint32
    parts = [
        {
            "attributes": attributes,
            "indices": buffer.add(skin.faces[half].reshape(-1).astype(kind), INDICES),
            "material": material,
        }
        for material, half in enumerate(COLOURS)
        if half in skin.faces
    ]
    return {"name": "dancer", "primitives": parts}


def animate(
    buffer: Buffer,
    rotations: np.ndarray,
    root: np.ndarray,
    turning: Sequence[int],
    fps: float,
    *,
    every: int,
    name: str,
    in_place: bool,
    morphs: np.ndarray | None = None,
) -> dict[str, Any]:
    """The glTF object of an animation; its arrays are appended to the buffer.

    Args:
        buffer: of the file.
        rotations: (T, J, 4) unit quaternions x, y, z, w relative to the parent.
        root: (T, 3) place of the pelvis, metres.
        turning: the joints whose rotations are written.
        fps: frames per second of the dance.
        every: keep each n-th frame, and the last.
        name: of the animation.
        in_place: whether the dancer stays over the origin, without the path on the ground.
        morphs: (T, K) weights of the mesh's morph targets.

    Raises:
        ValueError: if the frame rate is not positive, or `every` is below 1.
    """
    if not fps > 0 or every < 1:
        raise ValueError(f"the frame rate must be positive and every at least 1, got {fps} and {every}")
    last = len(root) - 1
    kept = np.unique([*range(0, last + 1, every), last])
    times = (kept / fps).astype(np.float32)
    if not math.isfinite(float(times[-1])):
        raise ValueError(f"a frame rate of {fps} is of no use")
    clock = buffer.add(times, bounds=True)
    ground, pelvis = ground_track(root, in_place)
    tracks = [(0, "translation", ground), (1, "translation", pelvis)]
    tracks += [(joint + 1, "rotation", rotations[:, joint]) for joint in turning]
    if morphs is not None:
        tracks.append((rotations.shape[1] + 1, "weights", morphs))  # of the node after the joints
    samplers: list[dict[str, Any]] = []
    channels: list[dict[str, Any]] = []
    for joint, what, values in tracks:
        keys = values[kept].astype(np.float32)
        output = buffer.add(keys.reshape(-1) if what == "weights" else keys)
        channels.append({"sampler": len(samplers), "target": {"node": joint, "path": what}})
        samplers.append({"input": clock, "output": output, "interpolation": "LINEAR"})
    return {"name": name, "samplers": samplers, "channels": channels}


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
    points: list[np.ndarray] = []
    normals: list[np.ndarray] = []
    joints: list[np.ndarray] = []
    faces: dict[str, list[np.ndarray]] = {"upper": [], "lower": []}
    limbs = [(p, c, rest[p], rest[c], radius[p], radius[c]) for p, c in skeleton.bones]
    if "head" in skeleton.joints:
        head = skeleton.index("head")
        middle = rest[head] + HEAD_BEYOND_M * unit(rest[head] - rest[skeleton.parents[head]])
        limbs.append((head, head, middle, middle, HEAD_RADIUS_M, HEAD_RADIUS_M))
    for joint, child, start, end, first, last in limbs:
        shape, out, triangles = capsule(start, end, first, last)
        half = "lower" if child in skeleton.lower else "upper"
        faces[half].append(triangles + sum(len(part) for part in points))
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
