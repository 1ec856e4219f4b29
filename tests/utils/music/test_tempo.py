import math

import numpy as np
import pytest

from utils.music.tempo import UNSTEADY, tempo_of

FPS = 60


def beats_at(times, seconds=None):
    """Flags per frame of beats at times, as a tracker gives them."""
    flags = np.zeros(round((seconds or times[-1] + 1) * FPS), bool)
    flags[np.round(np.asarray(times) * FPS).astype(int)] = True
    return flags


@pytest.mark.parametrize("bpm", [60, 90, 100, 128, 140, 174, 200])
def test_a_metronome_is_steady(bpm):
    tempo = tempo_of(beats_at(np.arange(0, 60, 60 / bpm)), FPS)
    assert tempo.bpm == pytest.approx(bpm, rel=2e-3)
    assert tempo.spread < 0.06
    assert not tempo.unsteady
    assert str(tempo) == f"{bpm} BPM"


def test_a_player_who_is_human_is_steady():
    rng = np.random.default_rng(0)
    times = np.arange(0, 120, 0.5) + rng.normal(0, 0.015, 240).clip(0)
    assert not tempo_of(beats_at(times), FPS).unsteady


def test_a_tempo_that_changes_is_unsteady():
    change = np.concatenate([np.arange(0, 30, 0.6), np.arange(30, 60, 60 / 140)])  # 100, then 140
    slower = np.cumsum(60 / np.linspace(130, 100, 150))
    for times in (change, slower):
        tempo = tempo_of(beats_at(times), FPS)
        assert tempo.unsteady
        assert 100 <= tempo.bpm <= 140
    tempo = tempo_of(beats_at(change), FPS)
    assert (round(tempo.slowest), round(tempo.fastest)) == (100, 140)
    assert str(tempo) == f"{tempo.bpm:.0f} BPM, unsteady (100 to 140)"


def test_a_pause_and_a_missed_beat_change_nothing():
    times = np.delete(np.arange(0, 120, 0.5), [40, *range(100, 130)])
    tempo = tempo_of(beats_at(times), FPS)
    assert tempo.bpm == pytest.approx(120, rel=1e-3)
    assert not tempo.unsteady


def test_the_limit_is_that_of_the_spread():
    for part, unsteady in ((0.8 * UNSTEADY, False), (1.2 * UNSTEADY, True)):
        intervals = np.repeat([0.5, 0.5 * (1 + part)], 200)
        tempo = tempo_of(np.round(np.cumsum(intervals) * 6000).astype(int), 6000)
        assert tempo.unsteady == unsteady


def test_few_beats_have_no_tempo():
    for beats in (np.zeros(300, bool), np.zeros(0, int), np.array([0, 30, 60])):
        tempo = tempo_of(beats, FPS)
        assert not tempo.known
        assert not tempo.unsteady
        assert math.isnan(tempo.bpm)
        assert str(tempo) == "no tempo found"
    assert tempo_of(np.array([0, 30, 60, 90]), FPS).bpm == pytest.approx(120)
    flags = beats_at([0.5, 1.0, 1.5, 2.0, 2.5])
    assert tempo_of(flags, FPS) == tempo_of(np.flatnonzero(flags), FPS)
