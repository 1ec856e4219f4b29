"""Files that are there whole or not at all: written beside their place, then renamed."""

import io
import os
from pathlib import Path

import numpy as np


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
    np.savez(buffer, **arrays)
    write_beside(path, buffer.getbuffer())
