"""Policy and value on one frozen base; TD error, policy loss and value loss as pure functions.

Source: Bailando (CVPR 2022), section 3.5. The policy is the motion GPT; the value is a third stack on the
output of its base, one number per half, added.
"""

from typing import Any, NamedTuple

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from models.gpt import Head, Logits, MotionGPT, initialise
from utils.config import ConfigModel
from utils.training import distributed


class ValueConfig(ConfigModel):
    """Sizes of the value stack; its width and heads are the GPT's."""

    blocks: PositiveInt = 3
    """Transformer blocks."""


class ActorCritic(nn.Module):
    """The motion GPT and a value stack on its base. The base never learns here, and nothing drops out."""

    def __init__(self, gpt: MotionGPT, config: ValueConfig) -> None:
        super().__init__()
        self.config = config
        self.gpt = gpt
        self.value = Head(gpt.config, config.blocks, outputs=(1, 1))
        initialise(self.value)  # Differs from the released code, which starts from uniform weights in [a, 1].
        self.gpt.base.requires_grad_(False)

    def train(self, mode: bool = True) -> "ActorCritic":
        """Nothing drops out while finetuning: the model stays in eval mode."""
        return super().train(False)

    def architecture(self) -> dict[str, Any]:
        """What a checkpoint must hold to build this model again."""
        return {**self.gpt.architecture(), "value_blocks": self.config.blocks}

    @classmethod
    def from_architecture(cls, architecture: dict[str, Any], source: str = "architecture") -> "ActorCritic":
        """The model a checkpoint describes, with fresh weights."""
        gpt = MotionGPT.from_architecture(architecture, source)
        return cls(gpt, ValueConfig(blocks=architecture["value_blocks"]))

    def policy(self, features: Tensor) -> Logits:
        """Logits of the next codes from the base's features (B, 3t, C)."""
        return self.gpt.head(features)

    def values(self, features: Tensor) -> Tensor:
        """State values (B, t) from the base's features (B, 3t, C)."""
        upper, lower = self.value(features)
        return (upper + lower).squeeze(-1).float()

    def forward(self, features: Tensor, part: str) -> Logits | Tensor:
        """`policy` or `values` of the base's features: one entry for every kind of training step."""
        return self.policy(features) if part == "policy" else self.values(features)


def first_steps(features: Tensor, steps: int) -> Tensor:
    """Of the base's features (B, 3t, C) the first steps', (B, 3*steps, C); equal, as the mask is causal."""
    return features.unflatten(1, (3, -1))[:, :, :steps].flatten(1, 2)


def td_error(reward: Tensor, values: Tensor, discount: float = 1.0) -> Tensor:
    """reward[i] + discount * values[i+1] - values[i], target detached: (B, t), as reward; values (B, t+1)."""
    return reward + discount * values[:, 1:].detach() - values[:, :-1]


def policy_loss(action_loss: Tensor, advantage: Tensor, mask: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean over the mask of -log p(action) * advantage; all (B, t), the advantage detached.

    With several processes, weight is the mean of their mask sums: the mean of their losses is the joined one.
    """
    return (action_loss * advantage.detach() * mask).sum() / (mask.sum() if weight is None else weight)


class Moments(NamedTuple):
    """Mean and deviation, scalars."""

    mean: Tensor
    deviation: Tensor


def moments(advantage: Tensor, mask: Tensor) -> Moments:
    """Of the advantage (B, t) over the mask of all processes' batches."""
    weight = distributed.sum_over_processes(mask.sum())
    mean = distributed.sum_over_processes((advantage * mask).sum()) / weight
    variance = distributed.sum_over_processes(((advantage - mean).square() * mask).sum()) / weight
    return Moments(mean, variance.sqrt())


def normalise(advantage: Tensor, by: Moments) -> Tensor:
    """The advantage (B, t) with mean 0 and deviation 1, if the moments are its own."""
    return (advantage - by.mean) / (by.deviation + 1e-6)


def value_loss(error: Tensor) -> Tensor:
    """Mean squared TD error."""
    return error.square().mean()


def divergence(policy: Logits, anchor: Logits) -> Tensor:
    """(B, t) nats by which a policy departs from another: KL(policy || anchor) of both halves, added."""

    def kl(ours: Tensor, theirs: Tensor) -> Tensor:
        log_p, log_q = torch.log_softmax(ours.float(), -1), torch.log_softmax(theirs.float(), -1)
        return (log_p.exp() * (log_p - log_q)).sum(-1)

    return kl(policy.upper, anchor.upper) + kl(policy.lower, anchor.lower)


def policy_entropy(logits: Logits) -> Tensor:
    """(B, t) entropy in nats of both halves' distributions, added."""

    def entropy(x: Tensor) -> Tensor:
        log_p = torch.log_softmax(x.float(), -1)
        return -(log_p.exp() * log_p).sum(-1)

    return entropy(logits.upper) + entropy(logits.lower)
