"""The songs of the sample corpus: five genres, eight training and two test songs each, with known beats.

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
TRAIN_SONGS_PER_GENRE = 8
_Play = Callable[[np.ndarray, float, float], None]  # sound, when in seconds, level


@dataclass(frozen=True)
class Song:
    """A song.

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
    """Sound of a genre: key (MIDI note), backbeat drum, patterns, bite of the bass, timbre of chords."""

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

_ROOM = 0.01  # level of the background noise before the first beat
_SECONDS = 20.8  # all alike: the tempogram of a song shorter than its window depends on the length

# name: (bpm, lead-in seconds, sections, kick pattern, roots of four bars)
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

# Choices for training songs by genre: tempi, first and second half of the kick pattern, roots.
_TRAIN = {
    "BR": (
        (96, 124),
        ("x--o----", "x-----o-", "x-------"),
        ("x-o-----", "x-----o-", "x--o--o-"),
        (0, 3, 5, 7),
    ),
    "HO": ((117, 135), ("x---x---", "x-o-x---"), ("x---x---", "x---x-o-", "x-o-x---"), (0, 3, 5, 7)),
    "JB": ((80, 102), ("x-------", "x--o----"), ("x-------", "x-----o-", "x-o-----"), (0, 5, 7, 9)),
    "PO": (
        (84, 114),
        ("x-----o-", "x--o----", "x-------"),
        ("x-------", "x-----o-", "x--o----"),
        (0, 3, 5, 10),
    ),
    "WA": ((108, 132), ("x---x---", "x-o-x---"), ("x---x---", "x-o-x---", "x---x--o"), (0, 4, 5, 9)),
}
_SECTIONS = ("A", "B", "C", "AB", "BA", "AC", "CA", "BC", "CB", "ABC", "ACB", "BAC", "BCA", "CAB", "CBA")
_TRAIN_NUMBERS = (0, 1, 2, 3, 6, 7, 8, 9)  # 4 and 5 are test songs


def _train_songs() -> list[Song]:
    """Songs drawn from the tables above: tempi are all different, and no part is one of a test song."""
    rng = np.random.default_rng(
        0
    )  # a composer's choice, not the corpus seed's: songs are the same for every seed
    taken = {row[0] for row in _TEST.values()}
    songs = []
    for genre, ((low, high), first, second, scale) in _TRAIN.items():
        tests = [row for name, row in _TEST.items() if name[1:3] == genre]
        kicks = [a + b for a in first for b in second if a + b not in {row[3] for row in tests}]
        tempi = [t / 2 for t in range(2 * low, 2 * high + 1) if t / 2 not in taken]
        chosen = sorted(rng.choice(len(tempi), TRAIN_SONGS_PER_GENRE, replace=False).tolist())
        for number, place in zip(_TRAIN_NUMBERS, chosen, strict=True):
            bpm = tempi[place]
            taken.add(bpm)
            roots = tuple(int(root) for root in (scale[0], *rng.permutation(scale[1:])))
            while roots in {row[4] for row in tests}:
                roots = tuple(int(root) for root in (scale[0], *rng.choice(scale, 3)))
            lead_in = round(
                float(rng.uniform(0.8, 0.95)) * 60 / bpm, 2
            )  # trackers miss a first beat after half a beat
            sections = str(rng.choice(_SECTIONS))
            name = f"m{genre}{number}"
            songs.append(Song(name, genre, bpm, lead_in, sections, str(rng.choice(kicks)), roots, _SECONDS))
    return songs


def all_songs() -> tuple[list[Song], list[Song]]:
    """The training songs and the test songs, each ordered by name."""
    test = [Song(name, name[1:3], *row, _SECONDS) for name, row in sorted(_TEST.items())]
    return sorted(_train_songs(), key=lambda song: song.name), test


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
