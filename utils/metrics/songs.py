"""Music beats of dances, from files of beats or of songs, found by name.

.json         a table of beats, see `utils.beat_files`
.npy .npz     a flag per frame, beat frames, or beat times (.npz: under `beats`, with `fps` if that is there)
.beats.npy    of prepared data: a flag per frame, or beat frames, at 60 fps
.txt          beat times in seconds, one per line
.wav .mp3 ... a song: its beats are tracked, as for the 60-fps music features

Beat frames are at the rate that the command line or the file says, 60 fps by default; frames and seconds are
told apart as in `utils.beat_files`.
"""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from utils.beat_files import beat_times, read_beat_table
from utils.dance import Dance
from utils.files import AUDIO_SUFFIXES, DAMAGED_ARRAY, one_number
from utils.metrics.controls import song_of
from utils.metrics.reference import Reference
from utils.music import FeatureVersion
from utils.recording import checked_rate
from utils.skeleton import SMPL_24


class Songs:
    """Beats of songs, in seconds, by name; files are read when asked for.

    Args:
        path: a file, or a folder of files named after songs or dances. A prepared folder's `music` folder is
            used.
        version: of the music features: how the beats of songs are tracked.
        fps: rate in Hz of beat frames, where a file does not say it.

    Attributes:
        skipped: files of the folder that are neither beats nor songs.
        used: names that were asked for and found.

    Raises:
        FileNotFoundError: if there is no such path.
    """

    def __init__(self, path: Path, version: FeatureVersion = "standard", fps: float = SMPL_24.fps) -> None:
        path = Path(path)
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing; songs or beats are expected there")
        self.path = path / "music" if (path / "music").is_dir() else path
        self.version, self.fps = version, fps
        self.used: set[str] = set()
        self.files: dict[str, Path] = {}
        self.skipped: list[str] = []
        self.tables: dict[str, np.ndarray] = {}
        is_folder = self.path.is_dir()
        files = sorted(self.path.iterdir()) if is_folder else [self.path]
        files.sort(key=lambda file: file.suffix.lower() in AUDIO_SUFFIXES)  # known beats come before songs
        for file in files:
            suffix = file.suffix.lower()
            if is_folder and (file.name.startswith(".") or file.is_dir()):
                self.skipped.append(file.name)
            elif suffix == ".json" and file.name != "manifest.json":
                table = read_beat_table(file, fps)
                self.tables |= {name: beats.times for name, beats in table.items()}
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
                self.used.add(name)
                return self.tables[name]
            if name in self.files:
                self.used.add(name)
                return _read(self.files[name], self.version, self.fps)
        return _read(next(iter(self.files.values())), self.version, self.fps) if self._only else None

    @property
    def unused(self) -> list[str]:
        """Names of beats, not of sound files, that no dance asked for, sorted."""
        silent = {name for name, file in self.files.items() if file.suffix.lower() not in AUDIO_SUFFIXES}
        return [] if self._only else sorted((silent | set(self.tables)) - self.used)


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


@cache
def _read(path: Path, version: FeatureVersion, fps: float) -> np.ndarray:
    """Beats in seconds of one file; a file without a suffix of beat files is read as a song."""
    if path.suffix.lower() not in (".npy", ".npz", ".txt"):
        return track_beats(path, version)
    try:
        if path.suffix.lower() == ".txt":
            return beat_times(np.loadtxt(path, ndmin=1), fps, seconds=True)
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            if isinstance(content, np.ndarray):
                return beat_times(content, SMPL_24.fps if path.stem.endswith(".beats") else fps)
            rate = checked_rate(one_number(content["fps"], "fps")) if "fps" in content else fps
            return beat_times(content["beats"], rate)
    except DAMAGED_ARRAY as error:
        raise ValueError(f"{path}: no beats can be read from it ({error})") from None


def track_beats(path: Path, version: FeatureVersion = "standard") -> np.ndarray:
    """Beats of a song in seconds, at 60 fps: those of its prepared data.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the file, if it cannot be read or lasts less than two seconds.
    """
    from utils.music.beats import song_beats  # librosa takes seconds to import, and most users give beats

    return np.flatnonzero(song_beats(path, SMPL_24.fps, version)) / SMPL_24.fps
