"""Bone rotations: projection of matrices to SO(3), and the joints that follow from rotations.

Rotations (T, J, 3, 3) are each joint's relative to its parent's; the root's is relative to the world.
Source: SMPL (Loper et al. 2015), its kinematic chain; the nearest rotation by SVD as in Kabsch (1976), or by
Newton's iteration for the polar factor (Higham 1986).
"""

import numpy as np
import torch
from torch import Tensor

from utils.skeleton import Skeleton

_STEPS = 6  # enough for matrices within 0.5 of a rotation
_ORTHOGONAL = 1e-9  # largest entry of X X^T - I of what is taken as orthogonal


def nearest_rotations(matrices: Tensor) -> Tensor:
    """The rotations nearest to matrices (..., 3, 3) in the Frobenius norm: U diag(1, 1, sign det) V^T.

    Of matrices with a positive determinant this is the orthogonal polar factor, to which X -> (X + X^-T) / 2
    converges quadratically: for decoded matrices a tenth of the time of an SVD. The others, and those that
    have not converged, are decomposed.
    """
    found = matrices.double()
    for _ in range(_STEPS):
        cofactors, determinant = _cofactors(found)
        found = (found + cofactors / determinant[..., None, None]) / 2
    off = (found @ found.mT - torch.eye(3, dtype=found.dtype, device=found.device)).abs().amax((-1, -2))
    left = ~((off < _ORTHOGONAL) & (_cofactors(found)[1] > 0))
    found[left] = _nearest_by_svd(matrices.double()[left])
    return found.to(matrices.dtype)


def _cofactors(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Cofactors (..., 3, 3), det(X) X^-T, and determinants (...) of matrices X (..., 3, 3)."""
    first, second, third = matrices.unbind(-2)
    rows = [
        torch.linalg.cross(second, third),
        torch.linalg.cross(third, first),
        torch.linalg.cross(first, second),
    ]
    return torch.stack(rows, dim=-2), (first * rows[0]).sum(-1)


def _nearest_by_svd(matrices: Tensor) -> Tensor:
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
