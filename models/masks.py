"""Which tokens of the motion GPT see which: masks over three streams laid one after the other along time.

Source: Bailando (CVPR 2022), section 3.4. The paper's halves are cross-conditional. Independent ones are here
to compare with.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

STREAMS = 3  # music, upper, lower


def cross_conditional_mask(length: int, device: torch.device | None = None, seen: int = 0) -> Tensor:
    """(3t, 3(s + t)) bool, true where the row may see the column: the column's time <= the row's, any stream.

    With `seen`, columns of 3s earlier tokens come first, which every row may see.
    """
    new = torch.ones(length, length, dtype=torch.bool, device=device).tril().repeat(STREAMS, STREAMS)
    return F.pad(new, (STREAMS * seen, 0), value=True)


def independent_mask(length: int, device: torch.device | None = None, earlier: Sequence[int] = ()) -> Tensor:
    """As above, but a half sees music and itself only, and the music itself only, or it would pass codes on.

    Args:
        length: t, of the new tokens.
        device: where to.
        earlier: lengths of the earlier pieces whose columns come first, each three streams; they sum up to s.
    """
    columns = torch.cat([_stream_of(piece, device) for piece in (*earlier, length)])
    own = (columns == 0) | (columns == _stream_of(length, device).unsqueeze(1))
    return cross_conditional_mask(length, device, sum(earlier)) & own


def _stream_of(length: int, device: torch.device | None) -> Tensor:
    """(3t,) 0, 1 or 2: the stream of each token of a piece."""
    return torch.arange(STREAMS, device=device).repeat_interleave(length)
