"""Checkpoints: written beside and renamed, read without trusting them, and clear about what is wrong.

A checkpoint is a dict of plain containers and tensors: `format`, `stage`, `architecture` (what is needed to
build the model again), `model` (its state dict), `config` (the resolved YAML), and for resuming `epoch`,
`step`, `optimizer`, `scheduler`, `random`.
"""

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

FORMAT = 1


def save_checkpoint(content: dict[str, Any], path: Path) -> None:
    """Writes a checkpoint so that a kill at any moment leaves either the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            torch.save({"format": FORMAT, **content}, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def load_checkpoint(path: Path, made_by: str, stages: tuple[str, ...] = ()) -> dict[str, Any]:
    """Reads a checkpoint of ours onto the CPU.

    Args:
        path: the file.
        made_by: the command that makes it, for the message when it is missing.
        stages: which stages' checkpoints will do; any if empty.

    Raises:
        FileNotFoundError: if it is missing.
        ValueError: if it is truncated, not a checkpoint of ours, or of another stage.
    """
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {path} is missing; it is made by: {made_by}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).split("\n")[0]
        raise ValueError(
            f"checkpoint {path} is damaged, or holds objects that are not read from untrusted files "
            f"({reason}); make it anew by: {made_by}"
        ) from None
    except (RuntimeError, EOFError, zipfile.BadZipFile, OSError, KeyError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(f"checkpoint {path} is damaged ({reason}); make it anew by: {made_by}") from None
    if not isinstance(content, dict) or "format" not in content:
        raise ValueError(f"{path} is not a checkpoint of this project; one is made by: {made_by}")
    if content["format"] != FORMAT:
        raise ValueError(
            f"checkpoint {path} has format {content['format']}, this version reads format {FORMAT}"
        )
    if stages and content["stage"] not in stages:
        raise ValueError(
            f"checkpoint {path} is of stage {content['stage']!r}, here one of {' or '.join(stages)} "
            f"is needed; it is made by: {made_by}"
        )
    return content


def load_weights(model: nn.Module, state: dict[str, Any], path: Path) -> None:
    """Loads a state dict strictly, naming what does not fit.

    Raises:
        ValueError: naming missing and extra keys and differing shapes.
    """
    own = model.state_dict()
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
