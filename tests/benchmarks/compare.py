"""Compare two commits bit for bit on this machine: losses, weights, codes, dances and metrics of all stages.

    python -m tests.benchmarks.compare COMMIT_A [COMMIT_B] [--data FOLDER] [--epochs 4] [--keep FOLDER]
                                       [--rename OLD.KEY=NEW.KEY ...] [--stages sep_vqvae ...]

For refactoring: each commit is checked out into a temporary worktree and trains the four stages at
a tiny size on the same data, then evaluates each, all through `main.py` and files, by this
interpreter on one thread. COMMIT_B is HEAD if left out. Weights are compared by content, so their
names may change, as may those of logged losses. A key that one of the commits does not know is left
out there, or written as --rename says. Exit code 0: equal, 1: different, 2: a command failed.
"""

import argparse
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.helpers import ROOT
from tests.models.stages import synthetic

SIZES = {
    "sep_vqvae": ["model.codes_upper=24", "model.codes_lower=16", "model.codebook.dim=12",
                  "model.conv.width=8", "data.clips.hop=48", "training.batch_size=4"],
    "sep_vqvae_root": ["data.clips.hop=48", "training.batch_size=4"],
    "cc_motion_gpt": ["model.width=16", "model.heads=2", "model.base_blocks=1", "model.head_blocks=1",
                      "data.clips.hop=48", "training.batch_size=4"],
    "actor_critic": ["value.blocks=1", "turn=2", "training.batch_size=8"],
}  # fmt: skip
ALL = ["device=cpu", "seed=1", "training.log_every=1", "training.lr=1e-3", "training.milestones=[2]",
       "evaluation.plots=false", "evaluation.videos=0", "evaluation.players=0"]  # fmt: skip
NEEDS = {
    "sep_vqvae": {},
    "sep_vqvae_root": {"vqvae": "sep_vqvae"},
    "cc_motion_gpt": {"vqvae": "sep_vqvae_root"},
    "actor_critic": {"vqvae": "sep_vqvae_root", "gpt": "cc_motion_gpt"},
}
NOT_RESULTS = re.compile(r"second|time|speed|date|version|path|folder|library|machine", re.IGNORECASE)


class Failed(Exception):
    """A command of one of the commits ended badly."""


class Row(NamedTuple):
    """One comparison: what of which stage, how much of it there is, and what differs; '' if nothing."""

    stage: str
    what: str
    number: int
    difference: str


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("commits", nargs="+", metavar="COMMIT")
    parser.add_argument("--data", type=Path, help="prepared data instead of six dances of noise")
    parser.add_argument("--epochs", type=int, default=4, help="of each stage; four are 24 steps (default)")
    parser.add_argument("--stages", nargs="*", default=[*SIZES], choices=[*SIZES], help="the first ones; all")
    parser.add_argument("--keep", type=Path, help="folder for the runs, instead of a temporary one")
    parser.add_argument("--rename", nargs="*", default=[], metavar="OLD=NEW", help="keys of either commit")
    options = parser.parse_args(arguments)
    if len(options.commits) > 2:
        parser.error("one or two commits")
    a, b = [*options.commits, "HEAD"][:2]
    renamed = dict(pair.split("=", 1) for pair in options.rename)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))  # so that worktrees are removed
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.keep or Path(temporary)).resolve()
        data = options.data.resolve() if options.data else synthetic.make_data(folder / "data")
        try:
            outputs = [
                run_commit(commit, folder / side, data, options, renamed)
                for side, commit in (("a", a), ("b", b))
            ]
        except Failed as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        rows = [
            row for stage in options.stages for row in compare(stage, *(output / stage for output in outputs))
        ]
    print_table(rows, a, b)
    return int(any(row.difference for row in rows))


def run_commit(
    commit: str, folder: Path, data: Path, options: argparse.Namespace, renamed: dict[str, str]
) -> Path:
    """Train and evaluate the stages of a commit; return the folder of the runs.

    Raises:
        Failed: if there is no such commit, or one of its commands fails.
    """
    checkout, output = folder / "checkout", folder / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    git("worktree", "add", "--force", "--detach", str(checkout), commit)
    try:
        for stage in options.stages:
            before = NEEDS[stage]
            keys = [*ALL, *SIZES[stage], f"training.epochs={options.epochs}", f"data.root={data}"]
            keys += [f"output={output}", f"name={stage}"]
            keys += [f"{key}={output / other / 'ckpt' / 'last.pt'}" for key, other in before.items()]
            for mode in ("--train", "--eval"):
                print(f"{commit}: {stage} {mode}", file=sys.stderr, flush=True)
                run_main(checkout, f"configs/sample/{stage}.yaml", mode, keys, renamed, commit)
    finally:
        git("worktree", "remove", "--force", str(checkout))
    return output


