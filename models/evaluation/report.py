"""The report of --eval: dances of a stage beside control rows become a table, files, plots, videos and pages.

Every table holds the real dances, the real dances with their songs shuffled, the floor of FID at this number
of dances, and, where the memory can decode on its own, dances of uniformly random codes: without these
controls a number has no scale.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from datasets.reference import loudness, real_reference
from datasets.sequences import PreparedData
from models.evaluation.config import EvaluationConfig
from models.evaluation.dances import DanceMaker
from models.vqvae import ChoreographicMemory
from utils.dance import Dance, save_dance
from utils.dance_formats import (
    Failures,
    WriterInput,
    WriterOptions,
    attempt,
    index_entry,
    shortened,
    write_files,
)
from utils.export.fit import fastest_turn, quaternions_of
from utils.filenames import names_apart
from utils.metrics.dances import DanceFeatures, dance_features
from utils.metrics.pictures import save_plots
from utils.metrics.protocols import ProtocolName, protocol_named
from utils.metrics.reference import Reference
from utils.metrics.report import Report, evaluate, write_report
from utils.metrics.table import MISSING
from utils.render.index import Table, write_index
from utils.training import distributed

log = logging.getLogger(__name__)
_NOT_ON_CARDS = ("frames", "foot_penetration", "foot_float")  # cards have no space for them


class Evaluation(DanceMaker):
    """Makes the dances of a split, scores them and writes the report."""

    def __init__(
        self, data: PreparedData, config: EvaluationConfig, memory: ChoreographicMemory, seed: int
    ) -> None:
        super().__init__(data, config.split, config.length, memory, seed)
        self.config, self.body_model = config, config.body.load(data.skeleton)
        self.files = file_names(data)

    def report(
        self,
        folder: Path,
        rows: Mapping[str, Sequence[Dance]],
        shown: str,
        title: str,
        rl_split: str | None = None,
    ) -> dict[str, dict[str, Any]]:
        """Score the rows beside the control rows, and write everything into the folder.

        The numbers are printed and written first, so that no error in a picture or a video costs them. With
        several processes the main one does everything but the videos, of which each makes a share.

        Args:
            folder: metrics.json, dances.csv, table.md, motions/, plots/, videos/, players/ and index.html go
                here.
            rows: dances under the name of their row, the control rows first.
            shown: the row that is compared with the others, plotted and rendered.
            title: of the table.
            rl_split: the split whose songs the shown row was finetuned on by reinforcement learning; None if
                it was not.

        Returns:
            Row name -> metric name -> value; empty in other processes than the main one.

        Raises:
            ValueError: if a dance cannot be scored.
        """
        rows = {name: dances for name, dances in rows.items() if dances}
        if not distributed.is_main():
            self._videos(folder, rows[shown], shown)
            return {}
        both = self.config.protocol == "both"
        first: ProtocolName = "corrected" if self.config.protocol == "corrected" else "bailando"
        others: list[ProtocolName] = ["corrected"] if both else []
        report = self._scores(rows, shown, title, rl_split, first)
        write_report(report, folder)
        print(f"\n# {title}: {shown}, {len(rows[shown])} dances of split {self.split!r}\n{report.markdown()}")
        for other in others:
            again = self._scores(rows, shown, title, rl_split, other)
            write_report(again, folder / other)
            print(again.markdown())
        for name, dances in rows.items():
            facts = {"run": title, "row": name, "evaluation": folder.name, **self._facts()}
            for dance in dances:
                path = folder / "motions" / name.replace(" ", "_") / f"{self.files[dance.name]}.npz"
                save_dance(path, replace(dance, provenance=facts))
        if self.config.plots:
            dances, most = rows[shown], self.config.max_frames
            save_plots(report, dances, self.reference, folder / "plots", most, self.files)
        some = rows[shown][: self.config.videos]
        failed = self._videos(folder, some, shown)
        if failed:
            print(f"{len(failed)} of {len(some)} videos could not be made: {', '.join(failed)}")
        if self.config.players:
            rows = {**rows, "real": self.real}
            number = self.config.players
            failures = write_pages(folder, self.data, report, rows, self.reference, self.files, number)
            if failures:
                print(f"could not be made: {', '.join(failures)}")
        print(f"all of this is in {folder}")
        return report.rows

    def _facts(self) -> dict[str, str | int | float]:
        """Provenance that all dances share."""
        return {
            "data": str(self.data.root),
            "split": self.split,
            "seed": self.seed,
            "music_features": self.data.feature_version,
        }

    def _videos(self, folder: Path, dances: Sequence[Dance], label: str) -> list[str]:
        """Render the first of the dances, a share in each process; returns the names of those that failed."""
        some = [dances[i] for i in distributed.own_share(len(dances[: self.config.videos]))]
        shares = []
        for dance in tqdm(some, "videos", leave=False, disable=None):
            failures: Failures = {}
            how = WriterOptions(title=f"{label}  {dance.name}", height=self.config.video_height)
            given = WriterInput(dance, audio_of(self.data, dance), how, body_model=self.body_model)
            write_files(given, {"mp4": folder / "videos" / f"{self.files[dance.name]}.mp4"}, failures)
            shares.append(dance.name if failures else "")
        return [name for name in distributed.gather_shares(shares) if name]

    def _scores(
        self,
        rows: Mapping[str, Sequence[Dance]],
        shown: str,
        title: str,
        rl_split: str | None,
        protocol: ProtocolName,
    ) -> Report:
        other = self.config.reference
        self.reference = real_reference(self.data) if other is None else Reference.load(Path(other))
        songs = {dance.song for dances in rows.values() for dance in dances}
        loud = {song: loudness(self.data, song) for song in songs}
        scored = features_of(rows, self.config.max_frames, loud)
        tuned_on = self._rl_songs(rl_split)
        songs = {dance.song for dance in rows[shown]}
        report = evaluate(
            scored[shown],
            self.reference,
            protocol,
            name=shown,
            beside={name: scored[name] for name in reversed(scored) if name != shown},
            max_frames=self.config.max_frames,
            rl_saw_songs=bool(songs & tuned_on),
            first_code="fixed" if self.only_songs else "real",
            seed=self.seed,
        )
        where = {"run": title, "judged": shown, "data": str(self.data.root), "split": self.split}
        where["songs"] = f"{len(songs)}, {len(songs & tuned_on)} of them used in reinforcement learning"
        report = replace(report, settings={**where, **report.settings})
        columns = {
            name: reconstruction(self.real, dances, self.memory.num_codes, self.config.max_frames)
            for name, dances in rows.items()
            if name.startswith("memory")
        }
        for name, dances in rows.items():
            turn = worst_turn(dances, self.config.max_frames)
            columns[name] = columns.get(name, {}) | ({} if turn is None else {"max_turn_deg": turn})
        return with_columns(report, columns)

    def _rl_songs(self, split: str | None) -> set[str]:
        if split is None:
            return set()
        if self.only_songs:
            return set(self.data.songs)
        return {self.data.sequence(name).song for name in self.data.names(split)}


def file_names(data: PreparedData) -> dict[str, str]:
    """Name of a dance -> name of its files, safe on every file system; for all sequences and songs."""
    return names_apart((*data.names("all"), *data.songs))


def audio_of(data: PreparedData, dance: Dance) -> Path | None:
    """Sound file of a dance's song; None if it is not at hand."""
    return data.song(dance.song).audio if dance.song in data.songs else None


