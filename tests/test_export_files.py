"""Files for other programs, read back by readers that are not ours."""

import bvhio
import numpy as np
import pygltflib
import pytest
from scipy.spatial.transform import Rotation

from datasets.smpl import rest_joints
from tests.test_export import dance
from utils.export import fit_body, fitted_joints, write_bvh, write_glb
from utils.export.bvh import PER_METRE, euler_zxy
from utils.export.capsules import capsule
from utils.skeleton import SMPL_24

KINDS = {5121: np.uint8, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
WIDTHS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}


@pytest.fixture(scope="module")
def fit():
    joints = dance(40)
    return fit_body(joints + np.random.default_rng(0).normal(0, 0.003, joints.shape), rest_joints())


@pytest.mark.parametrize("unit", ["cm", "m"])
def test_bvh_gives_the_same_joints_to_another_reader(tmp_path, fit, unit):
    write_bvh(tmp_path / "a.bvh", fit, 60, unit=unit)
    plain = bvhio.readAsBvh(str(tmp_path / "a.bvh"))
    assert plain.FrameCount == 40
    assert plain.FrameTime == pytest.approx(1 / 60, abs=1e-7)
    root = bvhio.readAsHierarchy(str(tmp_path / "a.bvh"))
    named = {joint.Name: joint for joint, _, _ in root.layout()}
    assert set(named) == set(SMPL_24.joints)
    expected = fitted_joints(fit)
    for frame in (0, 7, 21, 39):
        root.loadPose(frame, recursive=True)
        found = np.array([list(named[name].PositionWorld) for name in SMPL_24.joints]) / PER_METRE[unit]
        assert np.linalg.norm(found - expected[frame], axis=-1).max() < 1e-3


def test_bvh_angles_do_not_jump():
    t = np.linspace(0, 4 * np.pi, 400)
    angles = np.stack([0.3 * np.sin(t), 1.4 * np.sin(t), 1.5 * t], -1)  # two whole turns about y
    turns = Rotation.from_euler("ZXY", angles).as_matrix()[:, None]
    found = euler_zxy(turns)
    assert np.abs(np.diff(found, axis=0)).max() < 10
    again = Rotation.from_euler("ZXY", found[:, 0], degrees=True).as_matrix()
    np.testing.assert_allclose(again, turns[:, 0], atol=1e-9)
    locked = Rotation.from_matrix([[[1, 0, 0], [0, 0, -1], [0, 1, 0]]]).as_matrix()[:, None]  # x at 90°
    again = Rotation.from_euler("ZXY", euler_zxy(locked)[:, 0], degrees=True).as_matrix()
    np.testing.assert_allclose(again, locked[:, 0], atol=1e-7)


def test_bvh_refuses_odd_units(tmp_path, fit):
    with pytest.raises(ValueError, match="inch"):
        write_bvh(tmp_path / "a.bvh", fit, unit="inch")
    assert not list(tmp_path.iterdir())


def accessor(file, number):
    """The array of an accessor, checked against what is said of it."""
    a = file.accessors[number]
    view = file.bufferViews[a.bufferView]
    kind, width = KINDS[a.componentType], WIDTHS[a.type]
    offset = (view.byteOffset or 0) + (a.byteOffset or 0)
    assert offset % 4 == 0
    assert view.byteLength == a.count * width * np.dtype(kind).itemsize
    assert (view.byteOffset or 0) + view.byteLength <= file.buffers[0].byteLength
    values = np.frombuffer(file.binary_blob(), kind, a.count * width, offset).reshape(a.count, width)
    if a.min:
        np.testing.assert_array_equal(values.min(0), np.array(a.min, kind))
        np.testing.assert_array_equal(values.max(0), np.array(a.max, kind))
    return values


def pose(file, frame=None):
    """World matrices (J, 4, 4) of the nodes that are joints, at rest or at a key frame."""
    placed = {}
    moved = {}
    if frame is not None:
        animation = file.animations[0]
        for channel in animation.channels:
            sampler = animation.samplers[channel.sampler]
            moved[channel.target.node, channel.target.path] = accessor(file, sampler.output)[frame]

    def walk(node, above):
        own = np.eye(4)
        own[:3, 3] = moved.get((node, "translation"), file.nodes[node].translation)
        own[:3, :3] = Rotation.from_quat(moved.get((node, "rotation"), [0, 0, 0, 1])).as_matrix()
        placed[node] = above @ own
        for child in file.nodes[node].children or []:
            walk(child, placed[node])

    walk(file.skins[0].skeleton, np.eye(4))
    return np.stack([placed[joint] for joint in file.skins[0].joints])


