"""Metrics of rhythm beyond the beat score: landings of feet, brakes and surges, following of loudness.

Conventions: times are in seconds, beats ascending; all values are means or medians over one dance, not a
number where the dance has too little of what is measured. None of them needs a reference. They are compared
with the same dance to another song, and to its own beats half a beat off (`utils.metrics.controls`).
"""

import math
from itertools import pairwise

import numpy as np
from scipy.stats import spearmanr

from utils.floor import floor_height
from utils.metrics.checks import as_joints
from utils.metrics.physical import CONTACT_HEIGHT, STILL_SPEED
from utils.skeleton import SMPL_24

LANDED_SPEED = 0.3  # m/s below which a foot near the floor has landed
CONTACT_SECONDS = 0.1  # that a foot must be up before, and down after a landing
BEATS_PER_BAR = 4
NEAR_SECONDS = 0.1  # to either side of a beat, where the slowest speed is looked for
LEAST_LANDINGS, LEAST_BARS = 4, 5


def foot_landings(joints: np.ndarray, fps: float = 60) -> np.ndarray:
    """Times in seconds, ascending, at which a foot comes to rest on the floor; both feet together.

    A foot is down while its lower joint is less than 5 cm above the floor and slower than 0.3 m/s. It lands
    where it is down for 0.1 s after 0.1 s of not being down. The floor is that of `floor_height`.

    Args:
        joints: (T >= 2, 24, 3) metres.
        fps: frame rate in Hz.
    """
    p = as_joints(joints, fps)
    length, floor, found = max(1, round(CONTACT_SECONDS * fps)), floor_height(p, fps), []
    for foot in SMPL_24.feet:
        toes = p[:, list(foot)]
        speed = np.linalg.norm(np.diff(toes, axis=0), axis=-1).min(1) * fps
        down = (toes[1:, :, 1].min(1) < floor + CONTACT_HEIGHT) & (speed < LANDED_SPEED)
        runs = np.flatnonzero(np.diff(down.astype(int))) + 1
        edges = np.concatenate([[0], runs, [len(down)]])
        for before, start, end in zip(edges[:-2], edges[1:-1], edges[2:], strict=True):
            if down[start] and min(start - before, end - start) >= length:
                found.append((start + 1) / fps)
    return np.sort(np.array(found))


def landing_phases(landings: np.ndarray, beats: np.ndarray) -> np.ndarray:
    """Place of each landing relative to the nearest beat, in beats: -0.5..0.5, negative before the beat.

    Args:
        landings: (n,) seconds; those before the first and after the last beat are left out.
        beats: (m,) seconds.
    """
    if len(beats) < 2:
        return np.zeros(0)
    inside = landings[(landings >= beats[0]) & (landings <= beats[-1])]
    phase = np.interp(inside, beats, np.arange(len(beats)))
    return phase - np.round(phase)


def brake(speed: np.ndarray, beats: np.ndarray, fps: float = 60) -> float:
    """Slowest speed within 0.1 s of a beat over the fastest within half a beat of it, mean over beats.

    Range 0..1, lower is a sharper brake at the beat with a surge around it; 1 where a dance does not change
    its speed, or does not exceed 0.05 m/s. Not a number with fewer than two beats.

    Args:
        speed: (T-1,) smoothed, m/s (`smoothed_speed`).
        beats: (m,) seconds.
        fps: frame rate in Hz.
    """
    ratios = []
    for beat, interval in zip(beats, np.diff(beats, append=2 * beats[-1:] - beats[-2:-1]), strict=False):

        def around(reach: float, middle: float = beat * fps - 0.5) -> np.ndarray:
            first, last = math.ceil(middle - reach * fps), math.floor(middle + reach * fps)
            return speed[max(0, first) : max(0, last + 1)]

        near, wide = around(min(NEAR_SECONDS, interval / 4)), around(interval / 2)
        if len(near):
            moves = wide.max() > STILL_SPEED
            ratios.append(float(near.min() / wide.max()) if moves else 1.0)
    return float(np.mean(ratios)) if len(beats) > 1 and ratios else math.nan


def loudness_following(speed: np.ndarray, loudness: np.ndarray, beats: np.ndarray, fps: float = 60) -> float:
    """Spearman's rank correlation of the mean loudness and the mean speed of bars of four beats.

    Range -1..1, higher follows the dynamics of the music more. Not a number with fewer than five bars, or
    where one of the two is the same in all bars.

    Args:
        speed: (T-1,) smoothed, m/s.
        loudness: (T,) at the same rate, in any unit that rises with loudness.
        beats: (m,) seconds; the first is taken as the first of a bar.
        fps: frame rate in Hz.
    """
    starts = np.round(beats[::BEATS_PER_BAR] * fps).astype(int)
    starts = starts[starts < min(len(speed), len(loudness))]
    if len(starts) <= LEAST_BARS:
        return math.nan
    loud, fast = (np.array([x[a:b].mean() for a, b in pairwise(starts)]) for x in (loudness, speed))
    if np.ptp(loud) == 0 or np.ptp(fast) == 0:
        return math.nan
    return float(spearmanr(loud, fast).statistic)


def rhythm_scores(
    speed: np.ndarray, landings: np.ndarray, beats: np.ndarray | None, loudness: np.ndarray | None
) -> dict[str, float]:
    """All of the above for one dance at 60 fps: column -> value.

    Args:
        speed: (T-1,) smoothed, m/s.
        landings: (n,) seconds.
        beats: (m,) seconds; None if the music is not known.
        loudness: (T,) per frame; None if not known.
    """
    if beats is None or len(beats) < 2:
        return dict.fromkeys(("landing_offset", "landing_spread", "brake", "loudness_following"), math.nan)
    phases = landing_phases(landings, beats)
    enough = len(phases) >= LEAST_LANDINGS
    low, middle, high = np.quantile(phases, (0.25, 0.5, 0.75)) if enough else (math.nan,) * 3
    follows = math.nan if loudness is None else loudness_following(speed, loudness, beats)
    return {
        "landing_offset": float(middle),
        "landing_spread": float(high - low),
        "brake": brake(speed, beats),
        "loudness_following": follows,
    }
