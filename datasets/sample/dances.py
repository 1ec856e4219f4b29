"""Dances: steps that fit the sections of a song, placed on its beats, with the manner of a dancer.

Each genre has its own steps for each kind of section, so music and movement are correlated; each dancer has
an amplitude, a bounce, a stance and a preference for typical steps, so no two dances are the same.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from datasets.sample.arms import solve_arm
from datasets.sample.body import Feel, FootKey, Timeline, animate
from datasets.sample.legs import TOE_HEIGHT_M
from datasets.sample.songs import Song
from datasets.sample.steps import CHANNELS, PIVOT, STEPS, Key, Placement, mirrored
from utils.skeleton import SMPL_24

BEATS_PER_STEP = 4
HEARD_S = 0.017  # a beat is perceived, and found by beat trackers, one frame after its onset

# Steps for the sections of each genre, the most typical first.
REPERTOIRE = {
    "BR": {
        "A": ("toprock", "kick", "rock_back"),
        "B": ("uprock", "toprock", "side_travel"),
        "C": ("bounce", "half_turn", "clap"),
    },
    "HO": {
        "A": ("jack", "step_touch", "knee_lift"),
        "B": ("kick", "side_travel", "grapevine"),
        "C": ("half_turn", "jack", "twist"),
    },
    "JB": {
        "A": ("sway_arms", "box_step", "lunge"),
        "B": ("lunge", "spin", "battement"),
        "C": ("body_roll", "sway_arms", "arm_circle"),
    },
    "PO": {
        "A": ("robot", "lock", "bounce"),
        "B": ("arm_wave", "twist", "lock"),
        "C": ("body_roll", "robot", "quarter_turn"),
    },
    "WA": {
        "A": ("step_touch", "waack", "point"),
        "B": ("waack", "arm_circle", "grapevine"),
        "C": ("pose", "point", "clap"),
    },
}


@dataclass(frozen=True)
class _Manner:
    """Manner of a genre: timing, amplitude, and the arms' default pose."""

    flow: float
    bounce: float
    knee_bend: float
    lean: float
    arms: str


_MANNERS = {
    "BR": _Manner(0.22, 0.040, 0.020, 8.0, "ready"),
    "HO": _Manner(0.22, 0.045, 0.012, 5.0, "low"),
    "JB": _Manner(0.30, 0.018, 0.004, 0.0, "low"),
    "PO": _Manner(0.12, 0.022, 0.012, 2.0, "low"),
    "WA": _Manner(0.20, 0.025, 0.006, 0.0, "hip"),
}
_STRIDE_M = 0.26  # longest step forward or back
_REACH_M = 0.1, 0.7  # how far two steps lead, if they have the strides for it
_HOME_X_M, _HOME_Z_M, _TURN_OUT = 0.13, 0.08, np.radians(12.0)


@dataclass(frozen=True)
class Dancer:
    """Manner of a dancer.

    Attributes:
        amplitude: factor of all movement.
        bounce: factor of the genre's bounce.
        lag: seconds by which the hands trail the body.
        stance: metres by which each foot stands farther out than usual.
        taste: how often a section's most typical step is taken.
    """

    amplitude: float
    bounce: float
    lag: float
    stance: float
    taste: float


