"""The training loop: epochs, steps, devices and files of any `Trainable`.

The batches of an epoch are a function of seed and epoch, and the global random generator, which only dropout
and codebook restarts draw from, is seeded at the start of each epoch. A run that was stopped between two
steps skips the batches it has done, restores the generator, and continues bit for bit.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from utils.config import ConfigModel
from utils.graphs import GraphedStep
from utils.training import distributed
from utils.training.checkpoints import CheckpointFolder
from utils.training.logger import NonFinite, TrainLogger
from utils.training.precision import Precision, autocast, default_precision, set_up_arithmetic, tf32
from utils.training.preemption import PreemptionHandler, Stopped

log = logging.getLogger(__name__)

Beta = Annotated[float, Field(ge=0, lt=1)]


class TrainingConfig(ConfigModel):
    """Training with Adam."""

    renamed: ClassVar[Mapping[str, str]] = {
        "clip_gradient": "max_grad_norm",
        "accumulate": "grad_accum_steps",
        "keep": "keep_last",
    }
    removed: ClassVar[Mapping[str, Any]] = {"utilisation": ..., "tf32": False}
    instead: ClassVar[Mapping[str, str]] = {"tf32": "precision: tf32"}

    epochs: PositiveInt
    """Number of epochs."""
    batch_size: PositiveInt
    """Samples per step, over all processes and micro-batches."""
    lr: PositiveFloat
    """Learning rate."""
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """Decay rates of Adam's moments."""
    fused: bool = False
    """Adam updates all weights in one pass. The formula is the same, its last bits differ; on a processor it
    takes a third of the time, which is a tenth of a step of the memory's stage. A GPU always does so."""
    channels_last: bool = False
    """Convolutions use the channels-last layout in training: on Intel processors up to a twentieth faster in
    fp32 and a sixth in bf16, on a GPU the layout of its matrix units. Sums are in another order."""
    milestones: tuple[PositiveInt, ...] = ()
    """Epochs after which the learning rate is multiplied by gamma."""
    gamma: PositiveFloat = 0.1
    """Factor of the learning rate at each milestone."""
    max_grad_norm: PositiveFloat | None = None
    """Gradients of a larger norm are scaled down to this norm; null disables clipping."""
    grad_accum_steps: PositiveInt = 1
    """Number of micro-batches that a batch is split into, to save memory. Their gradients are averaged;
    codebooks are updated and advantages normalised per micro-batch."""
    precision: Precision | None = None
    """Precision of products and convolutions; losses, codebooks, weights and Adam's state are always fp32.
    `bf16` computes them in bfloat16, `tf32` lets a GPU round their factors to 10 bits. null is bf16 on a GPU
    that has matrix units for it, else fp32."""
    cuda_graph: bool | None = None
    """A GPU replays the whole step as one CUDA graph instead of being sent its kernels one by one. The result
    is the same. null does so where one process trains on a GPU; several processes cannot."""
    compile: bool = False
    """torch.compile makes steps faster after a first one that takes a minute."""
    idle: Literal["rest", "drift"] = "rest"
    """Parameters without a gradient in a step either `rest`, or `drift` on their momentum as in the published
    actor-critic, whose gradients were set to zero instead of dropped."""
    save_every: PositiveInt = 50
    """Epochs between checkpoints that are never deleted; the newest checkpoint is always last.pt."""
    save_steps: NonNegativeInt = 0
    """Steps between checkpoints within an epoch; 0 saves at the end of epochs only."""
    keep_last: PositiveInt = 2
    """Number of newest checkpoints to keep, last.pt included; if that is damaged, the one before is used."""
    eval_every: NonNegativeInt = 0
    """Epochs between evaluations during training; 0 disables them."""
    log_every: PositiveInt = 10
    """Steps between lines in TensorBoard, and between checks that losses are finite."""
    num_workers: NonNegativeInt = 0
    """Processes that read batches; 0 reads in the training process."""
    threads: PositiveInt | None = None
    """Processor threads of a training process; null uses all that are available. Small models are fastest on
    one thread, above all beside other programs."""


