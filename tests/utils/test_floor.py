"""One floor height for metrics, foot locking, videos, pages and exports."""

import numpy as np
import pytest

from tests.swaying import dance
from utils.dance import Dance
from utils.dance_formats import WriterInput, WriterOptions
from utils.export import fit_body, lock_feet
from utils.floor import floor_height, ground_height, on_ground, sole_thickness
from utils.metrics.physical import foot_float, foot_penetration, physical_metrics
from utils.render.player_data import stage
from utils.render.scene import Scene
from utils.skeleton import SMPL_24
from utils.smpl import rest_joints


@pytest.mark.parametrize("height", [-1.3, 0.0, 0.42])
def test_all_agree_on_the_floor(height):
    joints = dance(60, height)
    floor, ground = floor_height(joints), ground_height(joints)
    assert ground == floor - sole_thickness()
    assert ground == pytest.approx(height, abs=0.01)
    # metrics: the same as with that floor given
    found = physical_metrics(joints)
    assert found["foot_float"] == foot_float(joints, floor=floor)
    assert found["foot_penetration"] == foot_penetration(joints, floor=floor)
    # video and page draw the ground there
    scene = Scene(joints, SMPL_24, 60, 96, 54, np.zeros(len(joints)))
    assert scene.floor == pytest.approx(ground, abs=1e-6)
    assert stage(joints, SMPL_24, 60)["floor"] == pytest.approx(ground, abs=1e-4)
    # foot locking stands on it
    given = WriterInput(Dance("a", joints), options=WriterOptions(footlock=True))
    assert given.floor == floor
    expected = lock_feet(fit_body(joints, rest_joints()), joints, floor).fit
    np.testing.assert_array_equal(given.body.rotations, expected.rotations)
    # and exports move it to height 0
    standing, lowered = on_ground(joints)
    assert lowered == ground
    assert ground_height(standing) == pytest.approx(0, abs=1e-6)
    assert floor_height(standing) == pytest.approx(sole_thickness(), abs=1e-6)
    np.testing.assert_allclose(joints - standing, np.broadcast_to([0, ground, 0], joints.shape), atol=1e-5)


def test_a_single_frame_has_a_floor():
    assert np.isfinite(ground_height(dance(1)))
