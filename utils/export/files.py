"""Files appear whole or not at all; and the one format in which a dance's joints are kept."""

import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from utils.skeleton import SMPL_24


def written(path: Path, content: bytes) -> None:
    """Write a file beside and rename it, making its folder if it is not there."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    beside.write_bytes(content)
    beside.replace(path)


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """An .npz that is read without pickles."""
    memory = io.BytesIO()
    np.savez(memory, **arrays)
    written(path, memory.getvalue())


def save_motion(
    path: Path,
    joints: np.ndarray,
    codes: np.ndarray | None = None,
    fps: float = SMPL_24.fps,
    provenance: Mapping[str, str | int | float] | None = None,
) -> None:
    """Write joints and codes as .npz: the format of an evaluation's motions, and what came from where.

    Args:
        path: of the file.
        joints: (T, J, 3) metres.
        codes: (T', 2) upper and lower codes; none if None.
        fps: frame rate of the joints, in Hz.
        provenance: facts such as song, checkpoint and seed; kept as JSON, the song also by itself.
    """
    facts = dict(provenance or {})
    write_arrays(
        path,
        joints=np.asarray(joints, np.float32),
        codes=np.zeros((0, 2), np.int64) if codes is None else np.asarray(codes, np.int64),
        fps=np.asarray(fps),
        song=np.asarray(str(facts.get("song", ""))),
        provenance=np.asarray(json.dumps(facts)),
    )
