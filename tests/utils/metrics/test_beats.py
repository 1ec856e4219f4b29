import math

import mir_eval
import numpy as np
import pytest

from tests.helpers import golden
from tests.utils.metrics import naive
from tests.utils.metrics.motions import REST, smooth_dance
from utils.metrics.beats import (
    TOLERANCE,
    TOLERANCE_SECONDS,
    alignment,
    beat_align,
    beat_scores,
    motion_beat_times,
    motion_beats,
    prominent_minima,
)
from utils.metrics.physical import freezing


def test_published_scores():
    clips = golden("metrics_clips.npz")
    scores = []
    for i, joints in enumerate(clips["positions"]):
        music = clips[f"music_beats_{i}"]
        np.testing.assert_array_equal(motion_beats(joints), clips[f"ba_motion_beats_{i}"])
        scores.append(beat_align(joints, music))
        flags = np.zeros(500, bool)
        flags[music] = True
        assert beat_align(joints, flags) == scores[-1]
        assert scores[-1] == pytest.approx(naive.beat_score(music, motion_beats(joints)), rel=1e-12)
    np.testing.assert_allclose(scores, clips["ba_scores"], rtol=1e-12)


def test_published_scores_over_motion_beats():
    """FACT's form, which the corrected precision has in seconds."""
    clips = golden("metrics_clips.npz")
    for i, score in enumerate(clips["fact_scores"]):
        motion, music = clips[f"fact_motion_beats_{i}"], clips[f"music_beats_{i}"]
        assert alignment(motion, music, TOLERANCE) == pytest.approx(score, rel=1e-6)  # computed in 32 bits
        assert beat_scores(motion / 60, music / 60).precision == pytest.approx(score, rel=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_score_is_mir_evals_cemgil_rescaled(seed):
    """Cemgil sums the same Gaussian over the reference beats, but divides by the mean of both counts."""
    rng = np.random.default_rng(seed)
    music = np.unique(rng.integers(0, 1200, rng.integers(1, 45)))
    motion = np.unique(rng.integers(0, 1200, rng.integers(1, 60)))
    unit = mir_eval.beat.cemgil.__kwdefaults__ or {"cemgil_sigma": 0.04}
    seconds = unit["cemgil_sigma"] / TOLERANCE  # of a frame, so that both have one sigma
    cemgil, _ = mir_eval.beat.cemgil(music * seconds, motion * seconds)
    expected = cemgil * 0.5 * (len(music) + len(motion)) / len(music)
    assert alignment(music, motion, TOLERANCE) == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_corrected_scores_agree_at_30_and_60_fps():
    music = np.arange(0.3, 12, 0.5)
    for seed in range(6):
        times = [motion_beat_times(smooth_dance(seed, 12, fps, 0.6), fps) for fps in (30, 60, 120)]
        assert len(times[0]) > 15
        for other in times[1:]:
            assert abs(len(other) - len(times[0])) <= 1  # a shallow minimum may come or go
            assert np.abs(times[0][:, None] - other).min(1).max() < 1 / 60
        scores = [beat_scores(t, music) for t in times]
        np.testing.assert_allclose(scores[0], scores[1], atol=0.02)


def test_a_tolerance_in_frames_is_wider_at_30_fps():
    """What the corrected form is for: the same beats in frames of 30 fps score higher."""
    rng = np.random.default_rng(0)
    music, motion = np.sort(rng.integers(0, 1200, (2, 40)))
    assert alignment(music / 2, motion / 2, TOLERANCE) > 1.3 * alignment(music, motion, TOLERANCE)


def test_motion_beat_times_of_a_known_minimum():
    time = np.arange(121) / 60
    for middle in (0.9, 1.0, 1.0071):  # speed |t - middle| + 0.1, symmetric: the minimum stays when smoothed
        way = 0.1 * time + 0.5 * (time - middle) * np.abs(time - middle)
        dance = REST + way[:, None, None] * np.array([1.0, 0, 0])
        found = motion_beat_times(dance)
        np.testing.assert_allclose(found, [middle], atol=1e-3)


def test_recall_precision_and_f1():
    motion, music = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 3.0 + TOLERANCE_SECONDS])
    scores = beat_scores(motion, music)
    near = math.exp(-0.5)
    assert scores.recall == pytest.approx((1 + near) / 2)
    assert scores.precision == pytest.approx((1 + near) / 4)
    assert scores.f1 == pytest.approx(
        2 * scores.recall * scores.precision / (scores.recall + scores.precision)
    )


def test_no_beats():
    still = np.repeat(REST[None], 100, axis=0)
    assert len(motion_beats(still)) == len(motion_beat_times(still)) == 0
    assert beat_align(still, np.array([10, 20])) == 0
    assert math.isnan(beat_align(smooth_dance(), np.array([], int)))
    assert math.isnan(beat_align(smooth_dance(seconds=1), np.array([4000])))  # after the dance
    assert beat_align(still[:2], np.array([0])) == 0
    nothing, one = np.zeros(0), np.array([1.0])
    assert np.isnan(beat_scores(one, nothing)).all()
    silent = beat_scores(nothing, one)
    assert silent.recall == 0
    assert silent.f1 == 0
    assert math.isnan(silent.precision)


def statue(seconds: float = 20.0) -> np.ndarray:
    """A held pose through a decoder that ripples: 0.02 m/s on average, with 5.6 minima per second."""
    time = np.arange(round(60 * seconds)) / 60
    ripple = 0.002 * np.sin(2 * np.pi * 2.8 * time)
    return REST + ripple[:, None, None] * np.array([0.8, 0.0, 0.6])


def test_a_statue_scores_as_published_and_not_corrected():
    joints, music = statue(), np.arange(15, 1200, 30)
    assert freezing(joints) == 1
    assert beat_align(joints, music) > 0.5  # by standing still
    assert len(motion_beat_times(joints)) == 0
    assert beat_scores(motion_beat_times(joints), music / 60).recall == 0
    assert len(motion_beat_times(joints, prominence=0)) >= len(motion_beats(joints)) - 2


def test_a_moving_dance_keeps_its_beats():
    """A step per half second that slows down to a fifth of its speed, with faster and slower phrases."""
    time = np.arange(1200) / 60
    speed = 0.4 * (1.2 - np.cos(2 * np.pi * 2 * (time - 0.1))) * (1 + 0.5 * np.sin(2 * np.pi * time / 8))
    joints = REST + (np.cumsum(speed) / 60)[:, None, None] * np.array([0.6, 0.0, 0.8])
    frames, music = motion_beats(joints), np.arange(6, 1200, 30)
    assert len(frames) >= 39
    np.testing.assert_allclose(motion_beat_times(joints), (frames + 0.5) / 60, atol=0.51 / 60)
    assert beat_align(joints, music) > 0.9
    assert beat_scores(motion_beat_times(joints), music / 60).f1 > 0.9


def test_prominence_by_hand():
    speed = np.array([5.0, 1.0, 3.0, 2.0, 4.0, 0.0, 0.0, 0.0, 2.0])
    assert prominent_minima(speed, 0.0).tolist() == [1, 3, 6]
    assert prominent_minima(speed, 1.5).tolist() == [1, 6]  # 2.0 is 1 below the 3.0 that parts it from 1.0
    assert prominent_minima(speed, 2.0).tolist() == [1, 6]
    assert prominent_minima(speed, 2.5).tolist() == [1]  # 0.0 rises by only 2.0 to its right
    assert prominent_minima(np.ones(9), 0.0).tolist() == []
