"""Features at the rate of the motion: the published system's 55 columns, several frames in a step."""

import numpy as np
import pytest

from datasets.live import windowed_features
from datasets.music import music_features, sample_rate, song_features
from datasets.sequences import feature_columns, frames_per_step, num_features
from tests.datasets.test_live import arriving
from tests.datasets.test_music import assert_close, drums
from tests.helpers import golden
from utils.music.audio import write_wav
from utils.music.beat_phase import beat_phase
from utils.music.beats import rhythm, track_beats

COLUMNS = feature_columns("frames")


def single(features):
    """Frame by frame (T60, 55)."""
    return features.reshape(-1, COLUMNS["sound"].stop)


def test_columns():
    assert (num_features("frames"), COLUMNS["sound"]) == (440, slice(54, 55))
    assert (frames_per_step("frames"), frames_per_step("frames", 15.0), frames_per_step("compat")) == (
        8,
        4,
        1,
    )
    assert num_features("frames", 15.0) == 220
    with pytest.raises(ValueError, match=r"a step of 1/7 s is no whole number of frames"):
        num_features("frames", 7.0)
    assert sample_rate(7.5, "frames") == 30720


def test_golden_features():
    """As the published extractor of librosa 0.8.1 makes them: its first 55 columns."""
    sound, recorded = golden("audio_inputs.npz")["mono_30720"], golden("audio_features_librosa081.npz")
    features = music_features(sound, 7.5, "frames")
    assert features.shape == (76, 440)
    assert features.dtype == np.float32
    found = single(features)
    rows = recorded["feat_mono_30720_rows"][:, :55]
    np.testing.assert_allclose(found[:601:16, :52], rows[:, :52], atol=2e-2)  # MFCC in dB
    np.testing.assert_allclose(found[:601, 52], recorded["onset_mono_30720"], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(np.flatnonzero(found[:, 53]), recorded["beats_mono_30720"])
    np.testing.assert_allclose(found[:601:16, 54], rows[:, 54], atol=1e-6)
    assert found[:601, 54].max() == pytest.approx(1)
    assert not found[601:].any()  # the last step is filled up by zeros


def test_they_are_the_first_columns_of_compat():
    sound = drums(97, 4.0, 30720, seed=1)
    features, compat = single(music_features(sound, 7.5, "frames")), music_features(sound, 60.0, "compat")
    np.testing.assert_array_equal(features[: len(compat)], compat[:, :55])


def test_of_a_file_with_given_beats(tmp_path):
    path = tmp_path / "song.wav"
    write_wav(path, drums(100, 6.0, 30720), 30720)
    song = song_features(path, "frames")
    assert len(song.beats) == 361
    assert len(song.features) == 46
    np.testing.assert_array_equal(single(song.features)[:361, 53] > 0, song.beats)
    times = np.array([0.5, 1.0, 2.5])
    given = song_features(path, "frames", beat_times=times)
    assert np.flatnonzero(single(given.features)[:, 53]).tolist() == [30, 60, 150]
    np.testing.assert_array_equal(single(given.features)[:, :53], single(song.features)[:, :53])


def test_silence_is_zero():
    features = music_features(np.zeros(3 * 30720, np.float32), 7.5, "frames")
    assert features.shape == (23, 440)
    assert not features.any()


def test_of_arriving_sound():
    samples = drums(120, 5.0, 30720)
    expected = windowed_features(samples, version="frames")
    assert expected.shape == music_features(samples, 7.5, "frames").shape
    assert_close(arriving(samples, [1, 9000, 0, 40_000], version="frames"), expected)
    flags = single(expected)[: 1 + len(samples) // 512, 53] > 0
    assert 8 <= flags.sum() <= 12
    assert track_beats(samples, 60.0, "frames").sum() >= 8


def test_each_frame_knows_where_in_the_beat_it_is():
    sound = drums(110, 6.0, 30720, seed=2)
    features = music_features(sound, 7.5, "frames_beat_phase")
    columns, total = feature_columns("frames_beat_phase"), 1 + len(sound) // 512
    assert features.shape == (-(-total // 8), 8 * 58)
    frames = features.reshape(-1, 58)
    found = rhythm(sound, 60.0, "beat_phase")
    np.testing.assert_array_equal(np.flatnonzero(frames[:, columns["beat"]]), found.beats)
    np.testing.assert_array_equal(frames[:total, columns["onset"]][:, 0], found.onset)
    phase = beat_phase(found.beats, np.arange(total), 60.0)
    expected = np.stack([phase.sine, phase.cosine, phase.to_next, phase.bpm], 1)
    np.testing.assert_allclose(frames[:total, 54:], expected, rtol=1e-6)
    assert abs(np.median(frames[:total, columns["tempo"]]) - 110) < 3
    at_code_rate = music_features(sound, 7.5, "beat_phase")[: len(features)]
    first = frames[::8]  # of each code
    for name in ("beat_phase", "beat_time", "tempo"):
        there = at_code_rate[:, feature_columns("beat_phase")[name]]
        np.testing.assert_allclose(first[: len(there), columns[name]], there, rtol=1e-5, atol=1e-6)
