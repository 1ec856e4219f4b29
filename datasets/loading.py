"""Loaders of training clips: read by worker processes and pinned, or all kept on the device.

Both give the same batches in the same order, can skip the first ones of an epoch without reading them, and
draw nothing from the global random generator, so a run may change from one to the other.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from utils.training import distributed

log = logging.getLogger(__name__)

Resident = Any  # all clips of a dataset: a Tensor (N, ...), or a NamedTuple of them
FREE_SHARE = 0.5  # share of a GPU's free memory that clips may use


class Clips(Protocol):
    """A dataset of clips."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Any: ...

    def name(self, index: int) -> str:
        """Return the name of the sequence that a clip is from."""


class Order:
    """The clips of each batch of an epoch, in all processes and in this one.

    Args:
        clips: the dataset.
        batches: indices of the clips of each batch, over all processes.
    """

    def __init__(self, clips: Clips, batches: Sequence[Sequence[int]]) -> None:
        self._clips, self._all = clips, batches
        self._own = [distributed.share(list(batch)) for batch in batches]

    def skip(self, done: int) -> None:
        """Leave out the first batches without reading them."""
        del self._own[:done]

    def names(self, batch: int) -> list[str]:
        """Return the sequences in a batch of the epoch, over all processes; skipped batches are counted."""
        return sorted({self._clips.name(index) for index in self._all[batch]})


class Loader(Order, DataLoader[Any]):
    """Batches of a dataset, read as they are needed.

    Args:
        clips: the dataset.
        batches: indices of the clips of each batch, over all processes.
        workers: number of processes that read; 0 reads in this process.
        pinned: whether batches lie in page-locked memory, from which a GPU copies asynchronously.
    """

    def __init__(self, clips: Clips, batches: Sequence[Sequence[int]], workers: int, pinned: bool) -> None:
        Order.__init__(self, clips, batches)
        DataLoader.__init__(
            self,
            clips,  # type: ignore[arg-type]
            batch_sampler=self._own,
            num_workers=workers,
            pin_memory=pinned,
            generator=torch.Generator(),  # else each epoch draws from the global one
        )


class ResidentLoader(Order):
    """Batches selected from clips that lie on the device as a whole.

    Args:
        clips: the dataset.
        batches: indices of the clips of each batch, over all processes.
        resident: all clips of the dataset on the device.
    """

    def __init__(self, clips: Clips, batches: Sequence[Sequence[int]], resident: Resident) -> None:
        super().__init__(clips, batches)
        self._resident = resident

    def __len__(self) -> int:
        return len(self._own)

    def __iter__(self) -> Iterator[Any]:
        for indices in self._own:
            yield map_tensors(self._resident, lambda x, i=indices: x[to_device(torch.tensor(i), x.device)])


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """Return the tensor on the device; copies to a GPU are asynchronous."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)


def stacked(clips: Clips, device: torch.device) -> Resident | None:
    """Return all clips on the device, or None, with a warning, if they do not fit a GPU."""
    number, one = len(clips), clips[0]
    needed = number * sum(x.numel() * x.element_size() for x in ([one] if torch.is_tensor(one) else one))
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0] * FREE_SHARE
        if needed > free:
            log.warning(
                "data.on_device: %d clips need %.1f GB, of the GPU's free memory %.1f GB may be used; "
                "they are read from disk instead",
                number,
                needed / 1e9,
                free / 1e9,
            )
            return None
    return map_tensors(default_collate([clips[i] for i in range(number)]), lambda x: x.to(device))


def map_tensors(batch: Any, function: Any) -> Any:
    """Apply a function to a tensor, or to each field of a NamedTuple of tensors."""
    return function(batch) if torch.is_tensor(batch) else type(batch)(*(function(x) for x in batch))
