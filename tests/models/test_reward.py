"""Parts of the reward against the metrics that they stand for, and against dancers who game them."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from models.reward import (
    NEED_REAL,
    PARTS,
    RewardConfig,
    code_shares,
    motion_beats,
    motion_levels,
    nearness_rewards,
    real_motion,
    reward,
    usage_rewards,
)
from models.vqvae import Codes
from tests.utils.metrics.motions import REST, smooth_dance
from tests.utils.metrics.test_beats import statue
from utils.metrics.beats import alignment, beat_align, mean_speed, prominent_minima
from utils.motion import joints_to_pose, root_velocity, with_root

FRAMES = 480
MUSIC = np.arange(FRAMES) % 30 == 12


def poses(*dances):
    """(B, T, 72) with the root velocity in the root slot."""
    joints = torch.tensor(np.stack([dance[:FRAMES] for dance in dances]), dtype=torch.float32)
    return with_root(joints_to_pose(joints), root_velocity(joints[:, :, 0]))


def stepping(period=30, size=0.4, seed=0):
    """A dance that slows down once per period, at frames 12, 12 + period and on, with sways of its own."""
    time = np.arange(FRAMES) / 60
    speed = size * (1.2 - np.cos(2 * np.pi * (time * 60 - 12) / period))
    way = np.cumsum(speed * np.sign(np.sin(2 * np.pi * (time * 60 - 12) / (2 * period)))) / 60
    sway = 0.1 * size * (smooth_dance(seed, 8)[:FRAMES] - REST)
    return REST + way[:, None, None] * np.array([0.6, 0.0, 0.8]) + sway


def both(dance, prominence=0.05):
    """Mean recall and precision of a dance to `MUSIC`."""
    beats = torch.from_numpy(MUSIC[None])
    return [float(part.mean()) for part in nearness_rewards(poses(dance), beats, 8, prominence)]


def test_prominent_motion_beats_are_those_of_the_metrics():
    dances = [smooth_dance(seed, 8, scale=0.6) for seed in range(3)]
    for dance in dances:
        dance[:, 0] = 0  # the published form takes the root slot for a joint
    pose = poses(*dances)
    plain, prominent = motion_beats(pose), motion_beats(pose, prominence=0.05)
    assert 0 < prominent.sum() < plain.sum()
    assert not (prominent & ~plain).any()
    for row, found in zip(pose, prominent, strict=True):
        speed = gaussian_filter1d(mean_speed(row.unflatten(-1, (24, 3)).numpy()) * 60, 5.0)
        assert found.nonzero()[:, 0].tolist() == prominent_minima(speed, 0.05).tolist()


def test_a_statue_has_motion_beats_only_without_prominence():
    assert motion_beats(poses(statue(8))).sum() > 40
    assert motion_beats(poses(statue(8)), prominence=0.02).sum() == 0


@pytest.mark.parametrize("seed", range(3))
def test_recall_is_the_published_beat_score(seed):
    dance = smooth_dance(seed, 8)[:FRAMES]
    recall, precision = both(dance, prominence=0)
    assert recall == pytest.approx(beat_align(dance, MUSIC), rel=1e-3)
    motion = prominent_minima(gaussian_filter1d(mean_speed(dance), 5.0), 0.0)
    music = np.flatnonzero(MUSIC)
    expected = alignment(motion, music, 3.0) * len(motion) / max(len(motion), len(music))
    assert precision == pytest.approx(expected, rel=1e-3)


def test_nearness_pays_the_code_of_the_beat():
    """A music beat that is missed lowers its own code, and a near one raises it."""
    beats = torch.from_numpy(MUSIC[None].copy())
    beats[0, 12] = False
    beats[0, 27] = True  # between two motion beats
    recall, precision = nearness_rewards(poses(stepping()), beats, 8, 0.05)
    usual = recall[0, 42 // 8]
    assert recall[0, 27 // 8] < recall.mean() < usual
    assert precision[0, 12 // 8] < precision.mean() < precision[0, 42 // 8]
    silent = nearness_rewards(poses(stepping()), torch.zeros(1, FRAMES), 8, 0.05)
    assert all(not part.any() for part in silent)


def test_neither_jitter_nor_a_statue_nor_a_slow_dancer_gains_by_beats():
    rng = np.random.default_rng(0)
    on_beat, off_beat = stepping(), np.roll(stepping(), 15, axis=0)
    shakes = np.repeat(rng.normal(0, 0.05, (FRAMES // 6, 1, 3)), 6, axis=0)
    dances = (on_beat, off_beat, off_beat + shakes, stepping(period=15), stepping(period=60), statue(8))
    recall, precision = np.array([both(dance) for dance in dances]).T
    assert recall[0] > 0.9
    assert precision[0] > 0.9
    assert (precision[1:] < 0.6 * precision[0]).all(), precision
    assert ((recall + precision)[1:] < 0.8 * (recall + precision)[0]).all()
    assert recall[-1] + precision[-1] == 0


def test_energy_and_spread_are_highest_for_movement_as_in_real_dances():
    real = real_motion([stepping(seed=seed, size=size) for seed in range(6) for size in (0.3, 0.4, 0.5)], 8)
    dances = [stepping(seed=9), stepping(seed=9, size=0.04), stepping(seed=9, size=2.0), statue(8)]
    beats = torch.from_numpy(np.stack([MUSIC] * len(dances)))
    parts = reward(poses(*dances), beats, 8, RewardConfig(context="dance"), real)
    for name in ("energy", "spread"):
        values = parts[name].mean(1)
        assert values[0] > 0.4, name
        assert (values[1:] < 0.1 * values[0]).all(), name
        assert ((parts[name] >= 0) & (parts[name] <= 1)).all()


def test_levels_by_hand():
    """A root that goes 0.5 m/s along x while the rest hangs on it."""
    time = np.arange(FRAMES) / 60
    dance = REST + 0.5 * time[:, None, None] * np.array([1.0, 0.0, 0.0])
    levels = motion_levels(poses(dance), 8)
    np.testing.assert_allclose(levels.speed.exp() - 0.01, 0.5, rtol=1e-3)
    window = time[(20 - 8) * 8 : (20 + 9) * 8]  # the span around code 20
    assert float(levels.spread[0, 20, 0].exp()) - 0.002 == pytest.approx(0.5 * window.std(), rel=1e-3)
    np.testing.assert_allclose(levels.spread[0, :, 1:].exp() - 0.002, 0, atol=1e-4)
    assert float(levels.way[0, 20, 0].exp()) - 0.05 == pytest.approx(0.5 * window.mean(), rel=1e-3)


def test_the_reward_is_the_weighted_sum_of_its_parts():
    pose, beats = poses(stepping(), smooth_dance(3, 8)), torch.from_numpy(np.stack([MUSIC, MUSIC]))
    real = real_motion([stepping(seed=1), stepping(seed=2)], 8)
    weights = {name: 0.5 + number for number, name in enumerate(PARTS)}
    found = reward(pose, beats, 8, RewardConfig(context="dance", **weights), real)
    del weights["usage"]  # of all dances together
    assert list(found) == ["reward", *weights]
    expected = sum(weight * found[name] for name, weight in weights.items())
    torch.testing.assert_close(found["reward"], expected)
    published = reward(pose, beats, 8, RewardConfig())
    assert torch.equal(published["reward"], published["beat_reward"])
    assert not set(NEED_REAL) & set(published)
    assert not reward(pose, beats, 8, RewardConfig(beat_reward=0))["reward"].any()


def test_real_dances_that_are_too_short():
    with pytest.raises(ValueError, match="no real dance of at least 16 frames"):
        real_motion([REST[None].repeat(12, 0)], 8)


def drawn_codes(weights, seed, lengths=(400, 300)):
    """Dances whose codes are drawn with these weights in both halves."""
    generator = torch.Generator().manual_seed(seed)
    return [
        Codes(*(torch.multinomial(torch.tensor(weights), n, True, generator=generator) for _ in range(2)))
        for n in lengths
    ]


def test_usage_is_minus_the_divergence_of_the_codes():
    weights, own_weights = [0.4, 0.3, 0.2, 0.1], [0.7, 0.1, 0.1, 0.1]
    real, dances = code_shares(drawn_codes(weights, 0), (4, 4)), drawn_codes(own_weights, 1)
    own = code_shares(dances, (4, 4))
    found = usage_rewards(dances, real)
    assert [len(each) for each in found] == [400, 300]
    kl = sum(float((o * (o / r).log()).sum()) for o, r in zip(own, real, strict=True)) / 2
    assert float(torch.cat(found).mean()) == pytest.approx(-kl, abs=0.01)  # up to the smoothing of counts
    assert kl > 0.1
    code = int(dances[1].upper[7]), int(dances[1].lower[7])
    expected = sum(float((r[c] / o[c]).log()) for r, o, c in zip(real, own, code, strict=True)) / 2
    assert float(found[1][7]) == pytest.approx(expected, rel=1e-5)


def test_usage_is_highest_for_codes_as_in_real_dances():
    weights = [0.4, 0.3, 0.2, 0.1]
    real = code_shares(drawn_codes(weights, 0), (4, 4))
    others = {
        "like real": drawn_codes(weights, 2),
        "uniform": drawn_codes([1.0] * 4, 2),
        "one code": [Codes(*torch.full((2, 700), 0))],
    }
    mean = {name: float(torch.cat(usage_rewards(dances, real)).mean()) for name, dances in others.items()}
    assert mean["like real"] > mean["uniform"] > mean["one code"]
    assert mean["like real"] == pytest.approx(0, abs=0.02)


def test_a_gradient_of_usage_brings_codes_to_those_of_real_dances():
    real = code_shares(drawn_codes([0.4, 0.3, 0.2, 0.1], 0, (4000,)), (4, 4))
    logits = torch.tensor([3.0, 0.0, 0.0, 0.0], requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=0.05)
    for step in range(300):
        dances = drawn_codes(logits.softmax(0).tolist(), step)
        earned = torch.cat(usage_rewards(dances, real))
        log_p = torch.cat([logits.log_softmax(0)[torch.stack(codes)].sum(0) for codes in dances])
        optimiser.zero_grad()
        (-(earned - earned.mean()) * log_p).mean().backward()
        optimiser.step()
    torch.testing.assert_close(logits.detach().softmax(0), real.upper, atol=0.06, rtol=0)
