"""Train rotation decoders to predict bone rotations from the frozen codes; optional, after stage 2.

Source: Bailando++ (TPAMI 2023), its rotation memory. Encoders, codebooks, position decoders and the velocity
branch stay as they are, so codes keep their meaning: the codes of a motion GPT that was trained before this
stage can be decoded to rotations. Codes of a clip never change, so each clip is encoded once.
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from datasets.clips import PoseClips, training_rotations
from datasets.sequences import PreparedData
from models.stages.base import RunConfig
from models.stages.memory_losses import RotationLossConfig, rotation_loss
from models.stages.sep_vqvae_root import BranchStage, encode_clips
from models.vqvae import ChoreographicMemory, Codes
from utils.training.trainer import Batches


class SepVQVAERootMixConfig(RunConfig):
    """Config of stage sep_vqvae_root_mix."""

    vqvae: str
    """Checkpoint of stage sep_vqvae_root."""
    loss: RotationLossConfig = RotationLossConfig()
    """Weights of the loss; see RotationLossConfig."""


class RotationClip(NamedTuple):
    """A clip for the rotation decoders: codes (T',) of both halves and rotations (T, J, 3, 3)."""

    upper: Tensor
    lower: Tensor
    rotations: Tensor


class RotationClips(Dataset[RotationClip]):
    """The clips of a dataset of poses as codes, each with the rotations of the same frames of its dance.

    Raises:
        ValueError: if the data hold no rotations of one of the dances.
    """

    def __init__(self, data: PreparedData, poses: PoseClips, codes: Codes) -> None:
        self.poses, self.codes = poses, codes
        self.rotations = [data.rotations(sequence.name) for sequence in poses.sequences]

    def __len__(self) -> int:
        return len(self.poses)

    def name(self, index: int) -> str:
        """Return the name of the sequence that a clip is from."""
        return self.poses.name(index)

    def __getitem__(self, index: int) -> RotationClip:
        sequence, start = self.poses.places[index]
        rotations = np.array(self.rotations[sequence][start : start + self.poses.config.frames])
        return RotationClip(self.codes.upper[index], self.codes.lower[index], torch.from_numpy(rotations))


class SepVQVAERootMix(BranchStage):
    """Trains `memory.rotations` on the frozen codes of both halves."""

    name = "sep_vqvae_root_mix"
    branch = "rotations"
    Config = SepVQVAERootMixConfig
    config: SepVQVAERootMixConfig

    def __init__(self, config: SepVQVAERootMixConfig, device: torch.device) -> None:
        super().__init__(config, device, config.vqvae)

    def set_statistics(self, memory: ChoreographicMemory) -> None:
        """Set those of the training dances' rotations."""
        if self.data.has_rotations("train"):
            memory.set_rotation_statistics(training_rotations(self.data))

    @cached_property
    def clips(self) -> RotationClips:
        """The training clips, encoded."""
        poses = PoseClips(self.data, "train", self.config.data.clips)
        return RotationClips(self.data, poses, encode_clips(self.memory, poses, self.device))

    def batches(self, epoch: int) -> Batches:
        """Return batches of RotationClip."""
        return self.loader(self.clips, epoch)

    def loss(self, batch: RotationClip) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the L1 loss of the raw matrices and of their first and second difference."""
        upper, lower, rotations = (x.to(self.device, non_blocking=True) for x in batch)
        predicted = self.trainable(self.memory.latents(Codes(upper, lower)))
        return rotation_loss(predicted, self.memory.split_rotations(rotations), self.config.loss)

    def evaluate(self, folder: Path) -> Mapping[str, Any]:
        """Evaluate reconstructions of the test dances by both kinds of decoders, root included."""
        evaluation = self.evaluation()
        rows = {
            "random codes": evaluation.random_codes(),
            "memory (positions)": evaluation.reconstructions(rotations=False),
            "memory": evaluation.reconstructions(),
        }
        return evaluation.report(folder, rows, shown="memory", title=self.config.name)
