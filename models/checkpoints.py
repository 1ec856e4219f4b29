"""Load trained weights, from checkpoints of this project and from published files alike.

Training, --eval and --dance load memories by `load_memory` and motion GPTs by `load_policy` or
`load_run_policy`. Where an epoch of finetuning was selected, its weights are the ones that are loaded.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from models.actor_critic import ActorCritic
from models.gpt import MotionGPT
from models.published.conversion import NETWORKS, from_published
from models.published.files import is_published, read_published
from models.vqvae import ChoreographicMemory
from utils.training.checkpoints import load_checkpoint, load_weights

log = logging.getLogger(__name__)
MEMORY_STAGES = ("sep_vqvae", "sep_vqvae_root", "sep_vqvae_root_mix")
POLICY_STAGES = ("motion_gpt", "actor_critic")
ROWS = {"motion_gpt": "GPT", "actor_critic": "actor-critic"}  # rows of evaluation tables


class PolicyConfig(Protocol):
    """Config fields that determine which motion GPT --eval and --dance use."""

    # ruff: noqa: D102
    checkpoint: str | None

    @property
    def other_gpt(self) -> Path | None: ...
    @property
    def checkpoint_path(self) -> Path: ...
    def made_by(self, path: Path) -> str: ...


class Policy(NamedTuple):
    """A trained motion GPT, pretrained or finetuned.

    Attributes:
        model: a MotionGPT of stage `motion_gpt`, an ActorCritic of stage `actor_critic`; in eval mode.
        path: the file.
        stage: `motion_gpt` or `actor_critic`.
        architecture: of the model, and the version of the music features that it was trained on (`music`).
        epoch: of the weights: the selected one, else the last one.
        epochs: how many the run has done.
        published: whether it is a published file.
        codes: `fingerprint_of_codes` of the memory that it was trained with; '' if that is not known.
    """

    model: MotionGPT | ActorCritic
    path: Path
    stage: str
    architecture: Mapping[str, Any]
    epoch: int
    epochs: int
    published: bool
    codes: str = ""

    @property
    def gpt(self) -> MotionGPT:
        """The motion GPT; of an actor-critic model its policy."""
        return self.model.gpt if isinstance(self.model, ActorCritic) else self.model


def read_checkpoint(path: Path, made_by: str, stages: tuple[str, ...]) -> dict[str, Any]:
    """The content of a checkpoint of ours, or that of a published file in the same form.

    Args:
        path: the file.
        made_by: the command that makes checkpoints of ours, for messages.
        stages: the stages whose checkpoints are accepted.

    Raises:
        FileNotFoundError: if it is missing.
        ValueError: if it is damaged, refused, of another architecture or of another stage.
    """
    if not is_published(path):
        return load_checkpoint(path, made_by, stages)
    content = from_published(read_published(path))
    if content["stage"] not in stages:
        raise ValueError(
            f"{path} is a published {NETWORKS[content['stage']]}; "
            f"here a {' or a '.join(NETWORKS[stage] for stage in stages)} is needed"
        )
    return content


def selected_weights(content: Mapping[str, Any]) -> tuple[Mapping[str, Tensor], int]:
    """State dict and epoch of the selected epoch of a checkpoint; of the last one if none was selected."""
    selection = content.get("selection")
    if selection is None:
        return content["model"], int(content["epoch"])
    return selection["weights"], int(selection["epoch"])


@contextmanager
def described_by(path: Path) -> Iterator[None]:
    """Name the checkpoint if what it describes cannot be built or compared inside the block.

    Raises:
        ValueError: if so.
    """
    try:
        yield
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        MemoryError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        if isinstance(error, ValueError) and str(path) in str(error):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"checkpoint {path} is damaged: its model cannot be built ({reason:.200})") from None


def load_memory(path: Path, made_by: str, velocity: bool) -> ChoreographicMemory:
    """A trained choreographic memory, frozen, in eval mode.

    Args:
        path: a checkpoint, ours or published, of sep_vqvae, with its velocity branch of sep_vqvae_root, with
            rotation decoders too of sep_vqvae_root_mix.
        made_by: the command that makes checkpoints of ours, for messages.
        velocity: whether the velocity branch is needed.

    Raises:
        FileNotFoundError: if the file is missing.
        ValueError: if the velocity branch is needed and missing, or as of `read_checkpoint`.
    """
    content = read_checkpoint(path, made_by, MEMORY_STAGES)
    with described_by(path):
        memory = ChoreographicMemory.from_architecture(content["architecture"], str(path))
        load_weights(memory, content["model"], path)
    if velocity and memory.velocity is None:
        raise ValueError(
            f"{path} is a memory without its velocity branch; train that first (stage sep_vqvae_root) "
            "and name its checkpoint here"
        )
    return memory.eval().requires_grad_(False)


def load_policy(path: Path, made_by: str, stages: tuple[str, ...] = POLICY_STAGES) -> Policy:
    """A trained motion GPT: the selected epoch of a checkpoint of ours, or a published file.

    Args:
        path: the file.
        made_by: the command that makes checkpoints of ours, for messages.
        stages: the stages whose checkpoints are accepted.

    Raises:
        FileNotFoundError: if the file is missing.
        ValueError: as of `read_checkpoint`.
    """
    content = read_checkpoint(path, made_by, stages)
    with described_by(path):
        weights, epoch = selected_weights(content)
        stage, architecture, epochs = content["stage"], content["architecture"], int(content["epoch"])
        model_type = ActorCritic if stage == "actor_critic" else MotionGPT
        model = model_type.from_architecture(architecture, str(path))
        load_weights(model, dict(weights), path)
        codes = str(content.get("codes", ""))
    return Policy(model.eval(), path, stage, architecture, epoch, epochs, is_published(path), codes)


def load_run_policy(config: PolicyConfig, stages: tuple[str, ...] = POLICY_STAGES) -> Policy:
    """The motion GPT that --eval and --dance use.

    It is the one in the run's own checkpoint, or in the file that the key `checkpoint` names. Where that key
    is null and the key `gpt` names a published file, it is that file if it is an actor-critic one, or if the
    run has no checkpoint.

    Args:
        config: of the run.
        stages: the stages whose checkpoints are accepted as the run's own.

    Raises:
        FileNotFoundError: naming the command that makes the checkpoint, if there is none.
        ValueError: as of `load_policy`.
    """
    own, other = config.checkpoint_path, config.other_gpt
    if config.checkpoint is None and other is not None and is_published(other):
        policy = load_policy(other, config.made_by(other))
        if policy.stage == "actor_critic" or not own.is_file():
            log.info("%s is used as the %s", other, ROWS[policy.stage])
            return policy
    policy = load_policy(own, config.made_by(own), stages)
    if policy.epoch != policy.epochs:
        log.info("%s: epoch %d of %d is selected", own, policy.epoch, policy.epochs)
    return policy
