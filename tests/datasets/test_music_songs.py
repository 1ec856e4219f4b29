"""Songs in blocks of frames and at another rate: the same numbers as at once, and the published loader's."""

import tracemalloc

import librosa
import numpy as np
import pytest

from datasets.music import feature_sample_rate, music_beats, music_features, song_features, track_beats
from tests.datasets.test_music import COLUMNS, drums
from tests.helpers import golden
from utils.music.audio import resample, write_wav
from utils.music.beats import onset_strength, tempogram
from utils.music.hpss import BLOCK, Synthesis, harmonic_percussive, percussive_part, spectrum_blocks
from utils.music.resampling import resample_as_published

LENGTHS = [4096, BLOCK * 512 - 1, BLOCK * 512, (BLOCK + 3) * 512 + 7, 2 * BLOCK * 512 + 300]  # of the blocks


@pytest.fixture(scope="module")
def sound():
    return drums(120, max(LENGTHS) / 30720 + 0.1, 30720)


@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
@pytest.mark.parametrize("length", LENGTHS)
def test_a_spectrum_in_blocks_is_the_spectrum(sound, length, pad_mode):
    samples = sound[:length]
    expected = librosa.stft(samples, n_fft=2048, hop_length=512, pad_mode=pad_mode)
    blocks = list(spectrum_blocks(samples, pad_mode, overlap=15))
    joined = np.concatenate([block.values[:, block.own] for block in blocks], axis=1)
    np.testing.assert_array_equal(joined, expected)
    whole = Synthesis(length)
    for block in blocks:
        whole.add(block.start, block.values[:, block.own])
    np.testing.assert_array_equal(whole.result(), librosa.istft(expected, hop_length=512, length=length))


@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
@pytest.mark.parametrize("length", LENGTHS[::2])
def test_parts_in_blocks_are_librosas(sound, length, pad_mode):
    expected = librosa.effects.hpss(sound[:length], pad_mode=pad_mode)
    for part, other in zip(harmonic_percussive(sound[:length], pad_mode), expected, strict=True):
        np.testing.assert_allclose(part, other, atol=1e-6)
    np.testing.assert_array_equal(
        percussive_part(sound[:length], pad_mode), harmonic_percussive(sound[:length], pad_mode)[1]
    )


@pytest.mark.parametrize("frames", [20, BLOCK, BLOCK + 1, 3 * BLOCK])
def test_a_tempogram_in_blocks_is_librosas(frames):
    onset = np.random.default_rng(0).random(frames).astype(np.float32)
    expected = librosa.feature.tempogram(onset_envelope=onset, win_length=384)
    np.testing.assert_allclose(tempogram(onset, 384), expected, atol=1e-12)


@pytest.mark.parametrize("version", ["standard", "compat"])
@pytest.mark.parametrize("fps", [7.5, 60.0])
def test_beats_alone_are_the_beats_of_the_features(fps, version):
    samples = drums(97, 12, feature_sample_rate(fps))
    flags = track_beats(samples, fps, version)
    assert flags.any()
    np.testing.assert_array_equal(flags, music_beats(music_features(samples, fps, version)))
    assert not track_beats(np.zeros(9000, np.float32), 7.5).any()


def test_a_long_song_takes_little_more_memory_than_its_samples():
    samples = np.random.default_rng(0).normal(0, 0.1, 90 * 30720).astype(np.float32)
    tracemalloc.start()
    onset_strength(percussive_part(samples, "constant"), 30720, "standard")
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    assert peak < 70 + 3 * samples.nbytes / 1e6  # one spectrum of it all at once is 44 MB, and there were ten


@pytest.mark.parametrize(("rate", "rms"), [(30720, 1.5e-4), (3840, 3.5e-5)])
def test_compat_resamples_as_the_published_loader_and_soxr_does_not(rate, rms):
    stored = golden("audio_inputs.npz")
    samples, expected = stored["wav_int16"].astype(np.float32) / 32768, stored[f"mono_{rate}"]

    def off(resampled):
        assert resampled.shape == expected.shape
        assert resampled.dtype == np.float32
        return np.sqrt(np.mean((resampled.astype(np.float64) - expected) ** 2))

    ours = off(resample_as_published(samples, 44100, rate))
    assert ours < rms
    assert off(resample(samples, 44100, rate)) > 20 * ours


@pytest.mark.parametrize(("fps", "most"), [(60.0, 0.15), (7.5, 0.4)])
def test_compat_features_of_a_file_are_the_published_ones(tmp_path, fps, most):
    """From the file on, with nothing given but the wav; MFCC in dB, of a standard deviation near 20."""
    stored = golden("audio_inputs.npz")
    path = tmp_path / "song.wav"
    write_wav(path, stored["wav_int16"] / 32767, 44100)  # the very samples again
    song = song_features(path, "compat", code_fps=fps)
    expected, every = golden("audio_features_librosa081.npz"), 16 if fps == 60 else 4
    off = np.abs(song.features[::every] - expected[f"feat_mono_{512 * fps:.0f}_rows"])
    assert off[:, COLUMNS["mfcc"]].max() < most
    assert off[:, COLUMNS["chroma"]].mean() < 0.003
    assert off[:, COLUMNS["onset"]].max() < 1e-3
    np.testing.assert_array_equal(np.flatnonzero(song.beats), expected["beats_mono_30720"])


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000, 96000])
def test_any_rate_keeps_a_tone_and_its_place(rate):
    time = np.arange(rate) / rate
    tone = np.sin(2 * np.pi * 300 * time).astype(np.float32)
    for target in (3840, 30720):
        made = resample_as_published(tone, rate, target)
        assert len(made) == np.ceil(len(tone) * target / rate)
        inner = slice(target // 10, -target // 10)
        expected = np.sin(2 * np.pi * 300 * np.arange(len(made)) / target)
        np.testing.assert_allclose(made[inner], expected[inner], atol=2e-4)
    assert resample_as_published(tone, rate, rate) is tone
