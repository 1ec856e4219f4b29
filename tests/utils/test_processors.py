"""Processors and memory that a job has, from files as Linux shows them, and their use by the commands."""

import os
import signal

import pytest

import prepare_aistpp_data
from utils.processors import in_processes, usable_cpus, usable_memory, worker_count

GIB = 2**30


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of 16 processors and 32 GiB, to which files can be added."""
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)

    def write(**files):
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    write(proc__meminfo=f"MemTotal: 99 kB\nMemAvailable:   {32 * 2**20} kB\n")
    return write


def put(root, path, text):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_the_affinity_counts_not_the_machine(machine, monkeypatch):
    assert usable_cpus(machine()) == 16
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5}, raising=False)
    assert usable_cpus(machine()) == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    assert usable_cpus(machine()) == 64


@pytest.mark.parametrize(
    ("limit", "cpus"), [("max 100000", 16), ("400000 100000", 4), ("150000 100000", 2), ("1000 100000", 1)]
)
@pytest.mark.parametrize("around", [False, True])
def test_a_quota_of_cgroup_2(machine, limit, cpus, around):
    """Also where a group around this one has it."""
    root = machine(proc__self__cgroup="0::/system.slice/job\n")
    put(
        root,
        "sys/fs/cgroup/system.slice/cpu.max" if around else "sys/fs/cgroup/system.slice/job/cpu.max",
        limit,
    )
    assert usable_cpus(root) == cpus


def test_a_quota_of_cgroup_1(machine):
    root = machine(proc__self__cgroup="5:cpu,cpuacct:/job\n4:memory:/job\n")
    put(root, "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "-1\n")
    put(root, "sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n")
    assert usable_cpus(root) == 16
    put(root, "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "300000\n")
    assert usable_cpus(root) == 3


def test_slurm(machine, monkeypatch):
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "8")
    assert usable_cpus(machine()) == 8
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    assert usable_cpus(machine()) == 3
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "40")  # more than the affinity allows
    assert usable_cpus(machine()) == 16


def test_memory_limits_workers(machine):
    root = machine(proc__self__cgroup="0::/job\n")
    assert usable_memory(root) == 32 * GIB
    assert worker_count(GIB, root) == 16
    assert worker_count(8 * GIB, root) == 4
    put(root, "sys/fs/cgroup/job/memory.max", f"{4 * GIB}\n")
    put(root, "sys/fs/cgroup/job/memory.current", f"{GIB}\n")
    assert usable_memory(root) == 3 * GIB
    assert worker_count(GIB, root) == 3
    assert worker_count(8 * GIB, root) == 1


def test_nothing_told(tmp_path, machine):
    empty = tmp_path / "empty"
    assert usable_memory(empty) is None
    assert worker_count(GIB, empty) == 16


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity is Linux's")
def test_this_process():
    """As `taskset` does: a process on one processor is given one worker."""
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert usable_cpus() == worker_count(1) == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert 1 <= usable_cpus() <= len(allowed)


def test_the_preparation_starts_as_many(monkeypatch, tmp_path):
    """Without --workers."""
    monkeypatch.setattr("utils.processors.usable_cpus", lambda root=None: 5)
    monkeypatch.setattr("utils.processors.usable_memory", lambda root=None: 64 * GIB)
    used = []

    class Stop(ValueError):
        pass

    def prepare(plan, out, libraries, workers, progress):
        used.append(workers)
        raise Stop

    monkeypatch.setattr(prepare_aistpp_data, "prepare", prepare)
    monkeypatch.setattr(prepare_aistpp_data, "build_plan", lambda *given: None)
    assert prepare_aistpp_data.main(["--songs", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert used == [5]


def act(what):
    """A job of the tests below."""
    if what == "fail":
        raise ValueError(what)
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return what, os.getpid()


@pytest.mark.parametrize("workers", [1, 2])
def test_jobs_in_processes(workers):
    jobs = [(number,) for number in range(20)]
    results = dict(in_processes(act, iter(jobs), workers))
    assert {job: what for job, (what, _) in results.items()} == {job: job[0] for job in jobs}
    assert (os.getpid() in {process for _, process in results.values()}) == (workers == 1)
    with pytest.raises(ValueError, match="fail"):
        list(in_processes(act, [(1,), ("fail",)], workers))
    assert list(in_processes(act, [], workers)) == []


def test_a_killed_worker():
    with pytest.raises(RuntimeError, match="run the same command again with --workers 1"):
        list(in_processes(act, [(1,), ("die",)], 2))
