"""What a dance earns: the beat reward and the consistency of the halves. Pure functions of decoded poses.

Source: Bailando (CVPR 2022), section 3.5, equations 9 to 12; where the released code differs, both forms are
here. Poses are (B, T, J*3), root-relative, with whatever their root slot holds; beats are (B, T) flags at the
same rate.
"""

import functools
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import NonNegativeFloat
from torch import Tensor

from utils.config import ConfigModel
from utils.skeleton import SMPL_24

BeatReward = Literal["released", "paper"]


class RewardConfig(ConfigModel):
    """What a dance earns."""

    beats: BeatReward = "released"
    """`released` is 10 (m d - 0.5) with m a music beat and d a motion beat; `paper` is +5, but -5 where there
    is a music beat without a motion beat."""
    context: Literal["window", "dance"] = "window"
    """Where motion beats are looked for. `window`: in the 28 codes of a training window, as released; its
    last code, the one that counts, then hardly ever shows a beat (4 % against 24 % elsewhere, for real dances
    too). `dance`: in the whole generated dance."""
    consistency: NonNegativeFloat = 0.0
    """Weight of the halves' consistency; 0 in the published weights."""
    lower_sign: Literal["lower", "upper"] = "lower"
    """Sign of the lower half's normal in the consistency: from the `lower` joints as in the paper, or from
    the `upper` ones as in the released code."""


@functools.cache
def _gaussian(sigma: float) -> Tensor:
    radius = int(4 * sigma + 0.5)
    weights = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=torch.float64) / sigma) ** 2)
    return weights / weights.sum()


def smooth(x: Tensor, sigma: float) -> Tensor:
    """Gaussian smoothing of (B, T) along time, cut at 4 sigma, ends mirrored (edge sample repeated)."""
    weights = _gaussian(sigma)
    radius, length = len(weights) // 2, x.shape[1]
    place = torch.arange(-radius, length + radius, device=x.device) % (2 * length)
    padded = x[:, torch.where(place < length, place, 2 * length - 1 - place)]
    return F.conv1d(padded.unsqueeze(1), weights.to(x).view(1, 1, -1)).squeeze(1)


def motion_beats(pose: Tensor, sigma: float = 5.0) -> Tensor:
    """(B, T) flags: strict local minima of smoothed mean joint speed; never the last frame or the ends."""
    joints = pose.float().unflatten(-1, (-1, 3))
    speed = (joints[:, 1:] - joints[:, :-1]).norm(dim=-1).mean(-1)  # (B, T-1)
    speed = smooth(speed, sigma)
    lower = (speed[:, 1:-1] < speed[:, :-2]) & (speed[:, 1:-1] < speed[:, 2:])
    return F.pad(lower, (1, 2))


def per_code(x: Tensor, frames_per_code: int) -> Tensor:
    """(B, T) -> (B, T', frames_per_code)."""
    return x.unflatten(1, (-1, frames_per_code))


def beat_reward(pose: Tensor, beats: Tensor, frames_per_code: int, form: BeatReward = "released") -> Tensor:
    """(B, T') reward of each code for meeting the music's beats: +5 or -5."""
    motion = per_code(motion_beats(pose), frames_per_code).any(-1)
    music = per_code(beats.bool(), frames_per_code).any(-1)
    good = motion & music if form == "released" else motion | ~music
    return good.float() * 10 - 5


def consistency_reward(pose: Tensor, frames_per_code: int, lower_sign: str = "lower") -> Tensor:
    """(B, T') how far the halves face the same way: in -1..0 where they do not, 1 where they do.

    Each half's normal is normalised to length 1, turned by a sign, and its vertical part dropped. The
    smallest dot product over a code's frames counts.
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
    # As released, though: the upper half's sign is used for both.
    lower = lower * (sign_lower if lower_sign == "lower" else sign_upper)
    horizontal = torch.tensor([1.0, 0.0, 1.0], device=pose.device)
    agreement = (upper * lower * horizontal).sum(-1)  # (B, T)
    smallest = per_code(agreement, frames_per_code).amin(-1)
    return torch.where(smallest >= 0, torch.ones_like(smallest), smallest)


def _soft_sign(x: Tensor) -> Tensor:
    return x / (x.abs() + 1e-5)


def reward(pose: Tensor, beats: Tensor, frames_per_code: int, config: RewardConfig) -> dict[str, Tensor]:
    """Per code (B, T'): the `reward` and its parts, `beat_reward` and, if weighted, `consistency`.

    Args:
        pose: decoded (B, T, J*3), T = T' * frames_per_code.
        beats: (B, T) music beat flags.
        frames_per_code: how many frames one code stands for.
        config: what counts.
    """
    parts = {"beat_reward": beat_reward(pose, beats, frames_per_code, config.beats)}
    total = parts["beat_reward"]
    if config.consistency > 0:
        parts["consistency"] = consistency_reward(pose, frames_per_code, config.lower_sign)
        total = total + config.consistency * parts["consistency"]
    return {"reward": total, **parts}
