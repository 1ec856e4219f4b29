"""SMPL parameters as AIST++ has them, in an .npz without pickles.

AIST++'s convention: with p = forward kinematics of `smpl_poses` and `smpl_trans / smpl_scaling` on the rest
joints of betas = 0 (the rest pelvis stays in), the dancer's joints are `smpl_scaling * p`. Here the result
is metres, so the scaling is the dancer's size relative to that body, near 1.
"""

from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from utils.export.chain import body_size, offsets_of
from utils.export.fit import Fit, checked_joints, fit_body
from utils.files import write_npz
from utils.skeleton import SMPL_24


def fit_smpl(joints: np.ndarray, rest: np.ndarray) -> tuple[Fit, float]:
    """Fit SMPL's own body (betas = 0) at the dancer's size.

    Args:
        joints: (T, 24, 3) metres.
        rest: (24, 3) SMPL's rest joints, metres.

    Returns:
        The fit, in metres, and how many times as large as `rest` the dancer is.

    Raises:
        ValueError: as `fit_body`.
    """
    joints = checked_joints(joints)
    offsets = offsets_of(rest, SMPL_24)
    size = body_size(joints, rest, SMPL_24)
    return fit_body(joints, rest, offsets=offsets * size), size


def write_smpl(path: Path, fit: Fit, size: float, rest: np.ndarray, fps: float = SMPL_24.fps) -> None:
    """Write `smpl_poses` (T, 72), `smpl_trans` (T, 3), `smpl_scaling` (1,), `betas` (10,) and `fps`.

    Args:
        path: of the .npz.
        fit: from `fit_smpl`.
        size: from `fit_smpl`.
        rest: (24, 3) the same rest joints.
        fps: frame rate in Hz.
    """
    poses = Rotation.from_quat(fit.rotations.reshape(-1, 4)).as_rotvec().reshape(len(fit.root), -1)
    write_npz(
        Path(path),
        smpl_poses=poses.astype(np.float32),
        smpl_trans=(fit.root - size * np.asarray(rest)[0]).astype(np.float32),
        smpl_scaling=np.array([size], np.float32),
        betas=np.zeros(10, np.float32),
        fps=np.asarray(fps),
    )
