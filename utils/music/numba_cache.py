"""Makes numba's cache on disk safe; import it before librosa, whose functions are compiled into that cache.

Two faults of numba kill a process by a segmentation fault when several processes fill an empty cache at the
same time, and the second one kills every later process too:

* The index of a function's compiled versions is written before the version itself, without a lock, so that
  it can name the code of another signature. Here an entry is saved and loaded under a file lock.
* A generalised ufunc has two entries, the function and its wrapper, and the wrapper is found by a name that
  holds the number of the function in the process that compiled it. If the two are by processes that counted
  differently, no wrapper of that name is found, and a null pointer is called. Here such a wrapper is compiled
  and saved again.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from numba.core.caching import IndexDataCacheFile
from numba.np.ufunc.wrappers import _GufuncWrapper

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


class _SaveOnly:
    """A cache that holds nothing yet and saves into another one."""

    def __init__(self, cache: Any) -> None:
        self.save_overload = cache.save_overload

    def load_overload(self, *_: Any) -> None:
        """Nothing is found."""


def _with_its_wrapper(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method that loads or compiles a wrapper, which compiles it if the loaded one is another's."""

    @functools.wraps(method)
    def run(self: Any, name: str) -> Any:
        library = method(self, name)
        if not library.get_pointer_to_function(name):
            self.cache = _SaveOnly(self.cache)
            library = method(self, name)
        return library

    return run


if not hasattr(IndexDataCacheFile.save, "__wrapped__"):
    IndexDataCacheFile.save = _under_lock(IndexDataCacheFile.save)
    IndexDataCacheFile.load = _under_lock(IndexDataCacheFile.load)
    _GufuncWrapper._compile_wrapper = _with_its_wrapper(_GufuncWrapper._compile_wrapper)
