"""Pictures of a choreographic memory: its codes as movement, and how often each is used."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import matplotlib.image
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from utils.files import write_beside
from utils.floor import ground_height
from utils.render.camera import Camera
from utils.render.canvas import Canvas, mixed
from utils.render.figure import GREY, LOWER, UPPER, Palette, draw_figure, limb_colours, limbs
from utils.skeleton import SMPL_24, Skeleton

_PANEL = 300, 230  # pixels, width and height
_POSES = 4  # of the motion that are shown
_SPACING = 0.6  # metres between them
_ROOM = 0.1  # metres around them
_HEADER = 58
_PAPER = (15, 18, 27)
_CARD = (0.105, 0.122, 0.170)

HalfName = Literal["upper", "lower", "whole"]


class GalleryPanel(NamedTuple):
    """One code.

    Attributes:
        title: what is written over it.
        joints: (T, J, 3) metres: the movement that it stands for.
        share: of its use among all codes of its half, 0..1.
    """

    title: str
    joints: np.ndarray
    share: float


def draw_gallery(
    path: Path,
    panels: list[GalleryPanel],
    half: HalfName,
    title: str,
    *,
    skeleton: Skeleton = SMPL_24,
) -> None:
    """A PNG sheet with a panel per code: its movement from left to right, its half in colour.

    Later poses are drawn stronger.

    Args:
        path: of the picture; written beside and renamed.
        panels: the codes, in the order in which they are shown.
        half: which half is drawn in colour, the other being grey; both with `whole`.
        title: over the sheet.
        skeleton: whose joints they are.

    Raises:
        ValueError: if there is no panel, the half is unknown, or joints have another shape or are not finite.
    """
    if half not in ("upper", "lower", "whole"):
        raise ValueError(f"half {half!r}: expected 'upper', 'lower' or 'whole'")
    if not panels:
        raise ValueError("the gallery has no panels")
    for panel in panels:
        shape = np.shape(panel.joints)
        if len(shape) != 3 or shape[0] < 1 or shape[1:] != (skeleton.num_joints, 3):
            raise ValueError(
                f"panel {panel.title!r}: expected (T, {skeleton.num_joints}, 3) joints, got {shape}"
            )
        if not np.isfinite(panel.joints).all():
            raise ValueError(f"panel {panel.title!r} holds NaN or infinity")
    columns = min(len(panels), max(4, int(np.ceil(np.sqrt(len(panels))))))
    rows = -(-len(panels) // columns)
    width, height = _PANEL
    canvas = Canvas(columns * width + 20, rows * height + _HEADER + 12)
    canvas.pixels[:] = (*_PAPER, 255)
    canvas.text(20, 38, title, 20, (0.93, 0.95, 0.98), bold=True)
    for place, panel in enumerate(panels):
        picture = _panel(panel, half, skeleton)
        x, y = 10 + place % columns * width, _HEADER + place // columns * height
        canvas.pixels[y : y + height, x : x + width] = picture.pixels
    _save(path, canvas.pixels)


def _panel(panel: GalleryPanel, half: str, skeleton: Skeleton) -> Canvas:
    width, height = _PANEL
    canvas = Canvas(width, height)
    canvas.pixels[:] = (*_PAPER, 255)
    canvas.rounded(5, 5, width - 10, height - 10, 10, _CARD)
    joints = np.asarray(panel.joints, np.float64)
    chosen = np.unique(np.linspace(0, len(joints) - 1, min(_POSES, len(joints))).round().astype(int))
    floor = ground_height(joints, skeleton.fps, skeleton)
    joints = joints[chosen]
    offset = (np.arange(len(chosen)) - (len(chosen) - 1) / 2) * _SPACING
    moved = joints + offset[:, None, None] * [1.0, 0.0, 0.0]
    left, right = moved[..., 0].min() - _ROOM, moved[..., 0].max() + _ROOM
    top = max(moved[..., 1].max() - floor, 1.6) + 2 * _ROOM
    span = max(1.32 * top, 1.08 * (right - left) * height / width)  # leaves room for the title and the share
    target = np.array([(left + right) / 2, floor + top / 2, joints[:, 0, 2].mean()])
    camera = Camera(np.tile(target, (len(chosen), 1)), span, width, height, yaw=0.0, pitch=0.08, middle=0.53)
    colour = LOWER if half == "lower" else UPPER
    palette = Palette(
        upper=GREY if half == "lower" else UPPER, lower=GREY if half == "upper" else LOWER, outline=_CARD
    )
    seen = limbs(moved, skeleton, camera, slice(0, len(chosen)))
    colours = limb_colours(skeleton, palette)
    for pose in range(len(chosen)):
        age = 1 - (pose + 1) / len(chosen)
        faded = [mixed(one, _CARD, 0.8 * age) for one in colours]
        draw_figure(canvas, seen, pose, faded, palette.outline)
    canvas.text(15, 26, panel.title, 12, (0.93, 0.95, 0.98), bold=True)
    canvas.text(
        width - 15,
        26,
        f"{100 * panel.share:.1f} %",
        12,
        mixed(colour, (1.0, 1.0, 1.0), 0.3),
        align=1.0,
    )
    return canvas


def draw_usage(path: Path, counts_of: Mapping[str, np.ndarray]) -> None:
    """A PNG with, for each half, how often each code is used, the most used first; perplexity in the titles.

    Args:
        path: of the picture; written beside and renamed.
        counts_of: (K,) uses of each code, by the half's name: `upper` and `lower`, or `whole`.

    Raises:
        ValueError: if counts are not one-dimensional, negative, or all zero.
    """
    figure = Figure(figsize=(11, 4), dpi=110, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    places = figure.subplots(1, len(counts_of), squeeze=False)[0]
    for axes, (name, given) in zip(places, counts_of.items(), strict=True):
        counts, colour = np.asarray(given, np.float64), LOWER if name == "lower" else UPPER
        if counts.ndim != 1 or not np.isfinite(counts).all() or (counts < 0).any() or not counts.sum() > 0:
            raise ValueError(
                f"counts of the {name} half: expected (K,) counts, not all zero, got {counts.shape}"
            )
        share = np.sort(counts / counts.sum())[::-1]
        used = share[share > 0]
        perplexity = float(np.exp(-(used * np.log(used)).sum()))
        axes.bar(np.arange(1, len(share) + 1), 100 * share, width=1.0, color=colour)
        axes.axhline(100 / len(share), color="0.4", linewidth=1, linestyle="--", label="uniform")
        axes.set_title(f"{name}: {len(used)} of {len(share)} codes used, perplexity {perplexity:.1f}")
        axes.set_xlabel("code, by rank")
        axes.set_ylabel("share of use, %")
        axes.set_xlim(0.5, len(share) + 0.5)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    figure.canvas.draw()
    _save(path, np.asarray(figure.canvas.buffer_rgba()))


def _save(path: Path, pixels: np.ndarray) -> None:
    output = io.BytesIO()
    matplotlib.image.imsave(output, pixels, format="png")
    write_beside(Path(path), output.getbuffer())
