"""Processors and memory that a process may use: affinity, cgroup quotas of both versions, Slurm."""

import math
import os

import pytest

from utils import processors


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of 64 processors and 100 GB whose cgroup files lie in a folder; returns a writer of them."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        monkeypatch.delenv(name, raising=False)
    cgroup, own = tmp_path / "cgroup", tmp_path / "self"
    cgroup.mkdir()
    (tmp_path / "meminfo").write_text("MemTotal: 200000000 kB\nMemAvailable: 97656250 kB\n")
    monkeypatch.setattr(processors, "_CGROUP", cgroup)
    monkeypatch.setattr(processors, "_MEMINFO", tmp_path / "meminfo")
    read = processors._read
    monkeypatch.setattr(
        processors, "_read", lambda path: read(own) if str(path) == "/proc/self/cgroup" else read(path)
    )

    def write(line: str, **files: str) -> None:
        own.write_text(line + "\n")
        for name, text in files.items():
            path = cgroup / name.replace("__", "/").replace("_DOT_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    write("0::/")
    return write


def test_affinity(machine, monkeypatch):
    assert processors.usable_cpus() == 64
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 9}, raising=False)
    assert processors.usable_cpus() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert processors.usable_cpus() == 1


@pytest.mark.parametrize(
    ("text", "expected"), [("250000 100000", 3), ("50000 100000", 1), ("max 100000", 64)]
)
def test_quota_of_cgroup_2(machine, text, expected):
    machine("0::/job", job__cpu_DOT_max=text)
    assert processors.usable_cpus() == expected


def test_quota_of_a_folder_above(machine):
    machine("0::/job/step", job__cpu_DOT_max="400000 100000", job__step__cpu_DOT_max="max 100000")
    assert processors.usable_cpus() == 4


def test_quota_of_cgroup_1(machine):
    machine("4:cpu:/job", cpu__job__cpu_DOT_cfs_quota_us="200000", cpu__job__cpu_DOT_cfs_period_us="100000\n")
    assert processors.usable_cpus() == 2
    machine("4:cpu:/job", cpu__job__cpu_DOT_cfs_quota_us="-1")
    assert processors.usable_cpus() == 64


def test_slurm(machine, monkeypatch):
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "16")
    assert processors.usable_cpus() == 16
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "4")
    assert processors.usable_cpus() == 4
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "")
    assert processors.usable_cpus() == 16


def test_memory(machine):
    assert processors.usable_memory() == pytest.approx(1e11)
    machine("0::/job", job__memory_DOT_max="3000000000\n", job__memory_DOT_current="1000000000\n")
    assert processors.usable_memory() == 2e9
    machine("0::/job", job__memory_DOT_max="max")
    assert processors.usable_memory() == pytest.approx(1e11)


def test_workers(machine):
    machine("0::/job", job__cpu_DOT_max="600000 100000")
    assert processors.worker_count(1e9) == 6
    assert processors.worker_count(3e10) == 3
    assert processors.worker_count(1e12) == 1


def test_this_machine():
    assert 1 <= processors.usable_cpus() <= (os.cpu_count() or 1)
    assert 0 < processors.usable_memory() <= math.inf
