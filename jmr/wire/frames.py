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
from collections.abc import Iterable, Iterator
from typing import Any

from jmr.codec.values import Buffer, byte_length
from jmr.wire.messages import KINDS, Message

__all__ = ["FrameError", "Receiver", "encode", "register"]

_HEAD = struct.Struct("<BII")
#: To begin with. Of peers on other hosts there are many, and what they send comes in parts of its own.
_SCRATCH_BYTES, _UNTRUSTED_SCRATCH_BYTES = 1 << 18, 1 << 13
#: More than this before the blobs is a mistake, or a lie.
_MOST_HEAD_BYTES, _MOST_UNTRUSTED_HEAD_BYTES = 1 << 28, 1 << 24
#: A larger blob gets its memory as its bytes come: a peer that lies about its length costs nothing.
_UNTRUSTED_BYTES = 1 << 16
# Made once: json.dumps would make an encoder for each message.
_to_json = json.JSONEncoder(separators=(",", ":")).encode
_from_json = json.JSONDecoder().decode
_KINDS: dict[int, type[Message]] = {}
_NUMBER_OF: dict[type[Message], int] = {}
_FIELDS_OF: dict[type[Message], list[str]] = {}


def register(kinds: Iterable[type[Message]], *, first: int) -> None:
    """Give messages their numbers on the wire, from `first` on."""
    for number, kind in enumerate(kinds, first):
        _KINDS[number] = kind
        _NUMBER_OF[kind] = number
        _FIELDS_OF[kind] = [field.name for field in dataclasses.fields(kind) if field.name != "blobs"]


register(KINDS, first=0)


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
    """Turns received bytes into messages; knows where the next bytes should go.

    Parameters
    ----------
    trusts
        Whether the peer is a process of ours on this host; else lengths and fields are checked.
    """

    def __init__(self, *, trusts: bool = True) -> None:
        self._trusts = trusts
        self._scratch = memoryview(bytearray(_SCRATCH_BYTES if trusts else _UNTRUSTED_SCRATCH_BYTES))
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
            del space  # a blob that is looked at cannot grow
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
        while self._go_on_with_blobs(lengths):
            if self._rest is not None:
                return None
        self._head, blobs, self._blobs = None, self._blobs, []
        kind = _KINDS[number]
        if not self._trusts:
            _check(kind, fields)
        return _build(kind, fields, blobs)

    def _parse_head(self) -> tuple[int, list[Any], list[int]] | None:
        waiting = self._end - self._begin
        if waiting < _HEAD.size:
            return None
        number, n_blobs, fields_bytes = _HEAD.unpack_from(self._scratch, self._begin)
        if number not in _KINDS:
            raise FrameError(f"the peer sent a frame of unknown kind {number}")
        total = _HEAD.size + 8 * n_blobs + fields_bytes
        if total > (_MOST_HEAD_BYTES if self._trusts else _MOST_UNTRUSTED_HEAD_BYTES):
            raise FrameError(f"the peer sent a frame with {total:,} bytes before its blobs")
        if waiting < total:
            return None
        lengths = struct.unpack_from(f"<{n_blobs}Q", self._scratch, self._begin + _HEAD.size)
        fields = _fields(self._scratch[self._begin + total - fields_bytes : self._begin + total])
        if type(fields) is not list or len(fields) != len(_FIELDS_OF[_KINDS[number]]):
            raise FrameError(f"the peer sent a {_KINDS[number].__name__} with other fields than ours")
        self._begin += total
        return number, fields, list(lengths)

    def _go_on_with_blobs(self, lengths: list[int]) -> bool:
        """Make room for more of the last blob, or for the next one; False if all are there."""
        n_begun = len(self._blobs)
        if n_begun and (have := len(self._blobs[-1])) < lengths[n_begun - 1]:
            self._blobs[-1].extend(bytes(min(have, lengths[n_begun - 1] - have)))
            self._fill(memoryview(self._blobs[-1])[have:])
        elif n_begun < len(lengths):
            length = lengths[n_begun]
            self._blobs.append(bytearray(length if self._trusts else min(length, _UNTRUSTED_BYTES)))
            self._fill(memoryview(self._blobs[-1]))
        else:
            return False
        return True

    def _fill(self, space: memoryview) -> None:
        """Put into it what has arrived."""
        here = min(len(space), self._end - self._begin)
        space[:here] = self._scratch[self._begin : self._begin + here]
        self._begin += here
        if here < len(space):
            self._rest = space[here:]


def _fields(text: memoryview) -> list[Any]:
    try:
        fields: list[Any] = _from_json(str(text, "ascii"))
    except (ValueError, RecursionError) as error:
        raise FrameError(f"the peer sent fields that are no JSON: {error}") from error
    return fields


def _check(kind: type[Message], fields: list[Any]) -> None:
    from jmr.wire.checks import well_typed  # few processes talk to other hosts

    if not well_typed(kind, _FIELDS_OF[kind], fields):
        raise FrameError(f"the peer sent a {kind.__name__} whose fields make no sense")


def _build(kind: type[Message], fields: list[Any], blobs: list[bytearray]) -> Message:
    named: dict[str, Any] = dict(zip(_FIELDS_OF[kind], fields, strict=True))
    if "blobs" in kind.__dataclass_fields__:
        named["blobs"] = blobs
    return kind(**named)
