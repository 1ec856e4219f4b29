"""Converts published checkpoints to ours, and back.

    python -m models.published import PUBLISHED.pt OURS.pt
    python -m models.published export OURS.pt PUBLISHED.pt

Importing is optional: every config key that names a checkpoint takes a published file directly. OURS.pt can
be evaluated and named in a later stage's config; it has no optimizer state, so training cannot be resumed
from it. PUBLISHED.pt is {'model', 'config', 'epoch'} with the published names; `config` is a plain dict.
Published files lack the moving averages of codebooks, which are restored as ema_sum = codebook, ema_count =
1.
"""

import argparse
import sys
from pathlib import Path

from models.published.conversion import export_file, import_file
from utils.terminal import tolerant_output


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
        network = convert(options.source, options.target)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{options.target}: {network}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
