"""Axes are rotated, never mirrored; resampled motion is that of the source."""

import numpy as np
import pytest

from tests.datasets.aistpp.fakes import body
from utils.recording import UP_AXES, checked_rate, mean_jerk, resampled, to_y_up


@pytest.mark.parametrize("up", UP_AXES)
def test_every_axis_becomes_y_by_a_rotation(up):
    axes = to_y_up(np.eye(3), up)
    pointing_up = np.eye(3)["xyz".index(up[-1])] * (-1.0 if up.startswith("-") else 1.0)
    np.testing.assert_array_equal(to_y_up(pointing_up, up), [0, 1, 0])
    assert np.linalg.det(axes) == pytest.approx(1.0)
    assert to_y_up(np.eye(3, dtype=np.float32), up).dtype == np.float32


@pytest.mark.parametrize("fps", [24, 25, 30, 50, 100, 120, 240])
def test_resampled_motion_is_that_of_the_source(fps):
    source, wanted = body(round(2 * fps) + 1, fps), body(121, 60)
    found = resampled(source, fps, 60)
    assert found.shape == wanted.shape
    assert np.linalg.norm(found - wanted, axis=-1).max() < 1e-3
    np.testing.assert_array_equal(found[0], source[0])
    assert mean_jerk(found, 60) == pytest.approx(mean_jerk(wanted, 60), rel=0.1)


def test_linear_interpolation_has_three_times_the_jitter():
    source = body(61, 30)
    linear = np.empty((121, 24, 3))
    linear[::2], linear[1::2] = source, (source[1:] + source[:-1]) / 2
    assert mean_jerk(linear, 60) > 3 * mean_jerk(resampled(source, 30, 60), 60)


def test_rates_at_the_edges():
    one = body(1, 30)
    np.testing.assert_array_equal(resampled(one, 30, 60), one)
    assert len(resampled(body(2, 30), 30, 60)) == 3
    assert resampled(body(7, 60), 60, 60).shape[0] == 7
    assert mean_jerk(body(3, 60), 60) == 0
    assert checked_rate(59.94) == 59.94
    for bad in (0.0, -30.0, float("nan"), float("inf"), 5.0, 48000.0):
        with pytest.raises(ValueError, match="frame rate must be 10 to 1000 Hz, got"):
            checked_rate(bad)
