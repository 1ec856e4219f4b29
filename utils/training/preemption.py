"""Being told to stop: SIGTERM, SIGUSR1 (a time limit that comes near) and Ctrl-C save first.

Training goes on to the end of the step, saves, and the process ends with exit code 75 (or 130 after Ctrl-C);
starting the same command again goes on from there. srun.sh does so by itself. A second Ctrl-C stops at once.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from utils.training.distributed import Ballot

AGAIN = 75  # EX_TEMPFAIL of sysexits.h: start the same command again
INTERRUPTED = 130
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class Stopped(Exception):
    """Training was told to stop, and what is done is saved.

    Attributes:
        code: the exit code.
    """

    def __init__(self, number: int) -> None:
        super().__init__(
            f"stopped by {signal.Signals(number).name}; --train goes on from the last checkpoint"
        )
        self.code = INTERRUPTED if number == signal.SIGINT else AGAIN


class StopRequest:
    """Listens while it is entered; all processes learn of a request in the same step."""

    def __init__(self) -> None:
        self.number = 0  # of the signal that came
        self._ballot = Ballot()
        self._at_once = False
        self._before: dict[int, Any] = {}
        self._process = os.getpid()

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():  # Python allows handlers nowhere else
            self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None:
            self._ballot.close()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def agreed(self) -> int:
        """Number of the signal on which all processes stop now; 0 if they go on. Once per step.

        With several processes that is the step after the signal: votes travel while a step is computed.
        """
        return self._ballot.cast(self.number)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Where nothing is unsaved a request need not wait."""
        self._at_once = True
        try:
            if self.number:
                raise Stopped(self.number)
            yield
        finally:
            self._at_once = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a loader's worker, which inherited this: its parent ends it
            if number == signal.SIGTERM:
                os._exit(128 + number)
            return
        if self.number == signal.SIGINT == number:
            raise KeyboardInterrupt
        self.number = number
        if self._at_once:
            raise Stopped(number)
