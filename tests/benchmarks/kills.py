"""SIGKILL at random moments: training of each stage, preparation, and --dance on a folder of songs.

    python -m tests.benchmarks.kills [--times 20] [--seed 0] [--only NAME ...] [--folder DIR]

Each command is killed that many times and started again. After each kill no saved step, prepared file or
dance is lost or half-written; where a command ends between two kills, it starts in a new folder. At last it
runs to its end: checkpoints and prepared files are those of an undisturbed run, bit for bit, and every song
has its dance. The exit status is 1 if anything is not so.
"""

import argparse
import logging
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

import main as stages
import prepare_aistpp_data
from tests.benchmarks.forked import kill, run, start
from tests.datasets.aistpp.fakes import body
from tests.models.inference.songs import RATE, sound
from tests.models.stages import synthetic
from utils.config import write_yaml
from utils.dance import load_dance
from utils.music.audio import write_wav
from utils.training.checkpoints import load_checkpoint

SONGS, DANCES = 10, 150  # songs: two batches of --dance
EPOCHS = {**dict.fromkeys(synthetic.ORDER, 12), "actor_critic": 3}
PARTS = ("model", "optimizer", "scheduler", "step", "epoch", "batch")
_HALF = (ValueError, OSError, EOFError, KeyError)  # of reading files that are not whole
Check = Callable[[Path], int]


class Job:
    """A command that writes into a folder.

    Attributes:
        name: of the job.
        command: folder -> runs the command; returns its exit status.
        done: folder -> amount of finished work; raises ValueError if something in it is half-written.
        same: (folder, folder of an undisturbed run) -> whether both hold the same.
        latest: share of an undisturbed run's time by which a kill comes; less for commands that resume.
    """

    def __init__(
        self,
        name: str,
        command: Check,
        done: Check,
        same: Callable[[Path, Path], bool],
        latest: float = 0.4,
    ) -> None:
        self.name, self.command, self.done, self.same, self.latest = name, command, done, same, latest


def training(name: str, base: Path) -> Job:
    """Training of a stage with a checkpoint after every second step."""

    def last(folder: Path) -> Path:
        return folder / name / "ckpt" / "last.pt"

    def command(folder: Path) -> int:
        config = synthetic.make_config(
            name, base / "data", folder, before=base / "runs", save_steps=2, epochs=EPOCHS[name]
        )
        folder.mkdir(parents=True, exist_ok=True)
        write_yaml(config, folder / "config.yaml")
        return stages.main(["--config", str(folder / "config.yaml"), "--train"])

    def done(folder: Path) -> int:
        path = last(folder)
        return load_checkpoint(path, "this benchmark")["step"] if path.is_file() else 0

    def same(one: Path, two: Path) -> bool:
        a, b = (torch.load(last(folder), weights_only=True) for folder in (one, two))
        return all(_equal(a[part], b[part]) for part in PARTS)

    return Job(name, command, done, same)


def preparation(base: Path) -> Job:
    """Preparation of dances and songs."""
    raw = base / "raw"
    for name in ("motions", "songs", "splits"):
        (raw / name).mkdir(parents=True)
    names = [f"dance{i:03d}" for i in range(DANCES)]
    for seed, name in enumerate(names):
        np.save(raw / "motions" / f"{name}.npy", body(120, seed=seed))
    for i in range(SONGS):
        write_wav(raw / "songs" / f"{names[i]}.wav", sound(3.0, seed=i), RATE)
    (raw / "splits" / "train.txt").write_text("\n".join(names[1:]))
    (raw / "splits" / "test.txt").write_text(names[0])

    def command(folder: Path) -> int:
        options = ["--adapter", str(raw), "--no-songs", "--workers", "1", "--out", str(folder)]
        return prepare_aistpp_data.main(options)

    def done(folder: Path) -> int:
        files = _whole_names(folder, "*.npy")
        for path in files:
            np.load(path, allow_pickle=False)
        return len(files)

    def same(one: Path, two: Path) -> bool:
        contents = [{p.relative_to(f): p.read_bytes() for p in _whole_names(f, "*.*")} for f in (one, two)]
        return contents[0] == contents[1]

    return Job("preparation", command, done, same)


