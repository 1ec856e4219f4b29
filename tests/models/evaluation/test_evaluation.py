"""What --eval writes, with an untrained memory and dances of seconds: numbers first, then pictures."""

import csv
import json
import logging
import math
import re
import urllib.parse
from dataclasses import replace
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch

import extract_aist_features
from datasets import reference as reference_module
from datasets.reference import real_reference
from datasets.sequences import (
    PreparedData,
    beats_path,
    features_path,
    motion_path,
    write_array,
    write_manifest,
)
from models.conv import ConvConfig
from models.evaluation.config import EvaluationConfig
from models.evaluation.report import Evaluation, reconstruction
from models.evaluation.videos import show_real
from models.generation import GenerationConfig
from models.gpt import GPTConfig, MotionGPT
from models.quantizer import CodebookConfig
from models.stages.base import DataConfig, VisgtConfig
from models.vqvae import ChoreographicMemory, MemoryConfig
from tests.body_models import save_npz
from tests.utils.metrics.motions import smooth_dance
from utils.dance import Dance
from utils.metrics.reference import FILE_NAME, Reference
from utils.metrics.table import WIDTH
from utils.motion import joints_to_pose, without_root
from utils.render import player, video

TEST = ["gBR_sBM_cAll_d06_mBR0_ch01", "gBR_sBM_cAll_d07_mBR1_ch01", "gBR_sBM_cAll_d08_mBR2_ch01"]


@pytest.fixture
def data(tmp_path):
    return prepare(tmp_path / "data")


def prepare(root, only_songs=False, test=None):
    """Nine dances of 3 s to three songs of 2.5 s; the last three are the test split."""
    names = [f"gBR_sBM_cAll_d0{i}_mBR{i % 3}_ch01" for i in range(9)]
    names[6:] = test or names[6:]
    for i in range(3):
        write_array(
            features_path(root, f"mBR{i}"), np.random.default_rng(i).normal(size=(19, 438)).astype("f4")
        )
        write_array(beats_path(root, f"mBR{i}"), np.arange(150) % (20 + 5 * i) == 3)
    for i, name in enumerate(names):
        write_array(motion_path(root, name), smooth_dance(i, 3).astype(np.float32))
    sequences = {name: {"frames": 181, "song": f"mBR{i % 3}"} for i, name in enumerate(names)}
    splits = {"train": names[:6], "test": names[6:]}
    write_manifest(
        root,
        {
            "name": "t", "skeleton": "smpl_24", "fps": 60, "left_out": {},
            "music": {"version": "standard", "fps": 7.5, "columns": 438},
            "songs": {f"mBR{i}": {"features": 19, "beats": 150} for i in range(3)},
            "sequences": {} if only_songs else sequences,
            "splits": {"train": [], "test": []} if only_songs else splits,
        },
    )  # fmt: skip
    return PreparedData(root)


def evaluation(data, **config):
    torch.manual_seed(0)
    sizes = MemoryConfig(
        codes_upper=12, codes_lower=8, codebook=CodebookConfig(dim=8), conv=ConvConfig(width=8, depth=1)
    )
    memory = ChoreographicMemory(sizes, velocity=True)
    dances = torch.from_numpy(np.stack([smooth_dance(seed, 3)[:176] for seed in range(6)])).float()
    with torch.no_grad():
        memory.train()(without_root(joints_to_pose(dances)))  # codes are taken from the first batch
    small = {"videos": 0, "plots": False, "players": 0, **config}
    return Evaluation(data, EvaluationConfig(**small), memory, 3)


def generated(judge):
    gpt = MotionGPT(GPTConfig(width=8, heads=2, base_blocks=1, head_blocks=1), judge.memory.num_codes, 438)
    return judge.generated(gpt, GenerationConfig(first_codes=(3, 2)))


def embedded(path):
    """What a page holds for its script."""
    return json.loads(re.search(r'id="data"[^>]*>(.*?)</script>', path.read_text(), re.DOTALL)[1])


