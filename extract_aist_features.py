"""Metric features of the real dances, once: <data>/reference_features.npz, for --eval and utils.metrics.

    python extract_aist_features.py --data data/aistpp

Every dance of the folder is taken whole. The work is done in parallel, a part at a time; a run that was
stopped goes on where it was. The file knows which data it is of: after the data or the features changed it is
refused, and made anew.
"""

import argparse
import logging
import multiprocessing
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

from tqdm import tqdm

from datasets.reference import real_features
from datasets.sequences import PreparedData
from utils.metrics.dances import DanceFeatures
from utils.metrics.reference import FILE_NAME, MADE_BY, Reference, data_key, load_features, save_features
from utils.processors import worker_count

PART = 24  # dances per part
PARTS = ".reference_features.parts"
WORKER_MEMORY = 600 * 2**20  # bytes
log = logging.getLogger("extract_aist_features")


def extract(root: Path, workers: int | None = None, again: bool = False) -> Path:
    """Writes the features of all dances of prepared data, unless they are there already.

    Args:
        root: the prepared folder.
        workers: processes; if None one per usable processor, as far as the memory goes. With 1 all is done in
            this one.
        again: also if they are there already.

    Returns:
        The path of the file.

    Raises:
        FileNotFoundError: naming the command that makes the data, if it is missing.
        ValueError: naming what is wrong with the data.
    """
    root = Path(root)
    data, key, path = PreparedData(root), data_key(root), root / FILE_NAME
    if not again and is_current(path, key):
        log.info("%s is up to date", path)
        return path
    names = data.names("all")
    if not names:
        raise ValueError(f"{root} has no dances")
    parts = root / PARTS / key[:16]
    chunks = {parts / f"{start:05d}.npz": names[start : start + PART] for start in range(0, len(names), PART)}
    if again:
        shutil.rmtree(root / PARTS, ignore_errors=True)
    missing = {file: chunk for file, chunk in chunks.items() if not is_current(file, key)}
    with tqdm(total=len(names), unit="dance", desc="features", disable=None) as bar:
        bar.update(len(names) - sum(map(len, missing.values())))
        for done in _each(partial(_write_part, root, key), missing, workers or worker_count(WORKER_MEMORY)):
            bar.update(done)
    dances: list[DanceFeatures] = []
    for file in chunks:
        dances += load_features(file, _advice(root))[0]
    save_features(dances, path, key)
    shutil.rmtree(root / PARTS)
    with_music = sum(dance.music_beats is not None for dance in dances)
    log.info("%s: %d dances, %d with music beats", path, len(dances), with_music)
    return path


def is_current(path: Path, key: str) -> bool:
    """Whether a file holds features of this very data; a damaged or older one does not, and is replaced."""
    try:
        Reference.load(path, key)
    except (FileNotFoundError, ValueError):
        return False
    return True


def _advice(root: Path) -> str:
    return f"make it anew by: {MADE_BY.format(root=root)}"


def _each(work: partial, tasks: dict[Path, list[str]], workers: int) -> Iterator[int]:
    if workers == 1 or len(tasks) < 2:
        yield from map(work, tasks.items())
        return
    context = multiprocessing.get_context("spawn")  # no threads of the parent are copied half-way
    with ProcessPoolExecutor(min(workers, len(tasks)), mp_context=context) as pool:
        try:
            yield from pool.map(work, tasks.items())
        except BrokenProcessPool:
            raise ValueError(
                "a worker process died (out of memory?); run again to go on, or with --workers 1"
            ) from None
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _write_part(root: Path, key: str, task: tuple[Path, list[str]]) -> int:
    file, names = task
    data = PreparedData(root)
    save_features([real_features(data, name) for name in names], file, key)
    return len(names)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0, or 2 after a message about what is wrong."""
    parser = argparse.ArgumentParser(description="Metric features of the real dances.", allow_abbrev=False)
    parser.add_argument("--data", type=Path, required=True, help="prepared folder, e.g. data/aistpp")
    parser.add_argument("--workers", type=int, help="processes (default: one per usable processor)")
    parser.add_argument("--again", action="store_true", help="make them even if they are there")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        if options.workers is not None and options.workers < 1:
            raise ValueError(f"--workers must be at least 1, got {options.workers}")
        extract(options.data, options.workers, options.again)
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
