"""Preemption: SIGTERM, SIGUSR1 (an approaching time limit) and Ctrl-C let training save before it ends.

Training finishes the step, saves, and the process exits with code 75 (130 after Ctrl-C); the same command
then resumes. srun.sh restarts by itself. A second Ctrl-C ends the process immediately.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from utils.training.distributed import AsyncMax

AGAIN = 75  # EX_TEMPFAIL of sysexits.h: start the same command again
INTERRUPTED = 130
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class Stopped(Exception):
    """Training was stopped by a signal, and its progress is saved.

    Attributes:
        code: exit code of the process.
    """

    def __init__(self, number: int) -> None:
        super().__init__(
            f"stopped by {signal.Signals(number).name}; --train resumes from the last checkpoint"
        )
        self.code = INTERRUPTED if number == signal.SIGINT else AGAIN


class PreemptionHandler:
    """Context manager that records stop signals; all processes act on one in the same step."""

    def __init__(self) -> None:
        self.number = 0  # number of the received signal
        self._agreement = AsyncMax()
        self._immediate = False
        self._before: dict[int, Any] = {}
        self._process = os.getpid()

    def __enter__(self) -> "PreemptionHandler":
        if threading.current_thread() is threading.main_thread():  # Python allows handlers nowhere else.
            self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None:
            self._agreement.close()
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.number and error is not None and issubclass(error, RuntimeError):
            # Another process stopped first, where nothing was unsaved, and no longer communicates.
            raise Stopped(self.number) from None

    def agreed(self) -> int:
        """Return the number of the signal on which all processes stop now, or 0. Call it once per step.

        With several processes that is the step after the signal: the exchange overlaps with a step.
        """
        return self._agreement.exchange(self.number)

    @contextmanager
    def immediate(self) -> Iterator[None]:
        """Let a stop request take effect immediately inside this block (no unsaved progress).

        Raises:
            Stopped: as soon as a signal arrives, or at once if one has arrived before.
        """
        self._immediate = True
        try:
            if self.number:
                raise Stopped(self.number)
            yield
        finally:
            self._immediate = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # A loader's worker inherited this handler; its parent ends it.
            if number == signal.SIGTERM:
                os._exit(128 + number)
            return
        if self.number == signal.SIGINT == number:
            raise KeyboardInterrupt
        self.number = number
        if self._immediate:
            raise Stopped(number)
