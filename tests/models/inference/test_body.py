"""The fitted body of --dance: the ground under it, what is shown of it, and what is said of the fit."""

import json
import re

import bvhio
import numpy as np
import pygltflib
import pytest

from tests.body_models import save_npz
from tests.models.inference.songs import entries, motion
from utils.export import fit_body, fitted_joints, worst_stretch
from utils.floor import ground_height
from utils.metrics.reading import read_dance
from utils.render import player, video
from utils.smpl import rest_joints


def test_the_ground_is_at_zero_in_all_files_unless_told_otherwise(dance, songs, tmp_path):
    heights = {}
    for ground in ("true", "false"):
        assert (
            dance(songs / "three.m4a", "dance.formats=[bvh,glb,smpl]", f"dance.ground={ground}", out=ground)
            == 0
        )
        out = tmp_path / ground
        made = motion(out, "three")
        joints = made["joints"]
        heights[ground] = joints
        at = ground_height(joints)
        assert (abs(at) < 1e-5) == (ground == "true")
        assert ("ground_m" in json.loads(str(made["provenance"]))) == (ground == "true")
        body = fitted_joints(fit_body(joints, rest_joints()))
        pelvis = bvhio.readAsHierarchy(str(out / "three.bvh"))
        named = {joint.Name: joint for joint, _, _ in pelvis.layout()}
        pelvis.loadPose(30, recursive=True)
        assert named["pelvis"].PositionWorld.y / 100 == pytest.approx(body[30, 0, 1], abs=1e-3)
        assert named["root"].PositionWorld.y == pytest.approx(0, abs=1e-6)
        with np.load(out / "three_smpl.npz") as file:
            size = float(file["smpl_scaling"][0])
        smpl = size * read_dance(out / "three_smpl.npz").joints
        assert abs((smpl - joints)[..., 1].mean()) < 0.05  # an untrained memory keeps no bone's length
    lower = json.loads(str(motion(tmp_path / "true", "three")["provenance"]))["ground_m"]
    moved = heights["false"] - heights["true"]
    np.testing.assert_allclose(moved, np.broadcast_to([0, lower, 0], moved.shape), atol=1e-4)


def test_video_and_player_show_the_fitted_body(dance, songs, tmp_path, monkeypatch):
    shown = {}

    monkeypatch.setattr(video, "render_video", lambda path, dance, **_: shown.update(video=dance.joints))
    monkeypatch.setattr(
        player, "write_player", lambda path, dances, *_: shown.update(player=dances[0].joints)
    )
    dance(songs / "three.m4a", "dance.formats=[mp4,html,glb]")
    joints = motion(tmp_path / "out", "three")["joints"]
    body = fitted_joints(fit_body(joints, rest_joints()))
    for what in ("video", "player"):
        np.testing.assert_allclose(shown[what], body, atol=1e-5)
    dance(songs / "three.m4a", "dance.formats=[mp4,html]", out="raw")
    np.testing.assert_array_equal(shown["player"], motion(tmp_path / "raw", "three")["joints"])


def test_the_body_of_a_model_is_in_glb_and_video(dance, songs, tmp_path, monkeypatch, capsys):
    shown = {}
    monkeypatch.setattr(video, "render_video", lambda path, dance, **more: shown.update(more))
    save_npz(tmp_path / "SMPL_NEUTRAL.npz", "neutral")
    body = (f"dance.body.model={tmp_path}", "dance.body.gender=neutral", "dance.body.betas=[2,-1]")
    assert dance(songs / "three.m4a", "dance.formats=[mp4,glb]", *body) == 0
    assert shown["body"].model.gender == "neutral"
    np.testing.assert_array_equal(shown["body"].model.betas, [2, -1])
    assert len(shown["body"].root) == len(motion(tmp_path / "out", "three")["joints"])
    with_body = (tmp_path / "out" / "thumbnails" / "three.jpg").read_bytes()
    assert dance(songs / "three.m4a", "dance.formats=[]", out="limbs") == 0
    assert (tmp_path / "limbs" / "thumbnails" / "three.jpg").read_bytes() != with_body
    file = pygltflib.GLTF2().load(str(tmp_path / "out" / "three.glb"))
    assert file.accessors[file.meshes[0].primitives[0].attributes.POSITION].count == 6890
    capsys.readouterr()
    for key, message in (
        (f"dance.body.model={tmp_path}", "no male SMPL model in"),
        ("dance.body.gender=female", "give `model` SMPL's file too"),
        ("dance.body.gender=robot", "dance.body.gender"),
    ):
        assert dance(songs / "three.m4a", key) == 2
        told = capsys.readouterr().err
        assert told.startswith("error: ")
        assert message in told


def test_the_card_says_how_good_the_fit_is(dance, songs, tmp_path):
    assert dance(songs / "three.m4a", "dance.formats=[bvh]") == 0
    (card,) = entries(tmp_path / "out")
    told = dict(line[:2] for line in card["metrics"])
    joints = motion(tmp_path / "out", "three")["joints"]
    fit, stretch = fit_body(joints, rest_joints()), worst_stretch(joints)
    assert told["worst_stretch_bone"] == stretch.bone
    for name, value in (
        ("worst_stretch_mm", 1000 * stretch.change),
        ("fit_error_mm", 1000 * fit.error),
        ("fit_error_max_mm", 1000 * fit.worst),
        ("max_turn_deg", fit.turn.degrees),
    ):
        number, unit = re.fullmatch(r"([\d.]+)\s?(mm|°)", told[name]).groups()
        assert float(number) == pytest.approx(value, rel=0.02), name
        assert (unit == "mm") == name.endswith("_mm")
