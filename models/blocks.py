"""The transformer blocks of the motion GPT."""

import torch.nn.functional as F
from torch import Tensor, nn

from models.cache import BlockCache

EVERY = slice(None)  # rows


class Block(nn.Module):
    """A pre-norm transformer block with exact GELU."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = Attention(width, heads, dropout)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(dropout)
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
        self.residual_dropout = nn.Dropout(dropout)

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
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        return self.residual_dropout(self.proj(mixed.transpose(1, 2).flatten(2)))
