"""Runs tasks here or in worker processes, and keeps the journal of those that are finished."""

import json
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
from tqdm import tqdm

from datasets.aistpp.checks import Rejected
from datasets.aistpp.tasks import MotionTask, SongTask
from datasets.sequences import write_array

log = logging.getLogger(__name__)
JOURNAL = "progress.jsonl"
WORKER_MEMORY = 2**30  # bytes: libraries and a song of some minutes take half of it, an hour of sound more
IN_FLIGHT = 4  # tasks handed out per worker, so that memory does not grow with their number


class Outcome(NamedTuple):
    """How a task ended: `facts` for the manifest, or why it was left out; `fresh` if anything was written."""

    facts: dict[str, Any] | None
    left_out: tuple[str, str] | None
    fresh: bool


class Runner:
    """Runs tasks, in this process or others, and keeps the journal."""

    def __init__(self, out: Path, known: dict, journal: TextIO, workers: int, progress: bool) -> None:
        self.out, self.known, self.journal, self.workers, self.progress = (
            out,
            known,
            journal,
            workers,
            progress,
        )
        self.fresh = self.kept = 0

    def all(
        self, tasks: Iterable[MotionTask | SongTask], what: str, left_out: dict[str, tuple[str, str]]
    ) -> dict[str, dict[str, Any]]:
        """Facts of the tasks that ended well, by name; the others go to `left_out`."""
        tasks, done = list(tasks), {}
        bar = tqdm(self._outcomes(tasks), total=len(tasks), desc=what, disable=not self.progress)
        for task, outcome in bar:
            if outcome.facts is None:
                left_out[task.name] = outcome.left_out
                continue
            done[task.name] = outcome.facts
            self.fresh, self.kept = self.fresh + outcome.fresh, self.kept + (not outcome.fresh)
            if outcome.fresh:
                self.journal.write(json.dumps([task.kind, task.name, outcome.facts]) + "\n")
                self.journal.flush()
        return dict(sorted(done.items()))

    def _outcomes(
        self, tasks: list[MotionTask | SongTask]
    ) -> Iterator[tuple[MotionTask | SongTask, Outcome]]:
        yield from self._together([task for task in tasks if not task.alone], self.workers)
        yield from self._together([task for task in tasks if task.alone], min(self.workers, 1))

    def _together(
        self, tasks: list[MotionTask | SongTask], workers: int
    ) -> Iterator[tuple[MotionTask | SongTask, Outcome]]:
        jobs = ((task, self.out, self.known[task.kind].get(task.name)) for task in tasks)
        if workers <= 1 or len(tasks) <= 1:
            yield from ((job[0], _run_task(*job)) for job in jobs)
            return
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(workers, len(tasks)), context, _start_worker) as pool:
            try:
                # The first task has the only worker: it compiles what librosa compiles. Workers that do so at
                # the same time write the same files of numba's cache, and what they leave there crashes every
                # later run.
                first = next(jobs)
                yield first[0], pool.submit(_run_task, *first).result()
                yield from _bounded(pool, jobs, IN_FLIGHT * workers)
            except BrokenProcessPool:
                raise RuntimeError(
                    "a worker process was killed, most likely for want of memory; "
                    "run the same command again with --workers 1 to go on"
                ) from None
            finally:
                pool.shutdown(cancel_futures=True)


def _bounded(pool: ProcessPoolExecutor, jobs: Iterator[tuple], most: int) -> Iterator[tuple[Any, Outcome]]:
    running = {pool.submit(_run_task, *job): job[0] for job in islice(jobs, most)}
    while running:
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            task = running.pop(future)
            for job in islice(jobs, 1):
                running[pool.submit(_run_task, *job)] = job[0]
            yield task, future.result()


def _start_worker() -> None:
    """Workers leave Ctrl-C to the parent, and end when it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _run_task(task: MotionTask | SongTask, out: Path, known: dict[str, Any] | None) -> Outcome:
    try:
        stamp = task.stamp()
        if known and known.get("stamp") == stamp and _whole(task, out, known):
            return Outcome(known, None, False)
        arrays, facts = task.make(out)
    except Rejected as error:
        return Outcome(None, (error.kind, str(error)), False)
    except ValueError as error:
        return Outcome(None, ("unreadable", " ".join(str(error).split())), False)
    except OSError:  # of what is written: a full disk ends the preparation
        raise
    except Exception as error:  # one file in a form that nobody thought of must not cost the others
        log.debug("%s", task.name, exc_info=True)
        where = task.file.path if task.file else task.name
        why = " ".join(f"{where}: {type(error).__name__}: {error}".split())
        return Outcome(None, ("unreadable", why), False)
    for path, array in arrays.items():
        write_array(path, array)
    return Outcome({**facts, "stamp": stamp}, None, True)


def _whole(task: MotionTask | SongTask, out: Path, known: dict[str, Any]) -> bool:
    audio = known.get("audio")
    try:
        for path, (shape, dtype) in task.outputs(out, known).items():
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            if array.shape != shape or array.dtype != dtype:
                return False
    except (OSError, ValueError, EOFError, KeyError):
        return False
    return not audio or (out / audio).is_file()
