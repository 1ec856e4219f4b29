"""Output of commands: what a terminal or a pipe cannot take never ends the work that is reported on."""

import io
import sys


class _OpenEnded(io.RawIOBase):
    """A raw output stream that goes on, writing nothing, when nobody reads the pipe any more."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self.raw = raw

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.raw.fileno()

    def isatty(self) -> bool:
        return self.raw.isatty()

    def write(self, content: memoryview) -> int | None:  # type: ignore[override]
        try:
            return self.raw.write(content)
        except BrokenPipeError:
            return len(content)


def tolerant_output() -> None:
    """Let `print` and logging show what they can: called first by every command.

    Signs that the encoding of stdout or stderr lacks become `?` or an escape; when a reader such as `head`
    ends, further output is dropped. Streams that are no plain files, pipes or terminals stay as they are.
    """
    for name, errors in (("stdout", "replace"), ("stderr", "backslashreplace")):
        stream = getattr(sys, name)
        if type(stream) is not io.TextIOWrapper:
            continue
        raw = getattr(stream.buffer, "raw", stream.buffer)  # no buffer under PYTHONUNBUFFERED
        if not isinstance(raw, io.FileIO):
            continue
        stream.flush()
        setattr(
            sys,
            name,
            io.TextIOWrapper(
                io.BufferedWriter(_OpenEnded(raw)),
                encoding=stream.encoding,
                errors=errors,
                line_buffering=stream.line_buffering,
                write_through=stream.write_through,
            ),
        )
