"""Music beats of dances, from files of beats or of songs, found by name.

.json         name -> beat frames, or name -> {"beats": beat frames}, at 60 fps
.npy .npz     a bool per frame, or beat frames, at 60 fps (.npz: under `beats`); in prepared data
              <song>.beats.npy
.txt          beat times in seconds, one per line
.wav .mp3 ... a song: its beats are tracked, as for the 60-fps music features
"""

import json
import zipfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from utils.dance import Dance, beat_indices
from utils.files import AUDIO_SUFFIXES
from utils.metrics.controls import song_of
from utils.metrics.reference import Reference
from utils.music import FeatureVersion
from utils.skeleton import SMPL_24


class Songs:
    """Beats of songs, in seconds, by name; files are read when asked for.

    Args:
        path: a file, or a folder of files named after songs or dances. A prepared folder's `music` folder is
            used.
        version: of the music features: how the beats of songs are tracked.

    Attributes:
        skipped: files of the folder that are neither beats nor songs.

    Raises:
        FileNotFoundError: if there is no such path.
    """

    def __init__(self, path: Path, version: FeatureVersion = "standard") -> None:
        path = Path(path)
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing; songs or beats are expected there")
        self.path = path / "music" if (path / "music").is_dir() else path
        self.version = version
        self.files: dict[str, Path] = {}
        self.skipped: list[str] = []
        self.tables: dict[str, list[float]] = {}
        is_folder = self.path.is_dir()
        files = sorted(self.path.iterdir()) if is_folder else [self.path]
        files.sort(key=lambda file: file.suffix.lower() in AUDIO_SUFFIXES)  # known beats come before songs
        for file in files:
            suffix = file.suffix.lower()
            if is_folder and (file.name.startswith(".") or file.is_dir()):
                self.skipped.append(file.name)
            elif suffix == ".json" and file.name != "manifest.json":
                self.tables |= _table(file)
            elif file.name.endswith(".features.npy"):
                continue
            elif suffix in (".npy", ".npz", ".txt", *AUDIO_SUFFIXES) or not is_folder:
                self.files.setdefault(file.stem.removesuffix(".beats"), file)
            elif file.name != "manifest.json":
                self.skipped.append(file.name)
        self.skipped.sort()
        self._only = not is_folder and len(self.files) == 1

    def beats(self, *names: str) -> np.ndarray | None:
        """Beats in seconds of the first name that is found, else None. A single song is used for every dance.

        Raises:
            ValueError: naming the file, if it cannot be read.
        """
        for name in names:
            if name in self.tables:
                return np.array(self.tables[name]) / SMPL_24.fps
            if name in self.files:
                return _read(self.files[name], self.version)
        return _read(next(iter(self.files.values())), self.version) if self._only else None


def with_music(dance: Dance, songs: Songs | None, reference: Reference | None) -> Dance:
    """The dance with its beats: its own, else those in songs, else those of the real dance of its name.

    Songs are looked up by the dance's song, the song in its AIST name, and its name. The beats of a real
    dance are known up to its end: one that is more than a second shorter is not used.
    """
    if dance.music_beats is not None:
        return dance
    if songs is not None:
        times = songs.beats(dance.song, song_of(dance), dance.name)
        if times is not None:
            return replace(dance, music_beats=np.round(times * dance.fps).astype(int))
    for real in reference.named([dance.name]) if reference is not None else ():
        missing = len(dance.joints) / dance.fps - real.frames / SMPL_24.fps
        if real.music_beats is not None and missing <= 1.0:
            frames = np.round(real.music_beats * (dance.fps / SMPL_24.fps)).astype(int)
            return replace(dance, music_beats=frames)
    return dance


def _table(path: Path) -> dict[str, list[float]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        table = {
            name: entry["beats"] if isinstance(entry, dict) else entry for name, entry in content.items()
        }
        return {name: beat_indices(np.array(beats), 2**31).tolist() for name, beats in table.items()}
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{path}: name -> beat frames is expected ({error})") from None


@cache
def _read(path: Path, version: FeatureVersion) -> np.ndarray:
    """Beats in seconds of one file; a file without a suffix of beat files is read as a song."""
    if path.suffix.lower() not in (".npy", ".npz", ".txt"):
        return track_beats(path, version)
    try:
        if path.suffix.lower() == ".txt":
            return np.loadtxt(path, ndmin=1)
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            beats = content if isinstance(content, np.ndarray) else content["beats"]
        return beat_indices(beats, 2**31) / SMPL_24.fps
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: no beats can be read from it ({error})") from None


def track_beats(path: Path, version: FeatureVersion = "standard") -> np.ndarray:
    """Beats of a song in seconds, at 60 fps: those of its prepared data.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the file, if it cannot be read or lasts less than two seconds.
    """
    from utils.music.beats import song_beats  # librosa takes seconds to import, and most users give beats

    return np.flatnonzero(song_beats(path, SMPL_24.fps, version)) / SMPL_24.fps
