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
    """Set whether a GPU may round the factors of fp32 products and convolutions to 10 bits in the block."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@contextmanager
def full_fp32(device: torch.device) -> Iterator[None]:
    """Compute products in fp32 in the block, whatever the precision around it."""
    with torch.autocast(device.type, enabled=False), tf32(False):
        yield


def set_up_arithmetic() -> None:
    """Make a GPU's libraries compute fp32 in fp32, and the same bits each time.

    PyTorch lets cuDNN round the factors of convolutions to TF32, and choose algorithms that add in any order.
    Training could then not be resumed bit for bit; and some of these compute the memory's gradients by
    Fourier transforms, which took four fifths of its step and 40 GB on an H200.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
