"""TensorBoard logs of a run, and the check that losses are finite; no step synchronises with the device.

Losses stay tensors on their device; every `training.log_every` steps they are fetched, checked and written.

    train/*      the loss and the step metrics of the stage under the names of the YAML, and lr. Codebooks:
                 used_codes, perplexity, restarted_codes. Finetuning: entropy, kl_to_gpt (nats per code),
                 td_error and explained_variance (of the value)
    epoch/*      metrics of whole epochs: usage of the codebooks; the reward, its parts, and the selection
    speed/*      steps and samples per second
    eval/*       the numbers and the table of an evaluation, every `training.eval_every` epochs
"""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from utils.training import distributed


class NonFinite(ValueError):
    """A loss or weights that are not finite."""


class Recorded(NamedTuple):
    """The loss of a step, not yet fetched.

    Attributes:
        step: number of the step, from 1.
        batch: index of its batch in the epoch.
        loss: scalar on the device.
    """

    step: int
    batch: int
    loss: Tensor


class TrainLogger:
    """Collects losses in every process, and writes TensorBoard events in the main one.

    Args:
        folder: folder of the event files.
        step: number of steps done; events of an earlier attempt beyond it are dropped.
        batch_size: samples per step, over all processes.
    """

    def __init__(self, folder: Path, step: int, batch_size: int) -> None:
        self.writer = None
        if distributed.is_main():
            from torch.utils.tensorboard import SummaryWriter  # imports for a second; only training needs it

            self.writer = SummaryWriter(str(folder), purge_step=step + 1)
        self.batch_size = batch_size
        self._pending: list[Recorded] = []
        self._steps, self._since = 0, time.perf_counter()

    def record(self, step: int, batch: int, loss: Tensor) -> None:
        """Keep the loss of a step for the next check; nothing is fetched from the device."""
        self._pending.append(Recorded(step, batch, loss))
        self._steps += 1

    def first_non_finite(self) -> Recorded | None:
        """Return the first step since the last call whose loss is not finite, or None."""
        pending, self._pending = self._pending, []
        if not pending:
            return None
        losses = torch.stack([item.loss for item in pending]).tolist()
        return next((i for i, loss in zip(pending, losses, strict=True) if not math.isfinite(loss)), None)

    def scalars(self, prefix: str, values: Mapping[str, Tensor | float], step: int) -> None:
        """Write numbers, fetching all tensors in one transfer."""
        if self.writer is None or not values:
            return
        tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
        numbers = {name: value for name, value in values.items() if not isinstance(value, Tensor)}
        if tensors:
            fetched = torch.stack([value.detach().float() for value in tensors.values()]).tolist()
            numbers |= dict(zip(tensors, fetched, strict=True))
        for name in values:
            self.writer.add_scalar(f"{prefix}/{name}", numbers[name], step)

    def restart_clock(self) -> None:
        """Exclude the time up to now (saving, evaluation, generation) from the speed."""
        self._steps, self._since = 0, time.perf_counter()

    def speed(self, step: int) -> None:
        """Write the speed since the last call; call it after a transfer from the device."""
        seconds = time.perf_counter() - self._since
        if self._steps and seconds > 0:
            rate = self._steps / seconds
            rates = {"steps_per_second": rate, "samples_per_second": rate * self.batch_size}
            self.scalars("speed", rates, step)
        self.restart_clock()

    def evaluation(self, metrics: Mapping[str, Any], epoch: int) -> None:
        """Write the numbers of an evaluation, and its table as text."""
        if self.writer is None:
            return
        for row, values in metrics.items():
            if isinstance(values, Mapping):
                kept = {k: v for k, v in values.items() if isinstance(v, int | float)}
                self.scalars(f"eval/{row}", kept, epoch)
        self.writer.add_text("eval/table", markdown_table(metrics), epoch)
        self.writer.flush()

    def close(self) -> None:
        """Close the event files."""
        if self.writer is not None:
            self.writer.close()


def markdown_table(metrics: Mapping[str, Any]) -> str:
    """Return the rows of an evaluation and their numbers as a Markdown table."""
    rows = {row: values for row, values in metrics.items() if isinstance(values, Mapping)}
    columns = list(
        dict.fromkeys(k for v in rows.values() for k, x in v.items() if isinstance(x, int | float))
    )
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for row, values in rows.items():
        cells = [f"{values[c]:.4g}" if isinstance(values.get(c), int | float) else "" for c in columns]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
