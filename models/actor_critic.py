"""Policy and value on one frozen base; the losses of both algorithms as pure functions.

Actor-critic: Bailando (CVPR 2022), section 3.5. The policy is the motion GPT. The value is a third stack on
the output of its base: one number per half, summed. GRPO: DeepSeekMath (arXiv 2402.03300), section 4.1, which
needs no value: an action is compared with those of other dances to the same song.
"""

from typing import Any

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from models.gpt import Head, Logits, MotionGPT, code_losses, initialise
from models.vqvae import Codes
from utils.config import ConfigModel
from utils.training import distributed


class ValueConfig(ConfigModel):
    """Architecture of the value stack; its width and heads are the GPT's."""

    blocks: PositiveInt = 3
    """Number of transformer blocks."""


class ActorCritic(nn.Module):
    """The motion GPT and a value stack on its base.

    The base and what is before it are frozen, and dropout is off.
    """

    has_unused_parameters = True  # a step trains the policy or the value

    def __init__(self, gpt: MotionGPT, config: ValueConfig) -> None:
        super().__init__()
        self.config = config
        self.gpt = gpt
        self.value = Head(gpt.config, config.blocks, outputs=(1, 1))
        # Differs from the published code, which starts from uniform weights in [a, 1].
        initialise(self.value)
        self.gpt.base.requires_grad_(False)
        if self.gpt.music is not None:
            self.gpt.music.requires_grad_(False)

    def train(self, mode: bool = True) -> "ActorCritic":
        """Stay in eval mode, whatever the mode: finetuning uses no dropout."""
        return super().train(False)

    def architecture(self) -> dict[str, Any]:
        """Return what a checkpoint must hold to build this model again."""
        return {**self.gpt.architecture(), "value_blocks": self.config.blocks}

    @classmethod
    def from_architecture(cls, architecture: dict[str, Any], source: str = "architecture") -> "ActorCritic":
        """Return the model of a checkpoint, with newly initialised weights."""
        gpt = MotionGPT.from_architecture(architecture, source)
        return cls(gpt, ValueConfig(blocks=architecture["value_blocks"]))

    def policy(self, features: Tensor) -> Logits:
        """Return logits of the next codes, (B, t, K) each, from the base's features (B, 3t, C)."""
        return self.gpt.head(features)

    def values(self, features: Tensor) -> Tensor:
        """Return state values (B, t) from the base's features (B, 3t, C)."""
        upper, lower = self.value(features)
        return (upper + lower).squeeze(-1).float()

    def forward(self, features: Tensor, part: str) -> Logits | Tensor:
        """Return the `policy` or the `values` of features; wrappers of the module need a single entry."""
        return self.policy(features) if part == "policy" else self.values(features)


def first_steps(features: Tensor, steps: int) -> Tensor:
    """Return the features (B, 3*steps, C) of the first steps of (B, 3t, C).

    They equal the base's output for those steps alone, since its mask is causal.
    """
    return features.unflatten(1, (3, -1))[:, :, :steps].flatten(1, 2)


def td_error(reward: Tensor, values: Tensor, discount: float = 1.0) -> Tensor:
    """Return reward[i] + discount * values[i+1] - values[i], (B, t), the target detached.

    Args:
        reward: (B, t).
        values: (B, t+1).
        discount: factor of the next state's value.
    """
    return reward + discount * values[:, 1:].detach() - values[:, :-1]


def action_nll(logits: Logits, actions: Codes, temperature: float = 1.0) -> Tensor:
    """Return -log p (B, t) in nats of actions (B, t), both halves added, with logits over a temperature."""
    if temperature != 1:
        logits = Logits(logits.upper / temperature, logits.lower / temperature)
    upper, lower = code_losses(logits, actions)
    return upper + lower


