"""Dances of another skeleton: prepared, and refused where SMPL's joints are meant."""

import dataclasses
import json

import numpy as np
import pytest

import prepare_aistpp_data
from datasets.aistpp.tasks import Rejected, check_joints
from datasets.reference import real_reference
from datasets.sequences import PreparedData
from tests.models.stages.synthetic import make_data, make_stage
from utils.dance import Dance
from utils.metrics import physical
from utils.metrics.reference import Reference
from utils.skeleton import SKELETONS, SMPL_24
from utils.smpl import rest_joints

NO_HANDS = dataclasses.replace(
    SMPL_24, name="no_hands", joints=SMPL_24.joints[:22], parents=SMPL_24.parents[:22]
)


@pytest.fixture
def other(tmp_path, monkeypatch):
    """Two dances without hands, prepared through the command line."""
    monkeypatch.setitem(SKELETONS, NO_HANDS.name, NO_HANDS)
    source = tmp_path / "source"
    for folder in ("motions", "splits"):
        (source / folder).mkdir(parents=True)
    walk = rest_joints()[:22] + np.linspace(0, 1, 300)[:, None, None]
    for name in ("one", "two"):
        np.save(source / "motions" / f"{name}.npy", walk.astype(np.float32))
    (source / "splits" / "train.txt").write_text("one")
    (source / "splits" / "test.txt").write_text("two")
    words = ["--adapter", str(source), "--no-songs", "--workers", "1", "--out", str(tmp_path / "data")]
    assert prepare_aistpp_data.main([*words, "--skeleton", NO_HANDS.name]) == 0
    return tmp_path


def test_they_are_prepared(other):
    data = PreparedData(other / "data")
    assert data.skeleton is NO_HANDS
    assert data.sequence("one").joints.shape == (300, 22, 3)


def test_joints_must_be_the_skeleton_s():
    joints = np.tile(rest_joints()[:22], (20, 1, 1)).astype(np.float32)
    check_joints(joints, NO_HANDS)
    with pytest.raises(Rejected, match=r"\(20, 22, 3\); \(T, 24, 3\) is needed"):
        check_joints(joints)


def test_metrics_refuse_them(other):
    with pytest.raises(ValueError, match="skeleton 'no_hands'; the metrics are defined on 'smpl_24' only"):
        real_reference(PreparedData(other / "data"))


def test_a_memory_of_other_joints_refuses_them(other):
    stage = make_stage("sep_vqvae", make_data(other / "smpl"), other / "runs")
    stage.data = PreparedData(other / "data")
    with pytest.raises(ValueError, match=r"skeleton 'no_hands', model\.skeleton is 'smpl_24'"):
        stage.batches(1)


def test_the_option_goes_with_the_plain_layout_only(other, capsys):
    words = ["--source", str(other / "source"), "--skeleton", NO_HANDS.name]
    assert prepare_aistpp_data.main(words) == 1
    assert "--skeleton no_hands goes with --adapter only" in capsys.readouterr().err


def test_kept_features_without_a_metric_are_refused(tmp_path, monkeypatch):
    joints = rest_joints() + np.linspace(0, 1, 60)[:, None, None]
    path = tmp_path / "features.npz"
    Reference.of([Dance("one", joints)]).save(path)
    assert Reference.load(path).names == ("one",)
    monkeypatch.setitem(physical.METRICS, "height", lambda p, fps, floor: float(p[..., 1].max()))
    with pytest.raises(
        ValueError, match=r"holds the metrics PFC, .*; this version has .*, height; make it anew"
    ):
        Reference.load(path)


def test_manifests_name_it(other):
    assert json.loads((other / "data" / "manifest.json").read_text())["skeleton"] == "no_hands"
