"""Reward of a dance as a weighted sum of parts, each a pure function of decoded poses.

Beat reward and consistency of the halves: Bailando (CVPR 2022), section 3.5, equations 9 to 12; where the
published code differs, both forms are implemented. The beat reward is a yes or no per code, and half of it is
paid to a dancer who does not move. The further parts are for finetuning beyond the paper: `recall` and
`precision` measure how near beats are in time, by the Gaussian of BAS, and `energy` and `spread` compare the
movement around each code with that of real dances, so neither jitter nor standing still pays. `usage` is the
only part that sees the dances of an epoch together: it pays for codes that they use less than real dances do.

Poses are (B, T, J*3), root-relative, with the root velocity in the root slot (metres per frame); beats are
(B, T) flags at the same rate.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import NonNegativeFloat
from torch import Tensor

from models.vqvae import Codes
from utils.config import ConfigModel
from utils.motion import joints_to_pose, pose_to_joints, root_velocity, with_root
from utils.skeleton import SMPL_24

BeatReward = Literal["published", "paper"]
PARTS = ("beat_reward", "recall", "precision", "energy", "spread", "usage", "consistency")
NEED_REAL = ("energy", "spread", "usage")  # parts that compare with real dances
SPAN = 16  # codes around a code over which its energy and spread are measured; 2.1 s
_LEAST_SPEED, _LEAST_SPREAD, _LEAST_WAY = 0.01, 0.002, 0.05  # m/s, m, m; added before a logarithm


class RewardConfig(ConfigModel):
    """Reward of each code of a dance: the weighted sum of its parts, all of which are logged."""

    renamed_values: ClassVar[Mapping[str, Mapping[str, str]]] = {"beats": {"released": "published"}}

    beats: BeatReward = "published"
    """Beat reward of a code with music beat m and motion beat d, each 0 or 1: `published` is 10 (m d - 0.5);
    `paper` is +5, but -5 for a music beat without a motion beat."""
    context: Literal["window", "dance"] = "window"
    """Motion beats are detected in each training `window` of 28 codes, as published, or in the whole
    generated `dance`. In a window the last code, the one that counts, rarely shows a beat (4 % of codes
    against 24 % elsewhere, in real dances too)."""
    prominence: NonNegativeFloat = 0.0
    """Speed in m/s by which the mean joint speed must rise on both sides of a motion beat. At 0, as
    published, the ripple of a dancer who stands still counts as motion beats; the corrected metrics use
    0.05."""
    beat_reward: NonNegativeFloat = 1.0
    """Weight of the beat reward; 1 as published."""
    recall: NonNegativeFloat = 0.0
    """Weight of the nearness of the music's beats to motion beats; its mean over a dance is the BAS of the
    motion beats that have the prominence. 0 as published."""
    precision: NonNegativeFloat = 0.0
    """Weight of the nearness of motion beats to the music's beats: needless motion beats lower it, as do
    missing ones. 0 as published."""
    energy: NonNegativeFloat = 0.0
    """Weight of the energy: how near each joint's mean speed in the two seconds around a code is to that of
    real dances. 0 as published."""
    spread: NonNegativeFloat = 0.0
    """Weight of the spread: how near each joint's range of positions in the two seconds around a code, and
    the distance from the start of the dance, are to those of real dances. 0 as published."""
    usage: NonNegativeFloat = 0.0
    """Weight of the usage of codes: the logarithm of how often real dances use a code, over how often the
    dances of the epoch do, mean of the halves. Its mean is minus the Kullback-Leibler divergence of the two
    distributions of codes, in nats, so dances that come down to a few codes lose. 0 as published."""
    consistency: NonNegativeFloat = 0.0
    """Weight of the consistency of the halves; 0 in the published weights."""
    reference: str | None = None
    """Prepared data whose training dances are the real ones of energy, spread and usage; null is
    `data.root`."""
    lower_sign: Literal["lower", "upper"] = "lower"
    """Joints that determine the sign of the lower half's normal in the consistency: the `lower` ones as in
    the paper, or the `upper` ones as in the published code."""

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each part, in the order of `PARTS`."""
        weights = (
            self.beat_reward, self.recall, self.precision, self.energy, self.spread, self.usage,
            self.consistency,
        )  # fmt: skip
        return dict(zip(PARTS, weights, strict=True))


