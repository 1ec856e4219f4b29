"""Stage 1: train the choreographic memory to reconstruct clips of dances; usage of its codebooks.

Source: Bailando (CVPR 2022), section 3.2. Perplexity as in van den Oord et al. 2017.
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datasets.clips import PoseClips, training_poses
from models.conv import use_channels_last
from models.quantizer import EMAQuantizer, assignments
from models.stages.base import RunConfig, Stage
from models.stages.memory_losses import MotionLossConfig, memory_loss
from models.vqvae import ChoreographicMemory, MemoryConfig, Reconstruction
from utils.training.distributed import sum_over_processes
from utils.training.trainer import Batches


class SepVQVAEConfig(RunConfig):
    """Config of stage sep_vqvae."""

    model: MemoryConfig = MemoryConfig()
    """Architecture of the memory; see MemoryConfig."""
    loss: MotionLossConfig = MotionLossConfig()
    """Weights of the loss; see MotionLossConfig."""


class SepVQVAE(Stage):
    """Trains both halves at once."""

    name = "sep_vqvae"
    Config = SepVQVAEConfig
    config: SepVQVAEConfig

    def __init__(self, config: SepVQVAEConfig, device: torch.device) -> None:
        super().__init__(config, device)
        self.model = ChoreographicMemory(config.model).to(device)
        self.trainable = self.model
        use_channels_last(self.model, config.training.channels_last)
        self.health = CodebookHealth(self.model)
        if config.model.normalise_pose and self.data.names("train"):  # else they are in the checkpoint
            self.model.set_pose_statistics(training_poses(self.data))
        if config.data.clips.frames % self.model.frames_per_code:
            raise ValueError(
                f"data.clips.frames {config.data.clips.frames} must divide by "
                f"the {self.model.frames_per_code} frames of a code"
            )

    @property
    def memory(self) -> ChoreographicMemory:
        """The model itself."""
        return self.model  # type: ignore[return-value]

    @cached_property
    def clips(self) -> PoseClips:
        """The training clips."""
        if self.data.skeleton is not self.memory.skeleton:
            raise ValueError(
                f"{self.config.data.root} holds dances of skeleton {self.data.skeleton.name!r}, "
                f"model.skeleton is {self.memory.skeleton.name!r}; they must be the same"
            )
        return PoseClips(self.data, "train", self.config.data.clips)

    def batches(self, epoch: int) -> Batches:
        """Return batches of poses (B, frames, J*3)."""
        return self.loader(self.clips, epoch)

    def loss(self, batch: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the mean loss of both halves; metrics: its parts, and the codebooks' use in the batch."""
        pose = batch.to(self.device, non_blocking=True)
        reconstruction = self.trainable(pose)
        loss, metrics = memory_loss(reconstruction, pose, self.memory, self.config.loss)
        return loss, {**metrics, **self.health.count(reconstruction)}

    def end_epoch(self, epoch: int) -> Mapping[str, float]:
        """Return used and dead codes, perplexity and restarts of each half, over the epoch's batches."""
        return self.health.end_epoch()

    def state_dict(self) -> dict[str, Any]:
        """Return the base class's content, and the use of the codebooks in the epoch so far."""
        return {**super().state_dict(), "health": self.health.state_dict()}

    def load_state_dict(self, content: Mapping[str, Any], path: Path) -> None:
        """Restore what `state_dict` returns.

        Raises:
            ValueError: as the base class.
        """
        super().load_state_dict(content, path)
        self.health.load_state_dict(content.get("health", {}))

    def evaluate(self, folder: Path) -> Mapping[str, Any]:
        """Evaluate reconstructions of the test dances with the real root; this stage does not model it."""
        evaluation = self.evaluation()
        rows = {"memory (real root)": evaluation.reconstructions(real_root=True)}
        return evaluation.report(folder, rows, shown="memory (real root)", title=self.config.name)

    def architecture(self) -> dict[str, Any]:
        """Return the memory's architecture."""
        return self.memory.architecture()


def usage(counts: np.ndarray) -> dict[str, float]:
    """Return used codes, dead codes and perplexity (1..K) of how often (K,) each code was used, not all 0.

    Perplexity is exp of the entropy of the usage: the number of codes if all were used equally often.
    """
    share = counts[counts > 0] / counts.sum()
    perplexity = float(np.exp(-(share * np.log(share)).sum()))
    return {"used_codes": len(share), "dead_codes": len(counts) - len(share), "perplexity": perplexity}


class CodebookHealth:
    """Counts the codes of each batch and epoch, over all processes.

    The counts stay in place, and no step synchronises with the device.
    """

    def __init__(self, memory: ChoreographicMemory) -> None:
        self.memory = memory
        books = {half: part.quantizer for half, part in memory.halves.items()}
        device = next(memory.parameters()).device
        self._counts = {  # (K,) by half
            half: torch.zeros(book.num_codes, dtype=torch.long, device=device) for half, book in books.items()
        }
        self._restarted = {
            half: torch.zeros((), dtype=torch.long, device=device)
            for half, book in books.items()
            if "restarted_codes" in book.step_logs()
        }

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """Return the counts of the epoch so far, 0 at its end."""
        return {"counts": dict(self._counts), "restarted": dict(self._restarted)}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Restore the counts; a checkpoint of an older version has none."""
        for own, name in ((self._counts, "counts"), (self._restarted, "restarted")):
            for half, value in state.get(name, {}).items():
                own[half].copy_(value)

    @torch.no_grad()
    def count(self, reconstruction: Reconstruction) -> dict[str, Tensor]:
        """Count the codes of a batch; return the batch's metrics, those of `Quantizer.step_logs` summed.

        All processes must call it.
        For codebooks with moving averages they include used_codes and perplexity of each half.
        """
        metrics: dict[str, Tensor] = {}
        for half, quantized in reconstruction.quantized.items():
            book = self.memory.halves[half].quantizer
            counts = assignments(quantized.indices.flatten(), book.num_codes).sum(0)
            self._counts[half] += sum_over_processes(counts)
            for name, value in book.step_logs().items():
                metrics[name] = metrics.get(name, 0) + value
                if name == "restarted_codes":
                    self._restarted[half] += value
            if isinstance(book, EMAQuantizer):
                metrics |= {f"used_codes_{half}": book.used(), f"perplexity_{half}": book.perplexity()}
        return metrics

    def end_epoch(self) -> Mapping[str, float]:
        """Return used and dead codes, perplexity and restarts of each half, and reset the counts."""
        metrics: dict[str, float] = {}
        for half, counts in self._counts.items():
            total = usage(counts.cpu().numpy())
            metrics |= {f"{name}_{half}": value for name, value in total.items()}
            if half in self._restarted:
                metrics[f"restarted_codes_{half}"] = int(self._restarted[half])
        for tensor in (*self._counts.values(), *self._restarted.values()):
            tensor.zero_()
        return metrics
