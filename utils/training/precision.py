"""Numeric precision of a training step: fp32, or bf16 where that is safe; TF32 on GPUs that have it.

Autocast decides per operation: products and convolutions in bf16, norms and softmaxes in fp32. Code that must
stay in fp32 (distances, codebook updates, decoder outputs, losses, rewards) disables autocast or casts where
it computes. Weights and Adam's state are fp32, so checkpoints of both precisions have the same form.
"""

from typing import Literal

import torch

Precision = Literal["fp32", "bf16"]


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Return the context for forward passes; it does nothing in fp32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def allow_tf32(allowed: bool) -> None:
    """Set whether fp32 products and convolutions on a GPU may round their factors to 10 bits.

    PyTorch allows it for convolutions by default; here fp32 means fp32 unless the config says otherwise.
    """
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed
