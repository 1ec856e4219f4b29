"""Which weights count when a finetuned GPT is judged: the run's own best epoch, or a published file."""

import logging
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from models.published.conversion import is_published, load_either

log = logging.getLogger(__name__)


class Names(Protocol):
    """What of a config decides it."""

    # ruff: noqa: D102
    gpt: str
    checkpoint: str | None

    @property
    def checkpoint_path(self) -> Path: ...
    def made_by(self, path: Path) -> str: ...


class Counted(NamedTuple):
    """Weights, and what they are.

    Attributes:
        path: of the file they are from.
        stage: `actor_critic`, or `motion_gpt` where a published GPT is judged as it is.
        architecture: of the model.
        weights: its state dict.
        epoch: how many epochs the run has done.
        published: whether it is a published file that counts in place of the run's own checkpoint.
    """

    path: Path
    stage: str
    architecture: dict[str, Any]
    weights: dict[str, Tensor]
    epoch: int
    published: bool


def counted(config: Names) -> Counted:
    """The published file that `gpt` names if it is finetuned, or if the run has no checkpoint; else that one.

    Of a run's own checkpoint it is the best epoch, if epochs were chosen.

    Raises:
        FileNotFoundError: naming the command that makes the checkpoint, if there is none.
        ValueError: if the file is no such one.
    """
    path, own = Path(config.gpt), config.checkpoint_path
    if config.checkpoint is None and is_published(path):
        content = load_either(path, config.made_by(path), ("motion_gpt", "actor_critic"))
        if content["stage"] == "actor_critic" or not own.is_file():
            log.info("%s is evaluated as the %s", path, NAMES[content["stage"]])
            return _counted(path, content, True)
    content = load_either(own, config.made_by(own), ("actor_critic",))
    if "selection" in content:
        log.info("%s: epoch %d of %d is the best", own, content["selection"]["epoch"], content["epoch"])
    return _counted(own, content, False)


NAMES = {"motion_gpt": "GPT", "actor_critic": "actor-critic"}  # rows of the table


def _counted(path: Path, content: dict[str, Any], published: bool) -> Counted:
    weights = content["selection"]["weights"] if "selection" in content else content["model"]
    return Counted(path, content["stage"], content["architecture"], weights, int(content["epoch"]), published)
