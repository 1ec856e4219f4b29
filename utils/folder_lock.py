"""Lock on a folder, so that two jobs do not write into it at once: training and preparation use it.

It is a POSIX record lock of a file `.lock`, so it ends with the process, however that ends. The file is
removed at the end of the block; one that a killed process left does not block.
"""

import errno
import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

log = logging.getLogger(__name__)
LOCK = ".lock"


@contextmanager
def folder_lock(folder: Path, what: str, cure: str) -> Iterator[None]:
    """Hold the lock of a folder inside the block; the folder is made if it is missing.

    Where the file system has no locks, a warning is logged instead.

    Args:
        folder: the folder.
        what: what a process does in it, as in "trains".
        cure: what to do if another process holds it.

    Raises:
        ValueError: if another process holds the lock, naming it and its host.
        OSError: if the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    with _locked(path, what, cure) as file:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _locked(path: Path, what: str, cure: str) -> IO[str]:
    """The open file, locked; opened again if its holder removed it meanwhile."""
    while True:
        file = path.open("a+")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                log.warning(
                    "%s cannot be locked (%s): a second process that %s there would not be noticed",
                    path.parent,
                    error.strerror,
                    what,
                )
                return file
            file.seek(0)
            owner = file.read().strip() or "another process"
            file.close()
            raise ValueError(f"{path.parent} is in use: {owner} {what} there. {cure}") from None
        file.close()
