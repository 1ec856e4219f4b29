"""What may change in a config before training is resumed: the new value counts, or the key is refused.

Every key is in one of the groups of `GROUPS`; those of a new stage count at once, as it reads them from its
config, except below `model`, where they are refused. What a key names (data, a memory, a GPT) is compared by
its content, so a folder may be moved, and a file that was made again at the same place does not pass.
"""

import hashlib
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

Group = Literal["refused", "chosen", "epoch", "dances", "at once", "no part"]

# The first pattern that fits a key decides; docs/FAQ.md explains the groups.
GROUPS: tuple[tuple[Group, tuple[str, ...]], ...] = (
    (
        "at once",
        (
            "model.dropout",
            "model.codebook.decay",
            "model.codebook.restarts",
            "model.codebook.dead_code_threshold",
        ),
    ),
    ("refused", ("stage", "model", "model.*", "value.*", "vqvae", "gpt", "choice.by", "choice.songs")),
    ("epoch", ("seed", "data.root", "data.clips.*", "training.batch_size", "songs", "turn")),
    ("dances", ("reward.*", "generation.*")),
    ("no part", ("name", "output", "device", "checkpoint", "dance", "dance.*", "sample.*", "evaluation.*")),
    ("at once", ("*",)),
)
# Rewards measured otherwise cannot be compared with that of the best epoch so far.
COMPARED = ("reward.*", "songs", "data.root")


class Change(NamedTuple):
    """A key whose value differs, and both values."""

    key: str
    then: Any
    now: Any

    def __str__(self) -> str:
        if self.then == self.now:
            return f"{self.key} ({self.now}, which holds something else now)"
        return f"{self.key} ({self.then} -> {self.now})"


class Counting(NamedTuple):
    """The changes that count, by the moment from which they do."""

    at_once: list[Change]
    next_epoch: list[Change]

    @property
    def new_seed(self) -> bool:
        """Whether what is random starts from another seed."""
        return any(change.key == "seed" for change in self.at_once)


def group_of(key: str) -> Group:
    """The group of a key."""
    return next(group for group, patterns in GROUPS if _fits(key, patterns))


def _fits(key: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A config as plain containers, its sections resolved: `training.lr` -> value."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """Hash of a state dict: names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        values = value.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def find_changes(
    content: Mapping[str, Any], config: Mapping[str, Any], built_on: Mapping[str, str]
) -> list[Change]:
    """What differs between the config of a checkpoint and the present one.

    A key that only one of them has, as where they are of different versions, is no change.

    Args:
        content: the checkpoint: its `config`, and `built_on` if it is not of an older version.
        config: the present config as plain containers.
        built_on: key of what is compared by content -> hash of what it names now.
    """
    then, now = flat(content["config"]), flat(config)
    hashes = content.get("built_on", {})

    def same(key: str) -> bool:
        if key in hashes and key in built_on:
            return hashes[key] == built_on[key]
        return then[key] == now[key]

    return [Change(key, then[key], now[key]) for key in now if key in then and not same(key)]


def check_changes(
    changes: list[Change], checkpoint: str, epoch: int, batch: int, comparing: bool
) -> Counting:
    """The changes that count, by the moment from which they do.

    Args:
        changes: see `find_changes`.
        checkpoint: its path.
        epoch: how many are done.
        batch: how many batches of the next one are done.
        comparing: whether epochs are compared by their reward, to choose one.

    Raises:
        ValueError: naming every key whose change cannot count.
    """
    refused = [c for c in changes if group_of(c.key) == "refused" or (comparing and _fits(c.key, COMPARED))]
    if refused:
        raise ValueError(
            f"{checkpoint} was trained with other values of {_listed(refused)}, which decide what its "
            "weights, or its choice of the best epoch, mean: training cannot go on with the new ones. "
            "Put them back, or train under another name (name=...)"
        )
    within = [change for change in changes if batch and group_of(change.key) == "epoch"]
    if within:
        raise ValueError(
            f"{checkpoint} was saved within epoch {epoch + 1}, after {batch} of its batches, and "
            f"{_listed(within)} would change which ones are left. Put it back and train with "
            f"training.epochs={epoch + 1} to the end of the epoch; then it can be changed"
        )
    taking_part = [change for change in changes if group_of(change.key) != "no part"]
    later = [change for change in taking_part if batch and group_of(change.key) == "dances"]
    return Counting([change for change in taking_part if change not in later], later)


def _listed(changes: list[Change]) -> str:
    return ", ".join(map(str, changes))
