"""A recorder of operations that works on a processor: to tests what a CUDA graph is to a GPU.

It records the operations of a function with the tensors that they read and write, and a replay repeats just
those, in the same memory. What a function does in Python is therefore not repeated, and an operation that
would make the processor wait for a GPU is an error, as it is while a graph is recorded.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

T = TypeVar("T")
WAITS = {
    "_local_scalar_dense",
    "item",
    "nonzero",
    "is_nonzero",
    "masked_select",
    "unique",
    "_unique2",
    "equal",
}
SENDS = {"lift_fresh", "lift_fresh_copy"}  # `torch.tensor(...)`: numbers of Python become a tensor
INDEXES = {"index", "index_put", "index_put_"}  # with a mask they count its true elements


class Waits(RuntimeError):
    """An operation that makes the processor wait for the device, or the device for the processor."""


class Recorder(TorchDispatchMode):
    """Runs operations, keeps them in `calls`, and refuses those that wait.

    `written` holds what was in the memory that they wrote to.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self.written: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if name in WAITS or name in SENDS or (name in INDEXES and _has_mask(args[1])):
            raise Waits(f"{name} waits, or sends numbers to the device")
        for place, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                value = args[place] if place < len(args) else kwargs.get(argument.name)
                for tensor in filter(torch.is_tensor, tree_leaves(value)):
                    storage = tensor.untyped_storage()
                    self.written.setdefault(storage.data_ptr(), (storage, storage.clone()))
        result = func(*args, **kwargs)
        self.calls.append((func, args, kwargs, result))
        return result


def _has_mask(indices: Any) -> bool:
    return any(torch.is_tensor(index) and index.dtype == torch.bool for index in indices)


def record(function: Callable[[], T]) -> tuple[Callable[[], Any], T]:
    """Record a function. It has to run once for that; what it wrote is restored, and the random numbers."""
    recorder, state = Recorder(), torch.get_rng_state()
    with recorder:
        result = function()
    for storage, before in recorder.written.values():
        storage.copy_(before)
    torch.set_rng_state(state)

    def replay() -> None:
        with torch.no_grad():
            for func, args, kwargs, before in recorder.calls:
                again = func(*args, **kwargs)
                for old, new in zip(tree_leaves(before), tree_leaves(again), strict=True):
                    if torch.is_tensor(old) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)

    return replay, result
