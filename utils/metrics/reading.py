"""Anybody's dances: which files of a folder are dances, and how each kind is read.

.npz          joints (T, 24, 3) or (T, 72) under `joints`, or SMPL parameters; optionally music_beats,
fps, song .npy          (T, 24, 3) or (T, 72) positions in metres
.pkl.npy      the published system's results: a dict with `pred_position` (T, 72)
.pkl .pickle  AIST++ or SMPL parameters: smpl_poses, smpl_trans and, if there, smpl_scaling
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from utils.metrics.checks import as_joints
from utils.metrics.dances import Dance
from utils.pickles import load_npy, load_pickle
from utils.skeleton import SMPL_24
from utils.smpl import forward_kinematics

SUFFIXES = (".npz", ".npy", ".pkl", ".pickle")
POSITIONS = ("joints", "pred_position", "positions")
BEATS = ("music_beats", "beats")
UpAxis = Literal["y", "z"]


class Found(NamedTuple):
    """Dances that were read, and what was not a dance -> why."""

    dances: list[Dance]
    skipped: dict[str, str]


def dance_name(path: Path) -> str:
    """File name without its dance suffixes: gBR_x.pkl.npy is gBR_x."""
    name = path.name
    while Path(name).suffix.lower() in SUFFIXES:
        name = Path(name).stem
    return name


def read_dances(path: Path, fps: float = SMPL_24.fps, up: UpAxis = "y", skip_bad: bool = False) -> Found:
    """Reads a file, or all dances of a folder (not of folders in it), sorted by name.

    Args:
        path: file or folder.
        fps: frame rate in Hz of files that do not say theirs.
        up: the axis that points up in the files.
        skip_bad: leave out dances that cannot be read, too, and say why, instead of stopping.

    Raises:
        FileNotFoundError: if there is no such path.
        ValueError: naming the file, if one that should be a dance is not, or if no dance is left.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; a file or a folder of dances is expected")
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    dances: list[Dance] = []
    skipped: dict[str, str] = {}
    for file in files:
        if file.is_dir():
            skipped[file.name] = "a folder"
        elif file.suffix.lower() not in SUFFIXES:
            skipped[file.name] = f"not a dance: {file.suffix or 'no suffix'} is none of {' '.join(SUFFIXES)}"
        else:
            try:
                dances.append(read_dance(file, fps, up))
            except NotADance as reason:
                skipped[file.name] = str(reason)
            except ValueError as error:
                if not skip_bad:
                    raise
                skipped[file.name] = str(error)
    if not dances:
        why = "; ".join(f"{name}: {reason}" for name, reason in list(skipped.items())[:3])
        raise ValueError(f"there is no dance in {path}{f' ({why})' if why else ''}")
    return Found(dances, skipped)


class NotADance(Exception):
    """The file is of ours, but holds something else."""


def read_dance(path: Path, fps: float = SMPL_24.fps, up: UpAxis = "y") -> Dance:
    """Reads one file.

    Raises:
        ValueError: naming the file and what is wrong with it.
        NotADance: if it holds reference features.
    """
    try:
        content = _content(path)
        fields: Mapping[str, Any] = content if isinstance(content, Mapping) else {"joints": content}
        if "reference_format" in fields:
            raise NotADance("it holds reference features, not a dance")
        fps = float(fields.get("fps", fps))
        joints = _positions(fields)
        joints = as_joints(joints if up == "y" else joints[..., [0, 2, 1]] * np.array([1.0, 1.0, -1.0]), fps)
        beats = next((np.asarray(fields[key]) for key in BEATS if key in fields), None)
        return Dance(dance_name(path), joints, beats, fps, str(fields.get("song", "")))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _content(path: Path) -> Any:
    try:
        if path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return dict(file)
        if path.suffix.lower() == ".npy":
            return load_npy(path, "it")
        return load_pickle(path.read_bytes(), "it")
    except (zipfile.BadZipFile, EOFError, OSError, MemoryError) as error:
        raise ValueError(f"it is damaged ({error})") from None


def _positions(fields: Mapping[str, Any]) -> np.ndarray:
    """(T, 24, 3) positions from what a file holds."""
    num = SMPL_24.num_joints
    for key in POSITIONS:
        if key in fields:
            positions = np.asarray(fields[key], np.float64)
            if positions.ndim == 3 and positions.shape[0] == 1 and positions.shape[2] == 3 * num:
                positions = positions[0]  # a batch of one
            if positions.ndim == 2 and positions.shape[1] == 3 * num:
                positions = positions.reshape(-1, num, 3)
            if positions.ndim != 3 or positions.shape[1:] != (num, 3):
                raise ValueError(f"{key} must be (T, {num}, 3) or (T, {3 * num}), got {positions.shape}")
            return positions
    if "smpl_poses" in fields and "smpl_trans" in fields:
        scaling = np.asarray(fields.get("smpl_scaling", 1.0), np.float64)
        if scaling.size != 1 or not np.isfinite(scaling).all() or (scaling <= 0).any():
            raise ValueError(f"smpl_scaling must be one positive number, got {scaling.tolist()}")
        poses = np.asarray(fields["smpl_poses"], np.float64)
        if not np.isfinite(poses).all():
            raise ValueError(f"smpl_poses must be finite, got {poses[~np.isfinite(poses)][0]}")
        return forward_kinematics(
            poses.reshape(len(poses), -1), np.asarray(fields["smpl_trans"]) / scaling.item()
        )
    raise ValueError(
        f"it holds {', '.join(map(str, list(fields)[:6])) or 'nothing'}; "
        f"one of {', '.join(POSITIONS)} or smpl_poses and smpl_trans is expected"
    )
