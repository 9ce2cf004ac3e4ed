"""What a map attempt has spilled, run by run, in a file on disk; at its end the runs of each partition are joined.

    add ──> [run 1: partition 0, 1, ...] [run 2: partition 0, 1, ...] ...    the file of runs
    blobs(0), blobs(1), ... ──> [partition 0: run 1, 2, ...] ...             the output, as `files.store` leaves one

Whoever reads such an output need not know that it was spilled, but that a blob may be several in a row. No descriptor
is kept from run to run: user code runs between them, and closes what it likes.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterable, Iterator

from jmr.codec.values import Buffer, byte_length
from jmr.shuffle.files import Room, Stored, check_room, crc_of, fetch, let_go, new_file, told, write_all
from jmr.wire.messages import Range

__all__ = ["Runs"]


class Runs:
    """Those of one attempt.

    Parameters
    ----------
    room
        Of the job. All goes to its directory on disk, since there is too little memory.
    name
        Of the output.
    n_partitions
        Of the job.
    """

    def __init__(self, room: Room, name: str, n_partitions: int) -> None:
        self._directory = room.directory
        self._name = name
        self._path = os.path.join(room.directory, f"{name}-runs")
        #: Of each partition, in the order of the runs.
        self._ranges: list[list[Range]] = [[] for _ in range(n_partitions)]
        #: Of all runs.
        self.n_bytes = 0

    def add(self, partitions: Iterable[list[Buffer]]) -> None:
        """Write one more, partition by partition, as they are made.

        Raises
        ------
        SpillError
            It cannot be written: the disk is full, say.
        """
        with self._appended() as descriptor:
            for ranges, pieces in zip(self._ranges, partitions, strict=True):
                if pieces:
                    ranges.append(self._written(descriptor, pieces))

    def forget(self) -> None:
        """Remove all; harmless the second time."""
        with contextlib.suppress(OSError):
            os.unlink(self._path)
        for ranges in self._ranges:
            ranges.clear()
        self.n_bytes = 0

    @property
    def lengths(self) -> list[int]:
        """Bytes of each partition."""
        return [sum(length for _, _, length, _ in ranges) for ranges in self._ranges]

    def blobs(self, partition: int) -> Iterator[Buffer]:
        """What each run has of a partition; to be let go of before the next. Raises SpillError."""
        for where in self._ranges[partition]:
            blob = fetch(where)
            yield blob
            let_go(blob)

    def join(self, directory: str) -> Stored:
        """Make them the attempt's output, in a file on disk. Raises SpillError."""
        path = os.path.join(directory, self._name)
        with told(directory, self.n_bytes):
            os.makedirs(directory, mode=0o700, exist_ok=True)
            check_room(directory, self.n_bytes)
            descriptor = new_file(path)
        try:
            crcs = [self._copied(partition, descriptor, directory) for partition in range(len(self._ranges))]
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(path)
            raise
        finally:
            os.close(descriptor)
        return Stored(path, self.lengths, crcs, [])

    def _copied(self, partition: int, descriptor: int, directory: str) -> int:
        """Put a partition behind the others; its checksum."""
        crc = 0
        for blob in self.blobs(partition):
            crc = zlib.crc32(blob, crc)
            with told(directory, self.n_bytes):
                write_all(descriptor, [blob])
        return crc

    @contextlib.contextmanager
    def _appended(self) -> Iterator[int]:
        """The file, open for writing at its end."""
        with told(self._directory, 0):
            if self.n_bytes:
                descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            else:
                os.makedirs(self._directory, mode=0o700, exist_ok=True)
                descriptor = new_file(self._path)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _written(self, descriptor: int, pieces: list[Buffer]) -> Range:
        n_bytes = byte_length(pieces)
        with told(self._directory, n_bytes):
            check_room(self._directory, n_bytes)
            write_all(descriptor, pieces)
        offset, self.n_bytes = self.n_bytes, self.n_bytes + n_bytes
        return self._path, offset, n_bytes, crc_of(pieces)