class Batches(Protocol):
    """The batches of an epoch."""

    def skip(self, done: int) -> None:
        """Leave out the first batches without reading them."""

    def names(self, batch: int) -> Sequence[str]:
        """Return the sequences in a batch of the epoch, over all processes; skipped batches are counted."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Any]: ...


class Trainable(Protocol):
    """The stage contract: everything that the Trainer uses. models/stages/base.py implements its common part.

    Attributes:
        name: name of the stage.
        device: device of the modules.
        trainable: the module whose parameters are trained. The Trainer replaces it by its wrapped version
            (several processes, torch.compile), so `loss` must call it as a whole.
        finished: whether training ends before the config's last epoch.
    """

    device: torch.device
    trainable: nn.Module

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def finished(self) -> bool: ...  # noqa: D102

    def batches(self, epoch: int) -> Batches:
        """Return this process's batches of an epoch, counted from 1. They depend on seed, epoch, weights."""

    def loss(self, batch: Any) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the loss of a batch, and the step metrics: scalars that are logged beside it."""

    def evaluation_folder(self, epoch: int) -> Path:
        """Return the folder of an evaluation after an epoch, in the run folder."""

    def evaluate(self, folder: Path) -> Mapping[str, Any]:
        """Return rows of metrics of the current model, and write its dances into the folder.

        Called in all processes: each generates a share of the dances, the main one evaluates and writes.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return the stage's part of a checkpoint, including the state of an unfinished epoch.

        Called in the main process, after a step, or after `end_epoch`.
        """

    def load_state_dict(self, content: Mapping[str, Any], path: Path) -> None:
        """Restore a checkpoint, of which `path` is named in messages.

        Raises:
            ValueError: if the checkpoint does not fit the config or the data.
        """

    def end_epoch(self, epoch: int) -> Mapping[str, float]:
        """Finish an epoch and return its metrics. Called in all processes."""

    def end_training(self, folder: Path, epoch: int) -> None:
        """Write a summary into the run folder after the last epoch. Called in all processes.

        Called too when training had ended before; what that run has written need not be written again.
        """


class Trainer:
    """Trains a stage into a run folder: ckpt/ (see checkpoints.py) and logs/ for TensorBoard.

    Args:
        stage: the stage.
        config: section `training` of its config.
        folder: the run folder.
        made_by: the command that trains the stage, for error messages.
        seed: seed of everything that draws from the global generator.
    """

    def __init__(
        self, stage: Trainable, config: TrainingConfig, folder: Path, made_by: str, seed: int
    ) -> None:
        self.stage, self.config, self.folder, self.seed = stage, config, folder, seed
        set_up_arithmetic()
        self.precision = config.precision or default_precision(stage.device)
        self.parameters = [p for p in stage.trainable.parameters() if p.requires_grad]
        graphed, on_gpu = uses_cuda_graph(config, stage.device), stage.device.type == "cuda"
        self.optimizer = torch.optim.Adam(
            self.parameters, config.lr, config.betas, fused=config.fused or on_gpu or None, capturable=graphed
        )
        self._graphed = GraphedStep(self._update, stage.device) if graphed else None
        self.scheduler = torch.optim.lr_scheduler.MultiStepLR(
            self.optimizer, list(config.milestones), config.gamma
        )
        self._wrapped = stage.trainable = distributed.wrap(stage.trainable)
        if config.compile:
            stage.trainable = compiled(self._wrapped)
        self.checkpoints = CheckpointFolder(folder / "ckpt", stage.name, config.keep_last, made_by)
        self.preemption = PreemptionHandler()
        self.epoch, self.batch, self.step = 0, 0, 0  # epochs done, batches done of the next one, steps done
        self._batches: Batches | None = None  # of the current epoch
        self._random: Mapping[str, Any] | None = None  # generator state of a checkpoint within an epoch

    @property
    def last(self) -> Path:
        """Path of the newest checkpoint."""
        return self.checkpoints.last

    def resume(self) -> bool:
        """Restore the newest readable checkpoint; return whether there is one.

        Raises:
            ValueError: if it does not fit the stage or its data, holds weights only, or was trained with
                another value of a key that cannot change.
        """
        found = self.checkpoints.newest()
        distributed.barrier()
        if distributed.is_main():
            self.checkpoints.tidy()
        if found is None:
            return False
        path, content = found
        self.epoch, self.batch, self.step = content["epoch"], content.get("batch", 0), content["step"]
        within = f" and {self.batch} steps of the next" if self.batch else ""
        log.info("resuming %s after epoch %d%s", path, self.epoch, within)
        self.stage.load_state_dict(content, path)
        self._restore_optimizer(content["optimizer"], content["scheduler"])
        self._random = content["random"] if self.batch else None
        return True

    def _restore_optimizer(self, optimizer: dict[str, Any], scheduler: dict[str, Any]) -> None:
        """Restore Adam's moments and the position in the schedule; all options are those of the config.

        The learning rate is that of a run which had this config's lr, milestones and gamma from its first
        epoch, by the scheduler's own products, so that an unchanged config gives the same to the last bit.
        """
        options = [{k: v for k, v in g.items() if k != "params"} for g in self.optimizer.param_groups]
        saved = optimizer["param_groups"]
        groups = [{**then, **now} for then, now in zip(saved, options, strict=True)]
        self.optimizer.load_state_dict({**optimizer, "param_groups": groups})
        now, lr = self.scheduler.state_dict(), self.config.lr
        for epoch in range(1, self.epoch + 1):
            if epoch in self.scheduler.milestones:
                lr *= self.config.gamma ** self.scheduler.milestones[epoch]
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        schedule = {name: now[name] for name in ("milestones", "gamma", "base_lrs")}
        self.scheduler.load_state_dict({**scheduler, **schedule, "_last_lr": [lr] * len(groups)})
        if self.config.idle == "drift":  # A parameter that was ever used has a gradient, possibly zero.
            for parameter in self.optimizer.state:
                parameter.grad = torch.zeros_like(parameter)

    def run(self) -> None:
        """Train until the config's last epoch, or until the stage has finished.

        Raises:
            Stopped: if a signal asked for it; everything is saved.
            NonFinite: if a loss or a weight is not finite, naming the step and the batch.
        """
        if self.epoch >= self.config.epochs or self.stage.finished:
            log.info("%s is already trained to epoch %d", self.last, self.epoch)
            self.stage.end_training(self.folder, self.epoch)
            return
        logger = TrainLogger(self.folder / "logs", self.step, self.config.batch_size)
        epochs = range(self.epoch + 1, self.config.epochs + 1)
        bar = tqdm(epochs, self.stage.name, self.config.epochs, initial=self.epoch, disable=_hide_bar())
        with closing(logger), bar, self.preemption, num_threads(self.config.threads):
            for epoch in bar:
                metrics = self._train_epoch(epoch, logger)
                self._show(metrics, bar, epoch)
                self.scheduler.step()
                self.epoch, self.batch = epoch, 0
                self._save(logger)
                if self.config.eval_every and epoch % self.config.eval_every == 0:
                    folder = self.stage.evaluation_folder(epoch)
                    with self.preemption.immediate():
                        logger.evaluation(self.stage.evaluate(folder), epoch)
                    distributed.barrier()
                if self.stage.finished:
                    log.info("%s has finished after epoch %d: no improvement", self.stage.name, epoch)
                    break
            with self.preemption.immediate():
                self.stage.end_training(self.folder, self.epoch)
        log_gpu_memory(self.stage.device)

    def _train_epoch(self, epoch: int, logger: TrainLogger) -> Mapping[str, float]:
        """Train on the batches of an epoch that are left; return its metrics and the last loss."""
        self.stage.trainable.train()
        with self.preemption.immediate():  # The actor-critic generates its dances here, for minutes.
            self._batches = self.stage.batches(epoch)
        if self._random is None:
            seed_everything(self.seed + 1_000_003 * epoch)
        else:
            set_random_state(self._random)
            self._random = None
        self._batches.skip(self.batch)
        total = self.batch + len(self._batches)
        metrics: Mapping[str, Tensor] = {}
        logger.restart_clock()
        for batch in tqdm(
            self._batches, f"epoch {epoch}", total, leave=False, disable=_hide_bar(), initial=self.batch
        ):
            loss, metrics = self._train_step(batch)
            logger.record(self.step, self.batch - 1, loss)
            if self.step % self.config.log_every == 0:
                self._check_losses(logger)
                lr = {"lr": self.scheduler.get_last_lr()[0]}
                logger.scalars("train", {**distributed.means_over_processes(metrics), **lr}, self.step)
                logger.speed(self.step)
            signal = self.preemption.agreed()
            if signal or (self.config.save_steps and self.step % self.config.save_steps == 0):
                self._save(logger)
            if signal:
                raise Stopped(signal)
        epoch_metrics = self.stage.end_epoch(epoch)
        logger.scalars("epoch", epoch_metrics, epoch)
        return {name: float(value) for name, value in metrics.items() if name == "loss"} | dict(epoch_metrics)

    def _train_step(self, batch: Any) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Update the weights; return the loss and the step metrics, means over the micro-batches."""
        if self._graphed is None:
            result = self._update(batch)
        else:
            result = self._graphed(batch, tuple(group["lr"] for group in self.optimizer.param_groups))
        self.step += 1
        self.batch += 1
        return result

    def _update(self, batch: Any) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Compute a step on the device; with CUDA graphs only what it does there is repeated."""
        self.optimizer.zero_grad(set_to_none=self.config.idle == "rest")
        parts = micro_batches(batch, self.config.grad_accum_steps)
        with tf32(self.precision == "tf32"):
            results = [self._backward(part, len(parts), part is parts[-1]) for part in parts]
        if self.config.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.config.max_grad_norm)
        self.optimizer.step()
        losses, metrics = zip(*results, strict=True)
        return mean(losses), {name: mean([part[name] for part in metrics]) for name in metrics[0]}

    def _backward(self, part: Any, parts: int, is_last: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """Add the gradient of a micro-batch; processes average their gradients in the last one."""
        keep_local = isinstance(self._wrapped, DistributedDataParallel) and not is_last
        with self._wrapped.no_sync() if keep_local else nullcontext():  # type: ignore[operator]
            with autocast(self.stage.device, self.precision):
                loss, metrics = self.stage.loss(part)
            (loss / parts).backward()
        return loss.detach(), {name: value.detach() for name, value in metrics.items()}

    def _show(self, metrics: Mapping[str, float], bar: Any, epoch: int) -> None:
        """Show the metrics of an epoch in the bar, or, outside a terminal (a Slurm log), as a line."""
        shown = {name: f"{value:.4g}" for name, value in metrics.items()}
        bar.set_postfix(shown)
        if bar.disable and distributed.is_main():
            text = ", ".join(f"{name} {value}" for name, value in shown.items())
            log.info("%s epoch %d of %d: %s", self.stage.name, epoch, self.config.epochs, text)

    def _check_losses(self, logger: TrainLogger) -> None:
        """Raise NonFinite if a loss since the last check is not finite."""
        wrong = logger.first_non_finite()
        if wrong is not None:
            raise NonFinite(
                f"the loss of step {wrong.step} (epoch {self.epoch + 1}) is {float(wrong.loss)}; "
                f"its batch: {self._names(wrong.batch)}; last good checkpoint: {self.checkpoints.last_good}; "
                "inspect these data, lower training.lr or set training.max_grad_norm, and train again to "
                "resume from there"
            )

    def _check_weights(self) -> None:
        """Raise NonFinite if a weight is not finite, so that good checkpoints are not overwritten."""
        if not bool(torch.stack([p.isfinite().all() for p in self.parameters]).all()):
            names = self._names(self.batch - 1) if self.batch else "-"
            raise NonFinite(
                f"weights are not finite after step {self.step} (epoch {self.epoch}); its batch: {names}; "
                f"last good checkpoint: {self.checkpoints.last_good}; lower training.lr or set "
                "training.max_grad_norm, and train again to resume from there"
            )

    def _names(self, batch: int) -> str:
        assert self._batches is not None
        return ", ".join(self._batches.names(batch))

    def _save(self, logger: TrainLogger) -> None:
        """Check losses and weights in all processes, and write a checkpoint in the main one."""
        self._check_losses(logger)
        self._check_weights()
        if distributed.is_main():
            content = {
                **self.stage.state_dict(),
                "epoch": self.epoch,
                "batch": self.batch,
                "step": self.step,
                "optimizer": self.optimizer.state_dict(),
                "scheduler": self.scheduler.state_dict(),
                "random": random_state(),
            }
            is_permanent = not self.batch and self.epoch % self.config.save_every == 0
            self.checkpoints.save(content, f"epoch_{self.epoch:04d}.pt" if is_permanent else None)
        distributed.barrier()
        logger.restart_clock()


def _hide_bar() -> bool | None:
    """Tqdm's `disable`: None shows bars in terminals only."""
    return None if distributed.is_main() else True


