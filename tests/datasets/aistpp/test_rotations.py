"""Bone rotations in prepared data: they give the joints, belong to them by name, and are kept up to date."""

import pickle
import re

import numpy as np
import pytest
import torch

import prepare_aistpp_data
from datasets.aistpp.layouts import aistpp_plan
from datasets.aistpp.preparation import prepare
from datasets.aistpp.songs import MusicOptions
from datasets.sample import _motion_bytes, plan_corpus
from datasets.sequences import PreparedData, rotations_path
from tests.datasets.aistpp.fakes import NAMES, motion, write_motion
from tests.helpers import real_data
from utils.rotations import joints_of_rotations
from utils.skeleton import SMPL_24
from utils.smpl import rest_joints

pytestmark = pytest.mark.usefixtures("quick_music")


def run(source, out, rotations=True, **music):
    plan = aistpp_plan(source, rest_joints(), MusicOptions(**music), rotations=rotations)
    return prepare(plan, out, {}, progress=False)


def error_mm(data, name):
    """Largest distance of the joints of a dance from those of its root and rotations."""
    joints, rotations = (
        torch.from_numpy(np.array(a)) for a in (data.sequence(name).joints, data.rotations(name))
    )
    return 1000 * float((joints_of_rotations(rotations, joints[:, 0], SMPL_24) - joints).norm(dim=-1).max())


def test_root_and_rotations_give_the_joints(source, tmp_path):
    run(source, tmp_path)
    data = PreparedData(tmp_path)
    for name in NAMES:
        rotations = data.rotations(name)
        assert isinstance(rotations, np.memmap)
        assert (rotations.shape, rotations.dtype) == ((120, 24, 3, 3), np.float32)
        assert error_mm(data, name) < 0.01


def test_those_of_the_corpus_are_its_own_skeletons(source, tmp_path):
    dance = plan_corpus()["train"][0]
    write_motion(source, NAMES[0], _motion_bytes(dance, seed=0))
    run(source, tmp_path)
    data = PreparedData(tmp_path)
    assert len(data.rotations(NAMES[0])) == dance.num_frames
    assert error_mm(data, NAMES[0]) < 0.01


def test_those_of_real_motions(tmp_path):
    run(real_data(), tmp_path, optional=True)
    data = PreparedData(tmp_path)
    assert len(data.names("all")) == 5
    for name in data.names("all"):
        assert error_mm(data, name) < 0.01


def test_they_are_made_where_they_are_missing_and_kept_where_they_are(source, tmp_path):
    plain, out = tmp_path / "plain", tmp_path / "out"
    assert run(source, out, rotations=False).fresh == 5
    run(source, plain, rotations=False)
    assert not list(out.rglob("*.rotations.npy"))
    assert run(source, out).fresh == 3  # the dances; songs are kept
    assert run(source, out).fresh == 0
    rotations_path(out, NAMES[1]).unlink()
    assert run(source, out).fresh == 1
    write_motion(source, NAMES[2], motion(90, 7))
    assert run(source, out).fresh == 1
    assert PreparedData(out).rotations(NAMES[2]).shape[0] == 90
    for name in NAMES[:2]:
        np.testing.assert_array_equal(
            PreparedData(out).sequence(name).joints, PreparedData(plain).sequence(name).joints
        )


def test_the_command_keeps_rotations_that_are_there(source, tmp_path):
    arguments = ["--source", str(source), "--out", str(tmp_path), "--workers", "1"]
    assert prepare_aistpp_data.main([*arguments, "--rotations"]) == 0
    assert prepare_aistpp_data.main(arguments) == 0
    assert PreparedData(tmp_path).rotations(NAMES[0]).shape == (120, 24, 3, 3)


def test_data_without_them_name_the_command(source, tmp_path):
    run(source, tmp_path, rotations=False)
    cure = f"no bone rotations of {NAMES[0]}; add them by: python prepare_aistpp_data.py --source DIR"
    with pytest.raises(ValueError, match=re.escape(cure)) as error:
        PreparedData(tmp_path).rotations(NAMES[0])
    assert "\n" not in str(error.value)


def test_lengths_that_differ_are_refused(source, tmp_path):
    run(source, tmp_path)
    path = rotations_path(tmp_path, NAMES[0])
    np.save(path, np.load(path)[:-1])
    with pytest.raises(
        ValueError, match=r"rotations\.npy holds float32 \(119, 24, 3, 3\), the manifest says"
    ):
        PreparedData(tmp_path).rotations(NAMES[0])


def test_other_data_have_none(tmp_path, capsys):
    for what in ("--published", "--adapter"):
        arguments = [what, str(tmp_path), "--out", str(tmp_path / "out"), "--rotations"]
        assert prepare_aistpp_data.main(arguments) == 1
        assert f"--rotations would change nothing beside {what}" in capsys.readouterr().err


@pytest.mark.parametrize("more", [("--gender", "female"), ("--smpl", "model.pkl", "--betas", "1")])
def test_rotations_of_another_body_are_refused(more, tmp_path, capsys):
    arguments = ["--source", str(tmp_path), "--out", str(tmp_path / "out"), "--rotations", *more]
    assert prepare_aistpp_data.main(arguments) == 1
    assert "mean male body" in capsys.readouterr().err


def test_ill_shaped_poses_leave_no_rotations(source, tmp_path):
    content = motion()
    content["smpl_poses"] = content["smpl_poses"][:, :60]
    write_motion(source, NAMES[0], pickle.dumps(content))
    run(source, tmp_path)
    assert not rotations_path(tmp_path, NAMES[0]).exists()
    assert NAMES[0] in PreparedData(tmp_path).manifest["left_out"]
