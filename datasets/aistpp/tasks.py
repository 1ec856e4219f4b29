"""Tasks of a preparation, one per dance and one per song: plain data that is sent to worker processes.

A task has the stamp of its inputs, a hash of contents and options, by which a second run redoes only what
changed. `check_joints` is the check that every prepared dance passes.
"""

from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from datasets.aistpp.source import FileRef
from datasets.sequences import beats_path, features_path, motion_path, rotations_path
from utils.plausibility import Findings, inspect, wrong_unit
from utils.skeleton import SMPL_24, Skeleton

MIN_FRAMES = 16
FROZEN_FRAMES = 120
FROZEN_METRES = 1e-6


class Rejected(ValueError):
    """Data that is left out: `kind` is counted in the report, the message has the details."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


def check_joints(joints: np.ndarray, skeleton: Skeleton = SMPL_24) -> None:
    """Refuses a dance that is unfit for training.

    Raises:
        Rejected: if it is not (T, J, 3) finite numbers with the skeleton's J, is shorter than 16 frames,
            stands perfectly still for two seconds (a fit that broke off), or is not in metres.
    """
    num = skeleton.num_joints
    if joints.ndim != 3 or joints.shape[1:] != (num, 3):
        raise Rejected("wrong shape", f"joints are {joints.shape}; (T, {num}, 3) is needed")
    if joints.dtype.kind != "f":
        raise Rejected("wrong shape", f"joints are {joints.dtype}; float32 is needed")
    if len(joints) < MIN_FRAMES:
        raise Rejected("too short", f"{len(joints)} frames; at least {MIN_FRAMES} are needed")
    finite = np.isfinite(joints).all((1, 2))
    if not finite.all():
        joint = skeleton.joints[int((~np.isfinite(joints)).any((0, 2)).argmax())]
        raise Rejected(
            "NaN",
            f"{(~finite).sum()} frames are NaN or infinite, the first is {np.argmin(finite)}, of {joint}",
        )
    start, length = longest_frozen(joints)
    if length >= FROZEN_FRAMES:
        raise Rejected("frozen", f"nothing moves for {length} frames from frame {start} on")
    if unit := wrong_unit(joints):
        raise Rejected("not metres", unit)


def longest_frozen(joints: np.ndarray) -> tuple[int, int]:
    """First frame and length of the longest run of frames in which no joint moves at all."""
    still = np.abs(np.diff(joints, axis=0)).max((1, 2)) <= FROZEN_METRES
    edges = np.flatnonzero(np.diff(np.concatenate(([False], still, [False])).astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    if not len(starts):
        return 0, 1
    best = int(np.argmax(ends - starts))
    return int(starts[best]), int(ends[best] - starts[best]) + 1


def findings_facts(found: Findings) -> dict[str, Any]:
    """Findings of a check of motion, for the manifest.

    Mean speed of the joints in m/s; share of frames with the head above the toes; stretches [first frame,
    last frame, what is wrong] of motion that no body makes, or of a T-pose; further remarks.
    """
    poses = [pose._replace(what=f"T-pose, {pose.what}") for pose in found.t_poses]
    remarks = [*found.others, found.axis] if found.axis else found.others
    return {
        "speed": round(found.speed, 3),
        "upright": None if found.upright is None else round(found.upright, 3),
        "implausible": [list(stretch) for stretch in sorted(found.implausible + poses)],
        "remarks": remarks,
    }


class DanceRead(NamedTuple):
    """A dance as read.

    Attributes:
        joints: (T, J, 3).
        facts: further facts for the manifest.
        poses: (T, J * 3) axis-angle, if it has any.
        rotations: (T, J, 3, 3) float32, the same as matrices, if they are to be kept.
    """

    joints: np.ndarray
    facts: dict[str, Any]
    poses: np.ndarray | None = None
    rotations: np.ndarray | None = None


class Made(NamedTuple):
    """Result of a task: arrays by path, and facts for the manifest."""

    arrays: dict[Path, np.ndarray]
    facts: dict[str, Any]


class SongRead(NamedTuple):
    """A song as read: features (T', D) float32, beat flags (T60,), and the path of its sound file.

    `audio` is relative to the prepared folder if the file is inside it, else absolute; None if there is no
    sound file.
    """

    features: np.ndarray
    beats: np.ndarray
    audio: str | None


class MotionTask(NamedTuple):
    """One dance.

    Attributes:
        name: of the sequence.
        song: name of its song.
        genre: two letters, or ''.
        file: the file.
        read: converts the file's bytes and name to a `DanceRead`.
        options: everything that determines the result besides the file.
        skeleton: of the joints.
    """

    name: str
    song: str
    genre: str
    file: FileRef
    read: Callable[[bytes, str], DanceRead]
    options: str
    skeleton: Skeleton = SMPL_24
    kind: Literal["sequences"] = "sequences"  # its section of the manifest
    alone: Literal[False] = False

    def stamp(self) -> str:
        """Hash of everything that determines the result."""
        return _stamp(self.options, self.file.digest())

    def outputs(self, root: Path, facts: dict[str, Any]) -> dict[Path, tuple[tuple[int, ...], type]]:
        """Shape and type of each file that the task writes, by these facts."""
        shape = facts["frames"], self.skeleton.num_joints, 3
        files: dict[Path, tuple[tuple[int, ...], type]] = {motion_path(root, self.name): (shape, np.float32)}
        if facts.get("rotations"):
            files[rotations_path(root, self.name)] = ((*shape, 3), np.float32)
        return files

    def make(self, root: Path) -> Made:
        """The joints, checked, and the rotations that belong to them.

        Raises:
            ValueError: if the file cannot be read, or its dance is refused by `check_joints`.
        """
        joints, facts, poses, rotations = self.read(self.file.read(), self.file.path)
        check_joints(joints, self.skeleton)
        found = findings_facts(inspect(joints, self.skeleton.fps, self.skeleton, poses))
        facts = {"song": self.song, "genre": self.genre, "frames": len(joints), **found, **facts}
        arrays = {motion_path(root, self.name): joints.astype(np.float32, copy=False)}
        if rotations is not None:
            assert rotations.shape == (*joints.shape, 3), (rotations.shape, joints.shape)
            arrays[rotations_path(root, self.name)] = rotations
            facts["rotations"] = True
        return Made(arrays, facts)


class SongTask(NamedTuple):
    """One song.

    Attributes:
        name: of the song.
        file: its sound, or features made by others; None if there is neither.
        read: converts (file, the prepared folder, known beats) to a `SongRead`.
        options: everything that determines the result besides file and beats.
        columns: required number of features.
        beats: known beat flags (T60,) of a song without a sound file.
        alone: whether it needs so much memory that no other task should run beside it.
    """

    name: str
    file: FileRef | None
    read: Callable[[FileRef, Path, np.ndarray], SongRead]
    options: str
    columns: int
    beats: np.ndarray
    alone: bool = False
    kind: Literal["songs"] = "songs"  # its section of the manifest

    def stamp(self) -> str:
        """Hash of everything that determines the result."""
        return _stamp(self.options, self.file.digest() if self.file else b"", self.beats.tobytes())

    def outputs(self, root: Path, facts: dict[str, Any]) -> dict[Path, tuple[tuple[int, ...], type]]:
        """Shape and type of each file that the task writes, by these facts."""
        files = {
            features_path(root, self.name): ((facts["features"], self.columns), np.float32),
            beats_path(root, self.name): ((facts["beats"],), np.bool_),
        }
        return {path: promise for path, promise in files.items() if promise[0][0]}

    def make(self, root: Path) -> Made:
        """The features and beats.

        Raises:
            ValueError: if the file is not a readable sound, or the features are not finite numbers.
        """
        song = SongRead(np.zeros((0, self.columns), np.float32), self.beats, None)
        if self.file:
            try:
                song = self.read(self.file, root, self.beats)
            except RuntimeError as error:
                raise ValueError(f"{self.file.path} cannot be read: {error}") from None
        shape = song.features.shape
        if len(shape) != 2 or shape[1] != self.columns:
            raise Rejected(
                "wrong shape", f"features of {self.name} are {shape}; (T, {self.columns}) is needed"
            )
        if not np.isfinite(song.features).all():
            raise Rejected("NaN", f"the features of {self.name} are not all finite")
        facts = {"audio": song.audio, "features": len(song.features), "beats": len(song.beats)}
        arrays = {features_path(root, self.name): song.features, beats_path(root, self.name): song.beats}
        return Made({path: array for path, array in arrays.items() if len(array)}, facts)


def _stamp(options: str, *contents: bytes) -> str:
    whole = blake2b(options.encode(), digest_size=16)
    for content in contents:
        whole.update(len(content).to_bytes(8, "little") + content)
    return whole.hexdigest()
