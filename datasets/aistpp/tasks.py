"""What a preparation does: one task per dance, one per song; plain data, to be sent to worker processes.

Each knows the stamp of its inputs (a hash of contents and options), so a second run redoes only what changed.
"""

from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datasets.aistpp.checks import Rejected, check_joints
from datasets.aistpp.source import FileRef
from datasets.sequences import beats_path, features_path, motion_path
from utils.skeleton import SMPL_24, Skeleton


class Made(NamedTuple):
    """What a task made: arrays by path, and what the manifest says of them."""

    arrays: dict[Path, np.ndarray]
    facts: dict[str, Any]


class SongRead(NamedTuple):
    """What reading a song gives: features (T', D) float32, beat flags (T60,), and where it can be heard.

    `audio` is relative to the prepared folder if the file lies inside, else absolute; None if there is no
    sound.
    """

    features: np.ndarray
    beats: np.ndarray
    audio: str | None


class MotionTask(NamedTuple):
    """One dance.

    Attributes:
        name: of the sequence.
        song: of the song it was danced to.
        genre: two letters, or ''.
        file: where it is.
        read: turns the file's bytes and name into (joints, further facts).
        options: all that decides the result besides the file.
        skeleton: whose joints they are.
    """

    name: str
    song: str
    genre: str
    file: FileRef
    read: Callable[[bytes, str], tuple[np.ndarray, dict[str, Any]]]
    options: str
    skeleton: Skeleton = SMPL_24

    kind = "sequences"
    alone = False

    def stamp(self) -> str:
        """Hash of everything the result depends on."""
        return _stamp(self.options, self.file.digest())

    def outputs(self, root: Path, facts: dict[str, Any]) -> dict[Path, tuple[tuple[int, ...], type]]:
        """Shape and type of the files that these facts promise."""
        return {motion_path(root, self.name): ((facts["frames"], self.skeleton.num_joints, 3), np.float32)}

    def make(self, root: Path) -> Made:
        """The joints, checked.

        Raises:
            ValueError: if the file cannot be read or its dance is not fit for use.
        """
        joints, facts = self.read(self.file.read(), self.file.path)
        check_joints(joints, self.skeleton)
        facts = {"song": self.song, "genre": self.genre, "frames": len(joints), **facts}
        return Made({motion_path(root, self.name): joints.astype(np.float32, copy=False)}, facts)


class SongTask(NamedTuple):
    """One song.

    Attributes:
        name: of the song.
        file: its sound, or its features made by others; None where there is neither.
        read: turns (file, the prepared folder, known beats) into a `SongRead`.
        options: all that decides the result besides file and beats.
        columns: how many features there must be.
        beats: known beat flags (T60,), where the sound is not at hand.
        alone: it needs so much memory that no other task should run beside it.
    """

    name: str
    file: FileRef | None
    read: Callable[[FileRef, Path, np.ndarray], SongRead]
    options: str
    columns: int
    beats: np.ndarray
    alone: bool = False

    kind = "songs"

    def stamp(self) -> str:
        """Hash of everything the result depends on."""
        return _stamp(self.options, self.file.digest() if self.file else b"", self.beats.tobytes())

    def outputs(self, root: Path, facts: dict[str, Any]) -> dict[Path, tuple[tuple[int, ...], type]]:
        """Shape and type of the files that these facts promise."""
        files = {
            features_path(root, self.name): ((facts["features"], self.columns), np.float32),
            beats_path(root, self.name): ((facts["beats"],), np.bool_),
        }
        return {path: promise for path, promise in files.items() if promise[0][0]}

    def make(self, root: Path) -> Made:
        """The features and beats.

        Raises:
            ValueError: if the file is no readable sound, or the features are not finite numbers.
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
