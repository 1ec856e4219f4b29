"""Cross-conditional motion GPT: predict the next upper and lower code from music and the past codes.

Source: Bailando (CVPR 2022), section 3.4. Three token streams (music, upper codes, lower codes) of t steps
are concatenated along time to 3t tokens. A token of step i attends to the tokens of steps <= i of all
streams. The same `forward` serves training and generation; generation passes a `KVCache`, whose buffers have
a fixed size, so that shapes depend on the number of new codes only.

Bailando++ (TPAMI 2023) puts a music transformer in front of the GPT: it turns the music of a window, at the
rate of the motion and with some steps on either side, into a vector per code.
"""

import copy
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, cast

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from datasets.sequences import FeatureGroup
from models.vqvae import Codes
from utils.config import ConfigModel, check, to_plain

STREAMS = 3  # music, upper codes, lower codes
ALL = slice(None)  # rows
_PIECE = 128  # codes of a song that the music transformer computes at a time
_WINDOWS = 64  # windows whose ends it computes at a time
_LEVELS = 256  # values of the random byte that decides whether an element is dropped
_GROUPS = 6  # groups of features that the music transformer gets; normalised, each has a total variance of 1


class MusicTransformerConfig(ConfigModel):
    """Architecture of the music transformer of Bailando++."""

    width: PositiveInt = 768
    """Channels of a frame, and of the vector per code."""
    heads: PositiveInt = 12
    """Attention heads per block."""
    blocks: PositiveInt = 3
    """Number of transformer blocks."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Dropout rate of embeddings, attention weights and residuals during training."""
    reach: PositiveInt = 5
    """Codes to either side whose frames a frame attends to, and that a window has as context. The published
    `window_size` is 2 * reach + 1."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be divisible by heads {self.heads}")
        return self


class GPTConfig(ConfigModel):
    """Architecture of the motion GPT. Codebook sizes and music channels come from the memory and the data."""

    renamed: ClassVar[Mapping[str, str]] = {"unheard": "excluded_features"}

    width: PositiveInt = 768
    """Channels of a token."""
    heads: PositiveInt = 12
    """Attention heads per block."""
    base_blocks: PositiveInt = 6
    """Transformer blocks of the base, which the policy head and the value stack share."""
    head_blocks: PositiveInt = 6
    """Transformer blocks of the policy head."""
    context: PositiveInt = 29
    """Maximum number of codes per half that the GPT attends to."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Dropout rate of embeddings, attention weights and residuals during training."""
    normalise_music: bool = False
    """Normalise the music features to mean 0 over the training songs, and each group of them (MFCC, chroma,
    onset, beat, ...) to the same total variance. As published they are not normalised: the loudness column,
    around -500, drowns the beat flags."""
    excluded_features: tuple[FeatureGroup, ...] = ()
    """Groups of music features, named as in `datasets.sequences`, that the GPT ignores; this needs
    `normalise_music`. Groups that the data's version lacks change nothing. The 384 columns of the tempogram
    (`standard`) identify each song, so with them a GPT overfits a small corpus song by song."""
    clamp_music: bool = False
    """Limit each music feature to the range that it has over the training songs: a song that is faster than
    all of them is to the GPT as fast as the fastest. Training is not changed by it."""
    embed: Literal["index", "codebook"] = "index"
    """How past codes become tokens. `index` learns a vector for each code, as published. `codebook` maps the
    memory's codebook vectors, which stay as they are, by a learned linear map for each half: similar movement
    has similar tokens from the first step on, also for codes that are rare in training."""
    cross_conditional: bool = True
    """Let each half attend to the codes of the other half, as in the paper. With `false` a half attends to
    the music and its own codes only, for comparison: two GPTs that share their weights."""
    music_transformer: MusicTransformerConfig | None = None
    """A transformer over the music in front of the GPT, as in Bailando++; see MusicTransformerConfig. It
    needs data with `--features frames`. null feeds the features of each step to the GPT, as in Bailando."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.excluded_features and not self.normalise_music:
            raise ValueError("excluded_features need normalise_music: true")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be divisible by heads {self.heads}")
        return self


class Logits(NamedTuple):
    """Scores of the next codes: upper (B, t, K_upper) and lower (B, t, K_lower)."""

    upper: Tensor
    lower: Tensor


def attention_mask(steps: int, cross_conditional: bool = True, device: torch.device | None = None) -> Tensor:
    """Attention mask over the three streams, each of t steps.

    Args:
        steps: t.
        cross_conditional: let each half attend to the other half's codes. Otherwise a half attends to the
            music and itself, and the music to itself only, since it would pass codes on to the other half.
        device: device of the mask.

    Returns:
        (3t, 3t) bool, true where the row's token attends to the column's token: the column's step is at most
        the row's step.
    """
    causal = torch.ones(steps, steps, dtype=torch.bool, device=device).tril()
    mask = causal.repeat(STREAMS, STREAMS)
    if cross_conditional:
        return mask
    stream = torch.arange(STREAMS, device=device).repeat_interleave(steps)
    return mask & ((stream == 0) | (stream == stream.unsqueeze(1)))


def attention_bias(mask: Tensor, x: Tensor) -> Tensor:
    """Return the term that scores get under a mask: 0 where it is true, else -inf, as products of x are.

    Attention takes a mask too, but turns it into this in every block.
    """
    kind = x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, -torch.inf)


class KVCache:
    """KV cache for incremental decoding within one attention window, in buffers of fixed size.

    Step i of stream s has one place, whatever chunks the codes arrive in, so the attention mask of new codes
    consists of rows of the mask of a whole window; it also hides the places that are not filled yet.
    Positions count from the window's first code: a window that begins elsewhere needs an empty cache.

    Attributes:
        capacity: number of codes that fit, the GPT's context.
        length: () int64, number of codes in the cache; a tensor, so that it can be part of a graph.
        buffers: keys and values of each block, (B, 2, heads, 3, capacity, C/heads).
        positions: (n,) int64, positions in the window of the chunk of n codes that was added last.
        bias: (3n, 3 * capacity), its `attention_bias`.
    """

    def __init__(self, config: GPTConfig, batch: int, dtype: torch.dtype, device: torch.device) -> None:
        self.capacity = config.context
        shape = (batch, 2, config.heads, STREAMS, self.capacity, config.width // config.heads)
        blocks = config.base_blocks + config.head_blocks
        # Zeros, since masked values are multiplied by 0, which would leave NaN as it is.
        self.buffers = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(blocks)]
        self.length = torch.zeros((), dtype=torch.long, device=device)
        self._steps = torch.arange(self.capacity, device=device)
        mask = attention_mask(self.capacity, config.cross_conditional, device)
        bias = attention_bias(mask, self.buffers[0])
        self._window_bias = bias.unflatten(0, (STREAMS, self.capacity))
        self.positions, self.bias = self._steps[:0], bias[:0]
        self._first: dict[int, KVCache] = {}

    def advance(self, chunk: int) -> None:
        """Make the next n codes the chunk whose keys and values the blocks append; `forward` calls it."""
        self.positions = self.length + self._steps[:chunk]
        self.bias = self._window_bias[:, self.positions].flatten(0, 1)
        self.length += chunk

    def append(self, block: int, new: Tensor) -> tuple[Tensor, Tensor]:
        """Write the keys and values of the chunk and return all.

        Args:
            block: index of the transformer block.
            new: keys and values (B, 2, heads, 3n, C/heads).

        Returns:
            Keys and values (B, heads, 3 * capacity, C/heads).
        """
        buffer = self.buffers[block].index_copy_(4, self.positions, new.unflatten(3, (STREAMS, -1)))
        key, value = buffer.flatten(3, 4).unbind(1)
        return key, value

    def clear(self) -> None:
        """Empty the cache; the buffers stay."""
        self.length.zero_()

    def first(self, batch: int) -> "KVCache":
        """The cache of the first elements of the batch, in the same memory; the same one each time."""
        if batch == len(self.buffers[0]):
            return self
        if batch not in self._first:
            part = copy.copy(self)
            part.buffers = [buffer[:batch] for buffer in self.buffers]
            part._first = {}
            self._first[batch] = part
        return self._first[batch]


def fast_dropout(x: Tensor, rate: float) -> Tensor:
    """Zero elements of x at random and scale the others so that the mean stays, as `F.dropout` does.

    On a CPU `F.dropout` draws its numbers one after the other, which took a fifth of a training step of the
    sample GPT. Here eight elements share one 64-bit draw, a byte each, so the rate is rounded to 1/256 (the
    scale is that of the rounded rate). On other devices `F.dropout` draws in parallel and is used.

    Args:
        x: any shape.
        rate: share of zeroed elements, 0..1.
    """
    threshold = round(rate * _LEVELS)
    if x.device.type != "cpu" or threshold == _LEVELS:
        return F.dropout(x, rate)
    number = x.numel()
    words = torch.empty(-(-number // 8), dtype=torch.int64).random_(-(2**63), None)
    kept = (words.view(torch.uint8)[:number] >= threshold).view(x.shape)
    return x * kept.to(x.dtype).mul_(_LEVELS / (_LEVELS - threshold))


class Dropout(nn.Module):
    """`fast_dropout` in training mode, the identity otherwise."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Same shape in and out."""
        return fast_dropout(x, self.rate) if self.training and self.rate else x


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, dropout: float = 0.0) -> Tensor:
    """Scaled dot-product attention (B, heads, n, C') with an `attention_bias` (n, columns).

    With dropout on a CPU it is written out, as PyTorch does there too, but with `fast_dropout`.
    """
    if not dropout or query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropout)
    # Every row attends to itself, so none is all -inf.
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1) + bias
    return fast_dropout(scores.softmax(-1), dropout) @ value


