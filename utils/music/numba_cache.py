"""Locks numba's cache on disk; import it before librosa, whose functions are compiled into that cache.

numba writes the index of a function's compiled versions and then the version itself, without a lock. If two
processes fill an empty cache at the same time, the index can name the code of another signature, and the
process that loads it is killed by a segmentation fault. With this module imported, an entry is saved and
loaded under a lock of the file system, so processes that start at once on a fresh machine are safe.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from numba.core.caching import IndexDataCacheFile

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a cache folder; where the folder or its file system allows no lock, go on without."""
    with contextlib.ExitStack() as stack:
        if fcntl is not None:
            with contextlib.suppress(OSError):
                file = stack.enter_context((folder / ".lock").open("ab"))
                fcntl.flock(file, fcntl.LOCK_EX)  # released when the file is closed
        yield


def _under_lock(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method of numba's cache file, run under the lock of its folder."""

    @functools.wraps(method)
    def run(self: IndexDataCacheFile, *args: Any) -> Any:
        with _locked(Path(self._cache_path)):
            return method(self, *args)

    return run


if not hasattr(IndexDataCacheFile.save, "__wrapped__"):
    IndexDataCacheFile.save = _under_lock(IndexDataCacheFile.save)
    IndexDataCacheFile.load = _under_lock(IndexDataCacheFile.load)
