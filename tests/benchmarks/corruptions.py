"""Which metrics notice which damage: real dances, damaged in known ways and degrees.

    python -m tests.benchmarks.corruptions [--data data/sample] [--dances 40] [--out corruptions.md]

Each damage has three degrees. A metric orders a damage `right` if every degree is worse than the one before
and the last is beyond half the 95 % interval of the undamaged dances; `blind` if none leaves that interval;
`wrong` if a degree is better than the undamaged dances by more than that; else `partly`. For metrics that are
good near the real value, worse is further from the undamaged dances. Prints the table of verdicts, and that
of the values.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter1d

from datasets.reference import loudness, real_reference
from datasets.sequences import PreparedData
from utils.dance import Dance, beat_indices
from utils.files import write_beside
from utils.metrics.controls import bootstrap_intervals, other_songs
from utils.metrics.dances import MAX_FRAMES, DanceFeatures, dance_features
from utils.metrics.protocols import PROTOCOLS, score
from utils.metrics.reference import Reference
from utils.metrics.table import Cell, format_table
from utils.skeleton import SMPL_24

LEVELS = (1, 2, 3)
ROUNDING = 1e-5  # m, or of the unit of a metric, below which a change is none
HIGHER = ("BAS", "BAS_recall", "BAS_precision", "BAS_F1", "loudness_following")
NEAR_REAL = ("Div_k", "Div_g", "Div_k_corrected", "Div_g_corrected", "jitter", "landing_offset", "foot_float")
LEFT_RIGHT = {
    i: SMPL_24.index(name.replace("left", "side").replace("right", "left").replace("side", "right"))
    for i, name in enumerate(SMPL_24.joints)
}

Damage = Callable[[Sequence[Dance], int, np.random.Generator], list[Dance]]


def each(change: Callable[[np.ndarray, int, np.random.Generator], np.ndarray]) -> Damage:
    """A damage that changes the joints (T, 24, 3) of every dance."""
    return lambda dances, level, rng: [replace(d, joints=change(d.joints, level, rng)) for d in dances]


def noise(p: np.ndarray, level: int, rng: np.random.Generator) -> np.ndarray:
    """Independent noise of 2, 4 or 8 mm in every frame."""
    return p + rng.normal(0, 0.001 * 2**level, p.shape)


def smoothing(p: np.ndarray, level: int, rng: np.random.Generator) -> np.ndarray:
    """A Gaussian over 4, 8 or 16 frames."""
    return gaussian_filter1d(p, 2.0 ** (level + 1), axis=0)


def time_shift(p: np.ndarray, level: int, rng: np.random.Generator) -> np.ndarray:
    """The dance begins 50, 100 or 150 ms late."""
    frames = 3 * level
    return np.concatenate([p[:1].repeat(frames, 0), p[:-frames]])


def held_poses(p: np.ndarray, level: int, rng: np.random.Generator) -> np.ndarray:
    """Two or three of each four seconds, or the whole dance, are a held pose that ripples by 2 mm."""
    time = np.arange(len(p))
    held = 60 * (level + 1)
    source = np.where(time % 240 < held, time - time % 240, time) if level < 3 else np.zeros_like(time)
    ripple = 0.002 * np.sin(2 * np.pi * 2.8 * time / 60) * (source != time)
    return p[source] + ripple[:, None, None] * np.array([0.8, 0.0, 0.6])


def sliding_feet(p: np.ndarray, level: int, rng: np.random.Generator) -> np.ndarray:
    """The whole body glides back and forth along x, a second each way, at 0.2, 0.4 or 0.8 m/s."""
    way = np.abs((np.arange(len(p)) / 60) % 2 - 1) * 0.1 * 2**level
    return p + way[:, None, None] * np.array([1.0, 0.0, 0.0])


def mirrored_halves(dances: Sequence[Dance], level: int, rng: np.random.Generator) -> list[Dance]:
    """The lower half of a third, two thirds or all of the dances is mirrored, the upper one is not."""
    lower = [joint for joint in SMPL_24.lower if joint]

    def mirrored(p: np.ndarray) -> np.ndarray:
        relative = p - p[:, :1]
        swapped = p.copy()
        swapped[:, lower] = p[:, :1] + relative[:, [LEFT_RIGHT[j] for j in lower]] * np.array(
            [-1.0, 1.0, 1.0]
        )
        return swapped

    return [replace(d, joints=mirrored(d.joints)) if i % 3 < level else d for i, d in enumerate(dances)]


def wrong_song(dances: Sequence[Dance], level: int, rng: np.random.Generator) -> list[Dance]:
    """A third, two thirds or all of the dances have the beats of another song."""
    partners = other_songs([dance.song for dance in dances], rng)
    return [
        replace(d, music_beats=dances[partner].music_beats, song=dances[partner].song)
        if i % 3 < level and partner is not None
        else d
        for i, (d, partner) in enumerate(zip(dances, partners, strict=True))
    ]


DAMAGES: Mapping[str, Damage] = {
    "noise": each(noise),
    "smoothing": each(smoothing),
    "time shift": each(time_shift),
    "held poses": each(held_poses),
    "mirrored halves": mirrored_halves,
    "sliding feet": each(sliding_feet),
    "wrong song": wrong_song,
}


def worse_by(column: str, clean: float, value: float) -> float:
    """How much worse a value is than that of the undamaged dances; negative if it is better."""
    if column in NEAR_REAL:
        return abs(value - clean)
    return clean - value if column in HIGHER else value - clean


def verdict(column: str, clean: float, values: Sequence[float], noise_level: float) -> str:
    """What a metric makes of the degrees of a damage: `right`, `partly`, `blind` or `wrong`; see above."""
    if not np.isfinite([clean, *values]).all():
        return "-"
    steps = [0.0, *(worse_by(column, clean, value) for value in values)]
    if min(steps) < -noise_level:
        return "wrong"
    if max(steps) <= noise_level:
        return "blind"
    return "right" if (np.diff(steps) > 0).all() else "partly"


def features_of(dances: Sequence[Dance], loud: Mapping[str, np.ndarray | None]) -> list[DanceFeatures]:
    """Features of the dances, cut as generated ones."""
    return [dance_features(dance, MAX_FRAMES, loud.get(dance.song)) for dance in dances]


def scores_of(features: Sequence[DanceFeatures], reference: Reference) -> dict[str, float]:
    """Scores of both protocols: column -> value."""
    return {
        c: v for name in PROTOCOLS for c, v in score(features, reference, name).items() if c != "distinct"
    }


def compare(
    dances: Sequence[Dance], reference: Reference, loud: Mapping[str, np.ndarray | None], seed: int = 0
) -> tuple[dict[str, dict[str, Cell]], dict[str, dict[str, Cell]]]:
    """Verdicts and values: metric -> damage -> text; the values start with those of the undamaged dances."""
    features, half = features_of(dances, loud), {}
    clean = scores_of(features, reference)
    for rules in PROTOCOLS.values():
        for column, interval in bootstrap_intervals(features, reference, rules).items():
            half[column] = max((interval.high - interval.low) / 2, ROUNDING)
    clean = {column: value for column, value in clean.items() if column in half}
    verdicts: dict[str, dict[str, Cell]] = {column: {} for column in clean}
    values: dict[str, dict[str, Cell]] = {
        column: {"undamaged": f"{value:.3g} ± {half[column]:.2g}"} for column, value in clean.items()
    }
    for name, damage in DAMAGES.items():
        damaged = [damage(dances, level, np.random.default_rng(seed)) for level in LEVELS]
        found = [scores_of(features_of(some, loud), reference) for some in damaged]
        for column in clean:
            degrees = [row[column] for row in found]
            verdicts[column][name] = verdict(column, clean[column], degrees, half[column])
            values[column][name] = ", ".join(f"{value:.3g}" for value in degrees)
    return verdicts, values


def dances_of(data: PreparedData, number: int) -> list[Dance]:
    """The first real test dances whose songs have beats."""
    found = []
    for name in data.names("test")[:number]:
        sequence = data.sequence(name)
        beats = beat_indices(np.array(sequence.beats), len(sequence.joints))
        found.append(Dance(name, np.array(sequence.joints, np.float64), beats, data.fps, sequence.song))
    return found


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark and prints both tables; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.corruptions", allow_abbrev=False)
    parser.add_argument("--data", type=Path, default=Path("data/sample"), help="prepared data (data/sample)")
    parser.add_argument("--dances", type=int, default=40, help="how many test dances (40)")
    parser.add_argument("--out", type=Path, help="file for the tables")
    options = parser.parse_args(arguments)
    try:
        data = PreparedData(options.data)
        dances, reference = dances_of(data, options.dances), real_reference(data)
        if reference is None or len(dances) < 4:
            raise ValueError(f"{options.data} has {len(dances)} test dances, at least 4 are needed")
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    loud = {song: loudness(data, song) for song in {dance.song for dance in dances}}
    text = "\n\n".join(map(format_table, compare(dances, reference, loud)))
    print(text)
    if options.out:
        write_beside(options.out, f"{text}\n".encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
