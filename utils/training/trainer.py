"""The training loop. It knows epochs, steps, devices and files; nothing about dance.

What is trained is a stage: `model`, `learner`, `batches(epoch)`, `loss(learner, batch)`, `evaluate(folder)`;
the contract is written down in models/stages/base.py. Batches are a function of seed and epoch, so a run that
was stopped between two steps leaves out those it has done and goes on bit for bit.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from utils.training import distributed
from utils.training.checkpoint import load_weights
from utils.training.checkpoint_folder import CheckpointFolder
from utils.training.config import Trainable, TrainingConfig
from utils.training.logger import Journal, NonFinite, Recorded
from utils.training.precision import allow_tf32, autocast
from utils.training.preemption import Stopped, StopRequest
from utils.training.randomness import random_state, seed_everything, set_random_state
from utils.training.throughput import StepFlops, matrix_peak

log = logging.getLogger(__name__)


def skip(batches: Iterable[Any], done: int) -> Iterable[Any]:
    """The batches without the first ones, which are not even read where the batches know how to `skip`."""
    if not done:
        return batches
    if hasattr(batches, "skip"):
        batches.skip(done)
        return batches
    return islice(batches, done, None)


def mean(values: Sequence[Tensor]) -> Tensor:
    """Mean of scalars; the very one if there is one."""
    return values[0] if len(values) == 1 else torch.stack([value.float() for value in values]).mean()


def compiled(module: nn.Module) -> Any:
    """The module by torch.compile; parts with an attribute `keep_eager` that is true run uncompiled.

    (The decorator `torch.compiler.disable` would do as well, but takes a second to import whether or not
    anything is compiled.)
    """
    for part in module.modules():
        if getattr(part, "keep_eager", False):
            part.forward = torch.compiler.disable(part.forward)
    return torch.compile(module)


@contextmanager
def computing_on(threads: int | None) -> Iterator[None]:
    """Compute with that many threads inside the block; None leaves their number as it is."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Trainer:
    """Trains a stage into a run folder: ckpt/ (see checkpoint_folder.py), logs/ for TensorBoard."""

    def __init__(self, stage: Trainable, config: TrainingConfig, folder: Path, made_by: str) -> None:
        self.stage, self.config, self.folder = stage, config, folder
        allow_tf32(config.tf32)
        self._wrapped = distributed.wrap(stage.learner)
        self.learner = compiled(self._wrapped) if config.compile else self._wrapped
        parameters = [p for p in stage.learner.parameters() if p.requires_grad]
        self._fused = config.fused or None  # None, not False: on a GPU torch then takes its second fastest
        self.optimizer = torch.optim.Adam(parameters, config.lr, config.betas, fused=self._fused)
        self.scheduler = torch.optim.lr_scheduler.MultiStepLR(
            self.optimizer, list(config.milestones), config.gamma
        )
        self.checkpoints = CheckpointFolder(folder / "ckpt", stage.name, config.keep, made_by)
        self.stop = StopRequest()
        self.flops = StepFlops()
        self.epoch, self.batch, self.step = 0, 0, 0  # epochs done, batches of the next one, steps
        self._random: Mapping[str, Any] | None = None  # state to go on with once an epoch's batches are there

    @property
    def last(self) -> Path:
        """Where the newest checkpoint is."""
        return self.checkpoints.last

    def resume(self) -> bool:
        """Goes on from the newest checkpoint that can be read, if there is one.

        Raises:
            ValueError: if it does not fit the stage or its data, or holds weights only, or the config was
                changed in a key whose new value cannot count from here.
        """
        found = self.checkpoints.newest()
        distributed.barrier()
        if distributed.is_main():
            self.checkpoints.tidy()
        if found is None:
            return False
        path, content = found
        self.stage.check_architecture(content["architecture"], path)
        changes = self.stage.check_changes(content, path)
        load_weights(self.stage.model, content["model"], path)
        self.stage.restore(content)
        self.epoch, self.batch, self.step = content["epoch"], content.get("batch", 0), content["step"]
        self._restore_optimizer(content["optimizer"], content["scheduler"])
        if self.config.idle == "drift":  # what took part once has a gradient, if only zeros, from then on
            for parameter in self.optimizer.state:
                parameter.grad = torch.zeros_like(parameter)
        if self.batch:
            self.stage.restore_epoch(content["epoch_state"])
            self._random = content["random"]
        elif not changes.new_seed:  # what a new seed has drawn so far is the state to go on with
            set_random_state(content["random"])
        within = f" and {self.batch} steps of the next" if self.batch else ""
        log.info("resuming %s after epoch %d%s", path, self.epoch, within)
        for when, found in (("from here", changes.at_once), ("from the next epoch", changes.next_epoch)):
            if found:
                log.warning("changed since, and counts %s: %s", when, ", ".join(map(str, found)))
        return True

    def _restore_optimizer(self, optimizer: dict[str, Any], scheduler: dict[str, Any]) -> None:
        """Restores the moments of Adam and the place in the schedule; all else is as the config says now.

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

    def run(self) -> None:
        """Trains until the config's last epoch.

        Raises:
            Stopped: if a signal asked for it; everything is saved.
            NonFinite: if a loss is no number, naming the step and the batch.
        """
        if self.epoch >= self.config.epochs or self.stage.finished:
            log.info("%s is already trained to epoch %d", self.last, self.epoch)
            self.stage.complete(self.folder, self.epoch, anew=False)
            return
        peak = None
        if self.config.utilisation and distributed.is_main():
            peak = distributed.world_size() * matrix_peak(self.stage.device, self.config.precision)
        journal = Journal(self.folder / "logs", self.step, self.stage.work, peak)
        epochs = range(self.epoch + 1, self.config.epochs + 1)
        # Bars are for terminals: elsewhere (a Slurm log) there is a line per epoch instead.
        hidden = None if distributed.is_main() else True
        bar = tqdm(epochs, self.stage.name, self.config.epochs, initial=self.epoch, disable=hidden)
        try:
            with self.stop, computing_on(self.config.threads):
                for epoch in bar:
                    shown = self._train_epoch(epoch, journal)
                    bar.set_postfix(shown)
                    if bar.disable and distributed.is_main():
                        facts = ", ".join(f"{name} {value}" for name, value in shown.items())
                        log.info("%s epoch %d of %d: %s", self.stage.name, epoch, self.config.epochs, facts)
                    self._finish_epoch(epoch, journal)
                    if self.stage.finished:
                        log.info("%s stops after epoch %d: nothing better came", self.stage.name, epoch)
                        break
                with self.stop.at_once():
                    self.stage.complete(self.folder, self.epoch, anew=True)
        finally:
            bar.close()
            journal.close()

    def _train_epoch(self, epoch: int, journal: Journal) -> dict[str, str]:
        self.learner.train()
        with self.stop.at_once():  # nothing is unsaved, and dances for the actor-critic take minutes
            batches = skip(self.stage.batches(epoch), self.batch)
            total = self.batch + len(batches) if isinstance(batches, Sized) else None
            coming = iter(batches)
        if self._random is not None:  # making the batches has drawn what the stopped run drew long before
            set_random_state(self._random)
            self._random = None
        logs: Mapping[str, Tensor] = {}
        hidden = None if distributed.is_main() else True
        journal.restart_clock()
        for batch in tqdm(coming, f"epoch {epoch}", total, leave=False, disable=hidden, initial=self.batch):
            logs = self._train_step(epoch, batch, journal)
            if self.step % self.config.log_every == 0:
                self._check(journal)
                lr = {"lr": self.scheduler.get_last_lr()[0]}
                shared = distributed.means_over_processes(logs)
                journal.scalars("train", {**shared, **self.stage.gauges(), **lr}, self.step)
                journal.speed(self.step)
            told = self.stop.agreed()
            if told or (self.config.save_steps and self.step % self.config.save_steps == 0):
                self._save(journal)
            if told:
                raise Stopped(told)
        epoch_logs = self.stage.epoch_logs()
        journal.scalars("epoch", epoch_logs, epoch)
        shown = {k: float(v) for k, v in logs.items() if k == "loss"} | dict(epoch_logs)
        return {name: f"{value:.4g}" for name, value in shown.items()}

    def _finish_epoch(self, epoch: int, journal: Journal) -> None:
        self.scheduler.step()
        self.epoch, self.batch = epoch, 0
        self._save(journal)
        if self.config.eval_every and epoch % self.config.eval_every == 0:
            folder = self.folder / "eval" / f"epoch_{epoch:04d}"
            state = random_state()
            with self.stop.at_once():  # all processes make dances, the main one judges them
                journal.evaluation(self.stage.evaluate(folder), folder, epoch)
            set_random_state(state)  # a run that goes on from here has not evaluated
            distributed.barrier()

    def _train_step(self, epoch: int, batch: Any, journal: Journal) -> Mapping[str, Tensor]:
        self.optimizer.zero_grad(set_to_none=self.config.idle == "rest")
        number, kind = self.config.accumulate, self.stage.kind(batch)
        parts = self.stage.split(batch, number) if number > 1 else [batch]
        with self._counting(kind):
            if number > 1:
                with self._autocast():
                    self.stage.begin_step(parts)
            losses = [self._part(part, i == number - 1) for i, part in enumerate(parts)]
        flops = self.flops.finish(kind)
        if self.config.clip_gradient is not None:
            nn.utils.clip_grad_norm_(self.stage.learner.parameters(), self.config.clip_gradient)
        self.optimizer.step()
        self.step += 1
        self.batch += 1
        journal.step(Recorded(self.step, epoch, self.batch - 1, mean([loss for loss, _ in losses])), flops)
        return {name: mean([logs[name] for _, logs in losses]) for name in losses[0][1]}

    def _part(self, part: Any, is_last: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """Forward and backward of a part of a batch; gradients meet those of other processes in the last."""
        number = self.config.accumulate
        alone = isinstance(self._wrapped, DistributedDataParallel) and not is_last
        with self._wrapped.no_sync() if alone else nullcontext():  # type: ignore[operator, union-attr]
            with self._autocast():
                if number > 1:
                    self.stage.hold(not is_last)
                loss, logs = self.stage.loss(self.learner, part)
            (loss / number if number > 1 else loss).backward()
        return loss.detach(), {name: value.detach() for name, value in logs.items()}

    def _autocast(self) -> AbstractContextManager[Any]:
        return autocast(self.stage.device, self.config.precision)

    def _counting(self, kind: str) -> AbstractContextManager[Any]:
        # What torch.compile made is closed to the counter.
        counts = self.config.utilisation and not self.config.compile and distributed.is_main()
        return self.flops.counting(kind) if counts else nullcontext()

    def _check(self, journal: Journal) -> None:
        """Raises NonFinite if a loss since the last look was no number."""
        wrong = journal.first_non_finite()
        if wrong is None:
            return
        names = ", ".join(self.stage.batch_names(wrong.epoch, wrong.batch))
        raise NonFinite(
            f"the loss of step {wrong.step} (epoch {wrong.epoch}) is {float(wrong.loss)}; "
            f"its batch: {names}; last good checkpoint: {self.checkpoints.good}; "
            "look at these data, lower training.lr or set training.clip_gradient, and train again from there"
        )

    def _check_weights(self) -> None:
        """Raises NonFinite rather than let weights that are no numbers be saved over good ones."""
        finite = [p.isfinite().all() for p in self.stage.learner.parameters() if p.requires_grad]
        if not bool(torch.stack(finite).all()):
            names = ", ".join(self.stage.batch_names(self.epoch + 1, self.batch - 1)) if self.batch else "-"
            raise NonFinite(
                f"weights are no numbers after step {self.step} (epoch {self.epoch}); its batch: {names}; "
                f"last good checkpoint: {self.checkpoints.good}; lower training.lr or set "
                "training.clip_gradient, and train again to go on from there"
            )

    def _save(self, journal: Journal) -> None:
        """All processes check their losses, the main one writes, the others wait."""
        self._check(journal)
        self._check_weights()
        if distributed.is_main():
            content = {
                **self.stage.checkpoint(),
                "epoch": self.epoch,
                "batch": self.batch,
                "epoch_state": self.stage.epoch_state() if self.batch else {},
                "step": self.step,
                "optimizer": self.optimizer.state_dict(),
                "scheduler": self.scheduler.state_dict(),
                "random": random_state(),
            }
            whole = not self.batch and self.epoch % self.config.save_every == 0
            self.checkpoints.save(content, f"epoch_{self.epoch:04d}.pt" if whole else None)
        distributed.barrier()
        journal.restart_clock()


__all__ = ["Trainer", "TrainingConfig", "seed_everything"]
