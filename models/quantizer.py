"""Vector quantization: latents (B, C, T') -> indices (B, T') -> codebook vectors (B, C, T').

Source: VQ-VAE (van den Oord et al. 2017), with a codebook updated by moving averages only and Jukebox's
restarts of dead codes (arXiv 2005.00341). All state is in buffers, so it is part of every checkpoint.
`Quantizer` is the interface that a memory uses; models/fsq.py is another implementation.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from utils.config import ConfigModel
from utils.training.distributed import from_main, gather_rows, sum_over_processes
from utils.training.precision import full_fp32


class CodebookConfig(ConfigModel):
    """Size of the codebook's vectors, and how they are updated."""

    renamed: ClassVar[Mapping[str, str]] = {"restart_below": "dead_code_threshold"}
    renamed_values: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "restarts": {"released": "published", "mended": "reset"},
    }

    dim: PositiveInt = 512
    """Length C of a codebook vector."""
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Decay of the moving averages per training step."""
    dead_code_threshold: NonNegativeFloat = 1.0
    """A code whose moving count is below this is dead, and is restarted at a random latent of the batch."""
    restarts: Literal["reset", "published"] = "reset"
    """`reset` resets the moving averages of a restarted code: its sum to the latent and its count to 1.
    `published` keeps them, as the published code does, so a dead code jumps to a new random latent every
    step."""


class Quantized(NamedTuple):
    """Result of quantizing latents.

    Attributes:
        latents: (B, C, T') codebook vectors, with the straight-through gradient to the encoder.
        indices: (B, T') int64.
        commitment: scalar mean of (latent - vector)²; its gradient flows to the encoder only.
    """

    latents: Tensor
    indices: Tensor
    commitment: Tensor


class Quantizer(nn.Module, ABC):
    """Interface of a quantizer between encoder and decoder."""

    @property
    @abstractmethod
    def num_codes(self) -> int:
        """K: indices are 0..K-1."""

    @abstractmethod
    def encode(self, latents: Tensor) -> Tensor:
        """Indices (B, T') int64 of latents (B, C, T'); no state is updated and no gradient flows."""

    @abstractmethod
    def decode(self, indices: Tensor) -> Tensor:
        """Vectors (B, C, T') of indices (B, T')."""

    @abstractmethod
    def forward(self, latents: Tensor) -> Quantized:
        """Quantizes latents (B, C, T'); in training mode the quantizer may update its state from them."""

    def step_logs(self) -> Mapping[str, Tensor]:
        """Scalars of the last training step to log, equal in all processes."""
        return {}


def assignments(indices: Tensor, num_codes: int) -> Tensor:
    """Whether each index (N,) is each of the codes, (N, K) bool.

    Unlike `F.one_hot` and `bincount` it does not wait for the device to check the indices.
    """
    return indices.unsqueeze(1) == torch.arange(num_codes, device=indices.device)


class EMAQuantizer(Quantizer):
    """K vectors of length C; each follows the moving average of the latents that are assigned to it.

    Buffers: codebook (K, C); ema_sum (K, C) and ema_count (K,), the moving averages of the sum and of the
    number of latents assigned to each code; initialised, a flag; restarted, the number of codes that the last
    update restarted; assigned (K,), the number of latents that the last update assigned to each code (not in
    checkpoints).
    """

    keep_eager = True  # random draws and in-place updates stay outside torch.compile (trainer.compiled)

    codebook: Tensor
    ema_sum: Tensor
    ema_count: Tensor
    initialised: Tensor
    restarted: Tensor
    assigned: Tensor

    def __init__(self, num_codes: int, config: CodebookConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("codebook", torch.zeros(num_codes, config.dim))
        self.register_buffer("ema_sum", torch.zeros(num_codes, config.dim))
        self.register_buffer("ema_count", torch.zeros(num_codes))
        self.register_buffer("initialised", torch.tensor(False))
        self.register_buffer("restarted", torch.tensor(0))
        self.register_buffer("assigned", torch.zeros(num_codes), persistent=False)
        self._known_initialised = False  # saves a device synchronisation per step

    @property
    def num_codes(self) -> int:
        """K."""
        return self.codebook.shape[0]

    def step_logs(self) -> Mapping[str, Tensor]:
        """Number of codes that the last training step restarted."""
        return {"restarted_codes": self.restarted}

    @torch.no_grad()
    def encode(self, latents: Tensor) -> Tensor:
        """Indices (B, T') of the vectors nearest to latents (B, C, T')."""
        with full_fp32(latents.device):
            rows = latents.transpose(1, 2).flatten(0, 1)
            return self.nearest(rows).view(latents.shape[0], -1)

    def decode(self, indices: Tensor) -> Tensor:
        """Vectors (B, C, T') of indices (B, T')."""
        return F.embedding(indices, self.codebook).transpose(1, 2)

    @torch.no_grad()
    def nearest(self, latents: Tensor) -> Tensor:
        """Index (N,) of the vector nearest to each latent (N, C) by squared distance; ties give the first."""
        latents = latents.to(self.codebook.dtype)
        squares = self.codebook.square().sum(1)
        distances = latents.square().sum(1, keepdim=True) - 2 * latents @ self.codebook.T + squares
        return distances.argmin(1)

    def forward(self, latents: Tensor) -> Quantized:
        """Quantizes latents (B, C, T') with the present codebook; in training mode it is then updated."""
        with full_fp32(latents.device):
            latents = latents.to(self.codebook.dtype)
            rows = latents.detach().transpose(1, 2).flatten(0, 1)  # (B*T', C)
            if self.training:
                self._initialise(rows)
            indices = self.nearest(rows)
            quantized = self.decode(indices.view(latents.shape[0], -1))
            if self.training:
                self._update(rows, indices)
            return Quantized(
                latents=latents + (quantized - latents).detach(),
                indices=indices.view(latents.shape[0], -1),
                commitment=(quantized.detach() - latents).square().mean(),
            )

    @property
    def is_initialised(self) -> bool:
        """Whether the codebook holds vectors: from a first batch, a checkpoint or a published file."""
        self._known_initialised = self._known_initialised or bool(self.initialised)
        return self._known_initialised

    def used(self) -> Tensor:
        """Number of codes that the last update's batch used."""
        return (self.assigned > 0).sum()

    def perplexity(self) -> Tensor:
        """Exponential of the entropy of the last update's indices: K if all codes are used equally often."""
        share = self.assigned / self.assigned.sum().clamp(min=1)
        return (-(share * share.clamp(min=1e-12).log()).sum()).exp()

    @torch.no_grad()
    def _initialise(self, rows: Tensor) -> None:
        """Initialises the codebook with a random choice of the first training batch's latents."""
        if self.is_initialised:
            return
        self.codebook.copy_(self._random_latents(rows))
        self.restore()

    @torch.no_grad()
    def restore(self) -> None:
        """Sets the moving averages to agree with the codebook: ema_sum = codebook, ema_count = 1."""
        self.ema_sum.copy_(self.codebook)
        self.ema_count.fill_(1)
        self.initialised.fill_(True)

    @torch.no_grad()
    def _update(self, rows: Tensor, indices: Tensor) -> None:
        decay = self.config.decay
        one_hot = assignments(indices, self.num_codes).to(rows.dtype)  # a matmul: deterministic everywhere
        self.ema_sum.mul_(decay).add_(sum_over_processes(one_hot.T @ rows), alpha=1 - decay)
        self.assigned.copy_(sum_over_processes(one_hot.sum(0)))
        self.ema_count.mul_(decay).add_(self.assigned, alpha=1 - decay)
        fresh = self._random_latents(rows)
        alive = (self.ema_count >= self.config.dead_code_threshold).unsqueeze(1)
        self.codebook.copy_(torch.where(alive, self.ema_sum / self.ema_count.unsqueeze(1), fresh))
        self.restarted.copy_((~alive).sum())
        if self.config.restarts == "reset":
            self.ema_sum.copy_(torch.where(alive, self.ema_sum, fresh))
            ones = torch.ones_like(self.ema_count)
            self.ema_count.copy_(torch.where(alive.squeeze(1), self.ema_count, ones))

    def _random_latents(self, rows: Tensor) -> Tensor:
        """A random choice (K, C) of all processes' latents; too few are repeated with a little noise."""
        rows = gather_rows(rows)
        if len(rows) < self.num_codes:
            rows = rows.repeat(-(-self.num_codes // len(rows)), 1)
            rows = rows + self._draw_noise(rows) * (0.01 / self.config.dim**0.5)
        return from_main(rows[self._draw_permutation(rows)[: self.num_codes]])

    def _draw_noise(self, rows: Tensor) -> Tensor:
        return torch.randn_like(rows)

    def _draw_permutation(self, rows: Tensor) -> Tensor:
        return torch.randperm(len(rows), device=rows.device)
