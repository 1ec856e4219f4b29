"""--dance with an untrained memory and GPT, through the command line: songs of seconds, no prepared data."""

import json

import av
import bvhio
import numpy as np
import pygltflib
import pytest
import torch

from datasets.clips import whole_music
from datasets.music import song_features
from models import vqvae
from models.generation import GenerationConfig, Prompt, generate
from models.inference import dance as dance_module
from models.inference import songs as songs_module
from models.published.__main__ import export_file
from models.vqvae import Codes
from tests.models.inference.songs import RATE, SILENT, entries, motion, sound
from tests.utils.metrics.motions import smooth_dance
from utils.export import level_floor
from utils.metrics.__main__ import main as metrics_main
from utils.metrics.reading import read_dance
from utils.motion import joints_to_pose, pose_to_joints
from utils.music import audio
from utils.music.tempo import tempo_of
from utils.render.player import main as player_main


def test_every_file_is_written_and_read(dance, songs, files, tmp_path, capsys):
    assert (
        dance(songs / "one.wav", songs / "two.mp3", "dance.video_height=96", weights=("memory", "critic"))
        == 0
    )
    out = tmp_path / "out"
    assert f"songs: 2, dances: 2; open {out / 'index.html'}" in capsys.readouterr().out
    for name, seconds, song in (("one", 3.0, songs / "one.wav"), ("two", 4.0, songs / "two.mp3")):
        made = motion(out, name)
        frames = len(made["joints"])
        assert abs(frames / 60 - seconds) < 0.1
        assert made["joints"].shape == (frames, 24, 3)
        assert made["joints"].dtype == np.float32
        assert len(made["codes"]) == -(-frames // 8)
        assert (made["fps"], str(made["song"])) == (60, name)
        np.testing.assert_array_equal(made["music_beats"], np.flatnonzero(song_features(song).beats[:frames]))
        facts = json.loads(str(made["provenance"]))
        assert (facts["song_file"], facts["stage"], facts["epoch"]) == (song.name, "actor_critic", 2)
        assert facts["music_features"] == "standard"
        assert len(facts["checkpoint_sha256"]) == len(facts["memory_sha256"]) == 64
        assert json.loads(facts["generation"])["temperature"] == 1
        assert facts["torch"] == torch.__version__
        tempo = tempo_of(made["music_beats"], 60)
        assert (facts["tempo"], facts["tempo_unsteady"]) == (str(tempo), tempo.unsteady)
        assert facts["tempo_bpm"] == pytest.approx(tempo.bpm, abs=0.01)
        with av.open(str(out / f"{name}.mp4")) as video:
            assert video.streams.video[0].height == 96
            assert video.streams.video[0].frames == frames
            assert (
                abs(float(video.streams.audio[0].duration * video.streams.audio[0].time_base) - seconds) < 0.2
            )
        plain = bvhio.readAsBvh(str(out / f"{name}.bvh"))
        assert plain.FrameCount == frames
        glb = pygltflib.GLTF2().load(str(out / f"{name}.glb"))
        assert glb.accessors[glb.animations[0].samplers[0].input].count == frames
        size = np.load(out / f"{name}_smpl.npz")["smpl_scaling"]
        body = size * read_dance(out / f"{name}_smpl.npz").joints
        error = np.linalg.norm(body - made["joints"], axis=-1)
        assert error.mean() < 0.2  # an untrained memory keeps no bone's length
        assert "blob:" in (out / f"{name}.html").read_text()
    cards = entries(out)
    assert [card["name"] for card in cards] == ["one", "two"]
    assert (cards[0]["player"], cards[0]["video"]) == ("one.html", "one.mp4")
    linked = [cards[0]["thumbnail"], cards[0]["beatPlot"], *(path for _, path in cards[0]["files"])]
    assert [(out / path).suffix for path in linked] == [".jpg", ".png", ".bvh", ".glb", ".npz", ".npz"]
    assert {"BAS", "foot_skate", "bone_drift", "fit_error_mm"} <= {name for name, *_ in cards[0]["metrics"]}
    assert not [path for path in out.rglob("*") if path.suffix in (".tmp", ".part")]
    # a dance stands by itself
    assert player_main([str(out / "one.npz"), "--out", str(tmp_path / "page.html")]) == 0
    assert '"musicBeats":[0' in (tmp_path / "page.html").read_text()
    assert metrics_main([str(out / "one.npz"), "--out", str(tmp_path / "scores")]) == 0
    assert json.loads((tmp_path / "scores/metrics.json").read_text())["metrics"]["BAS"] is not None


def test_codes_are_those_of_the_gpt_and_joints_those_of_the_memory(
    dance, networks, songs, tmp_path, monkeypatch
):
    """As an evaluation composes them; decoded in stretches as at once."""
    monkeypatch.setitem(vqvae._DECODED, "cpu", 3)
    assert (
        dance(
            songs / "three.m4a",
            *SILENT,
            "dance.temperature=0",
            "dance.max_hold=null",
            "generation.first_codes=[3,2]",
            "dance.level=false",
            "dance.ground=false",
        )
        == 0
    )
    made, (memory, gpt) = motion(tmp_path / "out", "three"), networks
    first = Codes(torch.tensor([3]), torch.tensor([2]))
    music = whole_music(song_features(songs / "three.m4a").features)
    (codes,) = generate(gpt, [Prompt(music[0], first)], GenerationConfig(), torch.device("cpu"))
    both = torch.stack(tuple(codes), 1).numpy()
    steps = len(made["codes"])
    np.testing.assert_array_equal(made["codes"], both[:steps])
    assert len(np.unique(both, axis=0)) > 3
    with torch.no_grad():
        pose = memory.decode(Codes(*(half[None, : music.shape[1] - 1] for half in codes)))[0]
    decoded = pose_to_joints(pose)[: len(made["joints"])].numpy()
    np.testing.assert_allclose(made["joints"], decoded, atol=1e-5)
    assert not [p.name for p in (tmp_path / "out").iterdir() if p.suffix in (".mp4", ".bvh", ".glb")]


def test_the_floor_is_level_unless_told_otherwise(dance, songs, tmp_path):
    heights = {}
    for level in ("true", "false"):
        assert dance(songs / "three.m4a", *SILENT, "dance.ground=false", f"dance.level={level}") == 0
        heights[level] = motion(tmp_path / "out", "three")["joints"]
        assert ("floor_drift_mm" in (tmp_path / "out" / "index.html").read_text()) == (level == "true")
    expected, wandered = level_floor(heights["false"], 60)
    assert wandered > 0
    np.testing.assert_allclose(heights["true"], expected, atol=1e-5)


def test_together_as_alone(dance, songs, tmp_path, monkeypatch):
    """Every dance is what it would be by itself, however many go at a time; variants differ."""
    assert dance(songs, *SILENT, "dance.variants=2", out="all") == 0
    names = ["one", "one_v2", "three", "three_v2", "two", "two_v2"]
    assert [card["name"] for card in entries(tmp_path / "all")] == names
    assert dance(songs / "two.mp3", *SILENT, "dance.variants=2", out="alone") == 0
    monkeypatch.setattr(dance_module, "_BATCH_STEPS", 60)
    assert dance(songs, *SILENT, "dance.variants=2", out="parts") == 0
    monkeypatch.setattr(dance_module, "_DANCES_PER_BATCH", 1)
    assert dance(songs, *SILENT, "dance.variants=2", out="turns") == 0
    assert [card["name"] for card in entries(tmp_path / "turns")] == names
    made = {name: motion(tmp_path / "all", name)["codes"] for name in names}
    for name in names:
        for out in ("parts", "turns"):
            np.testing.assert_array_equal(motion(tmp_path / out, name)["codes"], made[name])
    for name in ("two", "two_v2"):
        np.testing.assert_array_equal(motion(tmp_path / "alone", name)["codes"], made[name])
    for name in ("one", "two", "three"):
        assert (made[name] != made[f"{name}_v2"]).any()


def test_a_locked_half_is_locked_and_free_beyond_its_end(dance, songs, tmp_path):
    lock = [5, 5, 6, -1, 7, 1, 0]
    assert dance(songs / "one.wav", *SILENT, out="free") == 0
    assert dance(songs / "one.wav", *SILENT, f"dance.lock_upper={lock}", out="locked") == 0
    free, made = (motion(tmp_path / name, "one")["codes"] for name in ("free", "locked"))
    fixed = np.array(lock) >= 0
    np.testing.assert_array_equal(made[: len(lock), 0][fixed], np.array(lock)[fixed])
    assert len(made) == len(free)
    assert len(np.unique(made[len(lock) :])) > 3
    # a half of one dance for the other half of another, twice as long
    source = tmp_path / "free" / "one.npz"
    locks = [f"dance.lock_lower={source}", "generation.seed=5", "dance.opening=[[1,2],[3,4]]"]
    assert dance(songs / "two.mp3", *SILENT, *locks, out="lower") == 0
    made = motion(tmp_path / "lower", "two")["codes"]
    np.testing.assert_array_equal(made[: len(free), 1], free[:, 1])
    np.testing.assert_array_equal(made[:2, 0], [1, 3])
    assert len(made) > len(free)


def test_a_motion_opens_the_dance(dance, networks, songs, tmp_path):
    memory, _ = networks
    joints = smooth_dance(7, 2.0)
    np.savez(tmp_path / "seed.npz", joints=joints)
    np.savez(tmp_path / "slow.npz", joints=smooth_dance(7, 2.0, fps=30), fps=30)
    wanted = [f"dance.opening={tmp_path / 'seed.npz'}", "dance.opening_codes=5"]
    assert dance(songs / "one.wav", *SILENT, *wanted) == 0
    with torch.no_grad():
        codes = memory.encode(joints_to_pose(torch.from_numpy(joints).float())[None, :120])
    made = motion(tmp_path / "out", "one")["codes"]
    np.testing.assert_array_equal(made[:5, 0], codes.upper[0, :5])
    np.testing.assert_array_equal(made[:5, 1], codes.lower[0, :5])
    wanted = [f"dance.opening={tmp_path / 'slow.npz'}", "dance.opening_codes=100"]
    assert dance(songs / "one.wav", *SILENT, *wanted, out="slow") == 0  # longer than needed, at another rate
    assert len(motion(tmp_path / "slow", "one")["codes"]) == len(made)


def test_a_motion_of_another_unit_opens_the_dance_with_a_remark(dance, songs, tmp_path, caplog):
    np.savez(tmp_path / "cm.npz", joints=100 * smooth_dance(7, 2.0))
    assert dance(songs / "one.wav", *SILENT, f"dance.opening={tmp_path / 'cm.npz'}") == 0
    lines = [record.getMessage() for record in caplog.records]
    assert any(line.startswith(f"dance.opening: {tmp_path / 'cm.npz'}: ") for line in lines), lines


def test_it_rests_until_the_first_beat(dance, tmp_path):
    audio.write_wav(tmp_path / "intro.wav", sound(5.0, first=2.0), RATE)
    assert dance(tmp_path / "intro.wav", *SILENT, "dance.start=beat", "dance.lock_upper=[1,2]") == 0
    made = motion(tmp_path / "out", "intro")
    first = json.loads(str(made["provenance"]))["first_step"]
    assert made["music_beats"][0] // 8 == first > 10
    assert (made["codes"][:first] == -1).all()
    assert (made["codes"][first:] >= 0).all()
    still = made["joints"][: 8 * first + 1]
    np.testing.assert_array_equal(still, np.broadcast_to(still[:1], still.shape))
    assert (made["joints"][8 * first + 8] != still[0]).any()
    assert abs(len(made["joints"]) - 300) <= 1


def test_feet_are_locked_where_wanted(dance, songs, tmp_path):
    assert dance(songs / "three.m4a", "dance.formats=[smpl]", "dance.footlock=true") == 0
    (card,) = entries(tmp_path / "out")
    assert "→" in dict(line[:2] for line in card["metrics"])["skating_mm_s"]
    assert (tmp_path / "out" / "three_smpl.npz").is_file()


def test_published_weights(dance, files, songs, tmp_path, monkeypatch):
    """`vqvae` and `gpt` take published files; the GPT then gets the features it was trained on."""
    versions = []

    def listen(path, version, *rates):
        versions.append(version)
        return song_features(path, version, *rates)

    monkeypatch.setattr(songs_module, "song_features", listen)
    assert dance(songs / "one.wav", *SILENT, weights=("memory", "critic"), out="own") == 0
    names = []
    for name, key in (("memory", "vqvae"), ("gpt", "gpt")):
        export_file(files[name], tmp_path / f"{name}.pt")
        names.append(f"{key}={tmp_path / f'{name}.pt'}")
    assert dance(songs / "one.wav", *SILENT, *names, "checkpoint=null", out="published") == 0
    own, other = (motion(tmp_path / name, "one") for name in ("own", "published"))
    np.testing.assert_array_equal(own["codes"], other["codes"])
    assert json.loads(str(other["provenance"]))["stage"] == "motion_gpt"
    content = torch.load(tmp_path / "gpt.pt", weights_only=True)
    del content["config"]["music_features"]  # no published file says
    torch.save(content, tmp_path / "gpt.pt")
    assert dance(songs / "one.wav", *SILENT, *names, "checkpoint=null", out="compat") == 0
    assert versions == ["standard", "standard", "compat"]
    made = motion(tmp_path / "compat", "one")
    assert json.loads(str(made["provenance"]))["music_features"] == "compat"
    config = "configs/sample/cc_motion_gpt.yaml"
    assert dance(songs / "one.wav", *SILENT, config=config, out="gpt") == 0
    np.testing.assert_array_equal(motion(tmp_path / "gpt", "one")["codes"], own["codes"])
