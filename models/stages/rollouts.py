"""What finetuning goes through in an epoch: the policy's dances, and batches of their windows."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from datasets.loading import map_tensors, split_batch
from datasets.rollouts import Windows
from models.vqvae import Codes
from utils.training import distributed


class Rollout(NamedTuple):
    """A batch of windows, the reward (B, S - 2) of their actions, and whose turn it is.

    For a part of a batch, `weight` is the mask's sum of the mean part; None is the batch's own.
    """

    windows: Windows
    reward: Tensor
    policy_turn: bool
    weight: Tensor | None = None


Dance = tuple[Windows, dict[str, Tensor]]  # its windows; the reward (N, S - 2) of actions, and its parts


def mean_earned(dances: Sequence[Dance]) -> dict[str, float]:
    """Mean reward of the actions that count, and its parts."""
    counted = torch.cat([windows.mask for windows, _ in dances])
    return {
        name: float((torch.cat([parts[name] for _, parts in dances]) * counted).sum() / counted.sum())
        for name in dances[0][1]
    }


class Composed(NamedTuple):
    """A dance of the policy: the number of its piece, codes (L,), reward (N, S - 2) and its parts."""

    piece: int
    codes: Codes
    earned: Mapping[str, Tensor]

    def plain(self) -> dict[str, Any]:
        """As plain containers and tensors, for a checkpoint."""
        earned = {name: part.contiguous() for name, part in self.earned.items()}
        return {"piece": self.piece, "codes": tuple(self.codes), "earned": earned}

    @classmethod
    def from_plain(cls, content: Mapping[str, Any]) -> "Composed":
        """The inverse of `plain`."""
        return cls(content["piece"], Codes(*content["codes"]), content["earned"])


def split_rollout(batch: Rollout, parts: int) -> list[Rollout]:
    """Parts of a batch whose mean loss is the batch's.

    Raises:
        ValueError: if it does not divide.
    """
    weight = batch.windows.mask.sum() / parts
    windows, earned = split_batch(batch.windows, parts), split_batch(batch.reward, parts)
    return [Rollout(w, r, batch.policy_turn, weight) for w, r in zip(windows, earned, strict=True)]


class Rollouts:
    """The batches of one epoch: windows in a random order, policy and value in turn."""

    def __init__(
        self, dances: Sequence[Dance], batches: Sequence[Sequence[int]], turn: int, pinned: bool
    ) -> None:
        self.dances, self.turn, self.pinned, self.done = dances, turn, pinned, 0
        places = [(d, w) for d, (windows, _) in enumerate(dances) for w in range(len(windows.upper))]
        self.batches = [[places[i] for i in distributed.share(list(batch))] for batch in batches]

    def skip(self, done: int) -> None:
        """Leaves out the first batches; turns stay as they were."""
        self.done = done

    def __len__(self) -> int:
        return len(self.batches) - self.done

    def __iter__(self) -> Iterator[Rollout]:
        for number, places in list(enumerate(self.batches))[self.done :]:
            columns = zip(*(tuple(field[w] for field in self.dances[d][0]) for d, w in places), strict=True)
            windows = Windows(*(torch.stack(column) for column in columns))
            earned = torch.stack([self.dances[d][1]["reward"][w] for d, w in places])
            policy_turn = number // self.turn % 2 == 0
            if self.pinned:  # so that a GPU fetches them by itself
                windows, earned = map_tensors(windows, torch.Tensor.pin_memory), earned.pin_memory()
            yield Rollout(windows, earned, policy_turn)
