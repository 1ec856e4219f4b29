"""The ablations: variants fit their configs, runs are shared, failures stay small, tables say what is."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from models.stages.registry import STAGES
from models.vqvae import ChoreographicMemory, Codes, MemoryConfig
from tests.benchmarks.ablations import __main__ as ablations
from tests.benchmarks.ablations import measures, running
from tests.benchmarks.ablations.absolute_root import PlacedMemory
from tests.benchmarks.ablations.columns import COLUMNS
from tests.benchmarks.ablations.questions import questions
from tests.benchmarks.ablations.report import arrow, cell
from tests.benchmarks.ablations.running import RESULT, carry_out, jobs_of
from tests.benchmarks.ablations.runs import Place, chain, config_path, data_digest, in_order, schedule
from tests.benchmarks.ablations.work import SPEC, work
from tests.models.stages import tiny
from utils.config import read_merged
from utils.motion import pose_to_joints


def variants(tmp_path):
    return [(question, variant) for question in questions(tmp_path) for variant in question.variants]


@pytest.mark.parametrize("scale", ["short", "full"])
def test_every_variant_fits_its_config(tmp_path, scale):
    place = Place(tmp_path, scale, "data")
    rows = variants(tmp_path)
    for question, variant in rows:
        assert variant.against in ("", *(v.name for v in question.variants))
    for run in in_order(variant.run(1) for _, variant in rows):
        config = place.config(run)
        assert config.seed == 1
        assert config.folder == place.folder(run)
    assert {key.rsplit(".")[-1] for q in questions(tmp_path) for key in q.columns} == set(COLUMNS)


def test_runs_are_shared_and_told_apart(tmp_path):
    place = Place(tmp_path, "short", "data")
    found = {q.name: [place.name(v.run(0)) for v in q.variants] for q in questions(tmp_path)}
    for name, runs in found.items():
        assert len(set(runs)) == len(runs), f"two rows of {name} are one run"
    base = found["halves"][0]
    assert base == found["motion_losses"][0] == found["quantizer"][0]
    assert found["cross_conditional"][0] == found["starts"][0] == found["features"][0]
    run = chain("gpt", {}, 0)
    others = [
        place.name(chain("gpt", {}, 1)),
        place.name(chain("gpt", {"memory": ("model.codes_upper=9",)}, 0)),
        place.name(chain("root", {}, 0, "absolute_root")),
        Place(tmp_path, "full", "data").name(run),
        Place(tmp_path, "short", "other").name(run),
    ]
    assert len({place.name(run), place.name(chain("root", {}, 0)), *others}) == 7
    assert Place(tmp_path / "x", "short", "data").name(run) == place.name(run)


def test_milestones_keep_their_share():
    training = read_merged(config_path("memory"))["training"]
    settings = dict(setting.split("=") for setting in schedule("memory", "short"))
    epochs = int(settings["training.epochs"])
    for short, full in zip(json.loads(settings["training.milestones"]), training["milestones"], strict=False):
        assert 0 < short < epochs
        assert abs(short / epochs - full / training["epochs"]) <= 0.5 / epochs
    assert schedule("memory", "full") == []


def fake(place, run, judged, metrics):
    folder = place.folder(run)
    folder.mkdir(parents=True, exist_ok=True)
    content = {"seconds": {"train": 10.0}, "cpu": {}} | (
        {"metrics": metrics, "controls": {}} if judged else {}
    )
    (folder / RESULT).write_text(json.dumps(content))


def test_tables_and_plots_of_what_is_there(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    question = next(q for q in questions(tmp_path) if q.name == "cross_conditional")
    place = Place(tmp_path, "short", data_digest(tmp_path / "none"))
    for seed in (0, 1):
        for row, variant in enumerate(question.variants):
            told = {column: 10.0 * row + seed for column in question.columns} | {"BAS": 0.5 - 0.1 * row}
            fake(place, variant.run(seed), True, told)
    arguments = ["--report", "--out", str(tmp_path), "--seeds", "3", "--only", "cross_conditional", "starts"]
    assert ablations.main(arguments) == 0
    text = (tmp_path / "ablations.md").read_text()
    assert "| independent halves | 10.500 ± 0.707 ↑ | 10.5 ± 0.7 ↑ |" in text
    assert "0.400 ± 0.000 ↓" in text
    assert "Missing: cross-conditional, seeds [2]; independent halves, seeds [2]." in text
    assert "Missing: all starts, seeds [2]; first eighth, as published, seeds [0, 1, 2]." in text
    content = json.loads((tmp_path / "ablations.json").read_text())["questions"]["cross_conditional"]
    assert content["rows"]["independent halves"]["cells"]["FID_k"]["differences"] == [10.0, 10.0]
    for name in ("cross_conditional", "starts"):
        assert (tmp_path / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
        assert str(tmp_path / f"{name}.png") in capsys.readouterr().out or name == "starts"
    assert not (tmp_path / "runs" / "short" / "seed2").exists()


def test_cells():
    assert arrow([0.1, 0.2]) == " ↑"
    assert arrow([0.1, -0.2]) == arrow([0.1]) == arrow([]) == arrow([0.0, 1.0]) == ""
    assert cell("FID_k", {"mean": 1234.56, "sd": None}) == "1,234.6"
    assert cell("FID_k", None) == "-"


def test_a_failed_run_stops_only_what_builds_on_it(tmp_path, monkeypatch):
    place = Place(tmp_path, "short", "data")
    good, bad = chain("root", {}, 0), chain("gpt", {"memory": ("model.codes_upper=9",)}, 0)
    jobs = jobs_of(place, [good, bad])
    assert [(job.run.stage, job.judged) for job in jobs] == [
        ("memory", False), ("root", True), ("memory", False), ("root", False), ("gpt", True),
    ]  # fmt: skip
    fake(place, jobs[0].run, False, {})

    def start(place, job, threads):
        folder = place.folder(job.run)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "log.txt").write_text("nonsense\nerror: too few codes\n")
        if job.run.overrides:
            return subprocess.Popen([sys.executable, "-c", "raise SystemExit(2)"])
        fake(place, job.run, True, {"FID_k": 1.0})
        return subprocess.Popen([sys.executable, "-c", ""])

    monkeypatch.setattr(running, "_start", start)
    monkeypatch.setattr(running, "STEP", 0.05)
    outcome = carry_out(place, jobs, 2, 1)
    names = [place.name(job.run) for job in jobs]
    assert set(outcome.results) == set(names[:2])
    assert outcome.failed[names[2]] == "exit status 2: error: too few codes"
    assert outcome.failed[names[3]] == f"needs {names[2]}, which failed"
    assert outcome.failed[names[4]] == f"needs {names[3]}, which failed"
    again = carry_out(place, jobs[:2], 2, 1)  # nothing is left to do
    assert set(again.results) == set(names[:2])


def test_measures():
    poses = torch.zeros(4, 3, 3)
    poses[1, :, 0], poses[2, :, 0], poses[3, :, 1] = 0.04, 0.06, 0.2
    assert measures.distinct_poses(poses) == 3
    assert measures.perplexity(np.array([3, 3, 5, 5])) == pytest.approx(2)
    real = np.zeros((120, 24, 3))
    real[:, :, 0] = np.linspace(0, 1.19, 120)[:, None]
    told = measures.of_root([(real, 0.5 * real + 3)])
    assert told["travel"] == pytest.approx(0.5)
    assert told["root_drift_mm"] == pytest.approx(1000 * 0.5 * real[60:, 0, 0].mean())
    assert measures.acceleration(np.arange(10.0)[:, None, None] ** 2 * np.ones((10, 24, 3))) == pytest.approx(
        7200 * np.sqrt(3)
    )
    assert measures.share_known(np.array([[1, 2], [2, 1]]), {(1, 2)}) == 0.5


def test_absolute_root_comes_back_as_the_path_it_decodes():
    torch.manual_seed(0)
    config = MemoryConfig(codes_upper=5, codes_lower=5)
    memory = PlacedMemory(config, velocity=True).eval()
    memory.lower.quantizer.codebook.normal_()
    codes = Codes(*torch.randint(5, (2, 1, 6)))
    with torch.no_grad():
        place = ChoreographicMemory.decode_velocity(memory, codes.lower)
        root = pose_to_joints(memory.decode(codes))[:, :, 0]
    torch.testing.assert_close(root, place - place[:, :1], atol=1e-5, rtol=1e-4)
    assert place.std() > 1e-3


def test_a_run_from_its_spec(small_data, tmp_path, monkeypatch):
    """All four stages at a tiny size, the absolute root among them, through the process' entry."""
    monkeypatch.setattr("tests.benchmarks.ablations.work.STAGES", dict(STAGES))
    names = {
        "memory": "sep_vqvae",
        "root": "sep_vqvae_root",
        "gpt": "cc_motion_gpt",
        "critic": "actor_critic",
    }
    columns = {stage: set() for stage in names} | {"critic": {"BAS", "pairs_known"}}
    mixed = []  # questions whose rows come from several stages: each column is some row's
    for question in questions(tmp_path):
        stages = {variant.stage for variant in question.variants}
        if len(stages) == 1:
            columns[stages.pop()] |= set(question.columns)
        else:
            mixed.append((stages, set(question.columns)))
    found = {}
    for stage, config in names.items():
        told = tiny.arguments(config, small_data, tmp_path, "train", "training.epochs=1")
        overrides = [o for o in told if "=" in o and "videos" not in o] + ["evaluation.videos=0"]
        spec = {"stage": stage, "config": told[1], "overrides": overrides, "told": ["x=1"], "trained_by": ""}
        path = tmp_path / stage / SPEC
        path.parent.mkdir()
        path.write_text(json.dumps(spec | {"judged": True}))
        assert work(path) == 0
        result = json.loads((path.parent / RESULT).read_text())
        for column in columns[stage]:
            assert np.isfinite(result["metrics"][column]), (stage, column)
        found[stage] = set(result["metrics"])
        assert {"real", "floor"} <= set(result["controls"])
        assert result["seconds"]["train"] > 0
    assert mixed
    for stages, asked in mixed:
        assert asked <= set().union(*(found[stage] for stage in stages))