def features_of(
    rows: Mapping[str, Sequence[Dance]], max_frames: int, loud: Mapping[str, np.ndarray | None]
) -> dict[str, list[DanceFeatures]]:
    """Features of the dances of each row, cut to `max_frames`; `loud` is the loudness of songs per frame.

    Raises:
        ValueError: naming the row and the dance, if a dance cannot be scored.
    """
    scored: dict[str, list[DanceFeatures]] = {}
    with tqdm(total=sum(map(len, rows.values())), unit="dance", leave=False, disable=None) as bar:
        for row, dances in rows.items():
            bar.set_description(f"features of {row}")
            scored[row] = []
            for dance in dances:
                try:
                    scored[row].append(dance_features(dance, max_frames, loud.get(dance.song)))
                except ValueError as error:
                    raise ValueError(f"row {row!r}: {error}") from None
                bar.update()
    return scored


def with_columns(report: Report, columns: Mapping[str, Mapping[str, float]]) -> Report:
    """The report with further columns (row -> column -> value) of rows it has."""
    return replace(report, rows={name: {**row, **columns.get(name, {})} for name, row in report.rows.items()})


def reconstruction(
    real: Sequence[Dance], made: Sequence[Dance], num_codes: Sequence[int], max_frames: int | None = None
) -> dict[str, float]:
    """Reconstruction errors of the memory, and the share (0..1) of each codebook that these dances use.

    `joint_error_mm` is the mean distance of the joints relative to the root, `root_error_mm` that of the root
    relative to its position in frame 0; both lower is better. They cover the first `max_frames` frames, as
    the other metrics of generated dances do; None: all.
    """
    local, roots = [], []
    for pair in zip(real, made, strict=True):
        joints = [dance.joints[:max_frames] for dance in pair]
        relative = [j - j[:, :1] for j in joints]
        local.append(np.linalg.norm(relative[0] - relative[1], axis=-1)[:, 1:].mean())
        travel = [j[:, 0] - j[:1, 0] for j in joints]
        roots.append(np.linalg.norm(travel[0] - travel[1], axis=-1).mean())
    codes = np.concatenate([dance.codes for dance in made])
    used = [len(np.unique(codes[:, half])) / k for half, k in enumerate(num_codes)]
    return {
        "joint_error_mm": 1000 * float(np.mean(local)),
        "root_error_mm": 1000 * float(np.mean(roots)),
        "codes_used_upper": used[0],
        "codes_used_lower": used[1],
    }


