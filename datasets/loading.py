"""How clips come to the training loop: read by workers and pinned, or all kept on the device.

Both give the same batches in the same order, can leave out the first ones of an epoch unread, and draw from
the global generator alike, so a run may change from one to the other without changing a number.
"""

import logging
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

log = logging.getLogger(__name__)

Resident = Any  # a Tensor (N, ...), or a NamedTuple of them: all clips of a dataset
FREE_SHARE = 0.5  # of a GPU's free memory, for clips


class Loader(DataLoader[Any]):
    """Batches of a dataset, read as they are needed.

    Args:
        dataset: the clips.
        batches: indices of each batch.
        workers: processes that read; 0 reads here.
        pinned: whether batches lie in memory a GPU copies from by itself.
    """

    def __init__(self, dataset: Dataset[Any], batches: list[list[int]], workers: int, pinned: bool) -> None:
        self._order = batches
        super().__init__(dataset, batch_sampler=batches, num_workers=workers, pin_memory=pinned)

    def skip(self, done: int) -> None:
        """Leaves out the first batches."""
        del self._order[:done]


class ResidentLoader:
    """Batches picked from clips that lie on the device as a whole."""

    def __init__(self, clips: Resident, batches: list[list[int]]) -> None:
        self.clips, self._order = clips, batches

    def skip(self, done: int) -> None:
        """Leaves out the first batches."""
        del self._order[:done]

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Any]:
        torch.empty((), dtype=torch.int64).random_()  # as a DataLoader does, for its workers
        for indices in self._order:
            yield map_tensors(self.clips, lambda x, i=indices: x[to_device(torch.tensor(i), x.device)])


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device; a GPU fetches it while the processor goes on."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)


def stacked(dataset: Dataset[Any], device: torch.device) -> Resident | None:
    """All clips on the device, or None, with a line that says so, where they do not fit a GPU."""
    number = len(dataset)  # type: ignore[arg-type]
    one = dataset[0]
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
    return map_tensors(default_collate([dataset[i] for i in range(number)]), lambda x: x.to(device))


def map_tensors(batch: Any, function: Any) -> Any:
    """The function of a tensor, or of each field of a NamedTuple of tensors."""
    return function(batch) if torch.is_tensor(batch) else type(batch)(*(function(x) for x in batch))


def split_batch(batch: Any, parts: int) -> list[Any]:
    """A tensor, or a NamedTuple of tensors, in equal parts along the first axis, in order.

    Raises:
        ValueError: if it does not divide.
    """
    size = len(batch if torch.is_tensor(batch) else batch[0])
    if size % parts:
        raise ValueError(
            f"a batch of {size} per process does not divide into {parts} parts (training.accumulate, "
            "training.batch_size)"
        )
    step = size // parts
    return [map_tensors(batch, lambda x, i=i: x[i * step : (i + 1) * step]) for i in range(parts)]
