"""Plans for songs: sound files, or beats alone where the sound is not available."""

import json
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datasets.aistpp.annotations import SONG_FOLDERS
from datasets.aistpp.preparation import Plan, some_of
from datasets.aistpp.source import FileRef, Source, first_by_name
from datasets.aistpp.tasks import Rejected, SongRead, SongTask
from datasets.sequences import RECIPES, num_features, write_bytes
from utils.beat_files import read_beat_table
from utils.files import AUDIO_SUFFIXES
from utils.music import NEWEST, FeatureVersion
from utils.music.audio import audio_seconds
from utils.skeleton import SMPL_24

_DAY = 86_400.0  # seconds
LONG = 4.0  # minutes; longer songs are read one at a time, as each needs about 32 MB per minute
_ZIPPED_BYTES = {".wav": 5e6, ".aif": 5e6, ".aiff": 5e6, ".flac": 3e6, "": 1e6}  # a minute of mono


class MusicOptions(NamedTuple):
    """Options for songs.

    Attributes:
        version: of the features.
        fps: steps per second.
        folder: of the songs; the usual folders of the source if None.
        optional: keep dances whose song is missing.
        beats: a table of beats (`utils.beat_files`) of songs without a sound file; frames are at 60 fps.
    """

    version: FeatureVersion = NEWEST
    fps: float = 7.5
    folder: Path | None = None
    optional: bool = False
    beats: Path | None = None


def add_songs(plan: Plan, found: Source, music: MusicOptions) -> None:
    """Adds a task per song to a plan: from `music.folder`, else from the usual folders of the source.

    Raises:
        FileNotFoundError: if there is no song at all and songs are not optional.
        ValueError: if the file of known beats is damaged.
    """
    refs: list[FileRef] = []
    if music.folder:
        refs = [ref for ref in Source(music.folder).files if ref.name.suffix.lower() in AUDIO_SUFFIXES]
    else:
        refs = [ref for folder in SONG_FOLDERS for ref in found.inside(folder, AUDIO_SUFFIXES)]
    refs.sort(key=lambda ref: AUDIO_SUFFIXES.index(ref.name.suffix.lower()))  # stable: best suffix first
    beats = read_beats(music.beats) if music.beats else {}
    if not refs and not music.optional:
        raise FileNotFoundError(
            f"no songs ({' '.join(AUDIO_SUFFIXES)}) "
            + (
                f"under {music.folder}"
                if music.folder
                else f"in {found.path} (looked in {', '.join(SONG_FOLDERS)})"
            )
            + "; give --songs DIR, or --no-songs to prepare the dances alone"
        )
    options = f"music {RECIPES[music.version]} {music.version} {music.fps:g}"
    columns = num_features(music.version, music.fps)
    read = partial(_read_song, version=music.version, fps=music.fps)
    none = np.zeros(0, bool)
    for song, flags in beats.items():
        plan.songs[song] = SongTask(song, None, read, options, columns, flags)
    unused = sorted(set(beats) - {task.song for task in plan.motions})
    if unused:
        plan.notes.append(f"beats of {music.beats} that no dance needs: {some_of(unused)}")
    for song, ref in first_by_name(refs, plan.notes, "song").items():
        plan.songs[song] = SongTask(song, ref, read, options, columns, none, song_minutes(ref) > LONG)
    plan.song_optional = music.optional
    plan.music = {"version": music.version, "fps": music.fps, "columns": columns}


def songs_plan(music: MusicOptions) -> Plan:
    """A plan for songs alone: every song under `music.folder`, and no dances.

    Raises:
        FileNotFoundError: if there is no such folder, or no song in it.
        ValueError: if it is a file but no whole zip.
    """
    assert music.folder is not None, "songs alone need their folder"
    found = Source(music.folder)
    plan = Plan(music.folder.resolve().stem, [], {}, {}, {"train": [], "test": []}, songs_only=True)
    others = [ref.path for ref in found.files if ref.name.suffix.lower() not in AUDIO_SUFFIXES]
    if others:
        plan.notes.append(f"{len(others)} files are not called as songs are: {', '.join(others[:5])}")
    add_songs(plan, found, music)
    return plan


def song_minutes(ref: FileRef) -> float:
    """Approximate length of a song; 0 if its file is damaged, which is reported when it is read."""
    if ref.zipped:
        return ref.size() / _ZIPPED_BYTES.get(ref.name.suffix.lower(), _ZIPPED_BYTES[""])
    try:
        return audio_seconds(ref.source / ref.path) / 60
    except (OSError, ValueError):
        return 0.0


def read_beats(path: Path) -> dict[str, np.ndarray]:
    """Beat flags (T60,) per song of a table (`utils.beat_files`), up to its end or its last beat.

    Raises:
        FileNotFoundError: if it is missing.
        ValueError: naming the song, if its entry has another form, or lasts for more than a day.
    """
    found, flags = read_beat_table(path, SMPL_24.fps), {}
    for song, (times, seconds) in found.items():
        last = times[-1] if len(times) else 0.0
        if max(last, seconds or 0.0) > _DAY:
            raise ValueError(f"{path}: {song}: a song of {max(last, seconds or 0.0):.0f} s is no song")
        places = np.round(times * SMPL_24.fps).astype(int)
        length = int(places[-1]) + 1 if len(times) else 0
        flags[song] = np.zeros(length if seconds is None else max(length, round(seconds * SMPL_24.fps)), bool)
        flags[song][places] = True
    return flags


def parse_json(content: bytes, where: str) -> Any:
    """Content of a JSON file.

    Raises:
        ValueError: naming the file, if it is damaged.
    """
    try:
        return json.loads(content)
    except ValueError as error:
        raise ValueError(f"{where} is no JSON ({error})") from None


def _read_song(file: FileRef, root: Path, beats: np.ndarray, version: FeatureVersion, fps: float) -> SongRead:
    """Features of a sound file. A file in a zip is also copied to <root>/audio, for videos."""
    from datasets.music import song_features  # librosa is slow to import

    path = file.source / file.path
    if file.zipped:
        content, path = file.read(), root / "audio" / file.name.name
        write_bytes(path, content)
    try:
        empty = not path.stat().st_size
        song = (
            None if empty else song_features(path, version=version, code_fps=fps, beat_fps=float(SMPL_24.fps))
        )
    except OSError as error:
        raise ValueError(f"{file.path} cannot be read: {error}") from None
    if song is None:
        raise Rejected("unreadable", f"{file.path} is empty (0 bytes)")
    absolute, base = path.absolute(), root.absolute()
    audio = str(absolute.relative_to(base) if absolute.is_relative_to(base) else absolute)
    return SongRead(np.asarray(song.features, np.float32), np.asarray(song.beats, bool), audio)
