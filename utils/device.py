"""Copies to the device that computes, and two pieces of work on it at the same time."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

A = TypeVar("A")
B = TypeVar("B")


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on the device; copies to a GPU are asynchronous."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)


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
    for tensor in tree_leaves(one):
        if torch.is_tensor(tensor):
            tensor.record_stream(current)
    return one, two


def _side_stream(device: torch.device) -> torch.cuda.Stream:
    if device not in _streams:
        _streams[device] = torch.cuda.Stream(device)
    return _streams[device]


_streams: dict[torch.device, torch.cuda.Stream] = {}
