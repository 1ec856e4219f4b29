"""Made dances -> their scores beside the controls, and their files: motions, plots and videos with sound."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
from tqdm import tqdm

from datasets.sequences import PreparedData
from models.evaluation.dances import MadeDance
from utils.export.files import save_motion
from utils.filenames import names_apart
from utils.metrics.dances import Dance, DanceFeatures, dance_features
from utils.metrics.report import Report
from utils.render.video import render_video

log = logging.getLogger(__name__)


def as_scored(data: PreparedData, dances: Sequence[MadeDance]) -> list[Dance]:
    """The dances with the beats of their songs, where those are known, as the metrics take them."""
    beats = {name: data.song(name).beats for name in {dance.song for dance in dances} & set(data.songs)}
    return [Dance(d.name, d.joints, beats.get(d.song), data.fps, d.song) for d in dances]


def file_names(data: PreparedData) -> dict[str, str]:
    """Name of a dance -> name of its files, which every system accepts: of all sequences and songs."""
    return names_apart((*data.names("all"), *data.songs))


def all_scored(
    data: PreparedData, rows: Mapping[str, Sequence[MadeDance]], max_frames: int
) -> dict[str, list[DanceFeatures]]:
    """Features of the dances of each row, cut to `max_frames`.

    Raises:
        ValueError: naming the row and the dance, if a model made what cannot be scored.
    """
    scored: dict[str, list[DanceFeatures]] = {}
    with tqdm(total=sum(map(len, rows.values())), unit="dance", leave=False, disable=None) as bar:
        for row, dances in rows.items():
            bar.set_description(f"features of {row}")
            scored[row] = []
            for dance in as_scored(data, dances):
                try:
                    scored[row].append(dance_features(dance, max_frames))
                except ValueError as error:
                    raise ValueError(f"row {row!r}: {error}") from None
                bar.update()
    return scored


def with_columns(report: Report, columns: Mapping[str, Mapping[str, float]]) -> Report:
    """The report with further columns (row -> column -> value) of rows it has."""
    return replace(report, rows={name: {**row, **columns.get(name, {})} for name, row in report.rows.items()})


def reconstruction(
    real: Sequence[MadeDance], made: Sequence[MadeDance], num_codes: Sequence[int]
) -> dict[str, float]:
    """How well the memory reconstructs, and the share (0..1) of each codebook these dances use.

    `joint_error_mm` is the mean distance of the joints relative to the root, `root_error_mm` that of the root
    relative to where it starts; both lower is better.
    """
    local, roots = [], []
    for one, other in zip(real, made, strict=True):
        relative = [d.joints - d.joints[:, :1] for d in (one, other)]
        local.append(np.linalg.norm(relative[0] - relative[1], axis=-1)[:, 1:].mean())
        travel = [d.joints[:, 0] - d.joints[:1, 0] for d in (one, other)]
        roots.append(np.linalg.norm(travel[0] - travel[1], axis=-1).mean())
    codes = np.concatenate([dance.codes for dance in made])
    used = [len(np.unique(codes[:, half])) / k for half, k in enumerate(num_codes)]
    return {
        "joint_error_mm": 1000 * float(np.mean(local)),
        "root_error_mm": 1000 * float(np.mean(roots)),
        "codes_used_upper": used[0],
        "codes_used_lower": used[1],
    }


def write_motions(
    folder: Path, data: PreparedData, dances: Sequence[MadeDance], provenance: Mapping[str, str | int | float]
) -> None:
    """A .npz per dance: joints (T, 24, 3), codes (T', 2), fps, song, its beats if known, and provenance."""
    names = file_names(data)
    for dance, scored in zip(dances, as_scored(data, dances), strict=True):
        facts = {"song": dance.song, **provenance}
        path = folder / f"{names[dance.name]}.npz"
        save_motion(path, dance.joints, dance.codes, data.fps, facts, scored.music_beats)


def render(
    folder: Path,
    data: PreparedData,
    dances: Sequence[MadeDance],
    label: str,
    frames_per_code: int,
    height: int,
) -> dict[str, str]:
    """One video per dance, with its song where that is at hand. A video that fails does not stop the others.

    Returns:
        Name -> why of the dances of which there is no video.
    """
    failed, names = {}, file_names(data)
    for dance in tqdm(dances, "videos", leave=False, disable=None):
        path = folder / f"{names[dance.name]}.mp4"
        try:
            song = data.song(dance.song) if dance.song in data.songs else None
            render_video(
                path,
                dance.joints,
                fps=data.fps,
                codes=dance.codes,
                frames_per_code=frames_per_code,
                music_beats=None if song is None else song.beats,
                song=None if song is None else song.audio,
                title=f"{label}  {dance.name}",
                height=height,
            )
        except (ValueError, OSError, av.FFmpegError) as error:
            failed[dance.name] = str(error)
            log.warning("no video %s: %s", path, error)
    return failed
