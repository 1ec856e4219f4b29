"""Export: BVH, glTF and SMPL parameters of a dance, by fitting a body of rigid bones to its joints.

Where the rotations of a dance are known, `body_of_rotations` takes the place of the fit.

    fit = fit_body(joints, rest)                  # rotations of the dancer's own bones
    write_bvh(path, fit)
    write_glb(path, fit)
    write_smpl(path, *fit_smpl(joints, rest), rest)   # SMPL's body, at the dancer's size

`rest` are SMPL's rest joints (24, 3). `python -m utils.export` does it for files.
"""

from utils.export.bvh import write_bvh
from utils.export.chain import Stretch, worst_stretch
from utils.export.fit import Fit, Turn, body_of_rotations, fit_body, fitted_joints
from utils.export.footlock import FootLock, lock_feet
from utils.export.gltf import write_glb
from utils.export.level import LevelStream, level_floor
from utils.export.smpl import fit_smpl, write_smpl

__all__ = [
    "Fit",
    "FootLock",
    "LevelStream",
    "Stretch",
    "Turn",
    "body_of_rotations",
    "fit_body",
    "fit_smpl",
    "fitted_joints",
    "level_floor",
    "lock_feet",
    "worst_stretch",
    "write_bvh",
    "write_glb",
    "write_smpl",
]
