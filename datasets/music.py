"""Song -> features per step: timbre, harmony, onsets, beats, tempo; columns as in `feature_columns`.

As in the published system's preparation: the song as mono at 512 samples per step, then librosa. There are
five versions:

* `beat_phase` (of data that is prepared without another choice): timbre and harmony as in `standard`, rhythm
  from an analysis at the rate of the motion, 60 frames per second. The onset column is the highest onset
  strength within a step, the beat column says whether a beat falls in it, and further columns say where in
  the beat it begins (sine and cosine of the phase, time to the next beat) and how fast beats are. The tempo
  may change within the song. There is no tempogram: at 7.5 steps per second its lags are coarse, and it
  identifies the song. There is no phase within the bar either, as it is not found reliably which beat begins
  a bar.
* `standard`: librosa's present behaviour; beats are tracked at the rate of the steps.
* `compat`: that of librosa 0.8.1, with which the published features were made and the published weights
  were trained: mirrored edges, an onset filter bank up to 11,025 Hz whatever the sample rate, the last
  tracked beat dropped. As published, though: at 7.5 steps per second half of that bank lies above the
  highest frequency, so the median over its bands is zero, and columns 52 to 437 are silent: the published
  GPT was trained on timbre and harmony only.
* `frames`: the first 55 columns of `compat` at the rate of the motion, 60 frames per second, of which a step
  holds those of its time one after the other. They are the input of the music transformer of Bailando++. At
  this rate the rhythm columns have content.
* `frames_beat_phase`: the same with the analysis and the columns of `beat_phase`, so that each frame says
  where in the beat it is: the music transformer has no positions to see that by.

`compat` also resamples songs as the published system did (`utils.music.resampling`), the others by soxr. On a
drum track the MFCC of `compat` come within 0.002 (60 steps per second) and 0.008 (7.5) of a coefficient's
standard deviation of those made from the published system's samples (mean difference, median over the 20);
soxr left 0.10 and 0.45.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, get_args

import librosa
import numpy as np

import utils.music.numba_cache  # noqa: F401  locks the cache before librosa's functions are compiled
from datasets.sequences import (
    BEAT_COLUMN,
    BY_FRAME,
    FeatureGroup,
    feature_columns,
    frames_per_step,
    num_features,
)
from utils.music import FeatureVersion, check_version
from utils.music.audio import decode_audio, resample
from utils.music.beat_phase import beat_phase
from utils.music.beats import (
    MIN_SECONDS,
    Rhythm,
    beat_frames,
    check_samples,
    feature_sample_rate,
    mono_mix,
    onset_strength,
    padding,
    rhythm,
    tempogram,
    to_feature_rate,
    track_beats,
)
from utils.music.hpss import FFT_SIZE, HOP, PadMode, harmonic_percussive, spectrum_blocks

_LOWEST_HZ = 440.0 * 2.0 ** ((24 - 69) / 12)  # C1, MIDI note 24
_MAX_OCTAVES = 7
_LONGEST_SECONDS = 2.5  # of the filter of the lowest note: shorter songs are padded to it, for librosa warns
_CHROMA_BINS = 36  # per octave, folded to 12
_MEL_BANDS = 128
_TEMPOGRAM_FRAMES = 384
BEAT_FPS = 60.0  # frames per second at which beats are tracked


__all__ = [
    "BEAT_FPS",
    "MIN_SECONDS",
    "SongFeatures",
    "feature_sample_rate",
    "music_beats",
    "music_features",
    "sample_rate",
    "song_features",
    "track_beats",
]


class SongFeatures(NamedTuple):
    """Features and beats of a song.

    Attributes:
        features: (T', D) float32, at the code rate.
        beats: (T,) bool at the motion's rate, true on a music beat.
    """

    features: np.ndarray
    beats: np.ndarray


def song_features(
    path: str | Path,
    version: FeatureVersion = "standard",
    code_fps: float = 7.5,
    beat_fps: float = BEAT_FPS,
    bpm: float | None = None,
    beat_times: np.ndarray | None = None,
) -> SongFeatures:
    """Features of a sound file at the code rate, and its beats at the motion's.

    Beats that follow a given tempo, or are given themselves, also fill the rhythm columns of `beat_phase` and
    the beat columns of `standard` and `frames`; the features of `compat` stay as published: at 7.5 steps per
    second that column is 0.

    Args:
        path: any sound file.
        version: of the features.
        code_fps: steps of the features per second.
        beat_fps: frames of the beats per second.
        bpm: tempo in beats per minute; found in the song if None.
        beat_times: (N,) seconds of the beats, ascending; tracked in the song if None.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the file, if it cannot be read, lasts less than two seconds, or ends before a beat.
    """
    samples, rate = decode_audio(path, mono_mix(version))
    try:
        if version in ("standard", "compat"):
            features = music_features(to_feature_rate(samples, rate, code_fps, version), code_fps, version)
        samples = to_feature_rate(samples, rate, beat_fps, version)  # minutes of it are tens of MB
        found = rhythm(samples, beat_fps, version, bpm)
        if beat_times is not None:
            found = found._replace(beats=_frames_of(beat_times, len(found.onset), beat_fps))
        if version == "beat_phase":
            features = _beat_phase_features(samples, found, code_fps, beat_fps)
        elif version in BY_FRAME:
            features = _frame_features(samples, found, code_fps, beat_fps, version)
        elif version == "standard" and (bpm is not None or beat_times is not None):
            features[:, BEAT_COLUMN] = _flags(np.round(found.beats * code_fps / beat_fps), len(features))
        return SongFeatures(features, _flags(found.beats, len(found.onset)))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def sample_rate(fps: float, version: FeatureVersion) -> int:
    """Samples per second of the sound that `music_features` takes.

    Raises:
        ValueError: if that is no whole number of samples per second, or the version is unknown.
    """
    return feature_sample_rate(fps if check_version(version) in ("standard", "compat") else BEAT_FPS)


def music_features(samples: np.ndarray, fps: float, version: FeatureVersion = "standard") -> np.ndarray:
    """Features of mono samples.

    Digital silence gives zeros throughout.

    Args:
        samples: (N,) float32 in [-1, 1], at `sample_rate(fps, version)`.
        fps: steps per second.
        version: of the features.

    Returns:
        (T', D) float32 with T' = 1 + floor(N / samples per step); columns as in `feature_columns`. By
        frames as many steps as hold the 1 + floor(N / 512) frames, filled up by zeros.

    Raises:
        ValueError: if the samples are not mono, not finite or too short, or the version is unknown.
    """
    rate = sample_rate(fps, version)
    check_samples(samples, rate, version)
    if version == "beat_phase":
        return _beat_phase_features(samples, rhythm(samples, BEAT_FPS, version), fps, BEAT_FPS)
    if version in BY_FRAME:
        return _frame_features(samples, rhythm(samples, BEAT_FPS, version), fps, BEAT_FPS, version)
    if not samples.any():
        return np.zeros((1 + len(samples) // HOP, num_features(version)), np.float32)
    pad_mode = padding(version)
    harmonic, percussive = harmonic_percussive(samples, pad_mode)
    onset = onset_strength(percussive, rate, version)
    beats = np.zeros((1, len(onset)), np.float32)
    beats[:, beat_frames(onset, rate, version)] = 1
    lags = feature_columns(version)["tempogram"]
    rows = {
        **_timbre(samples, harmonic, rate, pad_mode),
        "onset": onset[None],
        "beat": beats,
        "tempogram": tempogram(onset, lags.stop - lags.start),
    }
    return _in_columns(rows, version)


def _beat_phase_features(samples: np.ndarray, found: Rhythm, code_fps: float, beat_fps: float) -> np.ndarray:
    """Features (T', D) of version `beat_phase`.

    Args:
        samples: (N,) at `feature_sample_rate(beat_fps)`.
        found: onsets and beats in frames at `beat_fps`.
        code_fps: steps per second.
        beat_fps: frames per second.
    """
    code_rate, beat_rate = feature_sample_rate(code_fps), feature_sample_rate(beat_fps)
    total = 1 + int(len(samples) * code_fps / beat_rate)
    if not samples.any():
        return np.zeros((total, num_features("beat_phase")), np.float32)
    frames = beat_fps / code_fps  # per step
    at_code_rate = resample(samples, beat_rate, code_rate)
    pad_mode = padding("beat_phase")
    harmonic, _ = harmonic_percussive(at_code_rate, pad_mode)
    timbre = _timbre(at_code_rate, harmonic, code_rate, pad_mode)
    starts = np.minimum(np.ceil(np.arange(total) * frames).astype(int), len(found.onset) - 1)
    phase = beat_phase(found.beats, np.arange(total) * frames, beat_fps)
    rows = {
        **{name: values[:, :total] for name, values in timbre.items()},
        "onset": np.maximum.reduceat(found.onset, starts)[None],
        "beat": _flags(found.beats // frames, total)[None],
        "beat_phase": np.stack([phase.sine, phase.cosine]),
        "beat_time": phase.to_next[None],
        "tempo": phase.bpm[None],
    }
    return _in_columns(rows, "beat_phase")


def _frame_features(
    samples: np.ndarray, found: Rhythm, code_fps: float, beat_fps: float, version: FeatureVersion
) -> np.ndarray:
    """Features (T', D) of a version by frames; arguments as of `_beat_phase_features`."""
    per_step, total = frames_per_step(version, code_fps), len(found.onset)
    single = np.zeros((total, num_features(version, beat_fps)), np.float32)
    if samples.any():
        rate, pad_mode = feature_sample_rate(beat_fps), padding(version)
        rows: dict[FeatureGroup, np.ndarray] = {
            **_timbre(samples, harmonic_percussive(samples, pad_mode)[0], rate, pad_mode),
            "onset": found.onset[None],
            "beat": _flags(found.beats, total)[None],
        }
        if version == "frames":
            rows["sound"] = tempogram(found.onset, _TEMPOGRAM_FRAMES, kept=1)
        else:
            phase = beat_phase(found.beats, np.arange(total), beat_fps)
            rows["beat_phase"] = np.stack([phase.sine, phase.cosine])
            rows |= {"beat_time": phase.to_next[None], "tempo": phase.bpm[None]}
        single = _in_columns(rows, version)
    single = np.pad(single, ((0, -total % per_step), (0, 0)))
    return single.reshape(len(single) // per_step, -1)


def _in_columns(rows: Mapping[FeatureGroup, np.ndarray], version: FeatureVersion) -> np.ndarray:
    """Features (T', D) of the rows of all groups."""
    joined = np.concatenate([rows[name] for name in feature_columns(version)])
    return np.ascontiguousarray(joined.T, dtype=np.float32)


def _flags(places: np.ndarray, size: int) -> np.ndarray:
    """Flags (size,) bool, true at the places (N,) that lie within."""
    flags = np.zeros(size, bool)
    flags[places[places < size].astype(np.int64)] = True
    return flags


def _frames_of(times: np.ndarray, frames: int, fps: float) -> np.ndarray:
    """Frames of given beats.

    Raises:
        ValueError: naming the first beat that lies after the end.
    """
    late = np.flatnonzero(np.asarray(times) > frames / fps)
    if len(late):
        raise ValueError(
            f"beat {late[0] + 1} of {len(times)} is at {times[late[0]]:g} s, the song ends at "
            f"{frames / fps:.2f} s; beats are expected in seconds from its start"
        )
    return np.unique(np.minimum(np.round(np.asarray(times) * fps), frames - 1).astype(np.int64))


def compile_functions() -> None:
    """Compile all numba functions of the features into numba's cache, on three seconds of noise."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 3 * feature_sample_rate(BEAT_FPS)).astype(np.float32)
    for version in get_args(FeatureVersion):
        music_features(noise[: 3 * sample_rate(7.5, version)], 7.5, version)
        track_beats(noise, BEAT_FPS, version)


def music_beats(features: np.ndarray) -> np.ndarray:
    """Beat flags (T,) bool of features (T, D)."""
    return features[:, BEAT_COLUMN] > 0


def _timbre(
    samples: np.ndarray, harmonic: np.ndarray, rate: int, pad_mode: PadMode
) -> dict[FeatureGroup, np.ndarray]:
    """MFCC, their differences and chroma (n, T) each, of samples (N,) and their harmonic part (N,)."""
    mfcc = _mfcc(samples, rate, pad_mode)
    return {
        "mfcc": mfcc,
        "mfcc_delta": librosa.feature.delta(data=mfcc, width=3),
        "chroma": _chroma(harmonic, rate, pad_mode),
    }


def _mfcc(samples: np.ndarray, rate: int, pad_mode: PadMode) -> np.ndarray:
    """20 cepstral coefficients (20, T) of the mel spectrum of samples (N,)."""
    bands = [
        librosa.feature.melspectrogram(S=np.abs(part.values) ** 2, sr=rate, n_fft=FFT_SIZE, n_mels=_MEL_BANDS)
        for part in spectrum_blocks(samples, pad_mode)
    ]
    level = librosa.power_to_db(S=np.concatenate(bands, axis=1), ref=np.max)
    return librosa.feature.mfcc(S=level, n_mfcc=feature_columns("standard")["mfcc"].stop)


def _chroma(harmonic: np.ndarray, rate: int, pad_mode: PadMode) -> np.ndarray:
    """Chroma (12, T) of the harmonic part's (N,) constant-Q transform, over the octaves the rate carries."""
    octaves = min(_MAX_OCTAVES, int(np.log2(rate / 2 / _LOWEST_HZ)))  # 7 at 30,720 Hz, 5 at 3,840
    size = max(len(harmonic), int(_LONGEST_SECONDS * rate))
    transform = librosa.cqt(
        y=librosa.util.fix_length(data=harmonic, size=size, mode=pad_mode),
        sr=rate,
        hop_length=HOP,
        fmin=_LOWEST_HZ,
        n_bins=octaves * _CHROMA_BINS,
        bins_per_octave=_CHROMA_BINS,
        tuning=_tuning(harmonic, rate, pad_mode),
        pad_mode=pad_mode,
    )
    return librosa.feature.chroma_cqt(
        C=np.abs(transform[:, : 1 + len(harmonic) // HOP]),
        sr=rate,
        n_octaves=octaves,
        bins_per_octave=_CHROMA_BINS,
    )


def _tuning(harmonic: np.ndarray, rate: int, pad_mode: PadMode) -> float:
    """Tuning of the song relative to 440 Hz, in bins of the constant-Q transform; 0 if it has no pitch."""
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for part in spectrum_blocks(harmonic, pad_mode):
        pitch, strength = librosa.piptrack(S=np.abs(part.values), sr=rate, n_fft=FFT_SIZE)
        found.append((pitch[pitch > 0], strength[pitch > 0]))
    pitch, strength = (np.concatenate(column) for column in zip(*found, strict=True))
    if not len(pitch):
        return 0.0
    clear = strength >= np.median(strength)
    return librosa.pitch_tuning(frequencies=pitch[clear], resolution=0.01, bins_per_octave=_CHROMA_BINS)
