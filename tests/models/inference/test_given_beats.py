"""`dance.bpm` and `dance.beats`: what they change, and an error for everything that cannot be used."""

import json
import re

import numpy as np
import pytest
import torch

from models.inference.config import DanceConfig
from models.inference.prompts import Networks
from models.inference.songs import analyse, given_rhythm
from tests.models.inference.songs import SILENT, entries, motion
from utils.music.tempo import tempo_of


@pytest.fixture
def beats(tmp_path):
    """Beats at 150 bpm from 0.22 s on, for a song of three seconds whose own are at 120 bpm from 0 s on."""
    times = np.arange(0.22, 2.9, 0.4)
    (tmp_path / "song.beats").write_text("".join(f"{time:.3f} {i % 4 + 1}\n" for i, time in enumerate(times)))
    return tmp_path / "song.beats"


def facts_of(made):
    return json.loads(str(made["provenance"]))


def test_beats_of_a_file_are_those_of_the_dance(dance, songs, beats, tmp_path, caplog):
    with caplog.at_level("INFO"):
        assert dance(songs / "one.wav", *SILENT, f"dance.beats={beats}", "dance.start=beat") == 0
    assert "one.wav: 0:03, 150 BPM by song.beats" in caplog.text
    made = motion(tmp_path / "out", "one")
    np.testing.assert_array_equal(made["music_beats"], np.round(np.arange(0.22, 2.9, 0.4) * 60))
    facts = facts_of(made)
    assert (facts["tempo"], facts["beats_from"], facts["first_step"]) == ("150 BPM", "song.beats", 1)
    assert facts["tempo_bpm"] == pytest.approx(150)
    (card,) = entries(tmp_path / "out")
    shown = {name: value for name, value, _ in card["metrics"]}
    assert (shown["tempo"], shown["beats_from"]) == ("150 BPM", "song.beats")


def test_a_tempo_replaces_the_one_that_is_found(dance, songs, tmp_path, caplog):
    with caplog.at_level("INFO"):
        assert dance(songs, *SILENT, "dance.bpm=240") == 0
    for name in ("one", "two", "three"):
        made = motion(tmp_path / "out", name)
        assert tempo_of(made["music_beats"], 60).bpm == pytest.approx(240, rel=0.08)
        assert facts_of(made)["beats_from"] == "dance.bpm"
    assert "BPM by dance.bpm" in caplog.text


def test_what_is_found_in_the_song_has_no_source(dance, songs, tmp_path):
    assert dance(songs / "one.wav", *SILENT) == 0
    assert "beats_from" not in facts_of(motion(tmp_path / "out", "one"))


def test_features_follow_given_beats(networks, songs, beats):
    """Those of `standard`: a flag on the step that is nearest to each beat."""
    loaded = Networks(*networks, "standard", {})
    song = analyse(songs / "one.wav", loaded, given_rhythm(DanceConfig(beats=str(beats))))
    flags = np.flatnonzero(song.features[:, 53].numpy())
    np.testing.assert_array_equal(flags, np.round(np.arange(0.22, 2.9, 0.4) * 7.5))
    assert song.beats_from == "song.beats"


def test_a_gpt_without_beats_is_named(dance, songs, beats, caplog, files, tmp_path):
    """`compat` features hold none, so the codes stay; what is written says the given beats."""
    content = torch.load(files["gpt"], weights_only=True)
    content["architecture"]["music"] = "compat"
    torch.save(content, tmp_path / "compat.pt")
    files = f"checkpoint={tmp_path / 'compat.pt'}"
    assert dance(songs / "one.wav", *SILENT, files, f"dance.beats={beats}", out="given") == 0
    assert "song.beats does not change the codes: this GPT was trained on `compat` features" in caplog.text
    assert dance(songs / "one.wav", *SILENT, files, out="found") == 0
    given, found = (motion(tmp_path / out, "one") for out in ("given", "found"))
    np.testing.assert_array_equal(given["codes"], found["codes"])
    assert len(given["music_beats"]) == 7


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["dance.bpm=0"], "bpm: .*greater than or equal to 20"),
        (["dance.bpm=fast"], "bpm: .*number"),
        (["dance.bpm=120", "dance.beats=FILE"], "bpm and beats are both given; .* leave bpm out"),
        (["dance.beats=nowhere.txt"], "dance.beats: there is no file of beats nowhere.txt; check the path"),
        (["dance.beats=README.md"], r"dance.beats: README.md, line \d+: .* is no number; expected a time"),
        (["dance.beats=FILE", "TWO"], "holds the beats of one song, but there are 2 songs; .* one of them"),
        (["dance.beats=LATE"], "beat 2 of 2 is at 99 s, the song ends at 3.02 s; .* in seconds"),
    ],
    ids=str,
)
def test_errors_take_a_line(dance, songs, beats, tmp_path, capsys, caplog, more, message):
    (tmp_path / "late.txt").write_text("1.0\n99\n")
    names = {"FILE": str(beats), "LATE": str(tmp_path / "late.txt"), "TWO": str(songs / "two.mp3")}
    given = [next((a.replace(k, v) for k, v in names.items() if k in a), a) for a in more]
    assert dance(songs / "one.wav", *SILENT, *given) == 2
    told = capsys.readouterr().err + caplog.text
    assert "Traceback" not in told
    assert re.search(message, told), told
    assert not list((tmp_path / "out").rglob("*.npz"))