class Attention(nn.Module):
    """Multi-head self-attention under a mask.

    Args:
        width: channels C.
        heads: number of heads.
        dropout: rate, of attention weights and of the output.
        block: index of the block in a `KVCache`.
    """

    def __init__(self, width: int, heads: int, dropout: float, block: int) -> None:
        super().__init__()
        self.heads, self.dropout, self.block = heads, dropout, block
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.residual_dropout = Dropout(dropout)

    def project(self, x: Tensor) -> Tensor:
        """Queries, keys and values (B, 3, heads, N, C/heads) of the tokens x (B, N, C)."""
        return self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(0, 2, 3, 1, 4)

    def forward(self, qkv: Tensor, bias: Tensor, cache: KVCache | None = None, rows: slice = ALL) -> Tensor:
        """Attention output (B, n, C) of the N tokens in `rows`.

        Args:
            qkv: see `project`.
            bias: (n, columns), the `attention_bias`.
            cache: earlier tokens of the window, to which these are appended; None if there are none.
            rows: tokens whose output is needed.
        """
        query, key, value = qkv.unbind(1)  # (B, heads, N, C/heads) each
        query = query[:, :, rows]
        if cache is not None:
            key, value = cache.append(self.block, qkv[:, 1:])
        dropout = self.dropout if self.training else 0.0
        mixed = attend(query, key, value, bias, dropout)
        return self.residual_dropout(self.proj(mixed.transpose(1, 2).flatten(2)))


