"""In which numbers a step computes: fp32, or bf16 where that is safe; TF32 on GPUs that have it.

Autocast decides per operation: products and convolutions in bf16, norms and softmaxes in fp32. What must stay
fp32 whatever the config says (distances, codebook updates, what decoders give, losses, rewards) says so where
it is computed.
Weights and Adam's state are fp32 throughout, so checkpoints of both precisions are alike.
"""

from typing import Literal

import torch

Precision = Literal["fp32", "bf16"]
DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The context in which losses are computed; it does nothing in fp32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def allow_tf32(allowed: bool) -> None:
    """Whether fp32 products and convolutions on a GPU may round their factors to 10 bits.

    PyTorch allows it to convolutions unless told otherwise; here fp32 means fp32 unless the config says so.
    """
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed
