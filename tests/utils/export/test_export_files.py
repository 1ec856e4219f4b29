"""Files for other programs, read back by readers that are not ours."""

import bvhio
import numpy as np
import pygltflib
import pytest
from scipy.spatial.transform import Rotation

from tests.helpers import ROOT
from tests.utils.export.test_export import dance
from utils.export import fit_body, fitted_joints, write_bvh, write_glb
from utils.export.bvh import PER_METRE
from utils.export.euler import ORDERS, _nearest, _principal, euler_angles
from utils.export.gltf import capsule
from utils.export.names import TABLES
from utils.skeleton import SMPL_24
from utils.smpl import rest_joints

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
    assert set(named) == {"root", *SMPL_24.joints}
    expected = fitted_joints(fit)
    for frame in (0, 7, 21, 39):
        root.loadPose(frame, recursive=True)
        found = np.array([list(named[name].PositionWorld) for name in SMPL_24.joints]) / PER_METRE[unit]
        assert np.linalg.norm(found - expected[frame], axis=-1).max() < 1e-3


def angles_in(turns, order):
    """Angles (T, J, 3) in degrees of rotations (T, J, 3, 3), each nearest to those of the frame before."""
    return np.degrees(_nearest(_principal(turns, order)))


@pytest.mark.parametrize("order", ORDERS)
def test_angles_do_not_jump(order):
    t = np.linspace(0, 4 * np.pi, 400)
    angles = np.stack([0.3 * np.sin(t), 1.4 * np.sin(t), 1.5 * t], -1)  # two whole turns about the last
    turns = Rotation.from_euler(order, angles).as_matrix()[:, None]
    found = angles_in(turns, order)
    assert np.abs(np.diff(found, axis=0)).max() < 10
    again = Rotation.from_euler(order, found[:, 0], degrees=True).as_matrix()
    np.testing.assert_allclose(again, turns[:, 0], atol=1e-9)
    for right_angle in (90, -90):
        locked = Rotation.from_euler(order, [[20, right_angle, 35]], degrees=True).as_matrix()[:, None]
        again = Rotation.from_euler(order, angles_in(locked, order)[:, 0], degrees=True).as_matrix()
        np.testing.assert_allclose(again, locked[:, 0], atol=1e-7)


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_the_order_of_angles_stays_away_from_its_singularity(axis, every):
    """A joint near 90 degrees about one axis, which wobbles about the others: no order fits every axis."""
    t = np.arange(240)[:, None] / 60
    wobble = 0.12 * np.sin(2 * np.pi * t * [0.9, 1.1, 1.3] + [0, 1, 2])
    turns = Rotation.from_euler(axis, 88.0, degrees=True) * Rotation.from_rotvec(wobble)
    angles = euler_angles(turns.as_quat()[:, None], every)
    moved = np.degrees((turns[:-every].inv() * turns[every:]).magnitude().max())
    assert np.abs(np.diff(angles.degrees[::every], axis=0)).max() < 2 * moved
    assert angles.halfway.max() < 0.2
    middle = (angles.degrees[::every][:-1, 0] + angles.degrees[::every][1:, 0]) / 2
    middle = Rotation.from_euler(angles.orders[0], middle, degrees=True)
    half = turns[::every][:-1] * Rotation.from_rotvec(
        (turns[::every][:-1].inv() * turns[::every][1:]).as_rotvec() / 2
    )
    assert np.degrees((middle.inv() * half).magnitude().max()) == pytest.approx(angles.halfway[0], abs=1e-3)
    worst = max(
        np.abs(np.diff(angles_in(turns.as_matrix()[:, None], order)[::every], axis=0)).max()
        for order in ORDERS
    )
    assert worst > 4 * moved  # the choice matters


def test_bvh_with_fewer_frames_keeps_its_time(tmp_path, fit):
    write_bvh(tmp_path / "a.bvh", fit, 60, every=4)
    plain = bvhio.readAsBvh(str(tmp_path / "a.bvh"))
    assert plain.FrameCount == 10
    assert plain.FrameTime == pytest.approx(4 / 60, abs=1e-9)
    root = bvhio.readAsHierarchy(str(tmp_path / "a.bvh"))
    named = {joint.Name: joint for joint, _, _ in root.layout()}
    root.loadPose(5, recursive=True)
    found = np.array([list(named[name].PositionWorld) for name in SMPL_24.joints]) / 100
    assert np.linalg.norm(found - fitted_joints(fit)[20], axis=-1).max() < 1e-3
    with pytest.raises(ValueError, match="every"):
        write_bvh(tmp_path / "b.bvh", fit, every=0)