class Block(nn.Module):
    """Pre-norm transformer block with exact GELU; arguments as of `Attention`."""

    def __init__(self, width: int, heads: int, dropout: float, block: int) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = Attention(width, heads, dropout, block)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), Dropout(dropout)
        )

    def project(self, x: Tensor) -> Tensor:
        """Queries, keys and values of the tokens x (B, N, C), see `Attention.project`."""
        return self.attention.project(self.norm_attention(x))

    def mix(
        self, x: Tensor, qkv: Tensor, bias: Tensor, cache: KVCache | None = None, rows: slice = ALL
    ) -> Tensor:
        """Features (B, n, C) of the tokens x (B, n, C), which are the `rows` of those in `qkv`."""
        x = x + self.attention(qkv, bias, cache, rows)
        return x + self.mlp(self.norm_mlp(x))

    def forward(self, x: Tensor, bias: Tensor, cache: KVCache | None = None, rows: slice = ALL) -> Tensor:
        """Features (B, n, C) of the tokens x (B, N, C) in `rows`; arguments as of `Attention`."""
        return self.mix(x[:, rows], self.project(x), bias, cache, rows)


class CodebookEmbedding(nn.Module):
    """Tokens of codes by a linear map of their codebook vectors, which are not trained.

    The vectors are centred and scaled to a total variance of 1 over the codes, as a group of music features
    is, so that the scale of a memory's latents does not decide how large the first tokens are.

    Buffers: vectors (K, D).

    Args:
        num_codes: K.
        code_dim: D, length of a codebook vector.
        width: channels C of a token.
    """

    vectors: Tensor

    def __init__(self, num_codes: int, code_dim: int, width: int) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.zeros(num_codes, code_dim))
        self.linear = nn.Linear(code_dim, width)

    @torch.no_grad()
    def set_codebook(self, codebook: Tensor) -> None:
        """Copy the codebook (K, D) of a memory."""
        centred = codebook - codebook.mean(0)
        self.vectors.copy_(centred / centred.square().sum(1).mean().sqrt().clamp(min=1e-12))

    def forward(self, codes: Tensor) -> Tensor:
        """Tokens (B, t, C) of codes (B, t)."""
        return self.linear(F.embedding(codes, self.vectors))


