"""Reward of a dance: beat reward and consistency of the halves, as pure functions of decoded poses.

Source: Bailando (CVPR 2022), section 3.5, equations 9 to 12; where the published code differs, both forms are
implemented. Poses are (B, T, J*3), root-relative, with any content of the root slot; beats are (B, T) flags
at the same rate.
"""

import functools
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import NonNegativeFloat
from torch import Tensor

from utils.config import ConfigModel
from utils.skeleton import SMPL_24

BeatReward = Literal["published", "paper"]


class RewardConfig(ConfigModel):
    """Reward of each code of a dance."""

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
    consistency: NonNegativeFloat = 0.0
    """Weight of the consistency of the halves; 0 in the published weights."""
    lower_sign: Literal["lower", "upper"] = "lower"
    """Joints that determine the sign of the lower half's normal in the consistency: the `lower` ones as in
    the paper, or the `upper` ones as in the published code."""


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


def reward(pose: Tensor, beats: Tensor, frames_per_code: int, config: RewardConfig) -> dict[str, Tensor]:
    """Return per code (B, T') the `reward` and its parts, `beat_reward` and, if weighted, `consistency`.

    Args:
        pose: decoded (B, T, J*3), T = T' * frames_per_code.
        beats: (B, T) music beat flags.
        frames_per_code: frames per code.
        config: the form of the reward.
    """
    parts = {"beat_reward": beat_reward(pose, beats, frames_per_code, config.beats, config.prominence)}
    total = parts["beat_reward"]
    if config.consistency > 0:
        parts["consistency"] = consistency_reward(pose, frames_per_code, config.lower_sign)
        total = total + config.consistency * parts["consistency"]
    return {"reward": total, **parts}
