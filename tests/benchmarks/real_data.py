"""A choreographic memory on real dances: how far joints are off on one it never saw, by what it learnt from.

    python -m tests.benchmarks.real_data [--source ../shared/data/aistpp] [--scale short|full] [--seeds 1]

Three memories at the sample's size: trained on the built-in corpus alone, on the real training dances alone,
and on both, each with the same number of steps. Writes OUT/real_data.json, .md and a page on which the
held-out dance and its reconstructions dance side by side. A handful of dances says nothing about FID.
"""

import argparse
import json
import logging
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

import main as command
import prepare_aistpp_data
from datasets.clips import ClipsConfig, clip_starts
from datasets.sample import make_corpus
from datasets.sequences import PreparedData
from models.checkpoints import load_memory
from models.evaluation.dances import DanceMaker
from models.evaluation.report import reconstruction
from models.stages.registry import read_config
from tests.benchmarks.ablations.runs import EPOCHS, config_path
from tests.helpers import SHARED
from utils.dance import Dance
from utils.files import write_beside
from utils.render.player import write_player

log = logging.getLogger("real_data")
ROWS = {"sample corpus": ("sample",), "real dances": ("real",), "both": ("sample", "real")}
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Source:
    """Dances in AIST++'s layout: its folder, and names by split of those that are there."""

    folder: Path
    splits: Mapping[str, tuple[str, ...]]

    @property
    def held_out(self) -> tuple[str, ...]:
        """Of validation and test, the benchmark's test set."""
        return self.splits["val"] + self.splits["test"]


def found_in(folder: Path) -> Source:
    """What there is of a folder in AIST++'s layout; ignored dances left out.

    Raises:
        FileNotFoundError: if it has no dances to train on or none to test.
    """
    listed = folder / "ignore_list.txt"
    ignored = set(listed.read_text().split()) if listed.is_file() else set()
    there = {path.stem for path in (folder / "motions").glob("*.pkl")} - ignored
    lists = {split: (folder / "splits" / f"crossmodal_{split}.txt").read_text().split() for split in SPLITS}
    source = Source(folder, {split: tuple(n for n in names if n in there) for split, names in lists.items()})
    if not source.splits["train"] or not source.held_out:
        raise FileNotFoundError(f"{folder} has no dances of train, or none of val and test, in motions/*.pkl")
    return source


def without(source: Source, other: Source) -> Source:
    """The source without dances that have the name of one in the other: the corpus is named like AIST++."""
    taken = {name for names in other.splits.values() for name in names}
    splits = {split: tuple(n for n in names if n not in taken) for split, names in source.splits.items()}
    return Source(source.folder, splits)


def merge(sources: Sequence[Source], trained: Sequence[Source], out: Path) -> None:
    """Prepares the dances of all sources below `out`; those of `trained` are trained on, the rest is `test`.

    Raises:
        ValueError: if two sources have a dance of the same name.
        RuntimeError: if they cannot be prepared.
    """
    raw, names = out / "raw", [name for s in sources for names in s.splits.values() for name in names]
    if len(set(names)) < len(names):
        raise ValueError(f"dances of the same name in {' and '.join(str(s.folder) for s in sources)}")
    (raw / "motions").mkdir(parents=True, exist_ok=True)
    (raw / "splits").mkdir(exist_ok=True)
    train = [name for s in trained for name in s.splits["train"]]
    lists = {"train": train, "val": [], "test": [name for name in names if name not in set(train)]}
    for split, listed in lists.items():
        write_beside(raw / "splits" / f"crossmodal_{split}.txt", "".join(f"{n}\n" for n in listed).encode())
    write_beside(raw / "ignore_list.txt", b"")
    for source in sources:
        for name in (n for split in source.splits.values() for n in split):
            shutil.copyfile(source.folder / "motions" / f"{name}.pkl", raw / "motions" / f"{name}.pkl")
    if prepare_aistpp_data.main(["--source", str(raw), "--no-songs", "--out", str(out), "--workers", "1"]):
        raise RuntimeError(f"{raw} could not be prepared")


def clips_of(data: PreparedData, config: ClipsConfig) -> int:
    """How many clips there are to train on."""
    return sum(len(clip_starts(len(data.sequence(name).joints), config)) for name in data.names("train"))


