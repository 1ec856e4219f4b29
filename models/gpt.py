"""The cross-conditional motion GPT: next upper and lower code from music and both halves' past codes.

Source: Bailando (CVPR 2022), section 3.4. Three token streams (music, upper, lower) are laid one after the
other along time; a token of any stream sees the tokens of all three up to its own time (models/masks.py).
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from models.blocks import Block, Dropout
from models.cache import BlockCache, WindowCache
from models.masks import cross_conditional_mask, independent_mask
from models.vqvae import Codes
from utils.config import ConfigModel, check, to_plain


class GPTConfig(ConfigModel):
    """Sizes of the motion GPT. The memory and the data decide codebook sizes and music channels."""

    width: PositiveInt = 768
    """Channels of a token."""
    heads: PositiveInt = 12
    """Attention heads per block."""
    base_blocks: PositiveInt = 6
    """Blocks before the value stack branches off."""
    head_blocks: PositiveInt = 6
    """Blocks after."""
    context: PositiveInt = 29
    """How many codes it sees."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Of embeddings, attention and residuals while training."""
    normalise_music: bool = False
    """Bring the music features to mean 0 over the training songs, and each group of them (MFCC, chroma,
    onset, beat, ...) to the same total variance. As released they go in as they are: the loudness column,
    around -500, drowns the beat flags."""
    unheard: tuple[Literal["mfcc", "mfcc_delta", "chroma", "onset", "beat", "tempogram"], ...] = ()
    """Groups of music features it is deaf to, named as in `datasets.sequences`; for `normalise_music` only.
    The 384 columns of the tempogram tell each song from all others: with them a small corpus is learnt by
    heart, song by song."""
    cross_conditional: bool = True
    """Whether a half sees the other's codes, as in the paper. If not, each sees music and itself only: two
    GPTs that share their weights, to compare with."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.unheard and not self.normalise_music:
            raise ValueError("unheard groups of music features need normalise_music: true")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must divide by heads {self.heads}")
        return self


class Logits(NamedTuple):
    """Scores of the next codes: upper (B, t, K_upper) and lower (B, t, K_lower)."""

    upper: Tensor
    lower: Tensor


def mask_of(
    config: GPTConfig, length: int, device: torch.device | None = None, earlier: Sequence[int] = ()
) -> Tensor:
    """The config's mask (3t, 3(s + t)) of t new steps after earlier pieces of s steps together."""
    if config.cross_conditional:
        return cross_conditional_mask(length, device, sum(earlier))
    return independent_mask(length, device, earlier)


class Base(nn.Module):
    """Embeddings and the first blocks: music and codes -> features (B, 3t, C)."""

    def __init__(self, config: GPTConfig, num_codes: tuple[int, int], music_channels: int) -> None:
        super().__init__()
        self.config = config
        if config.normalise_music:
            self.register_buffer("music_mean", torch.zeros(music_channels))
            self.register_buffer("music_deviation", torch.ones(music_channels))
        self.embed_music = nn.Linear(music_channels, config.width)
        self.embed_upper = nn.Embedding(num_codes[0], config.width)
        self.embed_lower = nn.Embedding(num_codes[1], config.width)
        self.positions = nn.Parameter(torch.zeros(3, config.context, config.width))
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.dropout) for _ in range(config.base_blocks)
        )

    @torch.no_grad()
    def set_music_statistics(self, mean: Tensor, deviation: Tensor) -> None:
        """What each music feature (D,) is reduced by and divided by, for `normalise_music`; inf mutes it."""
        self.music_mean.copy_(mean)
        self.music_deviation.copy_(deviation)

    def embed(self, music: Tensor, codes: Codes, start: int = 0) -> Tensor:
        """Tokens (B, 3t, C) of music (B, t, D) and codes (B, t) at positions `start` and on.

        Raises:
            ValueError: if there are not as many music steps as codes, or more than the context.
        """
        length = codes.upper.shape[1]
        if start + length > self.positions.shape[1] or music.shape[1] != length:
            raise ValueError(
                f"{length} codes need {length} music steps and a context of at least {start + length}; "
                f"got {music.shape[1]} music steps and a context of {self.positions.shape[1]}"
            )
        if self.config.normalise_music:
            music = (music - self.music_mean) / self.music_deviation
        streams = (self.embed_music(music), self.embed_upper(codes.upper), self.embed_lower(codes.lower))
        tokens = [stream + self.positions[s, start : start + length] for s, stream in enumerate(streams)]
        return self.dropout(torch.cat(tokens, dim=1))

    def forward(self, music: Tensor, codes: Codes) -> Tensor:
        """Features (B, 3t, C) of music (B, t, D) and codes (B, t); music is one step ahead of the codes."""
        x = self.embed(music, codes)
        mask = mask_of(self.config, codes.upper.shape[1], x.device)
        for block in self.blocks:
            x = block(x, mask)
        return x


