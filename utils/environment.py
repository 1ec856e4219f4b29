"""Environment variables for the numeric libraries, set before any of them loads.

Importing `utils` does this, so every command, test and benchmark has it; whatever the user's environment
says already, counts.
"""

import importlib.util
import os
import tempfile
from pathlib import Path

from utils.processors import usable_cpus


def share_processors() -> None:
    """Let threads that wait give their processor away: `OMP_WAIT_POLICY=passive`.

    PyTorch's OpenMP threads meet at a barrier after each operation. By default they spin there, also while
    the thread they wait for has no processor, so beside one other busy process a small convolution takes ten
    times as long. Where this process may use fewer processors than its affinity mask has (a container's
    quota, a Slurm task), `OMP_NUM_THREADS` says so. Must run before torch is imported.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    usable = usable_cpus()
    if hasattr(os, "sched_getaffinity") and usable < len(os.sched_getaffinity(0)):
        os.environ.setdefault("OMP_NUM_THREADS", str(usable))


def provide_numba_cache() -> None:
    """Send numba's cache to a temporary folder if neither the environment nor the home can be written.

    librosa's functions are compiled with `cache=True`, and numba raises where it finds no folder for that: in
    a container as another user, with a read-only environment, without a home.
    """
    if "NUMBA_CACHE_DIR" in os.environ:
        return
    librosa = importlib.util.find_spec("librosa")
    beside = Path(librosa.origin).parent if librosa is not None and librosa.origin else None
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    places = [place for place in (beside, home) if place is not None]
    if not any(_is_writable(place) for place in places):
        folder = Path(tempfile.gettempdir()) / f"numba_cache_{os.getuid() if hasattr(os, 'getuid') else 0}"
        os.environ["NUMBA_CACHE_DIR"] = str(folder)


def _is_writable(folder: Path) -> bool:
    """Whether files can be made in a folder, or in the first of its parents that exists."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
