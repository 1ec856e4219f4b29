"""Messages of --dance: a line for each song and each file, bars on a terminal, and the time that each took.

Lines are logged; bars appear on a terminal only, so that a log holds no copies of them.
"""

import logging
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from models.inference.outputs import Stopwatch

log = logging.getLogger(__name__)
# the parts that write_dance times, as people call their files; others are shown under their own name
_PARTS = {
    "files": "motion (.npz)",
    "metrics": "metrics and plot of the beats",
    "fit": "rotations (BVH, glTF)",
    "smpl": "SMPL parameters",
    "pages": "player and picture",
}


def clock(seconds: float) -> str:
    """As 3:05, or 1:02:03 from an hour on."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


class Progress(Stopwatch):
    """What --dance does now and what it has done, and how long that took.

    Attributes:
        seconds: of each part of the work, over all dances.
        dances: (title, facts about it, seconds) of each dance that is written.
    """

    def __init__(self) -> None:
        super().__init__()
        self.start = time.perf_counter()
        self.dances: list[tuple[str, str, float]] = []
        self._title = ""  # of the dance that is written now
        self._bar: Any = None

    @property
    def total(self) -> float:
        """Seconds of all parts of the work so far."""
        return sum(self.seconds.values())

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Times what is within as that part; while a dance is written, also says so."""
        if self._title:
            self.doing(f"{self._title}: {_PARTS.get(part, part)}")
        start = time.perf_counter()
        with super().of(part):
            yield
        if self._title:
            seconds = time.perf_counter() - start
            log.info("  %s: %s, %.1f s", self._title, _PARTS.get(part, part), seconds)

    @contextmanager
    def bars(self, total: int) -> Iterator[None]:
        """Shows a bar of `total` dances within, on a terminal; log lines go above it."""
        from tqdm import tqdm
        from tqdm.contrib.logging import logging_redirect_tqdm

        with ExitStack() as stack:
            if sys.stderr.isatty():
                stack.enter_context(logging_redirect_tqdm())
                self._bar = stack.enter_context(tqdm(total=total, desc="dances", unit="dance", leave=False))
            try:
                yield
            finally:
                self._bar = None

    def doing(self, what: str) -> None:
        """Says on the bar what is done now."""
        if self._bar is not None:
            self._bar.set_postfix_str(what)

    def skip(self, dances: int) -> None:
        """Takes dances off the bar that will not be made."""
        if self._bar is not None:
            self._bar.total -= dances
            self._bar.refresh()

    @contextmanager
    def writing(self, number: int, total: int, title: str, about: str) -> Iterator[None]:
        """Names the dance whose files are written within, and takes its time."""
        log.info("dance %d of %d: %s (%s)", number, total, title, about)
        start = time.perf_counter()
        self._title = title
        try:
            yield
        finally:
            self._title = ""
            self.dances.append((title, about, time.perf_counter() - start))
            if self._bar is not None:
                self._bar.update()

    def summary(self) -> list[str]:
        """Lines that say how long each dance's files and each part of the work took."""
        wide = max((len(title) for title, *_ in self.dances), default=0)
        lines = [f"  {title:<{min(wide, 50)}}  {about}: {took:.1f} s" for title, about, took in self.dances]
        parts = ", ".join(f"{_PARTS.get(p, p)} {seconds:.1f} s" for p, seconds in self.seconds.items())
        return [*lines, f"took {clock(time.perf_counter() - self.start)} ({parts})"]


def say(lines: str | Sequence[str]) -> None:
    """Prints lines; what the terminal or file cannot encode is replaced."""
    for line in [lines] if isinstance(lines, str) else lines:
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        print(line.encode(encoding, "replace").decode(encoding))
