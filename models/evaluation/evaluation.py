"""How a stage is judged: its dances, beside control rows, become a table, files, plots and videos.

Every table holds the real dances, the real dances with their songs shuffled, the floor of FID at this number
of dances, and, where the memory can decode on its own, dances of uniformly random codes: without them nobody
can tell what a number means.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from datasets.reference import real_reference
from datasets.sequences import PreparedData
from models.evaluation.dances import DanceMaker, EvaluationConfig, MadeDance
from models.evaluation.judging import (
    all_scored,
    as_scored,
    file_names,
    reconstruction,
    render,
    with_columns,
    write_motions,
)
from models.inference.pages import write_judged_pages
from models.vqvae import ChoreographicMemory
from utils.metrics.pictures import save_plots
from utils.metrics.protocols import PROTOCOLS, ProtocolName
from utils.metrics.report import Report, evaluate, write_report
from utils.training import distributed


class Evaluation(DanceMaker):
    """Makes dances of a split and judges them."""

    def __init__(
        self, data: PreparedData, config: EvaluationConfig, memory: ChoreographicMemory, seed: int
    ) -> None:
        super().__init__(data, config.split, config.length, memory, seed)
        self.config = config

    def report(
        self,
        folder: Path,
        rows: Mapping[str, Sequence[MadeDance]],
        shown: str,
        title: str,
        rl_split: str | None = None,
    ) -> dict[str, dict[str, Any]]:
        """Scores the rows beside the control rows, and writes everything into the folder.

        The numbers are printed and written first: whatever fails in a picture or a video, they are there.
        With several processes the main one does it all but the videos, of which each makes a share.

        Args:
            folder: metrics.json, dances.csv, table.md, motions/, plots/, videos/, players/ and index.html go
                here.
            rows: dances under the name of their row, the control rows first.
            shown: the row that is judged, plotted and rendered.
            title: of the table.
            rl_split: the split whose songs reinforcement learning of the shown row danced to; None: there
                was none.

        Returns:
            Row name -> metric name -> value; nothing in other processes than the main one.

        Raises:
            ValueError: if a dance cannot be scored.
        """
        rows = {name: dances for name, dances in rows.items() if dances}
        if not distributed.is_main():
            self._videos(folder, rows[shown], shown)
            return {}
        first, *others = PROTOCOLS if self.config.protocol == "both" else (self.config.protocol,)
        report = self._judge(rows, shown, title, rl_split, first)
        write_report(report, folder)
        print(f"\n# {title}: {shown}, {len(rows[shown])} dances of split {self.split!r}\n{report.markdown()}")
        for other in others:
            again = self._judge(rows, shown, title, rl_split, other)
            write_report(again, folder / other)
            print(again.markdown())
        for name, dances in rows.items():
            facts = {"run": title, "row": name, "evaluation": folder.name, **self._facts()}
            write_motions(folder / "motions" / name.replace(" ", "_"), self.data, dances, facts)
        if self.config.plots:
            dances = as_scored(self.data, rows[shown])
            names = file_names(self.data)
            save_plots(report, dances, self.reference, folder / "plots", self.config.max_frames, names)
        some = rows[shown][: self.config.videos]
        failed = self._videos(folder, some, shown)
        if failed:
            print(f"{len(failed)} of {len(some)} videos could not be made: {', '.join(failed)}")
        if self.config.players:
            rows = {**rows, "real": self.real}
            per_code = self.memory.frames_per_code
            failed = write_judged_pages(
                folder, self.data, report, rows, self.reference, self.config.players, per_code
            )
            if failed:
                print(f"could not be made: {', '.join(failed)}")
        print(f"all of this is in {folder}")
        return report.rows

    def _facts(self) -> dict[str, str | int | float]:
        """Where dances came from, as far as it is known here."""
        facts = {"data": str(self.data.root), "split": self.split, "seed": self.seed}
        return {**facts, "music_features": self.data.feature_version}

    def _videos(self, folder: Path, dances: Sequence[MadeDance], label: str) -> list[str]:
        """Renders the first of the dances, a share in each process; the names of those that failed."""
        some = [dances[i] for i in distributed.own_share(len(dances[: self.config.videos]))]
        per_code, height = self.memory.frames_per_code, self.config.video_height
        failed = render(folder / "videos", self.data, some, label, per_code, height)
        shares = [dance.name if dance.name in failed else "" for dance in some]
        return [name for name in distributed.gather_shares(shares) if name]

    def _judge(
        self,
        rows: Mapping[str, Sequence[MadeDance]],
        shown: str,
        title: str,
        rl_split: str | None,
        protocol: ProtocolName,
    ) -> Report:
        self.reference = real_reference(self.data)
        scored = all_scored(self.data, rows, self.config.max_frames)
        heard = self._rl_songs(rl_split)
        songs = {dance.song for dance in rows[shown]}
        report = evaluate(
            scored[shown],
            self.reference,
            protocol,
            name=shown,
            beside={name: scored[name] for name in reversed(scored) if name != shown},
            max_frames=self.config.max_frames,
            rl_saw_songs=bool(songs & heard),
            first_code="fixed" if self.only_songs else "real",
            seed=self.seed,
        )
        where = {"run": title, "judged": shown, "data": str(self.data.root), "split": self.split}
        where["songs"] = f"{len(songs)}, {len(songs & heard)} of them danced to in reinforcement learning"
        report = replace(report, settings={**where, **report.settings})
        columns = {
            name: reconstruction(self.real, dances, self.memory.num_codes)
            for name, dances in rows.items()
            if name.startswith("memory")
        }
        return with_columns(report, columns)

    def _rl_songs(self, split: str | None) -> set[str]:
        if split is None:
            return set()
        if self.only_songs:
            return set(self.data.songs)
        return {self.data.sequence(name).song for name in self.data.names(split)}
