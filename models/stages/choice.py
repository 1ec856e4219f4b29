"""Which epoch of the actor-critic counts: the last one, or the best by reward under a guard of quality.

The published recipe trains for a fixed number of epochs and picks one by eye; users report that it falls
apart soon after. What a dance earns says how well it meets the beat and nothing else, so the guard asks the
pretrained GPT, which knows how people dance: an epoch whose dances it finds much less likely than its own
does not count, however well they meet the beat.
"""

import copy
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import NonNegativeFloat, NonNegativeInt
from torch import Tensor, nn

from datasets.rollouts import Windows
from models.gpt import MotionGPT, code_losses
from models.vqvae import Codes
from utils.config import ConfigModel

log = logging.getLogger(__name__)
_EACH = 8  # codes per window that count towards the surprise; windows start so many codes apart


class ChoiceConfig(ConfigModel):
    """Which epoch's weights count."""

    by: Literal["last", "reward"] = "last"
    """`last`, as released, or the one of the highest `reward` among those the guard lets pass, the pretrained
    GPT itself included."""
    songs: str | None = None
    """The split on whose songs epochs are judged, e.g. held-out ones; null: those it trains on."""
    guard: NonNegativeFloat | None = None
    """Nats per code by which its dances may surprise the pretrained GPT more than that one's own do; null
    lets everything pass."""
    patience: NonNegativeInt = 0
    """Epochs without a better one before training stops; 0 never stops."""


@torch.no_grad()
def surprise(gpt: MotionGPT, dances: Sequence[Windows], device: torch.device, batch_size: int) -> float:
    """Nats per code, both halves added, by which dances surprise a GPT: -log p(code), its mean.

    Args:
        gpt: in eval mode.
        dances: all windows of each dance, one code apart.
        device: of the GPT.
        batch_size: windows at a time.
    """
    windows = [torch.cat([dance[i][::_EACH] for dance in dances]) for i in range(3)]
    total, count = 0.0, 0
    for upper, lower, music in zip(*(part.split(batch_size) for part in windows), strict=True):
        upper, lower, music = upper.to(device), lower.to(device), music.to(device)
        logits = gpt(music[:, 1:], Codes(upper[:, :-1], lower[:, :-1]))
        losses = code_losses(logits, Codes(upper[:, 1:], lower[:, 1:]))
        counted = sum(losses)[:, -_EACH:]  # type: ignore[index]
        total, count = total + float(counted.sum()), count + counted.numel()
    return total / count


class Choice:
    """Keeps the weights of the epoch that counts; its state is part of the checkpoint."""

    def __init__(self, config: ChoiceConfig) -> None:
        self.config = config
        self.epoch, self.reward, self.waited = -1, -float("inf"), 0
        self.start = float("nan")  # surprise of the pretrained GPT's own dances
        self.weights: dict[str, Tensor] = {}

    @property
    def limit(self) -> float:
        """The surprise up to which an epoch counts."""
        return float("inf") if self.config.guard is None else self.start + self.config.guard

    def judge(self, epoch: int, reward: float, surprise: float, model: nn.Module) -> None:
        """Takes note of an epoch; epoch 0, the pretrained GPT, comes first and sets the guard.

        Args:
            epoch: how many epochs the weights were trained for.
            reward: mean of an action.
            surprise: see `surprise`.
            model: whose weights they are.
        """
        if epoch == 0:
            self.start = surprise
        if surprise > self.limit:
            log.info("epoch %d does not count: surprise %.2f above %.2f nats", epoch, surprise, self.limit)
        if surprise <= self.limit and reward > self.reward:
            self.epoch, self.reward, self.waited = epoch, reward, 0
            self.weights = copy.deepcopy(model.state_dict())
        else:
            self.waited += 1

    @property
    def finished(self) -> bool:
        """Whether there was no better epoch for as many as the patience allows."""
        return 0 < self.config.patience <= self.waited

    def best(self, model: nn.Module) -> nn.Module:
        """A copy of the model with the weights of the epoch that counts; itself, if that is the last."""
        if self.config.by == "last":
            return model
        best = copy.deepcopy(model)
        best.load_state_dict(self.weights)
        return best

    def facts(self, epochs: int) -> dict[str, Any]:
        """Which of so many epochs counts, and why."""
        if self.config.by == "last":
            return {"epochs": epochs, "chosen epoch": epochs, "chosen by": "last"}
        facts: dict[str, Any] = {"epochs": epochs, "chosen epoch": self.epoch, "chosen by": "reward"}
        return facts | ({} if self.config.guard is None else {"surprise at most": round(self.limit, 4)})

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        names = ("epoch", "reward", "waited", "start", "weights")
        return {name: getattr(self, name) for name in names}

    def restore(self, state: Mapping[str, Any], guard: float | None) -> None:
        """The state as a checkpoint had it; epochs from here on are judged by this config's guard.

        Args:
            state: see `state`; of earlier versions it has the `limit` in place of `start`.
            guard: under which it was saved.

        Raises:
            ValueError: if the guard changed and an earlier version's state does not tell what it adds to.
        """
        state = dict(state)
        if "limit" in state:
            limit = state.pop("limit")
            state["start"] = float("nan") if guard is None else limit - guard
        for name, value in state.items():
            setattr(self, name, value)
        if self.config.guard is not None and math.isnan(self.start):
            raise ValueError(
                f"choice.guard ({guard} -> {self.config.guard}): the checkpoint, of an earlier version, does "
                "not hold the surprise of the pretrained GPT, to which it is added; put it back, or train "
                "under another name (name=...)"
            )
