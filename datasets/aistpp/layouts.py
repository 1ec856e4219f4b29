"""Plans for folders of raw data: the layout of AIST++, and a plain layout for any other data.

docs/DATA.md describes the plain layout: motions/<sequence>.npy or .npz, songs, splits/train.txt and test.txt.
"""

import io
import zipfile
from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datasets.aistpp.annotations import (
    EXPECTED,
    SPLITS,
    parse_list,
    parse_name,
    read_motion,
    rotation_matrices,
)
from datasets.aistpp.preparation import Plan
from datasets.aistpp.songs import MusicOptions, add_songs, parse_json
from datasets.aistpp.source import MOST_BYTES, FileRef, Source, first_by_name
from datasets.aistpp.tasks import DanceRead, MotionTask, Rejected
from utils.files import DAMAGED_ARRAY, one_number
from utils.plausibility import up_shares, wrong_axis
from utils.recording import UpAxis, checked_rate, mean_jerk, resampled, to_y_up
from utils.skeleton import SMPL_24, Skeleton
from utils.smpl import forward_kinematics


def aistpp_plan(
    source: Path, rest: np.ndarray, music: MusicOptions, name: str = "aistpp", rotations: bool = False
) -> Plan:
    """A plan for AIST++ as distributed: motions/*.pkl, splits/, ignore_list.txt, songs.

    Args:
        source: the folder or zip; files are found at any depth.
        rest: (24, 3) rest joints for the forward kinematics, metres.
        music: options for songs.
        name: of the data set.
        rotations: whether the bone rotations of the dances are kept too.

    Raises:
        FileNotFoundError: if the source, its motions, a split file or all songs are missing.
        ValueError: if a list or the zip is damaged.
    """
    found = Source(source)
    pickles = found.inside("motions", (".pkl",)) or [ref for ref in found.files if _is_motion(ref)]
    if not pickles:
        raise FileNotFoundError(f"no motions/*.pkl in {source}; docs/DATA.md says where they are to be had")
    lists = {
        split: _lines(found, f"crossmodal_{split}.txt", f"splits/crossmodal_{split}.txt") for split in SPLITS
    }
    plan = Plan(name, [], {}, {}, lists, expected=EXPECTED)
    ignore = found.named("ignore_list.txt")
    plan.ignored = parse_list(ignore.read(), ignore.path) if ignore else []
    if not ignore:
        plan.notes.append("there is no ignore_list.txt: nothing is ignored")
    options = f"motion 2 smpl {blake2b(np.ascontiguousarray(rest).tobytes(), digest_size=8).hexdigest()}"
    options += " rotations" if rotations else ""
    read = partial(_read_smpl, rest=rest, rotations=rotations)
    _add_motions(plan, pickles, parse_name, read, options)
    add_songs(plan, found, music)
    return plan


def plain_plan(
    source: Path,
    music: MusicOptions,
    skeleton: Skeleton = SMPL_24,
    fps: float | None = None,
    up: UpAxis = "y",
) -> Plan:
    """A plan for other data: motions/<sequence>.npy or .npz of joints, songs, splits/{train,test}.txt.

    Args:
        source: the folder or zip.
        music: options for songs.
        skeleton: of the dances.
        fps: frame rate in Hz of files that do not say theirs; that of the skeleton if None.
        up: the axis that points up in the files.

    Raises:
        FileNotFoundError: if the source, its motions, a split list or all songs are missing.
        ValueError: if a list is damaged, or the frame rate is of no use.
    """
    rate = skeleton.fps if fps is None else checked_rate(fps)
    found = Source(source)
    arrays = found.inside("motions", (".npy", ".npz"))
    if not arrays:
        raise FileNotFoundError(f"no motions/*.npy or *.npz in {source}; docs/DATA.md describes the layout")
    lists = {split: _lines(found, f"{split}.txt", f"splits/{split}.txt") for split in ("train", "test")}
    plan = Plan(source.stem, [], {}, {}, lists, skeleton=skeleton)
    ignore = found.named("ignore_list.txt")
    plan.ignored = parse_list(ignore.read(), ignore.path) if ignore else []
    table, songs = found.named("songs.json"), {}
    if table:
        songs = parse_json(table.read(), table.path)
        if not isinstance(songs, dict) or not all(isinstance(song, str) for song in songs.values()):
            raise ValueError(f"{table.path} must be an object of sequence names and song names")

    def named(name: str) -> Any:
        return _Plain("", songs.get(name, name))

    options = f"motion 2 joints {skeleton.name} {rate:g} fps {up} up"
    read = partial(_read_joints, fps=rate, up=up, skeleton=skeleton)
    _add_motions(plan, arrays, named, read, options)
    add_songs(plan, found, music)
    return plan