class Head(nn.Module):
    """More blocks, LayerNorm, a bias-free linear map per half: features (B, 3t, C) -> two (B, t, K)."""

    def __init__(self, config: GPTConfig, blocks: int, outputs: tuple[int, int]) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(Block(config.width, config.heads, config.dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(config.width)
        self.to_upper = nn.Linear(config.width, outputs[0], bias=False)
        self.to_lower = nn.Linear(config.width, outputs[1], bias=False)

    def forward(self, features: Tensor) -> Logits:
        """The upper output reads the upper codes' positions, the lower output the lower codes'."""
        mask = mask_of(self.config, features.shape[1] // 3, features.device)
        for block in self.blocks:
            features = block(features, mask)
        _, upper, lower = self.norm(features).chunk(3, dim=1)
        return Logits(self.to_upper(upper), self.to_lower(lower))


class MotionGPT(nn.Module):
    """Base and head: logits of the next codes from music and past codes."""

    def __init__(self, config: GPTConfig, num_codes: tuple[int, int], music_channels: int) -> None:
        super().__init__()
        self.config, self.num_codes, self.music_channels = config, num_codes, music_channels
        self.base = Base(config, num_codes, music_channels)
        self.head = Head(config, config.head_blocks, num_codes)
        initialise(self)

    def architecture(self) -> dict[str, Any]:
        """What a checkpoint must hold to build this GPT again."""
        sizes = {"num_codes": list(self.num_codes), "music_channels": self.music_channels}
        return {"gpt": to_plain(self.config), **sizes}

    @classmethod
    def from_architecture(cls, architecture: dict[str, Any], source: str = "architecture") -> "MotionGPT":
        """The GPT a checkpoint describes, with fresh weights."""
        upper, lower = architecture["num_codes"]
        return cls(
            check(GPTConfig, architecture["gpt"], source), (upper, lower), architecture["music_channels"]
        )

    def forward(self, music: Tensor, codes: Codes) -> Logits:
        """Logits of codes 1..t from codes 0..t-1 (B, t) and music 1..t (B, t, D)."""
        return self.head(self.base(music, codes))

    def next_logits(
        self,
        music: Tensor,
        codes: Codes,
        cache: WindowCache | None = None,
        compiled: Callable[..., Logits] | None = None,
    ) -> Logits:
        """Logits (B, K) each of the codes that come next: the last step of `forward`, for less work.

        Args:
            music: (B, t, D), one step ahead of the codes.
            codes: (B, t).
            cache: what the blocks made of the window's codes before these; it learns these. None if these
                are the whole window.
            compiled: takes the place of `last_logits`.
        """
        earlier, new = (() if cache is None else tuple(cache.pieces)), codes.upper.shape[1]
        x = self.base.embed(music, codes, sum(earlier)).to(self.head.to_upper.weight.dtype)  # (B, 3t, C)
        last = last_codes(new)
        mask = last_mask = None  # cross-conditional, these two see everything, as does a single step
        fixed = compiled is not None and cache is not None
        if new > 1 or fixed or not self.config.cross_conditional:
            mask = mask_of(self.config, new, x.device, earlier)
        if fixed:
            mask = F.pad(mask, (0, cache.blocks[0].room - mask.shape[1]))  # nobody sees the empty room
            cache.place(new, x, self.config.heads)
        if fixed or not self.config.cross_conditional:
            last_mask = mask[last]
        caches = [None] * len(self.blocks) if cache is None else cache.blocks
        logits = (compiled or self.last_logits)(x, mask, last_mask, caches, new)
        if cache is not None:
            cache.learn(new)
        return logits

    def last_logits(
        self,
        x: Tensor,
        mask: Tensor | None,
        last_mask: Tensor | None,
        caches: Sequence[BlockCache | None],
        new: int,
    ) -> Logits:
        """Tokens (B, 3n, C) of n codes -> logits (B, K) of the last one, by all blocks and the outputs.

        Of the last block only the last codes' tokens are computed, as nothing else is asked for.

        Args:
            x: the tokens.
            mask: of all of them, as of `Attention`.
            last_mask: of the last upper and the last lower code.
            caches: of each block.
            new: n.
        """
        for block, cache in zip(self.blocks[:-1], caches[:-1], strict=True):
            x = block(x, mask, cache)
        x = self.head.norm(self.blocks[-1](x, last_mask, caches[-1], last_codes(new)))  # (B, 2, C)
        return Logits(self.head.to_upper(x[:, 0]).float(), self.head.to_lower(x[:, 1]).float())

    @property
    def blocks(self) -> list[Block]:
        """Those of the base and of the head."""
        return [*self.base.blocks, *self.head.blocks]


def last_codes(length: int) -> slice:
    """Which of 3t tokens are the last upper and the last lower code."""
    return slice(2 * length - 1, 3 * length, length)


def initialise(module: nn.Module, std: float = 0.02) -> None:
    """Weights N(0, 0.02), biases 0, LayerNorms 1 and 0."""
    for child in module.modules():
        if isinstance(child, nn.Linear | nn.Embedding):
            nn.init.normal_(child.weight, std=std)
        if isinstance(child, nn.Linear) and child.bias is not None:
            nn.init.zeros_(child.bias)
        if isinstance(child, Base):
            nn.init.normal_(child.positions, std=std)


def code_losses(logits: Logits, targets: Codes) -> tuple[Tensor, Tensor]:
    """Cross-entropies (B, t) in nats of the upper and the lower target codes (B, t)."""
    return (
        F.cross_entropy(logits.upper.float().transpose(1, 2), targets.upper, reduction="none"),
        F.cross_entropy(logits.lower.float().transpose(1, 2), targets.lower, reduction="none"),
    )
