"""The codebook: nearest code, straight-through gradient, moving averages, restarts; in step across processes.

Source: VQ-VAE (van den Oord et al. 2017), learnt by moving averages only, with Jukebox's restarts of dead
codes (arXiv 2005.00341). All state is in buffers, so it is part of every checkpoint. `Quantizer` is what a
memory asks of it; models/fsq.py is another one.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from utils.config import ConfigModel
from utils.training.distributed import from_main, gather_rows, sum_over_processes


class CodebookConfig(ConfigModel):
    """How a codebook learns."""

    dim: PositiveInt = 512
    """Length of a code."""
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Of the moving averages, per training step."""
    restart_below: NonNegativeFloat = 1.0
    """A code whose moving count is below this is put on a random latent of the batch."""
    restarts: Literal["mended", "released"] = "mended"
    """`mended` sets a restarted code's sums to the latent and its count to 1. `released` leaves them alone,
    as the published code does, so a dead code jumps to a new random latent every step."""


class Quantized(NamedTuple):
    """What quantising gives.

    Attributes:
        latents: (B, C, T') the codes' vectors, with the straight-through gradient to the encoder.
        codes: (B, T') int64.
        commitment: scalar mean of (latent - code)², the gradient to the encoder only.
    """

    latents: Tensor
    codes: Tensor
    commitment: Tensor


class Quantizer(nn.Module, ABC):
    """What stands between encoder and decoder: latents (B, C, T') -> codes (B, T') -> vectors (B, C, T')."""

    @property
    @abstractmethod
    def num_codes(self) -> int:
        """K: codes are 0..K-1."""

    @abstractmethod
    def encode(self, latents: Tensor) -> Tensor:
        """Codes (B, T') int64 of latents (B, C, T'); nothing is learnt and no gradient flows."""

    @abstractmethod
    def lookup(self, codes: Tensor) -> Tensor:
        """Vectors (B, C, T') of codes (B, T')."""

    @abstractmethod
    def forward(self, latents: Tensor) -> Quantized:
        """Quantises latents (B, C, T'); in training mode the quantizer may learn from them."""

    def step_logs(self) -> Mapping[str, Tensor]:
        """Numbers of the last training step that are worth logging, equal in all processes."""
        return {}


