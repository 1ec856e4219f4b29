"""Prepared data on disk: write it, read it memory-mapped, check its manifest.

    <root>/manifest.json                 what is here, how it was made, what was left out and why
    <root>/motion/<sequence>.npy         float32 (T, 24, 3), metres, y up, 60 fps
    <root>/motion/<sequence>.rotations.npy   float32 (T, 24, 3, 3), where they were asked for
    <root>/music/<song>.features.npy     float32 (T', D) of the whole song, 7.5 steps per second; D by
                                         version. By frames: 8 frames of 55 or 58 in a step, the last one
                                         filled up by zeros
    <root>/music/<song>.beats.npy        bool (T60,) of the whole song, 60 fps

Dance and song may differ in length; nothing is cut in the files, and code that needs both uses the shorter
one.
"""

import io
import json
from difflib import get_close_matches
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from utils.files import DAMAGED_ARRAY, write_beside
from utils.music import FeatureVersion, check_version
from utils.skeleton import SKELETONS, Skeleton

FORMAT = 1
MANIFEST = "manifest.json"
MADE_BY = "python prepare_aistpp_data.py --source DIR --out {root} (or --sample, or --songs DIR alone)"

FeatureGroup = Literal[
    "mfcc", "mfcc_delta", "chroma", "onset", "beat", "tempogram", "beat_phase", "beat_time", "tempo", "sound"
]
_SIZES: dict[FeatureGroup, int] = {
    "mfcc": 20,  # of the log-mel power spectrum, in dB below the song's loudest
    "mfcc_delta": 20,  # per step
    "chroma": 12,  # of the harmonic part, in [0, 1]; C first
    "onset": 1,  # strength of the percussive part, in dB, >= 0
    "beat": 1,  # 1 on a tracked beat, else 0
    "tempogram": 384,  # autocorrelation of the onsets by lag in steps, in [-1, 1]
    "beat_phase": 2,  # sine and cosine of the phase within the beat, 0 on a beat; both 0 without beats
    "beat_time": 1,  # seconds from the step to the next beat
    "tempo": 1,  # local tempo, beats per minute; 0 without beats
    "sound": 1,  # 1 where there are onsets around, else 0: lag 0 of the tempogram
}
_SHARED: tuple[FeatureGroup, ...] = ("mfcc", "mfcc_delta", "chroma", "onset", "beat")
_GROUPS: dict[FeatureVersion, tuple[FeatureGroup, ...]] = {
    "standard": (*_SHARED, "tempogram"),
    "compat": (*_SHARED, "tempogram"),
    "beat_phase": (*_SHARED, "beat_phase", "beat_time", "tempo"),
    "frames": (*_SHARED, "sound"),
    "frames_beat_phase": (*_SHARED, "beat_phase", "beat_time", "tempo"),
}
# raised when a version's numbers change: older data is then made again
RECIPES: dict[FeatureVersion, int] = {
    "standard": 1,
    "compat": 2,
    "beat_phase": 1,
    "frames": 1,
    "frames_beat_phase": 1,
}
FRAME_FPS = 60  # frames per second of the versions with several frames in a step
BY_FRAME = ("frames", "frames_beat_phase")  # versions with several frames in a step


def feature_columns(version: str) -> dict[FeatureGroup, slice]:
    """Columns of each group of the music features of a version, in their order, or in that of a frame.

    Raises:
        ValueError: if the version is unknown.
    """
    groups = _GROUPS[check_version(version)]
    ends = list(accumulate(_SIZES[group] for group in groups))
    return {group: slice(end - _SIZES[group], end) for group, end in zip(groups, ends, strict=True)}


def frames_per_step(version: str, fps: float = 7.5) -> int:
    """Frames of music in a step of the features: 1, or those at 60 per second of the versions by frames.

    Raises:
        ValueError: if the version is unknown, or a step holds no whole number of frames.
    """
    if check_version(version) not in BY_FRAME:
        return 1
    frames = FRAME_FPS / fps
    if frames != int(frames):
        raise ValueError(f"a step of 1/{fps:g} s is no whole number of frames at {FRAME_FPS} per second")
    return int(frames)


def num_features(version: str, fps: float = 7.5) -> int:
    """Number of columns of the music features of a version: 438 as published, 58 of `beat_phase`.

    Those of `frames` are 55 per frame, of `frames_beat_phase` 58, as many frames as a step holds.

    Raises:
        ValueError: as of `frames_per_step`.
    """
    return sum(_SIZES[group] for group in _GROUPS[check_version(version)]) * frames_per_step(version, fps)


BEAT_COLUMN = feature_columns("standard")["beat"].start  # of every version

_REQUIRED: dict[str, type | tuple[type, ...]] = {
    "name": str, "skeleton": str, "fps": (int, float), "music": dict,
    "splits": dict, "sequences": dict, "songs": dict, "left_out": dict,
}  # fmt: skip


class Sequence(NamedTuple):
    """One whole dance and its whole song.

    Attributes:
        name: e.g. gBR_sBM_cAll_d04_mBR0_ch01.
        song: the song's name, e.g. mBR0.
        joints: (T, 24, 3) float32, metres, y up, 60 fps, memory-mapped, read-only.
        music: (T', D) float32 features of the whole song; (0, D) if the song is not available.
        beats: (T60,) bool per 60-fps frame of the whole song; (0,) if they are not known.
    """

    name: str
    song: str
    joints: np.ndarray
    music: np.ndarray
    beats: np.ndarray


class Song(NamedTuple):
    """One whole song: `features` (T', D), `beats` (T60,) and its sound file, None if there is none."""

    name: str
    features: np.ndarray
    beats: np.ndarray
    audio: Path | None


