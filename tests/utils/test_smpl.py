"""Forward kinematics of SMPL on the built-in rest joints, against AIST++'s own keypoints."""

import pickle

import numpy as np
import pytest

from datasets.aistpp.annotations import read_motion
from tests.helpers import real_data
from utils.pickles import load_pickle
from utils.smpl import forward_kinematics, rest_joints

# COCO keypoint -> SMPL joint, for the twelve that both have
SHARED = {5: 16, 6: 17, 7: 18, 8: 19, 9: 20, 10: 21, 11: 1, 12: 2, 13: 4, 14: 5, 15: 7, 16: 8}


def distance(path, rest):
    """Mean distance in metres to the data set's own keypoints, which come from cameras and not from SMPL."""
    content = path.read_bytes()
    joints = forward_kinematics(*read_motion(content, path.name), rest).astype(np.float32)
    scale = load_pickle(content, path.name)["smpl_scaling"]
    keypoints_path = path.parent.parent / "keypoints3d" / path.name
    keypoints = load_pickle(keypoints_path.read_bytes(), path.name)["keypoints3d_optim"] / scale
    return np.linalg.norm(joints[:, list(SHARED.values())] - keypoints[:, list(SHARED)], axis=-1).mean()


def real_motions():
    names = sorted(path.name for path in (real_data() / "keypoints3d").iterdir())
    return [real_data() / "motions" / name for name in names]


def test_joints_lie_within_three_centimetres_of_the_keypoints():
    distances = [distance(path, rest_joints("male")) for path in real_motions()]
    assert len(distances) == 4
    assert max(distances) < 0.03


@pytest.mark.parametrize("wrong", ["no pelvis", "female", "neutral"])
def test_the_pelvis_offset_and_the_gender_decide(wrong):
    rest = rest_joints("male") - rest_joints("male")[0] if wrong == "no pelvis" else rest_joints(wrong)
    distances = [distance(path, rest) for path in real_motions()]
    assert min(distances) > 0.03
    assert min(distances) > (0.2 if wrong == "no pelvis" else 0.0)


def test_the_first_joint_is_rest_pelvis_plus_translation_over_scaling():
    poses, trans = np.zeros((2, 72)), np.array([[0.0, 90, 0], [9, 90, 0]])
    content = pickle.dumps({"smpl_poses": poses, "smpl_trans": trans, "smpl_scaling": np.array([90.0])})
    joints = forward_kinematics(*read_motion(content, "x.pkl")).astype(np.float32)
    np.testing.assert_allclose(joints[:, 0], rest_joints()[0] + trans / 90, atol=1e-7)
    np.testing.assert_allclose(joints[0] - joints[0, 0], rest_joints() - rest_joints()[0], atol=1e-6)
    assert joints.dtype == np.float32


def test_forward_kinematics_keeps_bone_lengths_and_turns_children_only():
    rng = np.random.default_rng(0)
    poses = rng.normal(size=(5, 72))
    still = forward_kinematics(poses, np.zeros((5, 3)))
    elbow = poses.copy()
    elbow[:, 18 * 3 : 18 * 3 + 3] += 1  # the left elbow: wrist and hand alone follow
    moved = np.linalg.norm(forward_kinematics(elbow, np.zeros((5, 3))) - still, axis=-1).max(0)
    assert set(np.flatnonzero(moved > 1e-9)) == {20, 22}
    bone = np.linalg.norm(still[:, 20] - still[:, 18], axis=-1)
    np.testing.assert_allclose(bone, np.linalg.norm(rest_joints()[20] - rest_joints()[18]), atol=1e-12)
