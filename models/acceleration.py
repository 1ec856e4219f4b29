"""Faster forward passes of a trained motion GPT: bf16, oneDNN, torch.compile, and CUDA graphs."""

import copy
from collections.abc import Hashable
from types import FunctionType, MethodType
from typing import Any, Literal, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.gpt import KVCache, Logits, MotionGPT
from models.vqvae import Codes
from utils.graphs import Record, record_cuda

Precision = Literal["fp32", "fp32_onednn", "bf16"]


class Forward(Protocol):
    """A callable like `MotionGPT.forward`."""

    def __call__(  # noqa: D102
        self, music: Tensor, codes: Codes, cache: KVCache | None = None, last_only: bool = False
    ) -> Logits: ...


class OneDNNLinear(nn.Module):
    """Linear layer computed by oneDNN, which torch uses for tensors in that library's own layout."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight.detach().to_mkldnn(), linear.bias.detach().to_mkldnn()

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C')."""
        return F.linear(x.contiguous().to_mkldnn(), self.weight, self.bias).to_dense()


def with_precision(gpt: MotionGPT, precision: Precision) -> MotionGPT:
    """Return the GPT itself for `fp32`, else a copy in that precision.

    `bf16` converts blocks and outputs. The embeddings stay in fp32, since music features of large magnitude
    need its digits. `fp32_onednn` computes the blocks' linear layers through oneDNN, with a copy of the
    weights in its layout: on AMD processors torch's default route leaves half of the machine idle; on Intel's
    there is little to gain.

    Raises:
        ValueError: for `fp32_onednn` elsewhere than on a CPU, or where torch was built without oneDNN.
    """
    if precision == "fp32":
        return gpt
    if precision == "bf16":
        gpt = copy.deepcopy(gpt)
        for part in (gpt.base.blocks, gpt.head, *([gpt.music.blocks] if gpt.music else [])):
            part.bfloat16()
        return gpt
    device = gpt.base.positions.device
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        raise ValueError(
            f"generation.precision fp32_onednn needs a CPU and a torch built with oneDNN (here: {device}); "
            "use fp32 or bf16"
        )
    gpt = copy.deepcopy(gpt)
    for block in [*gpt.base.blocks, *gpt.head.blocks, *(gpt.music.blocks if gpt.music else [])]:
        for module in block.modules():
            for name, child in list(module.named_children()):
                if isinstance(child, nn.Linear):
                    setattr(module, name, OneDNNLinear(child))
    return gpt


def compiled_forward(gpt: MotionGPT) -> Forward:
    """`gpt.forward` by torch.compile: the same sums in another order.

    A pass over few tokens costs little more than reading the weights, which on a CPU torch brings into the
    order that its matrix products prefer before every product. Compiled, that happens once ("freezing"), and
    the operations between the products are fused. Each number of new codes is compiled separately, at its
    first call with a batch of one and at its first with more, so this pays for recurring numbers only.

    The weights are copied and become constants: later changes of the GPT do not reach them.

    Raises:
        ValueError: at the first call, if torch.compile cannot work here; it needs a C++ compiler on a CPU.
    """
    from torch._dynamo.exc import TorchDynamoException
    from torch._inductor import config as inductor  # torch's documented place of these options

    bf16 = gpt.head.to_upper.weight.dtype == torch.bfloat16
    options: dict[str, bool | str] = {"freezing": gpt.base.positions.device.type == "cpu"}
    if bf16 and options["freezing"]:  # products written for the shape, weights in the order these read
        options.update(max_autotune_gemm=True, max_autotune_gemm_backends="CPP")
    method = cast("MethodType", copy.deepcopy(gpt).requires_grad_(False).forward)
    forward = torch.compile(_with_own_code(method))

    def run(music: Tensor, codes: Codes, cache: KVCache | None = None, last_only: bool = False) -> Logits:
        # Copies, so that the strides of a slice of a longer window are no reason to compile again.
        music, upper, lower = (x.clone(memory_format=torch.contiguous_format) for x in (music, *codes))
        if len(music) > 1:  # finished dances leave the batch
            buffers = [] if cache is None else cache.buffers
            for tensor in (music, upper, lower, *buffers):
                torch._dynamo.mark_dynamic(tensor, 0)
        try:
            with inductor.patch(options):
                return forward(music, Codes(upper, lower), cache, last_only)
        except TorchDynamoException as error:
            raise ValueError(
                f"generation.compile: torch.compile failed ({type(error).__name__}: {_first_line(error)}); "
                "on a CPU it needs a C++ compiler such as g++. Set generation.compile: false"
            ) from error

    return run


class AcceleratedGPT:
    """The forward pass of a trained GPT in the way that a config asks for.

    Making one takes time: bf16 copies the weights, and compiled code and graphs are made in the first passes.
    It can be used for any number of songs, one `Generator` after the other or several at a time.

    Attributes:
        gpt: the GPT in the precision.
        record: what records the work for a code as a graph, which is then replayed; None does not.
        unused: memory that generators have given back, with the graphs that belong to it.

    Args:
        gpt: the GPT, in eval mode.
        precision: see `with_precision`.
        compiles: whether recurring passes are compiled; see `compiled_forward`.
        cuda_graph: whether codes are replayed as CUDA graphs on a GPU; None does so.

    Raises:
        ValueError: as of `with_precision`, or if CUDA graphs are asked for without a GPU.
    """

    def __init__(
        self,
        gpt: MotionGPT,
        precision: Precision = "fp32",
        compiles: bool = False,
        cuda_graph: bool | None = None,
    ) -> None:
        device = gpt.base.positions.device
        if cuda_graph and device.type != "cuda":
            raise ValueError(f"generation.cuda_graph needs a GPU, got device {device}; set it to null")
        self.gpt = with_precision(gpt, precision)
        records = device.type == "cuda" and cuda_graph is not False
        self.record: Record | None = record_cuda if records else None
        self.unused: dict[Hashable, list[Any]] = {}
        self._compiled: Forward | None = compiled_forward(self.gpt) if compiles else None

    def last(self, music: Tensor, codes: Codes, cache: KVCache | None, recurs: bool) -> Logits:
        """The last step's logits (B, 1, K).

        Args:
            music: as of `MotionGPT.forward`, as are codes and cache.
            codes: (B, t).
            cache: the window's codes before these.
            recurs: whether passes over as many codes recur, so that compiling pays.
        """
        forward: Forward = self._compiled if recurs and self._compiled is not None else self.gpt
        return forward(music, codes, cache, last_only=True)


def _with_own_code(method: MethodType) -> MethodType:
    """Return the method with a code object of its own.

    torch keeps compiled functions with the code object, at most eight of them, so without this all GPTs of a
    process would share these eight. (torch.compile has an option for it since 2.13.)
    """
    plain = method.__func__
    own = FunctionType(
        plain.__code__.replace(), plain.__globals__, plain.__name__, plain.__defaults__, plain.__closure__
    )
    own.__kwdefaults__ = plain.__kwdefaults__
    return MethodType(own, method.__self__)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "")
