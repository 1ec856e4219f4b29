"""The choreographic memory: a VQ-VAE per half of the body, the global velocity branch, rotation decoders.

Source: Bailando (CVPR 2022), sections 3.2 (memory) and 3.3 (global velocity); Bailando++ (TPAMI 2023) for
bone rotations decoded from the same codes. Both halves share one config; their codebooks may differ in size.
For comparison there is a memory with one codebook for the whole body, and finite scalar quantization
(models/fsq.py) in place of the codebook with moving averages.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from pydantic import PositiveInt, model_validator
from torch import Tensor, nn

from models.conv import ConvConfig, Decoder, Encoder
from models.fsq import FSQ, FSQConfig
from models.quantizer import CodebookConfig, EMAQuantizer, Quantized, Quantizer
from utils.config import ConfigModel, check, to_plain
from utils.device import side_by_side
from utils.motion import integrate, joints_to_pose, pad_to_multiple, with_root, without_root
from utils.rotations import joints_of_rotations, nearest_rotations
from utils.skeleton import SKELETONS

# Codes decoded at a time, so that an hour needs no more memory than a minute; a GPU takes 18 minutes at once.
_DECODED = {"cpu": 512, "cuda": 8192}


class MemoryConfig(ConfigModel):
    """Sizes of the choreographic memory."""

    skeleton: str = "smpl_24"
    """Name of the skeleton; it decides the channels of both halves."""
    halves: Literal["split", "whole"] = "split"
    """`split` has a codebook per half, as in the paper; `whole` has one for all joints, for comparison. The
    keys of the lower half (codes_lower, fsq.levels_lower) then hold for the whole body."""
    quantizer: Literal["ema", "fsq"] = "ema"
    """`ema` is a codebook updated by moving averages, as in the paper; `fsq` is finite scalar quantization
    (arXiv 2309.15505), whose codes are a fixed grid."""
    codes_upper: PositiveInt = 512
    """Number of codes in the upper half's codebook (ema)."""
    codes_lower: PositiveInt = 512
    """Number of codes in the lower half's codebook (ema)."""
    codebook: CodebookConfig = CodebookConfig()
    """Size of the codebook's vectors, and how they are updated (ema)."""
    fsq: FSQConfig = FSQConfig()
    """Levels of the grids (fsq)."""
    conv: ConvConfig = ConvConfig()
    """Sizes of encoders and decoders."""
    normalise_pose: bool = False
    """Normalise each half to mean 0 and variance 1 over the training dances before it is encoded, and restore
    metres after it is decoded; likewise in the velocity branch, and in the rotation decoders with matrices.
    Published memories work in metres, where a pose is close to its mean and training is slower
    (docs/RESULTS.md)."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.skeleton not in SKELETONS:
            raise ValueError(f"unknown skeleton {self.skeleton!r}; there is: {', '.join(SKELETONS)}")
        return self


class Codes(NamedTuple):
    """Codes of a dance: upper and lower, (B, T') or (T',) int64 each.

    A memory of the whole body gives the same codes twice.
    """

    upper: Tensor
    lower: Tensor

    def of(self, half: str) -> Tensor:
        """The codes of `upper`, `lower` or `whole`."""
        return self.upper if half == "upper" else self.lower


class Reconstruction(NamedTuple):
    """A reconstructed pose (B, T, J*3), and the result of quantizing each half, by its name."""

    pose: Tensor
    quantized: dict[str, Quantized]


class Motion(NamedTuple):
    """The motion of a whole dance.

    Attributes:
        joints: (T, J, 3) float32, metres, y up.
        rotations: (T, J, 3, 3) float32, each joint's relative to its parent's, the root's relative to the
            world; None if the memory has no rotation decoders.
    """

    joints: Tensor
    rotations: Tensor | None


class HalfVQVAE(nn.Module):
    """The VQ-VAE of one half: encoder, quantizer, decoder."""

    def __init__(self, channels: int, num_codes: int, levels: tuple[int, ...], config: MemoryConfig) -> None:
        super().__init__()
        self.encoder = Encoder(channels, config.codebook.dim, config.conv, config.normalise_pose)
        self.quantizer: Quantizer
        if config.quantizer == "fsq":
            self.quantizer = FSQ(levels, config.codebook.dim)
        else:
            self.quantizer = EMAQuantizer(num_codes, config.codebook)
        self.decoder = Decoder(channels, config.codebook.dim, config.conv, config.normalise_pose)

    def encode(self, motion: Tensor) -> Tensor:
        """Codes (B, T') of a half's motion (B, T, channels)."""
        return self.quantizer.encode(self.encoder(motion.transpose(1, 2)))

    def decode(self, codes: Tensor) -> Tensor:
        """Motion (B, T, channels) of a half's codes (B, T')."""
        return self.decoder(self.quantizer.decode(codes)).transpose(1, 2)

    def forward(self, motion: Tensor) -> tuple[Tensor, Quantized]:
        """The reconstruction of a half's motion (B, T, channels), and the result of quantizing it."""
        quantized = self.quantizer(self.encoder(motion.transpose(1, 2)))
        return self.decoder(quantized.latents).transpose(1, 2), quantized


