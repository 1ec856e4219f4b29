"""Beats of songs whose tempo is known; how many octaves a tempo is off is allowed, but told."""

from pathlib import Path

import numpy as np
import pytest

from datasets.music import feature_sample_rate, music_beats, music_features
from datasets.sample.instruments import SAMPLE_RATE_HZ
from datasets.sample.songs import all_songs, render_song
from tests.datasets.test_music import drums
from utils.music.audio import decode_audio, resample

FPS = 60.0
RATE = feature_sample_rate(FPS)
FRETS = Path("/usr/share/games/fretsonfire/data/songs")  # Debian's fretsonfire-songs-muldjord, -sectoid


def octave_error(bpm: float, truth: float) -> tuple[float, int]:
    """How far a tempo is off, as a fraction, up to octaves; and how many octaves."""
    octaves = round(np.log2(bpm / truth))
    return abs(bpm / truth / 2.0**octaves - 1), octaves


def beat_times(samples: np.ndarray) -> np.ndarray:
    return np.flatnonzero(music_beats(music_features(samples, FPS))) / FPS


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
    times = beat_times(drums(bpm, 10, RATE))
    assert octave_error(tempo(times), bpm)[0] < 0.05
    phase = (times - 0.3) * bpm / 60
    assert np.abs(phase - np.round(phase * 2) / 2).max() * 60 / bpm < 0.06  # on the beats, or half-way


def test_sample_songs():
    octaves = []
    for song in [song for group in all_songs() for song in group][::2]:
        sound = render_song(song)[: 12 * SAMPLE_RATE_HZ].astype(np.float32) / 32768
        times = beat_times(resample(sound, SAMPLE_RATE_HZ, RATE))
        off, octave = octave_error(tempo(times), song.bpm)
        octaves.append(octave)
        assert off < 0.05, f"{song.name}: {tempo(times):.1f} bpm, is {song.bpm}"
        hits = np.abs(times[:, None] - song.beats).min(axis=1) < 0.07
        assert hits.mean() > 0.9, f"{song.name}: {hits.sum()} of {len(hits)} beats are beats"
    assert not any(octaves)


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
    lines, octaves = [], []
    for folder in folders:
        sound = resample(*decode_audio(folder / "song.ogg"), RATE)[20 * RATE : 50 * RATE]
        truth, found = _frets_tempo(folder), tempo(beat_times(sound))
        off, octave = octave_error(found, truth)
        octaves.append(octave)
        lines.append(f"{folder.name}: {truth:.0f} bpm, found {found:.1f}, {octave:+d} octaves")
        assert off < 0.05, lines[-1]
    with capsys.disabled():
        print("", *lines, f"an octave off: {np.count_nonzero(octaves)} of {len(octaves)}", sep="\n")
