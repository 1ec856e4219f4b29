"""Conversions between joints, poses and root motion."""

import torch

from utils.motion import (
    integrate,
    joints_to_pose,
    pad_to_multiple,
    pose_to_joints,
    root_velocity,
    with_root,
    without_root,
)


def test_velocity_and_back():
    joints = torch.randn(2, 30, 24, 3, generator=torch.Generator().manual_seed(0))
    pose = joints_to_pose(joints)
    velocity = root_velocity(pose[..., :3])
    assert torch.equal(velocity[:, -1], velocity[:, -2])
    torch.testing.assert_close(integrate(velocity), joints[:, :, 0] - joints[:, :1, 0], rtol=1e-5, atol=1e-5)
    back = pose_to_joints(with_root(pose, velocity))
    torch.testing.assert_close(back, joints - joints[:, :1, :1], rtol=1e-5, atol=1e-5)


def test_without_root_leaves_its_input_alone():
    pose = torch.ones(1, 4, 72)
    assert without_root(pose)[..., :3].abs().sum() == 0
    assert pose.sum() == 4 * 72


def test_padding_goes_to_the_next_multiple_also_when_it_divides():
    x = torch.arange(16.0).unsqueeze(1)
    assert len(pad_to_multiple(x, 8)) == 24
    assert len(pad_to_multiple(x[:13], 8)) == 16
    assert pad_to_multiple(x, 8)[-1] == 15
