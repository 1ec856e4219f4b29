"""Checkpoints: the file, the folder of a run that keeps the newest ones, and the lock on that folder.

A checkpoint is a dict of plain containers and tensors: `format`; what the stage's `state_dict` returns
(`stage`, `architecture`, `model`, `config`, ...); and the state of training: `epoch` (epochs done), `batch`
(batches done of the next one), `step`, `optimizer`, `scheduler`, `random`. The file is what torch.save
writes, a zip archive with a CRC per record, which torch does not compare and `load_checkpoint` does.

    ckpt/last.pt             the newest checkpoint
    ckpt/step_00001200.pt    the ones before it; with the newest, training.keep_last of them are kept
    ckpt/epoch_0050.pt       every training.save_every epochs; these are never deleted

A kill at any moment leaves at least one whole checkpoint; a damaged newest one is skipped with a warning.
"""

import errno
import logging
import os
import pickle
import re
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from utils.folder_lock import folder_lock
from utils.training import distributed

log = logging.getLogger(__name__)

FORMAT = 3  # Format 1, and format 2 with a SHA-256 in the archive's comment, are still read.
_RENAMED = {"choice": "selection"}  # entries of formats 1 and 2 and their present names
_TRAINING = {
    "epoch",
    "step",
    "optimizer",
    "scheduler",
    "random",
}  # the entries that resuming needs besides weights
_ENTRIES: dict[str, type] = {
    "stage": str, "model": dict, "architecture": dict, "config": dict, "built_on": dict,
    "epoch": int, "batch": int, "step": int, "optimizer": dict, "scheduler": dict,
}  # fmt: skip
_NOT_WRITABLE = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class DamagedCheckpoint(ValueError):
    """A checkpoint that cannot be read, or whose content differs from what was written."""


def save_checkpoint(content: dict[str, Any], path: Path) -> None:
    """Write a checkpoint such that a kill at any moment leaves either the old file or the new one.

    Raises:
        OSError: if the folder is read-only or full; the old file is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _replacing(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save({"format": FORMAT, **content}, file)
        except RuntimeError as error:  # raised by torch when it closes the archive after a failed write
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
        file.flush()
        os.fsync(file.fileno())


def copy_checkpoint(source: Path, path: Path) -> None:
    """Copy a checkpoint; the copy is complete or absent, and shares no data with the source."""
    with _replacing(path) as temporary, source.open("rb") as old, temporary.open("wb") as new:
        shutil.copyfileobj(old, new, 1 << 24)
        new.flush()
        os.fsync(new.fileno())


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` at the end of the block, or is deleted on an error."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(path: Path, made_by: str, stages: tuple[str, ...] = ()) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Args:
        path: the file.
        made_by: the command that makes it, for error messages.
        stages: the stages whose checkpoints are accepted; any stage if empty.

    Raises:
        FileNotFoundError: if the file is missing.
        DamagedCheckpoint: if it is truncated, or a CRC differs.
        ValueError: if it is not a checkpoint of this project, or of another stage.
    """
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {path} is missing; it is made by: {made_by}")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"the checksum of its record {damaged} differs")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).split("\n")[0]
        raise DamagedCheckpoint(
            f"checkpoint {path} is damaged, or holds objects that are not read from untrusted files "
            f"({reason}); make it again by: {made_by}"
        ) from None
    except (
        RuntimeError,
        EOFError,
        zipfile.BadZipFile,
        OSError,
        KeyError,
        ValueError,
        NotImplementedError,
    ) as error:
        reason = str(error).strip().split("\n")[0].split(". ")[0]
        raise DamagedCheckpoint(
            f"checkpoint {path} is damaged ({reason}); make it again by: {made_by}"
        ) from None
    if not isinstance(content, dict) or "format" not in content:
        raise ValueError(f"{path} is not a checkpoint of this project; one is made by: {made_by}")
    if content["format"] not in range(1, FORMAT + 1):
        raise ValueError(
            f"checkpoint {path} has format {content['format']}; this version reads formats 1 to {FORMAT}"
        )
    wrong = [name for name, kind in _ENTRIES.items() if not isinstance(content.get(name, kind()), kind)]
    if not wrong and not all(map(torch.is_tensor, content.get("model", {}).values())):
        wrong = ["model"]
    if wrong:
        raise DamagedCheckpoint(
            f"checkpoint {path} is damaged ({', '.join(wrong)} of another type); make it again by: {made_by}"
        )
    if stages and content.get("stage") not in stages:
        raise ValueError(
            f"checkpoint {path} is of stage {content.get('stage')!r}, here one of {' or '.join(stages)} "
            f"is needed; it is made by: {made_by}"
        )
    return {_RENAMED.get(str(key), str(key)): value for key, value in content.items()}


