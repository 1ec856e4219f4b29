"""Stage 1: the choreographic memory learns to reconstruct clips of dances.

Source: Bailando (CVPR 2022), section 3.2.
"""

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datasets.clips import PoseClips, training_poses
from models.conv import use_channels_last
from models.quantizer import EMAQuantizer
from models.stages.base import RunConfig, Stage
from models.stages.health import CodebookHealth
from models.stages.losses import MotionLossConfig, memory_loss
from models.vqvae import ChoreographicMemory, MemoryConfig


class SepVQVAEConfig(RunConfig):
    """Config of stage sep_vqvae."""

    model: MemoryConfig = MemoryConfig()
    """Sizes of the memory."""
    loss: MotionLossConfig = MotionLossConfig()
    """Weights of the loss."""


class SepVQVAE(Stage):
    """Trains both halves at once; their losses are averaged."""

    name = "sep_vqvae"
    Config = SepVQVAEConfig
    config: SepVQVAEConfig

    def __init__(self, config: SepVQVAEConfig, device: torch.device) -> None:
        super().__init__(config, device)
        self.model = ChoreographicMemory(config.model).to(device)
        self.learner = self.model
        use_channels_last(self.learner, config.training.channels_last)
        self.health = CodebookHealth(self.model)
        if config.model.normalise_pose and self.data.names("train"):  # else the checkpoint has them
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

    def batches(self, epoch: int) -> Iterable[Tensor]:
        """Poses (B, frames, J*3)."""
        return self.loader(self.clips, epoch)

    def loss(self, learner: nn.Module, batch: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Reconstruction, velocity, acceleration and commitment of each half; restarted codes."""
        pose = batch.to(self.device, non_blocking=True)
        reconstruction = learner(pose)
        loss, logs = memory_loss(reconstruction, pose, self.memory, self.config.loss)
        return loss, {**logs, **self.health.count(reconstruction)}

    def epoch_logs(self) -> Mapping[str, float]:
        """Used and dead codes, perplexity and restarts of each half, over the epoch's batches."""
        return self.health.epoch_logs()

    @property
    def _learnt(self) -> dict[str, EMAQuantizer]:
        """The codebooks that are updated by moving averages, by half; FSQ has none."""
        parts = self.memory.halves.items()
        return {half: part.quantizer for half, part in parts if isinstance(part.quantizer, EMAQuantizer)}

    def gauges(self) -> Mapping[str, Tensor]:
        """Of each learnt codebook: how many codes the batch used, and their perplexity."""
        gauges = {f"used_codes_{half}": book.used() for half, book in self._learnt.items()}
        return gauges | {f"perplexity_{half}": book.perplexity() for half, book in self._learnt.items()}

    @torch.no_grad()
    def begin_step(self, parts: list[Tensor]) -> None:
        """Codebooks start from the latents of the whole first batch."""
        if all(book.is_initialised for book in self._learnt.values()):
            return
        motions = [self.memory.split(pose.to(self.device)) for pose in parts]
        for half, book in self._learnt.items():
            encoder, side = self.memory.halves[half].encoder, 0 if half == "upper" else 1
            book.start_from(torch.cat([encoder(motion[side].transpose(1, 2)) for motion in motions]))

    def hold(self, held: bool) -> None:
        """Codebooks learn once from all parts of a batch."""
        for book in self._learnt.values():
            book.hold = held

    def evaluate(self, folder: Path) -> Mapping[str, Any]:
        """Reconstructions of the test dances, with the real root: this stage learns nothing of the root."""
        evaluation = self.evaluation()
        rows = {"memory (real root)": evaluation.reconstructions(real_root=True)}
        return evaluation.report(folder, rows, shown="memory (real root)", title=self.config.name)

    def architecture(self) -> dict[str, Any]:
        """The memory's."""
        return self.memory.architecture()
