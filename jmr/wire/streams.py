"""Many streams of messages over one connection, cut into pieces that take turns.

    piece = stream u32 | length u32 | bytes          a length of 0: the stream has ended

    Outgoing.add(stream, encode(message)) ── next_piece ──> connection ──> Incoming.feed ──> (stream, bytes)

A worker on another host has one connection for all that its slots get and give. Whoever sends much gets one piece at a
time on its way, then the others have their turn, and the worker's own stream goes first: a heartbeat never waits behind
a large array.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable, Iterator

from jmr.codec.values import Buffer
from jmr.wire.frames import FrameError

__all__ = ["CONTROL", "FILES", "PIECE_BYTES", "Incoming", "Outgoing"]

#: The stream of the worker itself, and the one by which it gets files for all of its slots; a slot's stream has the
#: slot's number.
CONTROL, FILES = 0, 0xFFFF_FFFF
#: Most bytes of a piece.
PIECE_BYTES = 1 << 20
_HEAD = struct.Struct("!II")


class Outgoing:
    """What waits to be sent, by stream.

    Examples
    --------
    >>> outgoing = Outgoing()
    >>> outgoing.add(7, [b"what slot 7 ", b"is told"])
    >>> incoming = Incoming()
    >>> [(stream, bytes(part)) for stream, part in incoming.feed(b"".join(outgoing.next_piece()))]
    [(7, b'what slot 7 is told')]
    """

    def __init__(self) -> None:
        #: In the order of their turns; None stands for the stream's end.
        self._waiting: dict[int, deque[memoryview | None]] = {}
        self.n_bytes = 0

    def add(self, stream: int, pieces: Iterable[Buffer]) -> None:
        """Put bytes behind those of the same stream, uncopied."""
        views = [memoryview(piece) for piece in pieces if len(piece)]
        if views:
            self._waiting.setdefault(stream, deque()).extend(views)
            self.n_bytes += sum(map(len, views))

    def end(self, stream: int) -> None:
        """Say, after what waits, that nothing more will come."""
        self._waiting.setdefault(stream, deque()).append(None)

    def drop(self, stream: int) -> None:
        """Forget what waits; some of it may be on its way, so the stream cannot be used any more."""
        self.n_bytes -= sum(len(view) for view in self._waiting.pop(stream, ()) if view is not None)

    def next_piece(self) -> list[Buffer]:
        """Take the next piece, in parts that belong together; empty if nothing waits."""
        if not self._waiting:
            return []
        stream = CONTROL if CONTROL in self._waiting else next(iter(self._waiting))
        queue = self._waiting.pop(stream)
        parts = _taken(queue)
        if queue:
            self._waiting[stream] = queue  # behind the others
        n_bytes = sum(map(len, parts))
        self.n_bytes -= n_bytes
        return [_HEAD.pack(stream, n_bytes), *parts]


def _taken(queue: deque[memoryview | None]) -> list[memoryview]:
    """As many bytes as one piece takes; none if the stream's end comes next."""
    parts: list[memoryview] = []
    room = PIECE_BYTES
    while queue and room:
        first = queue.popleft()
        if first is None:
            if parts:
                queue.appendleft(None)
            break
        parts.append(first[:room])
        if len(first) > room:
            queue.appendleft(first[room:])
        room -= len(parts[-1])
    return parts


class Incoming:
    """Received bytes, by stream."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._stream = 0
        #: Bytes of the piece that have not come yet.
        self._left = 0

    def feed(self, data: Buffer) -> Iterator[tuple[int, Buffer | None]]:
        """Yield each stream's bytes as views of `data`, and None for its end.

        Raises
        ------
        FrameError
            These are no pieces of ours.
        """
        view = memoryview(data)
        while view:
            if not self._left:
                n_missing = _HEAD.size - len(self._head)
                self._head += view[:n_missing]
                view = view[n_missing:]
                if len(self._head) < _HEAD.size:
                    return
                self._stream, self._left = _HEAD.unpack(self._head)
                self._head.clear()
                if self._left > PIECE_BYTES:
                    raise FrameError(f"the peer sent a piece of {self._left:,} bytes")
                if not self._left:
                    yield self._stream, None
                continue
            part = view[: self._left]
            self._left -= len(part)
            view = view[len(part) :]
            yield self._stream, part
