"""Music features against the released extractor's numbers and librosa's own calls."""

import warnings

import librosa
import numpy as np
import pytest
from scipy.ndimage import median_filter

from datasets.aistpp.preparation import library_versions
from datasets.music import (
    SongFeatures,
    feature_sample_rate,
    music_beats,
    music_features,
    song_features,
)
from datasets.sequences import BEAT_COLUMN, feature_columns, num_features
from tests.helpers import golden
from utils.music.audio import decode_audio, resample, write_wav
from utils.music.beats import beat_frames
from utils.music.hpss import harmonic_percussive_masks, running_median

COLUMNS = feature_columns("standard")
NUM_FEATURES = num_features("standard")


def drums(bpm: float, seconds: float, rate: int, offset: float = 0.3, seed: int = 0) -> np.ndarray:
    """Kick, snare and a chord at a known tempo: (N,) float32."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    sound = 0.02 * sum(np.sin(2 * np.pi * f * t) for f in (220.0, 277.18, 329.63, 440.0))
    tail = np.arange(round(0.12 * rate)) / rate
    hits = (
        0.8 * np.exp(-tail * 30) * np.sin(2 * np.pi * 60 * tail)
        + 0.3 * np.exp(-tail * 90) * rng.standard_normal(len(tail)),
        0.6 * np.exp(-tail * 40) * rng.standard_normal(len(tail)),
    )
    for i, start in enumerate(np.arange(offset, seconds - 0.15, 60 / bpm)):
        at = round(start * rate)
        sound[at : at + len(tail)] += hits[i % 2]
    return np.clip(sound, -1, 1).astype(np.float32)


def plain_recipe(samples: np.ndarray, fps: float, version: str) -> np.ndarray:
    """The recipe in librosa's own calls, every spectrum made anew: slow, and what the fast one must equal."""
    rate, old = round(512 * fps), version == "compat"
    pad = "reflect" if old else "constant"
    octaves = {30720: 7, 3840: 5}[rate]
    mel = librosa.feature.melspectrogram(y=samples, sr=rate, n_fft=2048, hop_length=512, pad_mode=pad)
    mfcc = librosa.feature.mfcc(S=librosa.power_to_db(mel, ref=np.max), n_mfcc=20)
    harmonic, percussive = librosa.effects.hpss(samples, pad_mode=pad)
    if old:
        tuning = librosa.estimate_tuning(y=harmonic, sr=rate, bins_per_octave=36, pad_mode=pad)
        cqt = librosa.cqt(
            y=harmonic, sr=rate, n_bins=36 * octaves, bins_per_octave=36, tuning=tuning, pad_mode=pad
        )
        chroma = librosa.feature.chroma_cqt(C=np.abs(cqt), sr=rate, n_octaves=octaves)
    else:
        chroma = librosa.feature.chroma_cqt(y=harmonic, sr=rate, n_octaves=octaves)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Empty filters detected")
        more = {"fmax": 11025.0, "pad_mode": pad} if old else {}
        onset = librosa.onset.onset_strength(y=percussive, sr=rate, aggregate=np.median, **more)
    tempogram = librosa.feature.tempogram(onset_envelope=onset, sr=rate, win_length=384)
    beats = np.zeros(len(onset))
    beats[beat_frames(onset, rate, version)] = 1
    delta = librosa.feature.delta(mfcc, width=3)
    return np.concatenate([mfcc, delta, chroma, onset[None], beats[None], tempogram]).T


def assert_close(features, expected, mfcc=1e-3, chroma_mean=0.005, chroma_max=0.02):
    assert features.shape == expected.shape
    assert features.dtype == np.float32
    off = np.abs(features.astype(np.float64) - expected)
    assert off[:, COLUMNS["mfcc"]].max() < mfcc
    assert off[:, COLUMNS["mfcc_delta"]].max() < mfcc
    assert off[:, COLUMNS["chroma"]].mean() < chroma_mean
    assert off[:, COLUMNS["chroma"]].max() < chroma_max
    assert off[:, COLUMNS["onset"]].max() < 1e-5
    assert off[:, COLUMNS["beat"]].max() == 0
    assert off[:, COLUMNS["tempogram"]].max() < 2e-7  # the goldens are rounded to float32


