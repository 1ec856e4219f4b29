"""Windows of generated dances, as actor-critic finetuning sees them.

Source: the released system's finetuning loop, which Bailando (CVPR 2022) section 3.5 describes in outline.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Windows(NamedTuple):
    """N windows of generated dances, S codes each.

    Attributes:
        upper: (N, S) upper codes.
        lower: (N, S) lower codes.
        music: (N, S, D) music features.
        beats: (N, S * frames_per_code) music beat flags of the window's frames, the last one repeated where
            the song ends.
        mask: (N, S - 2) which actions (codes 1..S-2) count: all in a dance's first window, else the last, so
            that each generated code counts once, with the context it was composed in.
    """

    upper: Tensor
    lower: Tensor
    music: Tensor
    beats: Tensor
    mask: Tensor


def cut_windows(
    codes: tuple[Tensor, Tensor], music: Tensor, beats: Tensor, steps: int, frames_per_code: int
) -> Windows:
    """All windows of one dance, one code apart.

    Args:
        codes: upper and lower codes (L,) each.
        music: (L, D) features at the code rate.
        beats: (F,) flags at the frame rate.
        steps: codes in a window.
        frames_per_code: frames one code stands for.

    Raises:
        ValueError: if the dance is shorter than one window.
    """
    upper, lower = codes
    number = len(upper) - steps + 1
    if number < 1 or len(music) < len(upper):
        raise ValueError(
            f"a dance of {len(upper)} codes and {len(music)} music steps is too short "
            f"for windows of {steps} codes"
        )
    mask = torch.zeros(number, steps - 2)
    mask[0], mask[:, -1] = 1, 1
    frames = len(upper) * frames_per_code
    beats = torch.cat([beats[:frames], beats[-1:].expand(max(0, frames - len(beats)))])
    return Windows(  # views, not copies: windows overlap in all but one step
        upper.unfold(0, steps, 1),
        lower.unfold(0, steps, 1),
        music[: len(upper)].unfold(0, steps, 1).transpose(1, 2),
        beats.unfold(0, steps * frames_per_code, frames_per_code),
        mask,
    )