class Codebook(Quantizer):
    """K codes of length C.

    Buffers: codes (K, C); sums (K, C) and counts (K,), the moving averages of the latents assigned to each
    code and of their number; initialised, a flag; restarted, how many codes the last update restarted;
    assigned (K,), how many latents of the last update's batch each code was given (not in checkpoints).
    """

    keep_eager = True  # random draws and in-place updates stay outside torch.compile (trainer.compiled)

    codes: Tensor
    sums: Tensor
    counts: Tensor
    initialised: Tensor
    restarted: Tensor
    assigned: Tensor

    def __init__(self, num_codes: int, config: CodebookConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("codes", torch.zeros(num_codes, config.dim))
        self.register_buffer("sums", torch.zeros(num_codes, config.dim))
        self.register_buffer("counts", torch.zeros(num_codes))
        self.register_buffer("initialised", torch.tensor(False))
        self.register_buffer("restarted", torch.tensor(0))
        self.register_buffer("assigned", torch.zeros(num_codes), persistent=False)
        self._known_initialised = False  # spares a device synchronisation per step
        self.hold = False  # keep what is seen for a later update: the batch comes in parts
        self._held: list[tuple[Tensor, Tensor]] = []

    @property
    def num_codes(self) -> int:
        """K."""
        return self.codes.shape[0]

    def step_logs(self) -> Mapping[str, Tensor]:
        """How many codes the last training step restarted."""
        return {"restarted_codes": self.restarted}

    @torch.no_grad()
    def encode(self, latents: Tensor) -> Tensor:
        """Codes (B, T') of latents (B, C, T'): the nearest ones."""
        with torch.autocast(latents.device.type, enabled=False):
            rows = latents.transpose(1, 2).flatten(0, 1)
            return self.nearest(rows).view(latents.shape[0], -1)

    def lookup(self, codes: Tensor) -> Tensor:
        """Vectors (B, C, T') of codes (B, T')."""
        return F.embedding(codes, self.codes).transpose(1, 2)

    @torch.no_grad()
    def nearest(self, latents: Tensor) -> Tensor:
        """Index (N,) of the code nearest to each latent (N, C), by squared distance; the first of equals."""
        latents = latents.to(self.codes.dtype)
        distances = (
            latents.square().sum(1, keepdim=True) - 2 * latents @ self.codes.T + self.codes.square().sum(1)
        )
        return distances.argmin(1)

    def forward(self, latents: Tensor) -> Quantized:
        """Quantises latents (B, C, T') with the codes as they are; in training mode the codes then learn."""
        with torch.autocast(latents.device.type, enabled=False):
            latents = latents.to(self.codes.dtype)
            rows = latents.detach().transpose(1, 2).flatten(0, 1)  # (B*T', C)
            if self.training:
                self._initialise(rows)
            codes = self.nearest(rows)
            quantized = self.lookup(codes.view(latents.shape[0], -1))
            if self.training:
                self._held.append((rows, codes))
                if not self.hold:
                    held, self._held = self._held, []
                    self._update(*(torch.cat(part) for part in zip(*held, strict=True)))
            return Quantized(
                latents=latents + (quantized - latents).detach(),
                codes=codes.view(latents.shape[0], -1),
                commitment=(quantized.detach() - latents).square().mean(),
            )

    @property
    def is_initialised(self) -> bool:
        """Whether the codes have been put somewhere."""
        self._known_initialised = self._known_initialised or bool(self.initialised)
        return self._known_initialised

    def start_from(self, latents: Tensor) -> None:
        """Codes are a random choice of latents (B, C, T'), unless they have been put somewhere before."""
        self._initialise(latents.to(self.codes.dtype).transpose(1, 2).flatten(0, 1))

    def used(self) -> Tensor:
        """How many codes the last update's batch used."""
        return (self.assigned > 0).sum()

    def perplexity(self) -> Tensor:
        """The exponential of the entropy of the last update's codes: so many codes, used evenly, have it."""
        share = self.assigned / self.assigned.sum().clamp(min=1)
        return (-(share * share.clamp(min=1e-12).log()).sum()).exp()

    @torch.no_grad()
    def _initialise(self, rows: Tensor) -> None:
        """Before the first training batch: codes are a random choice of its latents."""
        if self.is_initialised:
            return
        self.codes.copy_(self._random_latents(rows))
        self.restore()

    @torch.no_grad()
    def restore(self) -> None:
        """Moving averages that agree with the codes as they stand: sums = codes, counts = 1."""
        self.sums.copy_(self.codes)
        self.counts.fill_(1)
        self.initialised.fill_(True)

    @torch.no_grad()
    def _update(self, rows: Tensor, codes: Tensor) -> None:
        decay = self.config.decay
        one_hot = F.one_hot(codes, self.num_codes).to(rows.dtype)  # a matmul: deterministic on every device
        self.sums.mul_(decay).add_(sum_over_processes(one_hot.T @ rows), alpha=1 - decay)
        self.assigned.copy_(sum_over_processes(one_hot.sum(0)))
        self.counts.mul_(decay).add_(self.assigned, alpha=1 - decay)
        fresh = self._random_latents(rows)
        alive = (self.counts >= self.config.restart_below).unsqueeze(1)
        self.codes.copy_(torch.where(alive, self.sums / self.counts.unsqueeze(1), fresh))
        self.restarted.copy_((~alive).sum())
        if self.config.restarts == "mended":
            self.sums.copy_(torch.where(alive, self.sums, fresh))
            self.counts.copy_(torch.where(alive.squeeze(1), self.counts, torch.ones_like(self.counts)))

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