def ground_node(path):
    """Where the root is in each frame, and where the pelvis, in metres, as other readers find them."""
    if path.suffix == ".bvh":
        root = bvhio.readAsHierarchy(str(path))
        named = {joint.Name: joint for joint, _, _ in root.layout()}
        places = []
        for frame in range(40):
            root.loadPose(frame, recursive=True)
            places.append([list(named[name].PositionWorld) for name in ("root", "pelvis")])
        return np.array(places) / 100
    file = pygltflib.GLTF2().load(str(path))
    return np.array([pose(file, frame)[:2, :3, 3] for frame in range(40)])


@pytest.mark.parametrize(("write", "suffix"), [(write_bvh, ".bvh"), (write_glb, ".glb")])
def test_a_root_on_the_ground_carries_the_pelvis(tmp_path, fit, write, suffix):
    write(tmp_path / f"a{suffix}", fit)
    root, pelvis = np.moveaxis(ground_node(tmp_path / f"a{suffix}"), 1, 0)
    np.testing.assert_allclose(root[:, 1], 0, atol=1e-6)
    np.testing.assert_allclose(root[:, [0, 2]], fit.root[:, [0, 2]], atol=1e-5)
    np.testing.assert_allclose(pelvis, fit.root, atol=1e-5)
    write(tmp_path / f"b{suffix}", fit, in_place=True)
    root, pelvis = np.moveaxis(ground_node(tmp_path / f"b{suffix}"), 1, 0)
    np.testing.assert_allclose(root, 0, atol=1e-6)
    np.testing.assert_allclose(pelvis, fit.root * [0, 1, 0], atol=1e-5)


@pytest.mark.parametrize("names", TABLES)
def test_names_of_other_programs(tmp_path, fit, names):
    write_bvh(tmp_path / "a.bvh", fit, names=names)
    write_glb(tmp_path / "a.glb", fit, names=names)
    found = {joint.Name for joint, _, _ in bvhio.readAsHierarchy(str(tmp_path / "a.bvh")).layout()}
    file = pygltflib.GLTF2().load(str(tmp_path / "a.glb"))
    assert {file.nodes[joint].name for joint in file.skins[0].joints} == found
    assert found == {"root", *TABLES[names].values()}
    assert len(found) == 25
    left = [name for name in TABLES[names].values() if "left" in name.lower()]
    assert {TABLES[names][joint] for joint in SMPL_24.joints if "left" in joint} == set(left)
    table = (ROOT / "docs" / "BLENDER.md").read_text()
    for joint, name in TABLES[names].items():
        (row,) = [line for line in table.splitlines() if line.startswith(f"| `{joint}` |")]
        assert f"| `{name}` |" in row


def test_unknown_names_are_refused(tmp_path, fit):
    with pytest.raises(ValueError, match="unreal"):
        write_bvh(tmp_path / "a.bvh", fit, names="unreal")
    with pytest.raises(ValueError, match="smpl, mixamo, vrm"):
        write_glb(tmp_path / "a.glb", fit, names="unreal")


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
    assert [file.nodes[joint].name for joint in file.skins[0].joints] == ["root", *SMPL_24.joints]
    assert file.animations[0].name == "test"
    clock = accessor(file, file.animations[0].samplers[0].input)[:, 0]
    np.testing.assert_allclose(clock, np.arange(40) / 60, atol=1e-6)
    assert file.accessors[file.animations[0].samplers[0].input].min == [0.0]
    assert file.accessors[file.meshes[0].primitives[0].attributes.POSITION].min
    expected = fitted_joints(fit)
    for frame in (0, 13, 39):
        found = pose(file, frame)[1:, :3, 3]
        assert np.linalg.norm(found - expected[frame], axis=-1).max() < 1e-3
    size = (tmp_path / "a.glb").stat().st_size
    assert size % 4 == 0


def test_glb_skin_moves_with_the_bones(tmp_path, fit):
    write_glb(tmp_path / "a.glb", fit)
    file = pygltflib.GLTF2().load(str(tmp_path / "a.glb"))
    inverse = accessor(file, file.skins[0].inverseBindMatrices).reshape(-1, 4, 4).transpose(0, 2, 1)
    np.testing.assert_allclose(
        pose(file) @ inverse, np.tile(np.eye(4), (25, 1, 1)), atol=1e-6
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
    assert 1 <= joints[:, 0].min() <= joints[:, 0].max() <= 24  # nothing hangs on the root
    used = np.concatenate([accessor(file, p.indices)[:, 0] for p in parts])
    assert used.max() < len(points)
    assert points[:, 1].min() == pytest.approx(0, abs=1e-6)  # at rest it stands on the ground
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
