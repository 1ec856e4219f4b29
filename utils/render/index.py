"""The index page of --eval and --dance: tables, then a card per dance with picture, links and metrics."""

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import matplotlib.image
import numpy as np
from scipy.ndimage import gaussian_filter1d

from utils.body_model import BodyMotion
from utils.dance import Dance, checked
from utils.files import write_beside
from utils.render.canvas import Canvas
from utils.render.player_page import fill, format_fact
from utils.render.scene import Scene
from utils.render.wording import meanings, worded

FILE_NAME = "index.html"
_THUMBNAIL = 480, 300  # pixels, width and height
_MARGIN = 60, 45  # pixels at each side of what is drawn that the thumbnail leaves out
_LIVELY = 0.7  # share of the highest speed that a lively frame reaches
_AROUND_SECONDS = 2.5  # before the lively frame, for the trail; and a little after it

Table = Mapping[str, Mapping[str, Any]]  # row -> column -> value


@dataclass(frozen=True)
class IndexEntry:
    """A dance of the page. Its files lie in the folder of the page or below; paths are those of the caller.

    Attributes:
        name: of the dance; any text.
        label: a word over its picture, as the row it belongs to; any text.
        thumbnail: a picture, see `write_thumbnail`.
        player: a page of `write_player`.
        video: an mp4.
        beat_plot: a picture.
        metrics: name -> number (NaN and None: not known) or text.
        files: name of a link -> further file of the dance.
        notes: lines on the card: what is unusual about the dance, and what to try.
    """

    name: str
    label: str = ""
    thumbnail: Path | None = None
    player: Path | None = None
    video: Path | None = None
    beat_plot: Path | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    notes: Sequence[str] = ()


def write_index(
    folder: Path, entries: Sequence[IndexEntry], title: str, tables: Mapping[str, Table] | None = None
) -> Path:
    """Write index.html, which links files relatively, so that the folder may be moved or served.

    Args:
        folder: where the page goes; made if missing.
        entries: the dances, in the order in which they are first shown.
        title: of the page; any text.
        tables: title -> row -> column -> number or text, shown above the dances in this order.

    Returns:
        Path of the page.

    Raises:
        ValueError: if a file lies outside the folder.
        FileNotFoundError: if a file that an entry names does not exist.
    """
    folder = Path(folder)
    names = [name for entry in entries for name in entry.metrics]
    columns = [column for table in (tables or {}).values() for row in table.values() for column in row]
    data = {
        "meanings": meanings([*names, *columns]),
        "numbers": list(dict.fromkeys(str(name) for name in names)),
        "tables": [_table(name, table) for name, table in (tables or {}).items()],
        "entries": [_entry(folder, entry) for entry in entries],
    }
    # a page opened from a disk has no origin, so 'self' alone would hide its pictures
    page = fill(
        "index.html",
        ("index.css", "facts.css"),
        ("facts.js", "index.js"),
        title,
        data,
        "img-src 'self' file:",
    )
    path = folder / FILE_NAME
    write_beside(path, page)
    return path


def _entry(folder: Path, entry: IndexEntry) -> dict[str, Any]:
    def relative(path: Path | None) -> str | None:
        if path is None:
            return None
        if not Path(path).is_file():
            raise FileNotFoundError(f"{entry.name}: there is no file {path} to link to; write it first")
        found = Path(os.path.relpath(Path(path).resolve(), folder.resolve())).as_posix()
        if found.startswith("../"):
            raise ValueError(f"{entry.name}: {path} lies outside {folder}; links would break when it moves")
        return quote(os.fsencode(found), safe="/")

    return {
        "name": entry.name,
        "label": entry.label,
        "thumbnail": relative(entry.thumbnail),
        "player": relative(entry.player),
        "video": relative(entry.video),
        "beatPlot": relative(entry.beat_plot),
        "files": [[str(name), relative(path)] for name, path in entry.files.items()],
        "metrics": [
            [str(name), worded(name, value), _sortable(value)] for name, value in entry.metrics.items()
        ],
        "notes": list(entry.notes),
    }


def _table(title: str, table: Table) -> dict[str, Any]:
    columns = list(dict.fromkeys(column for row in table.values() for column in row))
    rows = [
        [str(name), [format_fact(_plain(row.get(column))) for column in columns]]
        for name, row in table.items()
    ]
    return {"title": title, "columns": [str(column) for column in columns], "rows": rows}


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _sortable(value: Any) -> float | str | None:
    """A number to sort by, or text; None where there is no value."""
    value = _plain(value)
    if value is None or isinstance(value, str):
        return value
    return float(value) if np.isfinite(value) else None


def lively_frame(joints: np.ndarray, fps: float) -> int:
    """The first frame in which the joints reach 70 % of their highest speed in this dance.

    Args:
        joints: (T, J, 3) metres.
        fps: frames per second.
    """
    if len(joints) < 2:
        return 0
    steps = np.linalg.norm(np.diff(joints.astype(np.float64), axis=0), axis=-1).mean(1)
    speed = gaussian_filter1d(steps, 0.1 * fps)
    return int((speed >= _LIVELY * speed.max()).argmax())


def write_thumbnail(path: Path, dance: Dance, body: BodyMotion | None = None) -> Path:
    """A JPEG of a dance's first lively frame, drawn as in the videos; about 15 kB.

    Args:
        path: of the picture; written beside and renamed.
        dance: what is drawn.
        body: drawn instead of a figure of limbs; its joints are those of the dance.

    Raises:
        ValueError: if a part of the dance is not as `Dance` says.
    """
    path, dance = Path(path), checked(dance)
    joints, fps = dance.joints, dance.fps
    frame = lively_frame(joints, fps)
    first = max(0, frame - round(_AROUND_SECONDS * fps))
    around = slice(first, frame + round(0.5 * fps) + 1)
    part = joints[around]
    if body is not None:
        body = replace(body, rotations=body.rotations[around], root=body.root[around])
    left, top = _MARGIN
    width, height = _THUMBNAIL[0] + 2 * left, _THUMBNAIL[1] + top + top * 2 // 3
    canvas = Canvas(width, height)
    Scene(part, dance.skeleton, fps, width, height, np.zeros(len(part)), body).draw(canvas, frame - first)
    file = io.BytesIO()
    picture = canvas.pixels[top : top + _THUMBNAIL[1], left : left + _THUMBNAIL[0], :3]
    matplotlib.image.imsave(file, picture, format="jpeg", pil_kwargs={"quality": 86})
    write_beside(path, file.getvalue())
    return path
