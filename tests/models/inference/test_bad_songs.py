"""--dance with songs, files and settings that are wrong, and how songs are found and named."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

import main
from models.inference import songs as songs_module
from models.inference.songs import FileNames, find_songs
from models.stages.registry import read_config
from tests.models.inference.songs import CONFIG, RATE, SILENT, encode, entries, motion, sound
from utils.filenames import name_key
from utils.music import audio


def test_bad_songs_cost_a_line_each(dance, songs, tmp_path, capsys, caplog, monkeypatch):
    folder = tmp_path / "mixed"
    (folder / "inner").mkdir(parents=True)
    (folder / "notes.txt").write_text("no song")
    (folder / "cover.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(100))
    encode(folder / "short.mp3", sound(0.5), "libmp3lame")
    (folder / "noise.mp3").write_bytes(os.urandom(5000))
    whole = bytearray((songs / "two.mp3").read_bytes())
    middle = slice(len(whole) // 3, 2 * len(whole) // 3)
    whole[middle] = os.urandom(len(whole[middle]))
    (folder / "damaged.mp3").write_bytes(whole)
    (folder / "odd name with sound").write_bytes((songs / "two.mp3").read_bytes())
    strange = folder / os.fsdecode(b"odd \xff %.wav")  # no UTF-8
    strange.write_bytes((songs / "one.wav").read_bytes())
    audio.write_wav(folder / "silent.wav", np.zeros(3 * RATE), RATE)
    (tmp_path / "nothing").mkdir()
    given = [folder, tmp_path / "none.mp3", tmp_path / "nothing", songs / "one.wav"]
    with caplog.at_level("INFO"):
        assert dance(*given, *SILENT) == 1
    cards = {card["name"]: card for card in entries(tmp_path / "out")}
    assert list(cards) == ["odd name with sound", "odd ? %", "silent", "one"]
    assert len(motion(tmp_path / "out", "silent")["music_beats"]) == 0
    assert (tmp_path / "out" / "odd _ %.npz").is_file()
    assert f"{folder / 'silent.wav'} is silent" in caplog.text
    assert "silent.wav: 0:03, no tempo found" in caplog.text
    for name, why in (("notes.txt", "no sound file"), ("cover.jpg", "no sound file"), ("inner", "a folder")):
        assert f"skipped: {folder / name}: {why}" in caplog.text
    printed = capsys.readouterr().out
    assert "5 left out:" in printed
    for text in (
        "short.mp3: 0.5", "noise.mp3 is no sound", "damaged.mp3 is damaged", "there is no sound file",
        "nothing: the folder holds no sound file",
    ):  # fmt: skip
        assert sum(text in line for line in printed.splitlines()) == 1
    page = (tmp_path / "out" / "index.html").read_text()
    assert "Left out" in page

    def closed(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(songs_module.Path, "iterdir", closed)
    assert dance(folder, songs / "one.wav", *SILENT) == 1
    assert "the folder cannot be read (Permission denied)" in capsys.readouterr().out
    monkeypatch.undo()
    assert dance(folder / "short.mp3", folder / "noise.mp3", *SILENT, out="none") == 2
    assert "there is no dance to any of the songs (2 failed" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_file_that_fails_costs_nothing_else(dance, songs, tmp_path, capsys, monkeypatch):
    def full(*_, **__):
        raise OSError("disk full")

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "one.bvh").write_text("of an earlier dance")
    monkeypatch.setattr("utils.export.bvh.write_bvh", full)
    assert dance(songs / "one.wav", "dance.formats=[bvh,smpl]") == 1
    assert f"could not be made:\n  BVH {tmp_path / 'out' / 'one.bvh'}: disk full" in capsys.readouterr().out
    assert (tmp_path / "out" / "one_smpl.npz").is_file()
    (card,) = entries(tmp_path / "out")
    assert [text for text, _ in card["files"]] == ["SMPL", "Motion"]
    assert not (tmp_path / "out" / "one.bvh").exists()


def test_what_is_wrong_is_said_before_a_song_is_analysed(dance, files, songs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(songs_module, "song_features", None)
    one, memory = songs / "one.wav", f"checkpoint={files['memory']}"
    np.savez(tmp_path / "a.npz", joints=np.zeros((4, 24, 3)))
    for more, message in (
        ([], "--dance needs songs"),
        ([one, "dance.variants=2", "dance.temperature=0"], "set dance.temperature=1"),
        ([one, "dance.lock_upper=[3,24]"], "dance.lock_upper: code 24 is not in the codebook, 0..23, or -1"),
        ([one, "dance.opening=[[1,16]]"], "dance.opening: code 16 is not in the codebook, 0..15"),
        ([one, "dance.opening=[]"], "dance.opening holds no codes"),
        ([one, "generation.first_codes=[99,0]"], "generation.first_codes: code 99 is not in the codebook"),
        ([one, "dance.opening=none.npz"], "dance.opening: there is no motion none.npz"),
        ([one, f"dance.opening={one}"], "one.wav"),
        ([one, "dance.lock_lower=none.npz"], "dance.lock_lower: there is no file none.npz"),
        ([one, f"dance.lock_lower={tmp_path / 'a.npz'}"], "a.npz: it holds no `codes`"),
        ([one, "dance.start=second"], "dance.start"),
        ([one, memory], "is of stage 'sep_vqvae_root'"),
        ([one, "checkpoint=null"], "last.pt is missing"),
        ([one, "--out", one], "one.wav is a file; --out needs a folder"),
    ):
        assert dance(*more) == 2, message
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert message in error
    assert main.main(["--config", "configs/sep_vqvae_root.yaml", "--dance", str(one)]) == 2
    assert (
        "has no motion GPT to generate dances with; use configs/actor_critic.yaml" in capsys.readouterr().err
    )
    with pytest.raises(SystemExit) as stop:
        main.main(["--config", CONFIG, "--eval", "--out", str(tmp_path)])
    assert stop.value.code == 2
    assert "--out goes with --dance only" in capsys.readouterr().err


def test_the_help_names_what_people_look_for(capsys):
    """And every key that it names can be set as it says."""
    with pytest.raises(SystemExit) as stop:
        main.main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for wanted in (
        "dance.formats=[mp4,html]",
        "dance.variants",
        "dance.temperature",
        "tempo",
        "generation.window=hop",
    ):
        assert wanted in text
    keys = re.findall(r"^  ((?:dance\.|generation\.|device)[a-z_]*=\S+)  ", text, re.MULTILINE)
    assert len(keys) >= 12
    assert read_config(Path(CONFIG), ["dance.beats=FILE"]).dance.beats == "FILE"  # instead of dance.bpm
    config = read_config(Path(CONFIG), [key for key in keys if key != "dance.beats=FILE"])
    assert (config.dance.formats, config.dance.variants) == (("mp4", "html"), 3)
    assert config.generation.window == "hop"
    named = re.findall(r"\bdance\.[a-z_]+", text)
    assert {name.removeprefix("dance.") for name in named} <= set(vars(config.dance))


def test_former_keys_are_read(caplog):
    """One key per format; a new key beside them is changed by them."""
    with caplog.at_level("INFO"):
        config = read_config(Path(CONFIG), ["dance.video=false", "dance.bvh=false"])
    assert config.dance.formats == ("glb", "smpl", "html")
    assert "dance.video, dance.bvh: use dance.formats=[glb,smpl,html] now" in caplog.text
    assert read_config(Path(CONFIG), ["dance.formats=[mp4]", "dance.glb=true"]).dance.formats == (
        "glb",
        "mp4",
    )
    with pytest.raises(ValueError, match="unknown format 'fbx'; there are: npz, bvh, glb, smpl, mp4, html"):
        read_config(Path(CONFIG), ["dance.formats=[fbx]"])
    with pytest.raises(ValueError, match="video is part of formats now, and must be true or false"):
        read_config(Path(CONFIG), ["dance.video=maybe"])


def test_songs_stand_among_the_overrides(tmp_path):
    odd = tmp_path / "a=b.mp3"
    odd.touch()
    options = main.parse_arguments(
        [
            "--config",
            CONFIG,
            "seed=1",
            "--dance",
            "a.mp3",
            "dance.variants=2",
            "--out",
            "here",
            "b c.wav",
            str(odd),
        ]
    )
    assert (options.songs, options.overrides) == (
        ["a.mp3", "b c.wav", str(odd)],
        ["seed=1", "dance.variants=2"],
    )


def test_names_are_apart(tmp_path):
    """Also where the dance of one song would be called as another song, or as the index."""
    paths = [
        tmp_path / name
        for name in ("a.mp3", "A.wav", "a_v2.ogg", "index.mp3", "b.mp4", "c_smpl.wav", "c.wav")
    ]
    paths.append(tmp_path / ("é" * 90 + ".mp3"))
    suffixes = (".npz", ".mp4", ".html", "_smpl.npz")
    named = FileNames(tmp_path, suffixes, paths)
    names = {path: named.of(path, 2) for path in paths}
    every = [name_key(f"{name}{s}") for some in names.values() for name in some for s in suffixes]
    assert len(set(every)) == len(every)
    assert not {"index.html", "b.mp4"} & set(every)
    assert names[paths[0]] == ["a", "a_v2"]
    assert names[paths[4]] == ["b_2", "b_2_v2"]
    assert len(names[paths[-1]][0].encode()) == 100
    lost = [tmp_path / "d.wav", tmp_path / "d.mp4"]  # the second cannot be read
    assert FileNames(tmp_path, suffixes, lost).of(lost[0], 1) == ["d_2"]
    assert FileNames(tmp_path / "out", suffixes, [tmp_path / "b.mp4"]).of(tmp_path / "b.mp4", 1) == ["b"]


def test_names_are_legal_everywhere_and_titles_are_the_songs(tmp_path):
    files = [
        "a:b.mp3",
        "a?b.mp3",
        "CON.mp3",
        "caf\u00e9.mp3",
        "cafe\u0301.mp3",
        "one.mp3",
        "in/one.mp3",
        "tail. .mp3",
    ]
    paths = [tmp_path / file for file in files]
    named = FileNames(tmp_path / "out", (".npz",), paths)
    assert [named.of(path, 1)[0] for path in paths] == [
        "a_b", "a_b_2", "CON_", "caf\u00e9", "caf\u00e9_2", "one", "one_2", "tail",
    ]  # fmt: skip
    assert [named.title_of(path) for path in paths] == [
        "a:b", "a?b", "CON", "caf\u00e9", "cafe\u0301", "one", "one (2)", "tail.",
    ]  # fmt: skip


def test_each_song_once(songs, tmp_path):
    (tmp_path / "again.wav").symlink_to(songs / "one.wav")
    found = find_songs([songs / "two.mp3", tmp_path / "again.wav", songs, songs / "two.mp3"])
    assert [path.name for path in found.songs] == ["two.mp3", "again.wav", "three.m4a"]
