"""The choreographic memory: a VQ-VAE per half of the body, and the global velocity branch.

Source: Bailando (CVPR 2022), sections 3.2 (memory) and 3.3 (global velocity). Both halves share one config;
their codebooks may differ in size. For comparison there is a memory of the whole body, and finite scalar
quantisation (models/fsq.py) in place of the learnt codebook.
"""

from typing import Any, Literal, NamedTuple, Self

import torch
from pydantic import PositiveInt, model_validator
from torch import Tensor, nn

from models.conv import ConvConfig, Decoder, Encoder
from models.fsq import FSQ, FSQConfig
from models.quantizer import Codebook, CodebookConfig, Quantized, Quantizer
from utils.config import ConfigModel, check, to_plain
from utils.motion import with_root, without_root
from utils.skeleton import SKELETONS


class MemoryConfig(ConfigModel):
    """Sizes of the choreographic memory."""

    skeleton: str = "smpl_24"
    """Name of the skeleton; it decides the channels of both halves."""
    halves: Literal["split", "whole"] = "split"
    """`split`, a codebook per half as in the paper; or `whole`, one for all joints, to compare with: what is
    said of the lower half (its codes, its levels) then holds for the whole body."""
    quantizer: Literal["ema", "fsq"] = "ema"
    """`ema`, a codebook learnt by moving averages as in the paper; or `fsq`, finite scalar quantisation
    (arXiv 2309.15505), whose codes are a fixed grid."""
    codes_upper: PositiveInt = 512
    """Codes in the upper half's codebook (ema)."""
    codes_lower: PositiveInt = 512
    """Codes in the lower half's codebook (ema)."""
    codebook: CodebookConfig = CodebookConfig()
    """Length of codes, and how codebooks learn (ema)."""
    fsq: FSQConfig = FSQConfig()
    """The grids (fsq)."""
    conv: ConvConfig = ConvConfig()
    """Sizes of encoders and decoders."""
    normalise_pose: bool = False
    """Bring each half to mean 0 and variance 1 over the training dances before it is encoded, and back after
    it is decoded; the velocity branch likewise. Published memories work in metres, where a pose is mostly its
    mean and training is slower (docs/RESULTS.md)."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.skeleton not in SKELETONS:
            raise ValueError(f"unknown skeleton {self.skeleton!r}; there is: {', '.join(SKELETONS)}")
        return self


class Codes(NamedTuple):
    """A dance as codes: upper and lower, (B, T') int64 each; a memory of the whole body gives them twice."""

    upper: Tensor
    lower: Tensor

    def of(self, half: str) -> Tensor:
        """The codes of `upper`, `lower` or `whole`."""
        return self.upper if half == "upper" else self.lower


class Reconstruction(NamedTuple):
    """A pose (B, T, J*3) that went through the memory, and what quantising each half gave, by its name."""

    pose: Tensor
    quantized: dict[str, Quantized]


class HalfVQVAE(nn.Module):
    """The VQ-VAE of one half: encoder, codebook, decoder."""

    def __init__(self, channels: int, num_codes: int, levels: tuple[int, ...], config: MemoryConfig) -> None:
        super().__init__()
        self.encoder = Encoder(channels, config.codebook.dim, config.conv, config.normalise_pose)
        self.codebook: Quantizer
        if config.quantizer == "fsq":
            self.codebook = FSQ(levels, config.codebook.dim)
        else:
            self.codebook = Codebook(num_codes, config.codebook)
        self.decoder = Decoder(channels, config.codebook.dim, config.conv, config.normalise_pose)

    def encode(self, x: Tensor) -> Tensor:
        """Codes (B, T') of a half's motion (B, T, channels)."""
        return self.codebook.encode(self.encoder(x.transpose(1, 2)))

    def decode(self, codes: Tensor) -> Tensor:
        """The half's motion (B, T, channels) of codes (B, T')."""
        return self.decoder(self.codebook.lookup(codes)).transpose(1, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Quantized]:
        """The half's motion (B, T, channels), reconstructed, and what quantising gave."""
        quantized = self.codebook(self.encoder(x.transpose(1, 2)))
        return self.decoder(quantized.latents).transpose(1, 2), quantized


class ChoreographicMemory(nn.Module):
    """Two halves that encode motion into codes and decode codes into motion.

    The root slot of every input is zeroed here: the memory never sees where the dancer is. With `velocity`,
    the global velocity branch, decoded poses hold the root velocity in that slot; without it, what the lower
    decoder makes of a zero. A memory of the whole body has one half only, `lower`, which holds all joints.
    """

    def __init__(self, config: MemoryConfig, velocity: bool = False) -> None:
        super().__init__()
        self.config = config
        skeleton = SKELETONS[config.skeleton]
        self.skeleton = skeleton
        upper, lower = skeleton.upper, skeleton.lower
        if config.halves == "whole":
            upper, lower = (), tuple(range(skeleton.num_joints))
        sizes_upper = 3 * len(upper), config.codes_upper, config.fsq.levels_upper
        sizes_lower = 3 * len(lower), config.codes_lower, config.fsq.levels_lower
        self.upper = HalfVQVAE(*sizes_upper, config) if upper else None
        self.lower = HalfVQVAE(*sizes_lower, config)
        self.velocity = (
            Decoder(3, config.codebook.dim, config.conv, config.normalise_pose) if velocity else None
        )
        order = upper + lower
        self.register_buffer("_upper", _channels(upper), persistent=False)
        self.register_buffer("_lower", _channels(lower), persistent=False)
        self.register_buffer(
            "_whole", _channels([order.index(joint) for joint in range(len(order))]), persistent=False
        )

    @property
    def frames_per_code(self) -> int:
        """How many frames one code stands for."""
        return self.config.conv.frames_per_code

    @property
    def halves(self) -> dict[str, HalfVQVAE]:
        """`upper` and `lower`, or `whole`, each with its VQ-VAE."""
        if self.upper is None:
            return {"whole": self.lower}
        return {"upper": self.upper, "lower": self.lower}

    @property
    def num_codes(self) -> tuple[int, int]:
        """Sizes of the upper and the lower codebook."""
        lower = self.lower.codebook.num_codes
        return lower if self.upper is None else self.upper.codebook.num_codes, lower

    def set_pose_statistics(self, poses: Tensor) -> None:
        """Set what `normalise_pose` needs to that of the training poses (N, J*3)."""
        upper, lower = self.split(poses)
        for name, half in self.halves.items():
            motion = upper if name == "upper" else lower
            half.encoder.set_statistics(motion)
            half.decoder.set_statistics(motion)

    def architecture(self) -> dict[str, Any]:
        """What a checkpoint must hold to build this memory again."""
        return {"memory": to_plain(self.config), "velocity": self.velocity is not None}

    @classmethod
    def from_architecture(
        cls, architecture: dict[str, Any], source: str = "architecture"
    ) -> "ChoreographicMemory":
        """The memory a checkpoint describes, with fresh weights."""
        return cls(check(MemoryConfig, architecture["memory"], source), bool(architecture["velocity"]))

    def split(self, pose: Tensor) -> tuple[Tensor, Tensor]:
        """Upper (B, T, 45), lower (B, T, 27) channels of a pose (B, T, 72), root slot zeroed; for SMPL.

        Of the whole body: none and all of them.
        """
        return self.channels(without_root(pose))

    def channels(self, pose: Tensor) -> tuple[Tensor, Tensor]:
        """Upper and lower channels of a pose as it is; inverse of `join`."""
        return pose.index_select(-1, self._upper), pose.index_select(-1, self._lower)

    def join(self, upper: Tensor, lower: Tensor) -> Tensor:
        """The pose of both halves' channels; inverse of `channels`."""
        return torch.cat([upper, lower], dim=-1).index_select(-1, self._whole)

    def encode(self, pose: Tensor) -> Codes:
        """Codes (B, T // frames_per_code) of a pose (B, T, J*3); whatever its root slot holds is ignored.

        Raises:
            ValueError: if the pose is not (B, T, J*3), or shorter than one code.
        """
        if pose.ndim != 3 or pose.shape[-1] != len(self._whole):
            raise ValueError(f"a pose must be (B, T, {len(self._whole)}), got {tuple(pose.shape)}")
        if pose.shape[1] < self.frames_per_code:
            raise ValueError(f"a pose needs at least {self.frames_per_code} frames, got {pose.shape[1]}")
        upper, lower = self.split(pose)
        lower_codes = self.lower.encode(lower)
        return Codes(lower_codes if self.upper is None else self.upper.encode(upper), lower_codes)

    def decode(self, codes: Codes) -> Tensor:
        """The pose (B, T, J*3) of codes (B, T'); its root slot holds root velocity with that branch.

        A memory of the whole body reads the lower codes and ignores the upper ones.
        """
        lower = self.lower.decode(codes.lower)
        pose = self.join(lower[..., :0] if self.upper is None else self.upper.decode(codes.upper), lower)
        return pose if self.velocity is None else with_root(pose, self.decode_velocity(codes.lower))

    def decode_velocity(self, lower_codes: Tensor) -> Tensor:
        """Root velocity (B, T, 3), metres per frame, of lower codes (B, T')."""
        assert self.velocity is not None, "this memory was built without its velocity branch"
        return self.velocity(self.lower.codebook.lookup(lower_codes)).transpose(1, 2)

    def forward(self, pose: Tensor) -> Reconstruction:
        """The pose (B, T, J*3) through both halves, root slot zeroed. T must divide by frames_per_code."""
        upper, lower = self.split(pose)
        if self.upper is None:
            motion, quantized = self.lower(lower)
            return Reconstruction(self.join(motion[..., :0], motion), {"whole": quantized})
        upper_motion, upper_quantized = self.upper(upper)
        lower_motion, lower_quantized = self.lower(lower)
        quantized = {"upper": upper_quantized, "lower": lower_quantized}
        return Reconstruction(self.join(upper_motion, lower_motion), quantized)


def _channels(joints: tuple[int, ...] | list[int]) -> Tensor:
    return torch.tensor([3 * joint + axis for joint in joints for axis in range(3)], dtype=torch.long)
