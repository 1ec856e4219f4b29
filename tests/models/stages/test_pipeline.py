"""Sample corpus -> four stages -> metrics, motions, playable video with sound; and every mode that looks."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import main
import prepare_aistpp_data
from datasets.sequences import PreparedData
from models.stages.registry import STAGES, read_config
from tests.helpers import real_data
from tests.models.stages.tiny import SIZES, arguments, checkpoint, run


@pytest.mark.parametrize("config", SIZES)
def test_eval(config, trained, small_data, capsys):
    run(config, small_data, trained, "eval")
    folder = trained / "sample" / config / "eval" / "epoch_0001"
    content = json.loads((folder / "metrics.json").read_text())
    rows = content["rows"]
    shown = {
        "sep_vqvae": "memory (real root)",
        "sep_vqvae_root": "memory",
        "sep_vqvae_root_mix": "memory",
        "cc_motion_gpt": "GPT",
    }.get(config, "actor-critic")
    assert {"real", "real, songs shuffled", shown} <= rows.keys()
    assert rows[shown]["FID_k"] > 0
    assert 0 <= rows[shown]["BAS"] <= 1
    assert rows["real"]["BAS"] > rows["real, songs shuffled"]["BAS"] + 0.2
    if config != "sep_vqvae":
        assert "random codes" in rows
        assert rows["memory" if "memory" in rows else shown]["joint_error_mm"] > 0
    assert shown in capsys.readouterr().out
    data = PreparedData(small_data)
    for name in data.names("test"):
        with np.load(folder / "motions" / shown.replace(" ", "_") / f"{name}.npz") as motion:
            assert motion["joints"].shape == data.sequence(name).joints.shape
            assert np.isfinite(motion["joints"]).all()
            assert len(motion["codes"]) * 8 >= len(motion["joints"])
    (video,) = (folder / "videos").glob("*.mp4")
    with av.open(str(video)) as file:
        assert file.streams.video[0].height == 180
        assert abs(float(file.streams.video[0].duration * file.streams.video[0].time_base) - 20) < 0.1
        assert abs(float(file.streams.audio[0].duration * file.streams.audio[0].time_base) - 20) < 0.2


def test_reconstruction_keeps_the_real_root(trained, small_data):
    """Stage 1 does not know where the dancer goes: it is judged with the real root."""
    folder = trained / "sample" / "sep_vqvae" / "eval" / "epoch_0001"
    if not folder.exists():
        run("sep_vqvae", small_data, trained, "eval")
    assert (
        json.loads((folder / "metrics.json").read_text())["rows"]["memory (real root)"]["root_error_mm"]
        < 1e-3
    )


def test_looking(trained, small_data, capsys):
    for config in ("sep_vqvae", "cc_motion_gpt"):
        run(config, small_data, trained, "anl")
        folder = trained / "sample" / config / "anl" / "epoch_0001"
        analysis = json.loads((folder / "analysis.json").read_text())
        steps = sum(code["count"] for code in analysis["upper"]["per_code"].values())
        data = PreparedData(small_data)
        assert steps == sum(len(data.sequence(n).joints) // 8 for n in data.names("train"))
        assert 1 <= analysis["upper"]["perplexity"] <= analysis["upper"]["used"] <= 24
        assert analysis["lower"]["codes"] == 16
        for name in ("usage", "gallery_upper", "gallery_lower"):
            assert (folder / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    run("sep_vqvae_root", small_data, trained, "visgt")
    assert list((trained / "sample" / "sep_vqvae_root" / "visgt").glob("*.mp4"))
    second = data.names("train")[1]
    some = [f"visgt.dances=[{second}]", "visgt.seconds=0.5", f"output={trained / 'shown'}"]
    run("sep_vqvae_root", small_data, trained, "visgt", *some)
    (video,) = (trained / "shown").rglob("*.mp4")
    with av.open(str(video)) as file:
        assert file.streams.video[0].frames == 30
    assert video.stem == second
    assert "it/s" not in capsys.readouterr().err  # bars are for terminals
    run("sep_vqvae_root", small_data, trained, "sample", "sample.upper=[1,2,3]", "sample.lower=[3,2,1]")
    with np.load(trained / "sample" / "sep_vqvae_root" / "sample" / "epoch_0001" / "codes.npz") as made:
        np.testing.assert_array_equal(made["codes"], [[1, 3], [2, 2], [3, 1]])
        assert made["joints"].shape == (24, 24, 3)
    run("sep_vqvae", small_data, trained, "sample", "sample.length=4", "sample.seed=1")


def test_training_again_changes_nothing(trained, small_data, capsys):
    path = checkpoint(trained, "cc_motion_gpt")
    before = path.read_bytes()
    run("cc_motion_gpt", small_data, trained, "train", "training.epochs=1")
    assert path.read_bytes() == before


def test_run_folder(trained):
    folder = trained / "sample" / "actor_critic"
    assert (folder / "config.yaml").is_file()
    events = EventAccumulator(str(folder / "logs"))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    assert {
        "train/policy_loss",
        "train/value_loss",
        "train/entropy",
        "epoch/reward",
        "epoch/beat_reward",
    } <= tags
    events = EventAccumulator(str(trained / "sample" / "sep_vqvae" / "logs"))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    for name in ("reconstruction", "velocity", "acceleration", "commitment"):
        assert {f"train/{name}_upper", f"train/{name}_lower"} <= tags


def test_only_the_head_and_the_value_learn(trained):
    before = torch.load(checkpoint(trained, "cc_motion_gpt"), weights_only=True)["model"]
    after = torch.load(checkpoint(trained, "actor_critic"), weights_only=True)["model"]
    moved = {key for key, value in before.items() if not torch.equal(value, after[f"gpt.{key}"])}
    assert moved
    assert all(key.startswith("head.") for key in moved)


def test_real_motions(tmp_path):
    """Real AIST++ motions go through the same preparation; one is rendered, with no song at hand."""
    source, data = real_data(), tmp_path / "aistpp"
    arguments_ = ["--source", str(source), "--out", str(data), "--no-songs", "--workers", "1"]
    assert prepare_aistpp_data.main([*arguments_, "--beats", str(source / "music_beats_60fps.json")]) == 0
    prepared = PreparedData(data)
    assert len(prepared.names("all")) == 5
    jazz = next(name for name in prepared.names("all") if name.startswith("gJS_sBM"))  # stands upright
    assert 1.4 < np.median(np.ptp(prepared.sequence(jazz).joints[..., 1], axis=1)) < 2.0
    overrides = [f"data.root={data}", f"output={tmp_path}", "evaluation.split=train", "evaluation.videos=1"]
    code = main.main(
        ["--config", "configs/sep_vqvae.yaml", "--visgt", *overrides, "evaluation.video_height=180"]
    )
    assert code == 0
    assert len(list(tmp_path.rglob("*.mp4"))) == 1


def test_a_gpt_is_trained_without_the_velocity_branch_and_judged_with_it(
    trained, small_data, tmp_path, capsys
):
    more = [f"vqvae={checkpoint(trained, 'sep_vqvae')}", f"output={tmp_path}"]
    run("cc_motion_gpt", small_data, trained, "train", "training.epochs=1", *more)
    clips = []
    for vqvae in ("sep_vqvae", "sep_vqvae_root"):
        words = arguments(
            "cc_motion_gpt", small_data, trained, "train", f"vqvae={checkpoint(trained, vqvae)}"
        )
        config = read_config(Path(words[1]), words[3:])
        clips.append(STAGES[config.stage](config, torch.device("cpu")).clips)
    assert len(clips[0]) > 10
    for found, whole in zip(*clips, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(found, whole, strict=True))
    assert main.main(arguments("cc_motion_gpt", small_data, trained, "eval", *more)) == 2
    assert "is a memory without its velocity branch: enough to train a GPT" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("config", "more", "message"),
    [
        ("sep_vqvae", ["data.root=nowhere/at_all"], "nowhere/at_all"),
        ("sep_vqvae", ["model.widht=3"], "model.widht: unknown key"),
        ("sep_vqvae", ["training.lr=fast"], "training.lr: "),
        ("cc_motion_gpt", ["vqvae=none.pt"], "checkpoint none.pt is missing; it is made by: python main.py"),
        ("sep_vqvae", ["device=cuda:7"], "no GPU is usable here"),
        ("sep_vqvae", ["data.clips.frames=250"], "must divide by the 8 frames of a code"),
        ("cc_motion_gpt", ["model.context=20"], "context"),
        ("sep_vqvae", ["data.clips.frames=24000"], "24000 frames of a clip"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="one case needs a machine without a GPU")
def test_bad_input_ends_with_one_clear_line(config, more, message, trained, small_data, tmp_path, capsys):
    output = trained if config != "sep_vqvae" else tmp_path
    code = main.main(arguments(config, small_data, output, "train", "training.epochs=2", *more))
    captured = capsys.readouterr().err
    assert code == 2
    assert captured.startswith("error: ")
    assert message in captured
    assert "Traceback" not in captured


def test_bad_checkpoints(trained, small_data, tmp_path, capsys):
    whole = checkpoint(trained, "sep_vqvae").read_bytes()
    torn = tmp_path / "torn.pt"
    torn.write_bytes(whole[: len(whole) // 2])
    for more, message in (
        ([f"checkpoint={torn}"], f"checkpoint {torn} is damaged"),
        (["model.conv.width=10"], "is of another architecture"),
        ([f"checkpoint={checkpoint(trained, 'cc_motion_gpt')}"], "is of stage 'motion_gpt'"),
        (["name=none"], "is missing; it is made by: python main.py --config configs/none.yaml --train"),
    ):
        assert main.main(arguments("sep_vqvae", small_data, trained, "eval", *more)) == 2
        error = capsys.readouterr().err
        assert message in error
        assert len(error.strip().splitlines()) == 1


def test_bad_codes(trained, small_data, capsys):
    for more, message in (
        (["sample.upper=[99]"], "the codebook has codes 0..23"),
        (["sample.upper=[1,2]", "sample.lower=[1]"], "sample.upper has 2 codes, sample.lower 1"),
        (["sample.upper=[]"], "must not be empty"),
    ):
        assert main.main(arguments("sep_vqvae_root", small_data, trained, "sample", *more)) == 2
        assert message in capsys.readouterr().err


def test_bad_dances_to_show(trained, small_data, tmp_path, capsys):
    name = PreparedData(small_data).names("train")[0]
    for more, message in (
        (["visgt.dances=[none]"], "has no sequence 'none'; it has "),
        ([f"visgt.dances=[{name[:-1]}]"], f", of which {name}"),
        (["visgt.dances=[]"], "no sequences to show (keys visgt.dances, "),
        (["visgt.seconds=0"], "visgt.seconds: "),
    ):
        more = [*more, f"output={tmp_path}"]
        assert main.main(arguments("sep_vqvae_root", small_data, trained, "visgt", *more)) == 2
        assert message in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.mp4"))