def uses_cuda_graph(config: TrainingConfig, device: torch.device) -> bool:
    """Return whether steps on this device are replayed as CUDA graphs.

    Raises:
        ValueError: if the config asks for that where it is not possible.
    """
    possible = device.type == "cuda" and distributed.world_size() == 1
    if config.cuda_graph and not possible:
        where = f"{distributed.world_size()} process(es) on {device.type}"
        raise ValueError(f"training.cuda_graph needs one process on a GPU, got {where}; set it to null")
    return possible and config.cuda_graph is not False


def log_gpu_memory(device: torch.device) -> None:
    """Log the most memory that tensors took on a GPU, and that was reserved for them."""
    if device.type == "cuda" and distributed.is_main():
        used, reserved = torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device)
        total = torch.cuda.get_device_properties(device).total_memory
        log.info(
            "GPU memory: at most %.2f GB used, %.2f GB reserved, of %.0f GB",
            used / 1e9, reserved / 1e9, total / 1e9,
        )  # fmt: skip


def micro_batches(batch: Any, number: int) -> list[Any]:
    """Split a tensor, or a NamedTuple of tensors (nested, or with plain values), along the first axis.

    Returns:
        Equal parts, in order.

    Raises:
        ValueError: if the batch does not divide into that many parts.
    """
    if number == 1:
        return [batch]
    if torch.is_tensor(batch):
        if len(batch) % number:
            raise ValueError(
                f"a batch of {len(batch)} per process does not divide into {number} micro-batches "
                "(training.grad_accum_steps, training.batch_size)"
            )
        return list(batch.chunk(number))
    if isinstance(batch, tuple):
        fields = [micro_batches(field, number) for field in batch]
        return [type(batch)(*part) for part in zip(*fields, strict=True)]
    return [batch] * number


def mean(values: Sequence[Tensor]) -> Tensor:
    """Return the mean of scalars in fp32; a single scalar is returned as it is."""
    return values[0] if len(values) == 1 else torch.stack([value.float() for value in values]).mean()


def compiled(module: nn.Module) -> Any:
    """Return the module under torch.compile; submodules with a true attribute `keep_eager` stay eager.

    (The decorator `torch.compiler.disable` has the same effect, but takes a second to import even if nothing
    is compiled.)
    """
    for part in module.modules():
        if getattr(part, "keep_eager", False):
            part.forward = torch.compiler.disable(part.forward)
    return torch.compile(module)


@contextmanager
def num_threads(threads: int | None) -> Iterator[None]:
    """Compute with that many threads inside the block; None does not change their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def seed_everything(seed: int) -> None:
    """Seed the global generators; loaders and samplers have their own, seeded where they are made."""
    torch.manual_seed(seed)


def random_state() -> dict[str, Any]:
    """Return the state of the global generators as plain containers and tensors."""
    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Restore the global generators."""
    torch.set_rng_state(state["cpu"])
    if torch.cuda.is_available() and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"])
