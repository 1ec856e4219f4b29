"""Commands in forked processes, which need not import anything again: status, memory, what is printed."""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

CRASHED = 70  # exit status of a command that ended in a traceback


class Ended(NamedTuple):
    """How a command ended.

    Attributes:
        status: exit status; negative is the signal that ended it.
        timed_out: whether it was killed after its time.
        peak: bytes of memory that it needed at most.
        printed: everything that it printed.
    """

    status: int
    timed_out: bool
    peak: int
    printed: str


def start(command: Callable[[], int], log: Path) -> int:
    """Fork a process of its own group that runs a command with its output in a file; return its id."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    status = CRASHED
    try:
        os.setpgid(0, 0)
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        status = command()
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def run(command: Callable[[], int], log: Path, seconds: float) -> Ended:
    """Run a command in a forked process, for so many seconds at most."""
    child, end, timed_out = start(command, log), time.monotonic() + seconds, False
    while not (ended := os.wait4(child, os.WNOHANG))[0]:
        if time.monotonic() > end and not timed_out:
            timed_out = True
            kill(child)
        time.sleep(0.01)
    code = os.waitstatus_to_exitcode(ended[1])
    return Ended(code, timed_out, ended[2].ru_maxrss * 1024, log.read_text(errors="replace"))


def kill(child: int) -> None:
    """End a forked process and everything that it started, as SIGKILL does."""
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(child, signal.SIGKILL)
