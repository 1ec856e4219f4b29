"""Where a dance's music beats come from: files of beats or songs, found by name.

.json         name -> beat frames, or name -> {"beats": beat frames}, at 60 fps
.npy .npz     a bool per frame or beat frames at 60 fps (.npz: under `beats`); prepared data has
<song>.beats.npy .txt          beat times in seconds, one per line
.wav .mp3 ... a song: its beats are tracked, as for the 60-fps music features
"""

import json
import zipfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from utils.metrics.beats import beat_indices
from utils.metrics.controls import song_of
from utils.metrics.dances import Dance
from utils.metrics.reference import Reference
from utils.skeleton import SMPL_24

AUDIO = (".wav", ".mp3", ".ogg", ".flac", ".m4a")
HOP = 512  # samples per frame


class Songs:
    """Beats of songs, in seconds, by name; files are read when asked for.

    Args:
        path: a file, or a folder of files named after songs or dances. A prepared folder's `music` folder is
            used.

    Raises:
        FileNotFoundError: if there is no such path.
    """

    def __init__(self, path: Path) -> None:
        path = Path(path)
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing; songs or beats are expected there")
        self.path = path / "music" if (path / "music").is_dir() else path
        self.files: dict[str, Path] = {}
        self.tables: dict[str, list[float]] = {}
        files = sorted(self.path.iterdir()) if self.path.is_dir() else [self.path]
        for file in files:
            suffix = file.suffix.lower()
            if suffix == ".json" and file.name != "manifest.json":
                self.tables |= _table(file)
            elif suffix in (".npy", ".npz", ".txt", *AUDIO) and not file.name.endswith(".features.npy"):
                name = file.stem.removesuffix(".beats")
                self.files.setdefault(
                    name, file
                )  # .beats.npy sorts before audio: what is known is not tracked again
        self._only = not self.path.is_dir() and len(self.files) == 1

    def beats(self, *names: str) -> np.ndarray | None:
        """Beats in seconds of the first name there is, else None. A single song serves every dance.

        Raises:
            ValueError: naming the file, if it cannot be read.
        """
        for name in names:
            if name in self.tables:
                return np.array(self.tables[name]) / SMPL_24.fps
            if name in self.files:
                return _read(self.files[name])
        return _read(next(iter(self.files.values()))) if self._only else None


def with_music(dance: Dance, songs: Songs | None, reference: Reference | None) -> Dance:
    """The dance with its beats: its own, else those in songs, else those of the real dance of its name.

    Songs are looked up by the dance's song, the song in its AIST name, and its name. A real dance's beats are
    known as far as it goes: one that is more than a second shorter does not do.
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
def _read(path: Path) -> np.ndarray:
    try:
        if path.suffix.lower() in AUDIO:
            return track_beats(path)
        if path.suffix.lower() == ".txt":
            return np.loadtxt(path, ndmin=1)
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            beats = content if isinstance(content, np.ndarray) else content["beats"]
        return beat_indices(beats, 2**31) / SMPL_24.fps
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: no beats can be read from it ({error})") from None


def track_beats(path: Path) -> np.ndarray:
    """Beats of a song in seconds: librosa's tracker on the onsets of the percussive part, at 60 fps.

    Source: the 60-fps beat feature of AIST++ and Bailando.
    """
    import librosa  # takes seconds to import, and most users give beats

    rate = SMPL_24.fps * HOP
    sound, _ = librosa.load(path, sr=rate)
    percussive = librosa.effects.hpss(sound)[1]
    onsets = librosa.onset.onset_strength(y=percussive, sr=rate, hop_length=HOP, aggregate=np.median)
    _, frames = librosa.beat.beat_track(onset_envelope=onsets, sr=rate, hop_length=HOP)
    return np.asarray(frames) / SMPL_24.fps
