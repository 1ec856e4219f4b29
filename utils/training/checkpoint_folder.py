"""The checkpoints of a run: the newest, a few before it, and those that stay.

    ckpt/last.pt             the newest
    ckpt/step_00001200.pt    the ones before it, `training.keep` with the newest
    ckpt/epoch_0050.pt       every `training.save_every` epochs; these stay

A kill at any moment leaves at least the newest but one; a damaged newest one is passed over, loudly.
"""

import logging
import os
import re
from pathlib import Path
from typing import Any

from utils.training.checkpoint import DamagedCheckpoint, copy_checkpoint, load_checkpoint, save_checkpoint

log = logging.getLogger(__name__)
_TRAINING = {"step", "optimizer", "scheduler", "random"}  # what training goes on from, besides the weights


class CheckpointFolder:
    """Saves, keeps and finds them.

    Args:
        folder: where they are.
        stage: whose they are.
        keep: how many of the newest are kept, last.pt counted.
        made_by: the command that makes them, for messages.
    """

    def __init__(self, folder: Path, stage: str, keep: int, made_by: str) -> None:
        self.folder, self.stage, self.keep, self.made_by = folder, stage, keep, made_by
        self.last_step: int | None = None  # of last.pt, where that is known to be whole
        self.good = "none yet"  # the newest whole one, in words
        self._damaged: list[Path] = []  # what `newest` passed over

    @property
    def last(self) -> Path:
        """The newest."""
        return self.folder / "last.pt"

    def save(self, content: dict[str, Any], stays_as: str | None = None) -> None:
        """Writes last.pt, keeps the one before as step_*.pt, drops what is too old.

        Args:
            content: see utils/training/checkpoint.py; its `step` names the file later.
            stays_as: name of a copy that stays, if it shall.
        """
        if self.keep > 1 and self.last_step is not None and self.last_step != content["step"]:
            before = self.folder / f"step_{self.last_step:08d}.pt"
            before.unlink(missing_ok=True)
            try:  # for a moment one file of two names; the new last.pt then takes one of them away
                os.link(self.last, before)
            except OSError:  # a file system without links
                copy_checkpoint(self.last, before)
        save_checkpoint(content, self.last)
        self.last_step, self.good = content["step"], f"{self.last} (step {content['step']})"
        if stays_as:
            copy_checkpoint(self.last, self.folder / stays_as)
        for old in self._numbered("step")[max(self.keep - 1, 0) :]:
            old.unlink(missing_ok=True)

    def newest(self) -> tuple[Path, dict[str, Any]] | None:
        """The newest checkpoint that can be read, and where it is; None if there is none at all.

        Raises:
            DamagedCheckpoint: if there are some, and none can be read.
            ValueError: if one is of another stage, of no stage of ours, or holds weights only.
        """
        found = [self.last, *self._numbered("step"), *self._numbered("epoch")]
        found = [path for path in found if path.is_file()]
        problems: list[str] = []
        self._damaged = []
        for path in found:
            try:
                content = load_checkpoint(path, self.made_by, (self.stage,))
            except DamagedCheckpoint as error:
                self._damaged.append(path)
                problems.append(str(error).split("; make it anew")[0])
                continue
            if not _TRAINING <= content.keys():
                raise ValueError(
                    f"checkpoint {path} holds weights but no state of training, as converted published files "
                    f"do: --train cannot go on from it. To train anew, move {self.folder} away; to use the "
                    "weights, name the file in a later stage's config, or as `checkpoint` of --eval"
                )
            self.last_step = content["step"] if path == self.last else None
            self.good = f"{path} (step {content['step']})"
            for problem in problems:
                log.warning("WARNING: %s", problem)
            if path != self.last:
                lost = "" if problems else f"{self.last} is missing: "
                log.warning("WARNING: %sgoing on from %s, step %d", lost, path, content["step"])
            return path, content
        if problems:
            raise DamagedCheckpoint(
                f"none of {len(found)} checkpoints can be read: {'; '.join(problems)}; move {self.folder} "
                f"away and make them anew by: {self.made_by}"
            )
        return None

    def tidy(self) -> None:
        """Removes what a kill in the middle of a save left beside; renames what `newest` passed over."""
        for path in self._damaged:
            path.replace(path.with_name(f"{path.name}.damaged"))
        self._damaged = []
        for path in self.folder.glob("*.pt.*.tmp"):
            path.unlink(missing_ok=True)

    def _numbered(self, word: str) -> list[Path]:
        """step_*.pt or epoch_*.pt, the newest first."""
        found = {path: re.fullmatch(rf"{word}_(\d+)\.pt", path.name) for path in self.folder.glob("*.pt")}
        numbers = {path: int(match[1]) for path, match in found.items() if match}
        return sorted(numbers, key=lambda path: numbers[path], reverse=True)
