"""--dance with an untrained memory and GPT, through the command line: songs of seconds, no prepared data."""

import json
import os
import re

import av
import bvhio
import numpy as np
import pygltflib
import pytest
import torch

import main
from datasets.clips import whole_music
from datasets.music import song_features
from models import official
from models.actor_critic import ActorCritic, ValueConfig
from models.conv import ConvConfig
from models.generation import GenerationConfig, generate
from models.gpt import GPTConfig, MotionGPT
from models.quantizer import CodebookConfig
from models.stages import dance_songs, dancing
from models.stages.dance_songs import file_names, find_songs
from models.vqvae import ChoreographicMemory, Codes, MemoryConfig
from tests.metrics.motions import smooth_dance
from utils import audio
from utils.checkpoint import save_checkpoint
from utils.metrics.__main__ import main as metrics_main
from utils.metrics.reading import read_dance
from utils.motion import joints_to_pose, pose_to_joints, without_root
from utils.render.player import main as player_main

CONFIG = "configs/sample/actor_critic.yaml"
SILENT = [f"dance.{key}=false" for key in ("video", "player", "bvh", "glb", "smpl")]
RATE = 22050


def sound(seconds=3.0, beat=0.5, first=0.0, seed=0):
    """A click with a tail on every beat, and a tone."""
    time = np.arange(round(seconds * RATE)) / RATE
    since = np.where(time >= first, (time - first) % beat, 9.0)
    noise = np.random.default_rng(seed).normal(size=len(time))
    return (0.5 * noise * np.exp(-40 * since) + 0.05 * np.sin(2 * np.pi * (220 + 30 * seed) * time)) / 2


def encode(path, samples, codec):
    """Writes samples as mp3, m4a and the like."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=RATE, layout="mono")
        resampler = av.AudioResampler(
            "fltp", "mono", RATE, frame_size=stream.codec_context.frame_size or 1024
        )
        whole = av.AudioFrame.from_ndarray(samples.astype(np.float32)[None], format="fltp", layout="mono")
        whole.sample_rate = RATE
        for frame in [*resampler.resample(whole), *resampler.resample(None), None]:
            file.mux(stream.encode(frame))
    return path


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(3)
    conv = ConvConfig(width=8, depth=1)
    sizes = MemoryConfig(codes_upper=24, codes_lower=16, codebook=CodebookConfig(dim=8), conv=conv)
    memory = ChoreographicMemory(sizes, velocity=True)
    dances = torch.from_numpy(np.stack([smooth_dance(seed, 3)[:176] for seed in range(6)])).float()
    with torch.no_grad():
        memory.train()(without_root(joints_to_pose(dances)))  # codes are taken from the first batch
        memory.eval()
        gpt = MotionGPT(GPTConfig(width=12, heads=12, base_blocks=1, head_blocks=1), memory.num_codes, 438)
        for layer in (gpt.head.to_upper, gpt.head.to_lower, gpt.base.embed_upper, gpt.base.embed_lower):
            layer.weight.normal_(0, 1.0)
        gpt.base.embed_music.weight[:, 0] = 0  # the loudness, around -500, drowns everything
    return memory, gpt.eval()


@pytest.fixture(scope="module")
def files(networks, tmp_path_factory):
    """Checkpoints of both, and of an actor-critic with a best epoch."""
    folder, (memory, gpt) = tmp_path_factory.mktemp("weights"), networks
    critic = ActorCritic(gpt, ValueConfig(blocks=1))
    heard = {"music": "standard"}
    kept = {key: value.clone() for key, value in critic.state_dict().items()}
    lost = {key: -value for key, value in kept.items()}
    contents = {
        "memory": {"stage": "sep_vqvae_root", "architecture": memory.architecture()},
        "gpt": {"stage": "motion_gpt", "architecture": gpt.architecture() | heard},
        "critic": {"stage": "actor_critic", "architecture": critic.architecture() | heard},
    }
    models = {"memory": memory.state_dict(), "gpt": gpt.state_dict(), "critic": lost}
    contents["critic"]["choice"] = {"weights": kept, "epoch": 2}
    for name, content in contents.items():
        save_checkpoint(content | {"model": models[name], "config": {}, "epoch": 3}, folder / f"{name}.pt")
    return {name: folder / f"{name}.pt" for name in contents}


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("songs")
    audio.write_wav(folder / "one.wav", sound(3.0), RATE)
    encode(folder / "two.mp3", sound(4.0, 0.4, seed=1), "libmp3lame")
    encode(folder / "three.m4a", sound(2.5, 0.6, seed=2), "aac")
    return folder


@pytest.fixture
def dance(files, tmp_path):
    """Runs the command; the files go to `out` of the test's folder."""

    def run(*more, config=CONFIG, weights=("memory", "gpt"), out="out"):
        names = dict(zip(("vqvae", "checkpoint"), weights, strict=True))
        given = [f"{key}={files[name]}" for key, name in names.items()]
        given += [f"output={tmp_path}", "data.root=nowhere", "device=cpu", "generation.temperature=1"]
        arguments = ["--config", config, "--dance", *given, "--out", str(tmp_path / out), *map(str, more)]
        return main.main(arguments)

    return run


