"""Results of runs -> tables of mean and deviation over the seeds, compared seed by seed with a baseline."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.ablations.columns import COLUMNS
from tests.benchmarks.ablations.plots import save_plot
from tests.benchmarks.ablations.questions import Question, Variant
from utils.files import write_beside

Results = Callable[[Variant, int], dict[str, Any] | None]  # of a row and a seed, if it is there
LEAST = 2  # seeds from which on it means something that all agree


def gather(questions: Sequence[Question], seeds: Sequence[int], result: Results) -> dict[str, Any]:
    """All that the tables and plots show, as plain containers.

    Returns:
        Question name -> `asks`, `notes`, `columns`, `rows` (name -> column -> mean, sd, seeds and, against
        the row it is compared with, `differences`), `controls` (name -> column -> mean) and `missing`.
    """
    return {question.name: _gather_one(question, seeds, result) for question in questions}


def _gather_one(question: Question, seeds: Sequence[int], result: Results) -> dict[str, Any]:
    found = {v.name: {s: r for s in seeds if (r := result(v, s)) is not None} for v in question.variants}
    rows: dict[str, Any] = {}
    for variant in question.variants:
        against = variant.against or question.variants[0].name
        cells = {}
        for column in question.columns:
            values = _values(found[variant.name], column)
            if not values:
                continue
            cells[column] = {
                "mean": float(np.mean(list(values.values()))),
                "sd": float(np.std(list(values.values()), ddof=1)) if len(values) > 1 else None,
                "seeds": values,
            }
            if against != variant.name:
                base = _values(found[against], column)
                differences = [values[seed] - base[seed] for seed in values if seed in base]
                cells[column]["differences"] = differences
        rows[variant.name] = {"against": against if against != variant.name else None, "cells": cells}
    controls: dict[str, dict[str, float]] = {}
    told = [r["controls"] for by_seed in found.values() for r in by_seed.values()]
    for name in ("real", "random codes", "floor"):
        for column in question.columns:
            values = [c[name][column] for c in told if isinstance(c.get(name, {}).get(column), int | float)]
            if values:
                controls.setdefault(name, {})[column] = float(np.mean(values))
    return {
        "asks": question.asks,
        "notes": question.notes,
        "columns": list(question.columns),
        "rows": rows,
        "controls": controls,
        "missing": {name: [s for s in seeds if s not in by_seed] for name, by_seed in found.items()},
    }


def _values(by_seed: dict[int, dict[str, Any]], column: str) -> dict[int, float]:
    told = {seed: result["metrics"].get(column) for seed, result in by_seed.items()}
    return {seed: float(x) for seed, x in told.items() if isinstance(x, int | float) and np.isfinite(x)}


def arrow(differences: Sequence[float]) -> str:
    """`↑` or `↓` if every seed differs that way from the baseline's same seed; else nothing."""
    if len(differences) >= LEAST and all(d > 0 for d in differences):
        return " ↑"
    return " ↓" if len(differences) >= LEAST and all(d < 0 for d in differences) else ""


def cell(column: str, told: dict[str, Any] | None) -> str:
    """`mean ± sd`, with an arrow."""
    if told is None:
        return "-"
    digits = COLUMNS[column].digits
    spread = "" if told["sd"] is None else f" ± {told['sd']:,.{digits}f}"
    return f"{told['mean']:,.{digits}f}{spread}{arrow(told.get('differences', ()))}"


def goodness(columns: Sequence[str]) -> str:
    """Which way each number is good."""
    ways = {"higher": "Higher is better", "lower": "Lower is better", "real": "Best as in real dances"}
    told = {way: ", ".join(COLUMNS[c].title for c in columns if COLUMNS[c].better == way) for way in ways}
    return " ".join(f"{ways[way]}: {titles}." for way, titles in told.items() if titles)


def markdown(content: dict[str, Any], facts: dict[str, Any], failed: dict[str, str]) -> str:
    """The tables as text."""
    lines = ["# Ablations on the sample corpus", ""]
    lines.append(", ".join(f"{name}: {told}" for name, told in facts.items()) + ".")
    lines += [
        "",
        "Mean ± standard deviation over the seeds, each of which trains everything anew. ↑ and ↓: every seed "
        "is above, or below, the same seed of the row it is compared with (the first; in `actor_critic`, its "
        "recipe). The corpus is synthetic and small: rows compare with each other, not with papers.",
    ]
    for name, told in content.items():
        titles = [COLUMNS[column].title for column in told["columns"]]
        lines += ["", f"## {name}", "", told["asks"], "", f"![{told['asks']}]({name}.png)", ""]
        lines += [_line(["", *titles]), _line(["---", *["---:"] * len(titles)])]
        for row, what in told["rows"].items():
            lines.append(_line([row, *(cell(c, what["cells"].get(c)) for c in told["columns"])]))
        for row, values in told["controls"].items():
            numbers = [f"{values[c]:,.{COLUMNS[c].digits}f}" if c in values else "-" for c in told["columns"]]
            lines.append(_line([f"*{row}*", *numbers]))
        lines += ["", f"{goodness(told['columns'])} {told['notes']}"]
        gaps = {row: seeds for row, seeds in told["missing"].items() if seeds}
        if gaps:
            lines += [
                "",
                "Missing: " + "; ".join(f"{row}, seeds {seeds}" for row, seeds in gaps.items()) + ".",
            ]
    if failed:
        lines += ["", "## Failed", "", *(f"- {name}: {why}" for name, why in failed.items())]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in cells) + " |"


def write(content: dict[str, Any], facts: dict[str, Any], failed: dict[str, str], out: Path) -> list[Path]:
    """ablations.json, ablations.md and a PNG per question with results; returns what was written."""
    paths = [out / "ablations.json", out / "ablations.md"]
    told = {"facts": facts, "failed": failed, "questions": content}
    write_beside(paths[0], json.dumps(told, indent=1).encode())
    write_beside(paths[1], markdown(content, facts, failed).encode())
    for name, question in content.items():
        if any(row["cells"] for row in question["rows"].values()):
            paths.append(out / f"{name}.png")
            save_plot(question, paths[-1])
    return paths