def band_mask(frames: int, reach: int, device: torch.device | None = None) -> Tensor:
    """(frames, frames) bool, true where the two frames are at most `reach` frames apart."""
    places = torch.arange(frames, device=device)
    return (places - places.unsqueeze(1)).abs() <= reach


def register_music_buffers(module: nn.Module, channels: int, normalises: bool, clamps: bool) -> None:
    """Register what `scaled_music` needs for features (..., D), as the identity."""
    if normalises:
        module.register_buffer("music_mean", torch.zeros(channels))
        module.register_buffer("music_deviation", torch.ones(channels))
    if clamps:
        module.register_buffer("music_low", torch.full((channels,), -torch.inf))
        module.register_buffer("music_high", torch.full((channels,), torch.inf))


def scaled_music(module: "MusicTransformer | Base", music: Tensor) -> Tensor:
    """Features (..., D) limited and normalised as the module's config says."""
    if module.clamps:
        music = music.clamp(module.music_low, module.music_high)
    return (music - module.music_mean) / module.music_deviation if module.normalises else music


class MusicTransformer(nn.Module):
    """Music at the rate of the motion -> a vector per code. Bailando++ (TPAMI 2023), section 3.4.

    A step of its input is the features of one code's frames, one frame after the other. The frames of a
    window attend to frames at most `reach` codes away, within the window: without positions, so that equal
    surroundings give equal vectors. The frames of the `reach` codes at either end are dropped in the end, and
    a linear map joins the frames of each code.

    A window is a definition, not a matter of speed: its ends limit the context of all blocks but the first,
    so the vector of a code differs between windows.

    Args:
        config: sizes.
        frames_per_code: frames of music per code.
        frame_channels: features of a frame.
        context: codes of the longest window.
        normalise: whether features are normalised, see `GPTConfig.normalise_music`.
        clamp: whether they are limited, see `GPTConfig.clamp_music`.
    """

    music_mean: Tensor
    music_deviation: Tensor
    music_low: Tensor
    music_high: Tensor
    unused_positions: Tensor

    def __init__(
        self,
        config: MusicTransformerConfig,
        frames_per_code: int,
        frame_channels: int,
        context: int,
        normalise: bool = False,
        clamp: bool = False,
    ) -> None:
        super().__init__()
        self.config, self.frames_per_code, self.frame_channels = config, frames_per_code, frame_channels
        self.normalises, self.clamps = normalise, clamp
        register_music_buffers(self, frame_channels, normalise, clamp)
        # As published, though: a table of positions that is saved and never added.
        rows = (context + 2 * config.reach) * frames_per_code
        self.register_buffer("unused_positions", torch.zeros(1, rows, config.width))
        self.embed = nn.Linear(frame_channels, config.width)
        self.dropout = Dropout(config.dropout)
        sizes = config.width, config.heads, config.dropout
        self.blocks = nn.ModuleList(Block(*sizes, i) for i in range(config.blocks))
        self.join = nn.Linear(frames_per_code * config.width, config.width)

    def forward(self, music: Tensor) -> Tensor:
        """Vectors (B, t, C) of the codes of windows (B, t + 2 * reach, frames_per_code * frame_channels)."""
        x, margin = self._embed(music), self.config.reach * self.frames_per_code
        bias = attention_bias(band_mask(x.shape[1], margin, x.device), x)
        for block in self.blocks[:-1]:
            x = block(x, bias)
        inner = slice(margin, x.shape[1] - margin)  # rows of the last block that are kept
        return self._join(self.blocks[-1](x, bias[inner], rows=inner))

    def initialise_for_normalised_features(self) -> None:
        """Initialise both linear maps such that tokens and vectors have a variance of about 1.

        Differs from the paper. N(0, 0.02) suits features as published, where MFCC are in the hundreds. Of
        normalised ones it makes vectors so small that what the blocks add hides them: a GPT of the sample
        corpus then does not learn the beat.
        """
        nn.init.normal_(self.embed.weight, std=_GROUPS**-0.5)
        nn.init.normal_(self.join.weight, std=self.join.in_features**-0.5)

    @torch.no_grad()
    def of_song(self, music: Tensor) -> Tensor:
        """Vectors (N, C) of a whole song (N + 2 * reach, D) as one window.

        Differs from the paper, where the context of a code ends with its window.
        """
        margin = self.config.reach * self.frames_per_code
        return self._join(self._outputs(music)[0][-1][None, margin:-margin])[0]

    @torch.no_grad()
    def of_windows(self, music: Tensor, starts: Tensor, steps: Tensor) -> list[Tensor]:
        """Vectors (t, C) of many windows of one song: those of `forward`, for half of the work.

        After block i only the i * reach codes at either end of a window differ from the song as one window.
        Attention is symmetric in time, so the right ends are computed as left ends in reversed order.

        Args:
            music: (N + 2 * reach, D) of the song.
            starts: (W,) int64 on the CPU, first steps of the windows.
            steps: (W,) int64 on the CPU, codes in each window, at most N - start.
        """
        reach, blocks, frames = self.config.reach, len(self.blocks), self.frames_per_code
        lengths, margin = steps + 2 * reach, reach * frames
        found: dict[int, Tensor] = {}
        for window in (lengths < 2 * blocks * reach).nonzero().flatten().tolist():  # both ends would meet
            start, length = int(starts[window]), int(lengths[window])
            found[window] = self(music[None, start : start + length])[0]
        long = (lengths >= 2 * blocks * reach).nonzero().flatten()
        outputs, projected = self._outputs(music) if len(long) else ([], [])
        inner = blocks * margin
        for some in long.split(_WINDOWS) if len(long) else ():
            begin, end = starts[some] * frames, (starts[some] + lengths[some]) * frames
            first, last = (place.to(music.device).unsqueeze(1) for place in (begin, end - 1))
            edges = outputs[0].new_zeros(2 * len(some), 0, self.config.width)
            for number, block in enumerate(cast("Iterable[Block]", self.blocks)):
                size = (number + 1) * margin
                inwards = torch.arange(size - margin, size + margin, device=music.device)
                around = torch.cat([first + inwards, last - inwards])
                qkv = torch.cat([block.project(edges), projected[number][:, :, around].movedim(2, 0)], 3)
                tokens = torch.cat([edges, outputs[number][around[:, :margin]]], 1)
                kept = slice(margin if number == blocks - 1 else 0, size)
                bias = attention_bias(band_mask(qkv.shape[3], margin, tokens.device), tokens)
                edges = block.mix(tokens[:, kept], qkv, bias[kept], rows=kept)
            left, right = edges.chunk(2)
            middles = [
                outputs[-1][a + inner : b - inner] for a, b in zip(begin.tolist(), end.tolist(), strict=True)
            ]
            whole = [torch.cat(parts) for parts in zip(left, middles, right.flip(1), strict=True)]
            vectors = self._join(torch.cat(whole)[None])[0].split(steps[some].tolist())
            found |= dict(zip(some.tolist(), vectors, strict=True))
        return [found[window] for window in range(len(starts))]

    def _embed(self, music: Tensor) -> Tensor:
        """Embedded frames (B, 8t, C) of steps (B, t, D)."""
        x = music.unflatten(-1, (self.frames_per_code, self.frame_channels)).flatten(1, 2)
        x = scaled_music(self, x)
        return self.dropout(self.embed(x)).to(next(self.blocks.parameters()).dtype)

    def _join(self, x: Tensor) -> Tensor:
        """Vectors (B, t, C) of codes from those of their frames (B, 8t, C)."""
        return self.join(x.to(self.join.weight.dtype).unflatten(1, (-1, self.frames_per_code)).flatten(2))

    def _outputs(self, music: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Embeddings and outputs of each block (8N, C) of a song (N, D) as one window, and what they project.

        They are computed in pieces that overlap by the reach of all blocks, so an hour needs no more memory
        for attention than a minute.

        Returns:
            The embeddings and the output of each block; and each block's (3, heads, 8N, C/heads) queries,
            keys and values.
        """
        overlap = self.config.reach * len(self.blocks)
        outputs: list[list[Tensor]] = [[] for _ in range(len(self.blocks) + 1)]
        projected: list[list[Tensor]] = [[] for _ in self.blocks]
        for start in range(0, len(music), _PIECE):
            first, end = max(0, start - overlap), min(start + _PIECE, len(music))
            x = self._embed(music[None, first : end + overlap])
            bias = attention_bias(
                band_mask(x.shape[1], self.config.reach * self.frames_per_code, x.device), x
            )
            kept = slice((start - first) * self.frames_per_code, (end - first) * self.frames_per_code)
            outputs[0].append(x[0, kept])
            for number, block in enumerate(cast("Iterable[Block]", self.blocks)):
                qkv = block.project(x)
                x = block.mix(x, qkv, bias)
                projected[number].append(qkv[0, :, :, kept])
                outputs[number + 1].append(x[0, kept])
        return [torch.cat(pieces) for pieces in outputs], [torch.cat(pieces, 2) for pieces in projected]


class Base(nn.Module):
    """Embeddings and the first blocks: music and codes -> features (B, 3t, C)."""

    music_mean: Tensor
    music_deviation: Tensor
    music_low: Tensor
    music_high: Tensor

    def __init__(
        self, config: GPTConfig, num_codes: tuple[int, int], music_channels: int, code_dim: int = 0
    ) -> None:
        super().__init__()
        self.config = config
        plain = config.music_transformer is None  # else the transformer scales the features
        self.normalises, self.clamps = plain and config.normalise_music, plain and config.clamp_music
        register_music_buffers(self, music_channels, self.normalises, self.clamps)
        self.embed_music = nn.Linear(music_channels, config.width)
        self.embed_upper, self.embed_lower = (
            CodebookEmbedding(number, code_dim, config.width)
            if config.embed == "codebook"
            else nn.Embedding(number, config.width)
            for number in num_codes
        )
        self.positions = nn.Parameter(torch.zeros(STREAMS, config.context, config.width))
        self.dropout = Dropout(config.dropout)
        sizes = config.width, config.heads, config.dropout
        self.blocks = nn.ModuleList(Block(*sizes, i) for i in range(config.base_blocks))

    @property
    def dtype(self) -> torch.dtype:
        """The data type of the blocks' weights."""
        return next(self.blocks.parameters()).dtype

    def set_codebooks(self, upper: Tensor, lower: Tensor) -> None:
        """Set the codebook vectors (K, D) of both halves for `embed: codebook`."""
        for embedding, codebook in zip((self.embed_upper, self.embed_lower), (upper, lower), strict=True):
            assert isinstance(embedding, CodebookEmbedding)
            embedding.set_codebook(codebook)

    def embed(self, music: Tensor, codes: Codes, cache: KVCache | None = None) -> Tensor:
        """Tokens (B, 3t, C) of music (B, t, D) and codes (B, t), at the window's start or behind a cache.

        Raises:
            ValueError: if there are not as many music steps as codes, or more than the context.
        """
        steps = codes.upper.shape[1]
        if steps > self.config.context or music.shape[1] != steps:
            raise ValueError(
                f"{steps} codes need {steps} music steps and a context of at least {steps}; "
                f"got {music.shape[1]} music steps and a context of {self.config.context}"
            )
        music = scaled_music(self, music)
        streams = (self.embed_music(music), self.embed_upper(codes.upper), self.embed_lower(codes.lower))
        places = self.positions[:, :steps] if cache is None else self.positions[:, cache.positions]
        tokens = [stream + places[s] for s, stream in enumerate(streams)]
        return self.dropout(torch.cat(tokens, dim=1))

    def forward(self, music: Tensor, codes: Codes, cache: KVCache | None = None) -> Tensor:
        """Features (B, 3t, C) of music (B, t, D) and codes (B, t); music is one step ahead of the codes.

        The features have the data type of the blocks' weights; embeddings are computed in their own.
        """
        x = self.embed(music, codes, cache).to(self.dtype)
        bias = bias_of(self.config, codes.upper.shape[1], x, cache)
        for block in self.blocks:
            x = block(x, bias, cache)
        return x


class Head(nn.Module):
    """Further blocks, LayerNorm and a bias-free linear map per half: features (B, 3t, C) -> two (B, t, K).

    Args:
        config: width, heads and dropout.
        blocks: number of blocks.
        outputs: K of the upper and of the lower half.
        first_block: index of the first block in a `KVCache`.
    """

    def __init__(
        self, config: GPTConfig, blocks: int, outputs: tuple[int, int], first_block: int = 0
    ) -> None:
        super().__init__()
        self.config = config
        sizes = config.width, config.heads, config.dropout
        self.blocks = nn.ModuleList(Block(*sizes, first_block + i) for i in range(blocks))
        self.norm = nn.LayerNorm(config.width)
        self.to_upper = nn.Linear(config.width, outputs[0], bias=False)
        self.to_lower = nn.Linear(config.width, outputs[1], bias=False)

    def forward(self, features: Tensor, cache: KVCache | None = None, last_only: bool = False) -> Logits:
        """Logits (B, t, K) of features (B, 3t, C).

        The upper output reads the tokens of the upper codes, the lower output those of the lower codes.

        Args:
            features: output of the base.
            cache: earlier tokens of the window.
            last_only: compute the last step's logits only, (B, 1, K); the last block then computes only the
                two tokens that they need.
        """
        steps = features.shape[1] // STREAMS
        bias = bias_of(self.config, steps, features, cache)
        for block in self.blocks[:-1]:
            features = block(features, bias, cache)
        rows = slice(2 * steps - 1, 3 * steps, steps) if last_only else ALL
        features = self.norm(self.blocks[-1](features, bias[rows], cache, rows))
        *_, upper, lower = features.chunk(2 if last_only else STREAMS, dim=1)
        return Logits(self.to_upper(upper), self.to_lower(lower))


def bias_of(config: GPTConfig, steps: int, x: Tensor, cache: KVCache | None) -> Tensor:
    """The `attention_bias` of t codes: (3t, 3t) without a cache, (3t, 3 * capacity) with one."""
    if cache is not None:
        return cache.bias
    return attention_bias(attention_mask(steps, config.cross_conditional, x.device), x)


class MotionGPT(nn.Module):
    """Base and policy head, perhaps behind a music transformer: logits of the next codes.

    Args:
        config: architecture.
        num_codes: codes of the upper and of the lower codebook.
        music_channels: D, features of a step of music; with a music transformer those of all its frames.
        frames_per_step: frames of music in a step, for the music transformer.
        code_dim: length of a codebook vector, for `embed: codebook`.

    Raises:
        ValueError: if the features of a step are not those of as many frames.
    """

    def __init__(
        self,
        config: GPTConfig,
        num_codes: tuple[int, int],
        music_channels: int,
        frames_per_step: int = 1,
        code_dim: int = 0,
    ) -> None:
        super().__init__()
        self.config, self.num_codes, self.music_channels = config, num_codes, music_channels
        self.frames_per_step = frames_per_step
        self.code_dim = code_dim if config.embed == "codebook" else 0
        assert self.code_dim or config.embed == "index", "embed: codebook needs code_dim"
        self.music: MusicTransformer | None = None
        if config.music_transformer is not None:
            if frames_per_step < 2 or music_channels % frames_per_step:
                raise ValueError(
                    "model.music_transformer needs music at the rate of the motion, several frames per code; "
                    f"got {music_channels} features in {frames_per_step} frame(s) per code: prepare the data "
                    "with --features frames"
                )
            self.music = MusicTransformer(
                config.music_transformer,
                frames_per_step,
                music_channels // frames_per_step,
                config.context,
                config.normalise_music,
                config.clamp_music,
            )
            music_channels = config.music_transformer.width
        self.base = Base(config, num_codes, music_channels, self.code_dim)
        self.head = Head(config, config.head_blocks, num_codes, first_block=config.base_blocks)
        initialise(self)
        if self.music is not None and config.normalise_music:
            self.music.initialise_for_normalised_features()

    def architecture(self) -> dict[str, Any]:
        """The entries of a checkpoint from which `from_architecture` builds this GPT again."""
        sizes: dict[str, Any] = {"num_codes": list(self.num_codes), "music_channels": self.music_channels}
        if self.code_dim:
            sizes["code_dim"] = self.code_dim
        if self.music is not None:
            sizes["frames_per_step"] = self.frames_per_step
        return {"gpt": to_plain(self.config), **sizes}

    @classmethod
    def from_architecture(cls, architecture: dict[str, Any], source: str = "architecture") -> "MotionGPT":
        """Build the GPT that a checkpoint describes, with newly initialised weights."""
        upper, lower = architecture["num_codes"]
        config = check(GPTConfig, architecture["gpt"], source)
        return cls(
            config,
            (upper, lower),
            architecture["music_channels"],
            architecture.get("frames_per_step", 1),
            architecture["code_dim"] if config.embed == "codebook" else 0,
        )

    @property
    def reach(self) -> int:
        """Steps of music that a window needs before its first and after its last one."""
        return 0 if self.music is None else self.music.config.reach

    @property
    def conditioning_channels(self) -> int:
        """Channels of the music as the base receives it: features, or vectors of the music transformer."""
        return self.music_channels if self.music is None else self.music.config.width

    @torch.no_grad()
    def set_music_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Set the mean and the divisor of the features for `normalise_music`; inf excludes a feature.

        Args:
            mean: (D,), or those of a frame with a music transformer.
            std: as many.
        """
        holder = self.base if self.music is None else self.music
        holder.music_mean.copy_(mean)
        holder.music_deviation.copy_(std)

    @torch.no_grad()
    def set_music_range(self, low: Tensor, high: Tensor) -> None:
        """Set the range of each feature for `clamp_music`; shapes as of `set_music_statistics`."""
        holder = self.base if self.music is None else self.music
        holder.music_low.copy_(low)
        holder.music_high.copy_(high)

    def forward(
        self, music: Tensor, codes: Codes, cache: KVCache | None = None, last_only: bool = False
    ) -> Logits:
        """Logits of the codes that follow each of the given ones.

        Args:
            music: (B, t, D), one step ahead of the codes: steps i + 1 to i + t for codes i to i + t - 1. With
                a music transformer (B, t + 2 * reach, D), with the steps before and after, or the vectors
                (B, t, C) that it has made of them.
            codes: (B, t).
            cache: the window's codes before these; these are appended to it. None: the window begins here.
            last_only: return the last step only, for less work.

        Returns:
            Logits (B, t, K), or (B, 1, K) with `last_only`.

        Raises:
            ValueError: if there are not as many music steps as codes, or more than the context.
        """
        if cache is not None:
            cache.advance(codes.upper.shape[1])
        if self.music is not None and music.shape[1] != codes.upper.shape[1]:
            music = self.music(music)
        return self.head(self.base(music, codes, cache), cache, last_only)

    def new_cache(self, batch: int) -> KVCache:
        """An empty KV cache of the data type and on the device of the blocks' weights."""
        weight = self.head.norm.weight
        return KVCache(self.config, batch, weight.dtype, weight.device)


def initialise(module: nn.Module, std: float = 0.02) -> None:
    """Initialise weights by N(0, 0.02), biases by 0, LayerNorms by 1 and 0."""
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
