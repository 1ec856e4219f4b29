"""What a run tells: TensorBoard, and a check that losses are numbers; no step waits for a device.

Losses stay tensors where they were computed; every `log_every` steps they are fetched, checked and written.

    train/*      losses by the names of the YAML, lr, and what the stage reads off its state: used_codes,
                 perplexity and restarted_codes of the codebooks; of finetuning entropy, kl_to_gpt (nats per
                 code from the pretrained GPT), td_error and explained_variance (of the value)
    epoch/*      once per epoch: the codebooks over all its batches; the reward, its parts, and the choice
    speed/*      steps, frames and codes per second, FLOP/s, their share of the matrix peak (utilisation)
    eval/*       the table of an evaluation, as numbers and as text, and its first video, every `eval_every`
"""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from utils.training import distributed


class NonFinite(ValueError):
    """A loss that is no number."""


class Recorded(NamedTuple):
    """A step whose loss was not yet looked at: its number, epoch, place in the epoch, and the loss."""

    step: int
    epoch: int
    batch: int
    loss: Tensor


class Journal:
    """Writes; the main process to TensorBoard, all of them check.

    Args:
        folder: of TensorBoard's files.
        step: how many steps are done; what an earlier try wrote beyond them is dropped.
        work: what a step gets done, e.g. frames and codes.
        peak: FLOP/s the machine could reach; None leaves utilisation out.
    """

    def __init__(self, folder: Path, step: int, work: Mapping[str, float], peak: float | None = None) -> None:
        self.writer = SummaryWriter(str(folder), purge_step=step + 1) if distributed.is_main() else None
        self.work, self.peak = work, peak
        self._waiting: list[Recorded] = []
        self._flops, self._steps, self._since = 0.0, 0, time.perf_counter()

    def step(self, recorded: Recorded, flops: float) -> None:
        """Notes a step; nothing is fetched from the device."""
        self._waiting.append(recorded)
        self._flops += flops
        self._steps += 1

    def first_non_finite(self) -> Recorded | None:
        """The first step since the last call whose loss is no number."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return None
        losses = torch.stack([item.loss for item in waiting]).tolist()
        return next((i for i, loss in zip(waiting, losses, strict=True) if not math.isfinite(loss)), None)

    def scalars(self, prefix: str, values: Mapping[str, Tensor | float], step: int) -> None:
        """Writes numbers, fetching tensors in one go."""
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
        """What happened up to here (saving, evaluating, composing) is not a step's time."""
        self._flops, self._steps, self._since = 0.0, 0, time.perf_counter()

    def speed(self, step: int) -> None:
        """Writes how fast the steps since the last call were; call it after something was fetched."""
        seconds = time.perf_counter() - self._since
        if self._steps and seconds > 0:
            rates = {"steps_per_second": self._steps / seconds}
            rates |= {f"{name}_per_second": n * self._steps / seconds for name, n in self.work.items()}
            if self._flops:
                rates["flops_per_second"] = self._flops / seconds
                if self.peak:
                    rates["utilisation"] = self._flops / seconds / self.peak
            self.scalars("speed", rates, step)
        self.restart_clock()

    def evaluation(self, metrics: Mapping[str, Any], folder: Path, epoch: int) -> None:
        """Writes an evaluation's table and the first of its videos."""
        if self.writer is None:
            return
        for row, values in metrics.items():
            if isinstance(values, Mapping):
                kept = {k: v for k, v in values.items() if isinstance(v, int | float)}
                self.scalars(f"eval/{row}", kept, epoch)
        self.writer.add_text("eval/table", markdown_table(metrics), epoch)
        videos = sorted((folder / "videos").rglob("*.mp4"))
        if videos:
            from utils.clip_image import moving_picture  # av and PIL

            assert self.writer.file_writer is not None
            self.writer.file_writer.add_summary(moving_picture("eval/dance", videos[0]), epoch)
        self.writer.flush()

    def close(self) -> None:
        """Finishes the files."""
        if self.writer is not None:
            self.writer.close()


def markdown_table(metrics: Mapping[str, Any]) -> str:
    """Rows and their numbers, as TensorBoard shows text."""
    rows = {row: values for row, values in metrics.items() if isinstance(values, Mapping)}
    columns = list(
        dict.fromkeys(k for v in rows.values() for k, x in v.items() if isinstance(x, int | float))
    )
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for row, values in rows.items():
        cells = [f"{values[c]:.4g}" if isinstance(values.get(c), int | float) else "" for c in columns]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
