"""How much a step computes, how much the machine could: FLOP/s and their share of the matrix peak.

A step's FLOPs (2 per multiply-add of products, convolutions and attention, forward and backward) are counted
once per kind of step; the peak is that of large square products in the precision of training.
"""

import time
from contextlib import AbstractContextManager, nullcontext

import torch
from torch.utils.flop_counter import FlopCounterMode

from utils.training.precision import DTYPES, Precision


def synchronise(device: torch.device) -> None:
    """Waits for what was sent to the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matrix_peak(device: torch.device, precision: Precision, seconds: float = 0.4) -> float:
    """FLOP/s of square products on the device, the best seen in about that many seconds."""
    size = 4096 if device.type == "cuda" else 768
    a = torch.ones(size, size, device=device, dtype=DTYPES[precision])
    b, best = torch.ones_like(a), 0.0
    repeats = 10 if device.type == "cuda" else 2
    a @ b
    synchronise(device)
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        for _ in range(repeats):
            a @ b
        synchronise(device)
        best = max(best, 2 * size**3 * repeats / (time.perf_counter() - start))
    return best


class StepFlops:
    """FLOPs of each kind of step, counted the first time one is made."""

    def __init__(self) -> None:
        self.known: dict[str, float] = {}
        self._counter: FlopCounterMode | None = None

    def counting(self, kind: str) -> AbstractContextManager[object]:
        """A context for the forward and backward pass; it counts if this kind is not yet known."""
        self.finish(kind)
        if kind in self.known:
            return nullcontext()
        self._counter = FlopCounterMode(display=False)
        self._kind = kind
        return self._counter

    def finish(self, kind: str) -> float:
        """FLOPs of a step of this kind, after its context; 0 if none was ever counted."""
        if self._counter is not None:
            self.known[self._kind] = float(self._counter.get_total_flops())
            self._counter = None
        return self.known.get(kind, 0.0)
