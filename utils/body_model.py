"""SMPL's body model through the smplx package: joints, body shape and mesh, where a licensed file is at hand.

Source: SMPL (Loper et al. 2015), as smplx implements it. Without such a file nothing here is needed: the rest
joints of the mean shapes are built in (`utils.smpl`). The files are pickles of Python 2 that hold chumpy
arrays and scipy's sparse matrices. smplx would run what is in them, so `utils.pickles` reads them instead,
and smplx gets the arrays. A .npz of the same arrays is read too, and

    python -m utils.body_model SMPL_MALE.pkl [...]

writes one beside each pickle; it is preferred there and loads faster.
"""

import argparse
import contextlib
import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from utils.files import DAMAGED_ARRAY, write_npz
from utils.pickles import Opaque, load_pickle
from utils.skeleton import SMPL_24, Skeleton
from utils.smpl import GENDERS, Gender, forward_kinematics
from utils.terminal import tolerant_output

NUM_VERTICES = 6890
_HEIGHTS = (1.0, 3.0)  # metres; SMPL's mean bodies are 1.6 to 1.8
_SUFFIXES = (".npz", ".pkl")
_POSE_FEATURES = 9 * (SMPL_24.num_joints - 1)  # entries of all rotation matrices but the root's
_FAMILY = {16: "MANO", 52: "SMPL-H", 55: "SMPL-X", 5: "FLAME"}
"""Number of joints -> the model that has so many."""
_CURE = "take SMPL_MALE.pkl or basicmodel_m_lbs_10_207_0_*.pkl from https://smpl.is.tue.mpg.de"


class ModelArrays(NamedTuple):
    """The arrays of an SMPL model file that smplx uses, under the names they have there.

    Attributes:
        v_template: (6890, 3) vertices of the mean shape at rest, metres.
        shapedirs: (6890, 3, B) displacements per unit of each shape coefficient, metres.
        posedirs: (6890, 3, 207) displacements per unit of each entry of R - I of the joints but the root.
        J_regressor: (24, 6890) joints from vertices.
        weights: (6890, 24) skinning weights; they sum to 1.
        kintree_table: (2, 24) parents, and the joints themselves.
        f: (F, 3) vertices of the triangles, counter-clockwise from outside.
    """

    v_template: np.ndarray
    shapedirs: np.ndarray
    posedirs: np.ndarray
    J_regressor: np.ndarray
    weights: np.ndarray
    kintree_table: np.ndarray
    f: np.ndarray


def read_arrays(file: Path) -> ModelArrays:
    """The arrays of an SMPL model file, without running anything in it.

    Args:
        file: a .pkl as distributed, or a .npz of the same arrays.

    Raises:
        ValueError: if it is damaged, not SMPL's, or holds objects that are not read from untrusted files.
    """
    content = _read_npz(file) if file.suffix == ".npz" else _read_pickle(file)
    known = sorted(str(key) for key in content) if isinstance(content, dict) else []
    if "J_regressor" in known:  # first: it says which other model this is
        regressor = _dense(content["J_regressor"], f"J_regressor of {file}")
        joints = regressor.shape[0] if regressor.ndim == 2 else 0
        if joints != SMPL_24.num_joints and joints in _FAMILY:
            raise ValueError(
                f"{file} is a model of {_FAMILY[joints]} ({joints} joints), which does not fit AIST++'s "
                f"{SMPL_24.num_joints} joints; {_CURE}"
            )
    lacking = [key for key in ModelArrays._fields if key not in known]
    if lacking:
        raise ValueError(
            f"{file} is no SMPL model: it has no {', '.join(lacking)}, but "
            f"{', '.join(known[:12]) or 'no arrays'}; {_CURE}"
        )
    return _checked(
        ModelArrays(*(_dense(content[key], f"{key} of {file}") for key in ModelArrays._fields)), file
    )


def _read_npz(file: Path) -> dict[str, Any]:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in ModelArrays._fields if key in arrays}
    except DAMAGED_ARRAY as error:
        raise ValueError(f"SMPL model {file} is damaged ({error}); {_CURE}") from None


def _read_pickle(file: Path) -> Any:
    try:
        return load_pickle(file.read_bytes(), f"SMPL model {file}", opaque=("chumpy", "scipy"))
    except ValueError as error:
        raise ValueError(f"{error}; {_CURE}") from None


