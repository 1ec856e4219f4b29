"""Data of any kind in the plain layout, good and bad."""

import io
import json
import zipfile

import numpy as np
import pytest

from datasets.aistpp import tasks
from datasets.aistpp.layouts import plain_plan
from datasets.aistpp.preparation import prepare
from datasets.aistpp.songs import MusicOptions
from datasets.aistpp.tasks import check_joints, longest_frozen
from datasets.sequences import PreparedData
from prepare_aistpp_data import main
from tests.datasets.aistpp.fakes import body, motion, write_wav
from utils.recording import mean_jerk, to_y_up
from utils.smpl import forward_kinematics

pytestmark = pytest.mark.usefixtures("quick_music")


def joints(frames=120):
    sways = motion(frames)
    return forward_kinematics(sways["smpl_poses"], sways["smpl_trans"] / 90).astype(np.float32)


@pytest.fixture
def own(tmp_path):
    root = tmp_path / "mine"
    for folder in ("motions", "splits"):
        (root / folder).mkdir(parents=True)
    np.save(root / "motions" / "one.npy", joints())
    np.savez(root / "motions" / "two.npz", joints=joints(90).astype(np.float64), fps=60)
    (root / "splits" / "train.txt").write_text("one\n")
    (root / "splits" / "test.txt").write_text("two\n")
    (root / "songs.json").write_text('{"two": "one"}')
    write_wav(root / "songs" / "one.wav")
    return root


def test_other_data_is_prepared_from_its_plain_layout(own, tmp_path):
    done = prepare(plain_plan(own, MusicOptions()), tmp_path / "out", {}, progress=False)
    data = PreparedData(tmp_path / "out")
    assert (data.names("train"), data.names("test")) == (["one"], ["two"])
    assert (data.sequence("one").song, data.sequence("two").song) == ("one", "one")
    np.testing.assert_array_equal(data.sequence("one").joints, joints())
    assert data.sequence("two").joints.dtype == np.float32
    assert done.manifest["name"] == "mine"
    assert done.manifest["report"]["expected"] is None


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("bad.npy", joints()[:, :22], r"wrong shape: joints are \(120, 22, 3\); \(T, 24, 3\) is needed"),
        (
            "bad.npy",
            np.where(np.arange(120)[:, None, None] == 5, np.nan, joints()),
            "NaN: 1 frames .* is 5, of pelvis",
        ),
        ("bad.npy", joints().reshape(120, 72), r"wrong shape: joints are \(120, 72\)"),
        ("bad.npy", joints() * 100, "not metres: the body measures"),
        ("bad.npy", joints().astype(int), "wrong shape: .*int64"),
        ("bad.npy", np.array([{}], object), "unreadable: .*damaged or holds objects"),
        ("bad.npz", {"poses": joints()}, "wrong shape: .*no array 'joints'; it has: poses"),
        (
            "bad.npy",
            to_y_up(joints(), "-z"),
            r"not y up: motions/bad.npy: the head is above the toes along z",
        ),
        ("bad.npy", to_y_up(joints(), "-y"), r"not y up: .* along -y, not y \(100 %.*against 0 %\); --up=-y"),
        ("bad.npz", {"joints": joints(), "fps": 0}, "unreadable: .*frame rate must be 10 to 1000 Hz, got 0"),
        ("bad.npz", {"joints": joints(), "fps": 48000}, "unreadable: .*10 to 1000 Hz, got 48000"),
        ("bad.npz", {"joints": joints(), "fps": [60, 30]}, "unreadable: motions/bad.npz: fps must be one"),
        ("bad.npz", b"PK\x03\x04 torn", "unreadable: .*damaged"),
    ],
)
def test_other_data_that_does_not_fit_is_left_out(own, tmp_path, name, content, reason):
    path = own / "motions" / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, dict):
        np.savez(path, **content)
    else:
        np.save(path, content)
    (own / "songs.json").write_text('{"two": "one", "bad": "one"}')
    prepare(plain_plan(own, MusicOptions()), tmp_path / "out", {}, progress=False)
    data = PreparedData(tmp_path / "out")
    assert data.names("all") == ["one", "two"]
    with pytest.raises(ValueError, match=reason):
        data.sequence("bad")


def test_an_error_that_nobody_thought_of_costs_one_dance(own, tmp_path, monkeypatch):
    np.save(own / "motions" / "bad.npy", joints(90))
    check = tasks.check_joints

    def fails(motion, skeleton):
        if len(motion) == 90 and motion.dtype == np.float32:
            raise TypeError("only 0-dimensional arrays can be converted")
        check(motion, skeleton)

    monkeypatch.setattr(tasks, "check_joints", fails)
    np.savez(own / "motions" / "array.npz", joints=joints(), fps=np.array([60]))
    prepare(plain_plan(own, MusicOptions(optional=True)), tmp_path / "out", {}, progress=False)
    data = PreparedData(tmp_path / "out")
    assert data.names("all") == ["array", "one", "two"]
    with pytest.raises(ValueError, match=r"unreadable: motions/bad.npy: TypeError: only 0-dimensional"):
        data.sequence("bad")


def test_the_longest_standstill_is_found():
    dance = joints(300)
    assert longest_frozen(dance)[1] == 1
    dance[50:80], dance[200:290] = dance[50], dance[200]
    assert longest_frozen(dance) == (200, 90)
    check_joints(dance)
    dance[100:260] = dance[200]
    with pytest.raises(ValueError, match="for 190 frames from frame 100"):
        check_joints(dance)


