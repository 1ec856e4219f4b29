"""Read dances of any system: recognise the dance files of a folder, and load each kind.

.npz          `joints` (T, 24, 3) or (T, 72), or SMPL parameters, and any of the other arrays that
              `utils.dance` names
.npy          (T, 24, 3) or (T, 72) positions in metres
.pkl.npy      the published system's results: a dict with `pred_position` (T, 72)
.pkl .pickle  AIST++ or SMPL parameters: smpl_poses, smpl_trans and, if there, smpl_scaling
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from utils.dance import Dance, dance_of, load_arrays
from utils.files import DAMAGED_ARRAY
from utils.metrics.checks import as_joints
from utils.pickles import load_npy, load_pickle
from utils.plausibility import Findings, Stretch, bridged, inspect, lost_frames
from utils.recording import UpAxis, to_y_up
from utils.skeleton import SMPL_24
from utils.smpl import forward_kinematics

SUFFIXES = (".npz", ".npy", ".pkl", ".pickle")
SMPL_COPY = "_smpl"  # NAME_smpl.npz, beside NAME.npz, is the same dance as SMPL parameters
FLAT_WIDTHS = range(45, 181, 3)  # columns of arrays that could be joints, of a body of 15 to 60 joints
POSITIONS = ("joints", "pred_position", "positions")


class Recording(NamedTuple):
    """A dance that was read, what `utils.plausibility` finds in it, and its frames that were replaced."""

    dance: Dance
    findings: Findings
    lost: list[Stretch]


class Found(NamedTuple):
    """Dances that were read, what was not a dance -> why, and remarks on dances by their names."""

    dances: list[Dance]
    skipped: dict[str, str]
    remarks: dict[str, list[str]]


def dance_name(path: Path) -> str:
    """File name without its dance suffixes: gBR_x.pkl.npy is gBR_x."""
    name = path.name
    while Path(name).suffix.lower() in SUFFIXES:
        name = Path(name).stem
    return name


def read_dances(path: Path, fps: float = SMPL_24.fps, up: UpAxis = "y", skip_bad: bool = False) -> Found:
    """Reads a file, or all dances of a folder (not of folders in it), sorted by name.

    In a folder, what is no dance is passed over: other suffixes, hidden files, files that hold something
    else, and the SMPL parameters that `--dance` and the export write beside a dance.

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
    names = {dance_name(file) for file in files if file.suffix.lower() in SUFFIXES}
    dances: list[Dance] = []
    skipped: dict[str, str] = {}
    remarks: dict[str, list[str]] = {}
    for file in files:
        if file.is_dir():
            skipped[file.name] = "a folder"
        elif path.is_dir() and file.name.startswith("."):
            skipped[file.name] = "a hidden file"
        elif file.suffix.lower() not in SUFFIXES:
            skipped[file.name] = f"not a dance: {file.suffix or 'no suffix'} is none of {' '.join(SUFFIXES)}"
        elif dance_name(file).removesuffix(SMPL_COPY) in names - {dance_name(file)}:
            skipped[file.name] = f"the SMPL parameters of {dance_name(file).removesuffix(SMPL_COPY)}"
        else:
            try:
                dance, findings, _ = read_recording(file, fps, up)
                dances.append(dance)
                if findings.remarks:
                    remarks[dance.name] = findings.remarks
            except NotADance as reason:
                skipped[file.name] = reason.why
            except ValueError as error:
                if not skip_bad:
                    raise
                skipped[file.name] = str(error)
    if not dances:
        why = "; ".join(f"{name}: {reason}" for name, reason in list(skipped.items())[:3])
        raise ValueError(f"there is no dance in {path}{f' ({why})' if why else ''}")
    return Found(dances, skipped, remarks)


class NotADance(ValueError):
    """The file can be read, but holds something else; `why` says what, without the file's name."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: {why}")
        self.why = why


def read_dance(path: Path, fps: float = SMPL_24.fps, up: UpAxis = "y") -> Dance:
    """Reads one file, as `read_recording`."""
    return read_recording(path, fps, up).dance


def read_recording(path: Path, fps: float = SMPL_24.fps, up: UpAxis = "y", bridge: bool = False) -> Recording:
    """Reads one file and checks its motion.

    Args:
        path: of the file.
        fps: frame rate in Hz, if the file does not say it.
        up: the axis that points up in the file.
        bridge: replace lost frames (`utils.plausibility.lost_frames`) instead of refusing frames that are not
            finite.

    Raises:
        NotADance: if it holds something else.
        ValueError: naming the file and what is wrong with it.
    """
    try:
        content = _content(path)
        if why := _no_dance(content):
            raise NotADance(path, why)
        fields: Mapping[str, Any] = content if isinstance(content, Mapping) else {"joints": content}
        if "music_beats" not in fields and "beats" in fields:
            fields = {**fields, "music_beats": fields["beats"]}
        dance = dance_of(dance_name(path), {**fields, "joints": _positions(fields)}, fps)
        joints, lost = to_y_up(dance.joints, up), []
        if bridge:
            lost = lost_frames(joints, dance.fps)
            joints = bridged(joints, lost)
        kept = dance.rotations if up == "y" and not lost else None  # others belong to other joints
        dance = replace(dance, joints=as_joints(joints, dance.fps), rotations=kept)
        return Recording(dance, inspect(dance.joints, dance.fps, poses=_rotations(fields)), lost)
    except NotADance:
        raise
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        raise ValueError(f"{path}: {error}") from None


def _content(path: Path) -> Any:
    try:
        if path.suffix.lower() == ".npz":
            return load_arrays(path)
        if path.suffix.lower() == ".npy":
            return load_npy(path, "it")
        return load_pickle(path.read_bytes(), "it")
    except DAMAGED_ARRAY as error:
        raise ValueError(f"it is damaged ({error})") from None


def _no_dance(content: Any) -> str:
    """Why the content of a file is no dance, not even a bad one; '' if it is meant to be one."""
    if isinstance(content, Mapping):
        if "reference_format" in content:
            return "it holds reference features, not a dance"
        if any(key in content for key in (*POSITIONS, "smpl_poses")):
            return ""
        return (
            f"it holds {', '.join(map(str, list(content)[:6])) or 'nothing'}; "
            f"one of {', '.join(POSITIONS)} or smpl_poses and smpl_trans is expected"
        )
    try:
        array = np.asarray(content, np.float64)
    except (ValueError, TypeError):
        return f"it holds {type(content).__name__}, no array of numbers"
    if array.ndim == 3 or (array.ndim == 2 and array.shape[1] in FLAT_WIDTHS):
        return ""
    return f"it holds an array {array.shape}; joints (T, 24, 3) or (T, 72) are expected"


def _rotations(fields: Mapping[str, Any]) -> np.ndarray | None:
    """(T, 72) axis-angle rotations of a file whose positions follow from them."""
    if any(key in fields for key in POSITIONS):
        return None
    return np.asarray(fields["smpl_poses"], np.float64).reshape(len(fields["smpl_poses"]), -1)


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
    raise ValueError("it holds smpl_poses without smpl_trans; both are expected")
