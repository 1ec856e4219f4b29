import math

import numpy as np
import pytest

from tests.helpers import golden
from tests.utils.metrics import naive
from tests.utils.metrics.motions import REST, noisy_dance, smooth_dance
from utils.metrics.physical import (
    bone_length_drift,
    floor_height,
    foot_float,
    foot_penetration,
    foot_skate_ratio,
    freezing,
    jitter,
    pfc,
    physical_metrics,
    resample,
)

STILL = np.repeat(REST[None], 120, axis=0)
TIME = np.arange(120) / 60


def moved(x=0.0, y=0.0, z=0.0):
    return STILL + np.stack(np.broadcast_arrays(x, y, z, TIME)[:3], -1)[:, None]


def test_published_pfc():
    clips = golden("metrics_clips.npz")
    y_up = clips["pfc_positions_zup_30fps"][..., [0, 2, 1]]  # the side axes may change places
    scores = [pfc(joints, 30) for joints in y_up]
    np.testing.assert_allclose(scores, clips["pfc"], rtol=1e-6)
    assert np.mean(scores) == pytest.approx(float(clips["pfc_folder"]), rel=1e-6)
    np.testing.assert_allclose(pfc(y_up[0], 30), naive.pfc(y_up[0].astype(np.float64)), rtol=1e-9)


def test_pfc_of_one_motion_at_30_and_60_fps():
    for seed in range(4):
        fast, slow = smooth_dance(seed, fps=60), smooth_dance(seed, fps=30)
        assert pfc(fast, 60) == pfc(slow, 30) == pfc(slow, 30, published=False)
        assert pfc(fast, 60, published=False) == pytest.approx(pfc(slow, 30), rel=0.02)
        assert pfc(smooth_dance(seed, fps=120), 120, published=False) == pytest.approx(
            pfc(slow, 30), rel=0.02
        )
        assert naive.pfc(slow) / naive.pfc(fast) == pytest.approx(4, rel=0.05)  # what reading 60 as 30 does


def test_pfc_edges():
    assert pfc(STILL) == 0
    assert math.isnan(pfc(STILL[:2]))
    assert math.isnan(pfc(STILL[:4], published=False))
    assert pfc(moved(x=TIME)) == 0  # sliding at one speed: no acceleration


def test_floor_is_where_the_feet_stand():
    assert floor_height(STILL + np.array([0, 0.7, 0])) == pytest.approx(REST[:, 1].min() + 0.7)
    jump = moved(y=np.where((TIME > 0.5) & (TIME < 1.2), 0.4 * np.sin((TIME - 0.5) / 0.7 * np.pi), 0))
    assert floor_height(jump) == pytest.approx(REST[:, 1].min(), abs=0.002)
    never_still = moved(x=3 * TIME)
    assert floor_height(never_still) == pytest.approx(REST[:, 1].min())


def test_feet_on_the_floor():
    assert foot_skate_ratio(STILL) == foot_penetration(STILL) == foot_float(STILL) == 0
    assert foot_skate_ratio(moved(x=TIME)) == 1  # 1 m/s
    assert foot_skate_ratio(moved(x=0.3 * TIME)) == 0  # 0.3 m/s
    assert foot_skate_ratio(moved(x=TIME, y=np.full(120, 0.2)), floor=REST[:, 1].min()) == 0  # in the air
    floor = float(REST[[7, 8, 10, 11], 1].min())
    assert foot_penetration(moved(y=np.full(120, -0.03)), floor=floor) == pytest.approx(0.03)
    assert foot_float(moved(y=np.full(120, 0.05)), floor=floor) == pytest.approx(0.05)
    assert foot_penetration(STILL, floor=-9) == 0
    assert foot_float(STILL, floor=9) == 0


def test_jitter_is_the_jerk():
    assert jitter(moved(x=TIME**3)) == pytest.approx(6, rel=1e-6)
    assert jitter(moved(x=TIME**2)) == pytest.approx(0, abs=1e-6)
    assert math.isnan(jitter(STILL[:3]))
    shaken = smooth_dance() + np.random.default_rng(0).normal(size=(481, 24, 3)) * 1e-3
    assert jitter(shaken) > 5 * jitter(smooth_dance())


def test_freezing():
    assert freezing(STILL) == 1
    assert freezing(smooth_dance()) == 0
    stops = np.concatenate([smooth_dance(seconds=4), np.repeat(smooth_dance(seconds=4)[-1:], 240, 0)])
    assert 0.35 < freezing(stops) < 0.45  # four seconds of eight, less the window that has to fit in
    assert freezing(STILL[:2]) == 1


def test_bone_drift():
    assert bone_length_drift(moved(x=TIME)) == pytest.approx(0, abs=1e-12)
    grows = STILL * (1 + 0.2 * np.linspace(-0.5, 0.5, 120))[:, None, None]
    assert bone_length_drift(grows) == pytest.approx(0.05, rel=0.01)
    assert math.isnan(bone_length_drift(np.zeros((5, 24, 3))))
    one_lost = STILL.copy()
    one_lost[:, 23] = one_lost[:, 21]
    assert bone_length_drift(one_lost) == pytest.approx(0, abs=1e-12)


def test_all_at_once_and_two_frames():
    dance = noisy_dance()
    together = physical_metrics(dance)
    assert together["foot_skate"] == foot_skate_ratio(dance)
    assert together["foot_float"] == foot_float(dance)
    assert together["PFC"] == pfc(dance)
    short = physical_metrics(dance[:2])
    assert [key for key, value in short.items() if math.isnan(value)] == ["PFC", "PFC_fps_free", "jitter"]


def test_resample():
    dance = smooth_dance(fps=60)
    np.testing.assert_array_equal(resample(dance, 60, 30), dance[::2])
    assert resample(dance, 60, 60) is dance
    up = resample(dance, 60, 90)
    assert len(up) == 721
    np.testing.assert_allclose(up[::3], dance[::2], atol=1e-12)
    np.testing.assert_allclose(up, smooth_dance(fps=90), atol=2e-3)
    line = np.arange(11.0)[:, None]
    np.testing.assert_allclose(resample(line, 25, 60)[:, 0], np.arange(25) * 25 / 60)
    assert len(resample(line[:1], 25, 60)) == 1
