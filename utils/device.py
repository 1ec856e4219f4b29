"""Batches of tensors and the device that computes: copies, and two pieces of work at the same time."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

A = TypeVar("A")
B = TypeVar("B")


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on the device; copies to a GPU are asynchronous."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)


def map_tensors(batch: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Return a batch with a function applied to its tensors; it may nest and hold plain values."""
    return tree_map_only(Tensor, function, batch)


def tensors_of(batch: Any) -> list[Tensor]:
    """Return the tensors of a batch, which may nest and hold plain values, in order."""
    return [leaf for leaf in tree_leaves(batch) if torch.is_tensor(leaf)]


def side_by_side(
    first: Callable[[Tensor], A], x: Tensor, second: Callable[[Tensor], B], y: Tensor
) -> tuple[A, B]:
    """Return first(x) and second(y); a GPU computes both at the same time, and their gradients.

    Small kernels leave most of a GPU idle. The first piece runs on a stream of its own, on which autograd
    runs its backward pass too. Memory that both streams use is marked, so that none is given away early.
    """
    if not x.is_cuda or torch.compiler.is_compiling():
        return first(x), second(y)
    current, other = torch.cuda.current_stream(x.device), _side_stream(x.device)
    other.wait_stream(current)
    x.record_stream(other)
    with torch.cuda.stream(other):
        one = first(x)
    two = second(y)
    current.wait_stream(other)
    for tensor in tensors_of(one):
        tensor.record_stream(current)
    return one, two


def _side_stream(device: torch.device) -> torch.cuda.Stream:
    if device not in _streams:
        _streams[device] = torch.cuda.Stream(device)
    return _streams[device]


_streams: dict[torch.device, torch.cuda.Stream] = {}