def test_glb_gives_the_same_joints_to_another_reader(tmp_path, fit):
    write_glb(tmp_path / "a.glb", fit, 60, name="test")
    file = pygltflib.GLTF2().load(str(tmp_path / "a.glb"))
    for number in range(len(file.accessors)):
        accessor(file, number)
    assert [file.nodes[joint].name for joint in file.skins[0].joints] == list(SMPL_24.joints)
    assert file.animations[0].name == "test"
    clock = accessor(file, file.animations[0].samplers[0].input)[:, 0]
    np.testing.assert_allclose(clock, np.arange(40) / 60, atol=1e-6)
    assert file.accessors[file.animations[0].samplers[0].input].min == [0.0]
    assert file.accessors[file.meshes[0].primitives[0].attributes.POSITION].min
    expected = fitted_joints(fit)
    for frame in (0, 13, 39):
        found = pose(file, frame)[:, :3, 3]
        assert np.linalg.norm(found - expected[frame], axis=-1).max() < 1e-3
    size = (tmp_path / "a.glb").stat().st_size
    assert size % 4 == 0


def test_glb_skin_moves_with_the_bones(tmp_path, fit):
    write_glb(tmp_path / "a.glb", fit)
    file = pygltflib.GLTF2().load(str(tmp_path / "a.glb"))
    inverse = accessor(file, file.skins[0].inverseBindMatrices).reshape(-1, 4, 4).transpose(0, 2, 1)
    np.testing.assert_allclose(
        pose(file) @ inverse, np.tile(np.eye(4), (24, 1, 1)), atol=1e-6
    )  # rest is bind
    parts = file.meshes[0].primitives
    assert [file.materials[p.material].name for p in parts] == ["upper", "lower"]
    colours = [material.pbrMetallicRoughness.baseColorFactor for material in file.materials]
    assert colours[0] != colours[1]
    points = accessor(file, parts[0].attributes.POSITION)
    normals = accessor(file, parts[0].attributes.NORMAL)
    joints = accessor(file, parts[0].attributes.JOINTS_0)
    weights = accessor(file, parts[0].attributes.WEIGHTS_0)
    np.testing.assert_allclose(weights.sum(1), 1)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
    assert joints.max() < 24
    used = np.concatenate([accessor(file, p.indices)[:, 0] for p in parts])
    assert used.max() < len(points)
    # at any frame each vertex is as near to the body's bones as a capsule is thick
    body = fitted_joints(fit)[20]
    world = (pose(file, 20) @ inverse)[joints[:, 0]]
    moved = np.einsum("vij,vj->vi", world[:, :3, :3], points) + world[:, :3, 3]
    a, b = (body[list(ends)] for ends in zip(*SMPL_24.bones, strict=True))
    along = (b - a)[None]
    share = np.clip(((moved[:, None] - a) * along).sum(-1) / (along**2).sum(-1), 0, 1)
    distance = np.linalg.norm(moved[:, None] - a - share[..., None] * along, axis=-1).min(1)
    assert distance.max() < 0.2
    assert np.median(distance) > 0.01
    # triangles look outwards
    for part in parts:
        corners = accessor(file, part.indices)[:, 0].reshape(-1, 3)
        p = points[corners]
        face = np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0])
        assert ((face * normals[corners].mean(1)).sum(-1) > 0).mean() > 0.99


def test_glb_with_fewer_frames_keeps_the_last(tmp_path, fit):
    write_glb(tmp_path / "a.glb", fit, 60, every=4)
    file = pygltflib.GLTF2().load(str(tmp_path / "a.glb"))
    clock = accessor(file, file.animations[0].samplers[0].input)[:, 0]
    np.testing.assert_allclose(clock * 60, [*range(0, 40, 4), 39], atol=1e-4)
    with pytest.raises(ValueError, match="every"):
        write_glb(tmp_path / "b.glb", fit, every=0)


def test_capsules_are_closed_and_round():
    start, end = np.zeros(3), np.array([0.0, 0.5, 0.0])
    points, normals, faces = capsule(start, end, 0.1, 0.05)
    low = points[:, 1] < 0
    np.testing.assert_allclose(np.linalg.norm(points[low], axis=-1), 0.1, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1)
    places = np.unique(points.round(9), axis=0, return_inverse=True)[1].reshape(-1)[faces]
    edges = np.concatenate([places[:, [0, 1]], places[:, [1, 2]], places[:, [2, 0]]])
    there = {tuple(edge) for edge in edges.tolist()}
    assert all((b, a) in there for a, b in there)  # every edge has a triangle on either side