class PreparedData:
    """A folder made by prepare_aistpp_data.py.

    Arrays are memory-mapped at each access, so the object is small and can be sent to worker processes.

    Raises:
        FileNotFoundError: naming the command that makes the folder, when it has no manifest.
        ValueError: when the manifest is damaged or of another format.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.manifest = read_manifest(self.root)

    @property
    def feature_version(self) -> str:
        """Version of the music features, see `datasets.music`."""
        return self.manifest["music"]["version"]

    @property
    def frames_per_step(self) -> int:
        """Frames of music in a step of the features; 1 unless the version is one by frames."""
        return frames_per_step(self.feature_version, self.music_fps)

    @property
    def music_fps(self) -> float:
        """Steps of the music features per second, equal to the code rate: 7.5."""
        return float(self.manifest["music"]["fps"])

    @property
    def fps(self) -> int:
        """Frames of motion and of beats per second."""
        return int(self.manifest["fps"])

    @property
    def skeleton(self) -> Skeleton:
        """Skeleton of the dances."""
        return SKELETONS[self.manifest["skeleton"]]

    @property
    def num_features(self) -> int:
        """Number of columns of the music features."""
        return int(self.manifest["music"]["columns"])

    @property
    def songs(self) -> list[str]:
        """Names of the songs, sorted."""
        return sorted(self.manifest["songs"])

    def names(self, split: str) -> list[str]:
        """Sequences of a split: `train`, `test` (the benchmark: val and test lists joined) or `all`, sorted.

        Raises:
            ValueError: on any other split.
        """
        if split == "all":
            return sorted(self.manifest["sequences"])
        if split not in ("train", "test"):
            raise ValueError(f"split {split!r} is unknown; there are 'train', 'test' and 'all'")
        return list(self.manifest["splits"][split])

    def genre(self, name: str) -> str:
        """Genre of a sequence: two letters as in AIST (gBR_... is BR), '' if the name has none."""
        return self._entry(name).get("genre", "")

    def implausible(self, name: str) -> list[tuple[int, int]]:
        """First and last frames of the stretches of a sequence with motion that no body makes, or a T-pose.

        Raises:
            ValueError: if there is none of that name, or the preparation did not look for them.
        """
        entry = self._entry(name)
        if "implausible" not in entry:
            raise ValueError(
                f"{self.root} was prepared without a check for motion that no body makes; make it again by: "
                f"{MADE_BY.format(root=self.root)}, or set data.clips.implausible=keep"
            )
        return [(first, last) for first, last, _ in entry["implausible"]]

    def sequence(self, name: str) -> Sequence:
        """Opens a sequence and its song.

        Raises:
            ValueError: if there is none of that name, or a file does not agree with the manifest.
            FileNotFoundError: if one of its files is missing.
        """
        entry = self._entry(name)
        shape = (entry["frames"], self.skeleton.num_joints, 3)
        joints = self._open(motion_path(self.root, name), shape, np.float32)
        song = entry["song"]
        if song in self.manifest["songs"]:
            return Sequence(name, song, joints, *self.song(song)[1:3])
        return Sequence(name, song, joints, np.zeros((0, self.num_features), np.float32), np.zeros(0, bool))

    def has_rotations(self, split: str) -> bool:
        """Whether there are sequences of a split, and all of them hold bone rotations."""
        names = self.names(split)
        return bool(names) and all(self._entry(name).get("rotations", False) for name in names)

    def rotations(self, name: str) -> np.ndarray:
        """Opens the bone rotations of a sequence, memory-mapped.

        Returns:
            (T, 24, 3, 3) float32, one per frame of its joints: each joint's relative to its parent's, the
            root's relative to the world. Root and rotations give the joints, by forward kinematics.

        Raises:
            ValueError: if there is no such sequence, it was prepared without rotations, or the file does not
                agree with the manifest.
            FileNotFoundError: if the file is missing.
        """
        entry = self._entry(name)
        if not entry.get("rotations"):
            raise ValueError(
                f"{self.root} holds no bone rotations of {name}; add them by: python prepare_aistpp_data.py "
                f"--source DIR --out {self.root} --rotations (or --sample --rotations); only data with SMPL "
                "parameters have them"
            )
        shape = (entry["frames"], self.skeleton.num_joints, 3, 3)
        return self._open(rotations_path(self.root, name), shape, np.float32)

    def song(self, name: str) -> Song:
        """Opens a song.

        Raises:
            ValueError: if there is none of that name, or a file does not agree with the manifest.
            FileNotFoundError: if one of its files is missing.
        """
        if name not in self.manifest["songs"]:
            why = self.manifest["left_out"].get(name)
            hint = f"it was left out: {why}" if why else f"it has: {', '.join(self.songs)}"
            raise ValueError(f"{self.root} has no song {name!r}; {hint}")
        entry = self.manifest["songs"][name]
        features = self._open(
            features_path(self.root, name), (entry["features"], self.num_features), np.float32
        )
        beats = self._open(beats_path(self.root, name), (entry["beats"],), np.bool_)
        audio = self.root / entry["audio"] if entry.get("audio") else None  # an absolute path stays absolute
        return Song(name, features, beats, audio if audio and audio.is_file() else None)

    def _entry(self, name: str) -> dict[str, Any]:
        entry = self.manifest["sequences"].get(name)
        if entry is None:
            why = self.manifest["left_out"].get(name)
            near = get_close_matches(name, self.manifest["sequences"], 3)
            others = f", of which {' and '.join(near)} is nearest" if near else ""
            hint = (
                f"it was left out: {why}"
                if why
                else f"it has {len(self.manifest['sequences'])} others{others}"
            )
            raise ValueError(f"{self.root} has no sequence {name!r}; {hint}")
        return entry

    def _open(self, path: Path, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        if not shape[0]:
            return np.zeros(shape, dtype)  # nothing is stored for what is not known
        again = f"make it again by: {MADE_BY.format(root=self.root)}"
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            raise FileNotFoundError(f"{path} is missing though the manifest names it; {again}") from None
        except DAMAGED_ARRAY as error:
            raise ValueError(f"{path} is damaged ({error}); {again}") from None
        if array.shape != shape or array.dtype != dtype:
            raise ValueError(
                f"{path} holds {array.dtype} {array.shape}, "
                f"the manifest says {np.dtype(dtype)} {shape}; {again}"
            )
        return array


def motion_path(root: Path, name: str) -> Path:
    """Path of the joints of a sequence."""
    return root / "motion" / f"{name}.npy"


def rotations_path(root: Path, name: str) -> Path:
    """Path of the bone rotations of a sequence."""
    return root / "motion" / f"{name}.rotations.npy"


def features_path(root: Path, song: str) -> Path:
    """Path of the features of a song."""
    return root / "music" / f"{song}.features.npy"


def beats_path(root: Path, song: str) -> Path:
    """Path of the beat flags of a song."""
    return root / "music" / f"{song}.beats.npy"


def write_array(path: Path, array: np.ndarray) -> None:
    """Writes a .npy file to a temporary name and renames it, so that a kill leaves no partial file."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    write_bytes(path, buffer.getbuffer())


