"""SMPL parameters -> 24 joints, by forward kinematics on the rest joints of the mean shape (betas = 0).

Source: SMPL (Loper et al. 2015), the kinematic chain only: with betas = 0 the joints need no mesh, so the
rest joints of the three public models are all that is kept here, and no licensed file is required. Who
has SMPL's own file can have them computed from it: joint regressor times template.
"""

import json
import zipfile
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.sparse import csc_matrix
from scipy.spatial.transform import Rotation

from datasets.pickles import Opaque, load_pickle
from utils.skeleton import SMPL_24

Gender = Literal["male", "female", "neutral"]
GENDERS: tuple[Gender, ...] = ("male", "female", "neutral")


@cache
def _rest_joint_table() -> dict[str, np.ndarray]:
    table = json.loads(Path(__file__).with_name("smpl_rest_joints.json").read_text())
    return {gender: np.asarray(table[gender], np.float64) for gender in GENDERS}


def rest_joints(gender: Gender = "male") -> np.ndarray:
    """Rest positions (24, 3) of the SMPL joints for betas = 0, metres, y up. AIST++ uses the male model."""
    return _rest_joint_table()[gender].copy()


def read_rest_joints(path: Path, gender: Gender = "male") -> np.ndarray:
    """Rest joints from a licensed SMPL model file, for betas = 0.

    Args:
        path: the .pkl or .npz file, or a folder that holds it under any of its usual names (SMPL_MALE.pkl,
            basicmodel_m_lbs_10_207_0_v1.1.0.pkl, ...), itself or in smpl/ or models/.
        gender: which of the models to look for in a folder.

    Returns:
        (24, 3) float64, metres, y up.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no SMPL model, or holds anything that is not read from untrusted files.
    """
    file = _find_model(path, gender)
    if file.suffix == ".npz":
        try:
            with np.load(file, allow_pickle=False) as arrays:
                content = {key: arrays[key] for key in ("v_template", "J_regressor") if key in arrays}
        except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"SMPL model {file} is damaged ({error})") from None
    else:
        content = load_pickle(file.read_bytes(), f"SMPL model {file}", opaque=("chumpy", "scipy"))
    if not isinstance(content, dict) or not {"v_template", "J_regressor"} <= set(content):
        raise ValueError(f"{file} is no SMPL model: it has no v_template and J_regressor")
    template, regressor = (_dense(content[key], f"{key} of {file}") for key in ("v_template", "J_regressor"))
    num = SMPL_24.num_joints
    if template.ndim != 2 or template.shape[1] != 3 or regressor.shape != (num, len(template)):
        raise ValueError(
            f"{file} has v_template {template.shape} and J_regressor {regressor.shape}; SMPL's are (6890, 3)"
            f" and ({num}, 6890) (SMPL-H and SMPL-X have other joints and do not fit AIST++)"
        )
    return regressor @ template


def _find_model(path: Path, gender: Gender) -> Path:
    if path.is_file():
        return path
    initial = {"male": "m", "female": "f", "neutral": "neutral"}[gender]
    for folder in (path, path / "smpl", path / "models", path / "smpl" / "models"):
        for file in sorted(folder.glob("*")) if folder.is_dir() else []:
            stem = file.stem.lower()
            named = stem == f"smpl_{gender}" or stem.startswith(f"basicmodel_{initial}_lbs_10_207_0")
            if named and file.suffix in (".pkl", ".npz"):
                return file
    raise FileNotFoundError(
        f"no {gender} SMPL model under {path} (SMPL_{gender.upper()}.pkl or "
        f"basicmodel_{initial}_lbs_10_207_0_*.pkl); it is had from https://smpl.is.tue.mpg.de, "
        "and without --smpl the built-in rest joints are used"
    )


def _dense(value: Any, where: str) -> np.ndarray:
    """The numbers of a plain array, a chumpy array or a scipy sparse matrix."""
    if isinstance(value, Opaque):
        state = value.state
        if {"data", "indices", "indptr"} <= set(state) and "csc" in value.class_name:
            shape = state.get("_shape", state.get("shape"))
            value = csc_matrix((state["data"], state["indices"], state["indptr"]), shape=shape).toarray()
        elif "x" in state:
            value = state["x"]
        else:
            raise ValueError(f"{where} is a {value.class_name}, which is not understood")
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or not np.isfinite(value).all():
        raise ValueError(f"{where} is not an array of finite numbers")
    return value.astype(np.float64)


def forward_kinematics(
    poses: np.ndarray, translation: np.ndarray, rest: np.ndarray | None = None
) -> np.ndarray:
    """World positions of the joints.

    Args:
        poses: (T, 72) axis-angle rotations in radians, each joint's relative to its parent's.
        translation: (T, 3) metres. Added to the rest pelvis, which stays in, as in AIST++.
        rest: (24, 3) rest joints, metres; the male model's if None.

    Returns:
        (T, 24, 3) float64 joints, metres, y up.

    Raises:
        ValueError: on shapes other than these.
    """
    skeleton = SMPL_24
    rest = rest_joints() if rest is None else np.asarray(rest, np.float64)
    poses, translation = np.asarray(poses, np.float64), np.asarray(translation, np.float64)
    num = skeleton.num_joints
    if poses.ndim != 2 or poses.shape[1] != 3 * num:
        raise ValueError(f"poses must be (T, {3 * num}) axis-angle, got {poses.shape}")
    if translation.shape != (len(poses), 3):
        raise ValueError(f"translation must be ({len(poses)}, 3) to match the poses, got {translation.shape}")
    if rest.shape != (num, 3):
        raise ValueError(f"rest joints must be ({num}, 3), got {rest.shape}")

    local = Rotation.from_rotvec(poses.reshape(-1, 3)).as_matrix().reshape(-1, num, 3, 3)
    joints = np.empty((len(poses), num, 3))
    world = np.empty_like(local)
    world[:, 0], joints[:, 0] = local[:, 0], rest[0] + translation
    for parent, child in skeleton.bones:  # parents come before children in SMPL order
        world[:, child] = world[:, parent] @ local[:, child]
        joints[:, child] = joints[:, parent] + world[:, parent] @ (rest[child] - rest[parent])
    return joints
