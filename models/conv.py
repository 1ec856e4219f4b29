"""Residual stacks, Encoder, Decoder: (B, C, T) <-> (B, C, T / 2**downsamplings).

Source: Bailando (CVPR 2022), section 3.2; dilated residual stacks as in Jukebox (arXiv 2005.00341). No
normalisation, and no other nonlinearity than the ReLUs inside the residual blocks.
"""

from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from utils.config import config


@config
class ConvConfig:
    """Sizes of an encoder and its mirrored decoder.

    Attributes:
        width: channels between the convolutions.
        downsamplings: how often time is halved; a code stands for 2**downsamplings frames.
        depth: residual blocks per stack.
        dilation_growth: dilation of block d is dilation_growth**d; the decoder runs them backwards.
        hidden_multiplier: channels inside a residual block, as a multiple of width.
    """

    width: PositiveInt = 512
    downsamplings: PositiveInt = 3
    depth: PositiveInt = 3
    dilation_growth: PositiveInt = 3
    hidden_multiplier: PositiveFloat = 1.0

    @property
    def frames_per_code(self) -> int:
        """How many frames one code stands for."""
        return 2**self.downsamplings


class ResidualBlock(nn.Module):
    """x + conv1(relu(conv3(relu(x)))), the inner convolution dilated."""

    def __init__(self, width: int, hidden: int, dilation: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(),
            nn.Conv1d(width, hidden, 3, padding=dilation, dilation=dilation),
            nn.ReLU(inplace=True),  # nobody needs the convolution's output as it was
            nn.Conv1d(hidden, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C, T)."""
        return x + self.layers(x)


def residual_stack(config: ConvConfig, reverse: bool) -> nn.Sequential:
    """Residual blocks with dilations 1, g, g², ..., or backwards."""
    hidden = max(1, round(config.hidden_multiplier * config.width))
    dilations = [config.dilation_growth**d for d in range(config.depth)]
    blocks = (ResidualBlock(config.width, hidden, d) for d in (reversed(dilations) if reverse else dilations))
    return nn.Sequential(*blocks)


class Encoder(nn.Module):
    """Halves time `downsamplings` times: (B, channels, T) -> (B, code_dim, T')."""

    def __init__(self, channels: int, code_dim: int, config: ConvConfig) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(channels if stage == 0 else config.width, config.width, 4, stride=2, padding=1),
                residual_stack(config, reverse=False),
            )
            for stage in range(config.downsamplings)
        )
        self.out = nn.Conv1d(config.width, code_dim, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, T) -> latents (B, code_dim, T')."""
        for stage in self.stages:
            x = stage(x)
        return self.out(x)


class Decoder(nn.Module):
    """Doubles time `downsamplings` times: (B, code_dim, T') -> (B, channels, T)."""

    def __init__(self, channels: int, code_dim: int, config: ConvConfig) -> None:
        super().__init__()
        last = config.downsamplings - 1
        self.first = nn.Conv1d(code_dim, config.width, 3, padding=1)
        self.stages = nn.ModuleList(
            nn.Sequential(
                residual_stack(config, reverse=True),
                nn.ConvTranspose1d(
                    config.width, code_dim if s == last else config.width, 4, stride=2, padding=1
                ),
            )
            for s in range(config.downsamplings)
        )
        self.out = nn.Conv1d(code_dim, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Quantized latents (B, code_dim, T') -> (B, channels, T)."""
        x = self.first(x)
        for stage in self.stages:
            x = stage(x)
        return self.out(x)
