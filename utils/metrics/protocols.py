"""The two protocols: which features, beats and names make a row. They are never mixed in one column.

`bailando`: comparable with published numbers, slips included. `corrected`: true accelerations, 1/fps in
velocities, beats with a tolerance in seconds; its columns have names of their own.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from utils.dance import Dance
from utils.metrics.beats import TOLERANCE, alignment, beat_scores
from utils.metrics.dances import MAX_FRAMES, DanceFeatures, all_features
from utils.metrics.frechet import constant_features, diversity, frechet_distance, normalise
from utils.metrics.physical import METRICS
from utils.metrics.reference import Reference, stack
from utils.metrics.rhythm import rhythm_scores
from utils.skeleton import SMPL_24

ProtocolName = Literal["bailando", "corrected"]
# The same in both protocols. A beat score of a dance that stands still means nothing: freezing is beside it.
BESIDE_BEATS = ("freezing",)
PHYSICAL = tuple(name for name in METRICS if not name.startswith("PFC") and name not in BESIDE_BEATS)


def published_beat_scores(dance: DanceFeatures) -> dict[str, float]:
    """BAS as published; not a number where music or its beats are missing."""
    if dance.music_beats is None:
        return {"BAS": math.nan}
    return {"BAS": alignment(dance.music_beats, dance.motion_beats, TOLERANCE)}


def corrected_beat_scores(dance: DanceFeatures) -> dict[str, float]:
    """Recall, precision and F1 with a tolerance of 0.05 s, over motion beats of 0.05 m/s of prominence."""
    music = np.zeros(0) if dance.music_beats is None else dance.music_beats / SMPL_24.fps
    scores = beat_scores(dance.motion_times, music)
    return {"BAS_recall": scores.recall, "BAS_precision": scores.precision, "BAS_F1": scores.f1}


@dataclass(frozen=True)
class Protocol:
    """Rules of one protocol.

    Attributes:
        name: as on the command line.
        sets: (suffix of the columns, feature) of each set of features, kinetic then geometric.
        beats: beat scores of one dance.
        physical: physical metrics it prints, apart from those beside the beat scores.
    """

    name: ProtocolName
    sets: tuple[tuple[str, str], ...]
    beats: Callable[[DanceFeatures], dict[str, float]]
    physical: tuple[str, ...]

    def constant(self, reference: Reference) -> dict[str, list[int]]:
        """Indices of the features that are the same in every real dance: set -> indices, where any."""
        found = {name: constant_features(reference.stacked(name)).tolist() for _, name in self.sets}
        return {name: columns for name, columns in found.items() if columns}

    def normalised(self, dances: Sequence[DanceFeatures], reference: Reference, feature: str) -> np.ndarray:
        """Features (n, d) normalised by the real set, as FID and Div take them.

        Features that are the same in every real dance are left out: dividing by a deviation of 0 + 1e-10
        makes an FID of 1e19. On AIST++ none is, so published numbers are not touched.
        """
        features, real = stack(dances, feature), reference.stacked(feature)
        kept = np.setdiff1d(np.arange(real.shape[1]), constant_features(real))
        if len(kept) < real.shape[1]:
            features, real = features[:, kept], real[:, kept]
        return normalise(features, real)

    def rhythm(self, dance: DanceFeatures) -> dict[str, float]:
        """All that depends on the beats of the music, which controls are made of: column -> value."""
        beats = None if dance.music_beats is None else dance.music_beats / SMPL_24.fps
        return {**self.beats(dance), **rhythm_scores(dance.speed, dance.landings, beats, dance.loudness)}

    def per_dance(self, dance: DanceFeatures) -> dict[str, float]:
        """The metrics that a single dance has: column -> value."""
        physical = {name: dance.physical[name] for name in (*BESIDE_BEATS, *self.physical)}
        return {**self.rhythm(dance), **physical}


PROTOCOLS: dict[ProtocolName, Protocol] = {
    "bailando": Protocol(
        "bailando", (("k", "kinetic"), ("g", "geometric")), published_beat_scores, ("PFC", *PHYSICAL)
    ),
    "corrected": Protocol(
        "corrected",
        (("k_corrected", "kinetic_corrected"), ("g_corrected", "geometric_corrected")),
        corrected_beat_scores,
        ("PFC_fps_free", *PHYSICAL),
    ),
}
assert set(PROTOCOLS) == set(get_args(ProtocolName))


def protocol_named(name: str) -> Protocol:
    """The protocol of a name.

    Raises:
        ValueError: if there is none.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"protocol {name!r} is unknown; there are: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def distinct(dances: Sequence[DanceFeatures]) -> int:
    """Number of dances that differ in their features: a greedy GPT repeats itself for one song and start.

    Values that agree to 1e-4 of the largest in the set are the same. FID takes copies for dances of their
    own, which narrows the distribution and makes its estimate worse than the number of dances says.
    """
    features = np.concatenate([stack(dances, "kinetic"), stack(dances, "geometric")], axis=1)
    scale = np.abs(features).max(0)
    return len(np.unique(np.round(features / np.where(scale > 0, scale, 1), 4), axis=0))


def mean_of_known(values: Sequence[float]) -> float:
    """Mean of the values that are numbers; not a number if there is none."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def score(
    dances: Sequence[Dance | DanceFeatures],
    reference: Reference | None,
    protocol: ProtocolName = "bailando",
    max_frames: int | None = MAX_FRAMES,
) -> dict[str, float]:
    """One row of the table: column -> value, not a number where it is not defined.

    FID and Div need a reference; FID needs two dances, Div too; BAS needs music. Metrics of single dances are
    averaged over the dances that have them.

    Args:
        dances: the dances (cut to max_frames of 60 fps), or features (taken as they are).
        reference: the real set, None if there is none.
        protocol: `bailando` or `corrected`.
        max_frames: None scores dances whole.

    Raises:
        ValueError: if there is no dance, one is wrong, or the protocol is unknown.
    """
    rules = protocol_named(protocol)
    features = all_features(dances, max_frames)
    row: dict[str, float] = {}
    for prefix in ("FID", "Div"):
        for suffix, _ in rules.sets:
            row[f"{prefix}_{suffix}"] = math.nan
    row["distinct"] = distinct(features)
    if reference is not None and len(features) > 1:
        for suffix, feature in rules.sets:
            own = rules.normalised(features, reference, feature)
            if len(reference.dances) > 1:
                real = rules.normalised(reference.dances, reference, feature)
                row[f"FID_{suffix}"] = frechet_distance(own, real)
            row[f"Div_{suffix}"] = diversity(own)
    single = [rules.per_dance(dance) for dance in features]
    return row | {column: mean_of_known([values[column] for values in single]) for column in single[0]}
