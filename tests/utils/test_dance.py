"""The record of a dance, the checks of its parts, and its .npz file."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from tests.swaying import dance
from utils.dance import Dance, beat_indices, checked, load_codes, load_dance, save_dance
from utils.metrics.reading import read_dance

CODES = np.array([[1, 2], [3, 4]])


def whole():
    beats = np.zeros(40, bool)
    beats[[3, 12, 30]] = True  # the last one lies after the end
    return Dance("a", dance(16), beats, 60.0, "s", CODES, {"seed": 3, "run": "r"})


def test_a_file_gives_the_record_back(tmp_path):
    save_dance(tmp_path / "deep" / "a.npz", whole())
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a.npz"]
    for read in (load_dance, read_dance):  # ours, and the reader of anybody's files
        found = read(tmp_path / "deep" / "a.npz")
        np.testing.assert_array_equal(found.joints, dance(16))
        np.testing.assert_array_equal(found.codes, CODES)
        assert found.music_beats.tolist() == [3, 12]
        assert (found.name, found.fps, found.song) == ("a", 60, "s")
        assert found.provenance == {"song": "s", "seed": 3, "run": "r"}
    save_dance(tmp_path / "b.npz", found)
    assert (tmp_path / "b.npz").read_bytes() == (tmp_path / "deep" / "a.npz").read_bytes()


def test_the_arrays_of_the_file(tmp_path):
    """The format does not change: others read it."""
    save_dance(tmp_path / "a.npz", whole())
    save_dance(tmp_path / "b.npz", Dance("b", dance(16).astype(float)))
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert list(file) == ["joints", "codes", "fps", "song", "provenance", "music_beats"]
        assert (file["joints"].dtype, file["codes"].dtype) == (np.float32, np.int64)
        assert json.loads(str(file["provenance"])) == {"song": "s", "seed": 3, "run": "r"}
    with np.load(tmp_path / "b.npz", allow_pickle=False) as file:
        assert "music_beats" not in file
        assert (file["codes"].shape, str(file["song"]), str(file["provenance"])) == ((0, 2), "", "{}")
    found = load_dance(tmp_path / "b.npz")
    assert (found.codes, found.music_beats, found.provenance) == (None, None, {})


def test_older_and_other_files(tmp_path):
    np.savez(tmp_path / "a.npz", joints=dance(16))
    assert load_dance(tmp_path / "a.npz").fps == 60
    np.savez(tmp_path / "a.npz", joints=dance(16), fps=30, provenance="of another program")
    found = load_dance(tmp_path / "a.npz")
    assert (found.fps, found.provenance) == (30, {})
    np.savez(tmp_path / "c.npz", codes=CODES)
    np.testing.assert_array_equal(load_codes(tmp_path / "c.npz"), CODES)


def test_files_that_cannot_be_read(tmp_path):
    np.savez(tmp_path / "a.npz", joints=dance(16), codes=CODES * 0.5)
    np.savez(tmp_path / "b.npz", values=CODES)
    np.save(tmp_path / "c.npy", CODES)
    (tmp_path / "d.npz").write_bytes(b"PK no archive")
    for name, why in (
        ("a.npz", r"codes must be \(T', 2\) integers"),
        ("b.npz", "holds no `joints`, but values"),
        ("c.npy", "a single array"),
        ("d.npz", "d.npz: "),
    ):
        with pytest.raises(ValueError, match=rf"{name}: .*{why}|{why}"):
            load_dance(tmp_path / name)
    with pytest.raises(ValueError, match="holds no `codes`, but values"):
        load_codes(tmp_path / "b.npz")
    with pytest.raises(FileNotFoundError):
        load_dance(tmp_path / "gone.npz")


def test_parts_are_checked_and_the_dance_is_named():
    good = checked(whole())
    assert good.music_beats.tolist() == [3, 12]
    assert checked(replace(good, codes=CODES[:0])).codes is None
    broken = dance(16)
    broken[5, 15, 1] = np.inf
    for change, why in (
        ({"joints": broken}, "joints must be finite, got inf in frame 5, joint head, axis y"),
        ({"joints": dance(16)[:, :22]}, r"must be \(T, 24, 3\), got shape \(16, 22, 3\)"),
        ({"joints": dance(16).astype(str)}, r"got shape \(16, 24, 3\) of type <U"),
        ({"joints": dance(16)[:0]}, "at least 1 frames here, got 0"),
        ({"codes": CODES[:, :1]}, r"codes must be \(T', 2\) integers"),
        ({"fps": math.nan}, "fps nan"),
        ({"music_beats": np.array([1.5])}, "whole numbers"),
    ):
        with pytest.raises(ValueError, match=f"dance 'a': .*{why}"):
            checked(replace(whole(), **change))


def test_beat_indices():
    assert beat_indices(np.array([5, 2, 2, 9]), 9).tolist() == [2, 5]
    assert beat_indices(np.array([False, True, True]), 2).tolist() == [1]
    assert beat_indices(np.array([], float), 9).tolist() == []
    flags = np.array([0, 0, 1, 0, 1, 1, 0])
    for kind in (bool, np.int64, np.uint8, np.float32):
        assert beat_indices(flags.astype(kind), 9).tolist() == [2, 4, 5]
        assert beat_indices(flags.astype(kind), 5).tolist() == [2, 4]
        assert beat_indices(flags.astype(kind)[:, None], 9).tolist() == [2, 4, 5]
    assert beat_indices(np.zeros(7, int), 9).tolist() == []
    assert beat_indices(np.ones(3, int), 9).tolist() == [0, 1, 2]
    for indices in ([0], [1], [0, 1]):  # these ascend
        assert beat_indices(np.array(indices), 9).tolist() == indices
    for neither in ([0, 0, 255, 0], [0, 1, 0, 2, 0, 3]):
        with pytest.raises(ValueError, match=r"neither frame indices \(0 occurs \d times\) nor flags"):
            beat_indices(np.array(neither), 9)
    with pytest.raises(ValueError, match=r"whole numbers >= 0, got 0.5, 1; times in seconds"):
        beat_indices(np.array([0.5, 1.0]), 9)
    for wrong in ([1.5], [-1], [math.nan], [[1, 2], [3, 4]]):
        with pytest.raises(ValueError, match="beat"):
            beat_indices(np.array(wrong), 9)
