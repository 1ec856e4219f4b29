"""Two processes are one process with the joined batch, codebook included."""

import subprocess
import sys

import pytest
import torch

from tests.helpers import ROOT
from tests.stages.tiny import SIZES, arguments, checkpoint, run


@pytest.fixture(scope="module")
def both(small_data, tmp_path_factory):
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    for config in SIZES:
        more = ["training.epochs=1", *(["model.dropout=0"] if config == "cc_motion_gpt" else [])]
        run(config, small_data, one, "train", *more)
        launch = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node",
            "2",
            "main.py",
        ]
        command = [*launch, *arguments(config, small_data, two, "train", *more)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
    return one, two


@pytest.mark.parametrize("config", SIZES)
def test_same_weights_and_codebooks(config, both):
    one, two = (torch.load(checkpoint(folder, config), weights_only=True) for folder in both)
    assert one["step"] == two["step"] >= 4
    for key, value in one["model"].items():
        # Adam's first steps are of the size of lr whatever the gradient: rounding shows where it is ~0.
        difference = (value.double() - two["model"][key].double()).abs()
        assert difference.float().quantile(0.95) < 1e-4, key
        assert difference.max() < 1e-2, key