def content(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_everything_is_written(data, tmp_path, capsys):
    judge, folder = evaluation(data, plots=True, videos=1, players=2, video_height=64), tmp_path / "out"
    rows = {
        "random codes": judge.random_codes(),
        "memory": judge.reconstructions(),
        "GPT": generated(judge),
    }
    table = judge.report(folder, rows, shown="GPT", title="a run", rl_split="train")
    own = ["GPT, other songs", "GPT, half a beat off"]
    controls = [*own, "real", "real, all 9", "real, songs shuffled", "floor: 3 real against the rest"]
    assert list(table) == ["GPT", "memory", "random codes", *controls]
    found = content(folder)
    assert found["rows"].keys() == table.keys()
    assert found["metrics"] == found["rows"]["GPT"]
    for column in ("FID_k", "Div_g", "BAS", "jitter"):
        for row in ("GPT", "memory", "random codes", "real"):
            ends = found["intervals"][row][column]
            assert ends["low"] <= found["rows"][row][column] <= ends["high"]
    assert found["rows"]["memory"]["codes_used_upper"] <= 1
    settings = found["settings"]
    assert settings["dances"] == 3
    assert settings["frames at 60 fps (least, median, most)"] == "150, 150, 150"  # the songs end there
    assert settings["fps"] == "60"
    assert settings["songs"] == "3, 3 of them used in reinforcement learning"
    assert settings["reinforcement learning saw these songs"] == "yes"
    assert settings["first code"] == "real"
    assert settings["seed"] == 3
    with (folder / "dances.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["row"] for line in lines] == ["GPT"] * 3 + ["memory"] * 3 + ["random codes"] * 3
    assert np.mean([float(line["BAS"]) for line in lines[:3]]) == pytest.approx(table["GPT"]["BAS"])
    printed = capsys.readouterr().out
    assert (folder / "table.md").read_text() in printed
    assert max(len(line) for line in printed.splitlines() if line.startswith("|")) <= WIDTH
    plots = sorted(
        path.relative_to(folder / "plots").as_posix() for path in (folder / "plots").rglob("*.png")
    )
    assert plots == ["BAS.png", *(f"beats/{name}.png" for name in TEST), "geometric.png", "kinetic.png"]
    assert [path.stem for path in (folder / "videos").glob("*.mp4")] == TEST[:1]
    for row in ("GPT", "memory", "random_codes"):
        with np.load(folder / "motions" / row / f"{TEST[2]}.npz") as motion:
            assert motion["joints"].shape == (150, 24, 3)
            assert motion["codes"].shape == (19, 2)
            assert (motion["fps"], motion["song"]) == (60, "mBR2")
            np.testing.assert_array_equal(motion["music_beats"], np.arange(3, 150, 30))
            facts = json.loads(str(motion["provenance"]))
            assert (facts["run"], facts["row"].replace(" ", "_"), facts["seed"]) == ("a run", row, 3)
    index = embedded(folder / "index.html")
    assert [entry["name"] for entry in index["entries"]] == TEST[:2]
    for entry in index["entries"]:
        assert (folder / entry["thumbnail"]).is_file()
        assert entry["beatPlot"] == f"plots/beats/{entry['name']}.png"
        page = embedded(folder / entry["player"])
        assert [dance["name"] for dance in page["dances"]] == ["GPT", "real"]
        assert [dance["frames"] for dance in page["dances"]] == [150, 150]
        assert all("BAS" in dict(dance["facts"]) for dance in page["dances"])
        first = next(line for line in lines if (line["row"], line["dance"]) == ("GPT", entry["name"]))
        shown = {name: value for name, _, value in entry["metrics"]}
        assert shown["BAS"] == pytest.approx(float(first["BAS"]), abs=1e-4)
    assert [entry["video"] for entry in index["entries"]] == [f"videos/{TEST[0]}.mp4", None]
    scores = index["tables"][0]
    assert [name for name, _ in scores["rows"]] == list(table)
    assert not list(folder.rglob("*.tmp*"))


def test_files_have_names_that_every_system_accepts(tmp_path):
    """And pages show the dances' own."""
    names = ["cost: 5$_$ <b>", "CON", "Cost_ 5$_$ _B_"]  # the first and the last are one file on Windows
    data = prepare(tmp_path / "data", test=names)
    judge, folder = evaluation(data, plots=True, videos=3, players=3, video_height=64), tmp_path / "out"
    judge.report(folder, {"GPT": generated(judge)}, shown="GPT", title="a run")
    files = ["CON_", "Cost_ 5$_$ _B_", "cost_ 5$_$ _b__2"]
    for place, suffix in (
        ("motions/GPT", "npz"), ("plots/beats", "png"), ("videos", "mp4"), ("players", "html"),
        ("thumbnails", "jpg"),
    ):  # fmt: skip
        assert sorted(path.stem for path in (folder / place).glob(f"*.{suffix}")) == files, place
    cards = embedded(folder / "index.html")["entries"]
    assert [card["name"] for card in cards] == names
    for card, file in zip(cards, (files[2], files[0], files[1]), strict=True):
        assert urllib.parse.unquote(card["video"]) == f"videos/{file}.mp4"
        assert embedded(folder / "players" / f"{file}.html")["title"] == card["name"]


def test_protocols_are_never_mixed(data, tmp_path):
    judge = evaluation(data, protocol="corrected")
    table = judge.report(tmp_path, {"memory": judge.reconstructions()}, shown="memory", title="t")
    columns = {column for row in table.values() for column in row}
    assert {"FID_k_corrected", "BAS_F1", "PFC_fps_free"} <= columns
    assert not columns & {"FID_k", "FID_g", "Div_k", "Div_g", "BAS", "PFC"}
    assert content(tmp_path)["settings"]["reinforcement learning saw these songs"] == "no"
    assert not (tmp_path / "plots").exists()
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert max(len(line) for line in lines if line.startswith("|")) <= WIDTH


def test_the_control_rows_are_the_test_dances(data, tmp_path):
    judge = evaluation(data)
    table = judge.report(tmp_path, {"memory": judge.reconstructions()}, shown="memory", title="t")
    real = Reference.load(data.root)
    own = [np.mean([d.physical["jitter"] for d in real.named(names)]) for names in (TEST, real.names)]
    assert table["real"]["jitter"] == pytest.approx(own[0])
    assert table["real, all 9"]["jitter"] == pytest.approx(own[1])
    assert 0 < table["real, songs shuffled"]["BAS"] < 1


@pytest.mark.parametrize(
    "error", [ValueError("no sound"), OSError("disk full"), av.error.ExternalError(1, "odd")]
)
def test_a_video_that_fails_costs_nothing_else(data, tmp_path, monkeypatch, capsys, caplog, error):
    made = []

    def failing(path, *args, **more):
        if path.stem == TEST[1]:
            raise error
        assert (tmp_path / "metrics.json").is_file()
        made.append(path.stem)

    monkeypatch.setattr(video, "render_video", failing)
    judge = evaluation(data, videos=3)
    table = judge.report(tmp_path, {"memory": judge.reconstructions()}, shown="memory", title="t")
    assert table["memory"]["FID_k"] == content(tmp_path)["metrics"]["FID_k"]
    assert made == [TEST[0], TEST[2]]
    assert f"1 of 3 videos could not be made: {TEST[1]}" in capsys.readouterr().out
    assert f"{TEST[1]}.mp4: {error}" in caplog.text


def test_videos_show_the_body_of_a_model(data, tmp_path, monkeypatch):
    bodies = []
    monkeypatch.setattr(video, "render_video", lambda path, dance, **more: bodies.append(more["body"]))
    save_npz(tmp_path / "SMPL_MALE.npz")
    judge = evaluation(data, videos=1, body={"model": str(tmp_path), "betas": [1.0]})
    judge.report(tmp_path / "out", {"memory": judge.reconstructions()}, shown="memory", title="t")
    (body,) = bodies
    assert body.model.betas.tolist() == [1.0]
    wanted = EvaluationConfig(videos=2, body={"model": str(tmp_path)})
    config = SimpleNamespace(
        data=DataConfig(root=str(data.root)),
        evaluation=wanted,
        visgt=VisgtConfig(seconds=0.5),
        folder=tmp_path,
    )
    assert len(show_real(config)) == 2
    assert [len(shown.root) for shown in bodies[1:]] == [30, 30]
    with pytest.raises(FileNotFoundError, match="no female SMPL model"):
        evaluation(data, body={"model": str(tmp_path), "gender": "female"})


def test_numbers_are_there_when_it_is_stopped_in_a_video(data, tmp_path, monkeypatch):
    def stopped(*args, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(video, "render_video", stopped)
    judge = evaluation(data, videos=1)
    with pytest.raises(KeyboardInterrupt):
        judge.report(tmp_path, {"memory": judge.reconstructions()}, shown="memory", title="t")
    assert math.isfinite(content(tmp_path)["metrics"]["FID_k"])
    assert len(list((tmp_path / "motions" / "memory").iterdir())) == 3


def test_a_dance_that_is_not_a_number_is_named(data, tmp_path):
    judge = evaluation(data)
    broken = judge.reconstructions()
    broken[1].joints[5, 3, 1] = np.nan
    with pytest.raises(ValueError, match=rf"row 'memory': dance '{TEST[1]}': joints must be finite, got nan"):
        judge.report(tmp_path, {"memory": broken}, shown="memory", title="t")
    assert not list(tmp_path.glob("metrics.json"))


def test_before_and_after_finetuning_stand_side_by_side(data, tmp_path, monkeypatch, capsys):
    """The judged row first, then the GPT's, then the real dance; a page that fails costs nothing else."""
    judge = evaluation(data, players=3)
    rows = {"GPT": generated(judge), "actor-critic": generated(judge)}
    plain = player.write_player

    def failing(path, *args, **more):
        if path.stem == TEST[1]:
            raise OSError("disk full")
        plain(path, *args, **more)

    monkeypatch.setattr(player, "write_player", failing)
    judge.report(tmp_path, rows, shown="actor-critic", title="t", rl_split="test")
    entries = embedded(tmp_path / "index.html")["entries"]
    assert [entry["player"] for entry in entries] == [
        f"players/{TEST[0]}.html",
        None,
        f"players/{TEST[2]}.html",
    ]
    page = embedded(tmp_path / "players" / f"{TEST[0]}.html")
    assert [dance["name"] for dance in page["dances"]] == ["actor-critic", "GPT", "real"]
    assert f"could not be made: Player {tmp_path / 'players' / TEST[1]}.html" in capsys.readouterr().out


def test_data_of_songs_only(tmp_path):
    judge = evaluation(prepare(tmp_path / "songs", only_songs=True), plots=True, players=1)
    rows = {"random codes": judge.random_codes(), "GPT": generated(judge)}
    table = judge.report(tmp_path / "out", rows, shown="GPT", title="t", rl_split="test")
    assert list(table) == ["GPT", "GPT, other songs", "GPT, half a beat off"]
    found = content(tmp_path / "out")
    assert found["metrics"]["FID_k"] is None
    (entry,) = embedded(tmp_path / "out" / "index.html")["entries"]
    (dance,) = embedded(tmp_path / "out" / entry["player"])["dances"]
    assert dance["name"] == "GPT"
    assert found["metrics"]["BAS"] is not None
    assert found["settings"]["first code"] == "fixed"
    assert found["settings"]["reinforcement learning saw these songs"] == "yes"
    assert any("no real dances" in note for note in found["notes"])
    assert not (tmp_path / "songs" / FILE_NAME).exists()
    assert len(list((tmp_path / "out" / "plots").rglob("*.png"))) == 3


def test_real_features_are_made_once_and_are_those_of_the_script(data, tmp_path, monkeypatch, caplog):
    made = real_reference(data)
    extracted = Reference.load(extract_aist_features.extract(data.root, again=True))
    assert made.names == extracted.names
    assert made.dances[0].frames == 181  # whole, though the song ends after 150
    for feature in ("kinetic", "geometric", "kinetic_corrected", "geometric_corrected"):
        np.testing.assert_array_equal(made.stacked(feature), extracted.stacked(feature))
    with monkeypatch.context() as patch:
        patch.setattr(reference_module, "real_features", None)  # not needed again
        assert real_reference(data).names == made.names
    (data.root / FILE_NAME).write_bytes(b"half")
    with caplog.at_level(logging.WARNING):
        assert real_reference(data).names == made.names
    assert "is damaged" in caplog.text
    Reference.load(data.root)

    def full(*args):
        raise OSError("no space left")

    (data.root / FILE_NAME).unlink()
    monkeypatch.setattr(Reference, "save", full)
    assert real_reference(data).names == made.names
    assert "is not kept: no space left" in caplog.text


def test_other_numbers_have_a_folder_of_their_own():
    suffix = {
        "": EvaluationConfig(protocol="both", videos=0, plots=False),
        "_train_song": EvaluationConfig(split="train", length="song"),
        "_corrected_600frames": EvaluationConfig(protocol="corrected", max_frames=600),
    }
    assert {config.folder_suffix: config for config in suffix.values()} == suffix


def test_reconstruction_covers_the_stretch_of_the_other_columns():
    real = Dance("a", smooth_dance(0, 3).astype(np.float32), codes=np.zeros((22, 2), int))
    moved = real.joints.copy()
    moved[60:, 5] += [0.1, 0, 0]  # one of 23 joints, from frame 60 on
    moved[60:] += [0.5, 0, 0]
    made = [replace(real, joints=moved)]
    assert reconstruction([real], made, (4, 4), 60)["joint_error_mm"] == pytest.approx(0, abs=1e-3)
    both = reconstruction([real], made, (4, 4), 120)
    assert both["joint_error_mm"] == pytest.approx(100 / 23 / 2, rel=1e-3)
    assert both["root_error_mm"] == pytest.approx(250, rel=1e-3)