def load_weights(model: nn.Module, state: dict[str, Any], path: Path) -> None:
    """Load a state dict strictly.

    A model that has renamed its parameters or buffers has a method `current_name`, by which state dicts with
    the former names are read.

    Raises:
        ValueError: naming missing and extra keys, differing shapes and weights that are NaN.
    """
    own = model.state_dict()
    current_name = getattr(model, "current_name", str)
    state = {current_name(key): value for key, value in state.items()}
    missing = [key for key in own if key not in state]
    extra = [key for key in state if key not in own]
    shapes = [
        f"{key} is {tuple(state[key].shape)} in the file and {tuple(own[key].shape)} in the config"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    problems = [
        _some("missing", missing),
        _some("not in this architecture", extra),
        _some("of another size", shapes),
    ]
    if any(problems):
        raise ValueError(
            f"checkpoint {path} is of another architecture: {'; '.join(p for p in problems if p)}. "
            "Use the config it was trained with, or another run name."
        )
    undefined = [key for key in own if state[key].is_floating_point() and state[key].isnan().any()]
    if undefined:
        raise ValueError(
            f"checkpoint {path} is damaged: {_some('holding NaN', undefined)}; "
            "use an earlier one, or train again"
        )
    model.load_state_dict(state)


def _some(what: str, items: list[str], most: int = 3) -> str:
    if not items:
        return ""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return f"{len(items)} {what} ({', '.join(items[:most])}{more})"


class CheckpointFolder:
    """The checkpoints of a run.

    Args:
        folder: the folder that holds them.
        stage: the stage they must be of.
        keep_last: number of newest checkpoints to keep, last.pt included.
        made_by: the command that makes them, for error messages.
    """

    def __init__(self, folder: Path, stage: str, keep_last: int, made_by: str) -> None:
        self.folder, self.stage, self.keep_last, self.made_by = folder, stage, keep_last, made_by
        self.last_step: int | None = None  # step of last.pt if that file is known to be whole
        self.last_good = "none yet"  # description of the newest whole checkpoint, for error messages
        self._damaged: list[Path] = []  # files that `newest` skipped

    @property
    def last(self) -> Path:
        """Path of the newest checkpoint."""
        return self.folder / "last.pt"

    def save(self, content: dict[str, Any], permanent_name: str | None = None) -> None:
        """Write last.pt, keep the checkpoint before it as step_*.pt, and delete the oldest ones.

        Args:
            content: the checkpoint; its `step` names the file later.
            permanent_name: file name of a copy that is never deleted, if one is wanted.
        """
        if self.keep_last > 1 and self.last_step is not None and self.last_step != content["step"]:
            before = self.folder / f"step_{self.last_step:08d}.pt"
            before.unlink(missing_ok=True)
            try:  # The two names share one file until the new last.pt replaces one of them.
                os.link(self.last, before)
            except OSError:  # The file system has no links.
                copy_checkpoint(self.last, before)
        save_checkpoint(content, self.last)
        self.last_step, self.last_good = content["step"], f"{self.last} (step {content['step']})"
        if permanent_name:
            copy_checkpoint(self.last, self.folder / permanent_name)
        for old in self._numbered("step")[max(self.keep_last - 1, 0) :]:
            old.unlink(missing_ok=True)

    def newest(self) -> tuple[Path, dict[str, Any]] | None:
        """Return the newest readable checkpoint and its path, or None if there are no checkpoints.

        Raises:
            DamagedCheckpoint: if there are checkpoints, and none can be read.
            ValueError: if one is of another stage, not of this project, or holds weights only.
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
                problems.append(str(error).split("; make it again")[0])
                continue
            if not _TRAINING <= content.keys():
                raise ValueError(
                    f"checkpoint {path} holds weights but no state of training, as converted published files "
                    f"do: --train cannot resume from it. To train from the start, move {self.folder} away; "
                    "to use the weights, name the file in a later stage's config or as `checkpoint` of --eval"
                )
            self.last_step = content["step"] if path == self.last else None
            self.last_good = f"{path} (step {content['step']})"
            for problem in problems:
                log.warning("WARNING: %s", problem)
            if path != self.last:
                lost = "" if problems else f"{self.last} is missing: "
                log.warning("WARNING: %sresuming from %s, step %d", lost, path, content["step"])
            return path, content
        if problems:
            raise DamagedCheckpoint(
                f"none of {len(found)} checkpoints can be read: {'; '.join(problems)}; move {self.folder} "
                f"away and make them again by: {self.made_by}"
            )
        return None

    def tidy(self) -> None:
        """Delete temporary files of killed saves, and rename the damaged files that `newest` skipped."""
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


@contextmanager
def run_folder(folder: Path) -> Iterator[None]:
    """Reserve a run folder for one training, and report in one line if it cannot be written.

    The lock (`utils.folder_lock`) is that of the main process.

    Raises:
        ValueError: if another training holds the folder, or if it is read-only or full.
    """
    try:
        if not distributed.is_main():
            yield
            return
        cure = "Wait for it or stop it, or train under another name (name=...)"
        with folder_lock(folder, "trains", cure):
            yield
    except OSError as error:
        place = folder if error.filename is None else Path(os.fsdecode(error.filename))
        if error.errno not in _NOT_WRITABLE or not (place.is_relative_to(folder) or place in folder.parents):
            raise
        raise ValueError(
            f"the run folder {folder} cannot be written: {error.strerror}. Existing checkpoints are whole; "
            "free space or grant write access and start the same command again, or choose another folder "
            "(output=...)"
        ) from error
