import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from datasets.aistpp import preparation
from datasets.aistpp.annotations import parse_name
from datasets.aistpp.layouts import aistpp_plan
from datasets.aistpp.preparation import prepare
from datasets.aistpp.songs import MusicOptions
from datasets.sequences import PreparedData
from prepare_aistpp_data import main
from tests.datasets.aistpp.fakes import NAMES, motion, official, snapshot, write_motion, write_wav
from tests.helpers import ROOT, real_data
from utils.smpl import rest_joints

VERSIONS = {"librosa": "0"}


def run(source, out, rest=None, **music):
    plan = aistpp_plan(source, rest_joints() if rest is None else rest, MusicOptions(**music))
    return prepare(plan, out, VERSIONS, progress=False)


@pytest.mark.usefixtures("quick_music")
def test_the_official_layout_is_prepared(source, tmp_path):
    out = tmp_path / "out"
    assert run(source, out).fresh == 5
    data = PreparedData(out)
    assert data.names("train") == [NAMES[1]]
    assert data.names("test") == [NAMES[0], NAMES[2]]  # the val and the test list together
    assert data.names("all") == sorted(NAMES)
    assert (data.songs, data.genre(NAMES[2])) == (["mBR0", "mPO1"], "PO")
    assert (data.feature_version, data.music_fps, data.fps, data.num_features) == ("beat_phase", 7.5, 60, 58)
    sequence = data.sequence(NAMES[0])
    assert isinstance(sequence.joints, np.memmap)
    assert isinstance(sequence.music, np.memmap)
    assert (sequence.song, sequence.joints.shape, sequence.joints.dtype) == ("mBR0", (120, 24, 3), np.float32)
    assert (sequence.music.shape, sequence.beats.shape, sequence.beats.dtype) == ((16, 58), (121,), bool)
    assert data.song("mBR0").audio.samefile(source / "wav" / "mBR0.wav")
    manifest = data.manifest
    assert manifest["libraries"] == VERSIONS
    assert manifest["splits"]["lists"]["val"] == [NAMES[0]]
    assert manifest["left_out"] == {"gWA_sBM_cAll_d25_mWA0_ch01": "ignored: on the ignore list"}
    report = manifest["report"]
    assert report["expected"] == {
        "declared": 1408, "released": 1365, "after_ignore_list": 1320, "train": 952, "test": 40
    }  # fmt: skip
    assert report["found"] == {"motions": 3, "songs": 2}
    assert report["prepared"] == {"sequences": 3, "train": 1, "test": 2, "songs": 2, "without_song": 0}
    assert report["lengths"]["song_longer"] == 3


@pytest.mark.usefixtures("quick_music")
def test_the_zip_gives_what_the_folder_gives_and_keeps_the_sound(source, tmp_path):
    archive = tmp_path / "aist_plusplus_final.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in source.rglob("*"):
            file.write(path, "aist_plusplus_final/" + str(path.relative_to(source)))
        file.writestr("__MACOSX/motions/._x.pkl", b"junk")
    run(source, tmp_path / "a")
    run(archive, tmp_path / "b")
    a, b = snapshot(tmp_path / "a"), snapshot(tmp_path / "b")
    arrays = [name for name in a if name.endswith(".npy")]
    assert len(arrays) == 7
    assert all(a[name] == b[name] for name in arrays)
    audio = PreparedData(tmp_path / "b").song("mPO1").audio
    assert audio.read_bytes() == (source / "wav" / "mPO1.wav").read_bytes()
    assert audio.parent == tmp_path / "b" / "audio"
    assert run(archive, tmp_path / "b").fresh == 0
    audio.unlink()
    assert run(archive, tmp_path / "b").fresh == 1


@pytest.mark.usefixtures("quick_music")
def test_a_second_run_does_nothing_and_changes_no_byte(source, tmp_path):
    out = tmp_path / "out"
    run(source, out)
    before = snapshot(out)
    for path in source.rglob("*"):
        os.utime(path)  # a touched file is not a changed one
    done = run(source, out)
    assert (done.fresh, done.kept) == (0, 5)
    assert snapshot(out) == before
    assert not [name for name in before if name.endswith((".jsonl", ".tmp"))]


