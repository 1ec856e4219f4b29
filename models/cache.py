"""What the GPT's blocks made of a window's tokens, kept while the window grows: keys and values of attention.

A token sees all streams up to its own time. A new time step therefore adds three tokens that see each other
and everything kept, and nothing kept ever changes. Positions count from the window's first code, so a window
that moves starts with an empty cache.
"""

import torch
from torch import Tensor


class BlockCache:
    """Keys and values (B, heads, tokens, C/heads) of one block; room for them is taken once.

    Attributes:
        places: where the next tokens go (n,), for one who compiles: then all of the room is given, filled or
            not, so that its shape stays, and a mask must hide the rest.
    """

    def __init__(self, room: int) -> None:
        self.room, self.tokens = room, 0
        self.key: Tensor | None = None
        self.value: Tensor | None = None
        self.places: Tensor | None = None

    def make_room(self, batch: int, heads: int, channels: int, like: Tensor) -> None:
        """Takes the room, of the type and on the device of a tensor, where that has not happened yet."""
        if self.key is None or self.value is None:  # zeros: what is masked is multiplied by 0, NaN stays NaN
            self.key = like.new_zeros(batch, heads, self.room, channels)
            self.value = torch.zeros_like(self.key)

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Takes in new tokens' keys and values (B, heads, n, C/heads) and gives those of all."""
        batch, heads, _, channels = key.shape
        self.make_room(batch, heads, channels, key)
        assert self.key is not None
        assert self.value is not None
        if self.places is not None:
            self.key.index_copy_(2, self.places, key)
            self.value.index_copy_(2, self.places, value)
            return self.key, self.value
        end = self.tokens + key.shape[2]
        self.key[:, :, self.tokens : end] = key
        self.value[:, :, self.tokens : end] = value
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

    def place(self, new: int, x: Tensor, heads: int) -> None:
        """Says where the next so many codes go, tokens (B, 3n, C), and takes the room: see `BlockCache`."""
        places = torch.arange(3 * self.seen, 3 * (self.seen + new), device=x.device)
        for block in self.blocks:
            block.make_room(len(x), heads, x.shape[-1] // heads, x)
            block.places = places

    def learn(self, new: int) -> None:
        """The blocks have seen so many more codes."""
        self.pieces.append(new)
        for block in self.blocks:
            block.tokens, block.places = 3 * self.seen, None

    def clear(self) -> None:
        """Forgets the window; the room stays."""
        self.pieces.clear()
        for block in self.blocks:
            block.tokens = 0

    def keep(self, batch: int) -> None:
        """Forgets all but the first `batch` dances."""
        for block in self.blocks:
            block.keep(batch)
