"""The training loop. It knows epochs, steps, devices and files; nothing about dance.

What is trained is a stage: `model`, `learner`, `batches(epoch)`, `loss(learner, batch)`, `evaluate(folder)`;
the contract is written down in models/stages/base.py.
"""

import logging
import random
from collections.abc import Iterable, Mapping, Sized
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from utils import distributed
from utils.checkpoint import load_checkpoint, load_weights, save_checkpoint
from utils.config import config

log = logging.getLogger(__name__)
Beta = Annotated[float, Field(ge=0, lt=1)]


@config
class TrainingConfig:
    """How a stage is trained, with Adam.

    Attributes:
        epochs: how many.
        batch_size: per step, over all processes.
        lr: learning rate.
        betas: of Adam.
        milestones: epochs after which the learning rate is multiplied by gamma.
        gamma: see milestones.
        clip_gradient: largest norm of the gradient; null leaves it alone.
        idle: what Adam does with parameters that took no part in a step. They `rest`; or they `drift` on
            their momentum, as in the published actor-critic, whose gradients were zeroed rather than dropped.
        save_every: epochs between checkpoints that are kept; the last one is always there as last.pt.
        eval_every: epochs between evaluations while training; 0 is never.
        log_every: steps between lines in TensorBoard.
        num_workers: processes that read batches; 0 reads in the training process.
    """

    epochs: PositiveInt
    batch_size: PositiveInt
    lr: PositiveFloat
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    milestones: tuple[PositiveInt, ...] = ()
    gamma: PositiveFloat = 0.1
    clip_gradient: PositiveFloat | None = None
    idle: Literal["rest", "drift"] = "rest"
    save_every: PositiveInt = 50
    eval_every: NonNegativeInt = 0
    log_every: PositiveInt = 10
    num_workers: NonNegativeInt = 0


class Trainable(Protocol):
    """What the loop needs of a stage; see models/stages/base.py."""

    name: str
    model: nn.Module
    learner: nn.Module

    def batches(self, epoch: int) -> Iterable[Any]: ...  # noqa: D102
    def loss(self, learner: nn.Module, batch: Any) -> tuple[Tensor, Mapping[str, Tensor]]: ...  # noqa: D102
    def epoch_logs(self) -> Mapping[str, float]: ...  # noqa: D102
    def evaluate(self, folder: Path) -> Mapping[str, Any]: ...  # noqa: D102
    def checkpoint(self) -> dict[str, Any]: ...  # noqa: D102
    def restore(self, content: Mapping[str, Any]) -> None: ...  # noqa: D102
    @property
    def finished(self) -> bool: ...  # noqa: D102


def seed_everything(seed: int) -> None:
    """Seeds the global generators; what has its own generator is seeded from the config where it is made."""
    random.seed(seed)
    torch.manual_seed(seed)


