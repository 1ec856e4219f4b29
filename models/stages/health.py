"""Codebook health: how many codes are in use, how evenly, and how many had to be restarted.

A code that no latent falls on is dead: it is learnt by nothing, and nothing dances it. Perplexity as in
van den Oord et al. 2017.
"""

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.vqvae import ChoreographicMemory, Reconstruction
from utils.training.distributed import sum_over_processes


def perplexity(counts: np.ndarray) -> float:
    """Exp of the entropy of the usage: how many codes are in use, were they used alike. In 1..K."""
    share = counts[counts > 0] / counts.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def usage(counts: np.ndarray) -> dict[str, float]:
    """Used codes, dead codes and perplexity of how often (K,) each code was used, not all of them 0."""
    used = int((counts > 0).sum())
    return {"used_codes": used, "dead_codes": len(counts) - used, "perplexity": perplexity(counts)}


class CodebookHealth:
    """Counts the codes of an epoch's batches, without making the device wait."""

    def __init__(self, memory: ChoreographicMemory) -> None:
        self.memory = memory
        self._counts: dict[str, Tensor] = {}  # of this process alone
        self._restarted: dict[str, Tensor] = {}

    @torch.no_grad()
    def count(self, reconstruction: Reconstruction) -> dict[str, Tensor]:
        """Counts what a batch became; returns the step's logs of all halves together."""
        logs: dict[str, Tensor] = {}
        for half, quantized in reconstruction.quantized.items():
            book = self.memory.halves[half].quantizer
            counts = F.one_hot(quantized.indices.flatten(), book.num_codes).sum(0)
            self._counts[half] = self._counts.get(half, 0) + counts
            for name, value in book.step_logs().items():
                logs[name] = logs.get(name, 0) + value
                if name == "restarted_codes":
                    self._restarted[half] = self._restarted.get(half, 0) + value
        return logs

    def epoch_logs(self) -> Mapping[str, float]:
        """Of each half, over all processes: used and dead codes, perplexity, restarts. Counting starts anew.

        All processes must call it.
        """
        logs: dict[str, float] = {}
        for half, counts in self._counts.items():
            facts = usage(sum_over_processes(counts).cpu().numpy())
            logs |= {f"{name}_{half}": value for name, value in facts.items()}
            if half in self._restarted:
                logs[f"restarted_codes_{half}"] = int(self._restarted[half])
        self._counts, self._restarted = {}, {}
        return logs
