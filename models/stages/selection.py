"""Select the epoch of the actor-critic: the last, or the highest reward subject to an NLL constraint.

The published recipe trains for a fixed number of epochs, and users report that its dances degrade soon after.
The reward measures agreement with the beat alone. The pretrained GPT, which models real dances, measures the
rest: an epoch is rejected if the negative log-likelihood (NLL) of its dances under that GPT exceeds the NLL
of the GPT's own dances by more than a margin. `models.checkpoints` loads the selected weights for --eval,
--dance and later stages.
"""

import copy
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from models.actor_critic import ActorCritic
from models.gpt import MotionGPT, code_losses
from models.stages.rollouts import Windows
from models.vqvae import Codes
from utils.config import ConfigModel

log = logging.getLogger(__name__)
_STRIDE = 8  # The last 8 codes of each window count; windows start 8 codes apart, so each code counts once.


class SelectionConfig(ConfigModel):
    """Selection of the epoch whose weights are used."""

    renamed: ClassVar[Mapping[str, str]] = {"guard": "max_nll_increase"}

    by: Literal["last", "reward"] = "last"
    """`last` uses the last epoch, as published. `reward` uses the epoch with the highest reward among those
    that satisfy max_nll_increase; the pretrained GPT is a candidate too."""
    songs: str | None = None
    """The split whose songs are used to compare epochs, e.g. held-out ones; null uses the target songs."""
    max_songs: PositiveInt | None = None
    """Number of these songs, at equal distances in the split, that are used; null uses all."""
    max_nll_increase: NonNegativeFloat | None = None
    """Largest NLL of an epoch's dances under the pretrained GPT, in nats per code above the NLL of that GPT's
    own dances; null accepts all epochs."""
    patience: NonNegativeInt = 0
    """Epochs without improvement after which training stops; 0 never stops it."""


@torch.no_grad()
def nll(gpt: MotionGPT, dances: Sequence[Windows], device: torch.device, batch_size: int) -> float:
    """Return the mean NLL of dances under a GPT, -log p(code), in nats per code, both halves added.

    Args:
        gpt: in eval mode.
        dances: all windows of each dance, one code apart.
        device: device of the GPT.
        batch_size: windows at a time.
    """
    windows = [torch.cat([dance[i][::_STRIDE] for dance in dances]) for i in range(3)]
    total, count = 0.0, 0
    for upper, lower, music in zip(*(part.split(batch_size) for part in windows), strict=True):
        upper, lower, music = upper.to(device), lower.to(device), music.to(device)
        logits = gpt(music[:, 1:], Codes(upper[:, :-1], lower[:, :-1]))
        nll_upper, nll_lower = code_losses(logits, Codes(upper[:, 1:], lower[:, 1:]))
        last = (nll_upper + nll_lower)[:, -_STRIDE:]
        total, count = total + float(last.sum()), count + last.numel()
    return total / count


class Selection:
    """The selected epoch so far, and its weights."""

    def __init__(self, config: SelectionConfig) -> None:
        self.config = config
        self.epoch, self.reward, self.epochs_without_improvement = -1, -math.inf, 0
        self.initial_nll = math.nan  # NLL of the pretrained GPT's own dances
        self.weights: dict[str, Tensor] = {}

    @property
    def max_nll(self) -> float:
        """The largest NLL, in nats per code, of an epoch that may be selected."""
        increase = self.config.max_nll_increase
        return math.inf if increase is None else self.initial_nll + increase

    def update(self, epoch: int, reward: float, nll: float, model: nn.Module) -> None:
        """Consider an epoch; epoch 0, the pretrained GPT, must come first and defines the NLL limit.

        Args:
            epoch: number of epochs that the weights were trained for.
            reward: mean reward of an action.
            nll: see `nll`.
            model: the model with these weights.
        """
        if epoch == 0:
            self.initial_nll = nll
        if nll > self.max_nll:
            log.info("epoch %d is not selected: NLL %.2f above %.2f nats per code", epoch, nll, self.max_nll)
        if nll <= self.max_nll and reward > self.reward:
            self.epoch, self.reward, self.epochs_without_improvement = epoch, reward, 0
            self.weights = copy.deepcopy(model.state_dict())
        else:
            self.epochs_without_improvement += 1

    @property
    def finished(self) -> bool:
        """Whether the patience is exhausted."""
        return 0 < self.config.patience <= self.epochs_without_improvement

    def selected(self, model: ActorCritic) -> ActorCritic:
        """Return a copy of the model with the selected weights, or the model if the last epoch is used."""
        if self.config.by == "last":
            return model
        selected = copy.deepcopy(model)
        selected.load_state_dict(self.weights)
        return selected

    def summary(self, epochs: int) -> dict[str, Any]:
        """Return which of the trained epochs is selected, and the criterion, for reports."""
        if self.config.by == "last":
            return {"epochs": epochs, "selected epoch": epochs, "selected by": "last"}
        found: dict[str, Any] = {"epochs": epochs, "selected epoch": self.epoch, "selected by": "reward"}
        limited = self.config.max_nll_increase is not None
        return found | ({"nll at most": round(self.max_nll, 4)} if limited else {})

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {name: getattr(self, name) for name in _STATE}

    def load_state_dict(self, state: Mapping[str, Any], max_nll_increase: float | None) -> None:
        """Restore the state; further epochs are compared under this config's max_nll_increase.

        Args:
            state: see `state_dict`. Format 2 has other names, and format 1 the limit instead of initial_nll.
            max_nll_increase: value in the config of the checkpoint.

        Raises:
            ValueError: if the value changed and the checkpoint does not hold the NLL that it is added to.
        """
        state = {_STATE_RENAMED.get(name, name): value for name, value in state.items()}
        if "limit" in state:
            limit = state.pop("limit")
            state["initial_nll"] = math.nan if max_nll_increase is None else limit - max_nll_increase
        for name in _STATE:
            setattr(self, name, state[name])
        if self.config.max_nll_increase is not None and math.isnan(self.initial_nll):
            raise ValueError(
                f"selection.max_nll_increase ({max_nll_increase} -> {self.config.max_nll_increase}): the "
                "checkpoint, of an earlier version, does not hold the NLL of the pretrained GPT's dances, to "
                "which it is added; restore the value, or train under another name (name=...)"
            )


_STATE = ("epoch", "reward", "epochs_without_improvement", "initial_nll", "weights")
_STATE_RENAMED = {"waited": "epochs_without_improvement", "start": "initial_nll"}
