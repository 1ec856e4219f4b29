"""Preparing a corpus of AIST++'s size: how fast, in how much memory, and whether a kill changes a byte.

    python -m tests.benchmarks.preparation [--sequences 1320] [--minutes 1 3 10] [--workers 2] [--folder DIR]

The sample corpus is multiplied by hard links to as many sequences; its songs are as they are. Then dances
alone, dances with songs, the same killed at a random moment and started again, and four songs of every length
in minutes. Memory is read from /proc ten times a second: the most that all processes held at once, and the
sum of each one's own peak.
"""

import argparse
import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from datasets.sample import make_corpus
from tests.datasets.test_music import drums
from tests.helpers import ROOT
from utils.music.audio import write_wav

COMMAND = [sys.executable, "prepare_aistpp_data.py"]


class Watched(NamedTuple):
    """Seconds a command took, MB of all its processes at once and of their own peaks added up, its output."""

    seconds: float
    at_once: float
    peaks: float
    printed: str


def multiply(source: Path, target: Path, count: int) -> None:
    """The corpus in `source` again in `target`, its dances linked under new names until there are `count`."""
    for folder in ("motions", "wav", "splits"):
        (target / folder).mkdir(parents=True, exist_ok=True)
    motions = sorted((source / "motions").iterdir())
    names = []
    for number in range(count):
        motion = motions[number % len(motions)]
        again = number // len(motions)
        name = re.sub(r"ch(\d+)$", lambda found, n=again: f"ch{int(found[1]) + 10 * n:02d}", motion.stem)
        os.link(motion, target / "motions" / f"{name}.pkl")
        names.append(name)
    for song in (source / "wav").iterdir():
        os.link(song, target / "wav" / song.name)
    for split, part in (("train", names[40:]), ("val", names[:20]), ("test", names[20:40])):
        (target / "splits" / f"crossmodal_{split}.txt").write_text("".join(f"{name}\n" for name in part))
    (target / "ignore_list.txt").touch()


def family(pid: int) -> list[int]:
    """A process and all its descendants that are alive."""
    found = [pid]
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                found += family(int(child))
    return found


def memory(pid: int) -> tuple[float, float]:
    """MB a process holds now and held at most; (0, 0) when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0, 0.0
    rows = (re.search(rf"{row}:\s+(\d+) kB", status) for row in ("VmRSS", "VmHWM"))
    now, most = (int(row[1]) / 1024 if row else 0.0 for row in rows)
    return now, most


def watch(*options: str, kill_after: float | None = None) -> Watched:
    """Runs a preparation with these options, and kills it after some seconds if so told."""
    start, at_once, peaks = time.monotonic(), 0.0, {}
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen([*COMMAND, *options], cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        while process.poll() is None:
            held = {pid: memory(pid) for pid in family(process.pid)}
            at_once = max(at_once, sum(now for now, _ in held.values()))
            peaks |= {pid: max(most, peaks.get(pid, 0.0)) for pid, (_, most) in held.items()}
            if kill_after is not None and time.monotonic() - start > kill_after:
                process.send_signal(signal.SIGKILL)
            time.sleep(0.1)
        output.seek(0)
        printed = output.read()
    if process.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"{' '.join(options)} ended with {process.returncode}: {printed}")
    return Watched(time.monotonic() - start, at_once, sum(peaks.values()), printed)


def differences(one: Path, other: Path) -> list[str]:
    """Files that are in one folder only, or not byte for byte the same."""
    names = {path.relative_to(root).as_posix() for root in (one, other) for path in root.rglob("*.*")}
    files = [name for name in sorted(names) if not (one / name).is_dir()]
    return [name for name in files if not same(one / name, other / name)]


def same(one: Path, other: Path) -> bool:
    """Whether both are there and hold the same bytes."""
    return one.is_file() and other.is_file() and one.read_bytes() == other.read_bytes()


def show(what: str, run: Watched, count: int, unit: str) -> None:
    """A line of the table."""
    speed = f"{count / run.seconds:7.2f} {unit}/s"
    print(f"{what:34} {run.seconds:7.1f} s {speed:19} {run.at_once:6.0f} MB {run.peaks:6.0f} MB", flush=True)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sequences", type=int, default=1320)
    parser.add_argument("--minutes", type=float, nargs="*", default=[1.0, 3.0, 10.0])
    parser.add_argument("--workers", default="2")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary one if not given")
    args = parser.parse_args()
    root = Path(tempfile.mkdtemp(dir=args.folder))
    make_corpus(root / "sample")
    multiply(root / "sample", root / "raw", args.sequences)
    songs = len(list((root / "raw" / "wav").iterdir()))
    base = ["--source", str(root / "raw"), "--workers", args.workers]
    print(f"{'':34} {'time':>9} {'speed':19} {'at once':>9} {'peaks':>9}")

    dances = watch(*base, "--no-songs", "--songs", str(empty(root)), "--out", str(root / "dances"))
    show(f"{args.sequences} dances", dances, args.sequences, "dances")
    whole = watch(*base, "--out", str(root / "whole"))
    show(f"{args.sequences} dances and {songs} songs of 10 s", whole, songs, "songs")
    moment = random.Random(time.time_ns()).uniform(0.1, 0.9) * whole.seconds
    killed = watch(*base, "--out", str(root / "killed"), kill_after=moment)
    rest = watch(*base, "--out", str(root / "killed"))
    show(f"the same from a kill at {killed.seconds:.1f} s on", rest, songs, "songs")
    print(rest.printed.splitlines()[-1])
    print("files that differ after the kill:", differences(root / "whole", root / "killed") or "none")

    for minutes in args.minutes:
        folder = root / f"songs_{minutes:g}"
        for number in range(4):
            write_wav(folder / f"{number}.wav", drums(120, 60 * minutes, 44100, seed=number), 44100)
        run = watch("--songs", str(folder), "--out", f"{folder}.out", "--workers", args.workers)
        show(f"4 songs of {minutes:g} minutes", run, 4, "songs")
    shutil.rmtree(root)


def empty(root: Path) -> Path:
    """An empty folder."""
    (root / "nothing").mkdir()
    return root / "nothing"


if __name__ == "__main__":
    main()
