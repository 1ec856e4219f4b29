"""The files of one dance of --dance: motion, rotations, video with the song, player, pictures, metrics."""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from models.inference.dancer import DanceConfig
from models.inference.pages import Failures, Page, kept_apart, shortened, write_page
from utils.export import fit_body, fit_smpl, fitted_joints, lock_feet, save_motion, worst_stretch
from utils.export import write_bvh as save_bvh
from utils.export import write_glb as save_glb
from utils.export import write_smpl as save_smpl
from utils.floor import floor_height, on_ground
from utils.metrics.dances import Dance, dance_features
from utils.metrics.plots import beat_plot, save_figure
from utils.metrics.protocols import protocol_named
from utils.render.index import IndexEntry
from utils.render.player import PlayerDance
from utils.render.video import render_video
from utils.smpl import rest_joints

_SMPL = "_smpl.npz"
SUFFIXES = (".npz", ".mp4", ".html", ".bvh", ".glb", _SMPL)


class Danced(NamedTuple):
    """A dance to a song.

    Attributes:
        name: of its files.
        song: its sound file.
        joints: (T, 24, 3) metres, float32.
        codes: (T', 2) upper and lower code, -1 while it rests.
        beats: (N,) bool music beats per frame.
        fps: frames per second.
        frames_per_code: frames that a code stands for.
        facts: where it came from.
        wandered: metres by which the floor drifted before it was levelled; None if it was not.
        title: the song's own name, as it is shown; the name of the files if empty.
    """

    name: str
    song: Path
    joints: np.ndarray
    codes: np.ndarray
    beats: np.ndarray
    fps: float
    frames_per_code: int
    facts: Mapping[str, str | int | float]
    wandered: float | None = None
    title: str = ""


class Stopwatch:
    """Seconds that each part of the work took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """What is within is counted as that part."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - start

    def __str__(self) -> str:
        return ", ".join(f"{part} {seconds:.1f} s" for part, seconds in self.seconds.items())


def write_dance(
    folder: Path, danced: Danced, config: DanceConfig, watch: Stopwatch, failed: Failures
) -> IndexEntry:
    """Writes all files of a dance; one that fails does not stop the others.

    Args:
        folder: where they go.
        danced: the dance.
        config: which files.
        watch: takes the time that each part took.
        failed: takes what could not be made.

    Returns:
        Its card of the index.
    """
    if config.ground:
        danced = grounded(danced)
    name = danced.name
    motion, video, bvh, glb, smpl = (folder / f"{name}{s}" for s in (".npz", ".mp4", ".bvh", ".glb", _SMPL))
    plot = folder / "plots" / f"{name}.png"
    with kept_apart(f"motion {motion}", failed, motion), watch.of("files"):
        save_motion(motion, danced.joints, danced.codes, danced.fps, danced.facts, danced.beats)
    shown, metrics = danced.joints, {"seconds": len(danced.joints) / danced.fps}
    title = danced.title or name
    metrics |= {"tempo": danced.facts["tempo"]} if "tempo" in danced.facts else {}
    if danced.wandered is not None:
        metrics["floor_drift_mm"] = 1000 * danced.wandered
    with kept_apart(f"metrics of {name}", failed, plot), watch.of("metrics"):
        dance = Dance(name, danced.joints, danced.beats, danced.fps, str(danced.facts["song"]))
        metrics |= _scores(dance)
        stretch = worst_stretch(danced.joints)
        metrics |= {"worst_stretch_mm": 1000 * stretch.change, "worst_stretch_bone": stretch.bone}
        save_figure(beat_plot(dance, title=title), plot)
    if config.bvh or config.glb or config.footlock:
        with kept_apart(f"rotations of {name}", failed, bvh, glb), watch.of("fit"):
            shown, errors = _write_body(folder, danced, config)
            metrics |= errors
    if config.smpl:
        with kept_apart(f"SMPL parameters {smpl}", failed, smpl), watch.of("smpl"):
            _write_smpl(smpl, danced, config.footlock)
    if config.video:
        with kept_apart(f"video {video}", failed, video), watch.of("video"):
            render_video(
                video,
                shown,
                fps=danced.fps,
                codes=danced.codes,
                frames_per_code=danced.frames_per_code,
                music_beats=danced.beats,
                song=danced.song,
                title=title,
                height=config.video_height,
                progress=sys.stderr.isatty(),
            )
    metrics = shortened(metrics)
    on_page = PlayerDance(
        title,
        shown,
        danced.codes,
        danced.beats,
        facts=metrics,
        fps=danced.fps,
        frames_per_code=danced.frames_per_code,
    )
    page = Page(
        name,
        str(danced.facts["stage"]).replace("_", " "),
        [on_page],
        danced.song,
        metrics,
        player=folder / f"{name}.html" if config.player else None,
        video=video if config.video else None,
        beat_plot=plot,
        files={
            text: path
            for text, path, wanted in (
                ("BVH", bvh, config.bvh),
                ("glTF", glb, config.glb),
                ("SMPL", smpl, config.smpl),
                ("Motion", motion, True),
            )
            if wanted
        },
        title=title,
    )
    with watch.of("pages"):
        return write_page(folder, page, failed)


def _scores(dance: Dance) -> dict[str, Any]:
    """Metrics of the whole dance that say something of one alone."""
    features = dance_features(dance)
    scores = protocol_named("bailando").per_dance(features)
    scores["BAS_F1"] = protocol_named("corrected").beats(features)["BAS_F1"]
    found = {key: scores[key] for key in ("BAS", "BAS_F1", "foot_skate", "jitter", "freezing", "bone_drift")}
    return {"music_beats": len(features.music_beats if features.music_beats is not None else ()), **found}


def grounded(danced: Danced) -> Danced:
    """The dance with the ground at height 0; its facts say by how many metres it was moved down."""
    joints, ground = on_ground(danced.joints, danced.fps)
    return danced._replace(joints=joints, facts={**danced.facts, "ground_m": round(ground, 4)})


def _write_body(folder: Path, danced: Danced, config: DanceConfig) -> tuple[np.ndarray, dict[str, Any]]:
    """BVH and glTF of a fitted body; its joints, which are shown, and how well they were fitted."""
    fit = fit_body(danced.joints, rest_joints())
    metrics: dict[str, Any] = {
        "fit_error_mm": 1000 * fit.error,
        "fit_error_max_mm": 1000 * fit.worst,
    }
    if config.footlock:
        locked = lock_feet(fit, danced.joints, floor_height(danced.joints, danced.fps), danced.fps)
        fit = locked.fit
        metrics["skating_mm_s"] = f"{1000 * locked.skate_before:.0f}→{1000 * locked.skate_after:.0f}"
    metrics["max_turn_deg"] = fit.turn.degrees
    if config.bvh:
        save_bvh(folder / f"{danced.name}.bvh", fit, danced.fps)
    if config.glb:
        save_glb(folder / f"{danced.name}.glb", fit, danced.fps, name=danced.name)
    return fitted_joints(fit).astype(np.float32), metrics


def _write_smpl(path: Path, danced: Danced, footlock: bool) -> None:
    rest = rest_joints()
    fit, size = fit_smpl(danced.joints, rest)
    if footlock:
        fit = lock_feet(fit, danced.joints, floor_height(danced.joints, danced.fps), danced.fps).fit
    save_smpl(path, fit, size, rest, danced.fps)


def facts_of(settings: Mapping[str, Any]) -> str:
    """Settings as JSON that fits into a dance's provenance."""
    return json.dumps(settings, sort_keys=True)