class _Plain(NamedTuple):
    genre: str
    song: str


def _add_motions(
    plan: Plan, files: list[FileRef], parse: Callable[[str], Any], read: Callable[..., Any], options: str
) -> None:
    """Adds a task per motion file, except ignored ones, misnamed ones and second ones of the same name."""
    ignored, plan.found = set(plan.ignored), len(files)
    found = first_by_name(files, plan.notes)
    plan.left_out |= {name: ("ignored", "on the ignore list") for name in plan.ignored}
    for name, ref in found.items():
        if name in ignored:
            continue
        try:
            genre, song = parse(name)
        except ValueError as error:
            plan.left_out[name] = ("misnamed", str(error))
            continue
        plan.motions.append(MotionTask(name, song, genre, ref, read, options, plan.skeleton))
    for split, names in plan.lists.items():
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            plan.notes.append(f"the {split} list names {', '.join(twice)} more than once; once counts")
        for name in names:
            if name not in found and name not in ignored:
                plan.left_out[name] = (
                    "missing motion",
                    f"the {split} list names it, but there is no such file",
                )
    both = set(plan.lists["train"]) & {n for s in plan.lists if s != "train" for n in plan.lists[s]}
    if both:
        plan.notes.append(f"in the train list and a test list: {', '.join(sorted(both))}; kept for test only")


def _is_motion(ref: FileRef) -> bool:
    try:
        parse_name(ref.name.stem)
    except ValueError:
        return False
    return ref.name.suffix == ".pkl" and ref.name.parent.name != "keypoints3d"


def _lines(found: Source, name: str, wanted: str) -> list[str]:
    ref = found.named(name)
    if ref is None:
        raise FileNotFoundError(
            f"{wanted} is missing in {found.path}; docs/DATA.md says where it is to be had"
        )
    return parse_list(ref.read(), ref.path)


def _read_smpl(content: bytes, where: str, rest: np.ndarray, rotations: bool) -> DanceRead:
    poses, translation = read_motion(content, where)
    joints = forward_kinematics(poses, translation, rest).astype(np.float32)
    return DanceRead(joints, {}, poses, rotation_matrices(poses) if rotations else None)


def _read_joints(content: bytes, where: str, fps: float, up: UpAxis, skeleton: Skeleton) -> DanceRead:
    """Joints, y up, at the skeleton's rate, from an .npy, or from an .npz with `joints` and perhaps `fps`.

    Facts of a dance at another rate: that rate, and its jitter in m/s³ before and after.

    Raises:
        Rejected: if the file holds no joints, or its dance stands along another axis than y.
        ValueError: naming the file, if it is damaged or its frame rate is of no use.
    """
    try:
        _refuse_huge(content)
        loaded = np.load(io.BytesIO(content), allow_pickle=False)
        arrays = (
            {"joints": loaded} if isinstance(loaded, np.ndarray) else {key: loaded[key] for key in loaded}
        )
    except DAMAGED_ARRAY as error:
        raise ValueError(f"{where} is damaged or holds objects ({error})") from None
    if "joints" not in arrays:
        raise Rejected(
            "wrong shape", f"{where} has no array 'joints'; it has: {', '.join(arrays) or 'nothing'}"
        )
    try:
        rate = checked_rate(one_number(arrays.get("fps", fps), "fps"))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    joints = arrays["joints"]
    fits = joints.ndim == 3 and joints.shape[1:] == (skeleton.num_joints, 3) and joints.dtype.kind == "f"
    if not (fits and len(joints) and np.isfinite(joints).all()):
        return DanceRead(joints, {})  # `check_joints` refuses it
    joints = to_y_up(joints, up)
    if axis := wrong_axis(up_shares(joints, skeleton)):
        raise Rejected("not y up", f"{where}: {axis}")
    if rate == skeleton.fps:
        return DanceRead(joints, {})
    at_rate = resampled(joints, rate, skeleton.fps)
    jitter = [round(mean_jerk(*some), 1) for some in ((joints, rate), (at_rate, skeleton.fps))]
    return DanceRead(at_rate, {"resampled": {"fps": rate, "jitter": jitter}})


def _refuse_huge(content: bytes) -> None:
    """Raises ValueError if a zip of arrays is far larger unpacked than any dance."""
    if content.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MOST_BYTES:
            raise ValueError(f"it would be {size / 1e9:.1f} GB unpacked")
