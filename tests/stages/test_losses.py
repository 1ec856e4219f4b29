"""Losses of the first 20 steps of every stage, recorded: a change that speeds things up must not move them.

python -m tests.stages.test_losses        records them anew, for a change that is meant to move them
"""

import json
import tempfile
from pathlib import Path

import pytest
import torch

from tests.helpers import ROOT
from tests.stages import synthetic

RECORD = ROOT / "tests" / "stages" / "losses.json"


def machine() -> dict[str, str]:
    """What decides the last bits of a sum: equal machines give equal losses."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    return {
        "torch": torch.__version__,
        "processor": model,
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


def losses(folder: Path) -> dict[str, list[float]]:
    """The stages' first losses, on one thread: more of them would add up in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = synthetic.train_all(synthetic.make_data(folder / "data"), folder / "runs")
    finally:
        torch.set_num_threads(threads)
    return {name: values[: synthetic.STEPS] for name, values in found.items()}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return losses(tmp_path_factory.mktemp("losses"))


@pytest.mark.parametrize("name", synthetic.ORDER)
def test_losses_are_as_recorded(name, found):
    record = json.loads(RECORD.read_text())
    assert len(found[name]) == synthetic.STEPS
    if record["machine"] == machine():
        assert found[name] == record["losses"][name]  # bit for bit
    else:
        assert found[name] == pytest.approx(record["losses"][name], rel=1e-4, abs=1e-6)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        RECORD.write_text(json.dumps({"machine": machine(), "losses": losses(Path(folder))}, indent=1) + "\n")
