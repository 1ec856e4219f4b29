"""Ablations on the sample corpus, from nothing to tables and plots.

    python -m tests.benchmarks.ablations [--seeds 3] [--only NAME ...] [--scale short|full]
                                         [--out experiments/ablations] [--threads 1] [--jobs 2]
    python -m tests.benchmarks.ablations --report        # tables and plots of what is there

Each run has a folder of its own below OUT/runs. What is finished is reused (configs and data decide, not the
code: delete the folders after changing that), what was stopped goes on, what fails is reported at the end
and stops only what builds on it. Writes OUT/ablations.json, .md and a PNG per question.
"""

import argparse
import logging
import signal
import sys
from pathlib import Path

from tqdm.contrib.logging import logging_redirect_tqdm

import prepare_aistpp_data
from datasets.sequences import MANIFEST
from tests.benchmarks.ablations.questions import FEATURES, Question, Variant, features_root, questions
from tests.benchmarks.ablations.report import gather, write
from tests.benchmarks.ablations.running import Outcome, carry_out, estimate, jobs_of, missing, result_of
from tests.benchmarks.ablations.runs import EPOCHS, Place, config_path, data_digest
from utils.config import read_merged

log = logging.getLogger("ablations")


def parse_arguments(arguments: list[str] | None, names: tuple[str, ...]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.ablations",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds 0..N-1, default 3")
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names)
    )
    parser.add_argument(
        "--scale", choices=(*EPOCHS, "full"), default="short", help="tiny tries the benchmark"
    )
    parser.add_argument("--out", type=Path, default=Path("experiments/ablations"))
    parser.add_argument("--threads", type=int, default=1, help="of each run, default 1")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, default 2")
    parser.add_argument("--report", action="store_true", help="train nothing")
    return parser.parse_args(arguments)


def prepare(out: Path, wanted: list[Question]) -> str:
    """Prepares the corpus where it is missing, with the older features too if asked about.

    Returns:
        The corpus' digest.

    Raises:
        RuntimeError: if it cannot be.
    """
    root = Path(read_merged(config_path("memory"))["data"]["root"])
    needed = [] if (root / MANIFEST).is_file() else [["--sample", "--out", str(root)]]
    if any(question.name == "features" for question in wanted):
        for version in FEATURES:
            folder = features_root(out, version)
            if not (folder / MANIFEST).is_file():
                needed.append(["--sample", "--features", version, "--out", str(folder)])
    for arguments in needed:
        log.info("preparing: prepare_aistpp_data.py %s", " ".join(arguments))
        if prepare_aistpp_data.main(arguments):
            raise RuntimeError(f"prepare_aistpp_data.py {' '.join(arguments)} failed")
    return data_digest(root)


def main(arguments: list[str] | None = None) -> int:
    """Runs; exit status 1 if a run failed."""
    names = tuple(question.name for question in questions(Path()))
    options = parse_arguments(arguments, names)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    seeds = list(range(options.seeds))
    wanted = [question for question in questions(options.out) if question.name in options.only]
    root = Path(read_merged(config_path("memory"))["data"]["root"])
    digest = data_digest(root) if options.report else prepare(options.out, wanted)
    place = Place(options.out, options.scale, digest)
    judged = [variant.run(seed) for seed in seeds for question in wanted for variant in question.variants]
    outcome = Outcome()
    if not options.report:
        jobs = jobs_of(place, judged)
        minutes, left = estimate(place, jobs, options.jobs), len(missing(place, jobs))
        log.info("%d of %d runs missing: %.0f minutes, %d at a time", left, len(jobs), minutes, options.jobs)
        with logging_redirect_tqdm():
            try:
                outcome = carry_out(place, jobs, options.jobs, options.threads)
            except KeyboardInterrupt:
                print("stopped; the same command goes on from here", file=sys.stderr)
                return 130

    def result(variant: Variant, seed: int) -> dict | None:
        return result_of(place, variant.run(seed), True)

    facts = {"scale": options.scale, "seeds": len(seeds), "corpus": digest}
    for path in write(gather(wanted, seeds, result), facts, outcome.failed, options.out):
        print(path)
    for name, why in outcome.failed.items():
        print(f"failed: {name}: {why}", file=sys.stderr)
    return 1 if outcome.failed else 0


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)  # as Ctrl-C: runs save before they end
    sys.exit(main())
