"""To compare with the global velocity branch: the same decoder learns where the root is, not how it moves.

The target is the root's place in the room, less its mean over the training dances, in metres; its first
difference is weighted as the velocity branch's. What is decoded is turned into velocity, so that whatever
integrates it gets the decoded path, moved to the dance's start.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from datasets.clips import PoseClips
from models.stages.memory_losses import velocity_loss
from models.stages.sep_vqvae_root import SepVQVAERoot, encode_clips
from models.vqvae import ChoreographicMemory
from utils.motion import root_velocity


class PlacedMemory(ChoreographicMemory):
    """A memory whose branch decodes places."""

    def decode_velocity(self, lower_codes: Tensor) -> Tensor:
        """Root velocity (B, T, 3), metres per frame, of the places that lower codes (B, T') decode to."""
        return root_velocity(super().decode_velocity(lower_codes))


class PlaceClip(NamedTuple):
    """A clip: lower codes (T',) and the root's place (T, 3), metres."""

    lower: Tensor
    place: Tensor


class PlaceClips(Dataset[PlaceClip]):
    """Clips of lower codes and places less the mean place."""

    def __init__(self, poses: PoseClips, lower: Tensor) -> None:
        self.poses, self.lower = poses, lower
        self.mean = torch.stack([poses[index][:, :3].mean(0) for index in range(len(poses))]).mean(0)

    def __len__(self) -> int:
        return len(self.poses)

    def name(self, index: int) -> str:
        """Of the dance it is from."""
        return self.poses.name(index)

    def __getitem__(self, index: int) -> PlaceClip:
        return PlaceClip(self.lower[index], self.poses[index][:, :3] - self.mean)


class AbsoluteRoot(SepVQVAERoot):
    """Trains the branch on places."""

    def __init__(self, config: Any, device: torch.device) -> None:
        super().__init__(config, device)
        memory = PlacedMemory(self.memory.config, velocity=True)
        memory.load_state_dict(self.model.state_dict())
        memory.requires_grad_(False)
        memory.velocity.requires_grad_(True)
        self.model = memory.eval().to(device)
        self.trainable = memory.velocity

    @cached_property
    def clips(self) -> PlaceClips:  # type: ignore[override]
        """The training clips, encoded."""
        poses = PoseClips(self.data, "train", self.config.data.clips)
        return PlaceClips(poses, encode_clips(self.memory, poses, self.device).lower)

    def loss(self, batch: PlaceClip) -> tuple[Tensor, Mapping[str, Tensor]]:  # type: ignore[override]
        """L1 of the place and of its first difference."""
        latents = self.memory.lower.quantizer.decode(batch.lower)
        return velocity_loss(self.trainable(latents).transpose(1, 2), batch.place, self.config.acceleration)
