"""Controls for every score: other songs, beats half a beat off, the finite-sample floor, and intervals.

Forty dances against 1,320 give an FID far above 0 even if both come from one distribution, and unrelated
songs give a beat score far above 0: without these controls neither number means anything.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.spatial.distance import pdist, squareform
from scipy.stats import binomtest

from utils.metrics.dances import Dance, DanceFeatures
from utils.metrics.frechet import Gaussian, fit_gaussian, gaussian_distance
from utils.metrics.protocols import Protocol, mean_of_known
from utils.metrics.reference import Reference
from utils.skeleton import SMPL_24

SHUFFLES = 5
FLOOR_SAMPLES = 100
BOOTSTRAP_SAMPLES = 500
# Scores that a sign test compares with their controls, and whether more is better.
MORE_IS_BETTER = {
    "BAS": True,
    "BAS_recall": True,
    "BAS_precision": True,
    "BAS_F1": True,
    "brake": False,
    "landing_spread": False,
    "loudness_following": True,
}
OTHER_SONGS, HALF_A_BEAT_OFF = "other songs", "half a beat off"
_AIST_SONG = re.compile(r"_(m[A-Z]{2}\d+)(?:_|$)")


class Interval(NamedTuple):
    """A mean and the 95 % interval around it."""

    mean: float
    low: float
    high: float


def song_of(dance: Dance | DanceFeatures) -> str:
    """The dance's song, else the one in its AIST name (mBR0 in ..._mBR0_ch01), else the dance's name."""
    found = _AIST_SONG.search(dance.name)
    return dance.song or (found.group(1) if found else dance.name)


def other_songs(songs: Sequence[str], rng: np.random.Generator) -> list[int | None]:
    """For each entry the index of one with another song, each used at most once; None where there is none.

    Songs are put in random order side by side and everybody moves on by the size of the largest group, which
    gives everyone another song unless one song makes up more than half.
    """
    if not songs:
        return []
    order = rng.permutation(len(songs))
    rank = {song: place for place, song in enumerate(dict.fromkeys(songs[i] for i in order))}
    order = np.array(sorted(order, key=lambda i: rank[songs[i]]))
    largest = max(songs.count(song) for song in rank)
    partner: list[int | None] = [None] * len(songs)
    for one, other in zip(order, np.roll(order, -largest), strict=True):
        if songs[one] != songs[other]:
            partner[one] = int(other)
    return partner


class SignTest(NamedTuple):
    """Paired sign test of a score of each dance against its score under a control.

    Attributes:
        column: the score.
        control: name of the control.
        better: number of dances that score better than under the control.
        worse: number of those that score worse; ties and undefined scores count nowhere.
        p: probability of so many better ones or more if either were equally likely (binomial, one-sided).
    """

    column: str
    control: str
    better: int
    worse: int
    p: float


def sign_tests(
    own: Sequence[Mapping[str, float]], control: Sequence[Mapping[str, float]], name: str
) -> list[SignTest]:
    """Sign tests of the scores in `MORE_IS_BETTER`, where at least one dance has both.

    Args:
        own: scores of each dance.
        control: scores of the same dances under a control.
        name: of the control.
    """
    found = []
    for column, more in MORE_IS_BETTER.items():
        pairs = [
            (a.get(column, math.nan), b.get(column, math.nan)) for a, b in zip(own, control, strict=True)
        ]
        gain = np.array([(a - b) if more else (b - a) for a, b in pairs])
        better, worse = int((gain > 0).sum()), int((gain < 0).sum())
        if better + worse:
            p = binomtest(better, better + worse, alternative="greater").pvalue
            found.append(SignTest(column, name, better, worse, float(p)))
    return found


def other_song_scores(
    dances: Sequence[DanceFeatures], protocol: Protocol, seed: int = 0
) -> list[list[dict[str, float]]]:
    """Scores of each dance with the songs of others, one for each of `SHUFFLES` derangements that has one.

    Dance and song are cut to the shorter of the two. Empty for dances without music and where nobody has
    another song.
    """
    known = [i for i, dance in enumerate(dances) if dance.music_beats is not None and len(dance.music_beats)]
    rng = np.random.default_rng(seed)
    scores: list[list[dict[str, float]]] = [[] for _ in dances]
    for _ in range(SHUFFLES):
        for i, other in zip(known, other_songs([song_of(dances[i]) for i in known], rng), strict=True):
            if other is not None:
                scores[i].append(protocol.rhythm(_danced_to(dances[i], dances[known[other]])))
    return scores


def shuffled_beat_scores(
    dances: Sequence[DanceFeatures], protocol: Protocol, seed: int = 0
) -> dict[str, float]:
    """Mean of `other_song_scores` over dances and derangements; not a number where there are none."""
    scores = [score for own in other_song_scores(dances, protocol, seed) for score in own]
    return {column: mean_of_known([s[column] for s in scores]) for column in protocol.rhythm(dances[0])}


def half_a_beat_off(dance: DanceFeatures) -> DanceFeatures:
    """The dance with each beat of its music moved on by half of the interval to the next one."""
    beats = dance.music_beats
    if beats is None or len(beats) < 2:
        return replace(dance, music_beats=None)
    moved = beats + np.diff(beats, append=2 * beats[-1] - beats[-2]) / 2
    return replace(dance, music_beats=moved[moved < dance.frames])


def own_controls(
    dances: Sequence[DanceFeatures], protocol: Protocol, seed: int = 0
) -> tuple[dict[str, dict[str, float]], list[SignTest]]:
    """Controls made of the judged dances themselves: another song's beats, and their own half a beat off.

    Returns:
        Mean scores of each control by its name, and the sign tests of the dances against them; a control that
        no dance has is left out.
    """
    own = [protocol.rhythm(dance) for dance in dances]
    off = [protocol.rhythm(half_a_beat_off(dance)) for dance in dances]
    other = [
        {column: mean_of_known([score[column] for score in scores]) for column in own[0]}
        for scores in other_song_scores(dances, protocol, seed)
    ]
    rows, tests = {}, []
    for name, control in ((OTHER_SONGS, other), (HALF_A_BEAT_OFF, off)):
        row = {column: mean_of_known([score[column] for score in control]) for column in own[0]}
        if not all(math.isnan(value) for value in row.values()):
            rows[name] = row
            tests += sign_tests(own, control, name)
    return rows, tests


def _danced_to(dance: DanceFeatures, other: DanceFeatures) -> DanceFeatures:
    frames = min(dance.frames, other.frames)
    assert other.music_beats is not None
    return replace(
        dance,
        frames=frames,
        motion_beats=dance.motion_beats[dance.motion_beats < frames],
        motion_times=dance.motion_times[dance.motion_times < frames / SMPL_24.fps],
        music_beats=other.music_beats[other.music_beats < frames],
        speed=dance.speed[: frames - 1],
        landings=dance.landings[dance.landings < frames / SMPL_24.fps],
        loudness=None if other.loudness is None else other.loudness[:frames],
    )


def finite_sample_floor(
    reference: Reference, protocol: Protocol, num_dances: int, seed: int = 0, samples: int = FLOOR_SAMPLES
) -> dict[str, Interval]:
    """FID of `num_dances` real dances, drawn without replacement, against the rest: column -> interval.

    The mean over the draws and the interval that holds 95 % of them. An FID inside it cannot be told from
    real. With fewer than twice as many real dances, half of them is drawn; not a number with fewer than 4.
    """
    rng = np.random.default_rng(seed)
    total = len(reference.dances)
    drawn = min(max(num_dances, 2), total // 2)
    result = {}
    for suffix, feature in protocol.sets:
        if drawn < 2 or total - drawn < 2:
            result[f"FID_{suffix}"] = Interval(math.nan, math.nan, math.nan)
            continue
        features = protocol.normalised(reference.dances, reference, feature)
        sums = features.sum(0, dtype=np.float64), features.T.astype(np.float64) @ features
        values = [
            _against_rest(features[rng.permutation(total)[:drawn]], sums, total) for _ in range(samples)
        ]
        result[f"FID_{suffix}"] = Interval(
            float(np.mean(values)), *np.quantile(values, (0.025, 0.975)).tolist()
        )
    return result


def _against_rest(some: np.ndarray, sums: tuple[np.ndarray, np.ndarray], total: int) -> float:
    """Fréchet distance of some rows to all others, from the sum and the second moments of all `total` rows.

    The others' covariance is what is left of the second moments, and the trace of the square root that of the
    symmetric root @ covariance @ root.T: no decomposition of a thousand rows for each draw.
    """
    rest = total - len(some)
    some = some.astype(np.float64)
    mean = (sums[0] - some.sum(0)) / rest
    covariance = (sums[1] - some.T @ some - rest * np.outer(mean, mean)) / (rest - 1)
    own = fit_gaussian(some)
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(own.root @ covariance @ own.root.T), 0.0)).sum()
    spread = np.sum(own.root**2) + np.trace(covariance)
    return max(0.0, float(np.sum((own.mean - mean) ** 2) + spread - 2.0 * shared))


def bootstrap_intervals(
    dances: Sequence[DanceFeatures],
    reference: Reference | None,
    protocol: Protocol,
    seed: int = 0,
    samples: int = BOOTSTRAP_SAMPLES,
) -> dict[str, Interval]:
    """95 % intervals of the mean, of FID and of Div, by drawing the dances again with replacement.

    How much the numbers would move with other dances; the reference stays. Drawing twice makes FID larger
    (fewer different dances), so the draws are shifted to have the estimate as their mean. Pairs of a dance
    with itself do not count in Div. Empty with fewer than two dances.
    """
    num = len(dances)
    if num < 2:
        return {}
    rng = np.random.default_rng(seed)
    drawn = rng.integers(num, size=(samples, num))
    counts = np.stack([np.bincount(row, minlength=num) for row in drawn]).astype(np.float64)  # (samples, n)
    result = {}
    for suffix, feature in protocol.sets if reference is not None else ():
        assert reference is not None
        own = protocol.normalised(dances, reference, feature)
        if len(reference.dances) > 1:
            real = fit_gaussian(protocol.normalised(reference.dances, reference, feature))
            values = _resampled_distances(own, drawn, real)
            result[f"FID_{suffix}"] = _around(gaussian_distance(fit_gaussian(own), real), values)
        between = squareform(pdist(own))
        pairs = counts.sum(1) ** 2 - (counts**2).sum(1)
        values = ((counts @ between) * counts).sum(1)[pairs > 0] / pairs[pairs > 0]
        result[f"Div_{suffix}"] = _around(float(between.sum() / (num * (num - 1))), values)
    rows = [protocol.per_dance(dance) for dance in dances]
    for column in rows[0]:
        single = np.array([row[column] for row in rows])
        known = ~np.isnan(single)
        weight = counts[:, known]
        some = weight.sum(1) > 0
        if known.sum() > 1:
            values = (weight @ single[known])[some] / weight.sum(1)[some]
            result[column] = _around(float(single[known].mean()), values)
    return result


def _resampled_distances(own: np.ndarray, drawn: np.ndarray, real: Gaussian) -> np.ndarray:
    """Fréchet distances (samples,) of the rows own[drawn[i]] to a Gaussian, a few thousand rows at a time.

    As `gaussian_distance`, but by the eigenvalues of the smaller symmetric matrix: many at once.
    """
    num, step = drawn.shape[1], max(1, 40_000 // drawn.shape[1])
    values = []
    for start in range(0, len(drawn), step):
        rows = own[drawn[start : start + step]].astype(np.float64)  # (samples, n, d)
        mean = rows.mean(1)
        root = (rows - mean[:, None]) / np.sqrt(num - 1)
        shared = root @ real.root.T
        swapped = shared.swapaxes(1, 2)
        small = shared @ swapped if num < shared.shape[2] else swapped @ shared
        trace = np.sqrt(np.maximum(np.linalg.eigvalsh(small), 0.0)).sum(1)
        spread = (root**2).sum((1, 2)) + np.sum(real.root**2)
        values.append(((mean - real.mean) ** 2).sum(1) + spread - 2.0 * trace)
    return np.maximum(np.concatenate(values), 0.0)


def _around(estimate: float, values: np.ndarray) -> Interval:
    """The 95 % interval of draws, shifted to have the estimate as their mean; what is >= 0 stays so."""
    low, high = (np.quantile(values, (0.025, 0.975)) - values.mean() + estimate).tolist()
    return Interval(estimate, low if values.min() < 0 else max(0.0, low), high)