# ---------------------------------------------------------------- the released extractor's numbers


RECORDED = {"standard": "audio_features_librosa011.npz", "compat": "audio_features_librosa081.npz"}


@pytest.mark.parametrize("version", RECORDED)
@pytest.mark.parametrize(("source", "every"), [("mono_30720", 16), ("mono_3840", 4)])
def test_golden_features(version, source, every):
    """Every n-th frame; onsets and beats of all of them."""
    recorded = golden(RECORDED[version])
    fps = 60.0 if source == "mono_30720" else 7.5
    features = music_features(golden("audio_inputs.npz")[source], fps, version)
    assert features.shape == (601 if fps == 60 else 76, NUM_FEATURES)
    tight = {"chroma_mean": 1e-6, "chroma_max": 1e-5} if version == "standard" else {}
    assert_close(features[::every], recorded[f"feat_{source}_rows"], **tight)
    np.testing.assert_array_equal(np.flatnonzero(music_beats(features)), recorded[f"beats_{source}"])
    if fps == 60:
        np.testing.assert_allclose(
            features[:, COLUMNS["onset"]][:, 0], recorded[f"onset_{source}"], rtol=0, atol=1e-5
        )


@pytest.mark.parametrize("version", RECORDED)
@pytest.mark.parametrize(("source", "rate"), [("native_3840", 3840), ("mono_30720", 30720)])
def test_golden_beats(version, source, rate):
    recorded = golden(RECORDED[version])
    onset, beats = recorded[f"onset_{source}"], recorded[f"beats_{source}"]
    assert beats.any()
    np.testing.assert_array_equal(beat_frames(onset, rate, version), beats)


def test_published_rhythm_is_silent_at_7_5_fps_and_ours_is_not():
    sound = golden("audio_inputs.npz")["mono_3840"]
    rhythm = slice(COLUMNS["onset"].start, NUM_FEATURES)
    assert not music_features(sound, 7.5, "compat")[:, rhythm].any()
    standard = music_features(sound, 7.5, "standard")
    assert (standard[:, COLUMNS["onset"]] > 0).mean() > 0.2
    assert music_beats(standard).any()


# ---------------------------------------------------------------- librosa's own calls


@pytest.mark.parametrize("version", ["standard", "compat"])
@pytest.mark.parametrize("fps", [7.5, 60.0])
def test_equals_librosas_own_calls(version, fps):
    sound = drums(97, 4.0, feature_sample_rate(fps), seed=1)
    assert_close(
        music_features(sound, fps, version), plain_recipe(sound, fps, version), mfcc=2e-4, chroma_max=2e-5
    )


@pytest.mark.parametrize("shape", [(1025, 16), (70, 200), (3, 8), (1, 1)])
def test_medians_are_exactly_scipys(shape):
    rows = np.abs(np.random.default_rng(3).standard_normal(shape)).astype(np.float32)
    rows[:, ::3] = np.round(rows[:, ::3])  # ties and zeros
    before = rows.copy()
    np.testing.assert_array_equal(running_median(rows), median_filter(rows, size=(1, 31), mode="reflect"))
    np.testing.assert_array_equal(rows, before)


def test_masks_are_librosas():
    magnitude = np.abs(np.random.default_rng(4).standard_normal((300, 90))).astype(np.float32)
    magnitude[:60, :40] = 0
    ours = harmonic_percussive_masks(magnitude)
    theirs = librosa.decompose.hpss(magnitude, mask=True)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(mine, other)
    assert (ours[0][:10, :10] == 0.5).all()


# ---------------------------------------------------------------- shapes, rates, silence, errors


