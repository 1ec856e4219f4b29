"""Landings, brakes and loudness: dances made to have known ones."""

import numpy as np
import pytest

from tests.utils.metrics.motions import REST
from utils.metrics import Dance, dance_features
from utils.metrics.beats import smoothed_speed
from utils.metrics.rhythm import (
    brake,
    foot_landings,
    landing_phases,
    loudness_following,
    rhythm_scores,
)
from utils.skeleton import SMPL_24

BEATS = np.arange(0.25, 12, 0.5)
LEFT, RIGHT = (list(foot) for foot in SMPL_24.feet)


def stepper(landings: np.ndarray, seconds: float = 12, fps: float = 60, lift: float = 0.15) -> np.ndarray:
    """Feet in turn: up for a quarter of a second, down at each of the landings, on the floor else."""
    time = np.arange(round(seconds * fps)) / fps
    joints = REST[None].repeat(len(time), 0)
    for i, landing in enumerate(landings):
        part = (time - (landing - 0.25)) / 0.25
        up = np.where((part > 0) & (part < 1), np.sin(np.pi * part), 0) * lift
        for joint in (LEFT, RIGHT)[i % 2]:
            joints[:, joint, 1] += up
    return joints


@pytest.mark.parametrize("fps", [30, 60])
def test_landings_are_found(fps):
    found = foot_landings(stepper(BEATS[1:], fps=fps), fps)
    assert len(found) == len(BEATS) - 1
    np.testing.assert_allclose(found, BEATS[1:], atol=0.06)
    assert len(foot_landings(stepper(BEATS[1:], lift=0.02))) == 0  # never off the floor
    assert len(foot_landings(REST[None].repeat(60, 0))) == 0


def test_phases_by_hand():
    beats = np.array([1.0, 2.0, 4.0])
    phases = landing_phases(np.array([0.5, 1.1, 1.9, 2.5, 3.5, 4.5]), beats)
    np.testing.assert_allclose(phases, [0.1, -0.1, 0.25, -0.25])
    assert len(landing_phases(np.array([1.0]), beats[:1])) == 0


def test_landings_on_the_beat_late_and_at_random():
    def scores(landings):
        dance = stepper(np.sort(landings))
        return rhythm_scores(smoothed_speed(dance), foot_landings(dance), BEATS, None)

    on, late = scores(BEATS[1:]), scores(BEATS[1:] + 0.1)
    assert abs(on["landing_offset"]) < 0.12
    assert on["landing_spread"] < 0.05
    assert late["landing_offset"] - on["landing_offset"] == pytest.approx(0.2, abs=0.05)
    assert late["landing_spread"] < 0.05
    random = np.cumsum(np.random.default_rng(0).uniform(0.35, 0.75, 20)) + 0.2
    assert scores(random)["landing_spread"] > 0.3
    assert np.isnan(scores(BEATS[1:3])["landing_offset"])


def test_brakes():
    time = (np.arange(719) + 0.5) / 60
    speed = 0.5 * (1.2 - np.cos(2 * np.pi * 2 * (time - BEATS[0])))  # slowest on the beats
    assert brake(speed, BEATS) == pytest.approx(0.2 / 2.2, abs=0.01)
    assert brake(speed, BEATS + 0.25) > 0.6
    assert brake(np.ones(719), BEATS) == 1
    assert brake(0.02 * speed, BEATS) == 1  # it hardly moves
    assert np.isnan(brake(speed, BEATS[:1]))
    assert np.isnan(brake(speed, np.zeros(0)))


def test_loudness():
    rng = np.random.default_rng(0)
    bars = rng.uniform(0.2, 1.0, 6)
    speed, quiet = np.repeat(bars, 120), np.repeat(1 / bars, 120)
    beats = np.arange(24) * 0.5
    assert loudness_following(speed[:-1], speed**3 - 500, beats) == pytest.approx(1)
    assert loudness_following(speed[:-1], quiet, beats) == pytest.approx(-1)
    assert np.isnan(loudness_following(speed[:-1], np.ones(720), beats))
    assert np.isnan(loudness_following(speed[:-1], speed, beats[:20]))


def test_they_are_part_of_the_features():
    loudness = np.linspace(0, 1, 300)
    dance = Dance("a", stepper(BEATS[1:]), np.round(BEATS * 60).astype(int))
    features = dance_features(dance, loudness=loudness)
    assert len(features.speed) + 1 == len(features.loudness) == features.frames == 720
    assert features.loudness[299] == features.loudness[-1] == 1
    assert len(features.landings) == len(BEATS) - 1
    assert dance_features(dance).loudness is None
