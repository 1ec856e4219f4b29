"""Processors and memory that this process may use, and worker processes on them.

`os.cpu_count()` counts the machine. A job often has less of it: `taskset` and Slurm set an affinity,
containers a quota of time, and Slurm's variables hold on clusters that set no affinity.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path("/")
_IN_FLIGHT = 4  # jobs handed out per worker, so that memory does not grow with their number
Job = TypeVar("Job", bound=tuple[Any, ...])
Result = TypeVar("Result")


def usable_cpus(root: Path = ROOT) -> int:
    """Return how many processors this process may use, at least 1.

    The least of: the affinity, the cgroup's quota (v2 or v1, rounded up), and, in a Slurm job,
    SLURM_CPUS_PER_TASK or else SLURM_CPUS_ON_NODE.

    Args:
        root: where /proc and /sys are.
    """
    if hasattr(os, "sched_getaffinity"):
        limits = [len(os.sched_getaffinity(0))]
    else:  # macOS
        limits = [os.cpu_count() or 1]
    limits += [-(-quota // period) for quota, period in _quotas(root)]
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        if os.environ.get(name, "").isdigit():
            limits.append(int(os.environ[name]))
            break
    return max(1, min(limits))


def usable_memory(root: Path = ROOT) -> int | None:
    """Return bytes of memory that are free for this process, or None where nothing tells.

    The least of what the system has available and what the cgroup leaves.

    Args:
        root: where /proc and /sys are.
    """
    limits = []
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            limits.append(1024 * int(line.split()[1]))
    for folder in _cgroups(root, "memory"):
        for most, used in (("memory.max", "memory.current"),
                           ("memory.limit_in_bytes", "memory.usage_in_bytes")):  # fmt: skip
            numbers = _read(folder / most).strip(), _read(folder / used).strip()
            if all(number.isdigit() for number in numbers):
                limits.append(max(0, int(numbers[0]) - int(numbers[1])))
    return min(limits) if limits else None


def worker_count(bytes_each: int, root: Path = ROOT) -> int:
    """Return how many worker processes to start: one per usable processor, as far as the memory goes.

    Args:
        bytes_each: memory that a worker needs at most.
        root: where /proc and /sys are.
    """
    memory = usable_memory(root)
    most = usable_cpus(root)
    return most if memory is None else max(1, min(most, memory // bytes_each))


def in_processes(
    function: Callable[..., Result], jobs: Iterable[Job], workers: int
) -> Iterator[tuple[Job, Result]]:
    """Call a function with the arguments of each job in worker processes; yield results as they are ready.

    Ctrl-C is left to this process, and workers end when it ends.

    Args:
        function: a function of a module, which workers can import.
        jobs: a tuple of arguments per call.
        workers: number of processes; 1 calls the function in this process.

    Raises:
        RuntimeError: if a worker was killed; and whatever the function raises.
    """
    jobs = iter(jobs)
    if workers <= 1:
        yield from ((job, function(*job)) for job in jobs)
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), start_worker) as pool:
        try:
            running = {pool.submit(function, *job): job for job in islice(jobs, _IN_FLIGHT * workers)}
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    done = running.pop(future)
                    running |= {pool.submit(function, *job): job for job in islice(jobs, 1)}
                    yield done, future.result()
        except BrokenProcessPool:
            raise RuntimeError(
                "a worker process was killed, most likely for lack of memory; "
                "run the same command again with --workers 1 to continue"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def start_worker() -> None:
    """Prepare a worker process: it leaves Ctrl-C to its parent, and ends when its parent is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def end_with_parent() -> None:
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _quotas(root: Path) -> list[tuple[int, int]]:
    """Time per period, both in microseconds, of each cgroup around this process that has a limit."""
    found = []
    for folder in _cgroups(root, "cpu"):
        numbers = _read(folder / "cpu.max").split()  # v2: "max 100000" or "150000 100000"
        if not numbers:
            numbers = [_read(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
        if len(numbers) == 2 and all(number.isdigit() for number in numbers) and int(numbers[1]):
            found.append((int(numbers[0]), int(numbers[1])))
    return found


def _cgroups(root: Path, controller: str) -> list[Path]:
    """Folders of the cgroup of this process and of those around it; of v1 those of the controller."""
    found = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, names, path = line.split(":", 2)
        if number == "0":
            base = root / "sys/fs/cgroup"
        elif controller in names.split(","):
            base = root / "sys/fs/cgroup" / controller
        else:
            continue
        inner = base / path.strip("/")
        found += [folder for folder in (inner, *inner.parents) if folder == base or base in folder.parents]
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