def motion(folder, name):
    with np.load(folder / f"{name}.npz", allow_pickle=False) as file:
        return dict(file)


def entries(folder):
    text = (folder / "index.html").read_text()
    return json.loads(re.search(r'id="data"[^>]*>(.*?)</script>', text, re.DOTALL)[1])["entries"]


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
    monkeypatch.setattr(dancing, "_DECODED", 3)
    assert (
        dance(songs / "three.m4a", *SILENT, "generation.temperature=0", "generation.first_codes=[3,2]") == 0
    )
    made, (memory, gpt) = motion(tmp_path / "out", "three"), networks
    first = Codes(torch.tensor([3]), torch.tensor([2]))
    music = whole_music(song_features(songs / "three.m4a").features)
    codes = generate(gpt, music, first, GenerationConfig())
    both = torch.stack([codes.upper[0], codes.lower[0]], 1).numpy()
    steps = len(made["codes"])
    np.testing.assert_array_equal(made["codes"], both[:steps])
    assert len(np.unique(both, axis=0)) > 3
    with torch.no_grad():
        pose = memory.decode(Codes(*(half[:, : music.shape[1] - 1] for half in codes)))[0]
    np.testing.assert_allclose(made["joints"], pose_to_joints(pose)[: len(made["joints"])], atol=1e-5)
    assert not [p.name for p in (tmp_path / "out").iterdir() if p.suffix in (".mp4", ".bvh", ".glb")]


def test_together_as_alone(dance, songs, tmp_path, monkeypatch):
    """Every dance is what it would be by itself, however many go at a time; variants differ."""
    assert dance(songs, *SILENT, "dance.variants=2", out="all") == 0
    names = ["one", "one_v2", "three", "three_v2", "two", "two_v2"]
    assert [card["name"] for card in entries(tmp_path / "all")] == names
    assert dance(songs / "two.mp3", *SILENT, "dance.variants=2", out="alone") == 0
    monkeypatch.setattr(dancing, "_BATCH_STEPS", 60)
    assert dance(songs, *SILENT, "dance.variants=2", out="turns") == 0
    made = {name: motion(tmp_path / "all", name)["codes"] for name in names}
    for name in names:
        np.testing.assert_array_equal(motion(tmp_path / "turns", name)["codes"], made[name])
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
    assert f"{folder / 'silent.wav'} is silent" in caplog.text
    for name, why in (("notes.txt", "no sound file"), ("cover.jpg", "no sound file"), ("inner", "a folder")):
        assert f"skipped: {folder / name}: {why}" in caplog.text
    printed = capsys.readouterr().out
    assert "5 not danced to:" in printed
    for text in (
        "short.mp3: 0.5", "noise.mp3 is no sound", "damaged.mp3 is damaged", "there is no sound file",
        "nothing: the folder holds no sound file",
    ):  # fmt: skip
        assert sum(text in line for line in printed.splitlines()) == 1
    page = (tmp_path / "out" / "index.html").read_text()
    assert "Not danced to" in page

    def closed(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(dance_songs.Path, "iterdir", closed)
    assert dance(folder, songs / "one.wav", *SILENT) == 1
    assert "the folder cannot be read (Permission denied)" in capsys.readouterr().out
    monkeypatch.undo()
    assert dance(folder / "short.mp3", folder / "noise.mp3", *SILENT, out="none") == 2
    assert "none of the songs can be danced to (2 failed" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_file_that_fails_costs_nothing_else(dance, songs, tmp_path, capsys, monkeypatch):
    def full(*_, **__):
        raise OSError("disk full")

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "one.bvh").write_text("of an earlier dance")
    monkeypatch.setattr("models.stages.dance_files.save_bvh", full)
    assert dance(songs / "one.wav", *SILENT[:2], "dance.glb=false") == 1
    assert "could not be made:\n  rotations of one: disk full" in capsys.readouterr().out
    assert (tmp_path / "out" / "one_smpl.npz").is_file()
    (card,) = entries(tmp_path / "out")
    assert [text for text, _ in card["files"]] == ["SMPL", "Motion"]
    assert not (tmp_path / "out" / "one.bvh").exists()


