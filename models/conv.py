"""Residual stacks, Encoder, Decoder: (B, C, T) <-> (B, C, T / 2**downsamplings).

Source: Bailando (CVPR 2022), section 3.2; dilated residual stacks as in Jukebox (arXiv 2005.00341). No
normalisation, and no other nonlinearity than the ReLUs inside the residual blocks.
"""

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from models.conv_products import ConvProduct, TransposedConvProduct
from utils.config import ConfigModel


class ConvConfig(ConfigModel):
    """Sizes of an encoder and its mirrored decoder."""

    width: PositiveInt = 512
    """Number of channels between the convolutions."""
    downsamplings: PositiveInt = 3
    """Number of times that time is halved; a code represents 2**downsamplings frames."""
    depth: PositiveInt = 3
    """Number of residual blocks per stack."""
    dilation_growth: PositiveInt = 3
    """The dilation of block d is dilation_growth**d; the decoder has them in reverse order."""
    hidden_multiplier: PositiveFloat = 1.0
    """Number of channels inside a residual block, as a multiple of width."""

    @property
    def frames_per_code(self) -> int:
        """Number of frames that one code represents."""
        return 2**self.downsamplings

    @property
    def look_ahead(self) -> int:
        """Number of codes after (and before) its own that a decoded frame depends on: the receptive field."""
        reach = sum(self.dilation_growth**d for d in range(self.depth))
        latest = self.frames_per_code  # the output convolution at the last frame of code 0
        for _ in range(self.downsamplings):
            latest = latest // 2 + 1 + reach  # outputs 2i, 2i+1 of a transposed convolution need i-1, i, i+1
        return latest + 1  # the first convolution


def uses_products(x: Tensor) -> bool:
    """Whether convolutions in the channels-last layout are matrix products of models/conv_products.py."""
    return x.is_cuda


class Conv(nn.Conv1d):
    """Convolution along time of (B, C, T), or of (B, C, 1, T) in the channels-last layout."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, [1,] T) -> (B, C', [1,] T')."""
        if x.ndim == 3:
            return super().forward(x)
        if uses_products(x):
            sizes = self.stride[0], int(self.padding[0]), self.dilation[0]
            return ConvProduct.apply(x, self.weight, self.bias, *sizes)
        stride, padding, dilation = (1, *self.stride), (0, int(self.padding[0])), (1, *self.dilation)
        return F.conv2d(x, self.weight.unsqueeze(2), self.bias, stride, padding, dilation)


class TransposedConv(nn.ConvTranspose1d):
    """Transposed convolution along time of (B, C, T), or of (B, C, 1, T) in the channels-last layout."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(B, C, [1,] T) -> (B, C', [1,] T')."""
        if x.ndim == 3:
            return super().forward(x, output_size)
        if uses_products(x):
            return TransposedConvProduct.apply(
                x, self.weight, self.bias, self.stride[0], int(self.padding[0])
            )
        stride, padding = (1, *self.stride), (0, int(self.padding[0]))
        return F.conv_transpose2d(x, self.weight.unsqueeze(2), self.bias, stride, padding)