def differences(then: Any, now: Any, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Keys whose values differ between two configs as plain containers: key -> both values."""
    if isinstance(then, dict) and isinstance(now, dict):
        found = {}
        for key in then.keys() | now.keys():
            found |= differences(then.get(key), now.get(key), f"{prefix}.{key}" if prefix else key)
        return found
    return {} if then == now else {prefix: (then, now)}


class Trainer:
    """Trains a stage into a run folder: ckpt/last.pt, ckpt/epoch_0050.pt, logs/ for TensorBoard."""

    def __init__(self, stage: Trainable, config: TrainingConfig, folder: Path, made_by: str) -> None:
        self.stage, self.config, self.folder, self.made_by = stage, config, folder, made_by
        self.learner = distributed.wrap(stage.learner)
        parameters = [p for p in stage.learner.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(parameters, config.lr, config.betas)
        self.scheduler = torch.optim.lr_scheduler.MultiStepLR(
            self.optimizer, list(config.milestones), config.gamma
        )
        self.epoch, self.step = 0, 0

    @property
    def last(self) -> Path:
        """Where the newest checkpoint is."""
        return self.folder / "ckpt" / "last.pt"

    def resume(self) -> bool:
        """Goes on from the newest checkpoint, if there is one."""
        if not self.last.exists():
            return False
        content = load_checkpoint(self.last, self.made_by, (self.stage.name,))
        load_weights(self.stage.model, content["model"], self.last)
        self.stage.restore(content)
        self.optimizer.load_state_dict(content["optimizer"])
        self.scheduler.load_state_dict(content["scheduler"])
        self.epoch, self.step = content["epoch"], content["step"]
        if (
            self.config.idle == "drift"
        ):  # what took part once has a gradient, if only of zeros, in every later step
            for parameter in self.optimizer.state:
                parameter.grad = torch.zeros_like(parameter)
        for name, (then, now) in differences(content["config"], self.stage.checkpoint()["config"]).items():
            log.warning("%s was trained so far with %s: %s, and goes on with %s", self.last, name, then, now)
        torch.set_rng_state(content["random"]["cpu"])
        if torch.cuda.is_available() and content["random"]["cuda"] is not None:
            torch.cuda.set_rng_state(content["random"]["cuda"])
        log.info("resuming %s after epoch %d", self.last, self.epoch)
        return True

    def run(self) -> None:
        """Trains until the config's last epoch."""
        if self.epoch >= self.config.epochs or self.stage.finished:
            log.info("%s is already trained to epoch %d", self.last, self.epoch)
            return
        writer = (
            SummaryWriter(str(self.folder / "logs"), purge_step=self.step + 1)
            if distributed.is_main()
            else None
        )
        epochs = range(self.epoch + 1, self.config.epochs + 1)
        # Bars are for terminals: elsewhere (a Slurm log) there is a line per epoch instead.
        hidden = None if distributed.is_main() else True
        bar = tqdm(epochs, self.stage.name, self.config.epochs, initial=self.epoch, disable=hidden)
        for epoch in bar:
            shown = self._train_epoch(epoch, writer)
            bar.set_postfix(shown)
            if bar.disable and distributed.is_main():
                facts = ", ".join(f"{name} {value}" for name, value in shown.items())
                log.info("%s epoch %d of %d: %s", self.stage.name, epoch, self.config.epochs, facts)
            self.scheduler.step()
            self.epoch = epoch
            if distributed.is_main():
                self._save(epoch)
            if self.config.eval_every and epoch % self.config.eval_every == 0 and epoch < self.config.epochs:
                self._evaluate(epoch, writer)
            if self.stage.finished:
                log.info("%s stops after epoch %d: nothing better came", self.stage.name, epoch)
                break
        if writer is not None:
            writer.close()

    def _train_epoch(self, epoch: int, writer: SummaryWriter | None) -> dict[str, str]:
        self.learner.train()
        batches = self.stage.batches(epoch)
        total = len(batches) if isinstance(batches, Sized) else None
        logs: Mapping[str, Tensor] = {}
        hidden = None if writer is not None else True
        for batch in tqdm(batches, f"epoch {epoch}", total, leave=False, disable=hidden):
            logs = self._train_step(batch)
            if writer is not None and self.step % self.config.log_every == 0:
                for name, value in logs.items():
                    writer.add_scalar(f"train/{name}", float(value), self.step)
                writer.add_scalar("train/lr", self.scheduler.get_last_lr()[0], self.step)
        epoch_logs = self.stage.epoch_logs()
        if writer is not None:
            for name, value in epoch_logs.items():
                writer.add_scalar(f"epoch/{name}", value, epoch)
        shown = {k: float(v) for k, v in logs.items() if k == "loss"} | dict(epoch_logs)
        return {name: f"{value:.4g}" for name, value in shown.items()}

    def _train_step(self, batch: Any) -> Mapping[str, Tensor]:
        self.optimizer.zero_grad(set_to_none=self.config.idle == "rest")
        loss, logs = self.stage.loss(self.learner, batch)
        loss.backward()
        if self.config.clip_gradient is not None:
            nn.utils.clip_grad_norm_(self.stage.learner.parameters(), self.config.clip_gradient)
        self.optimizer.step()
        self.step += 1
        return {name: value.detach() for name, value in logs.items()}

    def _save(self, epoch: int) -> None:
        content = {
            **self.stage.checkpoint(),
            "epoch": epoch,
            "step": self.step,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "random": {
                "cpu": torch.get_rng_state(),
                "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
            },
        }
        save_checkpoint(content, self.last)
        if epoch % self.config.save_every == 0:
            save_checkpoint(content, self.last.with_name(f"epoch_{epoch:04d}.pt"))

    def _evaluate(self, epoch: int, writer: SummaryWriter | None) -> None:
        """The main process evaluates, the others wait."""
        if not distributed.is_main():
            distributed.barrier()
            return
        metrics = self.stage.evaluate(self.folder / "eval" / f"epoch_{epoch:04d}")
        distributed.barrier()
        assert writer is not None
        for row, values in metrics.items():
            for name, value in values.items():
                if isinstance(value, int | float):
                    writer.add_scalar(f"eval/{row}/{name}", value, epoch)