def test_feet_are_locked_where_wanted(dance, songs, tmp_path):
    assert dance(songs / "three.m4a", *SILENT, "dance.footlock=true", "dance.smpl=true") == 0
    (card,) = entries(tmp_path / "out")
    assert "→" in dict(line[:2] for line in card["metrics"])["skating_mm_s"]
    assert (tmp_path / "out" / "three_smpl.npz").is_file()


def test_published_weights(dance, files, songs, tmp_path, monkeypatch):
    """`vqvae` and `gpt` take published files; the GPT then hears the features it was trained on."""
    heard = []

    def listen(path, version, *rates):
        heard.append(version)
        return song_features(path, version, *rates)

    monkeypatch.setattr(dance_songs, "song_features", listen)
    assert dance(songs / "one.wav", *SILENT, weights=("memory", "critic"), out="own") == 0
    names = []
    for name, key in (("memory", "vqvae"), ("gpt", "gpt")):
        official.convert(files[name], tmp_path / f"{name}.pt", back=True)
        names.append(f"{key}={tmp_path / f'{name}.pt'}")
    assert dance(songs / "one.wav", *SILENT, *names, "checkpoint=null", out="published") == 0
    own, other = (motion(tmp_path / name, "one") for name in ("own", "published"))
    np.testing.assert_array_equal(own["codes"], other["codes"])
    assert json.loads(str(other["provenance"]))["stage"] == "motion_gpt"
    content = torch.load(tmp_path / "gpt.pt", weights_only=True)
    del content["config"]["music_features"]  # no published file says
    torch.save(content, tmp_path / "gpt.pt")
    assert dance(songs / "one.wav", *SILENT, *names, "checkpoint=null", out="compat") == 0
    assert heard == ["standard", "standard", "compat"]
    made = motion(tmp_path / "compat", "one")
    assert json.loads(str(made["provenance"]))["music_features"] == "compat"
    config = "configs/sample/cc_motion_gpt.yaml"
    assert dance(songs / "one.wav", *SILENT, config=config, out="gpt") == 0
    np.testing.assert_array_equal(motion(tmp_path / "gpt", "one")["codes"], own["codes"])


def test_what_is_wrong_is_said_before_a_song_is_heard(dance, files, songs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(dance_songs, "song_features", None)
    one, memory = songs / "one.wav", f"checkpoint={files['memory']}"
    np.savez(tmp_path / "a.npz", joints=np.zeros((4, 24, 3)))
    for more, message in (
        ([], "--dance needs songs"),
        ([one, "dance.variants=2", "generation.temperature=0"], "set generation.temperature=1"),
        ([one, "dance.lock_upper=[3,24]"], "dance.lock_upper: code 24 is not in the codebook, 0..23, or -1"),
        ([one, "dance.opening=[[1,16]]"], "dance.opening: code 16 is not in the codebook, 0..15"),
        ([one, "dance.opening=[]"], "dance.opening holds no codes"),
        ([one, "generation.first_codes=[99,0]"], "generation.first_codes: code 99 is not in the codebook"),
        ([one, "dance.opening=none.npz"], "dance.opening: there is no motion none.npz"),
        ([one, f"dance.opening={one}"], "one.wav"),
        ([one, "dance.lock_lower=none.npz"], "dance.lock_lower: there is no file none.npz"),
        ([one, f"dance.lock_lower={tmp_path / 'a.npz'}"], "a.npz holds no `codes`"),
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
    assert "has no motion GPT and cannot dance; use configs/actor_critic.yaml" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main.main(["--config", CONFIG, "--eval", "--out", str(tmp_path)])
    assert stop.value.code == 2
    assert "--out goes with --dance only" in capsys.readouterr().err


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
    names = file_names(paths, 2, suffixes, tmp_path)
    every = [f"{name}{s}".casefold() for some in names.values() for name in some for s in suffixes]
    assert len(set(every)) == len(every)
    assert not {"index.html", "b.mp4"} & set(every)
    assert names[paths[0]] == ["a", "a_v2"]
    assert names[paths[4]] == ["b_2", "b_2_v2"]
    assert len(names[paths[-1]][0].encode()) == 100
    mended = file_names([tmp_path / "d.wav"], 1, suffixes, tmp_path, others=[tmp_path / "d.mp4"])
    assert list(mended.values()) == [["d_2"]]
    assert file_names([tmp_path / "b.mp4"], 1, suffixes, tmp_path / "out") == {tmp_path / "b.mp4": ["b"]}


def test_each_song_once(songs, tmp_path):
    (tmp_path / "again.wav").symlink_to(songs / "one.wav")
    found = find_songs([songs / "two.mp3", tmp_path / "again.wav", songs, songs / "two.mp3"])
    assert [path.name for path in found.songs] == ["two.mp3", "again.wav", "three.m4a"]
