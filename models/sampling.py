"""Which code is taken: the most probable one, or one drawn by temperature, top-k and top-p.

Every dance draws from a generator of its own, so what else is in the batch cannot change it.
Source: top-p (nucleus) as in Holtzman et al. (ICLR 2020).
"""

import hashlib

import torch
from torch import Tensor


def generator_of(seed: int, key: str) -> torch.Generator:
    """The generator of the dance named `key`; the same on every machine."""
    digest = hashlib.sha256(f"{seed}/{key}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def choose(logits: Tensor, uniform: Tensor, temperature: float, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """Codes (B,) from logits (B, K).

    Args:
        logits: natural logarithms of probabilities, up to a constant per row.
        uniform: (B,) numbers in [0, 1) that decide the draws.
        temperature: divides the logits; 0 takes the most probable code.
        top_k: draw from the k most probable codes only; 0 is all.
        top_p: draw from the fewest most probable codes that hold this probability together; 1 is all.
    """
    if temperature == 0:
        return logits.argmax(-1)
    ranked, codes = (logits.double() / temperature).sort(dim=-1, descending=True, stable=True)
    shares = ranked.softmax(-1)
    if 0 < top_k < shares.shape[-1]:
        shares[:, top_k:] = 0
    shares = shares / shares.sum(-1, keepdim=True)
    before = shares.cumsum(-1) - shares
    shares = shares.masked_fill((before >= top_p) & (before > 0), 0)
    reached = (shares / shares.sum(-1, keepdim=True)).cumsum(-1)
    rank = (reached <= uniform.to(reached).unsqueeze(-1)).sum(-1)
    last = (shares > 0).sum(-1) - 1  # rounding may leave the sum below 1
    return codes.gather(-1, rank.minimum(last).unsqueeze(-1)).squeeze(-1)
