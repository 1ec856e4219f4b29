"""The songs of --dance: which files they are, their features and beats, and the names of what is written."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from datasets.music import song_features
from models.inference.config import DanceConfig
from models.inference.prompts import Networks
from utils.filenames import name_key, safe_name
from utils.files import AUDIO_SUFFIXES
from utils.music.beat_files import read_beat_times
from utils.music.tempo import Tempo, tempo_of
from utils.render.index import FILE_NAME as INDEX

log = logging.getLogger(__name__)


class Found(NamedTuple):
    """Result of `find_songs`.

    Attributes:
        songs: sound files.
        failed: what was asked for and is not usable -> why.
        skipped: files of a folder that are not songs -> why.
    """

    songs: list[Path]
    failed: dict[str, str]
    skipped: dict[str, str]


class GivenRhythm(NamedTuple):
    """Tempo or beats that are given instead of found.

    Attributes:
        bpm: tempo in beats per minute; None if it is to be found.
        beat_times: (N,) seconds; None if beats are to be tracked.
        source: key or file that gives them; '' if nothing is given.
    """

    bpm: float | None = None
    beat_times: np.ndarray | None = None
    source: str = ""


_FOUND = GivenRhythm()


class Song(NamedTuple):
    """An analysed song.

    Attributes:
        path: its file.
        features: (N, D) float32 at the code rate.
        beats: (T,) bool per frame, true on a music beat.
        tempo: of the beats.
        beats_from: key or file that gives tempo or beats; '' if they are found in the song.
    """

    path: Path
    features: Tensor
    beats: np.ndarray
    tempo: Tempo
    beats_from: str = ""


def one_line(error: object) -> str:
    """A message without line breaks and without what a terminal cannot show."""
    return " ".join(str(error).encode("utf-8", "replace").decode().split())


def named(path: object, why: str) -> str:
    """The error of a file as one line that names it."""
    line, name = one_line(why), one_line(path)
    return line if name in line else f"{name}: {line}"


def find_songs(given: Sequence[Path]) -> Found:
    """The files given, and all sound files of the folders given, sorted; each once.

    Folders in a folder are not entered. A file of a folder is a song if it has the suffix of a sound file or
    holds a sound track.
    """
    found = Found([], {}, {})
    for path in given:
        if not path.is_dir():
            found.songs.append(path)
            continue
        try:
            files = sorted(path.iterdir())
        except OSError as error:
            found.failed[str(path)] = f"the folder cannot be read ({error.strerror})"
            continue
        kept = []
        for file in files:
            why = "a folder" if file.is_dir() else "" if _is_sound(file) else "no sound file"
            if why:
                found.skipped[str(file)] = why
            else:
                kept.append(file)
        if not kept:
            found.failed[str(path)] = "the folder holds no sound file"
        found.songs.extend(kept)
    once: dict[Path, Path] = {}
    for path in found.songs:
        once.setdefault(path.resolve(), path)
    return found._replace(songs=list(once.values()))


def _is_sound(path: Path) -> bool:
    """Whether a file has the suffix of a song, or a sound track."""
    if path.suffix.lower() in AUDIO_SUFFIXES:
        return not path.name.startswith("._")  # what macOS leaves beside files
    import av

    try:
        with av.open(str(path)) as container:
            return bool(container.streams.audio)
    except (av.FFmpegError, OSError, ValueError):
        return False


def given_rhythm(config: DanceConfig) -> GivenRhythm:
    """The tempo or the beats that a config gives.

    Raises:
        FileNotFoundError: if the file of beats is missing.
        ValueError: if it cannot be read.
    """
    if config.beats is None:
        return GivenRhythm(config.bpm, source="" if config.bpm is None else "dance.bpm")
    try:
        times = read_beat_times(config.beats)
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"dance.beats: {error}") from None
    return GivenRhythm(beat_times=times, source=one_line(Path(config.beats).name))


def analyse(path: Path, networks: Networks, given: GivenRhythm = _FOUND) -> Song:
    """Compute the music features of a song, of the version that the GPT was trained on, and its beats.

    Args:
        path: of the song.
        networks: whose features and rates count.
        given: tempo or beats that replace those of the song.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the file, if it is not a sound file, damaged, or shorter than two seconds.
        OSError: if it cannot be read.
    """
    fps = float(networks.memory.skeleton.fps)
    song = song_features(path, networks.features, networks.codes_per_second, fps, given.bpm, given.beat_times)
    if not song.features.any():
        log.warning("%s is silent; its dance is generated without beats", one_line(path))
    elif not song.beats.any():
        log.warning("no beat was found in %s", one_line(path))
    features = torch.from_numpy(np.array(song.features, np.float32))
    return Song(path, features, song.beats, tempo_of(song.beats, fps), given.source)


def analyse_each(
    songs: Sequence[Path], networks: Networks, given: GivenRhythm = _FOUND
) -> Iterator[Song | str]:
    """Yield each song in order, analysed, or why it cannot be analysed, which is logged in one line."""
    import av

    for path in songs:
        try:
            yield analyse(path, networks, given)
        except (ValueError, OSError, MemoryError, av.FFmpegError) as error:
            why = one_line(error) or type(error).__name__
            log.warning("left out: %s", named(path, why))
            yield why


class FileNames:
    """Distinct names for the files of the dances: those of the songs, made safe for every file system.

    A second song of the same name becomes name_2 and so on, as does one whose dance would overwrite a song or
    the index. Names that some file system does not distinguish count as the same, see `utils.filenames`.

    Args:
        folder: where the files go.
        suffixes: of the files that each dance gives.
        songs: all songs of the call, including those that cannot be analysed: none is overwritten.
    """

    def __init__(self, folder: Path, suffixes: Sequence[str], songs: Sequence[Path]) -> None:
        own = folder.resolve()
        inside = [path for path in songs if own in (path.resolve().parent, path.parent.resolve())]
        self.suffixes = suffixes
        self.taken = {INDEX} | {name_key(path.name) for path in inside}
        self.titles: set[str] = set()

    def of(self, song: Path, variants: int) -> list[str]:
        """Names without suffix of the dances to a song: `name`, `name_v2`, `name_v3`, ..."""
        stem, number = safe_name(song.stem, default="song"), 1
        while True:
            plain = stem if number == 1 else f"{stem}_{number}"
            names = [plain if v == 1 else f"{plain}_v{v}" for v in range(1, variants + 1)]
            files = {name_key(f"{name}{suffix}") for name in names for suffix in self.suffixes}
            if not files & self.taken:
                self.taken |= files
                return names
            number += 1

    def title_of(self, song: Path) -> str:
        """The song's name as it is shown: its own, with a number if another song has the same one."""
        stem, number = one_line(song.stem), 1
        title = stem
        while title in self.titles:
            number += 1
            title = f"{stem} ({number})"
        self.titles.add(title)
        return title