class ConvNet(nn.Module):
    """Base of encoder and decoder: normalisation of the motion, and memory layout of the convolutions.

    With `normalise` the network works on motion of mean 0 (per channel) and variance 1 (over all channels
    together); the statistics are buffers, set once from the training data. In metres, where a pose is close
    to its mean, the joint error of the sample memory is 31 instead of 19 mm after 13 epochs
    (docs/RESULTS.md).

    With `channels_last`, in training, convolutions work on (B, T, C), which saves the libraries of CPUs and
    GPUs the reordering. Sums are then in another order, so evaluation mode, which decides codes, always uses
    (B, C, T).
    """

    channels_last = False
    motion_mean: Tensor
    motion_std: Tensor

    def __init__(self, motion_channels: int, normalise: bool) -> None:
        super().__init__()
        self.normalise = normalise
        if normalise:
            self.register_buffer("motion_mean", torch.zeros(motion_channels, 1))
            self.register_buffer("motion_std", torch.ones(()))

    @torch.no_grad()
    def set_statistics(self, motion: Tensor) -> None:
        """Set mean and standard deviation to those of motion (N, channels); for `normalise` only."""
        mean = motion.mean(0)
        self.motion_mean.copy_(mean.unsqueeze(1))
        self.motion_std.copy_((motion - mean).square().mean().sqrt().clamp(min=1e-6))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C', T')."""
        if not (self.channels_last and self.training):
            return self.layers(x)
        return self.layers(x.unsqueeze(2).contiguous(memory_format=torch.channels_last)).squeeze(2)

    def layers(self, x: Tensor) -> Tensor:
        """The network without the normalisation: (B, C, T) -> (B, C', T')."""
        raise NotImplementedError


def use_channels_last(model: nn.Module, used: bool) -> None:
    """Set the memory layout of all encoders and decoders in a model; see `ConvNet`."""
    for module in model.modules():
        if isinstance(module, ConvNet):
            module.channels_last = used


class ResidualBlock(nn.Module):
    """x + conv1(relu(conv3(relu(x)))), the inner convolution dilated."""

    def __init__(self, width: int, hidden: int, dilation: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(),
            Conv(width, hidden, 3, padding=dilation, dilation=dilation),
            nn.ReLU(inplace=True),  # the convolution's output is not used elsewhere
            Conv(hidden, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C, T)."""
        return x + self.layers(x)


def residual_stack(config: ConvConfig, reverse: bool) -> nn.Sequential:
    """Residual blocks with dilations 1, g, g², ..., or in reverse order."""
    hidden = max(1, round(config.hidden_multiplier * config.width))
    dilations = [config.dilation_growth**d for d in range(config.depth)]
    blocks = (ResidualBlock(config.width, hidden, d) for d in (reversed(dilations) if reverse else dilations))
    return nn.Sequential(*blocks)


class Encoder(ConvNet):
    """Halves time `downsamplings` times: (B, channels, T) -> (B, code_dim, T')."""

    def __init__(self, channels: int, code_dim: int, config: ConvConfig, normalise: bool = False) -> None:
        super().__init__(channels, normalise)
        self.stages = nn.ModuleList(
            nn.Sequential(
                Conv(channels if stage == 0 else config.width, config.width, 4, stride=2, padding=1),
                residual_stack(config, reverse=False),
            )
            for stage in range(config.downsamplings)
        )
        self.out = Conv(config.width, code_dim, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Motion (B, channels, T) -> latents (B, code_dim, T')."""
        return super().forward((x - self.motion_mean) / self.motion_std if self.normalise else x)

    def layers(self, x: Tensor) -> Tensor:
        """(B, channels, T) -> latents (B, code_dim, T')."""
        for stage in self.stages:
            x = stage(x)
        return self.out(x)


class Decoder(ConvNet):
    """Doubles time `downsamplings` times: (B, code_dim, T') -> (B, channels, T).

    The output is computed in fp32 at any precision: velocities are integrated over the whole song, and with a
    bf16 output layer the root position error grows by a third.
    """

    def __init__(self, channels: int, code_dim: int, config: ConvConfig, normalise: bool = False) -> None:
        super().__init__(channels, normalise)
        last = config.downsamplings - 1
        self.first = Conv(code_dim, config.width, 3, padding=1)
        self.stages = nn.ModuleList(
            nn.Sequential(
                residual_stack(config, reverse=True),
                TransposedConv(config.width, code_dim if s == last else config.width, 4, stride=2, padding=1),
            )
            for s in range(config.downsamplings)
        )
        self.out = Conv(code_dim, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Quantized latents (B, code_dim, T') -> motion (B, channels, T)."""
        return self.in_metres(super().forward(x))

    def in_metres(self, motion: Tensor) -> Tensor:
        """The output (B, channels, T) of `layers` in the units of the data."""
        return motion * self.motion_std + self.motion_mean if self.normalise else motion

    def layers(self, x: Tensor) -> Tensor:
        """Quantized latents (B, code_dim, T') -> (B, channels, T)."""
        x = self.first(x)
        for stage in self.stages:
            x = stage(x)
        with torch.autocast(x.device.type, enabled=False):
            return self.out(x.to(self.out.weight.dtype))
