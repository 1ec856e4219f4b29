"""The songs of --dance: found among files and folders, heard one by one, and named apart."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from datasets.aistpp import AUDIO_SUFFIXES
from datasets.music import song_features
from models.stages.dancer import Dancer
from utils.render.index import FILE_NAME as INDEX

log = logging.getLogger(__name__)
_LONGEST_NAME = 100  # bytes of a song's name that its files keep


class Found(NamedTuple):
    """What was asked for: songs, and what is none -> why (`skipped` by itself lies in a folder)."""

    songs: list[Path]
    failed: dict[str, str]
    skipped: dict[str, str]


class HeardSong(NamedTuple):
    """A song: its file, features (N, D) float32 at the code rate, and music beats (T,) bool per frame."""

    path: Path
    features: Tensor
    beats: np.ndarray


def one_line(error: object) -> str:
    """A message without line breaks and without what a terminal cannot show."""
    return " ".join(str(error).encode("utf-8", "replace").decode().split())


def named(path: object, why: str) -> str:
    """What is wrong with a file, in one line that names it."""
    line, name = one_line(why), one_line(path)
    return line if name in line else f"{name}: {line}"


def find_songs(given: Sequence[Path]) -> Found:
    """The files given, and all sound files of the folders given, sorted; each once.

    Folders in a folder are not entered. What in a folder is named as a sound file counts as one, and all else
    that has a sound track.
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
    """Whether a file is called as songs are, or has a sound track."""
    if path.suffix.lower() in AUDIO_SUFFIXES:
        return not path.name.startswith("._")  # what macOS leaves beside files
    try:
        with av.open(str(path)) as container:
            return bool(container.streams.audio)
    except (av.FFmpegError, OSError, ValueError):
        return False


def hear(path: Path, dancer: Dancer) -> HeardSong:
    """The features that the GPT hears of a song, of the version it was trained on, and its beats.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the file, if it is no sound, damaged, or shorter than two seconds.
        OSError: if it cannot be read.
    """
    song = song_features(path, dancer.features, dancer.codes_per_second, float(dancer.memory.skeleton.fps))
    if not song.features.any():
        log.warning("%s is silent: it is danced to all the same, without beats", one_line(path))
    elif not song.beats.any():
        log.warning("no beat was found in %s", one_line(path))
    return HeardSong(path, torch.from_numpy(np.array(song.features, np.float32)), song.beats)


def hear_all(given: Sequence[Path], dancer: Dancer) -> tuple[dict[Path, HeardSong], dict[str, str]]:
    """The songs that can be heard, in order, and what cannot -> why; each of these costs a line, no more."""
    found = find_songs(given)
    for path, why in found.skipped.items():
        log.info("skipped: %s: %s", one_line(path), why)
    for path, why in found.failed.items():
        log.warning("not danced to: %s", named(path, why))
    heard, failed = {}, dict(found.failed)
    for path in tqdm(found.songs, "listening", unit="song", leave=False, disable=None):
        try:
            heard[path] = hear(path, dancer)
        except (ValueError, OSError, MemoryError, av.FFmpegError) as error:
            failed[str(path)] = one_line(error) or type(error).__name__
            log.warning("not danced to: %s", named(path, failed[str(path)]))
    return heard, failed


def file_names(
    songs: Sequence[Path],
    variants: int,
    suffixes: Sequence[str],
    folder: Path,
    others: Sequence[Path] = (),
) -> Mapping[Path, list[str]]:
    """Names of the dances to each song, one for each variant: as its file, `_v2` and on, all apart.

    A second song of a name becomes name_2 and so on, as does one whose dance would overwrite a song or the
    index. Names that differ in case only count as one, as some file systems see them.

    Args:
        songs: their files.
        variants: dances to each.
        suffixes: of the files that each dance gives.
        folder: where they go.
        others: files that are not to be overwritten either: songs that could not be heard.
    """
    own = folder.resolve()
    given = [path for path in (*songs, *others) if own in (path.resolve().parent, path.parent.resolve())]
    taken = {INDEX} | {path.name.casefold() for path in given}
    names: dict[Path, list[str]] = {}
    for song in songs:
        short = song.stem.encode("utf-8", "replace")[:_LONGEST_NAME]
        stem = short.decode("utf-8", "ignore").strip() or "song"
        number = 1
        while True:
            plain = stem if number == 1 else f"{stem}_{number}"
            names[song] = [plain if v == 1 else f"{plain}_v{v}" for v in range(1, variants + 1)]
            files = {f"{name}{suffix}".casefold() for name in names[song] for suffix in suffixes}
            if not files & taken:
                break
            number += 1
        taken |= files
    return names