@pytest.mark.usefixtures("quick_music")
def test_only_what_is_missing_or_changed_is_done(source, tmp_path):
    out = tmp_path / "out"
    run(source, out)
    write_motion(source, NAMES[0], motion(90, 9))
    assert run(source, out).fresh == 1
    assert PreparedData(out).sequence(NAMES[0]).joints.shape[0] == 90
    (out / "motion" / f"{NAMES[1]}.npy").unlink()
    torn = out / "music" / "mBR0.beats.npy"
    torn.write_bytes(torn.read_bytes()[:-5])
    assert run(source, out).fresh == 2
    write_wav(source / "wav" / "mBR0.wav", 2.5)
    assert run(source, out).fresh == 1
    assert run(source, out, version="compat").fresh == 2
    assert run(source, out, rest=rest_joints("female"), version="compat").fresh == 3
    fresh = tmp_path / "fresh"
    run(source, fresh, rest=rest_joints("female"), version="compat")
    assert snapshot(fresh) == snapshot(out)


@pytest.mark.usefixtures("quick_music")
def test_a_manifest_never_describes_files_made_with_other_options(source, tmp_path, monkeypatch):
    out = tmp_path / "out"
    run(source, out)
    with monkeypatch.context() as patch:
        patch.setattr(
            "datasets.aistpp.preparation._songs", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            run(source, out, version="compat")
    with pytest.raises(FileNotFoundError, match="prepare_aistpp_data"):
        PreparedData(out)
    done = run(source, out)
    assert (done.fresh, done.kept) == (0, 5)


@pytest.mark.usefixtures("quick_music")
def test_a_run_that_is_cut_short_anywhere_goes_on_to_the_same_bytes(source, tmp_path, monkeypatch):
    run(source, tmp_path / "whole")
    whole, write = snapshot(tmp_path / "whole"), preparation.write_array
    for stop in range(7):
        out, left = tmp_path / f"cut{stop}", [stop]

        def die(path, array, left=left):
            if not left[0]:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.with_name(f".{path.name}.1.tmp").write_bytes(b"half")
                raise KeyboardInterrupt
            left[0] -= 1
            write(path, array)

        with monkeypatch.context() as patch:
            patch.setattr("datasets.aistpp.preparation.write_array", die)
            with pytest.raises(KeyboardInterrupt):
                run(source, out)
        with (out / "progress.jsonl").open("a") as journal:
            journal.write('["sequences", "gBR')  # as a kill leaves it
        again = run(source, out)
        assert again.fresh + again.kept == 5
        assert again.kept == min(stop, 3) + max(0, (stop - 3) // 2)
        assert snapshot(out) == whole


@pytest.mark.usefixtures("quick_music")
def test_a_killed_process_loses_nothing_and_leaves_no_workers(tmp_path):
    names = [f"gBR_sBM_cAll_d04_mBR0_ch{i:02d}" for i in range(40)]
    source = tmp_path / "source"
    for seed, name in enumerate(names):
        write_motion(source, name, motion(900, seed))
    for split in ("train", "val", "test"):
        (source / "splits").mkdir(exist_ok=True)
        listed = "\n".join(names if split == "train" else [])
        (source / "splits" / f"crossmodal_{split}.txt").write_text(listed)
    command = [
        sys.executable,
        "prepare_aistpp_data.py",
        "--source",
        str(source),
        "--no-songs",
        "--workers",
        "2",
    ]
    out = tmp_path / "killed"
    process = subprocess.Popen([*command, "--out", str(out)], cwd=ROOT, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(out.glob("motion/*.npy"))) < 3:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.005)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "manifest.json").exists()
    assert len(children) >= 2
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert main([*command[2:-2], "--out", str(out), "--workers", "1"]) == 0
    assert main([*command[2:-2], "--out", str(tmp_path / "whole"), "--workers", "1"]) == 0
    assert snapshot(out) == snapshot(tmp_path / "whole")


@pytest.mark.usefixtures("quick_music")
def test_songs_are_found_in_the_usual_folders_or_where_told_and_read_once(source, tmp_path, monkeypatch):
    from datasets import music

    read = []
    fake = music.song_features
    spy = lambda path, **options: read.append(path.name) or fake(path, **options)  # noqa: E731
    monkeypatch.setattr("datasets.music.song_features", spy)
    (source / "wav").rename(source / "all_musics")
    write_wav(source / "all_musics" / "mBR0.mp3")
    done = run(source, tmp_path / "a")
    assert sorted(read) == ["mBR0.wav", "mPO1.wav"]
    assert "song mBR0 is there twice" in done.manifest["report"]["notes"][0]
    (source / "all_musics").rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="--songs DIR, or --no-songs"):
        run(source, tmp_path / "b")
    assert not (tmp_path / "b").exists()
    run(source, tmp_path / "b", folder=tmp_path / "elsewhere")
    assert PreparedData(tmp_path / "b").songs == ["mBR0", "mPO1"]


