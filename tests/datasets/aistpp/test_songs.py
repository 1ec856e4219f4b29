"""A folder of songs alone, of any format, becomes prepared data without dances."""

import re
import zipfile

import pytest

from datasets.aistpp import preparation
from datasets.aistpp.preparation import prepare
from datasets.aistpp.songs import MusicOptions, songs_plan
from datasets.aistpp.source import Source
from datasets.sequences import PreparedData
from prepare_aistpp_data import main
from tests.datasets.aistpp.fakes import snapshot, write_wav
from tests.utils.music.test_audio import encode


@pytest.fixture
def songs(tmp_path):
    root = tmp_path / "my songs"
    for name, seconds in (("one", 2.0), ("zwei", 3.0)):
        write_wav(root / f"{name}.wav", seconds)
    return root


def run(folder, out, **music):
    return prepare(songs_plan(MusicOptions(folder=folder, **music)), out, {}, progress=False)


def test_songs_of_every_format_are_prepared_and_a_bad_one_loses_none(tmp_path, capsys):
    folder, out = tmp_path / "songs", tmp_path / "out"
    write_wav(folder / "a" / "wäv.wav", 2.5)
    encode(folder / "coded.mp3", "libmp3lame", seconds=3.0)
    encode(folder / "other.mp3", "libmp3lame", seconds=3.0)
    (folder / "other.mp3").rename(folder / "other.wav")  # mp3 by another name
    encode(folder / "apple.M4A", "aac", seconds=3.0)
    encode(folder / "film.mp4", "aac", seconds=3.0, video=True)
    (folder / "bad.mp3").write_bytes(b"no sound")
    (folder / "empty.wav").touch()
    write_wav(folder / "short.wav", 1.0)
    (folder / "cover.jpg").touch()
    command = ["--songs", str(folder), "--out", str(out), "--features", "compat", "--workers", "1"]
    assert main(command) == 0
    data = PreparedData(out)
    assert data.songs == ["apple", "coded", "film", "other", "wäv"]
    assert (data.names("all"), data.names("train"), data.names("test")) == ([], [], [])
    assert data.feature_version == "compat"
    assert data.song("coded").features.shape[0] in (23, 24)  # mp3 adds a little silence
    assert len(data.song("other").features) == len(data.song("coded").features)
    assert len(data.song("wäv").beats) == 151
    assert data.song("film").audio == folder / "film.mp4"
    assert set(data.manifest["left_out"]) == {"bad", "empty", "short"}
    with pytest.raises(ValueError, match="no song 'empty'; it was left out: unreadable"):
        data.song("empty")
    printed = capsys.readouterr().out
    assert "prepared  5 songs, 0.2 minutes" in printed
    assert "left out  3 songs" in printed
    assert "1 files are not called as songs are: cover.jpg" in printed
    assert "sequences" not in printed
    before = snapshot(out)
    assert main(command) == 0
    assert "0 made, 5 were there already" in capsys.readouterr().out
    assert snapshot(out) == before


@pytest.mark.usefixtures("quick_music")
def test_new_data_have_the_newest_features_and_old_data_keep_theirs(songs, tmp_path, capsys):
    """Until `--features` asks for others: then every song is made again."""
    columns = {"beat_phase": 58, "standard": 438, "compat": 438}

    def prepared(out, *more):
        assert main(["--songs", str(songs), "--out", str(tmp_path / out), "--workers", "1", *more]) == 0
        data = PreparedData(tmp_path / out)
        assert data.num_features == data.song("one").features.shape[1] == columns[data.feature_version]
        return data.feature_version, re.search(r"(\d+) made, (\d+) were", capsys.readouterr().out).groups()

    assert prepared("new") == ("beat_phase", ("2", "0"))
    assert prepared("old", "--features", "standard") == ("standard", ("2", "0"))
    assert prepared("old") == ("standard", ("0", "2"))
    write_wav(songs / "drei.wav", 2.0)
    assert prepared("old") == ("standard", ("1", "2"))
    assert prepared("old", "--features", "beat_phase") == ("beat_phase", ("3", "0"))
    assert prepared("old") == ("beat_phase", ("0", "3"))


