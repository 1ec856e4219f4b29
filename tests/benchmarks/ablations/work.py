"""One run in a process of its own: trains what is missing, judges it, and says so in result.json.

    python -m tests.benchmarks.ablations.work RUN_FOLDER/spec.json

It calls the commands that users type; a run that was stopped goes on.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import main as command
from models.stages.registry import STAGES, read_config
from utils.files import write_beside

RESULT, SPEC = "result.json", "spec.json"


def work(path: Path) -> int:
    """Does what a spec says; returns the exit status."""
    spec = json.loads(path.read_text(encoding="utf-8"))
    if spec["trained_by"]:
        from tests.benchmarks.ablations.absolute_root import AbsoluteRoot

        STAGES[AbsoluteRoot.name] = {"absolute_root": AbsoluteRoot}[spec["trained_by"]]
    arguments = ["--config", spec["config"], *spec["overrides"]]
    result: dict[str, Any] = {"overrides": spec["told"], "seconds": {}, "cpu": {}}
    before = path.parent / RESULT  # of a run that was trained for others to build on, and is judged now
    earlier = json.loads(before.read_text(encoding="utf-8")) if before.is_file() else {}

    def timed(part: str, started: tuple[float, float]) -> tuple[float, float]:
        now = time.perf_counter(), time.process_time()
        for clock, taken in zip(
            ("seconds", "cpu"), (b - a for a, b in zip(started, now, strict=True)), strict=True
        ):
            result[clock][part] = round(taken + earlier.get(clock, {}).get(part, 0.0), 1)
        return now

    started = time.perf_counter(), time.process_time()
    status = command.main([*arguments, "--train"])
    if status:
        return status
    started = timed("train", started)
    if spec["judged"]:
        status = command.main([*arguments, "--eval"])
        if status:
            return status
        started = timed("eval", started)
        result |= numbers(spec)
        timed("measures", started)
    write_beside(path.parent / RESULT, json.dumps(result, indent=1).encode())
    return 0


def numbers(spec: dict[str, Any]) -> dict[str, Any]:
    """The metrics of the run's newest evaluation, and more."""
    import torch

    from tests.benchmarks.ablations.measures import measured

    config = read_config(Path(spec["config"]), spec["overrides"])
    stage = STAGES[config.stage](config, torch.device("cpu"))
    epoch = stage.load()
    return measured(spec["stage"], stage, config.folder / "eval" / f"epoch_{epoch:04d}")


if __name__ == "__main__":
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    sys.exit(work(Path(sys.argv[1])))
