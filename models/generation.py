"""Codes from music: whole songs of any lengths, composed as one batch.

Source: Bailando (CVPR 2022), section 3.4.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from models.composer import Composer, GenerationConfig, window_length
from models.given import FREE, decided_codes, stack_codes
from models.gpt import MotionGPT
from models.vqvae import Codes

__all__ = ["FREE", "GenerationConfig", "generate", "generate_all", "window_length"]


def generate(
    gpt: MotionGPT,
    music: Tensor,
    first: Codes,
    config: GenerationConfig | None = None,
    progress: bool = False,
    *,
    lengths: Sequence[int] | None = None,
    locked: Codes | None = None,
    keys: Sequence[str] | None = None,
) -> Codes:
    """Composes dances to music, greedily unless the config says otherwise.

    Args:
        gpt: the motion GPT; it is used as it stands, so put it in eval mode.
        music: (B, N, D) features at the code rate.
        first: the codes each dance starts from, (B,) or (B, n) each; beyond the first, `FREE` leaves a code
            to the GPT, so starts may differ in length.
        config: how; the released way if None.
        progress: whether to show a bar.
        lengths: steps of each song; what music holds beyond is not danced to. All are N if None.
        locked: (B, N) each, codes that the dance must have, `FREE` where the GPT chooses; where `first`
            holds codes, those count.
        keys: a name for each dance, which with the config's seed decides its draws; its number if None.

    Returns:
        Codes (B, N): as many as music steps, the first ones included; 0 beyond a song's length.

    Raises:
        ValueError: if the window does not fit the GPT, or shapes do not fit each other.
    """
    config = config or GenerationConfig()
    _check_music(gpt, music)
    batch, steps = music.shape[:2]
    lengths = [steps] * batch if lengths is None else list(lengths)
    keys = [str(i) for i in range(batch)] if keys is None else list(keys)
    if not len(lengths) == len(keys) == batch or not all(1 <= length <= steps for length in lengths):
        raise ValueError(
            f"music {tuple(music.shape)} needs {batch} lengths from 1 to {steps} and {batch} keys, "
            f"got lengths {lengths} and {len(keys)} keys"
        )
    given = decided_codes(gpt.num_codes, first, locked, batch, steps)
    order = sorted(range(batch), key=lambda i: -lengths[i])  # so that finished songs are the last ones
    composer = Composer(gpt, config, [keys[i] for i in order])
    ordered = torch.tensor(order, device=music.device)
    music, given = music[ordered], Codes(*(half.to(music.device)[ordered] for half in given))
    upper, lower = torch.zeros_like(given.upper), torch.zeros_like(given.lower)
    for k in tqdm(range(steps), "codes", disable=None if progress else True, leave=False):
        going = sum(length > k for length in lengths)
        if not going:
            break
        composer.keep(going)
        now = composer.next(music[:going, k], Codes(given.upper[:going, k], given.lower[:going, k]))
        upper[:going, k], lower[:going, k] = now.upper, now.lower
    back = ordered.argsort()
    return Codes(upper[back], lower[back])


def generate_all(
    gpt: MotionGPT,
    music: Sequence[Tensor],
    first: Sequence[Codes],
    config: GenerationConfig | None,
    device: torch.device,
    progress: bool = False,
    *,
    locked: Sequence[Codes | None] | None = None,
    keys: Sequence[str] | None = None,
) -> list[Codes]:
    """Dances to songs of any lengths, composed as one batch: codes (n_i,) to start from, music (N_i, D) each.

    A song may come several times, as variants, each with a key of its own. `locked` and `keys` as of
    `generate`, of each song.

    Returns:
        Codes (N_i,) on the CPU for each song. No dance looks at another one's music, so each is as if alone;
        a finished one costs nothing more.
    """
    lengths = [len(song) for song in music]
    padded = torch.nn.utils.rnn.pad_sequence(list(music), batch_first=True)
    given = None
    if locked is not None:
        whole = torch.full((0,), FREE)
        given = stack_codes(
            [Codes(whole, whole) if codes is None else codes for codes in locked], max(lengths)
        )
    upper, lower = generate(
        gpt,
        padded.to(device),
        stack_codes(first, max(len(codes.upper) for codes in first)),
        config,
        progress,
        lengths=lengths,
        locked=given,
        keys=keys,
    )
    return [Codes(upper[i, :n].cpu(), lower[i, :n].cpu()) for i, n in enumerate(lengths)]


def _check_music(gpt: MotionGPT, music: Tensor) -> None:
    if music.ndim != 3 or music.shape[-1] != gpt.music_channels or not music.shape[1]:
        raise ValueError(
            f"music must be (B, N, {gpt.music_channels}) with at least one step, got {tuple(music.shape)}"
        )
