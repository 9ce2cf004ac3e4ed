"""Large splits lie in files in memory that the calling thread fills and slots map.

    calling thread  Lender.lend(pieces) ──copy──> a buffer ──range──> coordinator ──range──> slot maps it, privately
                    Lender.take_back(range) <──────── no slot holds on to it <────────┘

One copy instead of the two of a socket, and into pages that are there already: a buffer is used again when its split is
mapped. A slot whose user code has kept an array of it says so, and then the buffer is left to that slot.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from jmr.codec.values import Buffer, byte_length
from jmr.shuffle.files import Room, new_file, write_all
from jmr.wire.messages import Range

__all__ = ["Lender"]

#: A smaller split is sent.
_LEAST_BYTES = 1 << 18


@dataclass(slots=True)
class _Buffer:
    path: str
    descriptor: int


class Lender:
    """The buffers of one job, for one thread. Their files go with the job's directory."""

    def __init__(self, room: Room) -> None:
        self._directory = room.memory_directory
        self._free: list[_Buffer] = []
        self._lent: dict[str, _Buffer] = {}
        self._n_made = 0

    def lend(self, pieces: list[Buffer]) -> Range | None:
        """Copy pieces into a buffer; None if they are too small for that, or there is no room."""
        n_bytes = byte_length(pieces)
        if self._directory is None or n_bytes < _LEAST_BYTES:
            return None
        try:
            buffer = self._free.pop() if self._free else self._made(self._directory)
            self._lent[buffer.path] = buffer
            os.lseek(buffer.descriptor, 0, os.SEEK_SET)
            write_all(buffer.descriptor, pieces)  # not by a mapping: here other threads may run meanwhile
        except OSError:  # no memory, no descriptors
            self._directory = None
            return None
        return buffer.path, 0, n_bytes, None

    def take_back(self, where: Range, *, kept: bool) -> None:
        """A split is mapped; `kept` says that user code holds on to some of it."""
        assert where[0] is not None
        buffer = self._lent.pop(where[0])
        if kept:
            os.close(buffer.descriptor)
            os.unlink(buffer.path)
        else:
            self._free.append(buffer)

    def close(self) -> None:
        """Let go of all buffers."""
        for buffer in [*self._free, *self._lent.values()]:
            os.close(buffer.descriptor)
        self._free.clear()
        self._lent.clear()

    def _made(self, directory: str) -> _Buffer:
        self._n_made += 1
        os.makedirs(directory, mode=0o700, exist_ok=True)
        path = os.path.join(directory, f"split-buffer-{self._n_made}")
        return _Buffer(path, new_file(path))