@pytest.mark.parametrize("version", ["standard", "compat"])
@pytest.mark.parametrize("fps", [3.75, 7.5, 15.0, 30.0, 60.0])
@pytest.mark.parametrize("seconds", [2.0, 5.0])
def test_rates_and_shortest_song_without_a_warning(fps, seconds, version):
    sound = drums(120, seconds, feature_sample_rate(fps))
    kept = sound.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        features = music_features(sound, fps, version)
    assert features.shape == (1 + len(sound) // 512, NUM_FEATURES)
    assert np.isfinite(features).all()
    assert np.abs(features[:, COLUMNS["chroma"]]).max() == pytest.approx(1)
    np.testing.assert_array_equal(sound, kept)


def test_columns_tile_the_features():
    ends = [0] + [c.stop for c in COLUMNS.values()]
    assert [c.start for c in COLUMNS.values()] == ends[:-1]
    assert (ends[-1], NUM_FEATURES, BEAT_COLUMN) == (438, 438, 53)


def _quiet(kind: str, rate: int) -> np.ndarray:
    sound = np.zeros(3 * rate, np.float32)
    if kind == "click":
        sound[rate] = 0.5
    elif kind == "constant":
        sound[:] = 0.25
    elif kind == "noise of one bit":
        sound += np.random.default_rng(5).integers(-1, 2, len(sound)).astype(np.float32) / 32768
    elif kind == "half silent":
        sound[: len(sound) // 2] = drums(120, 1.5, rate)
    elif kind == "tiny":
        sound += 1e-30
    return sound


@pytest.mark.parametrize("version", ["standard", "compat"])
@pytest.mark.parametrize("fps", [7.5, 60.0])
@pytest.mark.parametrize("kind", ["silence", "click", "constant", "noise of one bit", "half silent", "tiny"])
def test_hardly_any_sound_gives_numbers_and_no_warning(kind, fps, version):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        features = music_features(_quiet(kind, feature_sample_rate(fps)), fps, version)
    assert np.isfinite(features).all()
    if kind == "silence":
        assert not features.any()


@pytest.mark.parametrize(
    ("samples", "fps", "version", "message"),
    [
        (np.zeros(3840, np.float32), 7.5, "standard", r"1\.00 s .* too short.*2 s"),
        (np.zeros((2, 9000), np.float32), 7.5, "standard", r"mono.*\(2, 9000\)"),
        (np.full(9000, np.nan, np.float32), 7.5, "standard", "finite"),
        (np.zeros(9000, np.float32), 7.5, "old", r"'old'.*standard, compat"),
        (np.zeros(9000, np.float32), 7.51, "standard", r"7\.51"),
        (np.zeros(9000, np.float32), -7.5, "standard", r"-7\.5"),
    ],
)
def test_errors_name_the_value(samples, fps, version, message):
    with pytest.raises(ValueError, match=message):
        music_features(samples, fps, version)


# ---------------------------------------------------------------- songs


def test_song_features_read_a_file(tmp_path):
    path = tmp_path / "sóng.wav"
    write_wav(path, drums(120, 6, 44100), 44100)
    song = song_features(path)
    assert isinstance(song, SongFeatures)
    assert song.features.shape == (1 + 6 * 3840 // 512, NUM_FEATURES)
    assert song.beats.dtype == bool
    assert song.beats.shape == (1 + 6 * 30720 // 512,)
    np.testing.assert_array_equal(song.features, music_features(resample(*decode_audio(path), 3840), 7.5))
    np.testing.assert_array_equal(
        song.beats, music_beats(music_features(resample(*decode_audio(path), 30720), 60.0))
    )


def test_short_song_is_named(tmp_path):
    write_wav(tmp_path / "short.wav", drums(120, 1.5, 44100), 44100)
    with pytest.raises(ValueError, match=r"short\.wav.*1\.50 s"):
        song_features(tmp_path / "short.wav")


def test_library_versions_name_librosa():
    assert library_versions()["librosa"] == librosa.__version__


def test_compat_drops_the_last_beat():
    rate = feature_sample_rate(60.0)
    sound = drums(120, 8, rate)
    now, then = (np.flatnonzero(music_beats(music_features(sound, 60.0, v))) for v in ("standard", "compat"))
    np.testing.assert_array_equal(then, now[:-1])
