"""Beats from files of annotations: every form, and an error for everything that is none."""

import json

import mir_eval
import numpy as np
import pytest

from utils.music.beat_files import read_beat_times

TIMES = [0.5, 1.02, 1.5, 2.25]
FORMS = {
    "plain.txt": "0.5\n1.02\n1.5\n2.25\n",
    "windows.txt": "\ufeff0.5\r\n1.02\r\n1.5\r\n2.25\r\n",
    "numbered.beats": "# time bar.beat\n0.5 1.1\n1.02\t1.2\n\n1.5 1.3\n2.25 1.4",
    "audacity.txt": "0.500000\t0.500000\t1\n\\\t0.0\t90.1\n1.020000\t1.02\tsnare\n1.5\t1.6\n2.25\t2.25\tend",
    "list.json": json.dumps(TIMES),
    "object.JSON": json.dumps({"tempo": 120, "beats": TIMES}),
    "exponent.txt": "5e-1\n1.02e0\n1.5\n2.25",
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_times(name, tmp_path):
    (tmp_path / name).write_text(FORMS[name], encoding="utf-8")
    np.testing.assert_array_equal(read_beat_times(tmp_path / name), TIMES)


def test_as_mir_eval_reads_it(tmp_path):
    times = np.sort(np.random.default_rng(0).uniform(0, 60, 100)).round(6)
    (tmp_path / "song.beats").write_text("".join(f"{time:f}\n" for time in times))
    np.testing.assert_array_equal(
        read_beat_times(tmp_path / "song.beats"), mir_eval.io.load_events(str(tmp_path / "song.beats"))
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "", "holds no beats; expected a time in seconds per line"),
        ("a.txt", "# only a comment\n", "holds no beats"),
        ("a.txt", "0.5\nbeat\n", "line 2: 'beat' is no number"),
        ("a.txt", "0,5\t0,5\t1\n", "line 1: '0,5' is no number.*decimals with a point"),
        ("a.txt", "0.5\n-1\n", "line 2: -1 is no time of a beat; expected seconds from 0 on"),
        ("a.txt", "0.5\nnan\n", "line 2: nan is no time of a beat"),
        ("a.txt", "0.5\n1.5\n\n1.2\n", "line 4: 1.2 s does not come after 1.5 s; expected .* ascending"),
        ("a.txt", "0.5\n0.5\n", "line 2: 0.5 s does not come after 0.5 s"),
        ("a.txt", b"\xff\xfe\x00RIFF\x80", "cannot be read as text"),
        ("a.json", "[0.5, 1.0", "is no JSON"),
        ("a.json", "{}", "holds an object without a list `beats`; expected a list of seconds"),
        ("a.json", "3", "holds int; expected a list"),
        ("a.json", '[0.5, "1.0"]', "entry 2: '1.0' is no number"),
        ("a.json", "[false, true]", "entry 1: False is no number"),
        ("a.json", "[]", "holds no beats"),
        ("a.json", "[1.5, 0.5]", "entry 2: 0.5 s does not come after"),
    ],
)
def test_errors_name_file_place_and_what_is_expected(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=rf"{name}.*{message}"):
        read_beat_times(tmp_path / name)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file of beats .*nowhere\.txt; check the path"):
        read_beat_times(tmp_path / "nowhere.txt")
    with pytest.raises(FileNotFoundError, match="no file of beats"):
        read_beat_times(tmp_path)
