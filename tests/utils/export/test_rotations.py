"""Dances with rotations: every format has them as they are, and no body is fitted."""

import pickle
from dataclasses import replace

import bvhio
import numpy as np
import pygltflib
import pytest
import torch
from scipy.spatial.transform import Rotation

from tests.helpers import real_data
from utils.dance import Dance, checked, load_dance, save_dance
from utils.dance_formats import WRITERS, WriterInput, WriterOptions
from utils.export import __main__ as command
from utils.export import body_of_rotations, fit, fitted_joints
from utils.export.smpl import resized
from utils.floor import on_ground
from utils.metrics.reading import read_dance, read_dances, read_recording
from utils.rotations import joints_of_rotations
from utils.skeleton import SMPL_24
from utils.smpl import rest_joints

FRAMES = 50


def vectors():
    """Axis-angle poses (T, 24, 3): smooth, twist of limbs included."""
    rng = np.random.default_rng(0)
    time = np.arange(FRAMES)[:, None, None] / 60
    return 0.5 * np.sin(2 * np.pi * (rng.uniform(0.3, 1, (24, 3)) * time + rng.uniform(0, 1, (24, 3))))


@pytest.fixture
def dance():
    rotations = Rotation.from_rotvec(vectors().reshape(-1, 3)).as_matrix().reshape(FRAMES, 24, 3, 3)
    time = np.arange(FRAMES) / 60
    root = np.stack([np.sin(time), 0.9 + 0 * time, time], axis=1)
    joints = joints_of_rotations(torch.from_numpy(rotations), torch.from_numpy(root), SMPL_24).numpy()
    return Dance("a", joints, rotations=rotations.astype(np.float32))


@pytest.mark.usefixtures("no_fit")
def test_smpl_parameters_are_the_rotations(dance, tmp_path):
    path = tmp_path / "a_smpl.npz"
    WRITERS["smpl"].write(path, WriterInput(dance))
    with np.load(path) as file:
        np.testing.assert_allclose(file["smpl_poses"].reshape(FRAMES, 24, 3), vectors(), atol=1e-5)
        np.testing.assert_allclose(file["smpl_trans"], dance.joints[:, 0] - rest_joints()[0], atol=1e-6)
        assert file["smpl_scaling"].tolist() == [1.0]
    np.testing.assert_allclose(read_dance(path).joints, dance.joints, atol=1e-5)


@pytest.mark.usefixtures("no_fit")
def test_bvh_and_glb_have_the_dances_joints(dance, tmp_path):
    given = WriterInput(dance)
    for name in ("bvh", "glb"):
        WRITERS[name].write(tmp_path / f"a.{name}", given)
    np.testing.assert_allclose(fitted_joints(given.body), dance.joints, atol=1e-5)
    tree = bvhio.readAsHierarchy(str(tmp_path / "a.bvh"))
    named = {joint.Name: joint for joint, _, _ in tree.layout()}
    tree.loadPose(30, recursive=True)
    for joint, name in enumerate(SMPL_24.joints):
        place = named[name].PositionWorld
        np.testing.assert_allclose(np.array(place) / 100, dance.joints[30, joint], atol=1e-4)


def test_glb_turns_head_toes_and_hands_too(dance, tmp_path):
    given = WriterInput(dance)
    WRITERS["glb"].write(tmp_path / "a.glb", given)
    glb = pygltflib.GLTF2().load(str(tmp_path / "a.glb"))
    turned = {
        glb.nodes[c.target.node].name for c in glb.animations[0].channels if c.target.path == "rotation"
    }
    assert turned == set(SMPL_24.joints)
    plain = WriterInput(replace(dance, rotations=None))
    WRITERS["glb"].write(tmp_path / "b.glb", plain)
    glb = pygltflib.GLTF2().load(str(tmp_path / "b.glb"))
    fitted = {
        glb.nodes[c.target.node].name for c in glb.animations[0].channels if c.target.path == "rotation"
    }
    assert turned - fitted == {"head", "left_foot", "right_foot", "left_hand", "right_hand"}


def test_the_body_is_exact_and_its_turns_are_those_of_the_rotations(dance):
    body = body_of_rotations(dance.joints, dance.rotations, rest_joints())
    assert body.worst < 1e-5
    assert body.drift_after < 1e-9
    turns = Rotation.from_rotvec(vectors().reshape(-1, 3))
    steps = [
        turns[24 * t : 24 * (t + 1)].inv() * turns[24 * (t + 1) : 24 * (t + 2)] for t in range(FRAMES - 1)
    ]
    expected = max(np.degrees(step.magnitude()).max() for step in steps)
    assert body.turn.degrees == pytest.approx(expected, rel=1e-3)


def test_quaternions_are_those_of_scipy():
    """Every component is the largest of some rotation; half turns, where w is 0, are among them."""
    turns = Rotation.from_rotvec(
        np.concatenate(
            [3 * np.random.default_rng(1).normal(size=(200, 3)), np.pi * np.eye(3), np.zeros((1, 3))]
        )
    )
    ours, theirs = fit.quaternions_of(turns.as_matrix()), turns.as_quat()
    assert set(np.abs(theirs).argmax(-1)) == {0, 1, 2, 3}
    np.testing.assert_allclose(np.abs((ours * theirs).sum(-1)), 1, atol=1e-12)


