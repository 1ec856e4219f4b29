"""Loaders: the same batches however clips are read; workers stay; what does not fit is read."""

import os
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from datasets import loading
from datasets.loading import ReadingLoader, ResidentLoader, make_loader

CPU = torch.device("cpu")
EPOCHS = [[[3, 1], [0, 4]], [[2, 2], [4, 0], [1, 3]], [[0, 1]]]


class Clip(NamedTuple):
    """A number, and the process that read it."""

    number: Tensor
    process: Tensor


class Clips:
    """Five clips."""

    def __len__(self):
        return 5

    def __getitem__(self, index):
        return Clip(torch.tensor([float(index)]), torch.tensor(os.getpid()))

    def name(self, index):
        return f"dance{index // 2}"


@pytest.mark.parametrize("on_device", [True, False])
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_all_epochs(on_device, workers):
    loader = make_loader(Clips(), CPU, on_device, workers)
    for batches in EPOCHS:
        epoch = loader.begin(batches)
        assert len(epoch) == len(batches)
        assert [batch.number[:, 0].tolist() for batch in epoch] == batches
        epoch = loader.begin(batches)
        epoch.skip(1)
        assert len(epoch) == len(batches) - 1
        assert [batch.number[:, 0].tolist() for batch in epoch] == batches[1:]
        assert epoch.names(0) == sorted({f"dance{index // 2}" for index in batches[0]})


def test_the_workers_of_the_first_epoch_serve_all():
    loader = make_loader(Clips(), CPU, False, 2)
    processes = [
        {int(p) for batch in loader.begin(batches) for p in batch.process} for batches in EPOCHS[:2] * 2
    ]
    assert len(set.union(*processes)) == 2
    assert os.getpid() not in processes[0]


def test_where_clips_are_kept():
    assert isinstance(make_loader(Clips(), CPU, None, 0), ReadingLoader)
    assert isinstance(make_loader(Clips(), CPU, True, 0), ResidentLoader)


def test_clips_that_do_not_fit_a_gpu_are_read(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (60, 1000))
    with caplog.at_level("INFO"):
        assert loading.stacked(Clips(), torch.device("cuda", 0)) is None  # 60 bytes; 30 may be used
    assert "5 clips need" in caplog.text


def test_many_clips_are_copied_part_by_part(monkeypatch):
    monkeypatch.setattr(loading, "_READ", 2)
    whole = loading.stacked(Clips(), CPU)
    assert whole.number[:, 0].tolist() == [0, 1, 2, 3, 4]
