"""What the GPT's blocks made of a window's tokens, kept while the window grows: keys and values of attention.

A token sees all streams up to its own time. A new time step therefore adds three tokens that see each other
and everything kept, and nothing kept ever changes. Positions count from the window's first code, so a window
that moves starts with an empty cache.
"""

import torch
from torch import Tensor


class BlockCache:
    """Keys and values (B, heads, tokens, C/heads) of one block; room for them is taken once."""

    def __init__(self, room: int) -> None:
        self.room, self.tokens = room, 0
        self.key: Tensor | None = None
        self.value: Tensor | None = None

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Takes in new tokens' keys and values (B, heads, n, C/heads) and gives those of all."""
        if self.key is None or self.value is None:
            batch, heads, _, channels = key.shape
            self.key = torch.empty(batch, heads, self.room, channels, dtype=key.dtype, device=key.device)
            self.value = torch.empty_like(self.key)
        end = self.tokens + key.shape[2]
        self.key[:, :, self.tokens : end] = key
        self.value[:, :, self.tokens : end] = value
        self.tokens = end
        return self.key[:, :, :end], self.value[:, :, :end]

    def keep(self, batch: int) -> None:
        """Forgets all but the first `batch` of the batch."""
        if self.key is not None and self.value is not None:
            self.key, self.value = self.key[:batch], self.value[:batch]


class WindowCache:
    """The caches of all blocks for a window of at most so many codes.

    Attributes:
        blocks: the cache of each.
        pieces: how many codes came at a time; each piece's tokens lie stream by stream.
    """

    def __init__(self, blocks: int, window: int) -> None:
        self.blocks = [BlockCache(3 * window) for _ in range(blocks)]
        self.pieces: list[int] = []

    @property
    def seen(self) -> int:
        """How many codes (of each half) it knows."""
        return sum(self.pieces)

    def clear(self) -> None:
        """Forgets the window; the room stays."""
        self.pieces.clear()
        for block in self.blocks:
            block.tokens = 0

    def keep(self, batch: int) -> None:
        """Forgets all but the first `batch` dances."""
        for block in self.blocks:
            block.keep(batch)
