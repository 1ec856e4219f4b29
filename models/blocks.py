"""The transformer blocks of the motion GPT."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.cache import BlockCache

EVERY = slice(None)  # rows
_LEVELS = 256  # values of the random byte that decides about an element


def cheap_dropout(x: Tensor, rate: float) -> Tensor:
    """Zero elements of x at random and scale the others so that the mean stays, as `F.dropout`.

    On a CPU the draws of `F.dropout`, one after the other, took a fifth of a training step of the sample GPT.
    Here eight elements share one 64-bit draw: a byte each, so the rate is rounded to 1/256 (the scale is that
    of the rounded rate). On other devices `F.dropout` draws in parallel and is used.

    Args:
        x: of any shape.
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
    """`cheap_dropout` in training mode, the identity otherwise."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Same shape in and out."""
        return cheap_dropout(x, self.rate) if self.training and self.rate else x


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float = 0.0) -> Tensor:
    """Scaled dot-product attention (B, heads, n, C') under a mask (n, columns), true where a row may look.

    With dropout on a CPU it is written out, as PyTorch does there too, but with cheap draws.
    """
    if not dropout or query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
    if mask is not None:  # every row sees itself, so none is all -inf
        scores = scores + torch.zeros_like(mask, dtype=scores.dtype).masked_fill_(~mask, -torch.inf)
    return cheap_dropout(scores.softmax(-1), dropout) @ value


class Block(nn.Module):
    """A pre-norm transformer block with exact GELU."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = Attention(width, heads, dropout)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), Dropout(dropout)
        )

    def forward(
        self, x: Tensor, mask: Tensor | None, cache: BlockCache | None = None, rows: slice = EVERY
    ) -> Tensor:
        """(B, N, C) -> (B, N, C), or of some of its rows; arguments as of `Attention`."""
        x = x[:, rows] + self.attention(self.norm_attention(x), mask, cache, rows)
        return x + self.mlp(self.norm_mlp(x))


class Attention(nn.Module):
    """Multi-head self-attention under a mask."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.residual_dropout = Dropout(dropout)

    def forward(
        self, x: Tensor, mask: Tensor | None, cache: BlockCache | None = None, rows: slice = EVERY
    ) -> Tensor:
        """(B, N, C) -> (B, N, C), or (B, n, C) for n rows.

        Args:
            x: the tokens.
            mask: (n, columns), true where the row may see the column; None if all see all.
            cache: earlier tokens, seen before the new ones, which it learns; None if there are none.
            rows: of which tokens the output is needed.
        """
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))  # (B, N, 3, heads, C/heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # (B, heads, N, C/heads) each
        query = query[:, :, rows]
        if cache is not None:
            key, value = cache.append(key, value)
        dropout = self.dropout if self.training else 0.0
        mixed = attend(query, key, value, mask, dropout)
        return self.residual_dropout(self.proj(mixed.transpose(1, 2).flatten(2)))
