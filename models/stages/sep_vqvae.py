"""Stage 1: the choreographic memory learns to reconstruct clips of dances.

Source: Bailando (CVPR 2022), section 3.2.
"""

from collections.abc import Iterable, Mapping
from dataclasses import field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datasets.clips import PoseClips
from models.stages.base import RunConfig, Stage
from models.stages.evaluation import Evaluation
from models.stages.losses import MotionLossConfig, memory_loss
from models.vqvae import ChoreographicMemory, MemoryConfig
from utils.config import config


@config
class SepVQVAEConfig(RunConfig):
    """Config of stage sep_vqvae.

    Attributes:
        model: sizes of the memory.
        loss: weights of the loss.
    """

    model: MemoryConfig = field(default_factory=MemoryConfig)
    loss: MotionLossConfig = field(default_factory=MotionLossConfig)


class SepVQVAE(Stage):
    """Trains both halves at once; their losses are averaged."""

    name = "sep_vqvae"
    Config = SepVQVAEConfig
    config: SepVQVAEConfig

    def __init__(self, config: SepVQVAEConfig, device: torch.device) -> None:
        super().__init__(config, device)
        self.model = ChoreographicMemory(config.model).to(device)
        self.learner = self.model
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
        return PoseClips(self.data, "train", self.config.data.clips)

    def batches(self, epoch: int) -> Iterable[Tensor]:
        """Poses (B, frames, J*3)."""
        return self.loader(self.clips, epoch)

    def loss(self, learner: nn.Module, batch: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Reconstruction, velocity, acceleration and commitment of both halves."""
        pose = batch.to(self.device, non_blocking=True)
        loss, logs = memory_loss(learner(pose), pose, self.memory, self.config.loss)
        restarted = self.memory.upper.codebook.restarted + self.memory.lower.codebook.restarted
        return loss, {**logs, "restarted_codes": restarted}

    def gauges(self) -> Mapping[str, Tensor]:
        """Of both codebooks: how many codes the batch used, and their perplexity."""
        books = {"upper": self.memory.upper.codebook, "lower": self.memory.lower.codebook}
        gauges = {f"used_codes_{half}": book.used() for half, book in books.items()}
        return gauges | {f"perplexity_{half}": book.perplexity() for half, book in books.items()}

    @torch.no_grad()
    def begin_step(self, parts: list[Tensor]) -> None:
        """Codebooks start from the latents of the whole first batch."""
        halves = (self.memory.upper, self.memory.lower)
        if all(half.codebook.is_initialised for half in halves):
            return
        motions = [self.memory.split(pose.to(self.device)) for pose in parts]
        for half, motion in zip(halves, zip(*motions, strict=True), strict=True):
            half.codebook.start_from(torch.cat([half.encoder(x.transpose(1, 2)) for x in motion]))

    def hold(self, held: bool) -> None:
        """Codebooks learn once from all parts of a batch."""
        self.memory.upper.codebook.hold = self.memory.lower.codebook.hold = held

    def evaluate(self, folder: Path) -> Mapping[str, Any]:
        """Reconstructions of the test dances, with the real root: this stage learns nothing of the root."""
        evaluation = Evaluation(self.data, self.config.evaluation, self.memory, self.config.seed)
        rows = {"memory (real root)": evaluation.reconstructions(real_root=True)}
        return evaluation.report(folder, rows, shown="memory (real root)", title=self.config.name)

    def architecture(self) -> dict[str, Any]:
        """The memory's."""
        return self.memory.architecture()
