"""The one format in which a dance's joints are kept."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from utils.files import write_npz
from utils.metrics.beats import beat_indices
from utils.skeleton import SMPL_24


def save_motion(
    path: Path,
    joints: np.ndarray,
    codes: np.ndarray | None = None,
    fps: float = SMPL_24.fps,
    provenance: Mapping[str, str | int | float] | None = None,
    music_beats: np.ndarray | None = None,
) -> None:
    """Write joints and codes as .npz: the format of an evaluation's motions, and what came from where.

    Args:
        path: of the file.
        joints: (T, J, 3) metres.
        codes: (T', 2) upper and lower codes; none if None.
        fps: frame rate of the joints, in Hz.
        provenance: facts such as song, checkpoint and seed; kept as JSON, the song also by itself.
        music_beats: (N,) bool flags per frame or frame indices; the frames of those in the dance are kept.
            None: the music is not known, and nothing is said of it.
    """
    facts = dict(provenance or {})
    beats = {} if music_beats is None else {"music_beats": beat_indices(music_beats, len(joints))}
    write_npz(
        Path(path),
        joints=np.asarray(joints, np.float32),
        codes=np.zeros((0, 2), np.int64) if codes is None else np.asarray(codes, np.int64),
        fps=np.asarray(fps),
        song=np.asarray(str(facts.get("song", ""))),
        provenance=np.asarray(json.dumps(facts)),
        **beats,
    )