def _checked(arrays: ModelArrays, file: Path) -> ModelArrays:
    """The arrays with integers as int64, and everything that smplx takes for granted checked."""
    num, betas = SMPL_24.num_joints, arrays.shapedirs.shape[-1] if arrays.shapedirs.ndim == 3 else 0
    shapes = {
        "v_template": (NUM_VERTICES, 3), "shapedirs": (NUM_VERTICES, 3, max(betas, 1)),
        "posedirs": (NUM_VERTICES, 3, _POSE_FEATURES), "J_regressor": (num, NUM_VERTICES),
        "weights": (NUM_VERTICES, num), "kintree_table": (2, num), "f": (len(arrays.f), 3),
    }  # fmt: skip
    for name, shape in shapes.items():
        found = getattr(arrays, name).shape
        if found != shape:
            raise ValueError(f"{file}: {name} has the shape {found}, SMPL's is {shape}; {_CURE}")
    if not np.array_equal(arrays.kintree_table[0, 1:], SMPL_24.parents[1:]):
        raise ValueError(f"{file}: kintree_table has other parents than SMPL's 24 joints; {_CURE}")
    height = float(np.ptp(arrays.v_template[:, 1]))
    if not _HEIGHTS[0] < height < _HEIGHTS[1]:
        raise ValueError(f"{file}: v_template is {height:.3g} m high, so not in metres or not y up; {_CURE}")
    if not len(arrays.f) or arrays.f.min() < 0 or arrays.f.max() >= NUM_VERTICES:
        raise ValueError(f"{file}: f names vertices beyond 0..{NUM_VERTICES - 1}; {_CURE}")
    if arrays.weights.min() < -1e-3 or np.abs(arrays.weights.sum(1) - 1).max() > 1e-3:
        raise ValueError(f"{file}: weights of a vertex are negative or do not sum to 1; {_CURE}")
    return arrays._replace(f=arrays.f.astype(np.int64))


def _dense(value: Any, where: str) -> np.ndarray:
    """Values of a plain array, a chumpy array or a scipy sparse matrix; float64, or integers as they are."""
    if isinstance(value, Opaque):
        state = getattr(value, "state", {})
        if {"data", "indices", "indptr"} <= set(state) and "csc" in value.class_name:
            value = _from_columns(state, where)
        elif "x" in state:
            value = state["x"]
        elif {"a", "idxs"} <= set(state):  # chumpy's Select: entries of another array
            value = _selected(state, where)
        else:
            raise ValueError(f"{where} is a {value.class_name}, which is not understood; {_CURE}")
    numbers = isinstance(value, np.ndarray) and value.dtype.kind in "fiu"
    with np.errstate(over="ignore"):
        if not numbers or not np.isfinite(value.astype(np.float32)).all():  # smplx computes in float32
            raise ValueError(f"{where} is not an array of finite numbers; {_CURE}")
    return value.astype(np.float64) if value.dtype.kind == "f" else value


def _selected(state: dict[str, Any], where: str) -> np.ndarray:
    try:
        chosen = _dense(state["a"], where).ravel()[np.asarray(state["idxs"], np.int64).ravel()]
        return chosen.reshape(state.get("preferred_shape", -1))
    except (TypeError, ValueError, IndexError, RecursionError) as error:
        raise ValueError(f"{where} is no sound selection of an array ({error}); {_CURE}") from None


def _from_columns(state: dict[str, Any], where: str) -> np.ndarray:
    """Converts a sparse matrix in column form (scipy's csc) to a full one, checking every index."""
    shape: Any = state.get("_shape", state.get("shape"))
    try:
        rows, columns = (int(size) for size in shape or ())
        if not (0 < rows <= 1000 and 0 < columns <= 100_000):
            raise ValueError(f"its shape is {rows} x {columns}")
        full = np.zeros((rows, columns))
        starts: np.ndarray = np.asarray(state["indptr"], np.int64)
        column = np.repeat(np.arange(columns), starts[1:] - starts[:-1])
        np.add.at(
            full, (np.asarray(state["indices"], np.int64), column), np.asarray(state["data"], np.float64)
        )
    except (TypeError, ValueError, IndexError) as error:
        raise ValueError(f"{where} is no sound sparse matrix ({error}); {_CURE}") from None
    return full


