"""A whole evaluation: the table with controls and intervals, what it was made from, and its files."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from utils.dance import Dance
from utils.files import write_beside
from utils.metrics.conditions import conditions, notes
from utils.metrics.controls import (
    Interval,
    SignTest,
    bootstrap_intervals,
    finite_sample_floor,
    own_controls,
    shuffled_beat_scores,
    song_of,
)
from utils.metrics.dances import MAX_FRAMES, DanceFeatures, all_features
from utils.metrics.protocols import Protocol, ProtocolName, protocol_named, score
from utils.metrics.reference import Reference
from utils.metrics.table import Cell, format_table, format_tables, format_value

SHUFFLED = "real, songs shuffled"


@dataclass(frozen=True)
class Report:
    """Result of `evaluate`.

    Attributes:
        name: of the row that is judged.
        protocol: its name.
        rows: row name -> column -> value (not a number where not defined); the judged row first, the controls
            last.
        intervals: row name -> column -> 95 % interval.
        settings: what the numbers depend on: counts, frames, fps, seeds, whether RL saw the songs, the first
            code.
        notes: what a reader has to know to read the numbers.
        per_dance: a line per dance of each row: its row, name, song, rate, length and own scores.
        features: features of the judged dances, for plots.
        skipped: what was not scored -> why.
        sign_tests: of the judged dances against the controls made of them.
    """

    name: str
    protocol: str
    rows: dict[str, dict[str, float]]
    intervals: dict[str, dict[str, Interval]]
    settings: dict[str, object]
    notes: list[str]
    per_dance: list[dict[str, float | str]]
    features: list[DanceFeatures] = field(repr=False)
    skipped: dict[str, str] = field(default_factory=dict)
    sign_tests: list[SignTest] = field(default_factory=list)

    def cells(self) -> dict[str, dict[str, Cell]]:
        """Row -> column -> text for people; ± is half the 95 % interval, whose ends `as_dict` has.

        Physical columns go without, so that they fit in one table.
        """
        physical = protocol_named(self.protocol).physical
        cells: dict[str, dict[str, Cell]] = {name: {} for name in self.rows}
        for column in dict.fromkeys(c for row in self.rows.values() for c in row):
            half = {
                name: f" ± {format_value(column, (found[column].high - found[column].low) / 2)}"
                for name, found in self.intervals.items()
                if column in found and column not in physical and not math.isnan(found[column].mean)
            }
            widest = max(map(len, half.values()), default=0)
            for name, row in self.rows.items():
                value = format_value(column, row.get(column))
                cells[name][column] = value + half.get(name, "").ljust(widest) if column in row else None
        return cells

    def tables(self) -> list[str]:
        """The cells as Markdown tables that fit a terminal."""
        return format_tables(self.cells())

    def markdown(self) -> str:
        """Tables, settings, notes and what was skipped, as Markdown that reads well as text."""
        parts = [f"## Protocol: {self.protocol}", ""]
        for table in self.tables():
            parts += [table, ""]
        if self.sign_tests:
            parts += [self._sign_table(), ""]
        what = "bootstrap over the dances; of the floor, its draws"
        parts.append(f"* ±: half the 95 % interval ({what}); its ends are in metrics.json")
        parts += [f"* {key}: {value}" for key, value in self.settings.items()]
        parts += [f"* Note: {note}" for note in self.notes]
        parts += [f"* Skipped: {name}: {why}" for name, why in self.skipped.items()]
        return "\n".join(parts) + "\n"

    def _sign_table(self) -> str:
        """The sign tests as a Markdown table, a row per score and two columns per control."""
        rows: dict[str, dict[str, Cell]] = {}
        for test in self.sign_tests:
            text = f"{test.better} of {test.better + test.worse}, p {test.p:.1g}"
            rows.setdefault(f"{test.column}, dances better than", {})[test.control] = text
        return format_table(rows)

    def as_dict(self) -> dict[str, object]:
        """Everything but the features, for JSON: numbers that are not defined are None."""
        content = {
            "protocol": self.protocol,
            "judged": self.name,
            "metrics": self.rows[self.name],
            "rows": self.rows,
            "intervals": {n: {c: i._asdict() for c, i in v.items()} for n, v in self.intervals.items()},
            "settings": self.settings,
            "notes": self.notes,
            "skipped": self.skipped,
            "sign_tests": [test._asdict() for test in self.sign_tests],
        }
        return {key: _plain(value) for key, value in content.items()}

    def csv(self) -> str:
        """One line per dance of each row."""
        text = io.StringIO()
        columns = list(self.per_dance[0])
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        for line in self.per_dance:
            writer.writerow(["" if _undefined(line[c]) else line[c] for c in columns])
        return text.getvalue()


def _undefined(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return None if _undefined(value) else value


def evaluate(
    dances: Sequence[Dance | DanceFeatures],
    reference: Reference | None,
    protocol: ProtocolName = "bailando",
    *,
    name: str = "generated",
    beside: Mapping[str, Sequence[Dance | DanceFeatures]] | None = None,
    max_frames: int | None = MAX_FRAMES,
    rl_saw_songs: bool | None = None,
    first_code: str | None = None,
    seed: int = 0,
    skipped: Mapping[str, str] | None = None,
) -> Report:
    """Scores dances, with every control there is data for.

    Args:
        dances: what to judge.
        reference: the real set; without one there is no FID, no Div and no control.
        protocol: `bailando` or `corrected`.
        name: of the judged dances' row.
        beside: further sets of dances, a row each, to compare with.
        max_frames: dances are cut to so many frames of 60 fps; None takes them whole. Real ones are always
            whole. What comes as features already is taken as it is.
        rl_saw_songs: whether reinforcement learning was done on these songs; None prints that it is not
            stated.
        first_code: where the first code came from (`real`, `fixed`, `none`); None prints that it is not
            stated.
        seed: of the shuffles, the floor and the bootstrap.
        skipped: what was left out before -> why.

    Raises:
        ValueError: if there is no dance, one is wrong, two rows have one name, or the protocol is unknown.
    """
    rules = protocol_named(protocol)
    if name in (beside or {}):
        raise ValueError(f"two rows have one name: {name}")
    sets = {row: all_features(some, max_frames) for row, some in {name: dances, **(beside or {})}.items()}
    rows, intervals = {}, {}
    for row, some in tqdm(sets.items(), "scoring", leave=False, disable=None):
        rows[row] = score(some, reference, protocol)
        intervals[row] = bootstrap_intervals(some, reference, rules, seed)
    controlled, tests = own_controls(sets[name], rules, seed)
    rows |= {f"{name}, {control}": row for control, row in controlled.items()}
    if reference is not None:
        control_rows, control_intervals = controls(sets[name], reference, rules, seed)
        rows, intervals = rows | control_rows, intervals | control_intervals
    per_dance: list[dict[str, float | str]] = [
        {
            "row": row,
            "dance": dance.name,
            "song": dance.song,
            "fps": dance.fps,
            "frames": dance.frames,
            **rules.per_dance(dance),
        }
        for row, some in sets.items()
        for dance in some
    ]
    features = sets[name]
    settings = conditions(features, reference, max_frames, rl_saw_songs, first_code, seed)
    known = notes(features, reference, rules)
    left_out = dict(skipped or {})
    return Report(
        name, protocol, rows, intervals, settings, known, per_dance, features, left_out, sign_tests=tests
    )


def controls(
    judged: Sequence[DanceFeatures], reference: Reference, rules: Protocol, seed: int
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, Interval]]]:
    """Rows and intervals of the real dances: those of the same names, all, songs shuffled, and the floor.

    Songs are shuffled among the real dances of the judged ones' names, if each has one and there is more than
    one song; else among all real dances.
    """
    rows, intervals = {}, {}
    paired = reference.named(dance.name for dance in judged)
    if paired and len(paired) < len(reference.dances):
        own = "real" if len(paired) == len(judged) else f"real, same {len(paired)} names"
        rows[own] = score(paired, reference, rules.name)
        intervals[own] = bootstrap_intervals(paired, reference, rules, seed)
    everybody = f"real, all {len(reference.dances)}"
    everything = score(reference.dances, reference, rules.name)
    rows[everybody] = {c: v for c, v in everything.items() if not c.startswith("FID")}
    songs = {song_of(dance) for dance in paired if dance.music_beats is not None}
    same = len(paired) == len(judged) and len(songs) > 1
    rows[SHUFFLED] = shuffled_beat_scores(paired if same else reference.dances, rules, seed)
    floor = finite_sample_floor(reference, rules, len(judged), seed)
    floor_name = f"floor: {min(max(len(judged), 2), len(reference.dances) // 2)} real against the rest"
    rows[floor_name] = {column: interval.mean for column, interval in floor.items()}
    intervals[floor_name] = floor
    return rows, intervals


def write_report(report: Report, folder: Path) -> list[Path]:
    """Writes metrics.json, dances.csv and table.md, beside their place and renamed; returns the paths."""
    contents = {
        "metrics.json": json.dumps(report.as_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        "dances.csv": report.csv(),
        "table.md": report.markdown(),
    }
    for name, text in contents.items():
        write_beside(folder / name, text.encode())
    return [folder / name for name in contents]
