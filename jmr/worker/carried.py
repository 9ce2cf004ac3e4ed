"""What would lie in a file, if a slot were on the coordinator's host, is sent.

coordinator ──Carry, Carry, ...──> Carried: a file here ──ranges──> the attempt
map output ──store_to_send──> inline, or Carry, Carry, ... ──> coordinator, which puts it into a file there
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from jmr.codec.values import Buffer, byte_length
from jmr.shuffle.arriving import Arriving
from jmr.shuffle.files import INLINE_BYTES, Room, SpillError, Stored, crc_of
from jmr.wire.messages import Carry, Range

__all__ = ["CARRIED", "Carried", "carry", "pieces_of", "store_to_send"]

#: What ranges call the file that was sent.
CARRIED = ""
#: Most bytes in one message: between two of them others have their turn.
_PIECE_BYTES = 1 << 20


class Carried:
    """A file with what was sent for one attempt. Goes with `close`, but for what is mapped."""

    def __init__(self, room: Room, name: str, n_bytes: int) -> None:
        self._error: SpillError | None = None
        self._file: Arriving | None = None
        try:
            self._file = Arriving(room, name, n_bytes)
        except SpillError as error:
            self._error = error

    def add(self, piece: Buffer) -> None:
        """Write what has come; what goes wrong is told by `found`."""
        if self._file is not None and self._error is None:
            try:
                self._file.write(piece)
            except SpillError as error:
                self._error = error

    def found(self, where: Range) -> Range:
        """Where a range that was sent lies. Raises SpillError if it could not be written."""
        path, offset, length, crc = where
        if path != CARRIED:
            return where
        if self._error is not None:
            raise self._error
        assert self._file is not None
        return self._file.path, offset, length, crc

    def close(self) -> None:
        """Let go of it."""
        if self._file is not None:
            self._file.discard()


def store_to_send(partitions: Sequence[list[Buffer]], memory_bytes: int) -> tuple[Stored, list[Buffer]]:
    """Say where a map output will lie, and what has to be sent for that before.

    As `shuffle.files.store` does it on the coordinator's host: inline if it is small, else in a file there, with
    checksums if that may not be in memory.
    """
    lengths = [byte_length(pieces) for pieces in partitions]
    pieces = [piece for partition in partitions for piece in partition]
    n_bytes = sum(lengths)
    if n_bytes <= min(INLINE_BYTES, memory_bytes):
        return Stored(None, lengths, [], pieces), []
    crcs = [] if n_bytes <= memory_bytes else [crc_of(partition) for partition in partitions]
    return Stored(CARRIED, lengths, crcs, []), pieces


def carry(job: int, pieces: Sequence[Buffer]) -> Iterator[Carry]:
    """Messages with these bytes."""
    n_bytes = byte_length(pieces)
    for joined in pieces_of(pieces):
        yield Carry(job, n_bytes, False, blobs=[joined])


def pieces_of(pieces: Sequence[Buffer]) -> Iterator[list[Buffer]]:
    """Cut and join bytes, uncopied, so that each list has as many as a message should have."""
    parts: list[Buffer] = []
    room = _PIECE_BYTES
    for piece in pieces:
        view = memoryview(piece)
        while view:
            parts.append(view[:room])
            view = view[room:]
            room -= len(parts[-1])
            if not room:
                yield parts
                parts, room = [], _PIECE_BYTES
    if parts:
        yield parts
