"""Passes of a GPT that composes, made faster by torch.compile: the same sums in another order.

Few tokens cost little more than reading the weights, which on a CPU torch would bring into the order its
matrix products like before every one of them. Compiled, that happens once ("freezing"), and what lies between
the products is fused. Every shape is compiled by itself, so it is worth it for shapes that come again and
again only, and the cache gives attention all of its room, filled or not (models/cache.py).
"""

import copy
from collections.abc import Callable
from types import FunctionType, MethodType

import torch
from torch import Tensor

from models.cache import BlockCache
from models.gpt import Logits, MotionGPT

Pass = Callable[[Tensor, Tensor | None, Tensor | None, list[BlockCache | None], int], Logits]


def compiled_pass(gpt: MotionGPT) -> Pass:
    """`gpt.last_logits`, compiled at its first call with a batch of one, and with more.

    Weights are copied and built in: later changes of the GPT do not reach them.

    Raises:
        ValueError: at the first call, if torch.compile cannot work here; it needs a C++ compiler on a CPU.
    """
    from torch._dynamo.exc import TorchDynamoException
    from torch._inductor import config as inductor  # torch's documented place of these options

    rough = gpt.head.to_upper.weight.dtype == torch.bfloat16
    options: dict[str, bool | str] = {"freezing": gpt.base.positions.device.type == "cpu"}
    if rough and options["freezing"]:  # products written for the shape, weights in the order these read
        options.update(max_autotune_gemm=True, max_autotune_gemm_backends="CPP")
    last_logits = torch.compile(_with_own_code(copy.deepcopy(gpt).requires_grad_(False).last_logits))

    def run(
        x: Tensor, mask: Tensor | None, last_mask: Tensor | None, caches: list[BlockCache | None], new: int
    ) -> Logits:
        if len(x) > 1:  # songs end, so the batch shrinks
            rooms = [room for cache in caches if cache is not None for room in (cache.key, cache.value)]
            for tensor in (x, *rooms):
                torch._dynamo.mark_dynamic(tensor, 0)
        try:
            with inductor.patch(options):
                return last_logits(x, mask, last_mask, caches, new)
        except TorchDynamoException as error:
            raise ValueError(
                f"generation.compile: torch.compile failed ({type(error).__name__}: {_first_line(error)}); "
                "on a CPU it needs a C++ compiler such as g++. Set generation.compile: false"
            ) from error

    return run


def _with_own_code(method: MethodType) -> MethodType:
    """Return the method with a code object of its own.

    torch keeps what it compiles with the code object, and at most eight entries there: without this all GPTs
    of a process would share them. (torch.compile has an option for it since 2.13.)
    """
    plain = method.__func__
    own = FunctionType(
        plain.__code__.replace(), plain.__globals__, plain.__name__, plain.__defaults__, plain.__closure__
    )
    own.__kwdefaults__ = plain.__kwdefaults__
    return MethodType(own, method.__self__)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "")
