"""Where in the beat a moment falls, by hand-made beats."""

import numpy as np
import pytest

from utils.music.beat_phase import BeatPhase, beat_phase

FPS = 60.0


def phase_of(found: BeatPhase) -> np.ndarray:
    """Share of the beat that has passed, in [0, 1)."""
    return np.arctan2(found.sine, found.cosine) / (2 * np.pi) % 1


def test_a_metronome():
    """Beats every 30 frames from frame 12 on, before the first and after the last too."""
    places = np.arange(0, 200, 8.0)
    found = beat_phase(np.arange(12, 140, 30), places, FPS)
    np.testing.assert_allclose(phase_of(found), (places - 12) / 30 % 1, atol=1e-12)
    np.testing.assert_allclose(found.to_next, (12 - places) % 30 / FPS, atol=1e-12)
    np.testing.assert_allclose(found.bpm, 120)
    np.testing.assert_allclose(found.sine**2 + found.cosine**2, 1)


def test_a_moment_on_a_beat_has_phase_and_time_0():
    found = beat_phase(np.array([16, 40, 64]), np.array([16.0, 40.0, 64.0]), FPS)
    np.testing.assert_array_equal(found.sine, 0)
    np.testing.assert_array_equal(found.cosine, 1)
    np.testing.assert_array_equal(found.to_next, 0)


def test_a_tempo_that_changes_is_local():
    beats = np.concatenate([np.arange(0, 600, 36), np.arange(600, 1200, 24)])  # 100, then 150 bpm
    found = beat_phase(beats, np.array([300.0, 450.0, 750.0, 1150.0]), FPS)
    np.testing.assert_allclose(found.bpm, [100, 100, 150, 150])
    np.testing.assert_allclose(phase_of(found), [300 % 36 / 36, 450 % 36 / 36, 150 % 24 / 24, 550 % 24 / 24])


def test_a_tempo_between_frames_is_that_of_several_beats():
    beats = np.round(np.arange(0, 40) * 27.69)  # 130.0 bpm on whole frames: intervals of 27 and 28
    found = beat_phase(beats, np.arange(150, 900, 8.0), FPS)
    np.testing.assert_allclose(found.bpm, 130, rtol=0.01)


def test_no_beat_is_kept_through_a_pause():
    beats = np.concatenate([np.arange(0, 121, 30), np.arange(600, 721, 30)])  # eight seconds apart
    found = beat_phase(beats, np.array([105.0, 300.0, 615.0]), FPS)
    np.testing.assert_allclose(found.bpm, [120, 0, 120])
    np.testing.assert_allclose(phase_of(found), [0.5, 0, 0.5])
    assert [values[1] for values in found] == [0, 0, 0, 0]


@pytest.mark.parametrize("beats", [[], [30], [30, 300]])
def test_without_two_beats_of_one_tempo_there_is_no_phase(beats):
    found = beat_phase(np.array(beats), np.arange(0, 400, 8.0), FPS)
    assert all(len(values) == 50 and not values.any() for values in found)
