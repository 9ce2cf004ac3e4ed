"""One end of a connection to another host: a handshake, then streams of messages.

    transport ──bytes──> Handshake ──proven──> Incoming ──(stream, bytes)──> hear
    send(stream, message) ──> Outgoing ──a piece at a time, while the transport takes more──> transport

The same on both ends, over TLS or over ssh. Nothing that arrives is looked at before the other end has proved itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from jmr.codec.values import Buffer
from jmr.wire.frames import FrameError, encode
from jmr.wire.handshake import Handshake, HandshakeError
from jmr.wire.messages import Message
from jmr.wire.streams import CONTROL, Incoming, Outgoing

__all__ = ["Hear", "Link"]

#: With more than this waiting to be sent, whoever can wait should.
_CONGESTED_BYTES = 1 << 22
#: More than this that was heard and is not written yet: then nothing more is read.
_MOST_UNWRITTEN_BYTES = 1 << 24
#: In one turn of the loop: a transport whose connection has failed tells that in the next, and warns on stderr from the
#: sixth write on.
_MOST_WRITES, _BATCH_BYTES = 4, 1 << 16
#: A host that vanished is noticed by the kernel, too, when it owes an acknowledgement for so long.
_USER_TIMEOUT_SECONDS = 60
_KEEPALIVE = (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 3))

#: Takes a stream's bytes, or None for its end; a FrameError that it raises ends the connection.
Hear: TypeAlias = Callable[[int, Buffer | None], None]


class Link(asyncio.Protocol):
    """One end; made for one connection, and used in the loop's thread only.

    Parameters
    ----------
    begin
        Makes this end's handshake when the connection is there, from the certificate that the other end has shown (in
        DER; empty if none).
    hear
        Gets what arrives after the handshake.
    on_lost
        Is called once, when a connection that was proven has ended.
    """

    def __init__(self, begin: Callable[[bytes], Handshake], hear: Hear, on_lost: Callable[[], None]) -> None:
        self._begin = begin
        self._hear = hear
        self._on_lost = on_lost
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._handshake: Handshake | None = None
        self._incoming = Incoming()
        self._outgoing = Outgoing()
        self._is_full = self._is_pumping = False
        #: We have ended it: nothing more is said, nor heard.
        self._is_ending = False
        self._roomy = asyncio.Event()
        self._roomy.set()
        #: Done when the other end has proved itself; its exception says why not.
        self.proven: asyncio.Future[None] = loop.create_future()
        #: Done when there is no connection any more.
        self.closed: asyncio.Future[None] = loop.create_future()
        #: Bytes that were heard and are not written yet; while they are many, we do not listen.
        self.n_unwritten = 0
        self._is_paused = False
        self._heard_at = loop.time()

    @property
    def is_open(self) -> bool:
        """Whether anything can be sent."""
        return self._transport is not None and not self._is_ending and not self._transport.is_closing()

    @property
    def heard_at(self) -> float:
        """When the last bytes came, in the loop's seconds; now, if it is we who do not listen."""
        return self._loop.time() if self._is_paused else self._heard_at

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection still, though perhaps one that we have ended."""
        return self._transport is not None

    @property
    def is_proven(self) -> bool:
        """Whether the other end has proved itself."""
        return self.proven.done() and not self.proven.cancelled() and self.proven.exception() is None

    @property
    def is_congested(self) -> bool:
        """Whether much waits to be sent."""
        return not self._roomy.is_set()

    def send(self, message: Message, stream: int = CONTROL) -> None:
        """Send a message, soon; dropped if the connection has ended."""
        self.send_bytes(encode(message), stream)

    def send_bytes(self, pieces: Iterable[Buffer], stream: int) -> None:
        """Send bytes of a stream, soon."""
        if self.is_open:
            self._outgoing.add(stream, pieces)
            self._pump_soon()

    def end(self, stream: int) -> None:
        """Say that nothing more will come on a stream."""
        if self.is_open:
            self._outgoing.end(stream)
            self._pump_soon()

    def drop(self, stream: int) -> None:
        """Forget what waits to be sent on a stream."""
        self._outgoing.drop(stream)
        self._note_room()

    async def room(self) -> None:
        """Wait until not much waits to be sent.

        Raises
        ------
        ConnectionError
            The connection has ended.
        """
        await self._roomy.wait()
        if not self.is_open:
            raise ConnectionError("the connection has ended")

    def close(self) -> None:
        """Send what the transport takes, and end the connection."""
        self._pump()
        self._is_ending = True
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End the connection at once."""
        self._is_ending = True
        if self._transport is not None:
            self._transport.abort()

    def note_unwritten(self, n_bytes: int) -> None:
        """Count so many more bytes that were heard and must still be written somewhere; fewer, if it is negative.

        While they are many, nothing more is read.
        """
        self.n_unwritten += n_bytes
        self._is_paused = self.n_unwritten > _MOST_UNWRITTEN_BYTES
        if self._transport is not None:
            with contextlib.suppress(RuntimeError):  # it is closing
                if self._is_paused:
                    self._transport.pause_reading()
                else:
                    self._transport.resume_reading()

    # What the transport calls.

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        if self._is_ending:
            transport.abort()
            return
        _set_options(transport.get_extra_info("socket"))
        tls = transport.get_extra_info("ssl_object")
        certificate = tls.getpeercert(binary_form=True) if tls is not None else None
        self._handshake = self._begin(certificate or b"")
        if first := self._handshake.begin():
            transport.write(first)

    def data_received(self, data: bytes) -> None:
        if self._is_ending:
            return
        self._heard_at = self._loop.time()
        if self._handshake is not None:
            data = self._shake(self._handshake, data)
        try:
            for stream, part in self._incoming.feed(data):
                self._hear(stream, part)
                if self._is_ending:
                    return
        except FrameError:
            self.abort()

    def _shake(self, handshake: Handshake, data: bytes) -> bytes:
        """Go on with the handshake; returns what came after it."""
        if self._transport is None or self.proven.done():  # it was refused, and goes on
            return b""
        try:
            reply = handshake.receive(data)
        except HandshakeError as error:
            self._give_up(error)
            self._transport.write(error.reply)
            self.close()
            return b""
        if reply:
            self._transport.write(reply)
        if not handshake.is_done:
            return b""
        self._handshake = None
        if not self.proven.done():
            self.proven.set_result(None)
        return handshake.rest()

    def eof_received(self) -> None:
        self._is_ending = True
        self._loop.call_soon(self.abort)  # nobody is there to be told anything; not now: TLS may be closing just so

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._roomy.set()
        self._give_up(ConnectionResetError("the other end has closed the connection") if exc is None else exc)
        if self.is_proven:
            self._on_lost()
        self.closed.set_result(None)

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self._pump_soon()

    def _give_up(self, reason: Exception) -> None:
        if not self.proven.done():
            self.proven.set_exception(reason)
            self.proven.exception()  # looked at: nobody need wait for it

    def _pump_soon(self) -> None:
        """What is sent in one turn of the loop goes together, since each write is a record of TLS."""
        if not self._is_pumping:
            self._is_pumping = True
            self._loop.call_soon(self._pump)
        self._note_room()

    def _pump(self) -> None:
        self._is_pumping = False
        for _ in range(_MOST_WRITES):
            if self._is_full or not self.is_open or not (batch := self._next_batch()):
                break
            assert self._transport is not None
            if sum(map(len, batch)) > 2 * _BATCH_BYTES:  # better not copied
                self._transport.writelines(batch)
            else:
                self._transport.write(b"".join(batch))
        else:
            self._pump_soon()
        self._note_room()

    def _next_batch(self) -> list[Buffer]:
        """Pieces of about so many bytes together."""
        batch: list[Buffer] = []
        n_bytes = 0
        while n_bytes < _BATCH_BYTES and (parts := self._outgoing.next_piece()):
            batch += parts
            n_bytes += sum(map(len, parts))
        return batch

    def _note_room(self) -> None:
        if self.is_open and self._outgoing.n_bytes > _CONGESTED_BYTES:
            self._roomy.clear()
        else:
            self._roomy.set()


def _set_options(connection: socket.socket | None) -> None:
    """Small messages at once; and the kernel, too, looks whether the other host is there."""
    if connection is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    with contextlib.suppress(OSError):  # the other end has gone again: macOS says so here, others at the first read
        _set_tcp_options(connection)


def _set_tcp_options(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        if hasattr(socket, name):  # macOS names one of them differently, and lacks the next
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * _USER_TIMEOUT_SECONDS)
