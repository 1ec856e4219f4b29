"""Every kind of bad input ends in a clear line; the rest is prepared; what was prepared before stays."""

import json
import os
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

from datasets.sequences import PreparedData
from prepare_aistpp_data import main
from tests.datasets.aistpp.fakes import NAMES, motion, run, snapshot, write_motion, write_wav

BAD = "gWA_sFM_cAll_d25_mBR0_ch09"
pytestmark = pytest.mark.usefixtures("quick_music")


class Harmful:
    def __reduce__(self):
        return os.system, ("true",)


def changed(**arrays):
    return {key: value for key, value in {**motion(), **arrays}.items() if value is not None}


# a pickle of 60 bytes with an array that claims 2 ** 42 numbers
HUGE = pickle.dumps({"smpl_poses": np.zeros(3)}, 2).replace(
    b"K\x03\x85", b"\x8a\x06\x00\x00\x00\x00\x00\x04\x85"
)


def with_nan():
    poses = motion()["smpl_poses"].copy()
    poses[[7, 9], 3] = np.nan
    return poses


def frozen():
    return {key: np.repeat(v[:1], 130, 0) if np.ndim(v) == 2 else v for key, v in motion().items()}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "unreadable: .*empty"),
        (pickle.dumps(motion())[:-3000], "unreadable: .*damaged"),
        (b"<html>moved</html>", "unreadable: .*(damaged|refused)"),
        (pickle.dumps({**motion(), "x": Harmful()}), r"unreadable: .*names posix\.system"),
        (pickle.dumps([1, 2]), "wrong shape: .*holds a list"),
        (changed(smpl_trans=None), "wrong shape: .*has no smpl_trans"),
        (changed(smpl_poses=np.zeros((120, 156))), r"wrong shape: .*\(120, 156\).*24 joints"),
        (changed(smpl_trans=np.zeros((119, 3))), r"wrong shape: .*\(119, 3\) for 120 frames"),
        (changed(smpl_scaling=np.zeros(1)), r"wrong shape: .*\[0\.0\]; one positive"),
        (changed(smpl_poses=np.array(["a", "b"])), "wrong shape: .*not numbers"),
        (changed(smpl_poses=with_nan()), "NaN: .*in 2 frames, first 7"),
        (changed(smpl_trans=np.full((120, 3), np.inf)), "NaN: .*smpl_trans"),
        (frozen(), "frozen: nothing moves for 130 frames"),
        (motion(9), "too short: 9 frames"),
        (HUGE, r"unreadable: .*damaged"),
    ],
)
def test_a_bad_motion_is_left_out_by_name_and_the_rest_goes_on(source, tmp_path, content, reason, capsys):
    write_motion(source, BAD, content)
    assert main(["--source", str(source), "--out", str(tmp_path / "out"), "--workers", "1"]) == 0
    data = PreparedData(tmp_path / "out")
    assert data.names("all") == sorted(NAMES)
    left_out = data.manifest["left_out"]
    assert set(left_out) == {BAD, "gWA_sBM_cAll_d25_mWA0_ch01"}
    with pytest.raises(ValueError, match=reason):
        data.sequence(BAD)
    kind = reason.split(":")[0]
    assert data.manifest["report"]["left_out"] == {"ignored": 1, kind: 1}
    assert f"1 {kind}: {BAD}" in capsys.readouterr().out


