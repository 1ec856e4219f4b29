"""Converts published checkpoints to ours, and back.

    python -m models.published import PUBLISHED.pt OURS.pt
    python -m models.published export OURS.pt PUBLISHED.pt

Importing is optional: every config key that names a checkpoint takes a published file directly. OURS.pt can
be evaluated and named in a later stage's config; it has no optimizer state, so training cannot be resumed
from it. PUBLISHED.pt holds {'model', 'config', 'epoch'} of the selected epoch under the published names;
`config` is a plain dict. Published files lack the moving averages of codebooks; importing restores them as
ema_sum = codebook, ema_count = 1.
"""

import argparse
import sys
from pathlib import Path

from models.checkpoints import selected_weights
from models.published.conversion import NETWORKS, from_published, to_published
from models.published.files import is_published, read_published, write_published
from utils.terminal import tolerant_output
from utils.training.checkpoints import load_checkpoint, save_checkpoint


def import_file(source: Path, target: Path) -> str:
    """Writes a published file as a checkpoint of ours; returns what it holds.

    Raises:
        FileNotFoundError: if the source is missing.
        ValueError: if it is not a published file, or the target is the source.
    """
    _check_target(source, target)
    content = from_published(read_published(source))
    save_checkpoint(content, target)
    return f"{NETWORKS[content['stage']]}, epoch {content['epoch']}"


def export_file(source: Path, target: Path) -> str:
    """Writes a checkpoint of ours as a published file; returns what it holds.

    Raises:
        FileNotFoundError: if the source is missing.
        ValueError: if it is not a checkpoint of ours, published files cannot hold its network, or the target
            is the source.
    """
    _check_target(source, target)
    if is_published(source):
        raise ValueError(f"{source} has the published form already (`import` converts it to ours)")
    content = load_checkpoint(source, "python main.py --config CONFIG --train")
    weights, epoch = selected_weights(content)
    write_published(to_published({**content, "model": weights, "epoch": epoch}, str(source)), target)
    return f"{NETWORKS[content['stage']]}, epoch {epoch}"


def _check_target(source: Path, target: Path) -> None:
    if target.exists() and source.exists() and target.samefile(source):
        raise ValueError(f"{target} is the source itself; name another file")


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; errors that the user can correct are one line and exit code 2."""
    tolerant_output()
    parser = argparse.ArgumentParser(
        prog="python -m models.published",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", choices=["import", "export"])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    options = parser.parse_args(arguments)
    try:
        convert = import_file if options.action == "import" else export_file
        content = convert(options.source, options.target)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{options.target}: {content}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
