"""Bone rotations: projection of matrices to SO(3), and the joints that follow from rotations.

Rotations (T, J, 3, 3) are each joint's relative to its parent's; the root's is relative to the world.
Source: SMPL (Loper et al. 2015), its kinematic chain; the nearest rotation by SVD as in Kabsch (1976).
"""

import numpy as np
import torch
from torch import Tensor

from utils.skeleton import Skeleton


def nearest_rotations(matrices: Tensor) -> Tensor:
    """The rotations nearest to matrices (..., 3, 3) in the Frobenius norm: U diag(1, 1, sign det) V^T."""
    u, _, vt = torch.linalg.svd(matrices)
    sign = torch.linalg.det(u @ vt).sign()
    last = torch.stack([torch.ones_like(sign), torch.ones_like(sign), sign], dim=-1)
    return (u * last.unsqueeze(-2)) @ vt


def joints_of_rotations(rotations: Tensor, root: Tensor, skeleton: Skeleton) -> Tensor:
    """Joints (T, J, 3) float32 in metres, by forward kinematics in float64 on SMPL's male rest joints.

    Args:
        rotations: (T, J, 3, 3).
        root: (T, 3) positions of the root joint, metres: SMPL's translation plus the rest pelvis.
        skeleton: SMPL's.
    """
    # Imports scipy, which training does not need.
    from utils.export.chain import forward, offsets_of
    from utils.smpl import rest_joints

    offsets = offsets_of(rest_joints(), skeleton)
    local, place = rotations.double().numpy(), root.double().numpy()
    joints, _ = forward(local, place, offsets, skeleton)
    return torch.from_numpy(joints.astype(np.float32))
