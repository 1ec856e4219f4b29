"""Processes that fill numba's cache at the same time never load each other's code."""

import os
import signal
import subprocess
import sys
import threading

from numba.core.caching import IndexDataCacheFile

import utils.music.numba_cache
from tests.helpers import ROOT


def load_while_saving(folder, save, load):
    """What a reader gets for key "b" between the writing of its index and of its data, which replaces "a"."""
    cache = IndexDataCacheFile(str(folder), "function", "stamp")
    IndexDataCacheFile(str(folder), "function", "stamp").save("a", "code of a")
    (folder / "function.nbi").unlink()  # as if another process had read an index without "a"
    between, go_on, loaded = threading.Event(), threading.Event(), []
    plain = cache._save_data

    def slow(name, data):
        between.set()
        go_on.wait(1)
        plain(name, data)

    cache._save_data = slow

    def read():
        loaded.append(load(IndexDataCacheFile(str(folder), "function", "stamp"), "b"))
        go_on.set()

    writer = threading.Thread(target=save, args=(cache, "b", "code of b"))
    writer.start()
    assert between.wait(10)
    reader = threading.Thread(target=read)
    reader.start()
    reader.join(10)
    writer.join(10)
    return loaded[0]


def test_an_entry_is_loaded_whole(tmp_path):
    (tmp_path / "plain").mkdir()
    (tmp_path / "locked").mkdir()
    plain_save, plain_load = IndexDataCacheFile.save.__wrapped__, IndexDataCacheFile.load.__wrapped__
    assert load_while_saving(tmp_path / "plain", plain_save, plain_load) == "code of a"  # numba's own
    locked = load_while_saving(tmp_path / "locked", IndexDataCacheFile.save, IndexDataCacheFile.load)
    assert locked == "code of b"


def test_a_folder_without_locks(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no locks here")

    monkeypatch.setattr(utils.music.numba_cache.fcntl, "flock", refuse)
    cache = IndexDataCacheFile(str(tmp_path), "function", "stamp")
    cache.save("a", "code")
    assert cache.load("a") == "code"


FUNCTION = """
import numpy as np
from numba import guvectorize

@guvectorize(["void(float64[:], float64[:])"], "(n)->(n)", cache=True, nopython=True)
def double(x, y):
    for i in range(len(x)):
        y[i] = 2 * x[i]
"""
USE = "import numpy as np, function; assert function.double(np.arange(3.0)).tolist() == [0, 2, 4]"
ANOTHER = "import numba; numba.njit('int64(int64)')(lambda x: x + 1)"  # counts as the first function
OURS = "import utils.music.numba_cache"


def test_a_wrapper_of_another_process_is_compiled_again(tmp_path):
    """Function and wrapper of a generalised ufunc in the cache are by processes that counted differently."""
    (tmp_path / "function.py").write_text(FUNCTION)
    cache = tmp_path / "cache"

    def run(*lines):
        environment = os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}", "NUMBA_CACHE_DIR": str(cache)}
        return subprocess.run(
            [sys.executable, "-c", "\n".join(lines)], env=environment, check=False
        ).returncode

    assert run(USE) == 0
    for path in cache.rglob("function.*.nb*"):
        path.unlink()  # as if another process had written the function, but not its wrapper
    assert list(cache.rglob("guf-function.*.nbi"))
    assert run(ANOTHER, USE) == -signal.SIGSEGV  # numba's own; the function is cached now, under another name
    assert run(USE) == -signal.SIGSEGV
    assert run(OURS, USE) == 0
    assert run(USE) == 0  # the cache is mended
