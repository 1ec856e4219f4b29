"""Helpers for training in several processes; with one process they do nothing.

The environment of torchrun (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE) identifies this process. The
config's `device` selects where it computes and thereby the backend: NCCL between GPUs, of which each process
has its own, else gloo.
"""

import logging
import os
import warnings
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

TIMEOUT = timedelta(hours=4)  # The main process evaluates while the others wait.
log = logging.getLogger(__name__)


def start(name: str = "auto") -> None:
    """Join the process group of torchrun's environment, if there is one.

    Args:
        name: the config's device, as in `device`.

    Raises:
        ValueError: as `device` does.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        own = device(name)
        if own.type == "cuda":
            torch.cuda.set_device(own)
        nccl = own.type == "cuda" and dist.is_nccl_available()
        dist.init_process_group("nccl" if nccl else "gloo", timeout=TIMEOUT)


def stop() -> None:
    """Leave the process group."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """Return the rank of this process."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Return whether this is the process that logs and writes files."""
    return rank() == 0


def device(name: str = "auto") -> torch.device:
    """Return the device of this process.

    Args:
        name: `cpu`; `cuda`, the GPU of this process's number on this machine; `cuda:N`, for one process;
            `auto`, as `cuda` where there is a GPU for every process of this machine, else `cpu`: NCCL
            refuses two processes on one GPU.

    Raises:
        ValueError: if a device is asked for that is not there, or that several processes would share.
    """
    number = int(os.environ.get("LOCAL_RANK", "0"))
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", number + 1))
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        if 0 < gpus < processes and number == 0:
            log.warning("%d processes, but %d GPU(s) here: computing on the processors", processes, gpus)
        return torch.device("cuda", number) if gpus >= processes else torch.device("cpu")
    try:
        asked = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device must be auto, cpu, cuda or cuda:N, got {name!r}") from None
    if asked.type != "cuda":
        return asked
    if gpus == 0:
        raise ValueError(
            f"device {name!r} was asked for, but no GPU is usable here; use device=cpu or device=auto"
        )
    if asked.index is not None and processes > 1:
        raise ValueError(
            f"device {name!r} is one GPU for {processes} processes; use device=cuda, one GPU each"
        )
    if processes > gpus:
        raise ValueError(
            f"device {name!r} was asked for by {processes} processes, but this machine has {gpus} GPU(s); "
            f"start {gpus}, or use device=cpu"
        )
    if asked.index is not None and asked.index >= gpus:
        raise ValueError(f"device {name!r} was asked for, but the last GPU here is cuda:{gpus - 1}")
    return torch.device("cuda", number if asked.index is None else asked.index)


def wrap(module: nn.Module) -> nn.Module:
    """Wrap a module such that gradients are averaged over processes; with one process return the module.

    Buffers are not broadcast: the codebook, the only code that changes them, synchronises its update itself.
    A module with a true attribute `has_unused_parameters` need not use all parameters in a step.
    """
    if world_size() == 1:
        return module
    unused = bool(getattr(module, "has_unused_parameters", False))
    with warnings.catch_warnings():  # its successor synchronises buffers once, which nothing here needs
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        return DistributedDataParallel(module, broadcast_buffers=False, find_unused_parameters=unused)


def barrier() -> None:
    """Wait for all processes."""
    if world_size() > 1:
        dist.barrier()


def share(batch: list[int]) -> list[int]:
    """Return this process's part of a batch; the parts joined in rank order are the batch.

    Raises:
        ValueError: if the batch does not divide among the processes.
    """
    parts = world_size()
    if len(batch) % parts:
        raise ValueError(
            f"a batch of {len(batch)} does not divide among {parts} processes (training.batch_size)"
        )
    size = len(batch) // parts
    return batch[rank() * size : (rank() + 1) * size]


def sum_over_processes(x: Tensor) -> Tensor:
    """Return the sum of x over all processes; x itself with one process."""
    if world_size() > 1:
        x = x.clone()
        dist.all_reduce(x)
    return x


def mean_over_processes(x: Tensor) -> Tensor:
    """Return the mean of x over all processes; x itself with one process."""
    return sum_over_processes(x) / world_size()


def means_over_processes(values: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return the means of named scalars over all processes in one reduction; with one process the values."""
    if world_size() == 1 or not values:
        return values
    means = mean_over_processes(torch.stack([value.detach().float() for value in values.values()]))
    return dict(zip(values, means.unbind(), strict=True))


def gather_rows(x: Tensor) -> Tensor:
    """Return the rows (N, ...) of all processes in rank order; all N must be equal. One process: x itself."""
    if world_size() == 1:
        return x
    parts = [torch.empty_like(x) for _ in range(world_size())]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


def from_main(x: Tensor) -> Tensor:
    """Return the main process's x in every process."""
    if world_size() > 1:
        x = x.clone()
        dist.broadcast(x, 0)
    return x


def own_share(number: int) -> range:
    """Return the indices of 0..number-1 that this process works on: every n-th; all with one process."""
    return range(rank(), number, world_size())


def gather_shares(done: list[Any]) -> list[Any]:
    """Return the results of all processes' `own_share` in the order of the indices, in every process."""
    if world_size() == 1:
        return done
    parts: list[list[Any]] = [[] for _ in range(world_size())]
    dist.all_gather_object(parts, done)
    return [parts[i % len(parts)][i // len(parts)] for i in range(sum(map(len, parts)))]


class AsyncMax:
    """Maximum of an integer over all processes, available one exchange later.

    The reduction runs between processors (gloo) while the next step is computed, so it delays no step and
    does not synchronise with a GPU.
    """

    def __init__(self) -> None:
        self._group: Any = None
        self._pending: tuple[Any, Tensor] | None = None

    def exchange(self, number: int) -> int:
        """Send a number and return the maximum of the previous exchange; with one process the number."""
        if world_size() == 1:
            return number
        if self._group is None:
            self._group = dist.new_group(backend="gloo")
        result = self._finish()
        own = torch.tensor(number)
        self._pending = dist.all_reduce(own, dist.ReduceOp.MAX, group=self._group, async_op=True), own
        return result

    def close(self) -> None:
        """Wait for the pending exchange."""
        self._finish()

    def _finish(self) -> int:
        if self._pending is None:
            return 0
        work, number = self._pending
        self._pending = None
        work.wait()
        return int(number)
