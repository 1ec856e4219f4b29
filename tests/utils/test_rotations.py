"""Projection of matrices to rotations, and joints that follow from rotations."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from utils.rotations import joints_of_rotations, nearest_rotations
from utils.skeleton import SMPL_24
from utils.smpl import forward_kinematics, rest_joints

GENERATOR = np.random.default_rng(0)


def random_turns(number):
    return Rotation.from_rotvec(2 * GENERATOR.normal(size=(number, 3)))


def test_a_rotation_is_its_own_nearest():
    turns = torch.from_numpy(random_turns(50).as_matrix())
    torch.testing.assert_close(nearest_rotations(turns), turns)


@pytest.mark.parametrize("mirrored", [False, True])
def test_nearest_rotation_is_that_of_kabsch(mirrored):
    """`Rotation.align_vectors` minimises the same distance, over vectors: the columns of the matrix."""
    matrices = random_turns(20).as_matrix() + 0.15 * GENERATOR.normal(size=(20, 3, 3))
    if mirrored:
        matrices[..., 2] *= -1
    assert (np.linalg.det(matrices) < 0).all() == mirrored
    found = nearest_rotations(torch.from_numpy(matrices)).numpy()
    np.testing.assert_allclose(np.linalg.det(found), 1.0)
    for matrix, rotation in zip(matrices, found, strict=True):
        expected, _ = Rotation.align_vectors(matrix.T, np.eye(3))
        np.testing.assert_allclose(rotation, expected.as_matrix(), atol=1e-7)


def test_matrices_without_inverse_have_a_nearest_rotation_too():
    matrices = torch.tensor(np.stack([np.zeros((3, 3)), np.diag([1.0, 0.5, 0]), np.ones((3, 3))]))
    found = nearest_rotations(matrices)
    torch.testing.assert_close(found @ found.mT, torch.eye(3).double().expand(3, 3, 3))
    torch.testing.assert_close(torch.linalg.det(found), torch.ones(3).double())
    torch.testing.assert_close(found[1], torch.eye(3).double())
    assert nearest_rotations(torch.zeros(0, 24, 3, 3)).shape == (0, 24, 3, 3)


def test_joints_are_those_of_smpl_parameters():
    poses, translation = GENERATOR.normal(size=(7, 72)), GENERATOR.normal(size=(7, 3))
    matrices = Rotation.from_rotvec(poses.reshape(-1, 3)).as_matrix().reshape(7, 24, 3, 3)
    root = torch.from_numpy(translation + rest_joints()[0])
    joints = joints_of_rotations(torch.from_numpy(matrices), root, SMPL_24)
    assert joints.dtype == torch.float32
    np.testing.assert_allclose(joints, forward_kinematics(poses, translation), atol=1e-6)
