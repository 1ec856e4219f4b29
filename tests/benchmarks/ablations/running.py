"""Carries out runs, a few at a time, each in its own process; what fails stops only what builds on it."""

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tests.benchmarks.ablations.runs import Place, Run, config_path, in_order
from tests.benchmarks.ablations.work import RESULT, SPEC
from tests.helpers import ROOT
from utils.files import write_beside

log = logging.getLogger(__name__)
GUESS = {  # seconds per epoch at the sample sizes, and of judging, on a core alone; until there are own ones
    "memory": (7.5, 2.0), "root": (4.0, 2.0), "gpt": (24.0, 5.0), "critic": (13.0, 6.0),
}  # fmt: skip
STARTUP = 5.0  # seconds until a process has imported everything
STEP = 0.5  # seconds between looks at the processes


@dataclass
class Job:
    """A run that is to be carried out.

    Attributes:
        run: which.
        judged: whether it is a row of a table.
        epochs: how long it trains.
    """

    run: Run
    judged: bool
    epochs: int


@dataclass
class Outcome:
    """What became of the runs: results by run name, and why others have none."""

    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def result_of(place: Place, run: Run, judged: bool) -> dict[str, Any] | None:
    """A run's result, if it is there and of the config as it is now."""
    path = place.folder(run) / RESULT
    if not path.is_file():
        return None
    result = json.loads(path.read_text(encoding="utf-8"))
    return result if "metrics" in result or not judged else None


def jobs_of(place: Place, judged: Sequence[Run]) -> list[Job]:
    """All runs, each once, what is needed first, one seed after the other."""
    wanted = {place.name(run) for run in judged}
    found: dict[str, Job] = {}
    for run in in_order(sorted(judged, key=lambda run: run.seed)):
        name = place.name(run)
        if name not in found:
            found[name] = Job(run, name in wanted, place.config(run).training.epochs)
    return list(found.values())


def missing(place: Place, jobs: Sequence[Job]) -> list[Job]:
    """Those without a result."""
    return [job for job in jobs if result_of(place, job.run, job.judged) is None]


def estimate(place: Place, jobs: Sequence[Job], at_once: int) -> float:
    """Minutes that the missing runs take, by what finished runs of this scale took, else by a guess."""
    taken: dict[str, list[float]] = {}
    for path in place.output.glob(f"*/*/{RESULT}"):
        result = json.loads(path.read_text(encoding="utf-8"))
        for part, seconds in result["seconds"].items():
            taken.setdefault(f"{path.parent.name.split('-')[0]} {part}", []).append(seconds)
    total = 0.0
    for job in missing(place, jobs):
        total += STARTUP
        stage = job.run.stage
        per_epoch, judging = GUESS[stage]
        parts = {"train": per_epoch * job.epochs} | ({"eval": judging, "measures": 5.0} if job.judged else {})
        for part, guess in parts.items():
            known = taken.get(f"{stage} {part}")
            total += sum(known) / len(known) if known else guess
    return total / 60 / at_once


def carry_out(place: Place, jobs: Sequence[Job], at_once: int, threads: int) -> Outcome:
    """Carries out what is missing; Ctrl-C ends the processes, which save, and is passed on."""
    outcome = Outcome()
    for job in jobs:
        result = result_of(place, job.run, job.judged)
        if result is not None:
            outcome.results[place.name(job.run)] = result
    waiting = {place.name(job.run): job for job in missing(place, jobs)}
    running: dict[str, tuple[subprocess.Popen[bytes], float]] = {}
    log.info("%d runs are there, %d are to be done", len(outcome.results), len(waiting))

    def left() -> float:
        return estimate(
            place, [*waiting.values(), *(job for job in jobs if place.name(job.run) in running)], at_once
        )

    with tqdm(total=len(waiting), unit="run", disable=None) as bar:
        try:
            while waiting or running:
                _drop_hopeless(place, waiting, outcome, bar)
                for name, job in list(waiting.items()):
                    ready = all(place.name(need) in outcome.results for need in job.run.needs)
                    if ready and len(running) < at_once:
                        del waiting[name]
                        running[name] = _start(place, job, threads), time.perf_counter()
                time.sleep(STEP if running else 0)
                for name, (process, since) in list(running.items()):
                    if process.poll() is not None:
                        del running[name]
                        _finish(place, name, process.returncode, time.perf_counter() - since, outcome)
                        bar.update()
                        log.info("%d runs left: about %.0f minutes", len(waiting) + len(running), left())
        finally:
            for process, _ in running.values():
                process.terminate()
            for process, _ in running.values():
                process.wait()
    return outcome


def _drop_hopeless(place: Place, waiting: dict[str, Job], outcome: Outcome, bar: "tqdm[Any]") -> None:
    for name, job in list(waiting.items()):
        broken = [place.name(need) for need in job.run.needs if place.name(need) in outcome.failed]
        if broken:
            del waiting[name]
            outcome.failed[name] = f"needs {broken[0]}, which failed"
            bar.update()


def _start(place: Place, job: Job, threads: int) -> "subprocess.Popen[bytes]":
    folder = place.folder(job.run)
    spec = {
        "stage": job.run.stage,
        "config": str(config_path(job.run.stage)),
        "overrides": place.overrides(job.run),
        "told": list(job.run.overrides),
        "trained_by": job.run.trained_by,
        "judged": job.judged,
    }
    write_beside(folder / SPEC, json.dumps(spec, indent=1).encode())
    number = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    with (folder / "log.txt").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.ablations.work", str(folder / SPEC)],
            cwd=Path.cwd(),
            env={**os.environ, **number, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )


def _finish(place: Place, name: str, status: int, seconds: float, outcome: Outcome) -> None:
    folder = place.output / name
    if status == 0:
        outcome.results[name] = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        log.info("%s: done in %.0f s", name, seconds)
        return
    lines = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    why = lines[-1] if lines else "it said nothing"
    outcome.failed[name] = f"exit status {status}: {why}"
    log.warning("%s: FAILED, %s (%s)", name, outcome.failed[name], folder / "log.txt")
