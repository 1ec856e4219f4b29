"""Parts of the reward against the metrics that they stand for, and against dancers who game them."""

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d

from models.reward import motion_beats
from tests.utils.metrics.motions import smooth_dance
from tests.utils.metrics.test_beats import statue
from utils.metrics.beats import mean_speed, prominent_minima
from utils.motion import joints_to_pose


def poses(*dances):
    """(B, T, 72) with the root position in the root slot, which does not move in these dances."""
    joints = torch.tensor(np.stack(dances), dtype=torch.float32)
    joints[:, :, 0] = 0
    return joints_to_pose(joints)


def test_prominent_motion_beats_are_those_of_the_metrics():
    dances = [smooth_dance(seed, 8, scale=0.6)[:480] for seed in range(3)]
    pose = poses(*dances)
    plain, prominent = motion_beats(pose), motion_beats(pose, prominence=0.05)
    assert 0 < prominent.sum() < plain.sum()
    assert not (prominent & ~plain).any()
    for row, found in zip(pose, prominent, strict=True):
        speed = gaussian_filter1d(mean_speed(row.unflatten(-1, (24, 3)).numpy()) * 60, 5.0)
        assert found.nonzero()[:, 0].tolist() == prominent_minima(speed, 0.05).tolist()


def test_a_statue_has_motion_beats_only_without_prominence():
    pose = poses(statue(8))
    assert motion_beats(pose).sum() > 40
    assert motion_beats(pose, prominence=0.02).sum() == 0
