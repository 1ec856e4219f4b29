"""How far rounding in float32 may carry a training run: bounds for runs that were recorded in float32.

Adam's first steps are of the size of the learning rate whatever the gradient is, so where a gradient is
about 0, rounding alone moves a weight by up to 2 lr, and two processors part. A fixed tolerance is then too
narrow in one place and too wide in another. Here it is measured: the run is repeated in float64 as it is,
which gives the exact values, and several times with weights and gradients disturbed as float32 rounds them.
What is recorded must be as near to the exact values as the disturbed runs are.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn

WEIGHTS = 2.0**-23  # the last bit of a float32: a ReLU whose input is that near to 0 may open or close
GRADIENTS = 2.0**-19  # of a tensor's root mean square: 16 last bits, what sums of some thousand terms lose
REPEATS = 6
FACTOR = 4.0  # between the largest of six disturbances and another processor's rounding
QUANTILES = (0.5, 0.9, 0.99, 1.0)

Record = dict[str, np.ndarray]
Run = Callable[["Disturbance"], Record]


@contextmanager
def in_float64() -> Iterator[None]:
    """Let everything be computed in float64: what is made, what is read, and what asks for float32."""
    from_numpy, dtype = torch.from_numpy, torch.get_default_dtype()

    def wide(array: np.ndarray) -> torch.Tensor:
        tensor = from_numpy(array)
        return tensor.double() if tensor.dtype == torch.float32 else tensor

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        patch.setattr(torch, "from_numpy", wide)
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)


class Disturbance:
    """Disturb weights and gradients of a step at random as float32 rounds them; without a seed do nothing."""

    def __init__(self, seed: int | None = None) -> None:
        self.generator = None if seed is None else torch.Generator().manual_seed(seed)

    @contextmanager
    def step(self, model: nn.Module) -> Iterator[None]:
        """Disturb the weights for a forward and a backward pass inside, and the gradients after it."""
        if self.generator is None:
            yield
            return
        parameters = [p for p in model.parameters() if p.requires_grad]
        kept = [p.detach().clone() for p in parameters]
        with torch.no_grad():
            for p in parameters:
                p.mul_(1 + WEIGHTS * self._noise(p))
        yield
        with torch.no_grad():
            for p, value in zip(parameters, kept, strict=True):
                p.copy_(value)
                if p.grad is not None:
                    p.grad.add_(GRADIENTS * p.grad.square().mean().sqrt() * self._noise(p))

    def _noise(self, like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, generator=self.generator, dtype=like.dtype)


class Bounds:
    """What a run computes in float64, and how far rounding in float32 may take it from that.

    Of each array the distances to the exact values are compared, sorted: their median, 90th and 99th
    percentile and maximum must be at most `FACTOR` times those of the disturbed runs, or at most `floor` of
    the largest value.

    Args:
        run: computes arrays by name, disturbed as it is told.
        floor: what rounding of the values themselves and of sums leads to, relative to the largest value.
    """

    def __init__(self, run: Run, floor: float = 2e-6) -> None:
        with in_float64():
            self.exact = run(Disturbance())
            others = [run(Disturbance(seed)) for seed in range(REPEATS)]
        self.allowed: Record = {}
        for key, truth in self.exact.items():
            scale = float(np.abs(truth).max(initial=1e-30))
            largest = np.max([_distances(other[key], truth) for other in others], axis=0)
            self.allowed[key] = np.maximum(FACTOR * largest, floor * scale)

    def check(self, values: Mapping[str, np.ndarray]) -> None:
        """Assert that the arrays, all or some of them, could be those of the run, rounded on the way."""
        for key, array in values.items():
            assert self.exact[key].shape == array.shape, key
            found = _distances(array, self.exact[key])
            assert (found <= self.allowed[key]).all(), (
                f"{key}: off by {found}, rounding allows {self.allowed[key]}"
            )


def _distances(values: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.quantile(np.abs(np.asarray(values, np.float64) - truth), QUANTILES)