def dancer(name: str, seed: int) -> Dancer:
    """The dancer of that name; always the same for the same seed."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return Dancer(
        amplitude=rng.uniform(0.9, 1.08),
        bounce=rng.uniform(0.8, 1.2),
        lag=rng.uniform(0.004, 0.016),
        stance=rng.uniform(-0.01, 0.02),
        taste=rng.uniform(0.5, 0.8),
    )


def choose_steps(
    song: Song, num_beats: int, taste: float, rng: np.random.Generator
) -> list[tuple[str, bool]]:
    """(step, led by the right side) for every four beats.

    A section of eight beats is one step to both sides, or two steps. `taste` is how often a section's most
    typical step is taken. A step that ends elsewhere is always followed by its mirror image: it leads back.
    """
    plan: list[tuple[str, bool]] = []
    while len(plan) * BEATS_PER_STEP < num_beats:
        steps = REPERTOIRE[song.genre][song.section(len(plan) * BEATS_PER_STEP)]
        weights = np.array([taste, *[(1 - taste) / (len(steps) - 1)] * (len(steps) - 1)])
        first, second = rng.choice(len(steps), 2, p=weights)
        right = bool(rng.random() < 0.25)
        travels = any(_ends_elsewhere(STEPS[steps[i]]) for i in (first, second))
        if travels or rng.random() < 0.7:
            second = first
        plan += [(steps[first], right), (steps[second], not right)]
    return plan


def _ends_elsewhere(keys: tuple[Key, ...]) -> bool:
    totals = [sum(values) for values in zip(*((*key.move, key.turn) for key in keys), strict=True)]
    return any(abs(total) > 1e-9 for total in totals)


class Floor:
    """Positions of home and the feet while steps are laid out."""

    def __init__(self, timeline: Timeline, start: np.ndarray, heading: float, who: Dancer) -> None:
        self.timeline, self.home, self.heading, self.who = timeline, start, heading, who
        self.feet = [self._placed((), 0), self._placed((), 1)]

    def _in_world(self, x: float, z: float) -> np.ndarray:
        cos, sin = np.cos(self.heading), np.sin(self.heading)
        return np.array([cos * x + sin * z, cos * z - sin * x])

    def _placed(self, placement: Placement, side: int) -> FootKey:
        x, z, lift, yaw, heel = (*placement, *(0.0,) * (5 - len(placement)))
        out = 1 if side == 0 else -1
        x, lift, z = self.who.amplitude * np.array([x, lift, z])
        x, z = self._in_world(x + out * (_HOME_X_M + self.who.stance), z + _HOME_Z_M)
        toe = (self.home[0] + x, TOE_HEIGHT_M + lift, self.home[1] + z)
        return FootKey(toe, self.heading + out * _TURN_OUT + np.radians(yaw), np.radians(heel))

    def key(self, key: Key, beat: float, first: bool) -> None:
        """Lay one key of a step; on the `first` the feet that the step does not move come to rest at home."""
        if first:
            self.feet = [self._placed((), side) for side in (0, 1)]
        self.home = self.home + self._in_world(*(self.who.amplitude * np.array(key.move)))
        self.heading += np.radians(key.turn)
        for side, asked in enumerate((key.left, key.right)):
            if asked == PIVOT:
                stays, goes = np.array(self.feet[side].toe), np.array(self._placed((), side).toe)
                self.home = self.home + (stays - goes)[[0, 2]]
        whole, line = float(beat).is_integer(), self.timeline
        if whole:
            line.home_x[beat], line.home_z[beat] = self.home
            line.heading[beat] = self.heading
        for side, asked in enumerate((key.left, key.right)):
            if asked is not None:
                self.feet[side] = self._placed(() if isinstance(asked, str) else asked, side)
            if whole or asked is not None:
                line.feet[side][beat] = self.feet[side]
        for name in CHANNELS:
            if whole or name in key.body:
                line.channels[name][beat] = self.who.amplitude * key.body.get(name, 0.0)
        for side, pose in enumerate(key.arms or ()):
            line.shoulders[side][beat], line.elbows[side][beat] = solve_arm(pose, side)


def _walking_counts(keys: tuple[Key, ...]) -> list[int]:
    """Keys of a step that may move the root ahead without a hop: a foot moves, the other follows later."""
    counts, waiting = [], None  # `waiting` is the foot that has to follow before the dancer goes on
    for index, key in enumerate(keys):
        moved = [side for side, foot in enumerate((key.left, key.right)) if foot not in (None, PIVOT)]
        if waiting in moved:
            waiting = None
        if len(moved) != 1 or waiting is not None:
            continue
        other = 1 - moved[0]
        if any((later.left, later.right)[other] not in (None, PIVOT) for later in keys[index + 1 :]):
            counts.append(index)
            waiting = other
    return counts


def _travelling(pair: Sequence[tuple[Key, ...]], reach: float) -> list[tuple[Key, ...]]:
    """Two steps that lead `reach` metres ahead, as far as their strides go; negative is back."""
    counts = [_walking_counts(keys) for keys in pair]
    number = sum(len(walking) for walking in counts)
    stride = float(np.clip(reach / max(number, 1), -_STRIDE_M, _STRIDE_M))
    done = []
    for keys, walking in zip(pair, counts, strict=True):
        new = list(keys)
        for index in walking:
            x, z = keys[index].move
            new[index] = replace(keys[index], move=(x, z + stride))
        done.append(tuple(new))
    return done


def make_dance(song: Song, name: str, who: str, num_frames: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """One dance to a song, both starting together.

    Args:
        song: the song.
        name: of the sequence; with the seed it determines every choice.
        who: name of the dancer.
        num_frames: length, at most that of the song.
        seed: of the corpus.

    Returns:
        (T, 72) axis-angle rotations in radians and (T, 3) translation in metres (floor at y = 0), float64.
    """
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    manner, person, period = _MANNERS[song.genre], dancer(who, seed), 60.0 / song.bpm
    beats = (np.arange(num_frames) / SMPL_24.fps - song.lead_in - HEARD_S) / period
    plan = choose_steps(song, int(np.ceil(beats[-1])) + 1, person.taste, rng)

    timeline = Timeline()
    start = rng.uniform(-0.25, 0.25, 2)
    floor = Floor(timeline, start, np.radians(rng.uniform(-6, 6)), person)
    rest = Key(-1, (manner.arms, manner.arms))
    for before in (-2, -1):
        floor.key(rest, before, first=True)
    for number in range(0, len(plan), 2):
        beat = BEATS_PER_STEP * number
        pair = [mirrored(STEPS[step]) if right else STEPS[step] for step, right in plan[number : number + 2]]
        reach = rng.uniform(*_REACH_M) * rng.choice((-1, 1))
        for keys in _travelling(pair, reach):
            for index, key in enumerate(keys):
                floor.key(key, beat + key.at - 1, first=index == 0)
            beat += BEATS_PER_STEP
    feel = Feel(manner.flow, manner.bounce * person.bounce, person.lag, manner.knee_bend, manner.lean)
    return animate(timeline, feel, beats, period)
