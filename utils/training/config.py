"""How a stage is trained, and what the training loop needs of it; utils/training/trainer.py is the loop."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from utils.config import ConfigModel
from utils.training.precision import Precision

Beta = Annotated[float, Field(ge=0, lt=1)]


class TrainingConfig(ConfigModel):
    """How a stage is trained, with Adam."""

    epochs: PositiveInt
    """How many."""
    batch_size: PositiveInt
    """Per step, over all processes."""
    lr: PositiveFloat
    """Learning rate."""
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """Of Adam."""
    fused: bool = False
    """Whether Adam updates all weights in one pass. It is the same formula, its last bits differ; a third of
    the time on a processor, which in the memory's stage is a tenth of a step."""
    channels_last: bool = False
    """Whether convolutions on a processor work in the layout that suits its library: up to a twentieth faster
    in fp32, a sixth in bf16, on Intel's. Sums are in another order."""
    milestones: tuple[PositiveInt, ...] = ()
    """Epochs after which the learning rate is multiplied by gamma."""
    gamma: PositiveFloat = 0.1
    """See milestones."""
    clip_gradient: PositiveFloat | None = None
    """Largest norm of the gradient; null leaves it alone."""
    accumulate: PositiveInt = 1
    """Parts a step's batch is computed in, one after the other, where memory is short."""
    precision: Precision = "fp32"
    """Fp32, or bf16 for products and convolutions; losses, codebooks and weights stay fp32."""
    tf32: bool = False
    """Whether a GPU may round the factors of fp32 products."""
    compile: bool = False
    """Whether torch.compile makes the step faster; its first steps take a minute."""
    idle: Literal["rest", "drift"] = "rest"
    """What Adam does with parameters that took no part in a step. They `rest`; or they `drift` on their
    momentum, as in the published actor-critic, whose gradients were zeroed rather than dropped."""
    save_every: PositiveInt = 50
    """Epochs between checkpoints that stay; the last one is always there as last.pt."""
    save_steps: NonNegativeInt = 0
    """Steps between checkpoints within an epoch; 0 saves at its end only."""
    keep: PositiveInt = 2
    """How many of the newest checkpoints are kept, last.pt counted; should it be damaged, the one before
    serves."""
    eval_every: NonNegativeInt = 0
    """Epochs between evaluations while training; 0 is never."""
    log_every: PositiveInt = 10
    """Steps between lines in TensorBoard, and between looks whether losses are finite."""
    utilisation: bool = False
    """Whether FLOPs are counted and the machine's peak is measured (0.4 s) to compare with."""
    num_workers: NonNegativeInt = 0
    """Processes that read batches; 0 reads in the training process."""
    threads: PositiveInt | None = None
    """Processors that a training process computes on; null is all that it may use. Small models are fastest
    on one: their operations take less time than threads take to meet, above all beside other programs."""


class Changes(Protocol):
    """What changed in the config since a checkpoint, by the moment from which it counts."""

    # ruff: noqa: D102
    @property
    def at_once(self) -> Sequence[object]: ...
    @property
    def next_epoch(self) -> Sequence[object]: ...
    @property
    def new_seed(self) -> bool: ...


class Trainable(Protocol):
    """What the loop needs of a stage; see models/stages/base.py."""

    # ruff: noqa: D102
    name: str
    model: nn.Module
    learner: nn.Module
    device: torch.device
    work: Mapping[str, float]

    def batches(self, epoch: int) -> Iterable[Any]: ...
    def loss(self, learner: nn.Module, batch: Any) -> tuple[Tensor, Mapping[str, Tensor]]: ...
    def split(self, batch: Any, parts: int) -> Sequence[Any]: ...
    def begin_step(self, parts: Sequence[Any]) -> None: ...
    def hold(self, held: bool) -> None: ...
    def kind(self, batch: Any) -> str: ...
    def gauges(self) -> Mapping[str, Tensor]: ...
    def batch_names(self, epoch: int, batch: int) -> Sequence[str]: ...
    def epoch_logs(self) -> Mapping[str, float]: ...
    def epoch_state(self) -> Mapping[str, Any]: ...
    def restore_epoch(self, state: Mapping[str, Any]) -> None: ...
    def evaluate(self, folder: Path) -> Mapping[str, Any]: ...
    def checkpoint(self) -> dict[str, Any]: ...
    def check_architecture(self, architecture: Mapping[str, Any], path: Path) -> None: ...
    def check_changes(self, content: Mapping[str, Any], path: Path) -> Changes: ...
    def restore(self, content: Mapping[str, Any]) -> None: ...
    def complete(self, folder: Path, epoch: int, anew: bool) -> None: ...
    @property
    def finished(self) -> bool: ...