def test_the_real_extractor_goes_through_the_command_line(tmp_path):
    source = official(tmp_path / "source")
    shutil.copyfile(source / "wav" / "mBR0.wav", source / "wav" / "mPO1.mp3")  # a wav by another name
    (source / "wav" / "mPO1.wav").unlink()
    write_wav(source / "wav" / "mBR0.wav", 3.0, rate=22050)
    assert main(["--source", str(source), "--out", str(tmp_path / "out"), "--workers", "1"]) == 0
    data = PreparedData(tmp_path / "out")
    song = data.song("mBR0")
    assert (song.features.shape, song.beats.shape) == ((23, 58), (181,))
    assert song.beats.sum() >= 3  # clicks twice a second
    assert len(data.song("mPO1").features) == 16
    assert data.manifest["libraries"]["librosa"]


def test_the_command_line_ends_in_one_line_and_a_status(tmp_path, capsys):
    assert main(["--source", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert "nowhere does not exist" in captured.err
    with pytest.raises(SystemExit) as stop:
        main(["--sample", "--published", "x"])
    assert stop.value.code == 2


def test_names_say_genre_and_song():
    assert parse_name("gJS_sFM_cAll_d02_mJS4_ch09") == ("JS", "mJS4")
    good = "gJS_sFM_cAll_d02_mJS4_ch09"
    for wrong in ("gJS_sFM_cAll_d02_mJS4", "x", f"{good}.pkl", f"../{good}"):
        with pytest.raises(ValueError, match="no AIST"):
            parse_name(wrong)


def test_the_five_real_motions_go_through_with_the_given_beats(tmp_path, capsys):
    beats = real_data() / "music_beats_60fps.json"
    out = tmp_path / "réal données"
    assert main(["--source", str(real_data()), "--no-songs", "--beats", str(beats), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "found     5 motion files (1360 fewer than released), 0 songs" in printed
    assert (
        "expected  1408 sequences declared, 1365 released, 1320 after the ignore list; train 952" in printed
    )
    assert "made with librosa" in printed
    assert "prepared  5 sequences (train 4, test 1), 4 songs; 5 sequences have no music" in printed
    assert "gJS_sFM_cAll_d02_mJS4_ch09 by 24.0 s" in printed
    data = PreparedData(out)
    frames = {name: len(data.sequence(name).joints) for name in data.names("all")}
    assert sorted(frames.values()) == [576, 576, 576, 720, 1919]
    assert len(data.manifest["left_out"]) == 45 + (980 - 28 - 4) + 39
    table = json.loads(beats.read_text())
    scores = {}
    for name in data.names("all"):
        sequence = data.sequence(name)
        assert sequence.music.shape == (0, 58)
        np.testing.assert_array_equal(np.flatnonzero(sequence.beats), table[sequence.song]["beats"])
        scores[name] = beat_align(sequence)
    basic = [scores[name].round(3) for name in sorted(scores) if "_sBM_" in name]
    assert basic == [0.226, 0.298, 0.316, 0.157]


def beat_align(sequence):
    """The score as its formula says it, in plain loops."""
    frames = min(len(sequence.joints), len(sequence.beats))
    joints = np.asarray(sequence.joints[:frames], np.float64)
    speed = gaussian_filter1d(np.linalg.norm(np.diff(joints, axis=0), axis=-1).mean(1), 5)
    inner = range(1, len(speed) - 1)
    motion_beats = [t for t in inner if speed[t] < speed[t - 1] and speed[t] < speed[t + 1]]
    music_beats = np.flatnonzero(sequence.beats[:frames])
    nearest = [min(abs(b - m) for m in motion_beats) for b in music_beats]
    return np.mean(np.exp(-np.square(nearest) / 18.0))


def test_a_prepared_folder_can_be_moved(source, tmp_path, monkeypatch, quick_music):
    raw = tmp_path / "set" / "raw"
    raw.parent.mkdir()
    source.rename(raw)
    run(raw, tmp_path / "set")
    (tmp_path / "set").rename(tmp_path / "moved")
    audio = PreparedData(tmp_path / "moved").song("mBR0").audio
    assert audio == Path(tmp_path / "moved" / "raw" / "wav" / "mBR0.wav")
