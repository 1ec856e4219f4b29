"""Features of version `beat_phase`: rhythm columns from the 60-fps analysis, on songs of known beats."""

import numpy as np
import pytest

from datasets.music import music_features, sample_rate, song_features
from datasets.sequences import BEAT_COLUMN, feature_columns, num_features
from tests.datasets.test_music import drums
from tests.utils.music.clicks import clicks
from utils.music.audio import resample, write_wav
from utils.music.beats import rhythm, track_beats

COLUMNS = feature_columns("beat_phase")
RATE = sample_rate(7.5, "beat_phase")
FRAMES = 8  # per step


@pytest.fixture(scope="module")
def sound():
    return drums(97, 12.0, RATE)


@pytest.fixture(scope="module")
def features(sound):
    return music_features(sound, 7.5, "beat_phase")


def phase_of(features: np.ndarray) -> np.ndarray:
    """Share of the beat that has passed at the start of each step, in [0, 1)."""
    sine, cosine = features[:, COLUMNS["beat_phase"]].T
    return np.arctan2(sine, cosine) / (2 * np.pi) % 1


def test_columns_and_their_order():
    assert RATE == 30720
    assert list(COLUMNS) == [
        "mfcc", "mfcc_delta", "chroma", "onset", "beat", "beat_phase", "beat_time", "tempo"
    ]  # fmt: skip
    assert (num_features("beat_phase"), num_features("standard"), num_features("compat")) == (58, 438, 438)
    assert COLUMNS["beat"].start == feature_columns("compat")["beat"].start == BEAT_COLUMN
    with pytest.raises(ValueError, match="'old' is unknown; expected one of standard, compat, beat_phase"):
        feature_columns("old")


def test_timbre_and_harmony_are_those_of_standard(sound, features):
    standard = music_features(resample(sound, RATE, 3840), 7.5, "standard")
    assert features.shape == (len(standard), 58)
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features[:, : BEAT_COLUMN - 1], standard[:, : BEAT_COLUMN - 1])


def test_flags_and_onsets_say_what_the_analysis_at_60_fps_found(sound, features):
    """A flag is on every code whose frames hold a beat, and on no other; as the reward counts them."""
    found = rhythm(sound, 60.0, "beat_phase")
    codes = np.unique(found.beats // FRAMES)
    np.testing.assert_array_equal(np.flatnonzero(features[:, BEAT_COLUMN]), codes)
    flags = np.flatnonzero(track_beats(sound, 60.0, "beat_phase"))
    np.testing.assert_array_equal(flags, found.beats)
    for step in range(len(features) - 1):
        frames = slice(FRAMES * step, FRAMES * (step + 1))
        assert features[step, COLUMNS["onset"]] == found.onset[frames].max()


def test_phase_time_and_tempo_are_those_of_the_drums(features):
    """Beats of the sound from 0.3 s on; a tracker is up to two frames off."""
    start = np.arange(len(features)) / 7.5
    expected = (start - 0.3) * 97 / 60
    middle = slice(15, -15)
    apart = (phase_of(features) - expected + 0.5) % 1 - 0.5
    assert np.abs(apart[middle]).max() < 0.06
    to_next = (-expected % 1) * 60 / 97
    apart = (features[:, COLUMNS["beat_time"]][:, 0] - to_next + 0.3) % 0.6186 - 0.3
    assert np.abs(apart[middle]).max() < 0.04
    np.testing.assert_allclose(features[middle, COLUMNS["tempo"]], 97, rtol=0.02)


def test_a_flag_and_the_time_to_the_next_beat_agree(features):
    soon = features[:, COLUMNS["beat_time"]][:, 0] < 1 / 7.5 - 1e-6
    flags = features[:, BEAT_COLUMN] > 0
    inner = slice(np.flatnonzero(flags)[0], np.flatnonzero(flags)[-1] + 1)
    np.testing.assert_array_equal(soon[inner], flags[inner])


def test_the_tempo_column_follows_a_change():
    samples, _ = clicks(lambda at: 100 if at < 15 else 140, seconds=30)
    tempo = music_features(samples, 7.5, "beat_phase")[:, COLUMNS["tempo"]][:, 0]
    np.testing.assert_allclose(tempo[30:90], 100, rtol=0.02)
    np.testing.assert_allclose(tempo[135:210], 140, rtol=0.02)


@pytest.mark.parametrize("fps", [7.5, 15.0, 60.0])
def test_other_rates_of_steps(fps, sound):
    features = music_features(sound[: 4 * RATE + 100], fps, "beat_phase")
    assert features.shape == (1 + 4 * fps, 58)
    assert np.isfinite(features).all()
    beats = rhythm(sound[: 4 * RATE + 100], 60.0, "beat_phase").beats
    np.testing.assert_array_equal(np.flatnonzero(features[:, BEAT_COLUMN]), beats * fps // 60)


def test_silence_and_noise_have_no_beat_to_be_in():
    assert not music_features(np.zeros(3 * RATE, np.float32), 7.5, "beat_phase").any()
    click = np.zeros(3 * RATE, np.float32)
    click[RATE] = 0.5
    features = music_features(click, 7.5, "beat_phase")
    assert np.isfinite(features).all()
    if features[:, BEAT_COLUMN].sum() < 2:
        assert not features[:, COLUMNS["beat_phase"].start :].any()


@pytest.fixture(scope="module")
def song(sound, tmp_path_factory):
    path = tmp_path_factory.mktemp("songs") / "song.wav"
    write_wav(path, sound, RATE)
    return path


def test_a_file_gives_features_and_beats_of_one_analysis(song, features):
    found = song_features(song, "beat_phase")
    np.testing.assert_allclose(found.features, features, atol=0.1)  # the file holds 16 bits
    beats = np.flatnonzero(found.beats)
    np.testing.assert_array_equal(np.flatnonzero(found.features[:, BEAT_COLUMN]), np.unique(beats // FRAMES))


@pytest.mark.parametrize("version", ["standard", "compat", "beat_phase"])
def test_given_beats_replace_those_that_are_tracked(song, version):
    """At 0.5, 1.25, ... s: 80 bpm, which the song is not."""
    times = np.arange(0.5, 11.5, 0.75)
    found, own = song_features(song, version, beat_times=times), song_features(song, version)
    np.testing.assert_array_equal(np.flatnonzero(found.beats), np.round(times * 60))
    flags = np.flatnonzero(found.features[:, BEAT_COLUMN])
    if version == "compat":
        np.testing.assert_array_equal(found.features, own.features)
        return
    step = {"standard": np.round(times * 7.5), "beat_phase": np.round(times * 60) // FRAMES}[version]
    np.testing.assert_array_equal(flags, step)
    np.testing.assert_array_equal(found.features[:, :BEAT_COLUMN], own.features[:, :BEAT_COLUMN])
    if version == "beat_phase":
        np.testing.assert_allclose(found.features[:, COLUMNS["tempo"]], 80, rtol=0.01)


def test_a_given_tempo_is_that_of_the_beats(song):
    found = song_features(song, "beat_phase", bpm=194.0)
    np.testing.assert_allclose(found.features[20:-20, COLUMNS["tempo"]], 194, rtol=0.03)


def test_beats_after_the_end_are_refused_by_name(song):
    with pytest.raises(ValueError, match=r"song\.wav: beat 3 of 3 is at 90 s, the song ends at 12\.0"):
        song_features(song, "beat_phase", beat_times=np.array([1.0, 2.0, 90.0]))
