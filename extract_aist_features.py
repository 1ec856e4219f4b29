"""Compute the metric features of the real dances once, for --eval and utils.metrics: reference_features.npz.

    python extract_aist_features.py --data data/aistpp

Every dance of the folder is used uncut. The file has a key of its data: if the data or the features changed,
it is computed again.
"""

import argparse
import logging
import sys
from pathlib import Path

from tqdm import tqdm

from datasets.reference import real_features
from datasets.sequences import PreparedData
from utils.metrics.reference import FILE_NAME, Reference, data_key, save_features
from utils.terminal import tolerant_output

log = logging.getLogger("extract_aist_features")


def extract(root: Path, again: bool = False) -> Path:
    """Write the features of all dances of prepared data, unless the file is up to date.

    Args:
        root: the prepared folder.
        again: write them even if the file is up to date.

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
    dances = [real_features(data, name) for name in tqdm(names, "features", unit="dance", disable=None)]
    save_features(dances, path, key)
    with_music = sum(dance.music_beats is not None for dance in dances)
    log.info("%s: %d dances, %d with music beats", path, len(dances), with_music)
    return path


def is_current(path: Path, key: str) -> bool:
    """Whether a file holds the features of this data; a damaged or older file does not."""
    try:
        Reference.load(path, key)
    except (FileNotFoundError, ValueError):
        return False
    return True


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status: 0, or 2 after a message about what is wrong."""
    tolerant_output()
    parser = argparse.ArgumentParser(description="Metric features of the real dances.", allow_abbrev=False)
    parser.add_argument("--data", type=Path, required=True, help="prepared folder, e.g. data/aistpp")
    parser.add_argument("--again", action="store_true", help="compute them even if the file is up to date")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        extract(options.data, options.again)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
