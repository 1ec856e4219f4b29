"""Beats of songs whose tempo is known; how many octaves a tempo is off is allowed, but told."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datasets.sample.instruments import SAMPLE_RATE_HZ
from datasets.sample.songs import all_songs, render_song
from tests.datasets.test_music import drums
from utils.music import FeatureVersion
from utils.music.audio import decode_audio, resample
from utils.music.beats import beat_frames, feature_sample_rate, onset_strength
from utils.music.hpss import percussive_part
from utils.music.tempo import tempo_of

FPS = 60.0
VERSIONS: tuple[FeatureVersion, ...] = ("standard", "beat_phase")
RATE = feature_sample_rate(FPS)
FRETS = Path("/usr/share/games/fretsonfire/data/songs")  # Debian's fretsonfire-songs-muldjord, -sectoid


def octave_error(bpm: float, truth: float) -> tuple[float, int]:
    """How far a tempo is off, as a fraction, up to octaves; and how many octaves."""
    octaves = round(np.log2(bpm / truth))
    return abs(bpm / truth / 2.0**octaves - 1), octaves


def onsets(samples: np.ndarray) -> np.ndarray:
    """Onset strength, the same in both versions."""
    return onset_strength(percussive_part(samples, "constant"), RATE, "standard")


def beat_times(onset: np.ndarray, version: FeatureVersion) -> np.ndarray:
    return beat_frames(onset, RATE, version) / FPS


def tempo(times: np.ndarray) -> float:
    """Beats per minute, of the mean interval: the median one is coarse, as beats lie on whole frames."""
    return 60 * (len(times) - 1) / np.ptp(times)


@pytest.mark.parametrize(
    ("bpm", "found", "expected"),
    [(120, 121.2, (0.01, 0)), (120, 60, (0, -1)), (80, 160, (0, 1)), (100, 150, (0.25, 1))],
)
def test_octave_error(bpm, found, expected):
    off, octaves = octave_error(found, bpm)
    assert (off, octaves) == (pytest.approx(expected[0]), expected[1])


@pytest.mark.parametrize("bpm", [80, 100, 120, 135])
def test_drum_track(bpm):
    onset = onsets(drums(bpm, 10, RATE))
    for version in VERSIONS:
        times = beat_times(onset, version)
        assert octave_error(tempo(times), bpm)[0] < 0.05
        phase = (times - 0.3) * bpm / 60
        assert np.abs(phase - np.round(phase * 2) / 2).max() * 60 / bpm < 0.06  # on the beats, or half-way


def test_sample_songs():
    for song in [song for group in all_songs() for song in group][::2]:
        sound = render_song(song)[: 12 * SAMPLE_RATE_HZ].astype(np.float32) / 32768
        onset = onsets(resample(sound, SAMPLE_RATE_HZ, RATE))
        for version in VERSIONS:
            times = beat_times(onset, version)
            off, octave = octave_error(tempo(times), song.bpm)
            assert (off < 0.05, octave) == (True, 0), f"{song.name}: {tempo(times):.1f} bpm, is {song.bpm}"
            hits = np.abs(times[:, None] - song.beats).min(axis=1) < 0.07
            assert hits.mean() > 0.9, f"{song.name}: {hits.sum()} of {len(hits)} beats are beats"


def test_sample_songs_at_other_tempi():
    """Recipes of the corpus played slower and faster than any of its songs, in each genre."""
    wrong = dict.fromkeys(VERSIONS, 0)
    for song in all_songs()[1][::2]:
        for bpm in (66, 160, 175):
            sound = render_song(replace(song, bpm=bpm, seconds=12)).astype(np.float32) / 32768
            onset = onsets(resample(sound, SAMPLE_RATE_HZ, RATE))
            for version in VERSIONS:
                off, octave = octave_error(tempo(beat_times(onset, version)), bpm)
                wrong[version] += off > 0.05 or octave != 0
    assert wrong["beat_phase"] <= wrong["standard"] / 2, wrong
    assert wrong["beat_phase"] <= 1, wrong


def _frets_tempo(folder: Path) -> float:
    """Tempo of a Frets on Fire song: the first tempo event of its MIDI file (microseconds per beat)."""
    data = (folder / "notes.mid").read_bytes()
    at = data.index(b"\xff\x51\x03") + 3
    return 6e7 / int.from_bytes(data[at : at + 3], "big")


@pytest.mark.slow
def test_fretsonfire_songs(capsys):
    folders = sorted(path.parent for path in FRETS.rglob("notes.mid"))
    if not folders:
        pytest.skip("Debian's fretsonfire-songs-muldjord and -sectoid are not installed")
    lines, wrong = [], dict.fromkeys(VERSIONS, 0)
    for folder in folders:
        truth, onset = _frets_tempo(folder), onsets(resample(*decode_audio(folder / "song.ogg"), RATE))
        for version in VERSIONS:
            found = tempo_of(beat_frames(onset, RATE, version), FPS)
            off, octave = octave_error(found.bpm, truth)
            wrong[version] += off > 0.05 or octave != 0
            lines.append(f"{folder.name}, {version}: {truth:.0f} bpm, found {found}")
    with capsys.disabled():
        print("", *lines, f"wrong, of {len(folders)}: {wrong}", sep="\n")
    assert wrong["beat_phase"] <= wrong["standard"] / 2