@functools.cache
def _gaussian(sigma: float) -> Tensor:
    radius = int(4 * sigma + 0.5)
    weights = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=torch.float64) / sigma) ** 2)
    return weights / weights.sum()


def smooth(x: Tensor, sigma: float) -> Tensor:
    """Smooth (B, T) by a Gaussian along time, cut at 4 sigma, ends mirrored (edge sample repeated)."""
    weights = _gaussian(sigma)
    radius, length = len(weights) // 2, x.shape[1]
    place = torch.arange(-radius, length + radius, device=x.device) % (2 * length)
    padded = x[:, torch.where(place < length, place, 2 * length - 1 - place)]
    return F.conv1d(padded.unsqueeze(1), weights.to(x).view(1, 1, -1)).squeeze(1)


def motion_beats(pose: Tensor, prominence: float = 0.0, sigma: float = 5.0) -> Tensor:
    """Return (B, T) flags of strict local minima of the smoothed mean joint speed; never at the ends.

    Args:
        pose: (B, T, J*3).
        prominence: least prominence of a minimum, m/s, as in `utils.metrics.beats.prominent_minima`.
        sigma: of the smoothing, in frames.
    """
    joints = pose.float().unflatten(-1, (-1, 3))
    speed = (joints[:, 1:] - joints[:, :-1]).norm(dim=-1).mean(-1)  # (B, T-1)
    speed = smooth(speed, sigma)
    lower = (speed[:, 1:-1] < speed[:, :-2]) & (speed[:, 1:-1] < speed[:, 2:])
    beats = F.pad(lower, (1, 2))
    return beats & _prominent(speed, prominence) if prominence > 0 else beats


def _prominent(speed: Tensor, prominence: float) -> Tensor:
    """Return (B, T+1) flags of the minima of a speed (B, T), m per frame, that have the prominence (m/s)."""
    from utils.metrics.beats import prominent_minima  # imports scipy.signal

    found = torch.zeros(len(speed), speed.shape[1] + 1, dtype=torch.bool)
    for row, values in zip(found, speed.cpu().numpy(), strict=True):
        row[torch.from_numpy(prominent_minima(values, prominence / SMPL_24.fps))] = True
    return found.to(speed.device)


def per_code(x: Tensor, frames_per_code: int) -> Tensor:
    """Reshape (B, T) into (B, T', frames_per_code)."""
    return x.unflatten(1, (-1, frames_per_code))


def beat_reward(
    pose: Tensor,
    beats: Tensor,
    frames_per_code: int,
    form: BeatReward = "published",
    prominence: float = 0.0,
) -> Tensor:
    """Return the beat reward (B, T') of each code, +5 or -5; see RewardConfig."""
    motion = per_code(motion_beats(pose, prominence), frames_per_code).any(-1)
    music = per_code(beats.bool(), frames_per_code).any(-1)
    good = motion & music if form == "published" else motion | ~music
    return good.float() * 10 - 5


def consistency_reward(pose: Tensor, frames_per_code: int, lower_sign: str = "lower") -> Tensor:
    """Return the consistency (B, T') of the halves' directions: 1 if they agree, else in -1..0.

    Each half's normal is scaled to length 1, multiplied by a sign, and its vertical part dropped. The result
    is the smallest dot product over a code's frames, or 1 if that is not negative.
    """
    joints = pose.float().unflatten(-1, (-1, 3))

    def at(name: str) -> Tensor:
        return joints[:, :, SMPL_24.index(name)]

    upper = F.normalize(torch.linalg.cross(at("right_collar"), at("left_collar"), dim=-1), dim=-1)
    lower = F.normalize(torch.linalg.cross(at("left_knee"), at("right_knee"), dim=-1), dim=-1)
    forward_upper = at("head") - at("neck")
    bend = [("left_knee", "left_hip"), ("right_knee", "right_hip"), ("left_knee", "left_ankle")]
    bend.append(("right_knee", "right_ankle"))
    forward_lower = torch.stack([at(a) - at(b) for a, b in bend]).sum(0)
    sign_upper = _soft_sign((upper * forward_upper).sum(-1, keepdim=True))
    sign_lower = _soft_sign((lower * forward_lower).sum(-1, keepdim=True))
    upper = upper * sign_upper
    # As published, though: the upper half's sign is used for both.
    lower = lower * (sign_lower if lower_sign == "lower" else sign_upper)
    horizontal = torch.tensor([1.0, 0.0, 1.0], device=pose.device)
    agreement = (upper * lower * horizontal).sum(-1)  # (B, T)
    smallest = per_code(agreement, frames_per_code).amin(-1)
    return torch.where(smallest >= 0, torch.ones_like(smallest), smallest)


