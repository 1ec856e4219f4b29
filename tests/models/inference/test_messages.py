"""Messages of --dance, what is there when it is stopped, and remarks on its dances."""

import json
import logging
import re
import sys

import av
import numpy as np
import pytest

from models.generation import GenerationConfig
from models.inference import dance as dance_module
from models.inference import songs as songs_module
from models.inference.dance import Progress, clock, say
from tests.models.inference.songs import RATE, SILENT, encode, entries, motion, sound
from utils.dance import Dance
from utils.music import audio

LINE = r"  one: {}, \d+\.\d s"


def test_every_song_and_every_kind_of_file_has_a_line(dance, songs, caplog, capsys):
    with caplog.at_level("INFO"):
        assert dance(songs / "one.wav", songs / "two.mp3", "dance.video_height=96") == 0
    lines = [record.getMessage() for record in caplog.records]
    tempo = r"\d+ BPM(, unsteady \(\d+ to \d+\))?"
    kinds = (
        "Motion", "metrics and beat plot", "rotations", "BVH", "glTF", "SMPL", "Video", "Player", "picture",
    )  # fmt: skip
    expected = [
        r"loading the weights .*",
        r"motion_gpt, epoch 3, of .*gpt\.pt: \d+\.\d s",
        rf"song 1 of 2: one\.wav: 0:03, {tempo}",
        rf"song 2 of 2: two\.mp3: 0:04, {tempo}",
        r"generating 2 dances, 0:07 of music",
        r"generated in \d+\.\d s",
        rf"dance 1 of 2: one \(0:03, {tempo}\)",
        *[LINE.format(kind) for kind in kinds],
        rf"dance 2 of 2: two \(0:04, {tempo}\)",
        rf"  one  0:03, {tempo}: \d+\.\d s",
        rf"  two  0:04, {tempo}: \d+\.\d s",
        r"took \d:\d\d \(weights \d.*codes \d.*Video \d.*\)",
    ]
    at = 0
    for wanted in expected:
        found = [number for number in range(at, len(lines)) if re.fullmatch(wanted, lines[number])]
        assert found, (wanted, lines[at:])
        at = found[0]
    written = capsys.readouterr()
    assert "\r" not in written.err + written.out  # no bars where there is no terminal
    assert "open " in written.out


