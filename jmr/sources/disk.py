"""Files of a host, as `jmr.files` reads them; what lies elsewhere has an opener of its own, with the same methods.

kernel:  Opener.look(path) ──> Identity, which goes with the split
worker:  Opener.open(path) ──> OpenFile: read, identity: is it still the same?
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from io import FileIO
from typing import Protocol

__all__ = ["Disk", "Identity", "OpenFile", "Opener"]

#: Size, and what else tells that a file was changed: here, when it was.
Identity = tuple[int, str]


class OpenFile(Protocol):
    """A file that can be read from any place."""

    def read(self, start: int, end: int | None) -> bytes:
        """The bytes between two offsets, or to the end; fewer if there are not so many. Raises OSError."""

    def identity(self) -> Identity:
        """As it is now. Raises OSError."""

    def close(self) -> None:
        """Be done with it."""


class Opener(Protocol):
    """Where files lie. Small, and travels with each split."""

    def whole(self, path: str) -> str:
        """The same path for whoever is in another directory."""

    def look(self, path: str) -> Identity:
        """What a file is now, as far as that can be told from outside. Raises OSError."""

    def open(self, path: str) -> OpenFile:
        """Open it. Raises OSError."""


@dataclass(frozen=True, slots=True)
class Disk:
    """The file system of whoever reads."""

    #: Where relative paths begin.
    root: str

    def whole(self, path: str) -> str:
        """See `Opener`."""
        return os.path.join(self.root, path)

    def look(self, path: str) -> Identity:
        """See `Opener`."""
        return _identity(os.stat(self.whole(path)))

    def open(self, path: str) -> OpenFile:
        """See `Opener`."""
        return _OnDisk(open(self.whole(path), "rb", buffering=0))


class _OnDisk:
    def __init__(self, file: FileIO) -> None:
        self._file = file

    def read(self, start: int, end: int | None) -> bytes:
        self._file.seek(start)
        if end is not None:
            return self._read(end - start)
        n_bytes = max(0, os.fstat(self._file.fileno()).st_size - start)
        data = self._read(n_bytes + 1)
        return data if 0 < len(data) <= n_bytes else data + self._file.readall()  # it tells no size, or grows

    def _read(self, n_bytes: int) -> bytes:
        data = self._file.read(n_bytes)
        while data and len(data) < n_bytes:  # one call gives two gigabytes at most
            more = self._file.read(n_bytes - len(data))
            if not more:
                break
            data += more
        return data

    def identity(self) -> Identity:
        return _identity(os.fstat(self._file.fileno()))

    def close(self) -> None:
        self._file.close()


def _identity(found: os.stat_result) -> Identity:
    if not stat.S_ISREG(found.st_mode):
        raise OSError("it is no regular file")
    return found.st_size, str(found.st_mtime_ns)
