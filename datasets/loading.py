"""Loaders of training clips: read by worker processes and pinned, or all kept on the device.

Both give the same batches in the same order, can skip the first ones of an epoch without reading them, and
draw nothing from the global random generator, so a run may change from one to the other. A loader serves all
epochs: worker processes and what they hold in memory stay.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, default_collate
from tqdm import tqdm

from utils.device import map_tensors, tensors_of, to_device
from utils.training import distributed

log = logging.getLogger(__name__)

Resident = Any  # all clips of a dataset: a Tensor (N, ...), or a NamedTuple of them
FREE_SHARE = 0.5  # share of a GPU's free memory that clips may use
_READ = 1024  # clips that are copied to the device at a time


class Clips(Protocol):
    """A dataset of clips."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Any: ...

    def name(self, index: int) -> str:
        """Return the name of the sequence that a clip is from."""


class Loader(ABC):
    """The batches of one epoch after the other.

    Args:
        clips: the dataset.
    """

    def __init__(self, clips: Clips) -> None:
        self._clips = clips
        self._all: Sequence[Sequence[int]] = []
        self._own: list[list[int]] = []

    def begin(self, batches: Sequence[Sequence[int]]) -> "Loader":
        """Begin an epoch of these batches, indices of clips over all processes; return the loader."""
        self._all = batches
        self._own = [distributed.share(list(batch)) for batch in batches]
        return self

    def skip(self, done: int) -> None:
        """Leave out the first batches without reading them."""
        del self._own[:done]

    def names(self, batch: int) -> list[str]:
        """Return the sequences in a batch of the epoch, over all processes; skipped batches are counted."""
        return sorted({self._clips.name(index) for index in self._all[batch]})

    def __len__(self) -> int:
        return len(self._own)

    @abstractmethod
    def __iter__(self) -> Iterator[Any]: ...


class ReadingLoader(Loader):
    """Batches of clips that are read as they are needed.

    Args:
        clips: the dataset.
        workers: number of processes that read; 0 reads in this process.
        pinned: whether batches lie in page-locked memory, from which a GPU copies asynchronously.
    """

    def __init__(self, clips: Clips, workers: int, pinned: bool) -> None:
        super().__init__(clips)
        self._loader: DataLoader[Any] = DataLoader(
            clips,  # type: ignore[arg-type]
            batch_sampler=_Batches(self),
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=pinned,
            generator=torch.Generator(),  # else each epoch draws from the global one
        )

    def __iter__(self) -> Iterator[Any]:
        return iter(self._loader)


class _Batches:
    """The batches of a loader's present epoch."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._loader._own)

    def __len__(self) -> int:
        return len(self._loader)


class ResidentLoader(Loader):
    """Batches selected from clips that lie on the device as a whole.

    Args:
        clips: the dataset.
        resident: all clips of the dataset on the device.
    """

    def __init__(self, clips: Clips, resident: Resident) -> None:
        super().__init__(clips)
        self._resident = resident
        self._device = tensors_of(resident)[0].device

    def __iter__(self) -> Iterator[Any]:
        own = to_device(torch.tensor(self._own, dtype=torch.long), self._device)  # once per epoch
        for indices in own:
            yield map_tensors(self._resident, itemgetter(indices))


def make_loader(clips: Clips, device: torch.device, on_device: bool | None, workers: int) -> Loader:
    """Return a loader of clips.

    Args:
        clips: the dataset.
        device: where the batches are used.
        on_device: whether to keep all clips there; None does so on a GPU. If they do not fit, they are read.
        workers: number of processes that read.
    """
    resident = None
    if on_device or (on_device is None and device.type == "cuda"):
        resident = stacked(clips, device)
    if resident is not None:
        return ResidentLoader(clips, resident)
    return ReadingLoader(clips, workers, device.type == "cuda")


def stacked(clips: Clips, device: torch.device) -> Resident | None:
    """Return all clips on the device, or None, with a line in the log, if they do not fit a GPU."""
    number, one = len(clips), clips[0]
    needed = number * sum(x.numel() * x.element_size() for x in tensors_of(one))
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0] * FREE_SHARE
        if needed > free:
            log.info(
                "data.on_device: %d clips need %.1f GB, of the GPU's free memory %.1f GB may be used; "
                "they are read from disk instead",
                number,
                needed / 1e9,
                free / 1e9,
            )
            return None
    whole = map_tensors(one, lambda x: torch.empty((number, *x.shape), dtype=x.dtype, device=device))
    rows = range(0, number, _READ)
    for start in tqdm(rows, "reading clips", disable=None if distributed.is_main() else True, leave=False):
        part = default_collate([clips[i] for i in range(start, min(start + _READ, number))])
        for mine, new in zip(tensors_of(whole), tensors_of(part), strict=True):
            mine[start : start + _READ] = new
    return whole
