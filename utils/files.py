"""Atomic writes: a file is written under a temporary name beside its destination, then renamed."""

import io
import os
import zipfile
import zlib
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np

DAMAGED_ARRAY = (
    ValueError, TypeError, KeyError, SyntaxError, RecursionError, OverflowError, AttributeError, EOFError,
    OSError, MemoryError, NotImplementedError, RuntimeError, TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""Exceptions of NumPy and zipfile on damaged .npy and .npz files; headers are parsed as Python text."""

AUDIO_SUFFIXES = (
    ".wav", ".flac", ".aif", ".aiff", ".mp3", ".m4a", ".aac", ".ogg", ".opus", ".wma", ".mp4", ".webm",
)  # fmt: skip
"""What a song or a video with a sound track may be called; of doubles the one that comes first is taken."""


def write_beside(path: Path, content: bytes | memoryview) -> None:
    """Writes a file beside its place and renames it; a kill or a full disk leaves what was there before.

    Args:
        path: of the file; its folder is made if missing.
        content: all of it.

    Raises:
        OSError: if it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_bytes(content)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_npz(path: Path, **arrays: object) -> None:
    """Writes a .npz file of arrays (or what NumPy makes one of) the same way.

    Raises:
        OSError: if it cannot be written.
    """
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    write_beside(path, buffer.getbuffer())


def one_number(value: Any, field: str) -> float:
    """The number in a field of a file: a scalar, or an array or list in which all values are that number.

    Raises:
        ValueError: naming the field, if it holds no number, several, or none that is finite.
    """
    try:
        numbers = np.unique(np.asarray(value).astype(np.float64))
    except (ValueError, TypeError):
        numbers = np.zeros(0)
    if len(numbers) != 1 or not np.isfinite(numbers[0]):
        raise ValueError(f"{field} must be one number, got {np.asarray(value).tolist()!r:.80}")
    return float(numbers[0])
