"""One map output to one file, and ranges of it back.

What is read is mapped privately: arrays lie in the file's own pages until somebody writes to them, and whoever does,
writes to a copy.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Self

from jmr.codec.values import Buffer, byte_length
from jmr.wire.messages import Range

__all__ = [
    "INLINE_BYTES",
    "NO_MEMORY",
    "Dealt",
    "Room",
    "SpillError",
    "Stored",
    "check_room",
    "crc_of",
    "fetch",
    "fetch_all",
    "let_go",
    "new_file",
    "room_of",
    "store",
    "store_blob",
    "told",
    "write_all",
]

#: A map output of at most this travels inside the slot's answer.
INLINE_BYTES = 1 << 16
#: A room for so many bytes in memory has none, not even for an empty map output: that becomes a file, too.
NO_MEMORY = -1
#: A range of at least this is mapped; a smaller one is read.
_MAPPED_BYTES = 1 << 16
#: Each mapping keeps a file descriptor for as long as an array lies in it, and the user's code needs some, too.
_MOST_MAPPED = 128
#: Room on a disk that is left to others.
_SPARED_BYTES = 1 << 26
#: Most pieces that one writev takes.
_IOV_MAX = 1024


class SpillError(Exception):
    """A map output cannot be written or read back."""


@dataclass(frozen=True, slots=True)
class Room:
    """Where a map output may go."""

    #: Of a job, on disk.
    directory: str
    #: The same in memory; None where there is no such place.
    memory_directory: str | None
    #: Most bytes that may stay in memory.
    memory_bytes: int


def room_of(job: int, disk: str, memory: str | None, memory_bytes: int) -> Room:
    """Where a job's files lie below these directories; `memory` is None where there is no such place."""
    return Room(f"{disk}/job-{job}", None if memory is None else f"{memory}/job-{job}", memory_bytes)


@dataclass(frozen=True, slots=True)
class Stored:
    """A map output that was put somewhere."""

    #: None if it is inline.
    path: str | None
    lengths: list[int]
    #: Of each partition; none of what lies in memory.
    crcs: list[int]
    inline: list[Buffer]


def store(partitions: Sequence[Sequence[Buffer]], name: str, room: Room) -> Stored:
    """Put a map output where the reduce tasks will find it.

    Parameters
    ----------
    partitions
        For each partition, the pieces of its blob.
    name
        Of the file, if there will be one.
    room
        Small outputs stay inline, larger ones in memory, and what has no room there goes to disk.

    Raises
    ------
    SpillError
        The file cannot be written: the disk is full, say.
    """
    lengths = [byte_length(pieces) for pieces in partitions]
    pieces = [piece for partition in partitions for piece in partition]
    n_bytes = sum(lengths)
    if n_bytes <= room.memory_bytes:
        if n_bytes <= INLINE_BYTES:
            return Stored(None, lengths, [], pieces)
        if room.memory_directory is not None:
            with contextlib.suppress(OSError):  # it is smaller than the budget: then disk it is
                return Stored(_written(room.memory_directory, name, pieces), lengths, [], [])
    path = _spilled(room.directory, name, pieces, n_bytes)
    return Stored(path, lengths, [crc_of(partition) for partition in partitions], [])


def store_blob(pieces: Sequence[Buffer], name: str, room: Room) -> Range:
    """Put one blob into a file; the range is that file. Errors as of `store`."""
    n_bytes = byte_length(pieces)
    if room.memory_directory is not None and n_bytes <= room.memory_bytes:
        with contextlib.suppress(OSError):
            return _written(room.memory_directory, name, pieces), 0, n_bytes, None
    return _spilled(room.directory, name, pieces, n_bytes), 0, n_bytes, crc_of(pieces)


def fetch(where: Range, *, mapped: bool = True) -> Buffer:
    """One range of a file, writable; what is written stays with the caller.

    Parameters
    ----------
    where
        The range.
    mapped
        Whether it may be mapped, which takes a file descriptor for as long as somebody holds a view of it.

    Raises
    ------
    SpillError
        The file is gone, short or damaged.
    """
    path, offset, length, crc = where
    assert path is not None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            blob = _fetched(descriptor, offset, length, mapped=mapped and length >= _MAPPED_BYTES)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise SpillError(f"the map output {path} cannot be read: {error}") from error
    if blob is None or (crc is not None and zlib.crc32(blob) != crc):
        raise SpillError(f"the map output {path} is damaged at bytes {offset} to {offset + length}")
    return blob


