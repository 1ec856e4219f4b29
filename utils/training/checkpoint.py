"""Checkpoints: written beside and renamed, read without trusting them, and clear about what is wrong.

A checkpoint is a dict of plain containers and tensors: `format`, `stage`, `architecture` (what is needed to
build the model again), `model` (its state dict), `config` (the resolved YAML), and for resuming `epoch` (how
many are done), `batch` (how many of the next one are), `step`, `optimizer`, `scheduler`, `random`.

The file is what torch.save writes, a zip archive, whose comment holds the SHA-256 of all the rest: torch
reads it like any other, and no second file can get lost or be of another moment. (torch checks no checksum.)
"""

import hashlib
import os
import pickle
import shutil
import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import nn

FORMAT = 2  # 1 had no checksum; it is still read
_MARK = b"sha256:"
_COMMENT = len(_MARK) + 64


class DamagedCheckpoint(ValueError):
    """A checkpoint that cannot be read, or is not what was written."""


def save_checkpoint(content: dict[str, Any], path: Path) -> None:
    """Writes a checkpoint so that a kill at any moment leaves either the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("w+b") as file:
            torch.save({"format": FORMAT, **content}, file)
            _seal(file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def copy_checkpoint(source: Path, path: Path) -> None:
    """A copy that is whole or not there; no link, so that what happens to one file spares the other."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with source.open("rb") as old, beside.open("wb") as new:
            shutil.copyfileobj(old, new, 1 << 24)
            new.flush()
            os.fsync(new.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _seal(file: BinaryIO) -> None:
    """Puts the checksum of a zip archive without comment into its comment, which ends the file."""
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    file.seek(-2, os.SEEK_END)
    file.write(struct.pack("<H", _COMMENT) + _MARK + digest.encode())


def _sealed(path: Path) -> bool | None:
    """Whether the file is what its checksum says; None if it holds none."""
    with path.open("rb") as file:
        rest = file.seek(0, os.SEEK_END) - _COMMENT - 2
        if rest < 0:
            return None
        file.seek(rest + 2)
        comment = file.read()
        if not comment.startswith(_MARK):
            return None
        file.seek(0)
        digest, left = hashlib.sha256(), rest
        while left and (block := file.read(min(left, 1 << 20))):
            digest.update(block)
            left -= len(block)
        digest.update(b"\0\0")  # the length of the comment, when there was none
        return digest.hexdigest().encode() == comment[len(_MARK) :]


def load_checkpoint(path: Path, made_by: str, stages: tuple[str, ...] = ()) -> dict[str, Any]:
    """Reads a checkpoint of ours onto the CPU.

    Args:
        path: the file.
        made_by: the command that makes it, for the message when it is missing.
        stages: which stages' checkpoints will do; any if empty.

    Raises:
        FileNotFoundError: if it is missing.
        DamagedCheckpoint: if it is truncated, or differs from what was written.
        ValueError: if it is not a checkpoint of ours, or of another stage.
    """
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {path} is missing; it is made by: {made_by}")
    try:
        sealed = _sealed(path)
        if sealed is False:
            raise ValueError("its checksum differs: it is not what was written")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).split("\n")[0]
        raise DamagedCheckpoint(
            f"checkpoint {path} is damaged, or holds objects that are not read from untrusted files "
            f"({reason}); make it anew by: {made_by}"
        ) from None
    except (RuntimeError, EOFError, zipfile.BadZipFile, OSError, KeyError, ValueError) as error:
        reason = str(error).strip().split("\n")[0].split(". ")[0]
        raise DamagedCheckpoint(
            f"checkpoint {path} is damaged ({reason}); make it anew by: {made_by}"
        ) from None
    if not isinstance(content, dict) or "format" not in content:
        raise ValueError(f"{path} is not a checkpoint of this project; one is made by: {made_by}")
    if content["format"] not in (1, FORMAT):
        raise ValueError(
            f"checkpoint {path} has format {content['format']}, this version reads formats 1 and {FORMAT}"
        )
    if content["format"] == FORMAT and sealed is None:
        raise DamagedCheckpoint(
            f"checkpoint {path} is damaged (its checksum is gone); make it anew by: {made_by}"
        )
    if stages and content["stage"] not in stages:
        raise ValueError(
            f"checkpoint {path} is of stage {content['stage']!r}, here one of {' or '.join(stages)} "
            f"is needed; it is made by: {made_by}"
        )
    return content


def load_weights(model: nn.Module, state: dict[str, Any], path: Path) -> None:
    """Loads a state dict strictly, naming what does not fit.

    A model that has renamed its parameters or buffers has a method `current_name`, by which state dicts with
    the former names are read.

    Raises:
        ValueError: naming missing and extra keys and differing shapes.
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
    model.load_state_dict(state)


def _some(what: str, items: list[str], most: int = 3) -> str:
    if not items:
        return ""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return f"{len(items)} {what} ({', '.join(items[:most])}{more})"
