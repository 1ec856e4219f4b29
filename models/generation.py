"""Codes from music: the motion GPT run forward through a sliding window.

Source: Bailando (CVPR 2022), section 3.4, with the window of the released system: 28 codes, one less than the
GPT's context, their positions starting anew in every window.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor
from tqdm import tqdm

from models.gpt import MotionGPT
from models.vqvae import Codes
from utils.config import config


@config
class GenerationConfig:
    """How codes are composed.

    Attributes:
        window: codes in the sliding window; at most the GPT's context. None is one less than the context, as
            released.
        restart_at: None keeps the window full once it is full (as released). A number n lets it shrink to n
            codes when it is full and grow again, a saw-tooth that needs less work per code.
        temperature: 0 takes the most probable code (as released); above 0 codes are drawn.
        top_k: draw from the k most probable codes only; 0 is all.
        seed: of the draws.
        first_codes: upper and lower code that a dance starts from where there is no real one to take them
            from.
    """

    window: PositiveInt | None = None
    restart_at: Annotated[int, Field(ge=1)] | None = None
    temperature: NonNegativeFloat = 0.0
    top_k: NonNegativeInt = 0
    seed: int = 0
    first_codes: tuple[NonNegativeInt, NonNegativeInt] = (423, 12)


def window_lengths(steps: int, window: int, restart_at: int | None = None) -> Iterator[int]:
    """Length of the window at each of `steps` steps: 1, 2, ..., window, window, ... or the saw-tooth.

    The saw-tooth is window, window, n, n+1, ..., window, n, ...: full twice the first time, as released.
    """
    for k in range(steps):
        if restart_at is None or k <= window:
            yield min(k + 1, window)
        else:
            yield restart_at + (k - window - 1) % (window - restart_at + 1)


@torch.no_grad()
def generate(
    gpt: MotionGPT,
    music: Tensor,
    first: Codes,
    config: GenerationConfig | None = None,
    progress: bool = False,
) -> Codes:
    """Composes a dance to music, greedily unless the config says otherwise.

    Args:
        gpt: the motion GPT; it is used as it stands, so put it in eval mode.
        music: (B, N, D) features at the code rate.
        first: the code pair each dance starts from, (B, 1) or (B,) each.
        config: how; the released way if None.
        progress: whether to show a bar.

    Returns:
        Codes (B, N): as many as music steps, the first pair included.

    Raises:
        ValueError: if the window does not fit the GPT, or shapes do not fit each other.
    """
    config = config or GenerationConfig()
    window = config.window or gpt.config.context - 1
    if window > gpt.config.context:
        raise ValueError(f"a window of {window} codes does not fit the GPT's context of {gpt.config.context}")
    if config.restart_at is not None and config.restart_at > window:
        raise ValueError(f"restart_at {config.restart_at} must not exceed the window of {window} codes")
    if music.ndim != 3 or music.shape[-1] != gpt.music_channels:
        raise ValueError(f"music must be (B, N, {gpt.music_channels}), got {tuple(music.shape)}")
    batch, steps = music.shape[0], music.shape[1] - 1
    generator = torch.Generator().manual_seed(config.seed)
    upper = torch.empty(batch, steps + 1, dtype=torch.long, device=music.device)
    lower = torch.empty_like(upper)
    upper[:, 0], lower[:, 0] = first.upper.flatten(), first.lower.flatten()
    ahead = music[:, 1:]
    lengths = window_lengths(steps, window, config.restart_at)
    for k, length in enumerate(
        tqdm(lengths, "codes", steps, disable=None if progress else True, leave=False)
    ):
        view = slice(k + 1 - length, k + 1)
        logits = gpt(ahead[:, view], Codes(upper[:, view], lower[:, view]))
        upper[:, k + 1] = _choose(logits.upper[:, -1], config, generator)
        lower[:, k + 1] = _choose(logits.lower[:, -1], config, generator)
    return Codes(upper, lower)


def generate_all(
    gpt: MotionGPT,
    music: Sequence[Tensor],
    first: Sequence[Codes],
    config: GenerationConfig | None,
    device: torch.device,
    progress: bool = False,
) -> list[Codes]:
    """Dances to songs of any lengths, composed as one batch: one code pair (1,) and music (N_i, D) each.

    Returns:
        Codes (N_i,) on the CPU for each song. No dance looks at another one's music, so each is as if alone.
    """
    longest = max(len(song) for song in music)
    padded = [torch.cat([song, song[-1:].expand(longest - len(song), -1)]) for song in music]
    start = Codes(
        torch.stack([codes.upper for codes in first]), torch.stack([codes.lower for codes in first])
    )
    start = Codes(start.upper.to(device), start.lower.to(device))
    upper, lower = generate(gpt, torch.stack(padded).to(device), start, config, progress)
    return [Codes(upper[i, : len(song)].cpu(), lower[i, : len(song)].cpu()) for i, song in enumerate(music)]


def _choose(logits: Tensor, config: GenerationConfig, generator: torch.Generator) -> Tensor:
    """Codes (B,) from logits (B, K)."""
    if config.temperature == 0:
        return logits.argmax(-1)
    logits = logits.float().cpu() / config.temperature
    if 0 < config.top_k < logits.shape[-1]:
        logits = logits.masked_fill(logits < logits.topk(config.top_k).values[:, -1:], -torch.inf)
    return torch.multinomial(logits.softmax(-1), 1, generator=generator).squeeze(-1).to(logits.device)
