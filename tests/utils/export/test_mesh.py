"""SMPL's mesh as .glb, read back by a reader that is not ours and skinned here as glTF says."""

import numpy as np
import pygltflib
import pytest
from scipy.spatial.transform import Rotation

from tests.body_models import save_npz, smpl_arrays
from tests.utils.export.test_export import dance
from tests.utils.export.test_export_files import accessor, pose
from utils.body_model import BodyMotion, load_body_model
from utils.dance import Dance, save_dance
from utils.export.__main__ import main
from utils.export.mesh import principal_corrections, write_mesh
from utils.export.names import TABLES
from utils.skeleton import SMPL_24

FRAMES = 40


def motion(model, size=1.1, bend=0.3):
    """A body that moves all its joints, hands and head too."""
    rng, t = np.random.default_rng(3), np.arange(FRAMES)[:, None, None] / 60
    poses = bend * np.sin(2 * np.pi * rng.uniform(0.3, 1.5, (24, 3)) * t + rng.uniform(0, 6, (24, 3)))
    poses[:, 0, 1] += 3 * t[:, 0, 0]
    turns = Rotation.from_rotvec(poses.reshape(-1, 3)).as_quat().reshape(FRAMES, 24, 4)
    root = np.stack([t[:, 0, 0], 0.95 + 0.1 * np.sin(5 * t[:, 0, 0]), -0.5 * t[:, 0, 0]], -1)
    return BodyMotion(model, turns, root, size)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_body_model(save_npz(tmp_path_factory.mktemp("smpl") / "SMPL_MALE.npz"), betas=(1.0, 0.5))


def skinned(file, frame, morphed=True):
    """Vertices (V, 3) at a key frame by the rules of glTF: morph targets, then all groups of influences."""
    part = file.meshes[0].primitives[0]
    points = accessor(file, part.attributes.POSITION).astype(np.float64)
    for channel in file.animations[0].channels if morphed else []:
        if channel.target.path == "weights":
            assert file.nodes[channel.target.node].mesh == 0
            weights = accessor(file, file.animations[0].samplers[channel.sampler].output)
            for target, weight in zip(part.targets, weights.reshape(FRAMES, -1)[frame], strict=True):
                points = points + weight * accessor(file, target["POSITION"])
    inverse = accessor(file, file.skins[0].inverseBindMatrices).reshape(-1, 4, 4).transpose(0, 2, 1)
    turns = pose(file, frame) @ inverse
    blend = np.zeros((len(points), 4, 4))
    for group in (0, 1):
        if (joints := getattr(part.attributes, f"JOINTS_{group}", None)) is not None:
            share = accessor(file, getattr(part.attributes, f"WEIGHTS_{group}"))
            blend += np.einsum("vk,vkij->vij", share, turns[accessor(file, joints)])
    return np.einsum("vij,vj->vi", blend[:, :3, :3], points) + blend[:, :3, 3]


@pytest.mark.parametrize("size", [1.0, 1.1])
def test_the_skinned_vertices_are_those_of_smplx(model, tmp_path, size):
    body = motion(model, size)
    write_mesh(tmp_path / "a.glb", body, 60)
    file = pygltflib.GLTF2().load(str(tmp_path / "a.glb"))
    for number in range(len(file.accessors)):
        accessor(file, number)
    uncorrected = 0.0
    for frame in (0, 17, FRAMES - 1):
        expected = body.vertices(slice(frame, frame + 1))[0]
        found = skinned(file, frame)
        assert np.linalg.norm(found - expected, axis=1).max() < 6e-4
        plain = skinned(file, frame, morphed=False)
        uncorrected = max(uncorrected, np.linalg.norm(plain - expected, axis=1).max())
    assert uncorrected > 3e-3  # the corrections are there


def test_corrections_are_few_and_those_of_smplx(model, monkeypatch):
    body = motion(model, 1.0)
    monkeypatch.setattr("utils.export.mesh._CHUNK", 7)
    few = principal_corrections(body)
    assert 1 <= len(few.targets) < 60
    assert few.weights.min() == pytest.approx(0, abs=1e-9)
    assert few.weights.max() == pytest.approx(1)
    still = BodyMotion(model, np.tile([0.0, 0, 0, 1], (1, 24, 1)), np.zeros((1, 3)))
    assert len(principal_corrections(still).targets) == 0
    features = (body.matrices()[:, 1:] - np.eye(3)).reshape(FRAMES, -1)
    expected = features @ smpl_arrays()["posedirs"].reshape(-1, 207).T
    found = few.weights @ few.targets.reshape(len(few.targets), -1)
    assert np.linalg.norm((found - expected).reshape(-1, 3), axis=-1).max() < 6e-4
    assert np.linalg.norm(expected.reshape(-1, 3), axis=-1).max() > 5e-3