def test_another_body_moves_by_the_same_rotations_at_the_dancers_size(dance):
    body = body_of_rotations(dance.joints, dance.rotations, rest_joints())
    again, size = resized(body, dance.joints, 1.25 * rest_joints())
    assert size == pytest.approx(0.8, abs=1e-6)
    np.testing.assert_allclose(fitted_joints(again), dance.joints, atol=1e-5)
    other, size = resized(body, dance.joints, rest_joints("female"))
    np.testing.assert_array_equal(other.rotations, body.rotations)
    np.testing.assert_array_equal(other.root, body.root)
    assert 0.9 < size < 1.2
    assert 1e-3 < other.error < 0.05


def test_rotations_of_other_joints_are_refused(dance):
    turned = dance.joints[..., [2, 1, 0]]
    with pytest.raises(ValueError, match="mm from its own, 1 mm at most are expected") as error:
        body_of_rotations(turned, dance.rotations, rest_joints())
    assert "\n" not in str(error.value)


def test_locked_feet_start_from_the_rotations(dance, monkeypatch):
    monkeypatch.setattr(fit, "fit_body", None)
    given = WriterInput(dance, options=WriterOptions(footlock=True, draw_fitted=True))
    assert given.foot_lock is not None
    arms = [joint for joint, name in enumerate(SMPL_24.joints) if "elbow" in name or "wrist" in name]
    np.testing.assert_allclose(given.body.rotations[:, arms], given.own_fit.rotations[:, arms], atol=1e-7)
    assert given.drawn.rotations is None


def test_the_file_of_a_dance_keeps_them(dance, tmp_path):
    save_dance(tmp_path / "a.npz", dance)
    for read in (load_dance, read_dance):
        found = read(tmp_path / "a.npz")
        np.testing.assert_array_equal(found.rotations, dance.rotations)
        np.testing.assert_array_equal(checked(found).rotations, dance.rotations)
    assert read_recording(tmp_path / "a.npz", up="z").dance.rotations is None
    assert load_dance(tmp_path / "a.npz").rotations.dtype == np.float32


@pytest.mark.parametrize(
    ("rotations", "message"),
    [
        (np.zeros((FRAMES - 1, 24, 3, 3)), r"must be \(50, 24, 3, 3\) floats to match the joints, got"),
        (np.zeros((FRAMES, 24, 4)), r"must be .*, got float64 \(50, 24, 4\)"),
        (np.zeros((FRAMES, 24, 3, 3), int), "must be .*, got int64"),
        (np.full((FRAMES, 24, 3, 3), np.nan), "must be finite, those of frame 0 are not"),
    ],
)
def test_ill_formed_rotations_are_named(dance, tmp_path, rotations, message):
    with pytest.raises(ValueError, match=rf"dance 'a': rotations {message}"):
        checked(replace(dance, rotations=rotations))
    np.savez(tmp_path / "a.npz", joints=dance.joints, smpl_rotations=rotations)
    with pytest.raises(ValueError, match=r"a\.npz: smpl_rotations: rotations must be"):
        load_dance(tmp_path / "a.npz")


@pytest.mark.usefixtures("no_fit")
def test_the_command_exports_them(dance, tmp_path, capsys):
    save_dance(tmp_path / "a.npz", dance)
    assert command.main([str(tmp_path / "a.npz"), "--smpl", "--bvh", "--level"]) == 0
    assert "joints within 0.0 mm" in capsys.readouterr().out
    with np.load(tmp_path / "a_smpl.npz") as file:
        np.testing.assert_allclose(file["smpl_poses"].reshape(FRAMES, 24, 3), vectors(), atol=1e-5)
    standing, _ = on_ground(read_dance(tmp_path / "a_smpl.npz").joints)
    np.testing.assert_allclose(
        standing[..., 1], read_dance(tmp_path / "a_smpl.npz").joints[..., 1], atol=1e-3
    )


@pytest.mark.usefixtures("no_fit")
@pytest.mark.parametrize("scaling", [1.0, 90.0])
def test_the_command_takes_the_rotations_of_smpl_parameters(dance, tmp_path, scaling):
    trans = scaling * (dance.joints[:, 0] - rest_joints()[0])
    motion = {
        "smpl_poses": vectors().reshape(FRAMES, 72),
        "smpl_trans": trans,
        "smpl_scaling": np.array([scaling]),
    }
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(motion))
    arguments = [str(tmp_path / "a.pkl"), "--smpl", "--glb", "--raw-heights", "--out", str(tmp_path / "out")]
    assert command.main(arguments) == 0
    with np.load(tmp_path / "out" / "a_smpl.npz") as file:
        np.testing.assert_allclose(file["smpl_poses"].reshape(FRAMES, 24, 3), vectors(), atol=1e-5)
        np.testing.assert_allclose(file["smpl_trans"], trans / scaling, atol=1e-5)


def test_dances_of_a_folder_are_read_without_them(dance, tmp_path):
    save_dance(tmp_path / "a.npz", dance)
    (found,) = read_dances(tmp_path).dances
    assert found.rotations is None


@pytest.mark.parametrize(("name", "frame", "joint"), [("gJS_sFM_cAll_d02_mJS4_ch09", 497, "left_shoulder")])
def test_real_smpl_parameters_do_not_pop_where_the_source_is_still(name, frame, joint):
    """A fit to these joints turned the shoulder by 27 to 33 degrees a frame where the source turns by 1."""
    dance = read_dance(real_data() / "motions" / f"{name}.pkl")
    body = WriterInput(dance).own_fit
    steps = np.abs((body.rotations[frame : frame + 3] * body.rotations[frame + 1 : frame + 4]).sum(-1))
    turn = np.degrees(2 * np.arccos(np.clip(steps, 0, 1)))[:, SMPL_24.index(joint)]
    assert turn.max() < 2
    assert body.worst < 1e-4
