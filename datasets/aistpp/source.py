"""Raw files in a folder, or in a zip without unpacking it."""

import os
import zipfile
import zlib
from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

UNREADABLE = (OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError)
"""Exceptions of reading a damaged, encrypted or unusually packed file."""


MOST_BYTES = 1_000_000_000  # of a file that is read at once; a larger one is damaged or malicious


class FileRef(NamedTuple):
    """Reference to a file of a source, which can be sent to worker processes.

    Attributes:
        source: the folder or the zip.
        path: its path inside, unchanged: a zip made on Windows may have backslashes.
        zipped: whether the source is a zip.
    """

    source: Path
    path: str
    zipped: bool

    @property
    def name(self) -> PurePosixPath:
        """The path inside, with `name`, `stem` and `suffix`."""
        return PurePosixPath(self.path.replace("\\", "/") if self.zipped else self.path)

    def read(self) -> bytes:
        """The content of the file.

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
        """Size in bytes, unpacked."""
        return (
            _open_zip(self.source).getinfo(self.path).file_size
            if self.zipped
            else (self.source / self.path).stat().st_size
        )

    def digest(self) -> bytes:
        """Hash of the content.

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


def first_by_name(refs: Iterable[FileRef], notes: list[str], kind: str = "") -> dict[str, FileRef]:
    """The first file of each name without suffix, by that name; each further one adds a line to the notes.

    Args:
        refs: the files.
        notes: of the report; extended.
        kind: of the files, for the notes.
    """
    first: dict[str, FileRef] = {}
    for ref in refs:
        taken = first.setdefault(ref.name.stem, ref)
        if taken is not ref:
            named = f"{kind} {ref.name.stem}".strip()
            notes.append(f"{named} is there twice: {taken.path} is read, {ref.path} is not")
    return first


class Source:
    """All files of a folder or a zip, without hidden files and macOS's resource forks.

    Attributes:
        path: the folder or zip.
        files: references, sorted by depth, then path.

    Raises:
        FileNotFoundError: if there is no such folder or zip.
        ValueError: if it is a file but not a complete zip.
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
        """Files with one of these suffixes whose parent folder has this name (any case)."""
        return [
            ref
            for ref in self.files
            if ref.name.parent.name.lower() == folder and ref.name.suffix.lower() in suffixes
        ]

    def named(self, name: str) -> FileRef | None:
        """The file of this name with the shortest path, None if there is none."""
        return next((ref for ref in self.files if ref.name.name == name), None)


def _walk(root: Path) -> list[str]:
    names = []
    for folder, _, files in os.walk(root, followlinks=True):
        inside = Path(folder).relative_to(root).as_posix()
        names += [name if inside == "." else f"{inside}/{name}" for name in files]
    return names


@lru_cache(maxsize=2)
def _open_zip(path: Path) -> zipfile.ZipFile:
    """An open zip, cached per process: reading its table of contents for every file would dominate."""
    return zipfile.ZipFile(path)
