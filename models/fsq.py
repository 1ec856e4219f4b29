"""Finite scalar quantization (FSQ): each of a few numbers is rounded to one of a few levels.

Source: Mentzer et al., "Finite Scalar Quantization: VQ-VAE Made Simple" (arXiv 2309.15505). The codebook is
the fixed grid of all combinations of levels, so it needs no moving averages, no restarts of dead codes and no
commitment loss.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from models.quantizer import Quantized, Quantizer
from utils.config import ConfigModel
from utils.training.distributed import world_size
from utils.training.precision import full_fp32

Levels = Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(min_length=1)]

_MOMENTUM = 0.05  # of the moving averages
_EPSILON = 1e-8  # added to variances
_RIDGE = 1e-3  # added to variances, as a share of their mean: directions of small variance are not amplified


class FSQConfig(ConfigModel):
    """Levels of the grids."""

    levels_upper: Levels = (8, 8, 8)
    """Number of levels in each dimension of the upper half's latents; their product is the number of codes.
    The paper recommends at least 5 each: [5, 5, 5] for about 2**7 codes, [8, 8, 8] for 2**9, [8, 5, 5, 5] for
    about 2**10."""
    levels_lower: Levels = (8, 8, 8)
    """Number of levels in each dimension of the lower half's latents."""


def to_levels(z: Tensor, levels: Tensor) -> Tensor:
    """Rounds z (..., d) to the nearest of `levels` (d,) evenly spaced numbers from -1 to 1, bounded by tanh.

    With h = (L - 1) / 2, round(h tanh(z) + h) is the level's index 0..L-1 and index / h - 1 its value.
    Rounding passes the gradient straight through and the bound does not: the gradient is that of tanh(z).
    Differs from the paper: an even number of levels is symmetric about 0, where the paper shifts it by half a
    step so that 0 is a level. For odd numbers both are the same.
    """
    half = (levels - 1).to(z.dtype) / 2
    bounded = half * torch.tanh(z)
    return (bounded + (torch.round(bounded + half) - half - bounded).detach()) / half


def to_indices(values: Tensor, levels: Tensor) -> Tensor:
    """Indices (...) int64 of values (..., d) of `to_levels`: mixed radix, the first digit runs fastest."""
    half = (levels - 1).to(values.dtype) / 2
    digits = torch.round(values * half + half).long()
    return (digits * _radix(levels)).sum(-1)


def from_indices(indices: Tensor, levels: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Values (..., d) in -1..1 of indices (...); inverse of `to_indices`."""
    digits = indices.unsqueeze(-1) // _radix(levels) % levels
    return 2 * digits.to(dtype) / (levels - 1) - 1


def _radix(levels: Tensor) -> Tensor:
    return torch.cat([torch.ones_like(levels[:1]), levels[:-1].cumprod(0)])


def whitened(z: Tensor, covariance: Tensor) -> Tensor:
    """Whitens z (..., d) of mean 0 and this covariance (d, d): variances of 1, no correlations."""
    ridge = _RIDGE * covariance.diagonal().mean() + _EPSILON
    # `cholesky` asks the device whether the matrix is positive definite; the ridge makes it so.
    root, _ = torch.linalg.cholesky_ex(covariance + ridge * torch.eye(len(covariance)).to(covariance))
    return torch.linalg.solve_triangular(root, z.unsqueeze(-1), upper=False).squeeze(-1)


def _mean_over_batch(z: Tensor) -> Tensor:
    """Mean (...) of (B, T', ...) over the batches of all processes; the gradient flows to all of them."""
    mean = z.mean((0, 1))
    if world_size() > 1:
        from torch.distributed.nn.functional import all_reduce  # imports torch._dynamo: a second

        mean = all_reduce(mean) / world_size()
    return mean


class FSQ(Quantizer):
    """A fixed grid between two linear maps: C channels -> d numbers, rounded -> C channels.

    The maps replace an encoder that ends in d channels and a decoder that begins with d, so that encoder and
    decoder have C channels for any levels.
    Differs from the paper: the d numbers are whitened before they are bounded, by the batch's mean and
    covariance in training and by their moving averages otherwise. Without this the latents of a motion
    encoder, which are nearly equal at first, drift to where tanh is flat and only one code is used; with a
    scale per dimension alone they stay correlated, and most of the grid is not used.

    Buffers: levels (d,), kept in checkpoints so that other levels with the same product are refused; mean
    (d,) and covariance (d, d), the moving averages.

    Args:
        levels: number of levels in each of the d dimensions.
        dim: C.
    """

    levels: Tensor
    mean: Tensor
    covariance: Tensor

    def __init__(self, levels: Sequence[int], dim: int) -> None:
        super().__init__()
        if len(levels) > dim:
            raise ValueError(f"{len(levels)} levels need model.codebook.dim of at least as much, got {dim}")
        self._num_codes = math.prod(levels)
        self.to_grid = nn.Linear(dim, len(levels), bias=False)
        self.from_grid = nn.Linear(len(levels), dim, bias=False)
        self.register_buffer("levels", torch.tensor(levels))
        self.register_buffer("mean", torch.zeros(len(levels)))
        self.register_buffer("covariance", torch.eye(len(levels)))

    @property
    def num_codes(self) -> int:
        """K, the product of the levels."""
        return self._num_codes

    def decode(self, indices: Tensor) -> Tensor:
        """Vectors (B, C, T') of indices (B, T')."""
        values = from_indices(indices, self.levels, self.from_grid.weight.dtype)
        return self.from_grid(values).transpose(1, 2)

    @torch.no_grad()
    def encode(self, latents: Tensor) -> Tensor:
        """Indices (B, T') of latents (B, C, T')."""
        with full_fp32(latents.device):
            return to_indices(self._rounded(latents), self.levels)

    def forward(self, latents: Tensor) -> Quantized:
        """Quantizes latents (B, C, T'). The commitment is 0, as the rounding error is bounded."""
        with full_fp32(latents.device):
            values = self._rounded(latents, update=self.training)
            return Quantized(
                latents=self.from_grid(values).transpose(1, 2),
                indices=to_indices(values.detach(), self.levels),
                commitment=values.new_zeros(()),
            )

    def _rounded(self, latents: Tensor, update: bool = False) -> Tensor:
        """(B, T', d) in -1..1; with `update` by the batch's statistics, which enter the moving averages."""
        z = self.to_grid(latents.to(self.to_grid.weight.dtype).transpose(1, 2))
        mean, covariance = self.mean, self.covariance
        if update:
            mean = _mean_over_batch(z)
            centred = z - mean
            covariance = _mean_over_batch(centred.unsqueeze(-1) * centred.unsqueeze(-2))
            self.mean.lerp_(mean.detach(), _MOMENTUM)
            self.covariance.lerp_(covariance.detach(), _MOMENTUM)
        return to_levels(whitened(z - mean, covariance), self.levels)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        theirs = state_dict.get(f"{prefix}levels")
        if theirs is not None and theirs.tolist() != self.levels.tolist():
            ours = self.levels.tolist()
            raise ValueError(
                f"the checkpoint's {prefix}levels are {theirs.tolist()}, the config's {ours}; "
                "use the config it was trained with, or another run name"
            )
        super()._load_from_state_dict(state_dict, prefix, *args)