def write_manifest(root: Path, content: dict[str, Any]) -> None:
    """Writes the manifest, the last step of a preparation: a folder without one is unfinished."""
    text = json.dumps({"format": FORMAT, **content}, indent=1, ensure_ascii=False, allow_nan=False)
    write_bytes(root / MANIFEST, text.encode())


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Writes a file to a temporary name and renames it; on failure (a full disk) the partial file is removed.

    Raises:
        OSError: naming the file and saying that prepared files are kept.
    """
    try:
        write_beside(path, content)
    except OSError as error:
        raise cannot_write(path, error) from None


def cannot_write(path: Path, error: OSError) -> OSError:
    """An error that names the file, and says that prepared files are kept."""
    return OSError(
        f"cannot write {path}: {error.strerror}. What is already prepared stays; "
        "mend this and run the same command again to go on"
    )


def read_manifest(root: Path) -> dict[str, Any]:
    """The manifest of a prepared folder.

    Raises:
        FileNotFoundError: naming the command that makes it, when there is none.
        ValueError: when it is damaged or of another format.
    """
    path, command = root / MANIFEST, MADE_BY.format(root=root)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: no prepared data, or unfinished; it is made by: {command}"
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); make it again by: {command}") from None
    if not isinstance(manifest, dict) or "format" not in manifest:
        raise ValueError(f"{path} is not a manifest of prepared data; one is made by: {command}")
    if manifest["format"] != FORMAT:
        raise ValueError(f"{path} has format {manifest['format']!r}, this version reads {FORMAT}: {command}")
    wrong = [key for key, kind in _REQUIRED.items() if not isinstance(manifest.get(key), kind)]
    if not wrong:
        splits = manifest["splits"]
        wrong += [f"splits.{split}" for split in ("train", "test") if not isinstance(splits.get(split), list)]
        wrong += [] if manifest["skeleton"] in SKELETONS else [f"skeleton {manifest['skeleton']!r}"]
        wrong += [] if manifest["fps"] > 0 else ["fps"]
        wrong += _wrong_entries(manifest)
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise ValueError(
            f"{path} is damaged: {', '.join(wrong[:5])}{more} missing or wrong; make it again by: {command}"
        )
    return manifest


def _wrong_entries(manifest: dict[str, Any]) -> list[str]:
    """Fields of the manifest's sections that are missing, or of another type."""

    def lacks(section: str, fields: dict[str, type], smallest: int) -> list[str]:
        entries = manifest[section].items()
        return [
            f"{section}.{name}.{field}"
            for name, entry in entries
            for field, kind in fields.items()
            if not isinstance(entry, dict)
            or type(entry.get(field)) is not kind
            or (kind is int and entry[field] < smallest)
        ]

    music, splits = manifest["music"], manifest["splits"]
    wrong = lacks("sequences", {"frames": int, "song": str}, 1)
    wrong += lacks("songs", {"features": int, "beats": int}, 0)
    wrong += [] if isinstance(music.get("version"), str) else ["music.version"]
    wrong += [f"music.{key}" for key in ("fps", "columns") if not _is_positive(music.get(key))]
    for split in ("train", "test"):
        names = splits.get(split)
        if isinstance(names, list):
            strange = [n for n in names if not isinstance(n, str) or n not in manifest["sequences"]]
            wrong += [f"splits.{split}: {name!r:.40}" for name in strange]
    return wrong


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")