def dancing(base: Path) -> Job:
    """Dances to the songs of a folder, with files of several formats."""
    songs = base / "songs"
    for i in range(SONGS):
        write_wav(songs / f"song{i}.wav", sound(3.0, seed=i), RATE)
    config = base / "dance.yaml"
    write_yaml(synthetic.make_config("actor_critic", base / "data", base / "runs"), config)

    def command(folder: Path) -> int:
        options = ["generation.first_codes=[1,2]", "dance.formats=[bvh,glb,smpl]"]
        return stages.main(["--config", str(config), "--dance", str(songs), *options, "--out", str(folder)])

    def done(folder: Path) -> int:
        files = [path for path in _whole_names(folder, "*.npz") if not path.stem.endswith("_smpl")]
        return sum(len(load_dance(path).joints) > 0 for path in files)

    def same(one: Path, two: Path) -> bool:
        names = [{path.name for path in _whole_names(folder, "song*.*")} for folder in (one, two)]
        dances = [[load_dance(f / f"song{i}.npz") for i in range(SONGS)] for f in (one, two)]
        return names[0] == names[1] and all(
            np.array_equal(a.joints, b.joints) for a, b in zip(*dances, strict=True)
        )

    return Job("dance", command, done, same, latest=0.95)


def _whole_names(folder: Path, pattern: str) -> list[Path]:
    """Files of a folder under their final names."""
    return sorted(path for path in folder.rglob(pattern) if path.is_file() and not path.name.startswith("."))


def _equal(a: object, b: object) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(_equal(x, y) for x, y in zip(a, b, strict=True))
    if torch.is_tensor(a) and torch.is_tensor(b):
        return torch.equal(a, b)
    return a == b


class Killed(NamedTuple):
    """Result of a job that was killed often.

    Attributes:
        rounds: how often it had ended between two kills, and was started in a new folder.
        advanced: after how many of the kills more was done than before.
        wrong: everything that went wrong.
    """

    rounds: int
    advanced: int
    wrong: list[str]


def kill_often(job: Job, times: int, seed: int, root: Path) -> Killed:
    """Kill a job that many times, and let it end."""
    rng, wrong, log = random.Random(f"{seed} {job.name}"), [], root / f"{job.name}.txt"
    whole = root / f"{job.name}_whole"
    began = time.monotonic()
    if (ended := run(lambda: job.command(whole), log, 1200)).status != 0:
        return Killed(0, 0, [f"undisturbed: status {ended.status}: {ended.printed[-300:]}"])
    seconds = time.monotonic() - began
    folder, rounds, advanced, done = root / f"{job.name}_0", 0, 0, 0
    for number in tqdm(range(times), job.name):
        child = start(lambda folder=folder: job.command(folder), log)  # type: ignore[misc]
        time.sleep(rng.uniform(0.02, job.latest) * seconds)
        finished, status = os.waitpid(child, os.WNOHANG)
        if not finished:
            kill(child)
            os.waitpid(child, 0)
        elif status:
            wrong.append(f"kill {number}: it ended with {status}: {log.read_text()[-300:]}")
        try:
            before, done = done, job.done(folder)
        except _HALF as error:
            wrong.append(f"kill {number}: half-written: {error}")
            continue
        advanced += done > before
        if done < before:
            wrong.append(f"kill {number}: {before} were done, {done} are left")
        if finished:
            wrong += [f"kill {number}: {text}" for text in _differences(job, folder, whole)]
            rounds, done = rounds + 1, 0
            folder = root / f"{job.name}_{rounds}"
    if (ended := run(lambda: job.command(folder), log, 1200)).status != 0:
        wrong.append(f"at the end: status {ended.status}: {ended.printed[-300:]}")
    else:
        wrong += [f"at the end: {text}" for text in _differences(job, folder, whole)]
    return Killed(rounds, advanced, wrong)


def _differences(job: Job, folder: Path, whole: Path) -> list[str]:
    """What is wrong with a finished folder, compared with that of an undisturbed run."""
    try:
        return [] if job.same(folder, whole) else ["other files than those of an undisturbed run"]
    except _HALF as error:
        return [f"half-written: {error}"]


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; return 1 if anything was lost or half-written."""
    names = (*synthetic.ORDER, "preparation", "dance")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--folder", type=Path, help="of everything that is written (a temporary folder)")
    options = parser.parse_args(arguments)
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    logging.disable(logging.INFO)
    root = options.folder or Path(tempfile.mkdtemp(prefix="kills_"))
    base = root / "base"
    synthetic.make_data(base / "data")
    synthetic.train_all(base / "data", base / "runs", epochs=1)
    makers: dict[str, Callable[[], Job]] = {
        name: lambda name=name: training(name, base)
        for name in synthetic.ORDER  # type: ignore[misc]
    }
    makers |= {"preparation": lambda: preparation(base), "dance": lambda: dancing(base)}
    failed = 0
    for name in options.only:
        rounds, advanced, wrong = kill_often(makers[name](), options.times, options.seed, root)
        failed += len(wrong)
        print(
            f"{name:16} {options.times} kills, {advanced} after further progress, begun anew {rounds} times, "
            f"wrong: {len(wrong)}"
        )
        for text in wrong:
            print(f"  {text}")
    if not failed and options.folder is None:
        shutil.rmtree(root)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
