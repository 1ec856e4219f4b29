"""Numeric precision of a training step: fp32, TF32 or bf16, where that is safe.

Autocast decides per operation: products and convolutions in bf16, norms and softmaxes in fp32. Code that must
stay in fp32 (distances, codebook updates, decoder outputs, losses, rewards) disables autocast or casts where
it computes. Weights and Adam's state are fp32, so checkpoints of all precisions have the same form.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

Precision = Literal["fp32", "tf32", "bf16"]


def default_precision(device: torch.device) -> Precision:
    """Return `bf16` for a GPU with matrix units for it, `fp32` for a processor and older GPUs."""
    has_units = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return "bf16" if has_units else "fp32"


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Return the context for forward passes; it does nothing in fp32 and TF32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Set whether a GPU may round the factors of fp32 products and convolutions to 10 bits in the block.

    PyTorch allows it for convolutions by default; main.py forbids it outside of such a block.
    """
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    allow_tf32(allowed)
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@contextmanager
def full_fp32(device: torch.device) -> Iterator[None]:
    """Compute products in fp32 in the block, whatever the precision around it."""
    with torch.autocast(device.type, enabled=False), tf32(False):
        yield


def allow_tf32(allowed: bool) -> None:
    """Set whether a GPU may round the factors of fp32 products and convolutions to 10 bits."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed
