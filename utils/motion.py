"""Joints, poses and root motion: the conversions between what the data holds and what the networks see.

joints (..., T, J, 3) are absolute positions in metres; a pose (..., T, J*3) holds the root slot, then the
other joints relative to the root. What the root slot holds (position, velocity or zeros) is said by each
function.
Source: Bailando (CVPR 2022), sections 3.2 and 3.3.
"""

import torch
from torch import Tensor


def joints_to_pose(joints: Tensor) -> Tensor:
    """Pose (..., T, J*3) with the root *position* in the root slot, from joints (..., T, J, 3)."""
    root = joints[..., :1, :]
    return torch.cat([root, joints[..., 1:, :] - root], dim=-2).flatten(-2)


def root_velocity(root: Tensor) -> Tensor:
    """Metres per frame (..., T, 3): v[t] = root[t+1] - root[t], the last repeated. Root (..., T >= 2, 3)."""
    velocity = root[..., 1:, :] - root[..., :-1, :]
    return torch.cat([velocity, velocity[..., -1:, :]], dim=-2)


def integrate(velocity: Tensor) -> Tensor:
    """Root positions (..., T, 3) that start at the origin: r[0] = 0, r[t] = r[t-1] + v[t-1]."""
    return torch.cat([torch.zeros_like(velocity[..., :1, :]), velocity[..., :-1, :].cumsum(-2)], dim=-2)


def with_root(pose: Tensor, root: Tensor) -> Tensor:
    """The pose (..., T, J*3) with its root slot replaced by root (..., T, 3)."""
    return torch.cat([root, pose[..., 3:]], dim=-1)


def without_root(pose: Tensor) -> Tensor:
    """The pose (..., T, J*3) with zeros in its root slot."""
    return with_root(pose, torch.zeros_like(pose[..., :3]))


def pose_to_joints(pose: Tensor) -> Tensor:
    """Joints (..., T, J, 3), starting at the origin, from a pose whose root slot holds root *velocity*."""
    root = integrate(pose[..., :3]).unsqueeze(-2)
    return torch.cat([root, pose[..., 3:].unflatten(-1, (-1, 3)) + root], dim=-2)


def difference(x: Tensor) -> Tensor:
    """First difference along time: (..., T, C) -> (..., T-1, C)."""
    return x[..., 1:, :] - x[..., :-1, :]


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """(T, ...) padded by its last frame to the *next* multiple, also when T already divides.

    As published: the evaluation adds a whole extra group to lengths that divide.
    """
    extra = multiple - x.shape[0] % multiple
    return torch.cat([x, x[-1:].expand(extra, *x.shape[1:])])
