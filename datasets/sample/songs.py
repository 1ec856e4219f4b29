"""The songs of the sample corpus: five genres, six training and two test songs each, with known beats.

A song is a lead-in and then sections of eight beats. Section letters say what the band plays and, in
`dances.py`, which steps fit: A is the groove, B the lift with full chords, C the break. Test songs have
tempi, drum patterns, harmonies and orders of sections that no training song has.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from datasets.sample import instruments
from datasets.sample.instruments import SAMPLE_RATE_HZ

BEATS_PER_SECTION = 8
_Play = Callable[[np.ndarray, float, float], None]  # sound, when in seconds, level


@dataclass(frozen=True)
class Song:
    """What is played.

    Attributes:
        name: as AIST++ names music, for instance "mBR0".
        genre: two-letter code as in AIST++.
        bpm: tempo, beats per minute.
        lead_in: seconds before the first beat. Not around half a beat: trackers miss the first beat then.
        sections: section letters, repeated as long as the song lasts.
        kicks: 16 steps of a bar of four beats: x on the beat, o a ghost note.
        roots: root of the chord of each bar, semitones above the genre's key.
        seconds: length of the song.
    """

    name: str
    genre: str
    bpm: float
    lead_in: float
    sections: str
    kicks: str
    roots: tuple[int, ...]
    seconds: float

    @property
    def beats(self) -> np.ndarray:
        """Times of all beats, seconds; the last one leaves at least half a second."""
        period = 60.0 / self.bpm
        return self.lead_in + period * np.arange(int((self.seconds - 0.5 - self.lead_in) / period) + 1)

    def section(self, beat: int) -> str:
        """Letter of the section in which a beat lies."""
        return self.sections[beat // BEATS_PER_SECTION % len(self.sections)]


@dataclass(frozen=True)
class _Band:
    """How a genre sounds: key (MIDI note), backbeat drum, patterns, bite of the bass, timbre of chords."""

    key: int
    backbeat: str
    hats: str
    extra: str
    bass: str
    bite: float
    timbre: str
    stabs: str
    minor: bool


# Patterns are the 16 steps of a bar. hats: h closed, H open. extra: b cowbell, c conga. bass: r root,
# f fifth, o octave. stabs, which are the chords: s short, L held.
_BANDS = {
    "BR": _Band(
        key=41, backbeat="snare", hats="h-h-h-h-h-h-h-h-", extra="----------c---c-", bass="r-----r-r--o--f-",
        bite=0.7, timbre="organ", stabs="----s-----s-----", minor=True,
    ),
    "HO": _Band(
        key=43, backbeat="clap", hats="--H---H---H---H-", extra="---c--c----c--c-", bass="--r---r---r---o-",
        bite=0.2, timbre="synth", stabs="s--s--s---s-s---", minor=True,
    ),
    "JB": _Band(
        key=38, backbeat="rim", hats="h---h---h---h---", extra="----------------", bass="r-------f-------",
        bite=0.0, timbre="piano", stabs="L-------L-------", minor=False,
    ),
    "PO": _Band(
        key=40, backbeat="clap", hats="h-hhh-hhh-hhh-hh", extra="--b---b---b--b--", bass="r--r--o-r--r-o--",
        bite=1.0, timbre="rhodes", stabs="--s--s----s--s--", minor=True,
    ),
    "WA": _Band(
        key=45, backbeat="snare", hats="--H---H---H---H-", extra="----------------", bass="r-o-r-o-r-o-r-o-",
        bite=0.5, timbre="strings", stabs="L-----s-L---s-s-", minor=False,
    ),
}  # fmt: skip

_ROOM = 0.01  # level of the hiss of the room, so that the first beat does not come out of nothing
_TRAIN_SECONDS, _TEST_SECONDS = 12.6, 20.8

# name: (bpm, lead-in seconds, sections, kick pattern, roots of four bars)
_TRAIN = {
    "mBR0": (100, 0.51, "AB", "x--o----x-o-----", (0, 0, 5, 3)),
    "mBR1": (117, 0.44, "ACB", "x-----o-x--o----", (0, 3, 5, 7)),
    "mBR2": (97, 0.53, "BA", "x--o----x-------", (0, 3, 0, 5)),
    "mBR3": (108, 0.22, "CAB", "x--o----x--o----", (0, 5, 7, 3)),
    "mBR6": (113, 0.48, "ABC", "x-o-----x-----o-", (0, 0, 3, 7)),
    "mBR7": (123, 0.41, "BCA", "x-----o-x-------", (0, 7, 3, 5)),
    "mHO0": (122, 0.45, "ABC", "x---x---x---x---", (0, 0, 3, 5)),
    "mHO1": (132, 0.38, "BAC", "x---x---x---x-o-", (0, 5, 3, 7)),
    "mHO2": (119, 0.44, "BA", "x---x---x---x---", (0, 5, 0, 7)),
    "mHO3": (124, 0.44, "CBA", "x-o-x---x---x-o-", (0, 3, 5, 3)),
    "mHO6": (128, 0.4, "AB", "x---x---x-o-x---", (0, 7, 5, 0)),
    "mHO7": (135, 0.41, "ACB", "x---x---x---x--o", (0, 5, 7, 5)),
    "mJB0": (82, 0.55, "AB", "x-------x-------", (0, 9, 5, 7)),
    "mJB1": (94, 0.23, "CAB", "x-------x-----o-", (0, 5, 9, 7)),
    "mJB2": (80, 0.29, "ACB", "x-----o-x-----o-", (0, 7, 5, 9)),
    "mJB3": (89, 0.58, "BA", "x-------x--o----", (0, 5, 7, 0)),
    "mJB6": (91, 0.53, "CBA", "x--o----x-----o-", (0, 9, 0, 5)),
    "mJB7": (101, 0.53, "BAC", "x-------x-o-----", (0, 7, 0, 9)),
    "mPO0": (88, 0.56, "AB", "x-----o-x-------", (0, 0, 10, 10)),
    "mPO1": (106, 0.24, "BCA", "x--o----x-----o-", (0, 3, 10, 5)),
    "mPO2": (84, 0.6, "CA", "x-----o-x-----o-", (0, 5, 10, 3)),
    "mPO3": (96, 0.25, "BA", "x--o----x-------", (0, 10, 5, 3)),
    "mPO6": (102, 0.52, "ACB", "x-o-----x-----o-", (0, 3, 10, 0)),
    "mPO7": (114, 0.45, "CBA", "x-------x--o----", (0, 10, 3, 10)),
    "mWA0": (112, 0.48, "ABC", "x---x---x---x---", (0, 9, 5, 7)),
    "mWA1": (127, 0.36, "CBA", "x---x---x-o-x---", (0, 4, 5, 7)),
    "mWA2": (109, 0.5, "BA", "x---x--ox---x---", (0, 4, 9, 5)),
    "mWA3": (116, 0.44, "CAB", "x-o-x---x---x---", (0, 9, 0, 7)),
    "mWA6": (118, 0.21, "ACB", "x---x---x--ox---", (0, 5, 4, 7)),
    "mWA7": (131, 0.4, "BAC", "x-o-x---x-o-x---", (0, 4, 7, 9)),
}
_TEST = {
    "mBR4": (104, 0.52, "ABCB", "x--o--o-x-------", (0, 5, 0, 3)),
    "mBR5": (120, 0.50, "BACA", "x-o-----x-o-----", (0, 7, 5, 3)),
    "mHO4": (125, 0.42, "ACBA", "x---x-o-x---x---", (0, 3, 0, 5)),
    "mHO5": (129, 0.46, "CABB", "x-o-x---x---x---", (0, 7, 3, 5)),
    "mJB4": (86, 0.27, "BACB", "x-----o-x-------", (0, 7, 9, 5)),
    "mJB5": (98, 0.49, "ABAC", "x--o----x-------", (0, 9, 7, 5)),
    "mPO4": (92, 0.53, "ACAB", "x-o-----x-------", (0, 10, 0, 3)),
    "mPO5": (110, 0.43, "BABC", "x-----o-x-o-----", (0, 5, 3, 10)),
    "mWA4": (115, 0.54, "BCAB", "x---x-o-x---x---", (0, 5, 9, 7)),
    "mWA5": (134, 0.40, "ABBC", "x---x---x---x-o-", (0, 7, 4, 5)),
}


def all_songs() -> tuple[list[Song], list[Song]]:
    """The training songs and the test songs, each ordered by name."""

    def build(table: dict[str, tuple], seconds: float) -> list[Song]:
        return [Song(name, name[1:3], *row, seconds) for name, row in sorted(table.items())]

    return build(_TRAIN, _TRAIN_SECONDS), build(_TEST, _TEST_SECONDS)


def render_song(song: Song, seed: int = 0) -> np.ndarray:
    """The song's sound.

    Args:
        song: what to play.
        seed: varies how loud each hat is struck; the beats stay where they are.

    Returns:
        (N,) int16 mono samples at `SAMPLE_RATE_HZ`.
    """
    rng = np.random.default_rng([seed, zlib.crc32(song.name.encode())])
    band, beats, period = _BANDS[song.genre], song.beats, 60.0 / song.bpm
    mix = np.zeros(int(song.seconds * SAMPLE_RATE_HZ))

    def play(sound: np.ndarray, when: float, level: float) -> None:
        start = round(when * SAMPLE_RATE_HZ)
        end = min(start + len(sound), len(mix))
        mix[start:end] += level * sound[: max(end - start, 0)]

    for beat, time in enumerate(beats):
        section = song.section(beat)
        root = band.key + song.roots[beat // 4 % len(song.roots)] + (0, 2, -2)["ABC".index(section)]
        _play_drums(play, band, song, beat, time, period, rng)
        _play_harmony(play, band, beat, time, period, section, root)
    mix = np.tanh(1.1 * mix / np.abs(mix).max())
    mix += _ROOM * rng.uniform(-1.0, 1.0, len(mix))
    mix[-int(0.05 * SAMPLE_RATE_HZ) :] *= np.linspace(1, 0, int(0.05 * SAMPLE_RATE_HZ))
    return np.round(mix / np.abs(mix).max() * 0.89 * 32767).astype(np.int16)


def _play_drums(
    play: _Play, band: _Band, song: Song, beat: int, time: float, period: float, rng: np.random.Generator
) -> None:
    """The four sixteenths of one beat of percussion."""
    bar, section = beat % 4, song.section(beat)
    sounds = {"snare": instruments.snare, "clap": instruments.clap, "rim": instruments.rim}
    if bar % 2:
        play(sounds[band.backbeat](), time, 0.8)
    if beat % BEATS_PER_SECTION == 0 or beat == len(song.beats) - 1:
        play(instruments.crash(), time, 0.6)
    for sixteenth in range(4):
        at, step = time + sixteenth * period / 4, 4 * bar + sixteenth
        if song.kicks[step] == "x":
            play(instruments.kick(0.5 if bar % 2 else 1.0), at, 0.9)
        elif song.kicks[step] == "o":
            play(instruments.kick(0.0), at, 0.45)
        if band.hats[step] != "-" and section != "C":
            play(instruments.hat(0.02 if band.hats[step] == "h" else 0.06), at, 0.3 * rng.uniform(0.85, 1.0))
        if band.extra[step] == "b" and section != "A":
            play(instruments.cowbell(), at, 0.22)
        if band.extra[step] == "c" and section != "B":
            play(instruments.conga(57 + 5 * (step % 3)), at, 0.3)
    if section == "C" and bar % 2 == 0:
        play(instruments.clap(), time, 0.45)


def _play_harmony(
    play: _Play, band: _Band, beat: int, time: float, period: float, section: str, root: int
) -> None:
    """The four sixteenths of one beat of bass and chords."""
    third = 3 if band.minor else 4
    seventh = 10 if band.minor else 11
    notes = tuple(root + 12 + step for step in (0, third, 7, 12 if section == "A" else seventh))
    if section == "B":
        notes = tuple(note + 12 for note in notes)
    for sixteenth in range(4):
        at, step = time + sixteenth * period / 4, 4 * (beat % 4) + sixteenth
        if band.bass[step] != "-" and not (section == "C" and sixteenth):
            note = root - 5 + {"r": 0, "f": 7, "o": 12}[band.bass[step]]
            play(instruments.bass(note, 0.9 * period, band.bite), at, 0.5)
        if section == "C":
            if beat % 4 == 0 and sixteenth == 0:  # the break holds one chord for the whole bar
                play(instruments.chord(notes, 3.9 * period, "strings"), at, 0.3)
        elif band.stabs[step] == "s":
            play(instruments.chord(notes, 0.5 * period, band.timbre), at, 0.34 if section == "B" else 0.22)
        elif band.stabs[step] == "L":
            play(instruments.chord(notes, 1.9 * period, band.timbre), at, 0.36 if section == "B" else 0.26)
