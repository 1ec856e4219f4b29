"""How many processors and how much memory this process may use: affinity, cgroup limits, Slurm.

`os.cpu_count()` counts the machine's processors; a job on a cluster, a container and `taskset` get fewer.
"""

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")
_MEMORY_FILES = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))


def usable_cpus() -> int:
    """Number of processors this process may use, at least 1.

    The smallest of: the processors of its affinity mask, its cgroup's quota (rounded up), and what Slurm gave
    each task (`SLURM_CPUS_PER_TASK`, else `SLURM_CPUS_ON_NODE`).
    """
    if hasattr(os, "sched_getaffinity"):
        limits = [float(len(os.sched_getaffinity(0)))]
    else:  # macOS, Windows
        limits = [float(os.cpu_count() or 1)]
    limits += [_quota() or math.inf]
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        text = os.environ.get(name, "")
        if text.isdigit() and int(text) > 0:
            limits.append(float(text))
            break
    return max(1, math.ceil(min(limits)))


def usable_memory() -> float:
    """Bytes of memory that are free for this process; infinite where the system does not say.

    The smaller of the memory available on the machine and what its cgroup's limit leaves.
    """
    limits = [math.inf]
    for line in _read(_MEMINFO).splitlines():
        if line.startswith("MemAvailable:"):
            limits.append(1024.0 * int(line.split()[1]))
    for folder in _cgroup_folders():
        for limit, used in _MEMORY_FILES:
            most, now = _read(folder / limit).strip(), _read(folder / used).strip()
            if most.isdigit() and now.isdigit():
                limits.append(max(0.0, float(most) - float(now)))
    return min(limits)


def worker_count(memory_each: float) -> int:
    """Number of worker processes, at least 1, for which there are processors and memory.

    Args:
        memory_each: bytes that one worker needs.
    """
    return max(1, int(min(usable_cpus(), usable_memory() // memory_each)))


def _quota() -> float | None:
    """Processors that the cgroup's quota allows (version 2: `cpu.max`, version 1: `cpu.cfs_quota_us`)."""
    found = []
    for folder in _cgroup_folders():
        quota, _, period = _read(folder / "cpu.max").strip().partition(" ")
        if not quota:
            quota, period = _read(folder / "cpu.cfs_quota_us").strip(), _read(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.strip().isdigit() and int(period) > 0:
            found.append(int(quota) / int(period))
    return min(found, default=None)


def _cgroup_folders() -> list[Path]:
    """Existing folders with limits of this process: those of its cgroups and of all cgroups around them."""
    folders = []
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        base = _CGROUP if not controllers else _CGROUP / controllers
        place = base / path.lstrip("/")
        folders += [place, *(p for p in place.parents if p == base or base in p.parents)]
    return [folder for folder in dict.fromkeys([*folders, _CGROUP]) if folder.is_dir()]


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
