"""Codes that are decided before generation: what a dance starts from, and what is locked."""

from collections.abc import Sequence

import torch

from models.vqvae import Codes

FREE = -1  # where a code is left to the GPT


def stack_codes(codes: Sequence[Codes], length: int) -> Codes:
    """Codes (n_i,) as (B, length), `FREE` beyond each end."""
    upper, lower = (torch.full((len(codes), length), FREE) for _ in range(2))
    for i, of_one in enumerate(codes):
        n = min(length, len(of_one.upper))
        upper[i, :n], lower[i, :n] = of_one.upper[:n], of_one.lower[:n]
    return Codes(upper, lower)


def decided_codes(
    num_codes: tuple[int, int], first: Codes, locked: Codes | None, batch: int, steps: int
) -> Codes:
    """What is decided before generation starts: (B, N) each, `FREE` elsewhere.

    Args:
        num_codes: sizes of the upper and the lower codebook.
        first: (B,) or (B, n) each; these count where `locked` says otherwise.
        locked: (B, N) each, or None.
        batch: B.
        steps: N.

    Raises:
        ValueError: if a dance has no first code, shapes do not fit, or a code is not in its codebook.
    """
    halves = []
    for name, start, lock, most in zip(
        ("upper", "lower"), first, locked or (None, None), num_codes, strict=True
    ):
        start = start.reshape(batch, -1) if start.numel() else start
        if start.numel() == 0 or start.shape[1] > steps or bool((start[:, 0] == FREE).any()):
            raise ValueError(
                f"each dance must start from at least one {name} code, and from no more than the song has "
                f"steps, {steps}; got {tuple(start.shape)}"
            )
        decided = torch.full((batch, steps), FREE, device=start.device)
        if lock is not None:
            if lock.shape != decided.shape:
                raise ValueError(f"locked codes must be {(batch, steps)}, got {tuple(lock.shape)}")
            decided = lock.to(decided, copy=True)
        decided[:, : start.shape[1]] = torch.where(start == FREE, decided[:, : start.shape[1]], start)
        if bool((decided >= most).any() | (decided < FREE).any()):
            wrong = decided[(decided >= most) | (decided < FREE)][0].item()
            raise ValueError(f"{name} code {wrong} is not in the codebook of {most} codes")
        halves.append(decided)
    return Codes(*halves)
