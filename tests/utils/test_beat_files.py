"""Frames and seconds are told apart by the tempo; every form of a table gives the same times."""

import json

import numpy as np
import pytest

from utils.beat_files import beat_times, read_beat_table

TIMES = np.array([0.5, 1.0, 1.5, 2.0, 2.5])


@pytest.mark.parametrize(
    ("beats", "fps", "times"),
    [
        (TIMES * 60, 60, TIMES),  # frames
        ((TIMES * 60).astype(int), 60, TIMES),
        (TIMES * 30, 30, TIMES),
        (TIMES, 60, TIMES),  # seconds
        ([1, 2, 3, 4], 60, [1, 2, 3, 4]),  # whole seconds: as frames they would be 3,600 bpm
        ([2, 4, 6], 60, [2, 4, 6]),
        ([0.0, 0.52, 1.01], 60, [0, 0.52, 1.01]),
        ([30.5, 60.25, 91.0], 60, [30.5 / 60, 60.25 / 60, 91 / 60]),  # frames of a tracker between frames
        ([3], 60, [0.05]),
        ([12, 400], 60, [0.2, 400 / 60]),  # two beats far apart: frames
        ([90, 30, 60], 60, [0.5, 1.0, 1.5]),
        (np.arange(120) % 30 == 6, 60, [0.1, 0.6, 1.1, 1.6]),
        ((np.arange(120) % 30 == 6).astype(float), 60, [0.1, 0.6, 1.1, 1.6]),
        ([], 60, []),
        (np.array([[30], [60]]), 60, [0.5, 1.0]),
    ],
)
def test_units_are_told_apart(beats, fps, times):
    np.testing.assert_allclose(beat_times(beats, fps), times)


@pytest.mark.parametrize(
    ("beats", "message"),
    [
        (
            [500, 1000, 1500, 2000],
            r"beats 500 apart are neither frames at 60 fps \(8.33 s\) nor seconds \(milli",
        ),
        ([22050, 44100, 66150, 88200], r"22050 apart are neither frames at 60 fps \(368 s\) nor seconds$"),
        ([0.01, 0.02, 0.03, 0.04], r"beats 0.01 apart are neither frames"),
        ([0.5], "a single beat at 0.5 may be a frame or a second"),
        ([-1, 30], "whole numbers >= 0"),
        ([np.nan, 1], "whole numbers >= 0"),
        (["a"], "got <U1 values"),
    ],
)
def test_other_units_are_refused_with_the_numbers(beats, message):
    with pytest.raises(ValueError, match=message):
        beat_times(beats, 60)


def test_tables(tmp_path):
    path = tmp_path / "beats.json"
    frames = (TIMES * 60).astype(int).tolist()
    entries = {
        "list": frames, "seconds": TIMES.tolist(), "frames": {"frames": 200, "beats": frames},
        "mixed": {"frames": 200, "beats": TIMES.tolist()},
        "rate": {"fps": 30, "frames": 100, "beats": (TIMES * 30).astype(int).tolist()},
        "named": {"seconds": 3.5, "beats": TIMES.tolist()}, "plain": {"beats": frames},
    }  # fmt: skip
    path.write_text(json.dumps(entries))
    table = read_beat_table(path, 60)
    assert list(table) == list(entries)
    for beats in table.values():
        np.testing.assert_allclose(beats.times, TIMES)
    lengths = {name: beats.seconds for name, beats in table.items()}
    assert lengths["frames"] == lengths["mixed"] == lengths["rate"] == pytest.approx(10 / 3)
    assert lengths["named"] == 3.5
    assert lengths["list"] is lengths["plain"] is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": {"frames": 9, "beats": [9]}}', r"a is not {frames, beats} .*a beat at 0.15 s of 0.15"),
        ('{"a": {"seconds": 2, "beats": [1, 2]}}', "a beat at 2.00 s of 2.00"),
        ('{"a": {"frames": 9}}', r"a is not .*\(no 'beats'\)"),
        ('{"a": {"fps": 0, "beats": [9]}}', "the frame rate must be 10 to 1000 Hz, got 0"),
        ('{"a": "x"}', r"name -> beat frames is expected, or seconds \(a: "),
        ("[1, 2]", "name -> beats is expected, got a list"),
        ('{"a": [1', "is no JSON"),
    ],
)
def test_tables_of_another_form_are_refused(tmp_path, text, message):
    (tmp_path / "beats.json").write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_beat_table(tmp_path / "beats.json", 60)
    assert str(tmp_path / "beats.json") in str(error.value)


def test_a_missing_table(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.json with the beats of the songs does not exist"):
        read_beat_table(tmp_path / "no.json", 60)
