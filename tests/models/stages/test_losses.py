"""Losses of the first 20 steps of every stage, recorded: a change that speeds things up must not move them.

Everything is computed in float64. Rounding then starts at 1e-16, and Adam, which divides by the gradient's
size plus 1e-8, does not turn rounding into a step where a gradient is about 0, as it does in float32: there
losses of two processors differ in their third digit after a few steps. `tests/benchmarks/compare.py`
compares two commits in float32, bit for bit, on one machine.

    python -m tests.models.stages.test_losses   # records them again, for a change that is meant to move them
"""

import json
import tempfile
from pathlib import Path

import pytest
import torch

from tests.helpers import ROOT
from tests.models.rounding import in_float64
from tests.models.stages import synthetic

RECORD = ROOT / "tests" / "models" / "stages" / "losses.json"
# Sums in another order were off by up to 5e-16 (SSE to AVX-512, one and two threads); nothing grows in 20
# steps, as clips and codebooks of tests/models/stages/synthetic.py leave no tie for rounding to decide.
TOLERANCE = 1e-11


def losses(folder: Path) -> dict[str, list[float]]:
    """The stages' first losses."""
    with in_float64():
        found = synthetic.train_all(synthetic.make_data(folder / "data"), folder / "runs")
    for name in synthetic.ORDER:
        state = torch.load(folder / "runs" / name / "ckpt" / "last.pt", weights_only=True)["model"]
        assert not any(value.dtype == torch.float32 for value in state.values())
    return {name: values[: synthetic.STEPS] for name, values in found.items()}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return losses(tmp_path_factory.mktemp("losses"))


@pytest.mark.parametrize("name", synthetic.ORDER)
def test_losses_are_as_recorded(name, found):
    record = json.loads(RECORD.read_text())
    assert len(found[name]) == synthetic.STEPS
    assert found[name] == pytest.approx(record[name], rel=TOLERANCE, abs=TOLERANCE)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        RECORD.write_text(json.dumps(losses(Path(folder)), indent=1) + "\n")
