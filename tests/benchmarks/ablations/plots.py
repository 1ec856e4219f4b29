"""One picture per question: a panel per number, a bar per row, a dot per seed, a line for the real dances.

Rows that others are compared with are darker.
"""

import io
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tests.benchmarks.ablations.columns import COLUMNS
from utils.files import write_beside

BAR, FIRST, DOT, REAL = "#9db7d5", "#4a6f9e", "#1b1b1b", "#b5403a"
WIDE = 3  # panels in a line


def save_plot(question: dict[str, Any], path: Path) -> None:
    """Draws a question as `gather` gives it."""
    columns = [c for c in question["columns"] if any(c in r["cells"] for r in question["rows"].values())]
    names = list(question["rows"])
    across = min(WIDE, len(columns))
    down = -(-len(columns) // across)
    figure = Figure(
        figsize=(3.2 + 3.3 * across, down * (1.1 + 0.42 * len(names)) + 0.8), layout="constrained"
    )
    FigureCanvasAgg(figure)
    figure.suptitle(question["asks"], fontsize=11)
    panels = figure.subplots(down, across, squeeze=False, sharey=True).ravel()
    for panel in panels[len(columns) :]:
        panel.set_visible(False)
    for panel, column in zip(panels, columns, strict=False):
        _draw(panel, question, column, names)
    output = io.BytesIO()
    figure.savefig(output, format="png", dpi=110)
    write_beside(path, output.getvalue())


def _draw(panel: Any, question: dict[str, Any], column: str, names: list[str]) -> None:
    about, seen = COLUMNS[column], []
    compared = {row["against"] for row in question["rows"].values()}
    for place, name in enumerate(names):
        told = question["rows"][name]["cells"].get(column)
        if told is None:
            continue
        values = list(told["seeds"].values())
        seen += values
        colour = FIRST if name in compared else BAR
        panel.barh(place, told["mean"], color=colour, height=0.7)
        offsets = np.linspace(-0.18, 0.18, len(values)) if len(values) > 1 else [0.0]
        panel.plot(values, place + np.array(offsets), "o", color=DOT, markersize=3.5)
    real = question["controls"].get("real", {}).get(column)
    if real is not None:
        panel.axvline(real, color=REAL, linewidth=1.2, linestyle="--")
        seen.append(real)
    if min(seen) > 0 and max(seen) > 100 * min(seen):
        panel.set_xscale("log")
    arrows = {"higher": "higher is better", "lower": "lower is better", "real": "good: as real"}
    dashed = ", real dashed" if real is not None else ""
    panel.set_title(f"{about.title}\n{arrows[about.better]}{dashed}", fontsize=9)
    labels = ["\n".join(textwrap.wrap(name, 34)) for name in names]
    panel.set_yticks(range(len(names)), labels, fontsize=8)
    panel.tick_params(axis="x", labelsize=8)
    panel.set_ylim(len(names) - 0.4, -0.6)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