def test_bars_are_for_terminals(dance, songs, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert dance(songs / "one.wav", *SILENT) == 0
    err = capsys.readouterr().err
    assert "dances: " in err
    for what in ("analysing one.wav", "generating", "one: metrics"):
        assert what in err


def test_what_is_done_is_there_when_a_later_song_stops_it(dance, songs, tmp_path, monkeypatch):
    """Ctrl-C while the third song is analysed: the files and the index of the first two are written."""
    analysed = []

    def listen(path, networks, given):
        analysed.append(path.stem)
        if len(analysed) == 3:
            assert sorted(card["name"] for card in entries(tmp_path / "out")) == ["one", "three"]
            raise KeyboardInterrupt
        return analyse(path, networks, given)

    analyse = songs_module.analyse
    monkeypatch.setattr(songs_module, "analyse", listen)
    monkeypatch.setattr(dance_module, "_DANCES_PER_BATCH", 2)
    assert dance(songs, *SILENT) == 130
    assert analysed == ["one", "three", "two"]
    for name in ("one", "three"):
        assert len(motion(tmp_path / "out", name)["joints"]) > 100
    assert not (tmp_path / "out" / "two.npz").exists()


def test_a_turn_of_bad_songs_is_passed_over(dance, songs, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "mixed"
    folder.mkdir()
    for name in ("a.mp3", "b.mp3", "d.mp3"):
        (folder / name).write_bytes(b"no sound" * 100)
    (folder / "c.mp3").write_bytes((songs / "two.mp3").read_bytes())
    monkeypatch.setattr(dance_module, "_DANCES_PER_BATCH", 1)
    assert dance(folder, *SILENT) == 1
    assert [card["name"] for card in entries(tmp_path / "out")] == ["c"]
    page = (tmp_path / "out" / "index.html").read_text()
    assert all(f"{name}.mp3" in page for name in "abd")  # also the one that comes after the last dance
    assert "3 left out:" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name", ["Ba$$in", "100$_$50", "Ke$ha & A$AP", "CON", "a:b?", "\u97f3\u697d \U0001f3b5"]
)
def test_any_file_name_gives_a_dance(dance, tmp_path, name, caplog):
    audio.write_wav(tmp_path / f"{name}.wav", sound(2.2), RATE)
    (tmp_path / "with sound.wav").touch()
    with caplog.at_level(logging.WARNING):
        assert dance(tmp_path / f"{name}.wav", "dance.formats=[mp4,html]", "dance.video_height=96") == 0
    assert not caplog.records
    out = tmp_path / "out"
    (card,) = entries(out)
    assert card["name"] == name
    (video,) = out.glob("*.mp4")
    assert not re.search(r'[<>:"|?*]', video.name)
    with av.open(str(video)) as container:
        assert container.streams.video[0].frames > 100
    (page,) = out.glob("[!i]*.html")
    data = json.loads(re.search(r'id="data"[^>]*>(.*?)</script>', page.read_text("utf-8"), re.S)[1])
    assert (data["title"], data["dances"][0]["name"]) == (name, name)
    assert dict(data["dances"][0]["facts"])["tempo"].endswith("BPM")
    assert (out / "plots" / f"{video.stem}.png").is_file()


def test_the_tempo_is_on_the_card_and_in_the_log(dance, tmp_path, caplog):
    encode(tmp_path / "steady.mp3", sound(12.0, 0.5), "libmp3lame")
    with caplog.at_level("INFO"):
        assert dance(tmp_path / "steady.mp3", *SILENT) == 0
    (card,) = entries(tmp_path / "out")
    assert dict(line[:2] for line in card["metrics"])["tempo"] == "120 BPM"
    assert "steady.mp3: 0:12, 120 BPM" in caplog.text


def made(joints, rest=0):
    return Dance("a", joints, provenance={"first_step": rest})


def test_a_dance_that_stands_still_says_so_and_what_to_try():
    swing = np.sin(np.arange(600) / 60 * 6)[:, None, None] * np.ones((1, 24, 3)) * 0.2
    still = np.repeat(swing[:1], 600, 0)
    half = np.concatenate([swing, still])
    greedy, drawn = GenerationConfig(), GenerationConfig(temperature=1.0, seed=4)
    assert dance_module.remarks(made(swing), greedy) == []
    for joints in (still, half):
        (note,) = dance_module.remarks(made(joints), greedy)
        assert "mostly stands still" in note
        assert note.endswith("try dance.temperature=1 dance.top_p=0.9 dance.max_hold=10")
    assert "slower than 5 cm/s for 100 % of the time" in dance_module.remarks(made(still), greedy)[0]
    assert "generation.seed=5" in dance_module.remarks(made(half), drawn)[0]
    slow = swing * 0.08  # never quite still, but hardly moves
    assert "mostly stands still" in dance_module.remarks(made(slow), greedy)[0]
    waits = np.concatenate([still, swing])  # until the first beat, as it was told to
    assert dance_module.remarks(made(waits, rest=600 // 8), greedy) == []
    assert dance_module.remarks(made(still[:60]), greedy) == []  # too short to say


def test_the_note_is_on_the_card_and_in_the_log(dance, songs, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(dance_module, "_STILL_SPEED", 1e9)
    with caplog.at_level("INFO"):
        assert dance(songs / "one.wav", *SILENT, "dance.temperature=0") == 0
    assert "one mostly stands still: it moves slower than" in caplog.text
    (card,) = entries(tmp_path / "out")
    assert card["notes"][0].startswith("Mostly stands still")
    assert "dance.temperature=1 dance.top_p=0.9" in card["notes"][0]


def test_times_and_terminals(capsys, monkeypatch):
    assert [clock(seconds) for seconds in (3.4, 65, 3599.6, 3723)] == ["0:03", "1:05", "1:00:00", "1:02:03"]

    class Ascii:
        encoding = "ascii"

        def __init__(self):
            self.text = ""

        def write(self, text):
            self.text += text.encode("ascii").decode()

    out = Ascii()
    monkeypatch.setattr(sys, "stdout", out)
    say(["na\u00efve \U0001f3b5", "plain"])
    assert out.text == "na?ve ?\nplain\n"


def test_the_progress_times_what_fails(caplog):
    progress = Progress()
    with (
        caplog.at_level("INFO"),
        progress.writing(1, 2, "a", "0:03, 120 BPM"),
        pytest.raises(OSError, match="full"),
    ):
        with progress.of("video"):
            raise OSError("full")
    assert "video" in progress.seconds
    assert "a: video" not in caplog.text  # it is not there
    assert progress.dances[0][:2] == ("a", "0:03, 120 BPM")
