"""Stage 2: train the global velocity branch to predict root velocity from the lower codes.

Source: Bailando (CVPR 2022), section 3.3. Only this second decoder is trained; codes of a clip never change,
so each clip is encoded once.
"""

from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from pydantic import NonNegativeFloat
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from datasets.clips import PoseClips, training_velocities, usable_frames
from models.checkpoints import load_memory
from models.conv import use_channels_last
from models.stages.base import RunConfig, Stage, fingerprint_of_memory
from models.stages.memory_losses import velocity_loss
from models.vqvae import ChoreographicMemory, Codes
from utils.motion import root_velocity
from utils.training.trainer import Batches


class SepVQVAERootConfig(RunConfig):
    """Config of stage sep_vqvae_root."""

    vqvae: str
    """Checkpoint of stage sep_vqvae."""
    acceleration: NonNegativeFloat = 1.0
    """Weight of the loss of the velocity's first difference."""
    position: NonNegativeFloat = 0.0
    """Weight of the loss of the integrated root position in a clip, in metres; 0 in the paper."""


class VelocityClip(NamedTuple):
    """A clip for the velocity branch: lower codes (T',) and root velocity (T, 3) in metres per frame."""

    lower: Tensor
    velocity: Tensor


class VelocityClips(Dataset[VelocityClip]):
    """The clips of a dataset of poses, of which only lower codes and root velocity are used."""

    def __init__(self, poses: PoseClips, lower: Tensor) -> None:
        self.poses, self.lower = poses, lower

    def __len__(self) -> int:
        return len(self.poses)

    def name(self, index: int) -> str:
        """Return the name of the sequence that a clip is from."""
        return self.poses.name(index)

    def __getitem__(self, index: int) -> VelocityClip:
        return VelocityClip(self.lower[index], root_velocity(self.poses[index][:, :3]))


class BranchStage(Stage):
    """Trains one branch of a trained memory, which decodes its frozen codes; the rest stays as it is.

    Args:
        config: of the stage.
        device: of the computation.
        vqvae: checkpoint of the memory; it may lack the branch.

    Attributes:
        branch: the attribute of the memory: `velocity`, or `rotations`, which comes after it.
    """

    branch: ClassVar[Literal["velocity", "rotations"]]

    def __init__(self, config: RunConfig, device: torch.device, vqvae: str) -> None:
        super().__init__(config, device)
        rotations = self.branch == "rotations"
        trained = load_memory(Path(vqvae), config.made_by(Path(vqvae)), velocity=rotations)
        memory = ChoreographicMemory(trained.config, velocity=True, rotations=rotations)
        own = {k: v for k, v in trained.state_dict().items() if not k.startswith(f"{self.branch}.")}
        memory.load_state_dict(own, strict=False)
        memory.requires_grad_(False)
        branch = memory.get_submodule(self.branch).requires_grad_(True)
        if trained.config.normalise_pose:
            self.set_statistics(memory)
        self._memory_hash = fingerprint_of_memory(memory)  # `load_state_dict` replaces the weights
        self.model = memory.eval().to(device)
        self.trainable = branch
        use_channels_last(branch, config.training.channels_last)

    @abstractmethod
    def set_statistics(self, memory: ChoreographicMemory) -> None:
        """Set the branch's statistics for `normalise_pose`, unless the data lack what they are of.

        They are then in the checkpoint that is evaluated.
        """

    @property
    def memory(self) -> ChoreographicMemory:
        """The model itself."""
        return self.model  # type: ignore[return-value]

    @cached_property
    def built_on(self) -> Mapping[str, str]:
        """Hashes of the data, and of the memory's encoders, codebooks and position decoders."""
        return {**super().built_on, "vqvae": self._memory_hash}

    def architecture(self) -> dict[str, Any]:
        """Return the memory's architecture."""
        return self.memory.architecture()


class SepVQVAERoot(BranchStage):
    """Trains `memory.velocity` on the frozen lower codes."""

    name = "sep_vqvae_root"
    branch = "velocity"
    Config = SepVQVAERootConfig
    config: SepVQVAERootConfig

    def __init__(self, config: SepVQVAERootConfig, device: torch.device) -> None:
        super().__init__(config, device, config.vqvae)

    def set_statistics(self, memory: ChoreographicMemory) -> None:
        """Set those of the training dances' root velocities."""
        if self.data.names("train"):
            assert memory.velocity is not None
            memory.velocity.set_statistics(training_velocities(self.data))

    @cached_property
    def clips(self) -> "VelocityClips":
        """The training clips, encoded."""
        poses = PoseClips(self.data, "train", self.config.data.clips)
        lower = encode_clips(self.memory, poses, self.device).lower

        return VelocityClips(poses, lower)

    def batches(self, epoch: int) -> Batches:
        """Return batches of VelocityClip."""
        return self.loader(self.clips, epoch)

    def loss(self, batch: VelocityClip) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the L1 loss of the root velocity and of its first difference."""
        latents = self.memory.lower.quantizer.decode(batch.lower.to(self.device, non_blocking=True))
        velocity = self.trainable(latents).transpose(1, 2)
        target = batch.velocity.to(self.device, non_blocking=True)
        return velocity_loss(velocity, target, self.config.acceleration, self.config.position)

    def evaluate(self, folder: Path) -> Mapping[str, Any]:
        """Evaluate reconstructions of the test dances, root included."""
        evaluation = self.evaluation()
        rows = {"random codes": evaluation.random_codes(), "memory": evaluation.reconstructions()}
        return evaluation.report(folder, rows, shown="memory", title=self.config.name)


@torch.no_grad()
def encode_clips(
    memory: ChoreographicMemory, clips: PoseClips, device: torch.device, batch_size: int = 64
) -> Codes:
    """Return the codes (N, T') of all clips, each encoded alone, as published."""
    loader = DataLoader(clips, batch_size=batch_size, generator=torch.Generator())
    codes = [memory.encode(pose.to(device)) for pose in tqdm(loader, "encoding", leave=False, disable=None)]
    return Codes(*(torch.cat(half).cpu() for half in zip(*codes, strict=True)))


def encode_dances(memory: ChoreographicMemory, clips: PoseClips) -> Codes:
    """Return the codes (N, T') of all clips, cut out of the codes of their whole dances.

    Raises:
        ValueError: if the hop of the clips is not a whole number of codes.
    """
    step = memory.frames_per_code
    if clips.config.hop % step:
        raise ValueError(
            f"data.clips.hop {clips.config.hop} must divide by {step} with data.clips.codes whole_dance"
        )
    whole = [
        memory.encode_dance(sequence.joints[: usable_frames(sequence)])
        for sequence in tqdm(clips.sequences, "encoding", leave=False, disable=None)
    ]
    length = clips.config.frames // step

    def cut(half: str) -> Tensor:
        codes = [getattr(dance, half) for dance in whole]
        return torch.stack([codes[place.sequence][place.start // step :][:length] for place in clips.places])

    return Codes(cut("upper"), cut("lower"))
