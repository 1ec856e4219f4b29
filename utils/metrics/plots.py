"""Pictures for a report: beats of each dance, features of real and generated dances, and the beat scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.ndimage import gaussian_filter1d

from utils.dance import Dance
from utils.metrics.beats import SMOOTHING, mean_speed
from utils.metrics.dances import DanceFeatures, dance_features
from utils.metrics.geometric import RELATIONS
from utils.metrics.physical import resample
from utils.metrics.protocols import protocol_named
from utils.metrics.reference import Reference, stack
from utils.render.fonts import missing_glyphs_are_boxes, plain_line, title_style
from utils.skeleton import SMPL_24

REAL, GENERATED, MUSIC = "#888888", "#1f77b4", "#d95f02"
ROW_SECONDS = 20.0  # that a row of a beat plot shows, about
MOST_ROWS = 12  # of a beat plot; rows of longer songs show more seconds each


def beat_plot(
    dance: Dance, max_frames: int | None = None, protocol: str = "bailando", title: str = ""
) -> Figure:
    """Joint speed over the whole dance with motion beats (dots), music beats (lines), and the dance's score.

    Time continues from row to row. Rows are of one length: about 20 s, or a twelfth of a dance of more than
    four minutes.

    Beats and scores are those of the protocol: motion beats on frames, or between them in `corrected`.

    Args:
        dance: the dance.
        max_frames: what it is cut to.
        protocol: whose beats and scores.
        title: any text; the dance's name if empty.
    """
    features, rules = dance_features(dance, max_frames), protocol_named(protocol)
    joints = resample(np.asarray(dance.joints, np.float64), dance.fps, SMPL_24.fps)[: features.frames]
    speed = gaussian_filter1d(mean_speed(joints), SMOOTHING) * SMPL_24.fps
    published = rules.name == "bailando"  # there the speed between two frames counts as that of the first
    time = (np.arange(len(speed)) + (0.0 if published else 0.5)) / SMPL_24.fps
    end = len(joints) / SMPL_24.fps
    rows = min(max(1, round(end / ROW_SECONDS)), MOST_ROWS)
    each = end / rows
    scores = "" if features.music_beats is None else _in_words(rules.beats(features))
    high = 1.2 + 2 * rows  # inches
    figure = Figure(figsize=(12, high))
    figure.subplots_adjust(0.045, 0.6 / high, 0.98, 1 - 0.35 / high, hspace=0.25)
    name = plain_line(title or dance.name)
    moves = features.motion_beats / SMPL_24.fps if published else features.motion_times
    music = np.zeros(0) if features.music_beats is None else features.music_beats / SMPL_24.fps
    width = min(1.0, max(0.2, each / max(1, len(music) / rows)))  # of a line, thin where they are many
    for row, axes in enumerate(figure.subplots(rows, 1, squeeze=False)[:, 0]):
        first, last = row * each, (row + 1) * each
        inside = (time >= first - 0.1) & (time <= last + 0.1)
        beats = music[(music >= first) & (music < last)]
        axes.vlines(
            beats, 0, 1, MUSIC, lw=width, alpha=0.7, transform=axes.get_xaxis_transform(), label="music beat"
        )
        axes.plot(time[inside], speed[inside], color=GENERATED, lw=1.2, label="mean joint speed, smoothed")
        shown = moves[(moves >= first) & (moves <= last)]
        size = 5 if each <= 2 * ROW_SECONDS else 2
        axes.plot(shown, np.interp(shown, time, speed), "o", color="black", ms=size, label="motion beat")
        axes.set(ylabel="m/s", xlim=(first, last), ylim=(0, 1.25 * speed.max() or 1.0))
        axes.xaxis.set_major_locator(MaxNLocator(10, steps=[1, 2, 3, 5, 6, 10], integer=each >= 5))
        axes.xaxis.set_major_formatter(lambda seconds, _: _clock(seconds))
        axes.spines[["top", "right"]].set_visible(False)
        if row == 0:
            axes.set_title(f"{name}   {scores}".strip(), fontsize=12, **title_style(name))
            axes.legend(loc="upper right", ncols=3, fontsize=8)
    axes.set_xlabel(f"time in the dance, minutes:seconds; all {_clock(end)} are shown")
    return figure


def _in_words(scores: Mapping[str, float]) -> str:
    return "   ".join(f"{name} {value:.3f}" for name, value in scores.items())


def _clock(seconds: float) -> str:
    """Format seconds as 1:05, or 1:05.5 if they are not whole."""
    tenths = round(10 * seconds)
    return f"{tenths // 600}:{tenths // 10 % 60:02d}" + (f".{tenths % 10}" if tenths % 10 else "")


def feature_plot(dances: Sequence[DanceFeatures], reference: Reference, feature: str) -> Figure:
    """Histograms of each kinetic or geometric feature (by name), real behind generated."""
    own, real = stack(dances, feature), reference.stacked(feature)
    titles = feature_titles(feature)
    columns = 12 if len(titles) > 40 else 8
    rows = -(-len(titles) // columns)
    figure = Figure(figsize=(1.7 * columns, 1.35 * rows + 0.6))
    grid = {"left": 0.01, "right": 0.99, "bottom": 0.04, "top": 0.9, "wspace": 0.12, "hspace": 0.75}
    for index, (axes, title) in enumerate(
        zip(figure.subplots(rows, columns, gridspec_kw=grid).flat, titles, strict=True)
    ):
        both = np.concatenate([own[:, index], real[:, index]])
        low, high = np.quantile(both, (0.0, 0.99))
        bins = np.linspace(low, high if high > low else low + 1e-3, 21)
        for values, color in ((real, REAL), (own, GENERATED)):
            count, _ = np.histogram(np.clip(values[:, index], bins[0], bins[-1]), bins)
            axes.stairs(count / len(values), bins, fill=True, color=color, alpha=0.55)
        axes.set_title(title, fontsize=6)
        axes.set_yticks([])
        axes.set_xticks(bins[[0, -1]], [f"{value:.3g}" for value in bins[[0, -1]]], fontsize=5)
    figure.suptitle(f"{feature}: {len(real)} real dances (grey), {len(own)} generated (blue)", fontsize=10)
    return figure


def feature_titles(feature: str) -> list[str]:
    """A short title for each column of kinetic(_corrected) or geometric(_corrected)."""
    if feature.startswith("kinetic"):
        last = "acceleration" if feature.endswith("corrected") else "expenditure"
        return [f"{joint} {what}" for joint in SMPL_24.joints for what in ("horizontal", "vertical", last)]
    kinds = {"normal_velocity": "velocity", "velocity_along": "velocity", "distance_from_plane": "distance"}
    return [
        f"{i} {kinds.get(test.kind, test.kind.removesuffix('_along'))}\n{test.points[-1]}"
        for i, test in enumerate(RELATIONS)
    ]


def score_plot(
    own: Sequence[float], real: Sequence[float], shuffled_mean: float, name: str = "BAS"
) -> Figure:
    """Plot the distribution of a beat score over the dances, with the means and the shuffled control."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.add_subplot()
    known = [np.array([v for v in values if not np.isnan(v)]) for values in (real, own)]
    top = max((float(values.max()) for values in known if len(values)), default=1.0)
    bins = np.linspace(0, max(top, 1e-3) * 1.02, 26)
    for values, color, label in zip(known, (REAL, GENERATED), ("real", "generated"), strict=True):
        if len(values):
            share = np.full(len(values), 1 / len(values))
            axes.hist(
                values, bins, weights=share, color=color, alpha=0.55, label=f"{label} ({len(values)} dances)"
            )
            axes.axvline(values.mean(), color=color, lw=2, label=f"mean {label} {values.mean():.4f}")
    if not np.isnan(shuffled_mean):
        axes.axvline(
            shuffled_mean, color=MUSIC, lw=2, ls="--", label=f"real, songs shuffled {shuffled_mean:.4f}"
        )
    axes.set(xlabel=name, ylabel="share of dances")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)
    return figure


def save_figure(figure: Figure, path: Path) -> Path:
    """Writes a picture beside its place and renames it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.tmp.png")
    try:
        with missing_glyphs_are_boxes():
            FigureCanvasAgg(figure).print_png(str(beside))
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return path
