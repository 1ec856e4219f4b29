"""Where raw files come from: a folder, or a zip that need not be unpacked."""

import os
import zipfile
import zlib
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

UNREADABLE = (OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError)
"""What reading a damaged, encrypted or oddly packed file may raise."""


MOST_BYTES = 1_000_000_000  # of a file that is read at once: what claims more is damaged or meant to do harm


class FileRef(NamedTuple):
    """A file of a source. Small, so that it can be sent to worker processes.

    Attributes:
        source: the folder or the zip.
        path: its path inside, as written there: a zip made on Windows may have backslashes.
        zipped: whether the source is a zip.
    """

    source: Path
    path: str
    zipped: bool

    @property
    def name(self) -> PurePosixPath:
        """The path inside; its `name`, `stem` and `suffix` are as of any path."""
        return PurePosixPath(self.path.replace("\\", "/") if self.zipped else self.path)

    def read(self) -> bytes:
        """All of it.

        Raises:
            ValueError: naming the file, if it cannot be read.
        """
        try:
            if self.size() > MOST_BYTES:
                raise ValueError(f"{self.path} has {self.size() / 1e9:.1f} GB; at most 1 is read")
            with self._open() as file:
                return file.read()
        except UNREADABLE as error:
            raise ValueError(f"{self.path} cannot be read: {error}") from None

    def size(self) -> int:
        """Its bytes, unpacked."""
        return (
            _open_zip(self.source).getinfo(self.path).file_size
            if self.zipped
            else (self.source / self.path).stat().st_size
        )

    def digest(self) -> bytes:
        """A hash of what it holds.

        Raises:
            ValueError: naming the file, if it cannot be read.
        """
        whole = blake2b(digest_size=16)
        try:
            with self._open() as file:
                while piece := file.read(1 << 20):
                    whole.update(piece)
        except UNREADABLE as error:
            raise ValueError(f"{self.path} cannot be read: {error}") from None
        return whole.digest()

    def _open(self) -> IO[bytes]:
        return _open_zip(self.source).open(self.path) if self.zipped else (self.source / self.path).open("rb")


class Source:
    """All files of a folder or a zip, hidden ones and macOS's doubles left out.

    Attributes:
        path: the folder or zip.
        files: references, sorted by depth, then path.

    Raises:
        FileNotFoundError: if there is no such folder or zip.
        ValueError: if it is a file but no whole zip.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        if self.path.is_dir():
            names = _walk(self.path)
        elif self.path.is_file():
            try:
                infos = _open_zip(self.path).infolist()
                names = [info.filename for info in infos if not info.filename.endswith(("/", "\\"))]
            except UNREADABLE as error:
                raise ValueError(
                    f"{self.path} is neither a folder nor a whole zip ({error}); if the download broke off, "
                    "fetch it again"
                ) from None
        else:
            raise FileNotFoundError(
                f"{self.path} does not exist; docs/DATA.md says where the data is to be had"
            )
        refs = [FileRef(self.path, name, self.path.is_file()) for name in names]
        refs = [ref for ref in refs if not any(p.startswith((".", "__MACOSX")) for p in ref.name.parts)]
        self.files = sorted(refs, key=lambda ref: (len(ref.name.parts), ref.path))

    def inside(self, folder: str, suffixes: tuple[str, ...]) -> list[FileRef]:
        """Files with one of these suffixes whose own folder has this name (any case)."""
        return [
            ref
            for ref in self.files
            if ref.name.parent.name.lower() == folder and ref.name.suffix.lower() in suffixes
        ]

    def named(self, name: str) -> FileRef | None:
        """The file of this name nearest the top, None if there is none."""
        return next((ref for ref in self.files if ref.name.name == name), None)


def _walk(root: Path) -> list[str]:
    names = []
    for folder, _, files in os.walk(root, followlinks=True):
        inside = Path(folder).relative_to(root).as_posix()
        names += [name if inside == "." else f"{inside}/{name}" for name in files]
    return names


@lru_cache(maxsize=2)
def _open_zip(path: Path) -> zipfile.ZipFile:
    """Kept open per process: reading the table of contents anew for every file takes most of the time."""
    return zipfile.ZipFile(path)