def _soft_sign(x: Tensor) -> Tensor:
    return x / (x.abs() + 1e-5)


def nearness_rewards(
    pose: Tensor, beats: Tensor, frames_per_code: int, prominence: float
) -> tuple[Tensor, Tensor]:
    """Return the recall and the precision (B, T') of each code; their means over a dance are in 0..1.

    A dance's recall is the mean over the music's beats of exp(-d² / 18), d the distance in frames to the
    nearest motion beat, which is the published BAS. Its precision is the sum over motion beats, divided by
    the number of motion beats or of music beats, whichever is larger: neither many beats nor few pay. A code
    has the value of its dance, and in addition what its own beats have above their mean, scaled such that the
    mean over the codes remains. Without beats of either kind both are 0.
    """
    from utils.metrics.beats import TOLERANCE, nearness, prominent_minima  # imports scipy

    steps = pose_to_joints(pose.float()).diff(dim=1)
    speed = smooth(steps.norm(dim=-1).mean(-1), 5.0).cpu().numpy()  # (B, T-1) metres per frame
    codes = pose.shape[1] // frames_per_code
    both = np.zeros((2, len(pose), codes), np.float32)
    for row, (values, flags) in enumerate(zip(speed, beats.bool().cpu().numpy(), strict=True)):
        motion, music = prominent_minima(values, prominence / SMPL_24.fps), np.flatnonzero(flags)
        for side, (of, to) in enumerate(((music, motion), (motion, music))):
            if len(of) and len(to):
                near, number = nearness(of, to, TOLERANCE), max(len(of), len(music))
                above = np.bincount(of // frames_per_code, near - near.mean(), codes)
                both[side, row] = (near.sum() + above * codes) / number
    recall, precision = torch.from_numpy(both).to(pose.device)
    return recall, precision


class MotionLevels(NamedTuple):
    """Levels of movement around each code, as logarithms.

    Attributes:
        speed: (B, T', J) mean speed of each joint, m/s.
        spread: (B, T', J) standard deviation of each joint's position, m: of the root in the room, of the
            others relative to the root.
        way: (B, T', 1) mean horizontal distance of the root from the start of the dance, m.
    """

    speed: Tensor
    spread: Tensor
    way: Tensor


class RealMotion(NamedTuple):
    """Mean and standard deviation of the levels of real dances, over dances and codes."""

    mean: MotionLevels
    std: MotionLevels


def motion_levels(pose: Tensor, frames_per_code: int) -> MotionLevels:
    """Return the levels of movement over the `SPAN` codes around each code, fewer at the ends."""
    joints = pose_to_joints(pose.float())
    root = joints[:, :, :1]
    speed = F.pad(joints.diff(dim=1).norm(dim=-1) * SMPL_24.fps, (0, 0, 0, 1), mode="replicate")
    placed = torch.cat([root, joints[:, :, 1:] - root], dim=2)
    away = (root[:, :, 0] - root[:, :1, 0])[..., [0, 2]].norm(dim=-1, keepdim=True)

    def mean(x: Tensor) -> Tensor:
        """Mean of (B, T, C) over the span around each code, (B, T', C)."""
        x = per_code(x, frames_per_code).mean(2).transpose(1, 2)
        pooled = F.avg_pool1d(x, SPAN + 1, 1, SPAN // 2, count_include_pad=False)
        return pooled.transpose(1, 2)

    centre = placed.mean(1, keepdim=True)  # against cancellation
    first, second = mean((placed - centre).flatten(2)), mean((placed - centre).square().flatten(2))
    variance = (second - first.square()).clamp(min=0).unflatten(2, (-1, 3)).sum(-1)
    return MotionLevels(
        (mean(speed) + _LEAST_SPEED).log(),
        (variance.sqrt() + _LEAST_SPREAD).log(),
        (mean(away) + _LEAST_WAY).log(),
    )


def real_motion(dances: Iterable[np.ndarray], frames_per_code: int) -> RealMotion:
    """Return the statistics of the levels of real dances, joints (T, J, 3) in metres each.

    Raises:
        ValueError: if no dance has two codes.
    """
    found: list[MotionLevels] = []
    for joints in dances:
        whole = torch.from_numpy(
            np.array(joints[: len(joints) // frames_per_code * frames_per_code], np.float32)
        )
        if len(whole) >= 2 * frames_per_code:
            pose = with_root(joints_to_pose(whole), root_velocity(whole[:, 0]))
            found.append(motion_levels(pose.unsqueeze(0), frames_per_code))
    if not found:
        raise ValueError(f"there is no real dance of at least {2 * frames_per_code} frames to compare with")
    joined = [torch.cat(level, 1)[0] for level in zip(*found, strict=True)]  # (codes, n) each
    mean, std = ([part(level, 0) for level in joined] for part in (torch.mean, torch.std))
    return RealMotion(MotionLevels(*mean), MotionLevels(*std))


def likeness(level: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return exp(-½ mean of z²) over the last axis of levels (B, T', n), z = (level - mean) / std; 0..1."""
    return torch.exp(-0.5 * ((level - mean.to(level)) / (std.to(level) + 1e-3)).square().mean(-1))


def code_shares(dances: Iterable[Codes], num_codes: tuple[int, int]) -> Codes:
    """Return how often dances use each code of each half: shares (K,) that sum to 1, none of which is 0.

    Each code counts once more than it occurs, so that one that does not occur has a logarithm.
    """
    halves = zip(*dances, strict=True)
    counts = (torch.cat(half).bincount(minlength=k) for half, k in zip(halves, num_codes, strict=True))
    return Codes(*((count + 1.0) / (count + 1.0).sum() for count in counts))


def usage_rewards(dances: Sequence[Codes], real: Codes) -> list[Tensor]:
    """Return the usage (L,) of each code of several dances, codes (L,) each; see RewardConfig.

    As a reward of a policy gradient it lowers the Kullback-Leibler divergence of the policy's codes, whatever
    their order, from those of real dances: its gradient is that of E[log(real / own)].

    Args:
        dances: codes of all dances of an epoch.
        real: shares (K,) of each half's codes in real dances, of `code_shares`.
    """
    own = code_shares(dances, (len(real.upper), len(real.lower)))
    scores = [(r.log() - o.log()) / len(own) for r, o in zip(real, own, strict=True)]
    return [
        torch.stack([score[half] for score, half in zip(scores, codes, strict=True)]).sum(0)
        for codes in dances
    ]


def reward(
    pose: Tensor, beats: Tensor, frames_per_code: int, config: RewardConfig, real: RealMotion | None = None
) -> dict[str, Tensor]:
    """Return per code (B, T') the `reward` and its parts (`PARTS`), weighted or not, but for the usage.

    The usage is of all dances together: `RolloutCollector` adds it.

    Args:
        pose: decoded (B, T, J*3), T = T' * frames_per_code.
        beats: (B, T) music beat flags.
        frames_per_code: frames per code.
        config: the form of the reward.
        real: levels of real dances; without them there are no energy and no spread.
    """
    parts = {"beat_reward": beat_reward(pose, beats, frames_per_code, config.beats, config.prominence)}
    nearness = nearness_rewards(pose, beats, frames_per_code, config.prominence)
    parts["recall"], parts["precision"] = nearness
    if real is not None:
        level, (mean, std) = motion_levels(pose, frames_per_code), real
        parts["energy"] = likeness(level.speed, mean.speed, std.speed)
        spread, way = (likeness(level[i], mean[i], std[i]) for i in (1, 2))
        parts["spread"] = (spread * way).sqrt()
    if config.consistency > 0 or pose.shape[-1] == 3 * SMPL_24.num_joints:  # it is defined on this skeleton
        parts["consistency"] = consistency_reward(pose, frames_per_code, config.lower_sign)
    weighted = [weight * parts[n] for n, weight in config.weights.items() if weight > 0 and n != "usage"]
    total = torch.stack(weighted).sum(0) if weighted else torch.zeros_like(parts["beat_reward"])
    return {"reward": total, **parts}
