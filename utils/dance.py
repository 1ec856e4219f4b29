"""One dance: its record, the checks of its parts, and its .npz file.

A dance is a `Dance` from generation to every file. `save_dance` and `load_dance` are the only writer and
reader of the .npz files that `--dance`, `--eval` and `--sample` leave; `utils.metrics.reading` reads files of
other formats into the same record.

Arrays of the .npz: `joints` (T, J, 3) float32 in metres, `codes` (T', 2) int64, (0, 2) if they are not known,
`fps`, `song`, `provenance` (a JSON object); where the music is known, `music_beats` as frame indices; where
bone rotations are known, `smpl_rotations` (T, J, 3, 3) float32.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from utils.files import DAMAGED_ARRAY, one_number, write_npz
from utils.skeleton import SMPL_24, Skeleton

Provenance = Mapping[str, str | int | float]


@dataclass(frozen=True, eq=False)
class Dance:
    """A dance, and what is known of its music, its codes and its origin.

    Attributes:
        name: label; the name of a real dance pairs it with that one in the reference features.
        joints: (T, J, 3) metres, y up.
        music_beats: frame indices or a bool per frame, both at `fps`, of the whole song or a part of it; None
            if the music is not known.
        fps: frame rate in Hz. Published metrics are at 60; other rates are resampled for them, linearly.
        song: name of the song; '' if not known.
        codes: (T', 2) upper and lower codes, -1 while the dancer rests; None if not known.
        provenance: facts such as run, checkpoint and seed.
        frames_per_code: frames that one code stands for.
        skeleton: names and tree of the joints.
        rotations: (T, J, 3, 3) each joint's rotation relative to its parent's, the root's relative to the
            world. With the root's path they give the joints, on SMPL's male rest joints. None if not known.
    """

    name: str
    joints: np.ndarray
    music_beats: np.ndarray | None = None
    fps: float = SMPL_24.fps
    song: str = ""
    codes: np.ndarray | None = None
    provenance: Provenance = field(default_factory=dict)
    frames_per_code: int = 8
    skeleton: Skeleton = SMPL_24
    rotations: np.ndarray | None = None

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return len(self.joints) / self.fps


def checked_joints(joints: Any, skeleton: Skeleton = SMPL_24, least: int = 1) -> np.ndarray:
    """Joints (T, J, 3) of a numeric type, as given.

    Args:
        joints: what should be joints.
        skeleton: whose joints they are.
        least: smallest number of frames.

    Raises:
        ValueError: on another shape or type, fewer frames, or values that are not finite.
    """
    joints = np.asarray(joints)
    num = skeleton.num_joints
    if joints.ndim != 3 or joints.shape[1:] != (num, 3) or joints.dtype.kind not in "fiu":
        kind = "" if joints.dtype.kind in "fiu" else f" of type {joints.dtype}"
        raise ValueError(f"joints must be (T, {num}, 3), got shape {joints.shape}{kind}")
    if len(joints) < least:
        raise ValueError(f"a dance needs at least {least} frames here, got {len(joints)}")
    finite = np.isfinite(joints)
    if not finite.all():
        frame, joint, axis = np.argwhere(~finite)[0]
        raise ValueError(
            f"joints must be finite, got {joints[frame, joint, axis]} in frame {frame}, "
            f"joint {skeleton.joints[joint]}, axis {'xyz'[axis]} "
            f"({(~finite).any((1, 2)).sum()} of {len(joints)} frames are not finite)"
        )
    return joints


def checked_rotations(rotations: Any, joints: np.ndarray) -> np.ndarray:
    """Rotations (T, J, 3, 3) of joints (T, J, 3), as given.

    Raises:
        ValueError: if they have another shape or type, or values that are not finite.
    """
    rotations = np.asarray(rotations)
    expected = (*joints.shape, 3)
    if rotations.shape != expected or rotations.dtype.kind != "f":
        raise ValueError(
            f"rotations must be {expected} floats to match the joints, "
            f"got {rotations.dtype} {rotations.shape}"
        )
    if not np.isfinite(rotations).all():
        frame = int(np.argwhere(~np.isfinite(rotations))[0][0])
        raise ValueError(f"rotations must be finite, those of frame {frame} are not")
    return rotations


def checked_codes(codes: Any) -> np.ndarray:
    """Codes (T', 2), upper and lower.

    Raises:
        ValueError: if they have another shape or are not integers.
    """
    codes = np.asarray(codes)
    if codes.ndim != 2 or codes.shape[1] != 2 or codes.dtype.kind not in "iu":
        raise ValueError(f"codes must be (T', 2) integers, upper and lower, got {codes.dtype} {codes.shape}")
    return codes


def beat_indices(beats: Any, num_frames: int) -> np.ndarray:
    """Ascending frame indices (int64) of beats given as indices or as a flag per frame, cut to num_frames.

    Numbers that are all 0 or 1 are flags, unless they ascend ([0], [1] and [0, 1] are indices).

    Raises:
        ValueError: if beats are not 1-d, not whole numbers, negative, or neither indices nor flags.
    """
    beats = np.asarray(beats)
    if beats.ndim == 2 and 1 in beats.shape:
        beats = beats.reshape(-1)  # a row or a column
    if beats.ndim != 1:
        raise ValueError(f"beats must be frame indices or a flag per frame, 1-d, got shape {beats.shape}")
    if beats.dtype == bool:
        return np.flatnonzero(beats[:num_frames])
    if beats.dtype.kind not in "iuf":
        raise ValueError(f"beats must be frame indices or a flag per frame, got {beats.dtype} values")
    some = ", ".join(f"{beat:g}" for beat in beats[:5]) + (", ..." if len(beats) > 5 else "")
    if not np.isfinite(beats).all() or (beats != np.round(beats)).any() or (beats < 0).any():
        raise ValueError(
            f"beat indices must be whole numbers >= 0, got {some}; times in seconds must be multiplied by "
            "the frame rate"
        )
    if np.isin(beats, (0, 1)).all() and (beats[1:] <= beats[:-1]).any():
        return np.flatnonzero(beats[:num_frames])
    if np.count_nonzero(beats == 0) > 1:
        raise ValueError(
            f"beats are neither frame indices (0 occurs {np.count_nonzero(beats == 0)} times) nor flags of 0 "
            f"and 1 (the largest is {beats.max():g}), got {some}"
        )
    return np.unique(beats[beats < num_frames].astype(np.int64))


def checked(dance: Dance) -> Dance:
    """The dance with all parts checked: beats as frame indices within it, codes None if there are none.

    Raises:
        ValueError: naming the dance and what is wrong with it.
    """
    try:
        if not (math.isfinite(dance.fps) and dance.fps > 0) or dance.frames_per_code < 1:
            raise ValueError(
                f"fps {dance.fps} and frames_per_code {dance.frames_per_code} must be positive numbers"
            )
        joints = checked_joints(dance.joints, dance.skeleton)
        codes = None if dance.codes is None or not len(dance.codes) else checked_codes(dance.codes)
        beats = None if dance.music_beats is None else beat_indices(dance.music_beats, len(joints))
        rotations = None if dance.rotations is None else checked_rotations(dance.rotations, joints)
    except ValueError as error:
        raise ValueError(f"dance {dance.name!r}: {error}") from None
    return replace(dance, joints=joints, codes=codes, music_beats=beats, rotations=rotations)


def save_dance(path: Path, dance: Dance) -> None:
    """Write a dance as .npz, beside its place and renamed.

    The song is kept by itself and as the first fact of the provenance. The frames of those beats that lie
    within the dance are kept.

    Raises:
        OSError: if it cannot be written.
    """
    facts = ({"song": dance.song} if dance.song else {}) | dict(dance.provenance)
    known = {}
    if dance.music_beats is not None:
        known["music_beats"] = beat_indices(dance.music_beats, len(dance.joints))
    if dance.rotations is not None:
        known["smpl_rotations"] = np.asarray(dance.rotations, np.float32)
    write_npz(
        Path(path),
        joints=np.asarray(dance.joints, np.float32),
        codes=np.zeros((0, 2), np.int64) if dance.codes is None else np.asarray(dance.codes, np.int64),
        fps=np.asarray(dance.fps),
        song=np.asarray(dance.song),
        provenance=np.asarray(json.dumps(facts)),
        **known,
    )


def load_dance(path: Path) -> Dance:
    """Read a dance that `save_dance` wrote, or one that holds at least `joints` in the same form.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the file and what is wrong with it.
    """
    path = Path(path)
    try:
        return dance_of(path.stem, load_arrays(path))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def load_codes(path: Path) -> np.ndarray:
    """Codes (T', 2) of a .npz; it need not hold joints.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds no codes, or something else under that name.
    """
    arrays = load_arrays(Path(path))
    if "codes" not in arrays:
        raise ValueError(f"it holds no `codes`, but {', '.join(arrays) or 'nothing'}")
    return checked_codes(arrays["codes"])


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a .npz.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, or no .npz.
    """
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.ndarray):
            with file:
                return dict(file)
    except FileNotFoundError:
        raise
    except DAMAGED_ARRAY as error:
        raise ValueError(f"it is damaged ({' '.join(str(error).split())})") from None
    raise ValueError("it is a single array, not a .npz")


def dance_of(name: str, arrays: Mapping[str, Any], fps: float = SMPL_24.fps) -> Dance:
    """The record of the arrays of a .npz; only `joints` must be there.

    Args:
        name: of the dance.
        arrays: under the names that `save_dance` gives them.
        fps: frame rate in Hz, if the arrays do not hold it.

    Raises:
        ValueError: naming the array that has another form.
    """
    if "joints" not in arrays:
        raise ValueError(f"it holds no `joints`, but {', '.join(map(str, arrays)) or 'nothing'}")
    joints = np.asarray(arrays["joints"])
    codes = np.asarray(arrays.get("codes", np.zeros((0, 2), np.int64)))
    rotations = arrays.get("smpl_rotations")
    if rotations is not None:
        try:
            rotations = checked_rotations(rotations, joints)
        except ValueError as error:
            raise ValueError(f"smpl_rotations: {error}") from None
    beats = arrays.get("music_beats")
    if beats is not None:
        try:
            beats = beat_indices(beats, 2**31)
        except (ValueError, TypeError) as error:
            raise ValueError(f"music_beats: {error}") from None
    return Dance(
        name,
        joints,
        beats,
        one_number(arrays["fps"], "fps") if "fps" in arrays else float(fps),
        str(arrays.get("song", "")),
        checked_codes(codes) if len(codes) else None,
        _facts(arrays.get("provenance")),
        rotations=rotations,
    )


def _facts(provenance: Any) -> Provenance:
    """The provenance of a file; of files without any, or with another program's, none."""
    try:
        facts = json.loads(str(provenance))
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}