def test_a_motion_that_goes_bad_later_takes_nothing_along(source, tmp_path):
    run(source, tmp_path / "out")
    before = snapshot(tmp_path / "out")
    write_motion(source, NAMES[0], b"")
    done = run(source, tmp_path / "out")
    assert (done.fresh, done.kept) == (0, 4)
    after = snapshot(tmp_path / "out")
    assert {k: v for k, v in after.items() if k.endswith(".npy")} == {
        k: v for k, v in before.items() if k.endswith(".npy")
    }
    assert NAMES[0] in done.manifest["left_out"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"unreadable: wav/mPO1\.wav is empty"),
        (b"no sound at all", "unreadable: .*no sound file"),
        (None, "missing song: mPO1 was not found"),
    ],
)
def test_dances_to_a_bad_song_are_left_out_or_kept_without_it(source, tmp_path, content, reason):
    song = source / "wav" / "mPO1.wav"
    song.unlink() if content is None else song.write_bytes(content)
    done = run(source, tmp_path / "a")
    assert list(done.manifest["sequences"]) == sorted(NAMES[:2])
    with pytest.raises(ValueError, match=reason):
        PreparedData(tmp_path / "a").sequence(NAMES[2])
    done = run(source, tmp_path / "b", optional=True)
    assert done.manifest["report"]["prepared"]["without_song"] == 1
    assert len(PreparedData(tmp_path / "b").sequence(NAMES[2]).music) == 0


def test_a_sound_of_another_kind_than_its_name_says_is_no_matter(source, tmp_path):
    (source / "wav" / "mPO1.wav").rename(source / "wav" / "mPO1.mp3")
    assert run(source, tmp_path / "out").manifest["songs"]["mPO1"]["features"] == 23


def test_a_song_shorter_than_its_dance_is_reported_and_not_cut(source, tmp_path, capsys):
    write_wav(source / "wav" / "mPO1.wav", 1.0)
    assert main(["--source", str(source), "--out", str(tmp_path / "out"), "--workers", "1"]) == 0
    sequence = PreparedData(tmp_path / "out").sequence(NAMES[2])
    assert (len(sequence.joints), len(sequence.beats)) == (120, 61)
    assert PreparedData(tmp_path / "out").manifest["report"]["lengths"]["dance_longer"] == {NAMES[2]: 59}
    assert f"1 longer: {NAMES[2]} by 1.0 s" in capsys.readouterr().out


def test_names_in_lists_are_checked(source, tmp_path):
    write_motion(source, "dance_of_mine", motion())
    train = source / "splits" / "crossmodal_train.txt"
    train.write_text(f"\ufeff{NAMES[1]}\r\n\n{NAMES[1]}\n{NAMES[2]}\ngBR_wrong\n", encoding="utf-8")
    done = run(source, tmp_path / "out")
    left_out = done.manifest["left_out"]
    assert left_out["gBR_wrong"].startswith("missing motion: the train list names it")
    assert left_out["dance_of_mine"].startswith("misnamed: 'dance_of_mine' is no AIST++ name")
    assert done.manifest["splits"]["train"] == [NAMES[1]]
    notes = " ".join(done.manifest["report"]["notes"])
    assert f"the train list names {NAMES[1]} more than once" in notes
    assert f"in the train list and a test list: {NAMES[2]}; kept for test only" in notes


def test_a_sequence_that_is_there_twice_is_read_once_and_told(source, tmp_path):
    copy = source / "extra" / "motions" / f"{NAMES[0]}.pkl"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(pickle.dumps(motion(60, 5)))
    done = run(source, tmp_path / "out")
    assert done.manifest["sequences"][NAMES[0]]["frames"] == 120
    assert f"{NAMES[0]} is there twice: motions/" in done.manifest["report"]["notes"][0]


def test_without_an_ignore_list_the_report_says_so(source, tmp_path):
    (source / "ignore_list.txt").unlink()
    assert "no ignore_list.txt" in run(source, tmp_path / "out").manifest["report"]["notes"][0]


