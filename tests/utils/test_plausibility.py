"""Wrong units, axes, joints and frames are found with the right numbers; clean dances have no remark."""

import re

import numpy as np
import pytest

from tests.datasets.aistpp.fakes import body
from tests.helpers import real_data
from utils.metrics.reading import read_recording
from utils.plausibility import (
    Stretch,
    bridged,
    implausible_motion,
    inspect,
    lost_frames,
    t_poses,
    up_shares,
    wrong_axis,
    wrong_unit,
)
from utils.recording import to_y_up
from utils.skeleton import SMPL_24, Skeleton
from utils.smpl import forward_kinematics, rest_joints

BODY = body()
TURNED = {"z": "-z", "-z": "z", "x": "-x", "-x": "x", "-y": "-y"}  # to_y_up by the second makes the first


def test_a_clean_dance_has_no_remark():
    found = inspect(BODY)
    assert found.remarks == []
    assert (found.seconds, found.upright) == (4.0, 1.0)
    assert found.speed == pytest.approx(np.linalg.norm(np.diff(BODY, axis=0), axis=-1).mean() * 60)
    assert inspect(BODY[:1]).speed == 0


@pytest.mark.parametrize(
    ("factor", "cure"),
    [
        (100, "centimetres: multiply by 0.01"), (1000, "millimetres: multiply by 0.001"),
        (10, "decimetres: multiply by 0.1"), (1 / 0.0254, "inches: multiply by 0.0254"),
        (1 / 0.3048, "feet: multiply by 0.3048"),
    ],
)  # fmt: skip
def test_units_are_named_with_the_numbers(factor, cure):
    size = np.median(np.ptp(BODY, axis=1).max(1)) * factor
    assert wrong_unit(BODY * factor) == (
        f"the body measures {size:.3g}; in metres it would be about 1.5 ({cure})"
    )
    assert inspect(BODY * factor).implausible == []
    assert wrong_unit(BODY) == ""


def test_a_unit_that_nobody_uses_is_named_by_the_number_alone():
    assert wrong_unit(BODY / 1000).endswith("in metres it would be about 1.5")


@pytest.mark.parametrize(("up", "by"), TURNED.items())
def test_the_axis_that_points_up_is_named(up, by):
    other = to_y_up(BODY, by)
    option = f"--up {up}" if len(up) == 1 else f"--up={up}"
    assert inspect(other).remarks == [
        f"the head is above the toes along {up}, not y (100 % of frames against 0 %); {option} says so"
    ]
    np.testing.assert_allclose(to_y_up(other, up), BODY, atol=1e-12)


def test_a_dance_that_is_half_on_the_floor_keeps_its_axis():
    lying = to_y_up(BODY, "-z")
    mixed = np.concatenate([BODY[:60], lying[60:]])
    assert up_shares(mixed)["y"] == 0.25
    assert wrong_axis(up_shares(mixed)) == ""


def test_a_skeleton_without_a_head_or_knees_is_checked_for_the_rest():
    chain = Skeleton("chain", ("a", "b", "c"), (-1, 0, 1), (0,), ((1, 2), (1, 2)), 60)
    joints = np.zeros((20, 3, 3)) + np.arange(3)[:, None] * [0, 0.5, 0]
    found = inspect(joints, 60, chain)
    assert found.upright is None
    assert found.remarks == []


def test_translations_in_another_unit():
    ninety = BODY + 89 * BODY[:, :1]
    (stretch,) = inspect(ninety).implausible
    assert (stretch.start, stretch.end) == (0, 239)
    usual = np.median(np.linalg.norm(np.diff(ninety[:, 0], axis=0), axis=-1)) * 60
    assert f"the root travels at {usual:.0f} m/s in the median frame" in stretch.what
    assert "divided by smpl_scaling" in stretch.what


def test_left_and_right_exchanged():
    (remark,) = inspect(BODY * [-1, 1, 1]).remarks
    assert remark.startswith("left and right are exchanged (the toes point backwards in 100 % of frames)")


def test_missing_joints_are_named():
    joints = BODY.copy()
    joints[:, 22] = joints[:, 20]
    joints[:, 23] = [0.3, 1.2, 0.1]
    joints[30:84, 15] = 0
    remarks = inspect(joints).others
    assert remarks == [
        "head is missing: it is at the origin in 54 of 240 frames",
        "left_hand is missing: it lies on left_wrist in every frame",
        "right_hand is missing: it never moves, but the pelvis does",
    ]


def test_t_poses_are_named():
    t_pose = np.tile(rest_joints(), (45, 1, 1)) + BODY[:1, :1] - rest_joints()[0]
    joints = np.concatenate([t_pose, BODY, t_pose[:20]])
    assert t_poses(joints) == [Stretch(0, 44, "0.8 s")]
    (remark,) = [text for text in inspect(joints).remarks if "T-pose" in text]
    assert remark == "T-pose: frames 0-44: 0.8 s"