def git(*arguments: str) -> None:
    """Run git in this repository; raise Failed with its message."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(done.stderr.strip())


def run_main(
    checkout: Path, config: str, mode: str, keys: list[str], renamed: dict[str, str], commit: str
) -> None:
    """Run a commit's main.py, once more without or with other names of the keys that it does not know."""
    threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(threads, "1"), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTHONPATH", None)
    for _ in range(2):
        command = [sys.executable, "main.py", "--config", config, mode, *keys]
        done = subprocess.run(
            command, cwd=checkout, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return
        unknown = set(re.findall(r"([\w.]+): unknown key", done.stderr))
        if not unknown & {key.split("=")[0] for key in keys}:
            break
        keys = [other for key in keys for other in known(key, unknown, renamed, commit)]
    raise Failed(
        f"{commit}: {' '.join(command)} ended with {done.returncode}:\n{done.stderr.strip()[-2000:]}"
    )


def known(key: str, unknown: set[str], renamed: dict[str, str], commit: str) -> Iterator[str]:
    """The override as it is; by its other name, or not at all, where the commit does not know it."""
    name, value = key.split("=", 1)
    if name not in unknown:
        yield key
    elif name in renamed:
        yield f"{renamed[name]}={value}"
    else:
        print(f"{commit}: has no key {name}, left out", file=sys.stderr)


def compare(stage: str, a: Path, b: Path) -> list[Row]:
    """Compare two run folders of a stage."""
    kinds = {"losses": losses, "weights": weights, "codes": codes, "joints": joints, "metrics": metrics}
    rows = []
    for what, read in kinds.items():
        ours, theirs = read(a), read(b)
        if ours or theirs or what in ("losses", "weights"):
            rows.append(Row(stage, what, len(ours), difference(ours, theirs)))
    return rows


def difference(a: dict[str, Any], b: dict[str, Any]) -> str:
    """What differs between values by name; where names differ, between the values alone."""
    if not a or not b:
        return f"{len(a)} against {len(b)}"
    if a.keys() != b.keys():
        mine, other = Counter(map(fingerprint, a.values())), Counter(map(fingerprint, b.values()))
        only = (mine - other).total(), (other - mine).total()
        return (
            f"names differ, and {only[0]} of {len(a)} against {only[1]} of {len(b)} values"
            if any(only)
            else ""
        )
    off = [name for name in a if fingerprint(a[name]) != fingerprint(b[name])]
    if not off:
        return ""
    return f"{len(off)} of {len(a)}, first {off[0]}{distance(a[off[0]], b[off[0]])}"


def fingerprint(value: Any) -> str:
    """A digest of the type, the shape and every bit of a value."""
    array = np.asarray(value)
    return hashlib.sha256(f"{array.dtype} {array.shape}".encode() + array.tobytes()).hexdigest()


def distance(a: Any, b: Any) -> str:
    """The largest difference of two arrays of numbers."""
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype.kind not in "fiu" or b.dtype.kind not in "fiu":
        return f": {a} against {b}"
    if a.shape != b.shape:
        return f": shape {a.shape} against {b.shape}"
    return f": off by {np.abs(a.astype(float) - b.astype(float)).max():.3g}"


def losses(run: Path) -> dict[str, np.ndarray]:
    """The curves of all losses in a run's TensorBoard log."""
    events = EventAccumulator(str(run / "logs"), size_guidance={"scalars": 0})
    events.Reload()
    names = [name for name in events.Tags()["scalars"] if name.startswith("train/") and "loss" in name]
    return {name: np.array([event.value for event in events.Scalars(name)]) for name in names}


def weights(run: Path) -> dict[str, np.ndarray]:
    """The trained tensors."""
    content = torch.load(run / "ckpt" / "last.pt", map_location="cpu", weights_only=True)
    return {name: tensor.numpy() for name, tensor in content["model"].items()}


def codes(run: Path) -> dict[str, np.ndarray]:
    """The codes of all evaluated dances, by row and name of the dance."""
    return dict(motions(run, "codes"))


def joints(run: Path) -> dict[str, np.ndarray]:
    """The joints of all evaluated dances, by row and name of the dance."""
    return dict(motions(run, "joints"))


def motions(run: Path, key: str) -> Iterator[tuple[str, np.ndarray]]:
    """An array of every .npz file of an evaluation that has it."""
    for path in sorted((run / "eval").rglob("*.npz")):
        with np.load(path, allow_pickle=False) as file:
            if key in file:
                yield f"{path.parent.name}/{path.stem}", file[key]


def metrics(run: Path) -> dict[str, float]:
    """All numbers of an evaluation's metrics.json except times and the like."""
    found: dict[str, float] = {}
    for path in sorted((run / "eval").rglob("metrics.json")):
        found.update(numbers(json.loads(path.read_text()), path.parent.name))
    return found


def numbers(content: Any, name: str) -> Iterator[tuple[str, float]]:
    """The numbers in nested containers, by path."""
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(content, dict):
        items = content.items()
    elif isinstance(content, list):
        items = enumerate(content)
    elif isinstance(content, int | float) and not isinstance(content, bool):
        yield name, float(content)
    for key, value in items:
        if not NOT_RESULTS.search(str(key)):
            yield from numbers(value, f"{name}/{key}")


def print_table(rows: list[Row], a: str, b: str) -> None:
    """Print a table per stage."""
    print(f"\n{a} against {b}\n")
    print(f"| {'stage':14} | {'what':8} | {'number':>6} | result")
    print(f"|{'-' * 16}|{'-' * 10}|{'-' * 8}|{'-' * 40}")
    for row in rows:
        result = f"DIFFERENT: {row.difference}" if row.difference else "equal"
        print(f"| {row.stage:14} | {row.what:8} | {row.number:6} | {result}")


if __name__ == "__main__":
    sys.exit(main())
