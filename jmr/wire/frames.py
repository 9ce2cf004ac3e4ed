"""Messages as frames.

    frame = kind u8 | n_blobs u32 | fields_bytes u32 | blob lengths u64 ... | fields (JSON) | blobs

    reader:  n = recv_into(receiver.buffer());  for message in receiver.received(n): ...

Small frames are cut out of one buffer that is used again and again; a big blob is received right into the bytearray
that the message will carry, so that its bytes are copied once, by the kernel. Every blob is a bytearray of its own:
aligned, and writable for whoever loads it.
"""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Iterator
from typing import Any

from jmr.codec.values import Buffer, byte_length
from jmr.wire.messages import KINDS, Message

__all__ = ["FrameError", "Receiver", "encode"]

_HEAD = struct.Struct("<BII")
_SCRATCH_BYTES = 1 << 18
# Made once: json.dumps would make an encoder for each message.
_to_json = json.JSONEncoder(separators=(",", ":")).encode
_from_json = json.JSONDecoder().decode
_NUMBER_OF = {kind: number for number, kind in enumerate(KINDS)}
_FIELDS_OF = {kind: [f.name for f in dataclasses.fields(kind) if f.name != "blobs"] for kind in KINDS}


class FrameError(Exception):
    """The peer sent something that is no frame of ours."""


def encode(message: Message) -> list[Buffer]:
    """Turn a message into pieces to be sent in order; blobs are passed on, not copied.

    Examples
    --------
    >>> from jmr.wire.messages import Drain
    >>> receiver = Receiver()
    >>> receiver.feed(b"".join(encode(Drain(token=7))))
    [Drain(token=7)]
    """
    kind = type(message)
    blobs = [blob if type(blob) is list else [blob] for blob in getattr(message, "blobs", ())]
    fields = _to_json([getattr(message, name) for name in _FIELDS_OF[kind]]).encode()
    lengths = struct.pack(f"<{len(blobs)}Q", *map(byte_length, blobs))
    head = _HEAD.pack(_NUMBER_OF[kind], len(blobs), len(fields)) + lengths + fields
    return [head, *(piece for blob in blobs for piece in blob if len(piece))]


class Receiver:
    """Turns received bytes into messages; knows where the next bytes should go."""

    def __init__(self) -> None:
        self._scratch = memoryview(bytearray(_SCRATCH_BYTES))
        self._begin = self._end = 0
        self._head: tuple[int, list[Any], list[int]] | None = None
        self._blobs: list[bytearray] = []
        #: The unfilled rest of the blob that is being received.
        self._rest: memoryview | None = None

    def buffer(self) -> memoryview:
        """Where to receive into: never empty."""
        if self._rest is not None:
            return self._rest
        if self._begin:
            waiting = self._scratch[self._begin : self._end].tobytes()
            self._scratch[: len(waiting)] = waiting
            self._begin, self._end = 0, len(waiting)
        if self._end == len(self._scratch):  # one frame's fields fill it all: make it larger
            larger = memoryview(bytearray(2 * len(self._scratch)))
            larger[: self._end] = self._scratch
            self._scratch = larger
        return self._scratch[self._end :]

    def received(self, n: int) -> Iterator[Message]:
        """Take `n` bytes that were put at the start of `buffer()`; yields the messages they complete."""
        if self._rest is not None:
            self._rest = self._rest[n:] if n < len(self._rest) else None
        else:
            self._end += n
        while (message := self._next()) is not None:
            yield message

    def feed(self, data: Buffer) -> list[Message]:
        """Take bytes from anywhere, for tests and for transports that bring their own buffers."""
        messages: list[Message] = []
        view = memoryview(data)
        while view:
            space = self.buffer()
            n = min(len(space), len(view))
            space[:n] = view[:n]
            view = view[n:]
            messages += self.received(n)
        return messages

    def _next(self) -> Message | None:
        if self._rest is not None:
            return None
        if self._head is None:
            self._head = self._parse_head()
        if self._head is None:
            return None
        number, fields, lengths = self._head
        while len(self._blobs) < len(lengths):
            self._begin_blob(lengths[len(self._blobs)])
            if self._rest is not None:
                return None
        self._head, blobs, self._blobs = None, self._blobs, []
        return _build(number, fields, blobs)

    def _parse_head(self) -> tuple[int, list[Any], list[int]] | None:
        waiting = self._end - self._begin
        if waiting < _HEAD.size:
            return None
        number, n_blobs, fields_bytes = _HEAD.unpack_from(self._scratch, self._begin)
        if number >= len(KINDS):
            raise FrameError(f"the peer sent a frame of unknown kind {number}")
        total = _HEAD.size + 8 * n_blobs + fields_bytes
        if waiting < total:
            return None
        lengths = struct.unpack_from(f"<{n_blobs}Q", self._scratch, self._begin + _HEAD.size)
        fields = _from_json(str(self._scratch[self._begin + total - fields_bytes : self._begin + total], "ascii"))
        self._begin += total
        return number, fields, list(lengths)

    def _begin_blob(self, length: int) -> None:
        """Start the next blob with what has arrived of it."""
        blob = bytearray(length)
        here = min(length, self._end - self._begin)
        blob[:here] = self._scratch[self._begin : self._begin + here]
        self._begin += here
        self._blobs.append(blob)
        if here < length:
            self._rest = memoryview(blob)[here:]


def _build(number: int, fields: list[Any], blobs: list[bytearray]) -> Message:
    kind = KINDS[number]
    named: dict[str, Any] = dict(zip(_FIELDS_OF[kind], fields, strict=True))
    if "blobs" in kind.__dataclass_fields__:
        named["blobs"] = blobs
    return kind(**named)
