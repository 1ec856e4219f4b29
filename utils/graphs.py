"""CUDA graphs: the processor starts a recorded piece of work at once instead of kernel by kernel.

A training step issues hundreds to thousands of kernels, and starting one takes the processor longer than most
of them take a GPU, which idles meanwhile (docs/GPU.md). A graph records the kernels of a function with the
addresses of their operands and replays them. What the function does in Python is not repeated, therefore
everything that changes from call to call either

* is a tensor that is updated in place: weights, Adam's moments, codebooks, counts, random generators, caches,
* or has a graph of its own: shapes and plain values of the batch, such as the network that it updates,
* or is a constant whose change discards the graphs: the learning rate.
"""

import logging
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from utils.device import map_tensors, tensors_of

log = logging.getLogger(__name__)

WARM_UP = 3  # eager steps before a graph: libraries select algorithms, and the optimizer makes its state

T = TypeVar("T")
Result = tuple[Tensor, Mapping[str, Tensor]]  # the loss and the step metrics
Step = Callable[[Any], Result]


class Record(Protocol):
    """A recorder of the kernels of a function, such as `record_cuda`."""

    def __call__(self, function: Callable[[], T]) -> tuple[Callable[[], Any], T]:
        """Return what replays the function, and the tensors that a replay writes its result to."""


def record_cuda(function: Callable[[], T]) -> tuple[Callable[[], Any], T]:
    """Record a function as a CUDA graph. It does not run, so its result holds nothing before a replay."""
    graph = torch.cuda.CUDAGraph()
    # Threads that pin memory for the loader go on meanwhile.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        result = function()
    return graph.replay, result


class Recorded(Generic[T]):
    """A recorded function and the tensors that it reads its input from.

    Args:
        function: changes tensors in place and returns tensors.
        example: an input: a tensor, or a NamedTuple of tensors (nested, or with plain values).
        device: the GPU.
        record: what records the function.
    """

    def __init__(
        self, function: Callable[[Any], T], example: Any, device: torch.device, record: Record
    ) -> None:
        self._input = map_tensors(example, lambda x: x.to(device, copy=True))
        self._replay, self._result = record(lambda: function(self._input))

    def __call__(self, given: Any) -> T:
        """Replay the function for an input like the example; the next call overwrites the result."""
        for mine, new in zip(tensors_of(self._input), tensors_of(given), strict=True):
            mine.copy_(new, non_blocking=True)
        self._replay()
        return self._result


class GraphedStep:
    """A training step that is replayed as a graph after a few eager ones; the results are the same.

    If a step cannot be recorded, because it waits for the device, it stays eager and a warning says so.

    Args:
        step: an eager step. It changes tensors in place and returns the loss and metrics, all scalars.
        device: the GPU.
        record: what records a function; tests replace it by a recorder that works on a processor.
    """

    def __init__(self, step: Step, device: torch.device, record: Record = record_cuda) -> None:
        self._step, self._device, self._record = step, device, record
        self._graphs: dict[Hashable, tuple[Recorded[Tensor], list[str]]] = {}
        self._seen: dict[Hashable, int] = {}
        self._constants: Hashable = None
        self._fails = False

    def __call__(self, batch: Any, constants: Hashable = None) -> Result:
        """Compute a step.

        Args:
            batch: a tensor, or a NamedTuple of tensors (nested, or with plain values).
            constants: numbers that the step reads from Python; graphs are recorded anew when they change.
        """
        if constants != self._constants:
            self._graphs.clear()
            self._constants = constants
        kind = kind_of(batch)
        self._seen[kind] = self._seen.get(kind, 0) + 1
        if self._fails or self._seen[kind] <= WARM_UP:
            return self._eagerly(batch)
        if kind not in self._graphs:
            try:
                self._graphs[kind] = self._recorded(batch)
            except RuntimeError as error:
                self._fails = True
                reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
                log.warning("the training step is not replayed as a CUDA graph, which is slower: %s", reason)
                return self._eagerly(batch)
        recorded, names = self._graphs[kind]
        loss, *metrics = recorded(batch).clone().unbind()  # the next replay overwrites the result
        return loss, dict(zip(names, metrics, strict=True))

    def _recorded(self, batch: Any) -> tuple[Recorded[Tensor], list[str]]:
        names: list[str] = []

        def step(own: Any) -> Tensor:
            loss, metrics = self._step(own)
            names[:] = metrics
            return torch.stack([value.float() for value in (loss, *metrics.values())])

        return Recorded(step, batch, self._device, self._record), names

    def _eagerly(self, batch: Any) -> Result:
        if self._device.type != "cuda":
            return self._step(batch)
        # On a stream of its own, as the recording: autograd remembers where gradients are accumulated.
        current, other = torch.cuda.current_stream(self._device), torch.cuda.Stream(self._device)
        other.wait_stream(current)
        with torch.cuda.stream(other):
            result = self._step(batch)
        current.wait_stream(other)
        return result


def kind_of(batch: Any) -> Hashable:
    """Return the key of a batch's graph: shapes, types and plain values."""
    if torch.is_tensor(batch):
        return tuple(batch.shape), batch.dtype
    return tuple(map(kind_of, batch)) if isinstance(batch, tuple) else batch