def test_more_than_four_influences_are_all_written(tmp_path):
    weights = np.random.default_rng(0).uniform(0, 1, (6890, 24))
    weights[np.argsort(weights, 1) < 18] = 0  # six joints a vertex
    weights /= weights.sum(1, keepdims=True)
    path = save_npz(tmp_path / "SMPL_MALE.npz", weights=weights, posedirs=np.zeros((6890, 3, 207)))
    body = motion(load_body_model(path))
    write_mesh(tmp_path / "a.glb", body)
    file = pygltflib.GLTF2().load(str(tmp_path / "a.glb"))
    part = file.meshes[0].primitives[0]
    assert part.attributes.JOINTS_1 is not None
    assert not part.targets
    np.testing.assert_allclose(skinned(file, 20), body.vertices(slice(20, 21))[0], atol=2e-5)


def test_it_has_the_conventions_of_the_other_figure(model, tmp_path):
    body = motion(model)
    write_mesh(tmp_path / "a.glb", body, 60, name="test", names="mixamo", every=4, in_place=True)
    file = pygltflib.GLTF2().load(str(tmp_path / "a.glb"))
    named = [TABLES["mixamo"][joint] for joint in SMPL_24.joints]
    assert [file.nodes[joint].name for joint in file.skins[0].joints] == ["root", *named]
    assert file.animations[0].name == "test"
    clock = accessor(file, file.animations[0].samplers[0].input)[:, 0]
    np.testing.assert_allclose(clock * 60, [*range(0, FRAMES, 4), FRAMES - 1], atol=1e-4)
    np.testing.assert_allclose(pose(file, 2)[:2, [0, 2], 3], 0, atol=1e-6)
    assert pose(file, 2)[1, 1, 3] == pytest.approx(body.root[8, 1], abs=1e-5)
    parts = file.meshes[0].primitives
    assert [file.materials[part.material].name for part in parts] == ["upper", "lower"]
    points = accessor(file, parts[0].attributes.POSITION)
    assert points[:, 1].min() == pytest.approx(0, abs=1e-6)  # at rest it stands on the ground
    faces = np.concatenate([accessor(file, part.indices).reshape(-1, 3) for part in parts])
    assert {tuple(face) for face in faces} == {tuple(face) for face in model.faces}
    normals = accessor(file, parts[0].attributes.NORMAL)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
    a, b, c = points[faces].transpose(1, 0, 2)
    assert ((np.cross(b - a, c - a) * normals[faces].mean(1)).sum(-1) > 0).mean() > 0.99
    count = len(file.meshes[0].weights)
    assert len(parts[0].targets) == len(parts[1].targets) == count
    assert len(file.meshes[0].extras["targetNames"]) == count


def test_unusable_rates_are_refused(model, tmp_path):
    with pytest.raises(ValueError, match="every at least 1"):
        write_mesh(tmp_path / "a.glb", motion(model), every=0)
    assert not list(tmp_path.iterdir())


def test_the_command_writes_the_mesh_of_the_model(tmp_path, capsys):
    save_dance(tmp_path / "one.npz", Dance("one", dance(30).astype(np.float32)))
    save_npz(tmp_path / "SMPL_MALE.npz")
    command = [str(tmp_path / "one.npz"), "--glb", "--out", str(tmp_path / "out")]
    assert main([*command, "--body-model", str(tmp_path), "--betas", "0.5", "-1"]) == 0
    told = capsys.readouterr().out
    assert "one (SMPL body x " in told
    file = pygltflib.GLTF2().load(str(tmp_path / "out" / "one.glb"))
    assert file.accessors[file.meshes[0].primitives[0].attributes.POSITION].count == 6890
    for options, message in (
        (("--body-model", str(tmp_path), "--gender", "female"), "no female SMPL model in"),
        (("--body-model", str(tmp_path / "none")), "there is no file or folder"),
        (("--betas", "1"), "describe the body of --body-model"),
        (("--gender", "neutral"), "describe the body of --body-model"),
    ):
        assert main([*command, *options]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
