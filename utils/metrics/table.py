"""Rows of scores as aligned text that is Markdown too."""

import math
from collections.abc import Iterable, Mapping

COLUMNS = (
    "FID_k", "FID_g", "Div_k", "Div_g", "BAS",
    "FID_k_corrected", "FID_g_corrected", "Div_k_corrected", "Div_g_corrected",
    "BAS_recall", "BAS_precision", "BAS_F1",
    "PFC", "PFC_fps_free", "foot_skate", "foot_penetration", "foot_float", "jitter", "freezing", "bone_drift",
)  # fmt: skip
_DIGITS = {
    **dict.fromkeys(
        ("BAS", "BAS_recall", "BAS_precision", "BAS_F1", "foot_penetration", "foot_float", "bone_drift"), 4
    ),
    **dict.fromkeys(("PFC", "PFC_fps_free", "foot_skate", "freezing"), 3),
    "jitter": 0,
}
MISSING = "-"


def format_value(column: str, value: float | str | None) -> str:
    """One cell: with the column's usual digits, '-' if missing or not a number, text as it is."""
    if value is None:
        return MISSING
    if isinstance(value, str):
        return value.replace("|", "\\|")
    if not math.isfinite(value):
        return MISSING if math.isnan(value) else str(value)
    if abs(value) >= 1e6:
        return f"{value:.2e}"
    if isinstance(value, int):
        return str(value)
    return f"{value:.{_DIGITS.get(column, 2)}f}"


def format_table(
    rows: Mapping[str, Mapping[str, float | str | None]], columns: Iterable[str] | None = None
) -> str:
    """Rows (name -> column -> value) as an aligned Markdown table, without a newline at the end.

    Args:
        rows: what to print; a column that a row lacks is '-'.
        columns: which columns, in order; else all there are, the known ones in their usual order, others
            after them.
    """
    if columns is None:
        present = dict.fromkeys(column for row in rows.values() for column in row)
        columns = [c for c in COLUMNS if c in present] + [c for c in present if c not in COLUMNS]
    columns = list(columns)
    cells = [["", *columns]]
    cells += [
        [name.replace("|", "\\|"), *(format_value(c, row.get(c)) for c in columns)]
        for name, row in rows.items()
    ]
    widths = [max(3, *(len(line[i]) for line in cells)) for i in range(len(columns) + 1)]

    def line(values: list[str]) -> str:
        head = values[0].ljust(widths[0])
        return (
            "| "
            + " | ".join([head, *(v.rjust(w) for v, w in zip(values[1:], widths[1:], strict=True))])
            + " |"
        )

    rule = "|" + "|".join(["-" * (widths[0] + 2), *("-" * (w + 1) + ":" for w in widths[1:])]) + "|"
    return "\n".join([line(cells[0]), rule, *(line(values) for values in cells[1:])])