class RotationDecoders(nn.ModuleDict):
    """A decoder per half from quantized latents to the rotation matrices of the half's joints.

    The matrices are raw outputs: `nearest_rotations` makes rotations of them.
    Source: Bailando++ (TPAMI 2023). Each has the shape of a position decoder, with 9 channels per joint.
    """

    def __init__(self, num_joints: Mapping[str, int], config: MemoryConfig) -> None:
        sizes = config.codebook.dim, config.conv, config.normalise_pose
        super().__init__({half: Decoder(9 * number, *sizes) for half, number in num_joints.items()})

    def forward(self, latents: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Row-major matrices (B, T, 9 n) of each half's n joints, from latents (B, code_dim, T')."""
        if len(self) == 1:
            return {half: decoder(latents[half]).transpose(1, 2) for half, decoder in self.items()}
        inputs = latents["upper"], self["lower"], latents["lower"]
        upper, lower = side_by_side(self["upper"], *inputs)
        return {"upper": upper.transpose(1, 2), "lower": lower.transpose(1, 2)}


class ChoreographicMemory(nn.Module):
    """Two halves that encode motion into codes and decode codes into motion.

    `encode` and `decode` work on batches of poses, `encode_dance` and `decode_dance` on joints of whole
    dances. The root slot of every input is zeroed here: codes do not depend on the root's position. With
    `velocity`, the global velocity branch, decoded poses hold the root velocity in that slot; without it,
    they hold the lower decoder's output for an input of zeros. With `rotations`, decoders of bone rotations,
    `decode_motion` gives the rotations of a dance, and joints that follow from them. A memory of the whole
    body has one half, `lower`, with all joints.
    """

    _upper: Tensor
    _lower: Tensor
    _whole: Tensor
    _matrices_upper: Tensor
    _matrices_lower: Tensor
    _matrices_whole: Tensor

    def __init__(self, config: MemoryConfig, velocity: bool = False, rotations: bool = False) -> None:
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
        joints = {"upper": len(upper), "lower": len(lower)} if upper else {"whole": len(lower)}
        self.rotations = RotationDecoders(joints, config) if rotations else None
        order = upper + lower
        whole = [order.index(joint) for joint in range(len(order))]
        for name, group in (("upper", upper), ("lower", lower), ("whole", whole)):
            self.register_buffer(f"_{name}", _channels(group, 3), persistent=False)
            self.register_buffer(f"_matrices_{name}", _channels(group, 9), persistent=False)

    @property
    def frames_per_code(self) -> int:
        """Number of frames that one code represents."""
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
        lower = self.lower.quantizer.num_codes
        return lower if self.upper is None else self.upper.quantizer.num_codes, lower

    @property
    def code_vectors(self) -> tuple[Tensor, Tensor]:
        """Codebook vectors (K, C) of the upper and the lower half, which decode to the codes' motion."""
        lower = _code_vectors(self.lower)
        return lower if self.upper is None else _code_vectors(self.upper), lower

    def set_pose_statistics(self, poses: Tensor) -> None:
        """Set the statistics that `normalise_pose` needs to those of the training poses (N, J*3)."""
        upper, lower = self.split(poses)
        for name, half in self.halves.items():
            motion = upper if name == "upper" else lower
            half.encoder.set_statistics(motion)
            half.decoder.set_statistics(motion)

    def set_rotation_statistics(self, rotations: Tensor) -> None:
        """Set the rotation decoders' statistics for `normalise_pose` to those of rotations (N, J, 3, 3)."""
        assert self.rotations is not None, "this memory was built without rotation decoders"
        for half, matrices in self.split_rotations(rotations).items():
            decoder = self.rotations[half]
            assert isinstance(decoder, Decoder)
            decoder.set_statistics(matrices)

    def architecture(self) -> dict[str, Any]:
        """The entry of a checkpoint from which `from_architecture` builds this memory."""
        return {
            "memory": to_plain(self.config),
            "velocity": self.velocity is not None,
            "rotations": self.rotations is not None,
        }

    @classmethod
    def from_architecture(
        cls, architecture: Mapping[str, Any], source: str = "architecture"
    ) -> "ChoreographicMemory":
        """The memory that a checkpoint describes, with new weights."""
        config = check(MemoryConfig, architecture["memory"], source)
        rotations = bool(architecture.get("rotations", False))  # older checkpoints do not say
        return cls(config, bool(architecture["velocity"]), rotations)

    @staticmethod
    def current_name(key: str) -> str:
        """The present name of a key of a state dict, which may have the former one."""
        return _replaced(key, "codebook", "quantizer", _RENAMED_BUFFERS)

    @staticmethod
    def former_name(key: str) -> str:
        """The name that a key of the state dict had formerly; inverse of `current_name`."""
        former = {new: old for old, new in _RENAMED_BUFFERS.items()}
        return _replaced(key, "quantizer", "codebook", former)

    def split(self, pose: Tensor) -> tuple[Tensor, Tensor]:
        """Upper (B, T, 45) and lower (B, T, 27) channels of a pose (B, T, 72), root slot zeroed (SMPL).

        A memory of the whole body has no upper channels and all of them as lower ones.
        """
        return self.channels(without_root(pose))

    def channels(self, pose: Tensor) -> tuple[Tensor, Tensor]:
        """Upper and lower channels of an unchanged pose; inverse of `join`."""
        return pose.index_select(-1, self._upper), pose.index_select(-1, self._lower)

    def join(self, upper: Tensor, lower: Tensor) -> Tensor:
        """The pose of both halves' channels; inverse of `channels`."""
        return torch.cat([upper, lower], dim=-1).index_select(-1, self._whole)

    def encode(self, pose: Tensor) -> Codes:
        """Codes (B, T // frames_per_code) of a pose (B, T, J*3); its root slot is ignored.

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
        return self.velocity(self.lower.quantizer.decode(lower_codes)).transpose(1, 2)

    def latents(self, codes: Codes) -> dict[str, Tensor]:
        """Quantized latents (B, code_dim, T') of codes (B, T'), by half."""
        return {name: half.quantizer.decode(codes.of(name)) for name, half in self.halves.items()}

    def split_rotations(self, rotations: Tensor) -> dict[str, Tensor]:
        """Row-major matrices (B, T, 9 n) of each half's n joints, of rotations (B, T, J, 3, 3)."""
        channels = {"upper": self._matrices_upper, "lower": self._matrices_lower}
        if self.upper is None:
            channels = {"whole": self._matrices_lower}
        flat = rotations.flatten(-3)
        return {half: flat.index_select(-1, some) for half, some in channels.items()}

    def join_rotations(self, matrices: Mapping[str, Tensor]) -> Tensor:
        """Rotations (B, T, J, 3, 3) of the halves' matrices; inverse of `split_rotations`."""
        joined = torch.cat(list(matrices.values()), dim=-1).index_select(-1, self._matrices_whole)
        return joined.unflatten(-1, (-1, 3, 3))

    def decode_rotations(self, codes: Codes) -> Tensor:
        """Raw rotation matrices (B, T, J, 3, 3) of codes (B, T'): near rotations, but not projected."""
        assert self.rotations is not None, "this memory was built without rotation decoders"
        return self.join_rotations(self.rotations(self.latents(codes)))

    @torch.no_grad()
    def encode_dance(self, joints: np.ndarray | Tensor) -> Codes:
        """Codes of a whole dance.

        As published, the dance is padded by its last frame to the *next* multiple of frames_per_code: a
        length that divides gets a whole further code.

        Args:
            joints: (T, J, 3), metres, at the skeleton's frame rate.

        Returns:
            Codes (T',) on the CPU, T' = T // frames_per_code + 1.

        Raises:
            ValueError: if the joints are not (T, J, 3), or there is no frame.
        """
        joints = torch.as_tensor(np.array(joints, dtype=np.float32))
        if joints.ndim != 3 or joints.shape[1:] != (self.skeleton.num_joints, 3) or not len(joints):
            needed = f"(T, {self.skeleton.num_joints}, 3) with at least one frame"
            raise ValueError(f"joints of a dance must be {needed}, got {tuple(joints.shape)}")
        pose = pad_to_multiple(joints_to_pose(joints), self.frames_per_code)
        codes = self.encode(pose.unsqueeze(0).to(next(self.parameters())))
        return Codes(*(half[0].cpu() for half in codes))

    @torch.no_grad()
    def decode_dance(self, codes: Codes, root: Tensor | None = None) -> Tensor:
        """Joints of a whole dance.

        Long dances are decoded in pieces that overlap by the decoders' receptive field, which gives the same
        joints in bounded memory. The velocity is integrated in float64.

        Args:
            codes: (T',) each.
            root: (T, 3) root positions, metres; None integrates the velocity branch from the origin, or, in a
                memory without it, keeps the root at the origin.

        Returns:
            Joints (T, J, 3) float32 in metres on the CPU, T = T' * frames_per_code.
        """
        pose = self._in_pieces(self.decode, codes)
        relative = pose[:, 3:].unflatten(-1, (-1, 3))
        if root is None:
            velocity = pose[:, :3].double()
            root = integrate(velocity if self.velocity is not None else torch.zeros_like(velocity))
        root = root.unsqueeze(1)
        return torch.cat([root, relative + root], dim=1).to(pose.dtype)

    @torch.no_grad()
    def decode_motion(self, codes: Codes, root: Tensor | None = None) -> Motion:
        """Joints of a whole dance and, by a memory that decodes them, the bone rotations they follow from.

        With rotation decoders, the joints are forward kinematics of the projected rotations on SMPL's male
        rest joints, so bones are rigid. Without, they are those of `decode_dance`.

        Args:
            codes: (T',) each.
            root: (T, 3) root positions, metres; None as in `decode_dance`.

        Returns:
            The motion on the CPU, T = T' * frames_per_code frames.
        """
        if self.rotations is None:
            return Motion(self.decode_dance(codes, root), None)
        rotations = nearest_rotations(self._in_pieces(self.decode_rotations, codes))
        if root is None:
            velocity = torch.zeros(len(rotations), 3, dtype=torch.float64)
            if self.velocity is not None:
                velocity = self._in_pieces(lambda some: self.decode_velocity(some.lower), codes).double()
            root = integrate(velocity)
        return Motion(joints_of_rotations(rotations, root, self.skeleton), rotations.float())

    def _in_pieces(self, decode: Callable[[Codes], Tensor], codes: Codes) -> Tensor:
        """Apply `decode` to the codes (T',) of a whole dance in bounded memory: (T, ...) on the CPU."""
        length, overlap, step = len(codes.lower), self.config.conv.look_ahead, self.frames_per_code
        device, pieces = self._whole.device, []
        at_once = _DECODED.get(device.type, _DECODED["cpu"])
        for start in range(0, length, at_once):
            end = min(start + at_once, length)
            first, last = max(0, start - overlap), min(length, end + overlap)
            piece = Codes(*(half[None, first:last].to(device) for half in codes))
            pieces.append(decode(piece)[0, (start - first) * step : (end - first) * step].cpu())
        return torch.cat(pieces)

    def forward(self, pose: Tensor) -> Reconstruction:
        """Reconstruction of a pose (B, T, J*3), root slot zeroed; frames_per_code must divide T."""
        upper, lower = self.split(pose)
        if self.upper is None:
            motion, quantized = self.lower(lower)
            return Reconstruction(self.join(motion[..., :0], motion), {"whole": quantized})
        halves = side_by_side(self.upper, upper, self.lower, lower)
        (upper_motion, upper_quantized), (lower_motion, lower_quantized) = halves
        quantized = {"upper": upper_quantized, "lower": lower_quantized}
        return Reconstruction(self.join(upper_motion, lower_motion), quantized)


_RENAMED_BUFFERS = {"codes": "codebook", "sums": "ema_sum", "counts": "ema_count"}


def _replaced(key: str, module: str, other: str, buffers: Mapping[str, str]) -> str:
    match = re.fullmatch(rf"(upper|lower)\.{module}\.(\w+)(.*)", key)
    if match is None:
        return key
    half, name, rest = match.groups()
    return f"{half}.{other}.{buffers.get(name, name)}{rest}"


def _channels(joints: tuple[int, ...] | list[int], size: int) -> Tensor:
    """Channels of joints with `size` numbers each."""
    return torch.tensor([size * joint + i for joint in joints for i in range(size)], dtype=torch.long)


@torch.no_grad()
def _code_vectors(half: HalfVQVAE) -> Tensor:
    codes = torch.arange(half.quantizer.num_codes, device=next(half.parameters()).device)
    return half.quantizer.decode(codes.unsqueeze(0))[0].T.clone()
