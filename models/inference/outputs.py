"""Files, scores and index card of one dance of --dance; `utils.dance_formats` is the table of formats."""

import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from models.inference.config import DanceConfig
from utils.body_model import BodyModel
from utils.dance import Dance
from utils.dance_formats import (
    WRITERS,
    Failures,
    WriterInput,
    WriterOptions,
    attempt,
    index_entry,
    shortened,
    write_files,
)
from utils.export import worst_stretch
from utils.floor import on_ground
from utils.metrics.dances import dance_features
from utils.metrics.plots import beat_plot, save_figure
from utils.metrics.protocols import protocol_named
from utils.render.index import IndexEntry


def write_dance(
    folder: Path,
    dance: Dance,
    title: str,
    audio: Path,
    config: DanceConfig,
    failures: Failures,
    timed: Callable[[str], AbstractContextManager[Any]],
    drift: float | None = None,
    body_model: BodyModel | None = None,
) -> IndexEntry:
    """Write all files of a dance; one that fails does not stop the others.

    Args:
        folder: where they go.
        dance: the dance, named as its files.
        title: its name as it is shown.
        audio: sound file of its song.
        config: which files, and how.
        failures: takes what could not be made.
        timed: context of each part of the work, by its name.
        drift: metres by which the floor drifted before that was removed; None if it was not.
        body_model: SMPL's body, which the video shows and glb holds; None for a figure of limbs.

    Returns:
        Its card on the index page.
    """
    if config.ground:
        dance = grounded(dance)
    name, formats = dance.name, config.formats
    paths = {key: folder / f"{name}{WRITERS[key].suffix}" for key in ("npz", *formats)}
    facts: dict[str, Any] = {}  # complete before the page is written
    how = WriterOptions(
        title=title, height=config.video_height, progress=sys.stderr.isatty(), footlock=config.footlock
    )
    given = WriterInput(dance, audio, how, facts, body_model=body_model)
    of_body = [paths[key] for key in formats if given.fitted_for(key) == "body"]
    fitted = bool(of_body) or config.footlock
    given = replace(given, options=replace(how, draw_fitted=fitted))
    write_files(given, {"npz": paths["npz"]}, failures, timed)
    metrics: dict[str, Any] = {"seconds": dance.seconds}
    metrics |= {key: dance.provenance[key] for key in ("tempo", "beats_from") if key in dance.provenance}
    if drift is not None:
        metrics["floor_drift_mm"] = 1000 * drift
    plot = folder / "plots" / f"{name}.png"
    with attempt(f"metrics of {name}", failures, plot), timed("metrics and beat plot"):
        metrics |= _scores(dance)
        stretch = worst_stretch(dance.joints, dance.skeleton)
        metrics |= {"worst_stretch_mm": 1000 * stretch.change, "worst_stretch_bone": stretch.bone}
        save_figure(beat_plot(dance, title=title), plot)
    if fitted:
        numbers = None
        with attempt(f"rotations of {name}", failures, *of_body), timed("rotations"):
            numbers = _fit_errors(given)
        metrics |= numbers or {}
        if numbers is None:  # show the joints themselves
            given = replace(given, options=replace(how, draw_fitted=False))
            paths = {key: path for key, path in paths.items() if path not in of_body}
    facts |= shortened(metrics)
    write_files(given, {key: path for key, path in paths.items() if key != "npz"}, failures, timed)
    label = str(dance.provenance["stage"]).replace("_", " ")
    with timed("picture"):
        return index_entry(folder, name, given, paths, label, facts, plot, failures)


def _scores(dance: Dance) -> dict[str, Any]:
    """Metrics of the whole dance that are meaningful for a single one."""
    features = dance_features(dance)
    scores = protocol_named("bailando").per_dance(features)
    scores["BAS_F1"] = protocol_named("corrected").beats(features)["BAS_F1"]
    found = {key: scores[key] for key in ("BAS", "BAS_F1", "foot_skate", "jitter", "freezing", "bone_drift")}
    return {"music_beats": len(features.music_beats if features.music_beats is not None else ()), **found}


def _fit_errors(given: WriterInput) -> Mapping[str, Any]:
    """Accuracy of the fitted body, and the effect of locking its feet."""
    fit, locked = given.own_fit, given.foot_lock
    metrics: dict[str, Any] = {"fit_error_mm": 1000 * fit.error, "fit_error_max_mm": 1000 * fit.worst}
    if locked is not None:
        metrics["skating_mm_s"] = f"{1000 * locked.skate_before:.0f}→{1000 * locked.skate_after:.0f}"
    return metrics | {"max_turn_deg": given.body.turn.degrees}


def grounded(dance: Dance) -> Dance:
    """The dance with the ground at height 0; its provenance says by how many metres it was lowered."""
    joints, ground = on_ground(dance.joints, dance.fps, dance.skeleton)
    return replace(dance, joints=joints, provenance={**dance.provenance, "ground_m": round(ground, 4)})