def breaks(source, how):
    """Breaks a source as a whole; returns what to give to --source and further options."""
    options = []
    if how == "no split":
        (source / "splits" / "crossmodal_val.txt").unlink()
    elif how == "split not text":
        (source / "splits" / "crossmodal_val.txt").write_bytes(b"\xff\xfe\x00\x81")
    elif how == "no motions":
        for path in (source / "motions").iterdir():
            path.unlink()
    elif how == "all bad":
        for path in (source / "motions").iterdir():
            path.write_bytes(b"")
    elif how == "torn zip":
        archive = source.parent / "torn.zip"
        with zipfile.ZipFile(archive, "w") as file:
            file.write(source / "motions" / f"{NAMES[0]}.pkl", f"motions/{NAMES[0]}.pkl")
        archive.write_bytes(archive.read_bytes()[:-200])
        return archive, options
    elif how == "empty folder":
        (source / "nothing").mkdir()
        return source / "nothing", options
    elif how == "no such folder":
        return source / "nowhere", options
    elif how == "no such songs":
        options = ["--songs", str(source / "nowhere")]
    elif how == "bad rate":
        options = ["--music-fps", "0"]
    elif how == "bad beats":
        (source / "beats.json").write_text(json.dumps({"mBR0": {"frames": 10, "beats": [10]}}))
        options = ["--beats", str(source / "beats.json")]
    elif how == "no smpl":
        options = ["--smpl", str(source)]
    return source, options


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no split", r"crossmodal_val\.txt is missing"),
        ("split not text", r"crossmodal_val\.txt is not a text file"),
        ("no motions", r"no motions/\*\.pkl"),
        ("all bad", "all 4 sequences are left out"),
        ("torn zip", "neither a folder nor a whole zip"),
        ("empty folder", r"no motions/\*\.pkl in .*nothing"),
        ("no such folder", "nowhere does not exist"),
        ("no such songs", "nowhere does not exist"),
        ("bad rate", "--music-fps must be positive, got 0"),
        ("bad beats", "mBR0 is not {frames, beats}"),
        ("no smpl", "no male SMPL model"),
    ],
)
def test_what_nothing_can_go_on_without_is_one_line_and_loses_nothing(source, tmp_path, capsys, how, message):
    out = tmp_path / "out"
    run(source, out)
    before = snapshot(out)
    where, options = breaks(source, how)
    assert main(["--source", str(where), "--out", str(out), "--workers", "1", *options]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert re.search(message, error)
    after = snapshot(out)
    after.pop("progress.jsonl", None)
    assert after == before


def test_a_target_that_cannot_be_written_is_told(source, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert main(["--source", str(source), "--out", str(tmp_path / "file" / "out"), "--workers", "1"]) == 1
    assert "cannot write" in capsys.readouterr().err


def test_a_folder_that_is_read_only_is_told(source, tmp_path, capsys):
    out = tmp_path / "out"
    run(source, out)
    before = snapshot(out)
    out.chmod(0o555)
    try:
        where = out if os.geteuid() else Path("/proc/out")  # root may write where others may not
        assert main(["--source", str(source), "--out", str(where), "--workers", "1"]) == 1
    finally:
        out.chmod(0o755)
    error = capsys.readouterr().err
    assert re.search(f"cannot write {where}.*already prepared stays", error)
    assert error.count("\n") == 1
    assert snapshot(out) == before


@pytest.mark.parametrize(
    "content",
    [b"", b'{"format": 1, "name": "x', b"[]", b'{"format": 99}', b'{"format": 1, "name": 3}', b"\xff\xfe"],
)
def test_a_broken_manifest_is_told_and_made_anew(source, tmp_path, content):
    out = tmp_path / "out"
    run(source, out)
    before = snapshot(out)
    (out / "manifest.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"manifest\.json (is damaged|is not a manifest|has format 99)"):
        PreparedData(out)
    assert run(source, out).fresh == 5
    after = snapshot(out)
    assert after.pop("manifest.json.damaged") == content
    assert after == before


def test_paths_beyond_ascii_are_read(source, tmp_path):
    moved = tmp_path / "données été 舞"
    source.rename(moved)
    run(moved, tmp_path / "préparé")
    data = PreparedData(tmp_path / "préparé")
    assert data.song("mBR0").audio.is_file()