def jump(joints):
    joints[150:] += [5, 0, 0]


def hop(joints):
    joints[100] += [0, 0.3, 0]


def lost_wrist(joints):
    joints[60, 20] = 0


def longer_bone(joints):
    joints[160:, 23] = joints[160:, 21] + 4 * (joints[160:, 23] - joints[160:, 21])


def turned_body(joints):
    joints[120] = joints[120, :1] + (joints[120] - joints[120, :1]) * [-1, 1, -1]


@pytest.mark.parametrize(
    ("change", "frames", "what"),
    [
        (jump, (149, 150), r"moves at (299|300|301) m/s$"),
        (hop, (99, 101), r"moves at (18|19) m/s$"),
        (
            lost_wrist,
            (59, 61),
            r"left_wrist moves at 4\d m/s, bone left_wrist-left_hand of 89 mm changes",
        ),
        (longer_bone, (159, 239), r"bone right_wrist-right_hand of 90 mm changes by 26\d mm$"),
        (turned_body, (119, 121), r"turns by 1[78]\d degrees in one frame"),
    ],
)
def test_motion_that_no_body_makes_is_named(change, frames, what):
    joints = BODY.copy()
    change(joints)
    (stretch,) = implausible_motion(joints)
    assert (stretch.start, stretch.end) == frames
    assert re.search(what, stretch.what), stretch
    assert str(stretch).startswith(f"frames {frames[0]}-{frames[1]}: ")


def test_limits_are_in_seconds_and_not_in_frames():
    leap = BODY.copy()
    leap[120:] += [0, 0, 0.1]  # 6 m/s in a step of 1/60 s
    assert implausible_motion(leap) == []
    (stretch,) = implausible_motion(leap, 240)
    assert (stretch.start, stretch.end) == (119, 120)


def test_twists_are_seen_in_rotations_alone():
    poses = np.zeros((60, 72))
    poses[30:, 18 * 3] = 3.0  # the left elbow about its own axis
    poses[30:, 20 * 3] = -3.0
    joints = forward_kinematics(np.zeros((60, 72)), np.zeros((60, 3)))
    assert implausible_motion(joints) == []
    (stretch,) = implausible_motion(joints, poses=poses)
    assert stretch == Stretch(29, 30, "left_elbow turns by 172 degrees in one frame")


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, 9.0])
@pytest.mark.parametrize(("first", "last"), [(100, 100), (0, 0), (239, 239), (60, 64), (0, 2)])
def test_lost_frames_are_bridged(value, first, last):
    joints = BODY.copy()
    joints[first : last + 1] = value
    lost = lost_frames(joints)
    assert [(stretch.start, stretch.end) for stretch in lost] == [(first, last)]
    assert (lost[0].what == "not finite") == (not np.isfinite(value))
    held = bridged(joints, lost)
    assert np.linalg.norm(held - BODY, axis=-1).max() < (0.05 if 0 < first and last < 239 else 0.15)
    assert implausible_motion(held) == []


def test_several_lost_frames_near_each_other_and_a_jump_that_stays():
    joints = BODY.copy()
    joints[50], joints[53], joints[200] = 0, 0, np.nan
    joints[120:] += [3, 0, 0]
    assert [(s.start, s.end) for s in lost_frames(joints)] == [(50, 50), (53, 53), (200, 200)]
    joints[100:130] = np.nan  # too long to be bridged
    assert [(s.start, s.end) for s in lost_frames(joints)] == [(200, 200)]
    assert lost_frames(BODY) == lost_frames(100 * BODY) == []
    assert np.isnan(bridged(np.full((3, 24, 3), np.nan), [Stretch(0, 2, "")])).all()


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("gBR_sBM_cAll_d04_mBR2_ch08", [(204, 171)]),
        ("gJS_sFM_cAll_d02_mJS4_ch09", [(367, 176), (1449, 177)]),
    ],
)
def test_broken_fits_of_real_dances_are_found(name, wanted):
    stretches = read_recording(real_data() / "motions" / f"{name}.pkl").findings.implausible
    for frame, degrees in wanted:
        (stretch,) = [s for s in stretches if s.start <= frame <= s.end]
        assert f"turns by {degrees} degrees in one frame" in stretch.what
    if "BR" in name:
        assert any("left_foot moves at 22 m/s" in stretch.what for stretch in stretches)


@pytest.mark.parametrize(
    "name", ["gBR_sBM_cAll_d04_mBR0_ch01", "gBR_sBM_cAll_d06_mBR2_ch06", "gJS_sBM_cAll_d03_mJS2_ch07"]
)
def test_clean_real_dances_have_no_remark(name):
    recording = read_recording(real_data() / "motions" / f"{name}.pkl", bridge=True)
    assert recording.findings.remarks == []
    assert recording.findings.upright == 1.0
    assert recording.lost == []
    assert SMPL_24.index("head") == 15
