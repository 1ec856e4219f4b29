"""The published system's own preprocessed data: one JSON per dance, with joints and music features as text.

As published: folders of <sequence>.json with `dance_array` (T, 72) of absolute joints at 60 fps and
`music_array` (T, 438) at 60 fps, one folder with `train`, one with `test` in its name; and <song>.json with
`music_array` (T', 438) of the whole song at 7.5 fps in a folder with `7.5fps` in its name. The features are
of version `compat`.
"""

import json
from pathlib import Path

import numpy as np

from datasets.aistpp.annotations import EXPECTED, parse_name
from datasets.aistpp.preparation import Plan
from datasets.aistpp.source import FileRef, Source, first_by_name
from datasets.aistpp.tasks import DanceRead, MotionTask, Rejected, SongRead, SongTask
from datasets.sequences import BEAT_COLUMN, num_features
from utils.skeleton import SMPL_24

CODE_RATE_FOLDER = "7.5fps"


def published_plan(source: Path, song_optional: bool = False) -> Plan:
    """A plan for the published preprocessed data.

    The 60-fps features are read only for their beat column; the 7.5-fps ones are imported unchanged. Folders
    define the splits, so the 328 dances of the real set that are in neither split are missing.

    Args:
        source: the folder or zip that contains those folders.
        song_optional: keep dances whose 7.5-fps features are missing.

    Raises:
        FileNotFoundError: if the source, its dances or the 7.5-fps features are missing.
        ValueError: if the source is a damaged zip.
    """
    found = Source(source)
    tables = [ref for ref in found.files if ref.name.suffix.lower() == ".json"]
    code_rate = [ref for ref in tables if CODE_RATE_FOLDER in ref.name.parent.name]
    folders = {split: [ref for ref in tables if _in_split(ref, split)] for split in ("train", "test")}
    if not any(folders.values()):
        raise FileNotFoundError(
            f"no dances in {source}: folders with 'train' and 'test' in their names and a JSON per dance are "
            "looked for (aistpp_train_wav, aistpp_test_full_wav)"
        )
    if not code_rate and not song_optional:
        raise FileNotFoundError(
            f"no folder with {CODE_RATE_FOLDER!r} in its name in {source} (aistpp_music_feat_7.5fps); "
            "--no-songs imports the dances alone"
        )
    columns = num_features("compat")
    plan = Plan("aistpp_published", [], {}, {"version": "compat", "fps": 7.5, "columns": columns}, {})
    plan.expected, plan.song_optional = EXPECTED, song_optional
    plan.notes.append(
        "imported from the published preprocessed data; dances were cut to their songs by its authors"
    )
    plan.lists = {split: [ref.name.stem for ref in refs] for split, refs in folders.items()}
    dances = [ref for refs in folders.values() for ref in refs]
    plan.found = len(dances)
    for name, ref in first_by_name(dances, plan.notes).items():
        try:
            genre, song = parse_name(name)
        except ValueError as error:
            plan.left_out[name] = ("misnamed", str(error))
            continue
        plan.motions.append(MotionTask(name, song, genre, ref, _read_dance, "motion 2 published"))
    none = np.zeros(0, bool)
    for task in plan.motions:  # dances have beats even if the 7.5-fps features are missing
        plan.songs[task.song] = SongTask(task.song, None, _read_features, "music 1 published", columns, none)
    for ref in code_rate:
        song = _song_of(ref.name.stem)
        plan.songs[song] = SongTask(song, ref, _read_features, "music 1 published", columns, none)
    return plan


def _in_split(ref: FileRef, split: str) -> bool:
    return split in ref.name.parent.name and CODE_RATE_FOLDER not in ref.name.parent.name


def _song_of(stem: str) -> str:
    """Song of a 7.5-fps file, which has the name of the song or, in some copies, of a dance to it."""
    try:
        return parse_name(stem).song
    except ValueError:
        return stem


def _array(content: bytes, key: str, where: str) -> np.ndarray:
    try:
        table = json.loads(content)
        return np.asarray(table[key], np.float64)
    except (ValueError, KeyError, TypeError) as error:
        what = "empty (0 bytes)" if not content else f"no JSON with a full array {key!r} ({error})"
        raise ValueError(f"{where} is {what}") from None


def _read_dance(content: bytes, where: str) -> DanceRead:
    """Joints of a dance and, as facts, the beats of its song from the 60-fps features."""
    poses, music = (_array(content, key, where) for key in ("dance_array", "music_array"))
    num = SMPL_24.num_joints
    if poses.ndim != 2 or poses.shape[1] != 3 * num:
        raise Rejected("wrong shape", f"{where}: dance_array is {poses.shape}; (T, {3 * num}) is needed")
    if music.ndim != 2 or music.shape[1] <= BEAT_COLUMN:
        raise Rejected(
            "wrong shape", f"{where}: music_array is {music.shape}; column {BEAT_COLUMN} holds beats"
        )
    beats = np.flatnonzero(music[:, BEAT_COLUMN] > 0.5).tolist()
    joints = poses.reshape(-1, num, 3).astype(np.float32)
    return DanceRead(joints, {"music_beats": {"frames": len(music), "beats": beats}})


def _read_features(file: FileRef, root: Path, beats: np.ndarray) -> SongRead:
    features = _array(file.read(), "music_array", file.path).astype(np.float32)
    return SongRead(features, beats, None)