def test_what_claims_to_be_huge_is_not_read(own, tmp_path, monkeypatch):
    header = io.BytesIO()
    shape = (2**36, 24, 3)
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    (own / "motions" / "claim.npy").write_bytes(header.getvalue() + bytes(100))
    with zipfile.ZipFile(own / "motions" / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("joints.npy", bytes(3_000_000))
    np.save(own / "motions" / "long.npy", joints(2000))
    monkeypatch.setattr("datasets.aistpp.layouts.MOST_BYTES", 2_000_000)
    monkeypatch.setattr("datasets.aistpp.source.MOST_BYTES", 400_000)
    left_out = prepare(plain_plan(own, MusicOptions()), tmp_path / "out", {}, progress=False).manifest[
        "left_out"
    ]
    assert set(left_out) == {"claim", "bomb", "long"}
    assert "is damaged" in left_out["claim"]
    assert "GB unpacked" in left_out["bomb"]
    assert "at most 1 is read" in left_out["long"]


def made(own, out, *options):
    """Prepares by the command, without songs."""
    assert main(["--adapter", str(own), "--no-songs", "--out", str(out), "--workers", "1", *options]) == 0
    return PreparedData(out)


def test_other_rates_are_resampled_and_the_report_says_so(own, tmp_path, capsys):
    for path in (own / "motions").iterdir():
        path.unlink()
    np.savez(own / "motions" / "one.npz", joints=body(61, 30), fps=np.array([30]))
    np.save(own / "motions" / "two.npy", body(101, 50, seed=1))
    data = made(own, tmp_path / "out", "--fps", "50")
    wanted = body(121, 60)
    np.testing.assert_allclose(data.sequence("one").joints, wanted, atol=1e-3)
    np.testing.assert_allclose(data.sequence("two").joints, body(121, 60, seed=1), atol=1e-3)
    jitter = mean_jerk(wanted, 60)
    found = data.manifest["sequences"]["one"]["resampled"]
    assert found["fps"] == 30
    assert found["jitter"][1] == pytest.approx(jitter, rel=0.05)
    printed = capsys.readouterr().out
    assert "1 dances at 30 fps were resampled by cubic splines, jitter" in printed
    assert "1 dances at 50 fps were resampled" in printed
    speed = np.linalg.norm(np.diff(wanted, axis=0), axis=-1).mean() * 60
    assert data.manifest["sequences"]["one"]["speed"] == pytest.approx(speed, rel=0.01)
    assert "motion    0.1 minutes at 60 fps; joints move at 0." in printed
    assert "the head is above the toes along y in 100 % of frames" in printed
    again = made(own, tmp_path / "out", "--fps", "50")
    assert again.manifest == data.manifest
    assert "0 made, 3 were there already" in capsys.readouterr().out
    made(own, tmp_path / "out", "--fps", "25")
    assert "2 made" in capsys.readouterr().out


def test_other_axes_are_turned(own, tmp_path):
    np.save(own / "motions" / "one.npy", to_y_up(body(), "-z"))
    np.savez(own / "motions" / "two.npz", joints=to_y_up(body(90), "-z"), fps=60)
    np.testing.assert_allclose(
        made(own, tmp_path / "out", "--up", "z").sequence("one").joints, body(), atol=1e-6
    )
    assert main(["--adapter", str(own), "--no-songs", "--out", str(tmp_path / "b")]) == 1


def test_options_of_other_data_are_refused_elsewhere(own, tmp_path, capsys):
    for option, value in (("--fps", "30.0"), ("--up", "z")):
        assert main(["--source", str(own), "--out", str(tmp_path / "b"), option, value]) == 1
        assert f"{option} {value} goes with --adapter only" in capsys.readouterr().err
    assert main(["--adapter", str(own), "--out", str(tmp_path / "b"), "--fps", "-60"]) == 1
    assert "the frame rate must be 10 to 1000 Hz, got -60" in capsys.readouterr().err


def test_motion_that_no_body_makes_is_reported_and_stored(own, tmp_path, capsys):
    broken = body(300)
    broken[150:] += [5, 0, 0]
    broken[:, 22] = broken[:, 20]
    np.save(own / "motions" / "one.npy", broken)
    data = made(own, tmp_path / "out")
    assert data.implausible("one") == [(149, 150)]
    assert data.implausible("two") == []
    printed = capsys.readouterr().out
    assert (
        "note      1 dances have motion that no body makes, or T-poses; the key data.clips.implausible"
        in printed
    )
    assert "note      one: frames 149-150: " in printed
    assert "note      one: left_hand is missing: it lies on left_wrist in every frame" in printed
    del data.manifest["sequences"]["two"]["implausible"]
    with pytest.raises(ValueError, match=r"prepared without a check .* data.clips.implausible=keep"):
        data.implausible("two")


def test_beats_in_seconds_and_names_that_match_nothing(own, tmp_path, capsys):
    times = np.arange(0.4, 1.9, 0.37)
    table = {"one": {"frames": 120, "beats": times.tolist()}, "elsewhere": {"frames": 90, "beats": [3, 40]}}
    (own / "songs" / "one.wav").unlink()
    (tmp_path / "beats.json").write_text(json.dumps(table))
    data = made(own, tmp_path / "out", "--beats", str(tmp_path / "beats.json"))
    beats = data.sequence("two").beats
    assert len(beats) == 120
    np.testing.assert_array_equal(np.flatnonzero(beats), np.round(times * 60))
    assert f"beats of {tmp_path / 'beats.json'} that no dance needs: elsewhere" in capsys.readouterr().out
    (tmp_path / "beats.json").write_text('{"one": {"frames": 120, "beats": [500, 1000, 1500, 2000]}}')
    options = ["--no-songs", "--beats", str(tmp_path / "beats.json"), "--out", str(tmp_path / "out")]
    assert main(["--adapter", str(own), *options]) == 1
    assert "milliseconds: divide by 1000" in capsys.readouterr().err