def find_model(path: Path, gender: Gender = "male") -> Path:
    """The SMPL model file of a gender.

    Args:
        path: the file itself, or a folder that holds it under one of its usual names (SMPL_MALE.npz or .pkl,
            basicmodel_m_lbs_10_207_0_v1.1.0.pkl, ...), directly or in smpl/ or models/. An .npz is preferred.
        gender: of the model to find in a folder.

    Raises:
        FileNotFoundError: if there is none; the message names models that are there instead.
        ValueError: if there is no such gender.
    """
    if gender not in GENDERS:
        raise ValueError(f"gender must be {', '.join(GENDERS[:-1])} or {GENDERS[-1]}, got {gender!r}")
    if path.is_file():
        return path
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path} with an SMPL model; check the path")
    folders = (path, path / "smpl", path / "models", path / "smpl" / "models")
    files = [
        f for folder in folders if folder.is_dir() for f in sorted(folder.iterdir()) if f.suffix in _SUFFIXES
    ]
    for suffix in _SUFFIXES:
        for file in files:
            if file.suffix == suffix and _gender_of(file) == gender:
                return file
    others = ", ".join(sorted({str(file.relative_to(path)) for file in files})[:6])
    raise FileNotFoundError(
        f"no {gender} SMPL model in {path} (SMPL_{gender.upper()}.npz or .pkl, or "
        f"basicmodel_{_initial(gender)}_lbs_10_207_0_*.pkl); it holds {others or 'no .npz and no .pkl'}; "
        "take SMPL's files from https://smpl.is.tue.mpg.de, or name another gender"
    )


def _initial(gender: Gender) -> str:
    return {"male": "m", "female": "f", "neutral": "neutral"}[gender]


def _gender_of(file: Path) -> Gender | None:
    """The gender that the name of an SMPL model file says; None if it says none."""
    stem = file.stem.lower()
    for gender in GENDERS:
        if stem == f"smpl_{gender}" or stem.startswith(f"basicmodel_{_initial(gender)}_lbs_10_207_0"):
            return gender
    return None


