"""A training step as one CUDA graph: the processor starts it at once instead of kernel by kernel.

A step issues hundreds to thousands of kernels, and starting one takes the processor longer than most of them
take a GPU, which idles meanwhile (docs/GPU.md). A graph records the kernels of one step with the addresses
of their operands and replays them. What a step does in Python is not repeated, therefore everything that
changes between steps either

* is a tensor that is updated in place: weights, Adam's moments, codebooks, counts, random generators,
* or has a graph of its own: shapes and plain values of the batch, such as the network that it updates,
* or is a constant whose change discards the graphs: the learning rate.
"""

import logging
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

log = logging.getLogger(__name__)

WARM_UP = 3  # eager steps before a graph: libraries select algorithms, and the optimizer makes its state

Result = tuple[Tensor, Mapping[str, Tensor]]  # the loss and the step metrics
Step = Callable[[Any], Result]
T = TypeVar("T")


class Record(Protocol):
    """What records the kernels of a function, such as `record_cuda`."""

    def __call__(self, function: Callable[[], T]) -> tuple[Callable[[], Any], T]:
        """Return what replays the function, and the tensors that a replay writes its result to."""


def record_cuda(function: Callable[[], T]) -> tuple[Callable[[], Any], T]:
    """Record a function as a CUDA graph. It does not run, so its result holds nothing before a replay."""
    graph = torch.cuda.CUDAGraph()
    # Threads that pin memory for the loader go on meanwhile.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        result = function()
    return graph.replay, result


class GraphedStep:
    """A step that is replayed as a graph after a few eager ones; the results are the same.

    If a step cannot be recorded, because it waits for the device, it stays eager and a warning says so.

    Args:
        step: an eager step. It changes tensors in place and returns the loss and metrics, all scalars.
        device: the GPU.
        record: what records a function; tests replace it by a recorder that works on a processor.
    """

    def __init__(self, step: Step, device: torch.device, record: Record = record_cuda) -> None:
        self._step, self._device, self._record = step, device, record
        self._graphs: dict[Hashable, _RecordedStep] = {}
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
        kind = _kind(batch)
        self._seen[kind] = self._seen.get(kind, 0) + 1
        if self._fails or self._seen[kind] <= WARM_UP:
            return self._eagerly(batch)
        if kind not in self._graphs:
            try:
                self._graphs[kind] = _RecordedStep(self._step, batch, self._device, self._record)
            except RuntimeError as error:
                self._fails = True
                reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
                log.warning("the training step is not replayed as a CUDA graph, which is slower: %s", reason)
                return self._eagerly(batch)
        return self._graphs[kind](batch)

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


class _RecordedStep:
    """A recorded step, with the tensors that it reads its batch from and writes its result to."""

    def __init__(self, step: Step, batch: Any, device: torch.device, record: Record) -> None:
        self._inputs = _map(batch, lambda x: x.to(device, copy=True))
        self._names: list[str] = []

        def run() -> Tensor:
            loss, metrics = step(self._inputs)
            self._names = list(metrics)
            return torch.stack([value.float() for value in (loss, *metrics.values())])

        self._replay, self._values = record(run)

    def __call__(self, batch: Any) -> Result:
        for mine, new in zip(_tensors(self._inputs), _tensors(batch), strict=True):
            mine.copy_(new, non_blocking=True)
        self._replay()
        loss, *metrics = self._values.clone().unbind()  # the next replay overwrites the result
        return loss, dict(zip(self._names, metrics, strict=True))


def _map(batch: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if torch.is_tensor(batch):
        return function(batch)
    return type(batch)(*(_map(field, function) for field in batch)) if isinstance(batch, tuple) else batch


def _tensors(batch: Any) -> list[Tensor]:
    if torch.is_tensor(batch):
        return [batch]
    return [x for field in batch for x in _tensors(field)] if isinstance(batch, tuple) else []


def _kind(batch: Any) -> Hashable:
    """What has a graph of its own: shapes, types and plain values."""
    if torch.is_tensor(batch):
        return tuple(batch.shape), batch.dtype
    return tuple(map(_kind, batch)) if isinstance(batch, tuple) else batch
