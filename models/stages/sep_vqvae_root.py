"""Stage 2: the global velocity branch learns where the lower codes take the dancer.

Source: Bailando (CVPR 2022), section 3.3. Only this second decoder learns; codes of a clip never change, so
each is encoded once.
"""

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import NonNegativeFloat
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from datasets.clips import PoseClips, training_velocities, usable_frames
from models.checkpoints import load_memory
from models.conv import use_channels_last
from models.stages.base import RunConfig, Stage, fingerprint_of_memory
from models.stages.losses import velocity_loss
from models.vqvae import ChoreographicMemory, Codes
from utils.motion import root_velocity


class SepVQVAERootConfig(RunConfig):
    """Config of stage sep_vqvae_root."""

    vqvae: str
    """Checkpoint of stage sep_vqvae."""
    acceleration: NonNegativeFloat = 1.0
    """Weight of the first difference of the velocity."""
    position: NonNegativeFloat = 0.0
    """Weight of the integrated root's error in a clip, in metres; 0 in the paper."""


class VelocityClip(NamedTuple):
    """A clip as the velocity branch sees it: lower codes (T',) and root velocity (T, 3), metres per frame."""

    lower: Tensor
    velocity: Tensor


class SepVQVAERoot(Stage):
    """Trains `memory.velocity` on the frozen lower codes."""

    name = "sep_vqvae_root"
    Config = SepVQVAERootConfig
    config: SepVQVAERootConfig

    def __init__(self, config: SepVQVAERootConfig, device: torch.device) -> None:
        super().__init__(config, device)
        trained = load_memory(Path(config.vqvae), config.made_by(Path(config.vqvae)), velocity=False)
        memory = ChoreographicMemory(trained.config, velocity=True)
        own = {k: v for k, v in trained.state_dict().items() if not k.startswith("velocity.")}
        memory.load_state_dict(own, strict=False)
        memory.requires_grad_(False)
        assert memory.velocity is not None
        memory.velocity.requires_grad_(True)
        if trained.config.normalise_pose and self.data.names("train"):  # else the checkpoint has them
            memory.velocity.set_statistics(training_velocities(self.data))
        self._memory_hash = fingerprint_of_memory(memory)  # resuming loads the checkpoint's
        self.model = memory.eval().to(device)
        self.learner = memory.velocity
        use_channels_last(self.learner, config.training.channels_last)

    @property
    def memory(self) -> ChoreographicMemory:
        """The model itself."""
        return self.model  # type: ignore[return-value]

    @cached_property
    def clips(self) -> Dataset[VelocityClip]:
        """The training clips, encoded."""
        poses = PoseClips(self.data, "train", self.config.data.clips)
        lower = encode_clips(self.memory, poses, self.device).lower

        class VelocityClips(Dataset[VelocityClip]):
            def __len__(self) -> int:
                return len(poses)

            def name(self, index: int) -> str:
                return poses.name(index)

            def __getitem__(self, index: int) -> VelocityClip:
                return VelocityClip(lower[index], root_velocity(poses[index][:, :3]))

        return VelocityClips()

    def batches(self, epoch: int) -> Iterable[VelocityClip]:
        """Batches of VelocityClip."""
        return self.loader(self.clips, epoch)

    def loss(self, learner: nn.Module, batch: VelocityClip) -> tuple[Tensor, Mapping[str, Tensor]]:
        """L1 of the root velocity and of its first difference."""
        latents = self.memory.lower.quantizer.decode(batch.lower.to(self.device, non_blocking=True))
        velocity = learner(latents).transpose(1, 2)
        target = batch.velocity.to(self.device, non_blocking=True)
        return velocity_loss(velocity, target, self.config.acceleration, self.config.position)

    def evaluate(self, folder: Path) -> Mapping[str, Any]:
        """Reconstructions of the test dances, root included."""
        evaluation = self.evaluation()
        rows = {"random codes": evaluation.random_codes(), "memory": evaluation.reconstructions()}
        return evaluation.report(folder, rows, shown="memory", title=self.config.name)

    def frozen(self) -> Mapping[str, str]:
        """The memory's encoders, codebooks and decoders."""
        return {"vqvae": self._memory_hash}

    def architecture(self) -> dict[str, Any]:
        """The memory's."""
        return self.memory.architecture()


@torch.no_grad()
def encode_clips(
    memory: ChoreographicMemory, clips: PoseClips, device: torch.device, batch_size: int = 64
) -> Codes:
    """Codes (N, T') of all clips, each encoded alone as released: zero padding makes edge codes its own."""
    # A generator of its own: the loader would draw from the global one, and resumed runs would differ.
    loader = DataLoader(clips, batch_size=batch_size, generator=torch.Generator())
    codes = [memory.encode(pose.to(device)) for pose in tqdm(loader, "encoding", leave=False, disable=None)]
    return Codes(*(torch.cat(half).cpu() for half in zip(*codes, strict=True)))


def encode_dances(memory: ChoreographicMemory, clips: PoseClips) -> Codes:
    """Codes (N, T') of all clips, cut out of the codes of their whole dances.

    Raises:
        ValueError: if clips start between codes.
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
