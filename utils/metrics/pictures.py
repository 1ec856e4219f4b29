"""Plots that belong to a report, and the files they are written to."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from utils.dance import Dance
from utils.filenames import names_apart
from utils.metrics.plots import beat_plot, feature_plot, save_figure, score_plot
from utils.metrics.protocols import protocol_named
from utils.metrics.reference import Reference
from utils.metrics.report import SHUFFLED, Report

MOST_BEAT_PLOTS = 40


def save_plots(
    report: Report,
    dances: Sequence[Dance],
    reference: Reference | None,
    folder: Path,
    max_frames: int | None,
    names: Mapping[str, str] | None = None,
) -> list[Path]:
    """Saves the plots of a report and returns their paths.

    beats/<dance>.png for each of the first 40 dances; with a reference also one picture of histograms per set
    of features and one of the beat score.

    Args:
        report: what `evaluate` returned.
        dances: the dances it scored.
        reference: the real set.
        folder: where to; made if missing.
        max_frames: what the dances were cut to.
        names: name of a dance -> name of its file; made so that every system accepts it if None.
    """
    rules = protocol_named(report.protocol)
    names = names_apart(dance.name for dance in dances) if names is None else names
    paths = [
        save_figure(beat_plot(dance, max_frames, rules.name), folder / "beats" / f"{names[dance.name]}.png")
        for dance in tqdm(dances[:MOST_BEAT_PLOTS], "plots", leave=False, disable=None)
    ]
    if reference is None:
        return paths
    for _, feature in rules.sets:
        paths.append(
            save_figure(feature_plot(report.features, reference, feature), folder / f"{feature}.png")
        )
    for column in rules.beats(report.features[0]):
        mean = report.rows[SHUFFLED][column]
        own = [rules.beats(dance)[column] for dance in report.features]
        real = [rules.beats(dance)[column] for dance in reference.dances]
        paths.append(save_figure(score_plot(own, real, mean, column), folder / f"{column}.png"))
    return paths
