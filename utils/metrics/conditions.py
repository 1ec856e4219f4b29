"""Conditions under which a report was made, and remarks that its reader needs, in words."""

import math
from collections.abc import Sequence

import numpy as np

from utils.metrics.controls import BOOTSTRAP_SAMPLES, FLOOR_SAMPLES
from utils.metrics.dances import DanceFeatures
from utils.metrics.protocols import Protocol
from utils.metrics.reference import Reference
from utils.skeleton import SMPL_24

UNKNOWN = "not stated"


def conditions(
    features: Sequence[DanceFeatures],
    reference: Reference | None,
    max_frames: int | None,
    rl_saw_songs: bool | None,
    first_code: str | None,
    seed: int,
) -> dict[str, object]:
    """Conditions that the scores depend on, name -> value; arguments as in `report.evaluate`."""
    frames = np.array([dance.frames for dance in features])
    fps, seconds = SMPL_24.fps, frames / SMPL_24.fps
    found: dict[str, object] = {
        "dances": len(features),
        "dances with music": sum(dance.music_beats is not None for dance in features),
        "frames at 60 fps (least, median, most)": f"{frames.min()}, {int(np.median(frames))}, {frames.max()}",
        "cut to": "whole" if max_frames is None else f"{max_frames} frames of {fps:g} fps",
        "PFC": f"steps of 1/30 s, over {seconds.min():.1f} to {seconds.max():.1f} s of dance",
        "fps": ", ".join(sorted({f"{dance.fps:g}" for dance in features})),
        "real dances": "none"
        if reference is None
        else f"{len(reference.dances)}, whole, from {reference.source}",
        "reinforcement learning saw these songs": {None: UNKNOWN, True: "yes", False: "no"}[rl_saw_songs],
        "first code": UNKNOWN if first_code is None else first_code,
        "seed": seed,
        "bootstrap samples": BOOTSTRAP_SAMPLES,
    }
    return found if reference is None else {**found, "floor samples": FLOOR_SAMPLES}


def notes(features: Sequence[DanceFeatures], reference: Reference | None, rules: Protocol) -> list[str]:
    """Unusual properties of these dances or of the real ones, one line each."""
    found = []
    silent = [dance.name for dance in features if dance.music_beats is None or not len(dance.music_beats)]
    if silent:
        found.append(
            f"{len(silent)} of {len(features)} dances have no music beats and no beat score: {_some(silent)}"
        )
    if any(not math.isclose(dance.fps, SMPL_24.fps) for dance in features):
        found.append("dances that are not at 60 fps were brought to 60 fps, linearly, for published features")
    if reference is None:
        return [*found, "no real dances were given: no FID, no Div, no controls"]
    if len(features) < 2:
        found.append("FID and Div need at least two dances")
    if len(reference.dances) < 2 * len(features):
        half = len(reference.dances) // 2
        found.append(f"too few real dances for a floor of {len(features)}; it was drawn with {half}")
    return found + [
        f"features {columns} of {feature} are the same in all real dances and were left out"
        for feature, columns in rules.constant(reference).items()
    ]


def _some(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
