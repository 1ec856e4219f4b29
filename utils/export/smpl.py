"""SMPL parameters as AIST++ has them, in an .npz without pickles.

AIST++'s convention: with p = forward kinematics of `smpl_poses` and `smpl_trans / smpl_scaling` on the rest
joints of betas = 0 (the rest pelvis stays in), the dancer's joints are `smpl_scaling * p`. Here the result
is metres, so the scaling is the dancer's size relative to that body, near 1. y up.

Beside them are AMASS's keys, which SMPL add-ons for Blender open. AMASS is z up and has no scaling, so that
`poses` and `trans` move SMPL's own body of betas = 0: the path is divided by `smpl_scaling`, and its feet
stand on the ground as the dancer's do.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from utils.dance import checked_joints
from utils.export.chain import body_size, offsets_of
from utils.export.fit import Fit, fit_body, measured
from utils.files import write_npz
from utils.skeleton import SMPL_24
from utils.smpl import Gender

_Z_UP = Rotation.from_euler("x", 90, degrees=True)  # from y up
_SMPL_H_JOINTS = 52


def fit_smpl(joints: np.ndarray, rest: np.ndarray) -> tuple[Fit, float]:
    """Fit SMPL's own body (betas = 0) at the dancer's size; a body of other proportions is off by its own.

    Args:
        joints: (T, 24, 3) metres.
        rest: (24, 3) SMPL's rest joints, metres.

    Returns:
        The fit, in metres, and how many times as large as `rest` the dancer is.

    Raises:
        ValueError: as `fit_body`.
    """
    joints = checked_joints(joints).astype(np.float64)
    offsets = offsets_of(rest, SMPL_24)
    size = body_size(joints, rest, SMPL_24)
    return fit_body(joints, rest, offsets=offsets * size), size


def resized(fit: Fit, joints: np.ndarray, rest: np.ndarray) -> tuple[Fit, float]:
    """The rotations and root of a body moving another one: SMPL's of another shape, at the dancer's size.

    Args:
        fit: a body's rotations, and its root.
        joints: (T, 24, 3) of the dancer, metres.
        rest: (24, 3) rest joints of the other body, metres.

    Returns:
        The other body's motion, in metres, and how many times as large as `rest` it is.
    """
    joints = checked_joints(joints).astype(np.float64)
    size = body_size(joints, rest, SMPL_24)
    return measured(joints, offsets_of(rest, SMPL_24) * size, fit.rotations, fit.root), size


def write_smpl(
    path: Path,
    fit: Fit,
    size: float,
    rest: np.ndarray,
    fps: float = SMPL_24.fps,
    gender: Gender = "male",
    betas: Sequence[float] | np.ndarray = (),
) -> None:
    """Write the parameters, as AIST++ has them and as AMASS has them.

    `smpl_poses` (T, 72) axis-angle, `smpl_trans` (T, 3) metres, `smpl_scaling` (1,), `betas` (10 or more) and
    `fps`; `poses` (T, 156) axis-angle of SMPL-H (hands at rest) in a world with z up, `trans` (T, 3) metres,
    `gender` and `mocap_framerate` in Hz. Axis-angle vectors do not jump in time (`nearest_vectors`).

    Args:
        path: of the .npz.
        fit: from `fit_smpl`.
        size: from `fit_smpl`.
        rest: (24, 3) the same rest joints.
        fps: frame rate in Hz.
        gender: of the body that has these rest joints.
        betas: its shape coefficients, the first ones; the others are 0.
    """
    frames, pelvis = len(fit.root), np.asarray(rest)[0]
    standing = (_Z_UP * Rotation.from_quat(fit.rotations[:, 0])).as_quat()
    vectors = nearest_vectors(np.concatenate([fit.rotations, standing[:, None]], axis=1))
    poses = vectors[:, :-1]
    amass = np.zeros((frames, _SMPL_H_JOINTS, 3))
    amass[:, : SMPL_24.num_joints - 2] = poses[:, :-2]  # without SMPL's hands: SMPL-H has fingers there
    amass[:, 0] = vectors[:, -1]
    write_npz(
        Path(path),
        smpl_poses=poses.reshape(frames, -1).astype(np.float32),
        smpl_trans=(fit.root - size * pelvis).astype(np.float32),
        smpl_scaling=np.array([size], np.float32),
        betas=np.pad(np.asarray(betas, np.float32), (0, max(0, 10 - len(betas)))),
        fps=np.asarray(fps),
        poses=amass.reshape(frames, -1).astype(np.float32),
        trans=(_Z_UP.apply(fit.root / size) - pelvis).astype(np.float32),
        gender=np.asarray(gender),
        mocap_framerate=np.asarray(float(fps)),
    )


def nearest_vectors(rotations: np.ndarray) -> np.ndarray:
    """Axis-angle vectors (T, J, 3) in radians of unit quaternions (T, J, 4), without jumps of whole turns.

    Of the vectors that give a rotation (whole turns about its axis apart) each frame has the one nearest to
    the frame before; the first has the shortest. Where a joint comes back to rest after whole turns, the axis
    itself may change fast: no vectors of that rotation avoid it.
    """
    vectors = Rotation.from_quat(rotations.reshape(-1, 4)).as_rotvec().reshape(*rotations.shape[:2], 3)
    angles = np.linalg.norm(vectors, axis=-1)
    axes = vectors / np.maximum(angles, 1e-8)[..., None]
    # no rotation at all has any axis: the one before
    known = np.where(angles > 1e-8, np.arange(len(axes))[:, None], 0)
    axes = np.take_along_axis(axes, np.maximum.accumulate(known)[..., None], axis=0)
    cosines = (axes[:-1] * axes[1:]).sum(-1)
    for t in range(1, len(angles)):  # from here on angles are those of the vectors, whole turns included
        angles[t] += 2 * np.pi * np.round((angles[t - 1] * cosines[t - 1] - angles[t]) / (2 * np.pi))
    return angles[..., None] * axes
