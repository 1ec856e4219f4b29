"""Format rows of scores as aligned text that is also Markdown."""

import math
from collections.abc import Iterable, Mapping

from utils.metrics.physical import METRICS
from utils.metrics.protocols import BESIDE_BEATS

DISTRIBUTION = (
    "FID_k", "FID_g", "FID_k_corrected", "FID_g_corrected", "distinct",
    "Div_k", "Div_g", "Div_k_corrected", "Div_g_corrected",
)  # fmt: skip
BEATS = (
    "BAS", "BAS_recall", "BAS_precision", "BAS_F1", *BESIDE_BEATS,
    "brake", "landing_offset", "landing_spread", "loudness_following",
)  # fmt: skip
_PHYSICAL = tuple(name for name in METRICS if name not in BESIDE_BEATS)
COLUMNS = (*DISTRIBUTION, *BEATS, *_PHYSICAL)
WIDTH = 118  # characters of a line that a terminal shows whole
_DIGITS = {
    **dict.fromkeys(
        ("BAS", "BAS_recall", "BAS_precision", "BAS_F1", "foot_penetration", "foot_float", "bone_drift"), 4
    ),
    **dict.fromkeys(("PFC", "PFC_fps_free", "foot_skate", "freezing"), 3),
    **dict.fromkeys(("brake", "landing_offset", "landing_spread", "loudness_following"), 3),
    **dict.fromkeys(("joint_error_mm", "root_error_mm", "max_turn_deg"), 1),
    "jitter": 0,
}
MISSING = "-"
Cell = float | str | None


def format_value(column: str, value: Cell) -> str:
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


def format_table(rows: Mapping[str, Mapping[str, Cell]], columns: Iterable[str] | None = None) -> str:
    """Rows (name -> column -> value) as an aligned Markdown table, without a newline at the end.

    Args:
        rows: what to print; a column that a row lacks is '-'.
        columns: which columns, in order; else all there are, the known ones in their usual order, others
            after them.
    """
    cells = _cells(rows, _present(rows) if columns is None else list(columns))
    widths = [max(3, *(len(line[i]) for line in cells)) for i in range(len(cells[0]))]

    def line(values: list[str]) -> str:
        head = values[0].ljust(widths[0])
        return (
            "| "
            + " | ".join([head, *(v.rjust(w) for v, w in zip(values[1:], widths[1:], strict=True))])
            + " |"
        )

    rule = "|" + "|".join(["-" * (widths[0] + 2), *("-" * (w + 1) + ":" for w in widths[1:])]) + "|"
    return "\n".join([line(cells[0]), rule, *(line(values) for values in cells[1:])])


def format_tables(rows: Mapping[str, Mapping[str, Cell]], width: int = WIDTH) -> list[str]:
    """The rows as several tables of at most `width` characters, so that a terminal breaks no line.

    First the columns that compare sets of dances, then the beat scores, with freezing beside them, then
    those that only some rows have, then the physical ones. Rows that have nothing among them are left out,
    as are columns that no row has anything in.
    """
    present = [c for c in _present(rows) if any(_known(row.get(c)) for row in rows.values())]
    known = [[c for c in present if c in group] for group in (DISTRIBUTION, BEATS, _PHYSICAL)]
    known.insert(2, [c for c in present if c not in COLUMNS])
    tables = []
    for group in known:
        some = {n: row for n, row in rows.items() if any(_known(row.get(c)) for c in group)}
        tables += [format_table(some, columns) for columns in _parts(some, group, width) if some]
    return tables


def _parts(rows: Mapping[str, Mapping[str, Cell]], columns: list[str], width: int) -> list[list[str]]:
    """The columns in as few parts as fit into the width beside the names of the rows."""
    cells = _cells(rows, columns)
    widths = [max(3, *(len(line[i]) for line in cells)) + 3 for i in range(len(columns) + 1)]
    parts: list[list[str]] = [[]]
    used = start = widths[0] + 1
    for column, own in zip(columns, widths[1:], strict=True):
        if parts[-1] and used + own > width:
            parts.append([])
            used = start
        parts[-1].append(column)
        used += own
    return parts


def _present(rows: Mapping[str, Mapping[str, Cell]]) -> list[str]:
    present = dict.fromkeys(column for row in rows.values() for column in row)
    return [c for c in COLUMNS if c in present] + [c for c in present if c not in COLUMNS]


def _cells(rows: Mapping[str, Mapping[str, Cell]], columns: list[str]) -> list[list[str]]:
    lines = [
        [name.replace("|", "\\|"), *(format_value(c, row.get(c)) for c in columns)]
        for name, row in rows.items()
    ]
    return [["", *columns], *lines]


def _known(value: Cell) -> bool:
    return value not in (None, MISSING) and not (isinstance(value, float) and math.isnan(value))