def policy_loss(nll: Tensor, advantage: Tensor, mask: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the mean over the mask of -log p(action) * advantage; all (B, t), the advantage detached.

    With several processes, weight is the mean of their mask sums: the mean of their losses is then the loss
    of the joined batch.
    """
    return (nll * advantage.detach() * mask).sum() / (mask.sum() if weight is None else weight)


def normalise(advantage: Tensor, mask: Tensor) -> Tensor:
    """Return the advantage (B, t) with mean 0 and std 1 over the mask, over all processes' batches."""
    count = distributed.sum_over_processes(mask.sum())
    mean = distributed.sum_over_processes((advantage * mask).sum()) / count
    variance = distributed.sum_over_processes(((advantage - mean).square() * mask).sum()) / count
    return (advantage - mean) / (variance.sqrt() + 1e-6)


def returns(rewards: Tensor, discount: float, look_back: int = 1) -> Tensor:
    """Return the discounted return (..., L) of each action from the rewards (..., L) of a dance's codes.

    return[i] = sum over k >= i - look_back of discount^(k - i + look_back) * reward[k]. A code changes the
    decoded motion of the code before it, too, and decides whether a motion beat there is one: by default the
    reward of that code counts as well.
    """
    found = rewards.clone()
    for i in range(rewards.shape[-1] - 2, -1, -1):
        found[..., i] += discount * found[..., i + 1]
    indices = (torch.arange(rewards.shape[-1]) - look_back).clamp(min=0)
    return found[..., indices.to(rewards.device)]


def group_advantage(returns: Tensor) -> Tensor:
    """Return the advantage (G, L) of each action within a group of dances to one song, from its return.

    The mean over the group is subtracted action by action, as all dances of a group are at the same place of
    the same music, and the result divided by its standard deviation over the group.
    Differs from the paper, which normalises the rewards of all steps together before it sums them.
    """
    centred = returns - returns.mean(0)
    return centred / (centred.square().mean().sqrt() + 1e-6)


def clipped_policy_loss(
    nll: Tensor,
    behaviour_nll: Tensor,
    advantage: Tensor,
    mask: Tensor,
    clip: float,
    weight: Tensor | None = None,
) -> Tensor:
    """Return the clipped surrogate loss of PPO and GRPO (equation 3), the mean over the mask; all (B, t).

    -min(ratio * advantage, clamp(ratio, 1 - clip, 1 + clip) * advantage), with ratio = p(action) under the
    policy over that under the policy which drew the dances.

    Args:
        nll: -log p of the actions under the policy, nats.
        behaviour_nll: the same under the policy that drew them.
        advantage: of the actions; no gradient flows into it.
        mask: which actions count.
        clip: largest distance of the ratio from 1.
        weight: as in `policy_loss`.
    """
    ratio = (behaviour_nll - nll).exp()
    gain = torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
    return -(gain * mask).sum() / (mask.sum() if weight is None else weight)


def value_loss(error: Tensor) -> Tensor:
    """Return the mean squared TD error."""
    return error.square().mean()


def explained_variance(error: Tensor, values: Tensor) -> Tensor:
    """Return the share of the variance of the TD targets that the values (B, t+1) explain; at most 1.

    It is 1 if the TD errors (B, t) are 0, and 0 if the values are as good as a constant.
    """
    targets = (error + values[:, :-1]).detach()
    return 1 - error.detach().var() / targets.var()


def divergence(policy: Logits, reference: Logits) -> Tensor:
    """Return KL(policy || reference) in nats per code, (B, t), both halves added."""

    def kl(ours: Tensor, theirs: Tensor) -> Tensor:
        log_p, log_q = torch.log_softmax(ours.float(), -1), torch.log_softmax(theirs.float(), -1)
        return (log_p.exp() * (log_p - log_q)).sum(-1)

    return kl(policy.upper, reference.upper) + kl(policy.lower, reference.lower)


def policy_entropy(logits: Logits) -> Tensor:
    """Return the entropy in nats of both halves' distributions, (B, t), added."""

    def entropy(x: Tensor) -> Tensor:
        log_p = torch.log_softmax(x.float(), -1)
        return -(log_p.exp() * log_p).sum(-1)

    return entropy(logits.upper) + entropy(logits.lower)
