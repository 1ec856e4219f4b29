"""Device and backend agree, whatever GPUs a machine has: torch is told of GPUs that are not there."""

import pytest
import torch
import torch.distributed as dist

from utils.training import distributed


@pytest.fixture
def machine(monkeypatch):
    """Sets how many GPUs and processes there are and which process this is; records what is started."""
    started = {}

    def init_process_group(backend, timeout):
        started["backend"] = backend

    monkeypatch.setattr(dist, "init_process_group", init_process_group)
    monkeypatch.setattr(dist, "is_nccl_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: started.update(device=str(device)))

    def make(gpus, processes=1, number=0, nodes=1):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        for name, value in (
            ("WORLD_SIZE", processes * nodes),
            ("LOCAL_WORLD_SIZE", processes),
            ("RANK", number),
            ("LOCAL_RANK", number),
        ):
            monkeypatch.setenv(name, str(value))
        return started

    return make


@pytest.mark.parametrize(
    ("gpus", "processes", "number", "name", "device", "backend"),
    [
        (0, 2, 1, "auto", "cpu", "gloo"),
        (0, 2, 1, "cpu", "cpu", "gloo"),
        (1, 2, 1, "cpu", "cpu", "gloo"),  # two processes on the processors of a machine with one GPU
        (1, 2, 1, "auto", "cpu", "gloo"),
        (1, 2, 0, "auto", "cpu", "gloo"),
        (2, 2, 1, "cpu", "cpu", "gloo"),
        (2, 2, 1, "auto", "cuda:1", "nccl"),
        (2, 2, 0, "cuda", "cuda:0", "nccl"),
        (8, 2, 1, "cuda", "cuda:1", "nccl"),
    ],
)
def test_device_and_backend_of_several_processes(machine, gpus, processes, number, name, device, backend):
    started = machine(gpus, processes, number)
    distributed.start(name)
    assert started["backend"] == backend
    assert distributed.device(name) == torch.device(device)
    assert started.get("device") == (device if backend == "nccl" else None)


def test_one_process_on_each_of_two_nodes(machine):
    """They have a GPU each, and talk by NCCL."""
    started = machine(1, processes=1, nodes=2)
    distributed.start("auto")
    assert started == {"backend": "nccl", "device": "cuda:0"}


def test_without_nccl(machine, monkeypatch):
    started = machine(2, processes=2, number=1)
    monkeypatch.setattr(dist, "is_nccl_available", lambda: False)
    distributed.start("auto")
    assert started == {"backend": "gloo", "device": "cuda:1"}


@pytest.mark.parametrize(
    ("gpus", "name", "device"),
    [
        (0, "auto", "cpu"),
        (1, "auto", "cuda:0"),
        (4, "auto", "cuda:0"),
        (4, "cuda", "cuda:0"),
        (4, "cuda:3", "cuda:3"),
        (4, "cpu", "cpu"),
    ],
)
def test_one_process_starts_nothing(machine, gpus, name, device):
    started = machine(gpus)
    distributed.start(name)
    assert not started
    assert distributed.device(name) == torch.device(device)


@pytest.mark.parametrize(
    ("gpus", "processes", "name", "message"),
    [
        (0, 1, "cuda", "no GPU is usable here; use device=cpu or device=auto"),
        (0, 2, "cuda:0", "no GPU is usable here"),
        (1, 2, "cuda", "asked for by 2 processes, but this machine has 1 GPU"),
        (2, 4, "cuda", "asked for by 4 processes, but this machine has 2 GPU"),
        (4, 2, "cuda:1", "one GPU for 2 processes; use device=cuda"),
        (2, 1, "cuda:2", "the last GPU here is cuda:1"),
        (2, 1, "gpu", "device must be auto, cpu, cuda or cuda:N, got 'gpu'"),
    ],
)
def test_a_device_that_is_not_there(machine, gpus, processes, name, message):
    """One line for every process, before any of them waits for the others."""
    started = machine(gpus, processes)
    with pytest.raises(ValueError, match=message) as error:
        distributed.device(name)
    assert "\n" not in str(error.value)
    if processes > 1:
        with pytest.raises(ValueError, match=message):
            distributed.start(name)
    assert not started


def test_auto_says_why_gpus_are_not_used(machine, caplog):
    machine(1, processes=2)
    assert distributed.device("auto") == torch.device("cpu")
    assert "2 processes, but 1 GPU(s) here" in caplog.text
