import numpy as np
import pytest

from tests.helpers import golden
from tests.utils.metrics import naive
from tests.utils.metrics.motions import REST, noisy_dance, smooth_dance
from utils.metrics.geometric import HIPS, RELATIONS, SHOULDERS, UPPER_ARM, geometric_features, geometric_tests
from utils.metrics.kinetic import kinetic_features


@pytest.mark.parametrize("start", ["raw", "zero"])
def test_features_equal_the_published_ones(start):
    clips = golden("metrics_clips.npz")
    joints = clips["positions"]
    if start == "zero":
        joints = joints - joints[:, :1, :1]
    kinetic = np.stack([kinetic_features(dance) for dance in joints])
    geometric = np.stack([geometric_features(dance) for dance in joints])
    assert kinetic.dtype == geometric.dtype == np.float32
    np.testing.assert_allclose(kinetic, clips[f"kin_{start}"], rtol=1e-6)
    np.testing.assert_array_equal(geometric, clips[f"man_{start}"])


def test_rest_lengths():
    np.testing.assert_allclose([UPPER_ARM, SHOULDERS, HIPS], [naive.HL, naive.SW, naive.HW], atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_features_equal_the_frame_by_frame_restatement(seed):
    for dance in (smooth_dance(seed, seconds=0.5), noisy_dance(seed)):
        np.testing.assert_allclose(kinetic_features(dance), naive.kinetic(dance), rtol=1e-6)
        np.testing.assert_allclose(geometric_features(dance), naive.geometric(dance), atol=1e-7)


def test_noise_makes_every_test_hold_now_and_then():
    tests = np.concatenate([geometric_tests(noisy_dance(seed, 200)) for seed in range(5)])
    assert tests.any(0).all()
    assert not tests.all(0).any()
    assert len(RELATIONS) == 32


def test_published_expenditure_is_distance_from_the_origin():
    dance = smooth_dance()
    far = kinetic_features(dance + np.array([10.0, 0, 0]))[2::3]
    distance = np.linalg.norm(dance + np.array([10.0, 0, 0]), axis=-1).mean(0)
    np.testing.assert_allclose(far / distance, 3540, rtol=0.01)


def test_corrected_acceleration_of_a_parabola():
    time = np.arange(100)[:, None, None] / 60
    acceleration = np.random.default_rng(0).normal(size=(24, 3))
    features = kinetic_features(REST + acceleration * time**2 / 2, corrected=True)
    np.testing.assert_allclose(features[2::3], np.linalg.norm(acceleration, axis=-1), rtol=1e-6)


def test_velocity_energies_of_uniform_motion():
    velocity = np.random.default_rng(1).normal(size=(24, 3))
    features = kinetic_features(REST + velocity * np.arange(50)[:, None, None] / 60)
    np.testing.assert_allclose(features[0::3], velocity[:, 0] ** 2 + velocity[:, 2] ** 2, rtol=1e-6)
    np.testing.assert_allclose(features[1::3], velocity[:, 1] ** 2, rtol=1e-6)


def test_corrected_features_do_not_change_under_translation():
    dance, shift = smooth_dance(2), np.array([3.0, -1.0, 7.0])
    np.testing.assert_allclose(
        kinetic_features(dance + shift, corrected=True), kinetic_features(dance, corrected=True), rtol=1e-6
    )
    np.testing.assert_array_equal(
        geometric_features(dance + shift, corrected=True), geometric_features(dance, corrected=True)
    )
    assert np.abs(kinetic_features(dance + shift) / kinetic_features(dance) - 1).max() > 0.5


def test_corrected_features_hardly_depend_on_the_frame_rate():
    for seed in range(3):
        fast, slow = smooth_dance(seed, fps=60), smooth_dance(seed, fps=30)
        kinetic = [kinetic_features(d, fps, corrected=True) for d, fps in ((fast, 60), (slow, 30))]
        np.testing.assert_allclose(kinetic[0], kinetic[1], rtol=0.05)
        geometric = [geometric_features(d, fps, corrected=True) for d, fps in ((fast, 60), (slow, 30))]
        np.testing.assert_allclose(geometric[0], geometric[1], atol=0.08)


def test_corrected_geometric_velocities_are_half_the_published():
    """A uniform speed between the threshold and half of it is fast only as published."""
    speed = 2.5 * UPPER_ARM * 0.75
    dance = REST + np.array([speed, 0, 0]) * np.arange(30)[:, None, None] / 60
    wrist = [12, 13]
    assert (geometric_features(dance)[wrist] == 1).all()
    assert (geometric_features(dance, corrected=True)[wrist] == 0).all()


def test_two_frames_and_a_constant_pose():
    still = np.repeat(REST[None], 2, axis=0)
    np.testing.assert_array_equal(kinetic_features(still), 0)
    moving = [
        i for i, relation in enumerate(RELATIONS) if "velocity" in relation.kind or relation.kind == "speed"
    ]
    assert set(geometric_features(still)) <= {0.0, 1.0}
    np.testing.assert_array_equal(geometric_features(still)[moving], 0)
    assert kinetic_features(noisy_dance(frames=2)).min() >= 0


def test_bones_of_length_zero_make_tests_false_without_a_warning():
    nowhere = np.zeros((5, 24, 3))
    assert not geometric_features(nowhere)[[2, 6, 14, 18, 28]].any()
    assert np.isfinite(geometric_features(nowhere)).all()


@pytest.mark.parametrize("function", [kinetic_features, geometric_features])
def test_bad_joints_are_named(function):
    dance = smooth_dance(seconds=0.2)
    before = dance.copy()
    function(dance)
    np.testing.assert_array_equal(dance, before)
    dance[3, 15, 1] = np.nan
    with pytest.raises(ValueError, match=r"got nan in frame 3, joint head, axis y"):
        function(dance)
    with pytest.raises(ValueError, match=r"must be \(T, 24, 3\), got shape \(10, 72\)"):
        function(np.zeros((10, 72)))
    with pytest.raises(ValueError, match="at least 2 frames here, got 1"):
        function(np.zeros((1, 24, 3)))
    with pytest.raises(ValueError, match="positive number of Hz, got 0"):
        function(np.zeros((4, 24, 3)), fps=0)
