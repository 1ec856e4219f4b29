"""Rest joints from SMPL's model files: joint regressor times template.

Source: SMPL (Loper et al. 2015). The files are pickles of Python 2 that hold chumpy arrays and scipy's sparse
matrices; neither is imported, and nothing in the pickle is run (`utils.pickles`). The rest joints of the mean
shapes are built in (`utils.smpl`), so no such file is needed.
"""

from pathlib import Path
from typing import Any

import numpy as np

from utils.files import DAMAGED_ARRAY
from utils.pickles import Opaque, load_pickle
from utils.skeleton import SMPL_24
from utils.smpl import Gender

MOST_VERTICES = 100_000  # SMPL has 6,890


def read_rest_joints(path: Path, gender: Gender = "male") -> np.ndarray:
    """Rest joints from a licensed SMPL model file, for betas = 0.

    Args:
        path: the .pkl or .npz file, or a folder that contains it under one of its usual names (SMPL_MALE.pkl,
            basicmodel_m_lbs_10_207_0_v1.1.0.pkl, ...), directly or in smpl/ or models/.
        gender: of the model to find in a folder.

    Returns:
        (24, 3) float64, metres, y up.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not an SMPL model, or contains objects that are not read from untrusted files.
    """
    file = _find_model(path, gender)
    if file.suffix == ".npz":
        try:
            with np.load(file, allow_pickle=False) as arrays:
                content = {key: arrays[key] for key in ("v_template", "J_regressor") if key in arrays}
        except DAMAGED_ARRAY as error:
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
    """Values of a plain array, a chumpy array or a scipy sparse matrix."""
    if isinstance(value, Opaque):
        if {"data", "indices", "indptr"} <= set(value.state) and "csc" in value.class_name:
            value = _from_columns(value.state, where)
        elif "x" in value.state:
            value = value.state["x"]
        else:
            raise ValueError(f"{where} is a {value.class_name}, which is not understood")
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or not np.isfinite(value).all():
        raise ValueError(f"{where} is not an array of finite numbers")
    return value.astype(np.float64)


def _from_columns(state: dict[str, Any], where: str) -> np.ndarray:
    """Converts a sparse matrix in column form (scipy's csc) to a full one, checking every index."""
    shape: Any = state.get("_shape", state.get("shape"))
    try:
        rows, columns = (int(size) for size in shape or ())
        if not (0 < rows <= 1000 and 0 < columns <= MOST_VERTICES):
            raise ValueError(f"its shape is {rows} x {columns}")
        full = np.zeros((rows, columns))
        starts: np.ndarray = np.asarray(state["indptr"], np.int64)
        column = np.repeat(np.arange(columns), starts[1:] - starts[:-1])
        np.add.at(
            full, (np.asarray(state["indices"], np.int64), column), np.asarray(state["data"], np.float64)
        )
    except (TypeError, ValueError, IndexError) as error:
        raise ValueError(f"{where} is no sound sparse matrix ({error})") from None
    return full
