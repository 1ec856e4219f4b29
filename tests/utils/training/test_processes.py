"""Two processes are one process with the joined batch: losses, weights, codebooks; evaluations too."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import main
from tests.helpers import ROOT
from tests.models.rounding import in_float64
from tests.models.stages import synthetic
from utils.config import write_yaml

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Run folders of all stages, trained by one process and by two; the two also evaluate in between.

    Everything is computed in float64: in float32 rounding, which differs between processors, would decide
    Adam's first steps where a gradient is about 0, and now and then the code of a latent between two.
    """
    root = tmp_path_factory.mktemp("processes")
    synthetic.make_data(root / "data")
    with in_float64():
        synthetic.train_all(root / "data", root / "one", dropout=0.0, log_every=1, lr=1e-5)
    folders = [str(root / name) for name in ("data", "one", "two")]
    command = [*LAUNCH, "-m", "tests.models.stages.synthetic", *folders]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return root / "one", root / "two"


def curves(folder):
    """Every loss, in order of steps."""
    events = EventAccumulator(str(folder / "logs"))
    events.Reload()
    names = [tag for tag in events.Tags()["scalars"] if "loss" in tag]
    return {name: [event.value for event in events.Scalars(name)] for name in names}


@pytest.mark.parametrize("name", synthetic.ORDER)
def test_same_losses(name, both):
    one, two = (curves(folder / name) for folder in both)
    assert one.keys() == two.keys()
    assert sum(len(values) for values in one.values()) >= 20
    for key, values in one.items():
        assert two[key] == pytest.approx(values, rel=1e-6), key  # TensorBoard keeps float32


@pytest.mark.parametrize("name", synthetic.ORDER)
def test_same_weights_and_codebooks(name, both):
    one, two = (torch.load(folder / name / "ckpt" / "last.pt", weights_only=True) for folder in both)
    assert one["step"] == two["step"] >= 20
    for key, value in one["model"].items():
        assert value.dtype == two["model"][key].dtype != torch.float32
        torch.testing.assert_close(two["model"][key], value, rtol=1e-7, atol=1e-9, msg=key)


@pytest.mark.parametrize("name", synthetic.ORDER)
def test_evaluating_while_training(name, both):
    """Dances of both processes are judged by one, and the training goes on as if nothing had been."""
    folder = both[1] / name / "eval" / "epoch_0002"
    settings = json.loads((folder / "metrics.json").read_text())["settings"]
    assert settings["dances"] == 2
    assert [path.stem for path in (folder / "videos").iterdir()] == ["dance0"]


def test_the_same_dances_and_metrics(both, tmp_path):
    """`--eval` by one process and by three, of which one has no dance to make."""
    one, _ = both
    config = synthetic.make_config("actor_critic", one.parent / "data", one)
    config = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"videos": 2})})
    write_yaml(config, tmp_path / "config.yaml")
    arguments = ["--config", str(tmp_path / "config.yaml"), "--eval"]
    assert main.main(arguments) == 0
    folder = next((config.folder / "eval").iterdir())
    alone = shutil.move(folder, tmp_path / "alone")
    launch = [*LAUNCH[:-1], "3", "main.py", *arguments]
    done = subprocess.run(launch, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("all of this is in") == 1
    names = sorted(path.relative_to(alone) for path in alone.rglob("*.*"))
    assert names == sorted(path.relative_to(folder) for path in folder.rglob("*.*"))
    assert len([path for path in names if path.suffix == ".mp4"]) == 2
    assert (alone / "metrics.json").read_text() == (folder / "metrics.json").read_text()
    motions = [path for path in names if path.suffix == ".npz"]
    assert len(motions) == 8
    for path in motions:
        with np.load(alone / path) as a, np.load(folder / path) as b:
            for key in ("joints", "codes", "song"):
                np.testing.assert_array_equal(a[key], b[key])
