"""Features of arriving sound: equal to their definition in any chunks, near the song's; constant memory."""

import numpy as np
import pytest

from datasets.live import AHEAD, BLOCK, PAST, LiveFeatures, windowed_features
from datasets.music import music_features
from datasets.sequences import BEAT_COLUMN, feature_columns
from tests.datasets.test_music import COLUMNS, drums
from utils.music.hpss import HOP


def arriving(samples, sizes, **more):
    live, parts, at = LiveFeatures(**more), [], 0
    for size in sizes:
        parts.append(live.push(samples[at : at + size]))
        at += size
    return np.concatenate([*parts, live.push(samples[at:], last=True)])


def test_equal_to_their_definition_however_the_sound_is_cut():
    samples = drums(120, 6.3, 3840)
    expected = windowed_features(samples)
    assert len(expected) == 1 + len(samples) // HOP
    for sizes in ([1, 700, 0, 13_000], [HOP] * 40):
        np.testing.assert_array_equal(arriving(samples, sizes), expected)


def test_early_steps_know_nothing_of_what_is_far():
    """Sound after a block's look-ahead, or before its past, changes nothing in it."""
    samples = drums(120, 13, 3840)
    before = windowed_features(samples)
    block = 9 * BLOCK
    changed = samples.copy()
    changed[: (block - PAST) * HOP] = 0
    changed[(block + BLOCK + AHEAD) * HOP :] = 0
    after = windowed_features(changed)
    np.testing.assert_array_equal(before[block : block + BLOCK], after[block : block + BLOCK])
    assert not np.array_equal(before[:BLOCK], after[:BLOCK])


def test_latency_and_memory():
    live, samples, given = LiveFeatures(), drums(100, 20, 3840), 0
    for step in range(1, 140):
        given += len(live.push(samples[(step - 1) * HOP : step * HOP]))
        assert given >= step - BLOCK - AHEAD + 1
        assert len(live.sound) <= (PAST + 2 * BLOCK + AHEAD) * HOP


def test_near_the_songs_own_features():
    samples = drums(100, 20, 3840)
    whole, live = music_features(samples, 7.5), windowed_features(samples)
    middle = slice(2 * BLOCK, -2 * BLOCK)
    for name, most in (("mfcc", 0.05), ("onset", 0.05), ("chroma", 0.5)):
        gap = np.abs(whole[middle, COLUMNS[name]] - live[middle, COLUMNS[name]]).mean(0)
        assert np.median(gap / (whole[:, COLUMNS[name]].std(0) + 1e-6)) < most, name
    beats, found = (np.flatnonzero(x[middle, BEAT_COLUMN]) for x in (whole, live))
    assert np.median(np.diff(beats)) == np.median(np.diff(found))
    assert abs(len(beats) - len(found)) <= 0.1 * len(beats)
    assert np.abs(beats[:, None] - found).min(1).max() <= 2


def test_beat_phase_is_found_while_the_music_arrives():
    """From samples at 30,720 Hz: as its definition in any chunks, and with the beats of the whole song."""
    samples = drums(100, 12, 30720)
    live = windowed_features(samples, version="beat_phase")
    np.testing.assert_array_equal(arriving(samples, [1, 70_000, 4096], version="beat_phase"), live)
    assert LiveFeatures(version="beat_phase").rate == 30720
    whole, middle = music_features(samples, 7.5, "beat_phase"), slice(2 * BLOCK, -2 * BLOCK)
    assert live.shape == whole.shape
    np.testing.assert_array_equal(live[middle, BEAT_COLUMN], whole[middle, BEAT_COLUMN])
    for name, most in (("beat_phase", 0.1), ("beat_time", 0.02), ("tempo", 6.0)):
        columns = feature_columns("beat_phase")[name]
        assert np.abs(whole[middle, columns] - live[middle, columns]).max() < most, name


def test_a_step_is_a_whole_number_of_samples():
    assert LiveFeatures(7.0).step == HOP
    with pytest.raises(ValueError, match=r"a step of 1/7 s would be 4388\.57 samples"):
        LiveFeatures(7.0, "beat_phase")


@pytest.mark.parametrize(
    ("samples", "message"),
    [(np.zeros((2, 9)), "mono"), (np.ones(3840), "too short"), (np.full(9000, np.nan), "finite")],
)
def test_refusals(samples, message):
    with pytest.raises(ValueError, match=message):
        LiveFeatures().push(samples, last=True)