class BodyModel:
    """An SMPL body of one shape, at rest and in motion.

    Attributes:
        file: the model file.
        gender: what its name says, or the one that was asked for.
        betas: (B,) shape coefficients, as many as were given.
        faces: (F, 3) int64 vertices of the triangles, counter-clockwise from outside.
        weights: (6890, 24) float32 skinning weights.
        rest_vertices: (6890, 3) float64 vertices of this shape at rest, metres, y up.
        rest_joints: (24, 3) float64 joints of this shape at rest, metres, y up.
    """

    def __init__(self, file: Path, gender: Gender, betas: tuple[float, ...] = ()) -> None:
        """Load a model file through smplx.

        Raises:
            ValueError: if the file is no SMPL model, or has fewer shape coefficients than are given.
        """
        import smplx
        import torch
        from smplx.lbs import vertices2joints
        from smplx.utils import Struct

        arrays = read_arrays(file)
        available = arrays.shapedirs.shape[-1]
        if available < smplx.SMPL.SHAPE_SPACE_DIM:
            available = min(available, 10)  # smplx takes no more of such files
        if len(betas) > available:
            raise ValueError(
                f"{len(betas)} betas are given, but {file} has {available} shape coefficients; give fewer"
            )
        if not np.isfinite(betas).all():
            raise ValueError(f"betas must be finite numbers, got {list(betas)}")
        self.file, self.gender, self.betas = file, _gender_of(file) or gender, np.asarray(betas, np.float64)
        with contextlib.redirect_stdout(io.StringIO()):  # it prints how many coefficients the file has
            self._smplx = smplx.SMPL(
                str(file),
                data_struct=Struct(**arrays._asdict()),
                num_betas=max(1, len(betas)),
                create_betas=False,
                create_global_orient=False,
                create_body_pose=False,
                create_transl=False,
            ).requires_grad_(False)
        self._betas = torch.zeros(1, self._smplx.num_betas)
        self._betas[0, : len(betas)] = torch.tensor(betas)
        shaped = self._smplx.forward_shape(self._betas).vertices
        joints = vertices2joints(self._smplx.J_regressor, shaped)
        self.rest_vertices, self.rest_joints = shaped[0].double().numpy(), joints[0].double().numpy()
        self.faces, self.weights = arrays.f, self._smplx.lbs_weights.numpy()

    @property
    def pose_directions(self) -> np.ndarray:
        """(207, 6890 * 3) float32 displacements at rest per entry of `BodyMotion.pose_features`, metres."""
        return self._smplx.posedirs.numpy()

    def posed(self, rotations: np.ndarray, translation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mesh and joints of a motion.

        Args:
            rotations: (T, 24, 3, 3) each joint's relative to its parent's.
            translation: (T, 3) metres, added to the rest pelvis, which stays in, as in AIST++.

        Returns:
            Vertices (T, 6890, 3) and joints (T, 24, 3), float32, metres, y up.
        """
        import torch

        turns = torch.from_numpy(np.ascontiguousarray(rotations, np.float32))
        with torch.no_grad():
            out = self._smplx(
                betas=self._betas.expand(len(turns), -1),
                global_orient=turns[:, :1],
                body_pose=turns[:, 1:],
                transl=torch.from_numpy(np.ascontiguousarray(translation, np.float32)),
                pose2rot=False,
            )
        return out.vertices.numpy(), out.joints[:, : SMPL_24.num_joints].numpy()


def load_body_model(
    path: Path, gender: Gender = "male", betas: tuple[float, ...] = (), skeleton: Skeleton = SMPL_24
) -> BodyModel:
    """The body of a gender and shape.

    Args:
        path: an SMPL model file, or a folder of them (`find_model`).
        gender: of the model to find in a folder.
        betas: shape coefficients, the first ones; () is the mean shape.
        skeleton: of the dances that the body is to dance.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no SMPL model, the betas do not fit it, or the skeleton is not SMPL's.
    """
    if skeleton.joints != SMPL_24.joints:
        raise ValueError(
            f"SMPL's body has {SMPL_24.num_joints} joints and cannot perform dances of skeleton "
            f"{skeleton.name!r}; leave the body model out"
        )
    return BodyModel(find_model(path, gender), gender, tuple(betas))


@dataclass(frozen=True, eq=False)
class BodyMotion:
    """A body in motion, at the dancer's size.

    Attributes:
        model: the body.
        rotations: (T, 24, 4) unit quaternions x, y, z, w, each joint's relative to its parent's.
        root: (T, 3) place of the pelvis, metres.
        size: how many times as large as the model the dancer is.
    """

    model: BodyModel
    rotations: np.ndarray
    root: np.ndarray
    size: float = 1.0

    def matrices(self, frames: slice = slice(None)) -> np.ndarray:
        """(T', 24, 3, 3) the rotations of some frames as matrices."""
        from scipy.spatial.transform import Rotation

        some = self.rotations[frames]
        return Rotation.from_quat(some.reshape(-1, 4)).as_matrix().reshape(*some.shape[:2], 3, 3)

    @property
    def joints(self) -> np.ndarray:
        """(T, 24, 3) float32 joints, metres, y up."""
        from scipy.spatial.transform import Rotation

        poses = Rotation.from_quat(self.rotations.reshape(-1, 4)).as_rotvec().reshape(len(self.root), -1)
        rest = self.model.rest_joints
        joints = self.size * forward_kinematics(poses, self.root / self.size - rest[0], rest)
        return joints.astype(np.float32)

    def vertices(self, frames: slice) -> np.ndarray:
        """(T', 6890, 3) float32 vertices of some frames, metres, y up."""
        translation = self.root[frames] / self.size - self.model.rest_joints[0]
        return (self.size * self.model.posed(self.matrices(frames), translation)[0]).astype(np.float32)

    def pose_features(self, frames: slice = slice(None)) -> np.ndarray:
        """(T', 207) entries of R - I of the joints but the root, which the corrections are linear in."""
        turned = self.matrices(frames)[:, 1:] - np.eye(3)
        return turned.reshape(len(turned), -1)


def add_shape_options(parser: argparse.ArgumentParser) -> None:
    """Add --gender and --betas, which say whose body is meant."""
    parser.add_argument("--gender", choices=GENDERS, default="male", help="of the body, default male")
    parser.add_argument(
        "--betas",
        type=float,
        nargs="+",
        default=[],
        metavar="B",
        help="shape coefficients of the body, default 0",
    )


def main(arguments: list[str] | None = None) -> int:
    """Convert model files; returns the exit status: 0, or 2 if any could not be converted."""
    tolerant_output()
    parser = argparse.ArgumentParser(
        prog="python -m utils.body_model",
        description="Writes SMPL's model files as .npz without pickles, beside each or into a folder.",
        allow_abbrev=False,
    )
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL", help="SMPL_MALE.pkl and the like")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the files (beside each)")
    options = parser.parse_args(arguments)
    status = 0
    for path in options.models:
        try:
            print(convert(path, options.out or path.parent))
        except (ValueError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            status = 2
    return status


def convert(path: Path, folder: Path) -> Path:
    """Write the arrays of a model file as .npz into a folder; returns the new file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no SMPL model, or would be overwritten.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; an SMPL model file (.pkl) is expected")
    target = folder / f"{path.stem}.npz"
    if target.exists() and target.samefile(path):
        raise ValueError(
            f"{path} is an .npz already; name another folder with --out to write its arrays again"
        )
    write_npz(target, **read_arrays(path)._asdict())
    return target


if __name__ == "__main__":
    sys.exit(main())
