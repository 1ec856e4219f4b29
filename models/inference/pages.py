"""The pages of --dance and --eval: a player and a picture of each dance, and the index that leads there."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import av
import numpy as np
from tqdm import tqdm

from datasets.sequences import PreparedData
from models.evaluation.dances import MadeDance
from models.evaluation.judging import file_names
from utils.metrics.protocols import protocol_named
from utils.metrics.reference import Reference
from utils.metrics.report import Report
from utils.metrics.table import MISSING
from utils.render.index import IndexEntry, Table, write_index, write_thumbnail
from utils.render.player import PlayerDance, write_player

log = logging.getLogger(__name__)
_ON_PLAYER = ("frames", "foot_penetration", "foot_float")  # cards have no room for them
Failures = dict[str, str]  # what could not be made -> why


class Page(NamedTuple):
    """What is to be seen of a dance.

    Attributes:
        name: of the dance's files.
        label: what made it.
        dances: side by side on its player, itself first; one to four.
        song: its sound file, None if that is not at hand.
        metrics: name -> value.
        player: where its player goes; None: there is none.
        video: of the dance, if it was made.
        beat_plot: the same.
        files: name of a link -> further file, if it was made.
        title: the dance's name as it is shown; `name` if empty.
    """

    name: str
    label: str
    dances: Sequence[PlayerDance]
    song: Path | None
    metrics: Mapping[str, Any]
    player: Path | None = None
    video: Path | None = None
    beat_plot: Path | None = None
    files: Mapping[str, Path] = MappingProxyType({})
    title: str = ""


@contextmanager
def kept_apart(what: str, failed: Failures, *files: Path) -> Iterator[None]:
    """What goes wrong within is named and kept in `failed`; all else goes on.

    Args:
        what: is made within.
        failed: takes why it could not be made.
        files: that it would have replaced: older ones go, so that no page leads to another dance's.
    """
    try:
        yield
    except (ValueError, OSError, av.FFmpegError) as error:
        failed[what] = str(error)
        log.warning("no %s: %s", what, error)
        for file in files:
            if file.is_file():
                file.unlink()


def write_page(folder: Path, page: Page, failed: Failures) -> IndexEntry:
    """Writes a dance's player and thumbnail; its entry links to what there is.

    Args:
        folder: of the index; the picture goes into thumbnails/ there.
        page: what is to be seen.
        failed: takes what could not be made.
    """
    thumbnail = folder / "thumbnails" / f"{page.name}.jpg"
    dance, title = page.dances[0], page.title or page.name
    with kept_apart(f"picture of {page.name}", failed, thumbnail):
        write_thumbnail(thumbnail, dance.joints, fps=dance.fps)
    if page.player is not None:
        with kept_apart(f"player {page.player}", failed, page.player):
            write_player(page.player, page.dances, page.song, title)
    wanted = (thumbnail, page.player, page.video, page.beat_plot)
    there = [path if path is not None and path.is_file() else None for path in wanted]
    files = {text: path for text, path in page.files.items() if path.is_file()}
    return IndexEntry(title, page.label, *there, page.metrics, files)


def write_judged_pages(
    folder: Path,
    data: PreparedData,
    report: Report,
    rows: Mapping[str, Sequence[MadeDance]],
    reference: Reference | None,
    number: int,
    frames_per_code: int,
) -> Failures:
    """Pages of an evaluation: the first judged dances, each beside the real one and the GPT's, if there are.

    Args:
        folder: of the evaluation; index.html, players/ and thumbnails/ go here, videos/ and plots/beats/ are
            linked where they hold the dance.
        data: what was danced to.
        report: of the evaluation.
        rows: dances under the name of their row; the real ones under `real`.
        reference: the real dances' features, for their scores; None if there are none.
        number: how many dances.
        frames_per_code: frames that a code stands for.

    Returns:
        What could not be made -> why.
    """
    shown, failed, entries, names = report.name, Failures(), [], file_names(data)
    beside = [row for row in (shown, "GPT", "real") if row in rows]
    made = {row: {dance.name: dance for dance in rows[row]} for row in dict.fromkeys(beside)}
    scores = {(line["row"], line["dance"]): line for line in report.per_dance}
    if reference is not None:
        rules = protocol_named(report.protocol)
        scores |= {("real", real.name): rules.per_dance(real) for real in reference.named(made[shown])}
    for name in tqdm(list(made[shown])[:number], "players", leave=False, disable=None):
        own = made[shown][name]
        song = data.song(own.song) if own.song in data.songs else None
        metrics = _metrics(scores, shown, name)
        dances = [
            PlayerDance(
                row,
                some[name].joints,
                some[name].codes,
                None if song is None else song.beats,
                facts=_metrics(scores, row, name),
                fps=data.fps,
                frames_per_code=frames_per_code,
            )
            for row, some in made.items()
            if name in some
        ]
        page = Page(
            names[name],
            shown,
            dances,
            None if song is None else song.audio,
            {"song": own.song} | {key: value for key, value in metrics.items() if key not in _ON_PLAYER},
            player=folder / "players" / f"{names[name]}.html",
            video=folder / "videos" / f"{names[name]}.mp4",
            beat_plot=folder / "plots" / "beats" / f"{names[name]}.png",
            title=name,
        )
        entries.append(write_page(folder, page, failed))
    settings = report.settings
    with kept_apart("index of the dances", failed):
        write_index(folder, entries, f"{settings['run']}: {shown}", report_tables(report))
    return failed


def report_tables(report: Report) -> dict[str, Table]:
    """The report's rows as an index page takes them: scores first, what is physical below."""
    cells, physical = report.cells(), protocol_named(report.protocol).physical
    tables: dict[str, Table] = {}
    for title, chosen in (("Scores", False), ("Physical", True)):
        table = {n: {c: v for c, v in row.items() if (c in physical) == chosen} for n, row in cells.items()}
        known = {n: row for n, row in table.items() if {*row.values()} - {None, MISSING}}
        tables[f"{title} ({report.protocol})"] = known
    return {title: table for title, table in tables.items() if table}


def _metrics(scores: Mapping[tuple[Any, Any], Mapping[str, Any]], row: str, name: str) -> dict[str, Any]:
    """The scores of a dance, as far as they were made."""
    line = scores.get((row, name), {})
    return shortened(
        {key: value for key, value in line.items() if key not in ("row", "dance", "song", "fps")}
    )


def shortened(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics with as many digits as people read."""
    return {
        key: round(float(v), 4) if isinstance(v, float | np.floating) else v for key, v in metrics.items()
    }
