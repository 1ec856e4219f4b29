"""Tempo over time, and the beats that follow it, on sounds whose beats are known."""

import mir_eval
import numpy as np
import pytest

from tests.utils.music.clicks import RATE, clicks
from utils.music.beats import rhythm, track_beats
from utils.music.tempo import tempo_of
from utils.music.tempo_curve import tempo_curve

FPS = 60.0


def pulses(bpm: float, seconds: float, half: float = 0.0) -> np.ndarray:
    """Onset strength with a peak on each beat, and of height `half` between two beats."""
    onset = np.zeros(round(seconds * FPS))
    for number, at in enumerate(np.arange(0, seconds - 0.1, 30 / bpm)):
        onset[round(at * FPS)] = half if number % 2 else 1.0
    return onset


def f_measure(truth: np.ndarray, found: np.ndarray) -> float:
    """Share of beats within 70 ms (mir_eval), the first five seconds left out as usual."""
    return mir_eval.beat.f_measure(mir_eval.beat.trim_beats(truth), mir_eval.beat.trim_beats(found))


@pytest.mark.parametrize("half", [0.0, 0.25])
@pytest.mark.parametrize("bpm", [60, 75, 90, 110, 140, 170, 200])
def test_the_tempo_of_pulses(bpm, half):
    """Also where weaker onsets lie between the beats, which double the tempo of a plain spectrum."""
    found = tempo_curve(pulses(bpm, 20, half), FPS)
    assert found.shape == (1200,)
    np.testing.assert_allclose(found, bpm, rtol=0.03)


def test_a_change_is_found_where_it_is():
    found = tempo_curve(np.concatenate([pulses(100, 20), pulses(140, 20)]), FPS)
    np.testing.assert_allclose(found[: 18 * 60], 100, rtol=0.03)
    np.testing.assert_allclose(found[22 * 60 :], 140, rtol=0.03)


@pytest.mark.parametrize("frames", [1, 2, 100, 7000])
def test_any_length(frames):
    """Also several blocks, which give what one gives."""
    onset = pulses(120, 120)[:frames]
    found = tempo_curve(onset, FPS)
    assert found.shape == (frames,)
    assert ((found >= 40) & (found <= 240)).all()
    if frames == 7000:
        np.testing.assert_allclose(found, 120, rtol=0.02)


def test_silence_has_some_tempo_and_no_warning():
    assert np.isfinite(tempo_curve(np.zeros(500), FPS)).all()


def test_octave_errors_on_clicks_are_at_most_half_of_those_of_standard():
    """Both trackers on clicks of 60 to 200 bpm; a tempo counts as wrong from 10 % off."""
    wrong = {"standard": 0, "beat_phase": 0}
    for bpm in range(60, 201, 20):
        samples, times = clicks(bpm)
        for version in wrong:
            found = rhythm(samples, FPS, version).beats
            off = abs(tempo_of(found, FPS).bpm / bpm - 1) > 0.1
            wrong[version] += off
            if version == "beat_phase":
                assert f_measure(times, found / FPS) > 0.95, bpm
    assert wrong["beat_phase"] <= wrong["standard"] / 2
    assert wrong == {"standard": 3, "beat_phase": 0}


@pytest.mark.parametrize(("first", "second"), [(100, 140), (140, 100), (80, 130)])
def test_a_song_whose_tempo_changes_keeps_its_beats_in_both_halves(first, second):
    samples, times = clicks(lambda at: first if at < 20 else second, seconds=40)
    assert RATE == 512 * FPS
    found = np.flatnonzero(track_beats(samples, FPS, "beat_phase")) / FPS
    assert f_measure(times[times < 20], found[found < 20]) > 0.95
    later, beats = times[times >= 20] - 20, found[found >= 19.9] - 20
    assert mir_eval.beat.f_measure(later, np.maximum(beats, 0)) > 0.95


def test_a_given_tempo_replaces_the_one_that_is_found():
    samples, _ = clicks(160)
    found = rhythm(samples, FPS, "beat_phase", bpm=80).beats
    assert tempo_of(found, FPS).bpm == pytest.approx(80, rel=0.02)
    assert tempo_of(rhythm(samples, FPS, "standard", bpm=160).beats, FPS).bpm == pytest.approx(160, rel=0.02)