def train(row: str, out: Path, seed: int, steps: int | None, scale: str) -> tuple[Path, int]:
    """Trains a row's memory; returns its checkpoint and for how many steps it trained.

    Args:
        row: whose data is below `out`.
        out: folder of this benchmark.
        seed: of everything random.
        steps: to train for, at least; None: what the scale's epochs make.
        scale: see the ablations.

    Raises:
        RuntimeError: if training fails.
    """
    path, name = config_path("memory"), row.replace(" ", "_")
    fixed = [f"data.root={out / 'data' / name}", f"seed={seed}", "device=cpu"]
    config = read_config(path, fixed)
    per_epoch = max(
        1, clips_of(PreparedData(Path(config.data.root)), config.data.clips) // config.training.batch_size
    )
    epochs = config.training.epochs if scale == "full" else EPOCHS[scale]["memory"]
    epochs = epochs if steps is None else -(-steps // per_epoch)
    places = {round(m * epochs / config.training.epochs) for m in config.training.milestones}
    fixed += [f"output={out / 'runs' / scale}", f"name=seed{seed}/{name}", f"training.epochs={epochs}"]
    fixed += [
        f"training.milestones={sorted(p for p in places if 0 < p < epochs)}",
        f"training.save_every={epochs}",
    ]
    if command.main(["--config", str(path), "--train", *fixed]):
        raise RuntimeError(f"training on {row} failed")
    return read_config(path, fixed).checkpoint_path, epochs * per_epoch


def judge(
    checkpoint: Path, data: PreparedData, groups: Mapping[str, Sequence[str]]
) -> tuple[dict, dict[str, Dance]]:
    """Joint errors in mm by group of dances, and the reconstructions by name, with their real root."""
    maker = DanceMaker(data, "all", "dance", load_memory(checkpoint, "this benchmark", velocity=False), 0)
    made = {dance.name: dance for dance in maker.reconstructions(real_root=True)}
    real = {dance.name: dance for dance in maker.real}
    errors = {
        group: reconstruction([real[n] for n in names], [made[n] for n in names], maker.memory.num_codes)
        for group, names in groups.items()
    }
    return {group: told["joint_error_mm"] for group, told in errors.items()}, made


def page(path: Path, real: np.ndarray, made: Mapping[str, Dance], title: str) -> None:
    """The held-out dance beside what each memory makes of it."""
    dances = [Dance("real", real)]
    dances += [replace(dance, name=f"memory of {row}") for row, dance in made.items()]
    write_player(path, dances, title=title)


def table(
    errors: Mapping[str, Sequence[Mapping[str, float]]], groups: Mapping[str, Sequence[str]], steps: int
) -> str:
    """Mean ± deviation over the seeds, in mm."""
    lines = [
        f"Mean joint error relative to the root, mm; {steps} steps each. No FID: there are too few dances.",
        "",
    ]
    lines.append("| trained on | " + " | ".join(f"{group} ({len(n)})" for group, n in groups.items()) + " |")
    lines.append("|---|" + "---:|" * len(groups))
    for row, seeds in errors.items():
        cells = []
        for group in groups:
            values = [told[group] for told in seeds]
            spread = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
            seen = group == "real, training" and "real" in ROWS[row]
            cells.append(f"{np.mean(values):.1f}{spread}{' (seen)' if seen else ''}")
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Trains, judges and writes; 0 also where there is no real data, which is said."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--source", type=Path, default=SHARED / "data" / "aistpp", help="AIST++, or a part of it"
    )
    parser.add_argument("--out", type=Path, default=Path("experiments/real_data"))
    parser.add_argument("--scale", choices=(*EPOCHS, "full"), default="short")
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args(arguments)
    if not (options.source / "motions").is_dir():
        print(f"skipped: there are no real AIST++ motions in {options.source}")
        return 0
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    make_corpus(options.out / "corpus", seed=0)
    real = found_in(options.source)
    sources = {"sample": without(found_in(options.out / "corpus"), real), "real": real}
    for row, trained in ROWS.items():
        merge(
            list(sources.values()),
            [sources[t] for t in trained],
            options.out / "data" / row.replace(" ", "_"),
        )
    groups = {
        "real, held out": sources["real"].held_out,
        "real, training": sources["real"].splits["train"],
        "sample, held out": sources["sample"].held_out,
    }
    errors: dict[str, list[dict[str, float]]] = {row: [] for row in ROWS}
    shown: dict[str, Dance] = {}
    first, steps = groups["real, held out"][0], None
    for seed in range(options.seeds):
        for row in ROWS:
            checkpoint, taken = train(row, options.out, seed, steps, options.scale)
            steps = steps or taken
            data = PreparedData(options.out / "data" / row.replace(" ", "_"))
            told, made = judge(checkpoint, data, groups)
            errors[row].append(told)
            shown.setdefault(row, made[first])
            log.info("%s, seed %d: %s", row, seed, {group: round(mm, 1) for group, mm in told.items()})
    text = table(errors, groups, steps or 0)
    write_beside(options.out / "real_data.md", text.encode())
    write_beside(
        options.out / "real_data.json", json.dumps({"steps": steps, "joint_error_mm": errors}).encode()
    )
    page(options.out / "real_data.html", np.array(data.sequence(first).joints), shown, f"{first}, held out")
    print(f"{text}\n{options.out / 'real_data.html'} shows {first}")
    return 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
