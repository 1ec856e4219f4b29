"""Files of AIST++: sequence names, genres, splits, the ignore list, motion pickles, song folders.

Source: the AIST++ release (Li et al., ICCV 2021; annotations CC BY 4.0, Google LLC): motions/*.pkl,
keypoints3d/*.pkl, splits/crossmodal_{train,val,test}.txt, ignore_list.txt. The songs come from AIST
(Tsuchida et al., ISMIR 2019), in a folder of the user.
"""

import re
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from datasets.aistpp.tasks import Rejected
from utils.pickles import load_pickle
from utils.skeleton import SMPL_24

GENRES = {
    "BR": "break", "PO": "pop", "LO": "lock", "MH": "middle hip-hop", "LH": "LA-style hip-hop", "HO": "house",
    "WA": "waack", "KR": "krump", "JS": "street jazz", "JB": "ballet jazz",
}  # fmt: skip
SPLITS = ("train", "val", "test")
EXPECTED = {"declared": 1408, "released": 1365, "after_ignore_list": 1320, "train": 952, "test": 40}
SONG_FOLDERS = ("wav", "wavs", "music", "musics", "song", "songs", "all_musics", "audio", "audios", "mp3")

_NAME = re.compile(
    r"g(?P<genre>[A-Z]{2})_s(?P<situation>[A-Z]{2})_c(?P<camera>[A-Za-z0-9]+)_d(?P<dancer>\w+?)"
    r"_(?P<song>m[A-Z]{2}\d+)_ch(?P<choreography>\d+)"
)


class Name(NamedTuple):
    """Genre and song in a sequence's name, e.g. gBR_sBM_cAll_d04_mBR0_ch01: genre BR, song mBR0."""

    genre: str
    song: str


def parse_name(name: str) -> Name:
    """Genre and song of a sequence.

    Raises:
        ValueError: if the name does not have the form of AIST++'s names.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is no AIST++ name (they look like gBR_sBM_cAll_d04_mBR0_ch01)")
    return Name(match["genre"], match["song"])


def parse_list(content: bytes, where: str) -> list[str]:
    """The names in a split file or the ignore list, one per line; blank lines are skipped.

    Raises:
        ValueError: if it is not a text file.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{where} is not a text file with one sequence name a line") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def read_motion(content: bytes, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Axis-angle poses (T, 72) and translation (T, 3) in metres (translation / scaling) of a motion pickle.

    Args:
        content: bytes of motions/<name>.pkl: smpl_poses (T, 72) axis-angle, smpl_trans (T, 3),
            smpl_scaling (1,).
        where: the file's name, for error messages.

    Raises:
        ValueError: if the pickle is refused or damaged.
        Rejected: if its arrays are missing, ill-shaped or not finite.
    """
    motion = load_pickle(content, where)
    if not isinstance(motion, dict):
        raise Rejected("wrong shape", f"{where} holds a {type(motion).__name__}, not a dict of SMPL arrays")
    keys = ("smpl_poses", "smpl_trans", "smpl_scaling")
    poses, translation, scaling = (_floats(motion, key, where) for key in keys)
    num = SMPL_24.num_joints
    if poses.ndim == 3 and poses.shape[1:] == (num, 3):
        poses = poses.reshape(len(poses), -1)
    if poses.ndim != 2 or poses.shape[1] != 3 * num:
        raise Rejected("wrong shape", f"{where}: smpl_poses is {poses.shape}; (T, {3 * num}) is {num} joints")
    if translation.shape != (len(poses), 3):
        raise Rejected("wrong shape", f"{where}: smpl_trans is {translation.shape} for {len(poses)} frames")
    if scaling.size != 1 or scaling.item() <= 0:
        few = scaling.reshape(-1)[:3].tolist()
        raise Rejected("wrong shape", f"{where}: smpl_scaling is {few}; one positive number is needed")
    return poses, translation / scaling.item()


def rotation_matrices(poses: np.ndarray) -> np.ndarray:
    """Rotation matrices (T, 24, 3, 3) float32 of axis-angle poses (T, 72)."""
    turns = Rotation.from_rotvec(poses.reshape(-1, 3)).as_matrix()
    return turns.reshape(len(poses), -1, 3, 3).astype(np.float32)


def _floats(motion: dict, key: str, where: str) -> np.ndarray:
    if key not in motion:
        has = ", ".join(map(str, motion)) or "nothing"
        raise Rejected("wrong shape", f"{where} has no {key}; it has: {has}")
    array = np.asarray(motion[key])
    if array.dtype.kind not in "fiu":
        raise Rejected("wrong shape", f"{where}: {key} holds {array.dtype}, not numbers")
    bad = ~np.isfinite(array)
    if bad.any():
        frames = np.unique(np.nonzero(np.atleast_1d(bad))[0])
        what = f"{key} is NaN or infinite in {len(frames)} frames, first {frames[0]}"
        raise Rejected("NaN", f"{where}: {what}")
    return array.astype(np.float64)
