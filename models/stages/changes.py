"""Config changes when training resumes: each changed key takes effect at a defined moment, or is refused.

Every key is in one of the groups of `GROUPS`. Keys of a new stage take effect at once, since it reads them
from its config, except those below `model`, which are refused. Keys that name data or checkpoints are
compared by content: a folder may be moved, and a file that was trained again at the same path is detected.
"""

import hashlib
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple

import torch
from pydantic import ValidationError
from torch import Tensor

from utils.config import ConfigModel, current_keys, to_plain

Group = Literal["refused", "epoch", "dances", "at once", "no part"]

# The first pattern that matches a key decides; docs/FAQ.md explains the groups.
GROUPS: tuple[tuple[Group, tuple[str, ...]], ...] = (
    (
        "at once",
        (
            "model.dropout",
            "model.music_transformer.dropout",
            "model.codebook.decay",
            "model.codebook.restarts",
            "model.codebook.dead_code_threshold",
        ),
    ),
    (
        "refused",
        (
            "stage",
            "model",
            "model.*",
            "value.*",
            "vqvae",
            "gpt",
            "selection.by",
            "selection.songs",
            "selection.max_songs",
        ),
    ),
    (
        "epoch",
        (
            "seed",
            "data.root",
            "data.clips.*",
            "training.batch_size",
            "songs",
            "songs_per_epoch",
            "turn",
            "algorithm",
            "grpo.temperature",
        ),
    ),
    ("dances", ("reward.*", "generation.*", "grpo.group_size")),
    (
        "no part",
        ("name", "output", "device", "checkpoint", "dance", "dance.*", "sample.*", "visgt.*", "evaluation.*"),
    ),
    ("at once", ("*",)),
)
# With other values, rewards cannot be compared with that of the selected epoch.
COMPARED = ("reward.*", "songs", "data.root")


class Change(NamedTuple):
    """A key whose value differs, and both values."""

    key: str
    then: Any
    now: Any

    def __str__(self) -> str:
        if self.then == self.now:
            return f"{self.key} ({self.now}, whose content differs)"
        return f"{self.key} ({self.then} -> {self.now})"


class Changes(NamedTuple):
    """Accepted changes, by the moment from which they take effect."""

    at_once: list[Change]
    next_epoch: list[Change]


def group_of(key: str) -> Group:
    """Return the group of a key."""
    return next(group for group, patterns in GROUPS if _matches(key, patterns))


def _matches(key: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a config of plain containers with dotted keys: `training.lr` -> value."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """Return a SHA-256 of a state dict: names, types, shapes and values, in the order of the names."""
    digest = hashlib.sha256()
    for name, values in sorted(state.items()):
        values = values.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def saved_values(cls: type[ConfigModel], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checkpoint's config with present names of keys and values, and dotted keys."""
    renamed = current_keys(cls, config)
    try:
        present = flat(to_plain(cls.model_validate(renamed)))
    except ValidationError:  # e.g. a key without default that was added since
        return flat(renamed)
    return {key: present[key] for key in flat(renamed) if key in present}


def find_changes(
    content: Mapping[str, Any], config: ConfigModel, built_on: Mapping[str, str]
) -> list[Change]:
    """Return the differences between the config of a checkpoint and the present one.

    A key that only one of them has, because they are of different versions, is no change.

    Args:
        content: the checkpoint: its `config`, and its `built_on` unless it is of an older version.
        config: the present config.
        built_on: key that is compared by content -> hash of that content now.
    """
    then, now = saved_values(type(config), content["config"]), flat(to_plain(config))
    hashes = content.get("built_on", {})

    def same(key: str) -> bool:
        if key in hashes and key in built_on:
            return hashes[key] == built_on[key]
        return then[key] == now[key]

    return [Change(key, then[key], now[key]) for key in now if key in then and not same(key)]


def check_changes(changes: list[Change], checkpoint: str, epoch: int, batch: int, compares: bool) -> Changes:
    """Return the changes that take effect, by the moment from which they do.

    Args:
        changes: see `find_changes`.
        checkpoint: path of the checkpoint.
        epoch: number of epochs done.
        batch: number of batches done of the next epoch.
        compares: whether an epoch is selected by reward.

    Raises:
        ValueError: naming every key that cannot change.
    """
    refused = [c for c in changes if group_of(c.key) == "refused" or (compares and _matches(c.key, COMPARED))]
    if refused:
        raise ValueError(
            f"{checkpoint} was trained with other values of {_listed(refused)}, which decide what its "
            "weights, or its selected epoch, mean: training cannot resume with the new ones. "
            "Restore them, or train under another name (name=...)"
        )
    within = [change for change in changes if batch and group_of(change.key) == "epoch"]
    if within:
        raise ValueError(
            f"{checkpoint} was saved within epoch {epoch + 1}, after {batch} of its batches, and "
            f"{_listed(within)} would change which ones are left. Restore the value and train with "
            f"training.epochs={epoch + 1} to the end of the epoch; then it can be changed"
        )
    effective = [change for change in changes if group_of(change.key) != "no part"]
    later = [change for change in effective if batch and group_of(change.key) == "dances"]
    return Changes([change for change in effective if change not in later], later)


def _listed(changes: list[Change]) -> str:
    return ", ".join(map(str, changes))