def worst_turn(dances: Sequence[Dance], max_frames: int | None = None) -> float | None:
    """The largest angle in degrees by which a joint turns from one frame to the next.

    Lower is smoother; clean AIST++ dances stay below 19. It covers the first `max_frames` frames; None if the
    dances hold no rotations.
    """
    turns = [
        fastest_turn(quaternions_of(dance.rotations[:max_frames]), dance.skeleton).degrees
        for dance in dances
        if dance.rotations is not None
    ]
    return max(turns, default=None)


def write_pages(
    folder: Path,
    data: PreparedData,
    report: Report,
    rows: Mapping[str, Sequence[Dance]],
    reference: Reference | None,
    files: Mapping[str, str],
    number: int,
) -> Failures:
    """Write the pages of an evaluation: the first dances, each beside the real one and the GPT's, if known.

    Args:
        folder: of the evaluation; index.html, players/ and thumbnails/ go here, videos/ and plots/beats/ are
            linked where they hold the dance.
        data: the prepared data.
        report: of the evaluation.
        rows: dances under the name of their row; the real ones under `real`.
        reference: the real dances' features, for their scores; None if there are none.
        files: name of a dance -> name of its files.
        number: how many dances.

    Returns:
        File or picture that could not be made -> why.
    """
    shown, failures, entries = report.name, Failures(), []
    beside = [row for row in ("GPT", "real") if row in rows and row != shown]
    made = {row: {dance.name: dance for dance in rows[row]} for row in (shown, *beside)}
    scores = {(line["row"], line["dance"]): line for line in report.per_dance}
    if reference is not None:
        rules = protocol_named(report.protocol)
        for real in reference.named(made[shown]):
            scores["real", real.name] = {**rules.per_dance(real)}
    for name in tqdm(list(made[shown])[:number], "players", leave=False, disable=None):
        dance, stem = made[shown][name], files[name]
        metrics = _metrics(scores, shown, name)
        others = [
            (replace(made[row][name], name=row), _metrics(scores, row, name))
            for row in beside
            if name in made[row]
        ]
        given = WriterInput(dance, audio_of(data, dance), WriterOptions(label=shown), metrics, others)
        page, video = folder / "players" / f"{stem}.html", folder / "videos" / f"{stem}.mp4"
        write_files(given, {"html": page}, failures)
        on_card = {"song": dance.song}
        on_card |= {key: value for key, value in metrics.items() if key not in _NOT_ON_CARDS}
        plot = folder / "plots" / "beats" / f"{stem}.png"
        paths = {"html": page, "mp4": video}
        entries.append(index_entry(folder, stem, given, paths, shown, on_card, plot, failures))
    with attempt("index of the dances", failures):
        write_index(folder, entries, f"{report.settings['run']}: {shown}", report_tables(report))
    return failures


def report_tables(report: Report) -> dict[str, Table]:
    """The rows of the report as tables of an index page: scores first, physical metrics below."""
    cells, physical = report.cells(), protocol_named(report.protocol).physical
    tables: dict[str, Table] = {}
    for title, chosen in (("Scores", False), ("Physical", True)):
        table = {n: {c: v for c, v in row.items() if (c in physical) == chosen} for n, row in cells.items()}
        known = {n: row for n, row in table.items() if {*row.values()} - {None, MISSING}}
        tables[f"{title} ({report.protocol})"] = known
    return {title: table for title, table in tables.items() if table}


def _metrics(scores: Mapping[tuple[Any, Any], Mapping[str, Any]], row: str, name: str) -> dict[str, Any]:
    """The scores of a dance; empty if it was not scored."""
    line = scores.get((row, name), {})
    return shortened(
        {key: value for key, value in line.items() if key not in ("row", "dance", "song", "fps")}
    )