@pytest.mark.usefixtures("quick_music")
def test_songs_may_come_in_a_zip_and_one_that_is_added_is_all_that_is_read(songs, tmp_path):
    run(songs, tmp_path / "a")
    write_wav(songs / "drei.wav", 2.0)
    again = run(songs, tmp_path / "a")
    assert (again.fresh, again.kept) == (1, 2)
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        for path in songs.iterdir():
            archive.write(path, f"album/{path.name}")
    run(tmp_path / "b.zip", tmp_path / "b")
    a, b = PreparedData(tmp_path / "a"), PreparedData(tmp_path / "b")
    assert a.songs == b.songs == ["drei", "one", "zwei"]
    assert b.song("drei").audio.read_bytes() == (songs / "drei.wav").read_bytes()


def test_nothing_outside_of_the_prepared_folder_is_written(songs, tmp_path, quick_music):
    sound = (songs / "one.wav").read_bytes()
    with zipfile.ZipFile(tmp_path / "slip.zip", "w") as archive:
        for name in ("../../slip1.wav", "/tmp/../slip2.wav", "..\\..\\slip3.wav", "fine.wav"):
            archive.writestr(name, sound)
    inside = tmp_path / "deep" / "out"
    run(tmp_path / "slip.zip", inside)
    assert "fine" in PreparedData(inside).songs
    written = {path for path in tmp_path.rglob("*") if path.is_file() and "slip" in path.name}
    assert all(path.is_relative_to(inside) for path in written - {tmp_path / "slip.zip"})


@pytest.mark.usefixtures("quick_music")
def test_doubles_are_told_and_a_folder_without_songs_is_refused(songs, tmp_path, capsys):
    write_wav(songs / "more" / "one.mp3")
    notes = run(songs, tmp_path / "a").manifest["report"]["notes"]
    assert notes == ["song one is there twice: one.wav is read, more/one.mp3 is not"]
    (tmp_path / "none").mkdir()
    cases = {
        ("--songs", str(tmp_path / "none")): "no songs .* under .*none",
        ("--songs", str(tmp_path / "nowhere")): "nowhere does not exist",
        ("--songs", str(songs / "one.wav")): "neither a folder nor a whole zip",
        ("--songs", str(songs), "--no-songs"): "--no-songs would change nothing beside --songs alone",
        ("--songs", str(songs), "--smpl", "x"): "--smpl would change nothing",
        ("--sample", "--songs", str(songs)): "--songs would change nothing beside --sample",
    }
    for arguments, message in cases.items():
        assert main([*arguments, "--out", str(tmp_path / "b")]) == 1
        assert re.search(message, capsys.readouterr().err)
    for path in songs.rglob("*.*"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="all 2 songs are left out"):
        run(songs, tmp_path / "c")
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path / "b")])
    assert "--songs is needed" in capsys.readouterr().err


@pytest.mark.usefixtures("quick_music")
def test_long_songs_are_read_one_at_a_time_after_the_others(songs, tmp_path, monkeypatch):
    write_wav(songs / "long.wav", 300, rate=800)
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("long.mp3", bytes(5_000_000))
        archive.writestr("short.mp3", bytes(1000))
        archive.writestr("short.wav", bytes(5_000_000))
    plan = songs_plan(MusicOptions(folder=songs))
    assert {name: task.alone for name, task in plan.songs.items()} == {
        "long": True, "one": False, "zwei": False
    }  # fmt: skip
    zipped = songs_plan(MusicOptions(folder=tmp_path / "b.zip"))
    assert {ref.file.path: ref.alone for ref in zipped.songs.values()} == {
        "long.mp3": True, "short.wav": False
    }  # fmt: skip
    used = []

    def in_processes(function, jobs, workers):
        used.append(([task.name for task, *_ in jobs], workers))
        return iter(())

    monkeypatch.setattr(preparation, "in_processes", in_processes)
    with pytest.raises(ValueError, match="nothing could be prepared"):
        prepare(plan, tmp_path / "out", {}, workers=3, progress=False)
    assert used[-2:] == [(["one", "zwei"], 2), (["long"], 1)]
    assert Source(songs).named("long.wav").size() == (songs / "long.wav").stat().st_size