def fetch_all(ranges: Iterable[tuple[int, Range]], inline: Iterable[Buffer]) -> Iterator[tuple[int, Buffer]]:
    """The (split, blob) inputs of a reduce task, from files and from what is inline. Errors as of `fetch`."""
    rest = iter(inline)
    for index, (split, where) in enumerate(ranges):
        yield split, (next(rest) if where[0] is None else fetch(where, mapped=index < _MOST_MAPPED))


def _fetched(descriptor: int, offset: int, length: int, *, mapped: bool) -> Buffer | None:
    """The bytes; None if the file is too short, which a mapping would tell by a signal."""
    if os.fstat(descriptor).st_size < offset + length:
        return None
    if not mapped:
        blob = bytearray(length)
        view = memoryview(blob)
        while view and (n := os.preadv(descriptor, [view], offset + length - len(view))):
            view = view[n:]
        return None if view else blob
    before = offset % mmap.ALLOCATIONGRANULARITY
    mapping = mmap.mmap(descriptor, before + length, mmap.MAP_PRIVATE, offset=offset - before)
    return memoryview(mapping)[before:]


def let_go(blob: Buffer) -> bool:
    """Unmap what `fetch` gave; False if somebody holds on to some of it, which stays mapped then."""
    if not isinstance(blob, memoryview) or not isinstance(blob.obj, mmap.mmap):
        return True
    mapping = blob.obj
    try:
        blob.release()
        mapping.close()
    except BufferError:
        return False
    return True


class Dealt:
    """Blobs that are dealt out to parts, in one file on disk that goes with the `with` block."""

    def __init__(self, directory: str, name: str, n_parts: int) -> None:
        #: Of each part: (split, range).
        self.ranges: list[list[tuple[int, Range]]] = [[] for _ in range(n_parts)]
        self._directory = directory
        self._path = os.path.join(directory, name)
        self._end = 0

    def __enter__(self) -> Self:
        with told(self._directory, 0):
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            self._descriptor = new_file(self._path)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
        os.unlink(self._path)

    def add(self, part: int, split: int, pieces: list[Buffer]) -> None:
        """Put a blob behind the others of its part. Errors as of `store`."""
        n_bytes = byte_length(pieces)
        with told(self._directory, n_bytes):
            check_room(self._directory, n_bytes)
            write_all(self._descriptor, pieces)
        self.ranges[part].append((split, (self._path, self._end, n_bytes, crc_of(pieces))))
        self._end += n_bytes


def crc_of(pieces: Sequence[Buffer]) -> int:
    """The checksum of bytes in pieces."""
    crc = 0
    for piece in pieces:
        crc = zlib.crc32(piece, crc)
    return crc


def _spilled(directory: str, name: str, pieces: Sequence[Buffer], n_bytes: int) -> str:
    with told(directory, n_bytes):
        os.makedirs(directory, mode=0o700, exist_ok=True)
        check_room(directory, n_bytes)
        return _written(directory, name, pieces)


def check_room(directory: str, n_bytes: int) -> None:
    """Leave some of a disk to others. Raises OSError if there is less."""
    free = os.statvfs(directory)
    if free.f_bavail * free.f_frsize < n_bytes + _SPARED_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextlib.contextmanager
def told(directory: str, n_bytes: int) -> Iterator[None]:
    """Say what a failure inside the block means, and what to do."""
    try:
        yield
    except OSError as error:
        raise SpillError(
            f"a map output of {n_bytes:,} bytes cannot be written to {directory}: {error}; free some space there, "
            "or set JMR_TMP to a directory that has more"
        ) from error


def _written(directory: str, name: str, pieces: Sequence[Buffer]) -> str:
    """Write all of it to a new file, or leave none."""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    path = os.path.join(directory, name)
    descriptor = new_file(path)
    try:
        write_all(descriptor, pieces)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise
    finally:
        os.close(descriptor)
    return path


def new_file(path: str) -> int:
    """Make a file that nobody else can read; returns its descriptor."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def write_all(descriptor: int, pieces: Iterable[Buffer]) -> None:
    """Write pieces to a file or a blocking socket, uncopied, many in one system call."""
    views = deque(memoryview(piece) for piece in pieces if len(piece))
    while views:
        written = os.writev(descriptor, list(islice(views, _IOV_MAX)))
        while views and written >= len(views[0]):
            written -= len(views.popleft())
        if written:
            views[0] = views[0][written:]
