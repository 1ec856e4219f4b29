"""The command bridges lost frames, names what is wrong, and never ends in a numerical error."""

import numpy as np
import pytest

from tests.datasets.aistpp.fakes import body
from utils.dance import load_dance
from utils.export import fit_body, fitted_joints
from utils.export.__main__ import main
from utils.recording import to_y_up
from utils.smpl import rest_joints

BODY = body(90)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, 40.0])
def test_single_lost_frames_are_held_and_named(tmp_path, capsys, value):
    joints = BODY.copy()
    joints[30], joints[60:62] = value, value
    np.save(tmp_path / "a.npy", joints)
    assert main([str(tmp_path / "a.npy"), "--npz", "--bvh", "--raw-heights"]) == 0
    told = capsys.readouterr().out
    assert "a: lost, held between their neighbours: frame 30: " in told
    assert "; frames 60-61: " in told
    assert "no body moves" not in told
    assert np.linalg.norm(load_dance(tmp_path / "a.npz").joints - BODY, axis=-1).max() < 0.01
    assert (tmp_path / "a.bvh").is_file()


def test_other_units_are_refused_and_other_remarks_are_told(tmp_path, capsys):
    np.save(tmp_path / "cm.npy", 100 * BODY)
    assert main([str(tmp_path / "cm.npy")]) == 2
    assert "cm.npy: the body measures 1" in (told := capsys.readouterr().err)
    assert "(centimetres: multiply by 0.01)" in told
    assert [path.name for path in tmp_path.iterdir()] == ["cm.npy"]
    np.save(tmp_path / "z.npy", to_y_up(BODY, "-z"))
    assert main([str(tmp_path / "z.npy"), "--npz"]) == 0
    assert "z: the head is above the toes along z, not y" in capsys.readouterr().out
    assert main([str(tmp_path / "z.npy"), "--npz", "--up", "z"]) == 0
    assert "above the toes" not in capsys.readouterr().out
    joints = BODY.copy()
    joints[45:] += [5, 0, 0]
    np.save(tmp_path / "jump.npy", joints)
    assert main([str(tmp_path / "jump.npy"), "--bvh"]) == 0
    assert "jump: no body moves like this: frames 44-45: " in capsys.readouterr().out


def frozen_at_the_origin(joints):
    joints[20:60] = 0


def without_knees(joints):
    joints[:, 4:6] = joints[:, 1:3]


def collapsed(joints):
    joints[:] = 0


def in_centimetres(joints):
    joints *= 100


def in_millimetres(joints):
    joints *= 1000


def with_a_spike(joints):
    joints[50] = 1e8


@pytest.mark.parametrize(
    "change",
    [frozen_at_the_origin, without_knees, collapsed, in_centimetres, in_millimetres, with_a_spike],
)
def test_the_fit_of_any_joints_is_finite(change):
    joints = BODY.copy()
    change(joints)
    fit = fit_body(joints, rest_joints())
    assert np.isfinite(fit.rotations).all()
    assert np.isfinite(fitted_joints(fit)).all()
    np.testing.assert_allclose(np.linalg.norm(fit.rotations, axis=-1), 1, atol=1e-9)
    if change in (in_centimetres, in_millimetres):
        assert fit.worst < 1e-3 * np.median(np.ptp(joints, axis=1).max(1))
