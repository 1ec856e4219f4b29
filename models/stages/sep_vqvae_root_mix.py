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
from models.checkpoints import load_memory
from models.conv import use_channels_last
from models.stages.base import RunConfig, Stage, fingerprint_of_memory
from models.stages.memory_losses import RotationLossConfig, rotation_loss
from models.stages.sep_vqvae_root import encode_clips
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


class SepVQVAERootMix(Stage):
    """Trains `memory.rotations` on the frozen codes of both halves."""

    name = "sep_vqvae_root_mix"
    Config = SepVQVAERootMixConfig
    config: SepVQVAERootMixConfig

    def __init__(self, config: SepVQVAERootMixConfig, device: torch.device) -> None:
        super().__init__(config, device)
        trained = load_memory(Path(config.vqvae), config.made_by(Path(config.vqvae)), velocity=True)
        memory = ChoreographicMemory(trained.config, velocity=True, rotations=True)
        own = {key: value for key, value in trained.state_dict().items() if not key.startswith("rotations.")}
        memory.load_state_dict(own, strict=False)
        memory.requires_grad_(False)
        assert memory.rotations is not None
        memory.rotations.requires_grad_(True)
        if trained.config.normalise_pose and self.data.names("train"):  # else they are in the checkpoint
            memory.set_rotation_statistics(training_rotations(self.data))
        self._memory_hash = fingerprint_of_memory(memory)  # `load_state_dict` replaces the weights
        self.model = memory.eval().to(device)
        self.trainable = memory.rotations
        use_channels_last(memory.rotations, config.training.channels_last)

    @property
    def memory(self) -> ChoreographicMemory:
        """The model itself."""
        return self.model  # type: ignore[return-value]

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

    @cached_property
    def built_on(self) -> Mapping[str, str]:
        """Hashes of the data, and of the memory's encoders, codebooks and position decoders."""
        return {**super().built_on, "vqvae": self._memory_hash}

    def architecture(self) -> dict[str, Any]:
        """Return the memory's architecture."""
        return self.memory.architecture()
