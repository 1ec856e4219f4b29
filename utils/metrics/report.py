"""A whole evaluation: the table with controls and intervals, what it was made from, and its files."""

import csv
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from utils.metrics.controls import (
    BOOTSTRAP_SAMPLES,
    FLOOR_SAMPLES,
    Interval,
    bootstrap_intervals,
    finite_sample_floor,
    shuffled_beat_scores,
)
from utils.metrics.dances import MAX_FRAMES, Dance, DanceFeatures, all_features
from utils.metrics.protocols import Protocol, ProtocolName, protocol_named, score
from utils.metrics.reference import Reference
from utils.metrics.table import format_table, format_value

UNKNOWN = "not stated"


@dataclass(frozen=True)
class Report:
    """What `evaluate` found.

    Attributes:
        protocol: its name.
        rows: row name -> column -> value (not a number where not defined).
        intervals: row name -> column -> 95 % interval.
        settings: what the numbers depend on: counts, frames, fps, seeds, whether RL saw the songs, the first
            code.
        notes: what a reader has to know to read the numbers.
        per_dance: dance name -> column -> value.
        features: features of the generated dances, for plots.
        skipped: what was not scored -> why.
    """

    protocol: str
    rows: dict[str, dict[str, float]]
    intervals: dict[str, dict[str, Interval]]
    settings: dict[str, object]
    notes: list[str]
    per_dance: dict[str, dict[str, float | str]]
    features: list[DanceFeatures] = field(repr=False)
    skipped: dict[str, str] = field(default_factory=dict)

    def markdown(self) -> str:
        """Table, intervals, settings, notes and what was skipped, as Markdown that reads well as text."""
        lines: dict[str, dict[str, float | str | None]] = {}
        for name, row in self.rows.items():
            lines[name] = dict(row)
            if self.intervals.get(name):
                lines[f"  95 % of {name}"] = {
                    c: f"{format_value(c, i.low)}..{format_value(c, i.high)}"
                    for c, i in self.intervals[name].items()
                    if not math.isnan(i.mean)
                }
        parts = [f"## Protocol: {self.protocol}", "", format_table(lines), ""]
        parts += [f"* {key}: {value}" for key, value in self.settings.items()]
        parts += [f"* Note: {note}" for note in self.notes]
        parts += [f"* Skipped: {name}: {why}" for name, why in self.skipped.items()]
        return "\n".join(parts) + "\n"

    def as_dict(self) -> dict[str, object]:
        """Everything but the features, for JSON: numbers that are not defined are None."""
        content = {
            "protocol": self.protocol,
            "metrics": next(iter(self.rows.values())),
            "rows": self.rows,
            "intervals": {n: {c: i._asdict() for c, i in v.items()} for n, v in self.intervals.items()},
            "settings": self.settings,
            "notes": self.notes,
            "skipped": self.skipped,
        }
        return {key: _plain(value) for key, value in content.items()}

    def csv(self) -> str:
        """One line per dance."""
        text = io.StringIO()
        columns = list(next(iter(self.per_dance.values())))
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["dance", *columns])
        for name, row in self.per_dance.items():
            writer.writerow([name, *("" if _undefined(row[c]) else row[c] for c in columns)])
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
    max_frames: int | None = MAX_FRAMES,
    rl_saw_songs: bool | None = None,
    first_code: str | None = None,
    seed: int = 0,
    skipped: Mapping[str, str] | None = None,
) -> Report:
    """Scores dances, with every control there is data for.

    Args:
        dances: what to score.
        reference: the real set; without one there is no FID, no Div and no control.
        protocol: `bailando` or `corrected`.
        name: of the first row.
        max_frames: dances are cut to so many frames of 60 fps; None takes them whole. Real ones are always
            whole.
        rl_saw_songs: whether reinforcement learning was done on these songs; None prints that it is not
            stated.
        first_code: where the first code came from (`real`, `fixed`, `none`); None prints that it is not
            stated.
        seed: of the shuffles, the floor and the bootstrap.
        skipped: what was left out before -> why.

    Raises:
        ValueError: if there is no dance, one is wrong, or the protocol is unknown.
    """
    rules = protocol_named(protocol)
    features = all_features(dances, max_frames)
    rows = {name: score(features, reference, protocol)}
    intervals = {name: bootstrap_intervals(features, reference, rules, seed)}
    if reference is not None:
        paired = reference.named(dance.name for dance in features)
        if paired and len(paired) < len(reference.dances):
            rows[f"real, same {len(paired)} names"] = score(paired, reference, protocol)
            intervals[f"real, same {len(paired)} names"] = bootstrap_intervals(paired, reference, rules, seed)
        everything = score(reference.dances, reference, protocol)
        rows[f"real, all {len(reference.dances)}"] = {
            c: v for c, v in everything.items() if not c.startswith("FID")
        }
        rows["real, songs shuffled"] = shuffled_beat_scores(reference.dances, rules, seed)
        floor = finite_sample_floor(reference, rules, len(features), seed)
        floor_name = f"floor: {min(max(len(features), 2), len(reference.dances) // 2)} real against the rest"
        rows[floor_name] = {column: interval.mean for column, interval in floor.items()}
        intervals[floor_name] = floor
    per_dance: dict[str, dict[str, float | str]] = {
        dance.name: {"song": dance.song, "fps": dance.fps, "frames": dance.frames, **rules.per_dance(dance)}
        for dance in features
    }
    settings = _settings(features, reference, max_frames, rl_saw_songs, first_code, seed)
    notes = _notes(features, reference, rules)
    return Report(protocol, rows, intervals, settings, notes, per_dance, features, dict(skipped or {}))


