"""Files that come from another host, or go there, piece by piece.

pieces ──Arriving.write──> a file, in memory or on disk
ranges of files ──read_in_pieces──> pieces
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator

from jmr.codec.values import Buffer
from jmr.shuffle.files import Room, SpillError, check_room, new_file, told, write_all
from jmr.wire.messages import Range
from jmr.wire.streams import PIECE_BYTES

__all__ = ["Arriving", "read_in_pieces"]


class Arriving:
    """A new file that is made when its first bytes come, and written as the others do.

    Parameters
    ----------
    room
        Where it may lie: in memory if it fits there, else on disk.
    name
        Of the file.
    n_bytes
        How many will come.

    """

    def __init__(self, room: Room, name: str, n_bytes: int) -> None:
        self._room = room
        self._name = name
        self._n_bytes = n_bytes
        self._descriptor = -1
        self._is_in_memory = False
        #: Empty before the first bytes; it may change until the last.
        self.path = ""
        self.n_written = 0

    def write(self, piece: Buffer) -> None:
        """Put bytes behind the others.

        Raises
        ------
        SpillError
            It cannot be made, or written: the disk is full, say.
        """
        if not self.path:
            self._make()
        if self._is_in_memory:
            try:
                write_all(self._descriptor, [piece])
            except OSError:  # it is smaller than the budget: then disk it is
                self._move_to_disk()
        if not self._is_in_memory:
            with told(self._room.directory, self._n_bytes):
                if self._descriptor < 0:  # it could not be moved
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                check_room(self._room.directory, len(piece))
                write_all(self._descriptor, [piece])
        self.n_written += len(piece)

    def close(self) -> None:
        """Leave the file to whoever knows its path; harmless the second time."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def discard(self, *, is_last: bool = False) -> None:
        """Remove the file; what is mapped of it stays.

        Parameters
        ----------
        is_last
            Nothing more will be put where it may lie: remove these directories, too, if nothing else is there.
        """
        self.close()
        with contextlib.suppress(OSError):
            os.unlink(self.path)
        for directory in (self._room.directory, self._room.memory_directory) if is_last else ():
            with contextlib.suppress(OSError):
                os.rmdir(directory or "")

    def _make(self) -> None:
        room = self._room
        if room.memory_directory is not None and self._n_bytes <= room.memory_bytes:
            with contextlib.suppress(OSError):
                self._make_in(room.memory_directory)
                self._is_in_memory = True
                return
        with told(room.directory, self._n_bytes):
            self._make_in(room.directory)

    def _move_to_disk(self) -> None:
        before, self._is_in_memory = self.path, False
        self.close()
        try:
            with told(self._room.directory, self._n_bytes), open(before, "rb") as file:
                self._make_in(self._room.directory)
                n_left = self.n_written
                while n_left:
                    piece = file.read(min(PIECE_BYTES, n_left))
                    check_room(self._room.directory, len(piece))
                    write_all(self._descriptor, [piece])
                    n_left -= len(piece)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(before)

    def _make_in(self, directory: str) -> None:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        path = os.path.join(directory, self._name)
        self._descriptor = new_file(path)
        self.path = path


def read_in_pieces(ranges: Iterable[Range]) -> Iterator[bytes]:
    """Yield the bytes of ranges, joined, in pieces of about a megabyte.

    Raises
    ------
    SpillError
        A file is gone, or too short.
    """
    parts: list[bytes] = []
    room = PIECE_BYTES
    for path, offset, length, _ in ranges:
        assert path is not None
        try:
            with open(path, "rb", buffering=0) as file:
                file.seek(offset)
                n_left = length
                while n_left:
                    part = file.read(min(room, n_left))
                    if not part:
                        raise SpillError(f"the file {path} is shorter than {offset + length} bytes")
                    parts.append(part)
                    n_left -= len(part)
                    room -= len(part)
                    if not room:
                        yield b"".join(parts)
                        parts, room = [], PIECE_BYTES
        except OSError as error:
            raise SpillError(f"the file {path} cannot be read: {error}") from error
    if parts:
        yield b"".join(parts)
