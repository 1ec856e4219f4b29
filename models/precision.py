"""The arithmetic of the GPT's blocks while it composes: fp32, fp32 by way of oneDNN, or bf16."""

import copy
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.gpt import MotionGPT

Precision = Literal["fp32", "fp32_onednn", "bf16"]


class OneDNNLinear(nn.Module):
    """A linear layer computed by oneDNN, which torch uses for tensors in that library's own layout."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight.detach().to_mkldnn(), linear.bias.detach().to_mkldnn()

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C')."""
        return F.linear(x.contiguous().to_mkldnn(), self.weight, self.bias).to_dense()


def in_precision(gpt: MotionGPT, precision: Precision) -> MotionGPT:
    """The GPT itself for `fp32`, else a copy of it.

    `bf16`: blocks and outputs; embeddings stay as they are, for loud music needs the digits. `fp32_onednn`:
    the blocks' linear layers go through oneDNN, with a copy of the weights in its layout. On AMD processors
    torch's own route leaves half of the machine idle; on Intel's there is little to gain.

    Raises:
        ValueError: for `fp32_onednn` elsewhere than on a CPU, or where torch was built without oneDNN.
    """
    if precision == "fp32":
        return gpt
    if precision == "bf16":
        gpt = copy.deepcopy(gpt)
        for part in (gpt.base.blocks, gpt.head):
            part.bfloat16()
        return gpt
    device = gpt.base.positions.device
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        raise ValueError(
            f"generation.precision fp32_onednn needs a CPU and a torch built with oneDNN (here: {device}); "
            "use fp32 or bf16"
        )
    gpt = copy.deepcopy(gpt)
    for block in [*gpt.base.blocks, *gpt.head.blocks]:
        for module in block.modules():
            for name, child in list(module.named_children()):
                if isinstance(child, nn.Linear):
                    setattr(module, name, OneDNNLinear(child))
    return gpt