def _settings(
    features: list[DanceFeatures],
    reference: Reference | None,
    max_frames: int | None,
    rl_saw_songs: bool | None,
    first_code: str | None,
    seed: int,
) -> dict[str, object]:
    frames = np.array([dance.frames for dance in features])
    settings: dict[str, object] = {
        "dances": len(features),
        "dances with music": sum(dance.music_beats is not None for dance in features),
        "frames at 60 fps (least, median, most)": f"{frames.min()}, {int(np.median(frames))}, {frames.max()}",
        "cut to": "whole" if max_frames is None else f"{max_frames} frames of 60 fps",
        "PFC": f"steps of 1/30 s, over {frames.min() / 60:.1f} to {frames.max() / 60:.1f} s of dance",
        "fps": ", ".join(sorted({f"{dance.fps:g}" for dance in features})),
        "real dances": "none"
        if reference is None
        else f"{len(reference.dances)}, whole, from {reference.source}",
        "reinforcement learning saw these songs": UNKNOWN
        if rl_saw_songs is None
        else "yes"
        if rl_saw_songs
        else "no",
        "first code": UNKNOWN if first_code is None else first_code,
        "seed": seed,
        "bootstrap samples": BOOTSTRAP_SAMPLES,
    }
    return settings if reference is None else {**settings, "floor samples": FLOOR_SAMPLES}


def _notes(features: list[DanceFeatures], reference: Reference | None, rules: Protocol) -> list[str]:
    notes = []
    silent = [dance.name for dance in features if dance.music_beats is None or not len(dance.music_beats)]
    if silent:
        notes.append(
            f"{len(silent)} of {len(features)} dances have no music beats and no beat score: {_some(silent)}"
        )
    if any(dance.fps != features[0].fps or dance.fps != 60 for dance in features):
        notes.append("dances that are not at 60 fps were brought to 60 fps, linearly, for published features")
    if reference is None:
        return [*notes, "no real dances were given: no FID, no Div, no controls"]
    if len(features) < 2:
        notes.append("FID and Div need at least two dances")
    if len(reference.dances) < 2 * len(features):
        half = len(reference.dances) // 2
        notes.append(f"too few real dances for a floor of {len(features)}; it was drawn with {half}")
    return notes + constant_notes(reference, rules)


def constant_notes(reference: Reference, rules: Protocol) -> list[str]:
    """Which features were left out because no real dance varies in them, a line per feature set."""
    return [
        f"features {columns} of {feature} are the same in all real dances and were left out"
        for feature, columns in rules.constant(reference).items()
    ]


def _some(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def write_report(report: Report, folder: Path) -> list[Path]:
    """Writes metrics.json, dances.csv and table.md, beside their place and renamed; returns the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "metrics.json": json.dumps(report.as_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        "dances.csv": report.csv(),
        "table.md": report.markdown(),
    }
    for name, text in contents.items():
        beside = folder / f".{name}.{os.getpid()}.tmp"
        try:
            beside.write_text(text, encoding="utf-8")
            beside.replace(folder / name)
        finally:
            beside.unlink(missing_ok=True)
    return [folder / name for name in contents]
