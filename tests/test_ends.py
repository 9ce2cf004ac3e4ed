"""A link hears and says nothing before the other end has proved itself, nor after it was ended."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Any

import pytest

from jmr.links.link import Link
from jmr.wire.far import Leaving
from jmr.wire.frames import FrameError, encode
from jmr.wire.handshake import Handshake, HandshakeError, Identity, coordinator_side, worker_side

ME = Identity(b"t" * 32, b"", b"n" * 32, (3, 13))
FRAME = b"".join(map(bytes, encode(Leaving())))
PIECE = struct.pack("!II", 0, len(FRAME)) + FRAME


class Wire(asyncio.Transport):
    """Remembers what is written; the other end has not gone before that is said."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_ended = False
        self.n_writes = 0

    def write(self, data: Any) -> None:
        self.written += bytes(data)
        self.n_writes += 1

    def close(self) -> None:
        self.is_ended = True

    def abort(self) -> None:
        self.is_ended = True

    def is_closing(self) -> bool:
        return self.is_ended


def with_link(test: Callable[[Link, Wire, list[Any]], None]) -> None:
    """Call it with a coordinator's end, its transport, and what that end has heard."""

    async def run() -> None:
        heard: list[Any] = []
        link = Link(lambda _: Handshake(coordinator_side(ME)), lambda *args: heard.append(args), lambda: None)
        wire = Wire()
        link.connection_made(wire)
        test(link, wire, heard)

    asyncio.run(run())


def prove(link: Link, wire: Wire) -> None:
    worker = Handshake(worker_side(ME))
    link.data_received(worker.begin())
    link.data_received(worker.receive(wire.written))
    assert link.is_proven


def test_who_was_refused_is_not_heard_though_it_goes_on() -> None:
    def test(link: Link, wire: Wire, heard: list[Any]) -> None:
        link.data_received(Handshake(worker_side(ME)).begin())
        for _ in range(3):
            link.data_received(bytes(32) + PIECE)
        assert wire.is_ended
        assert not link.is_proven
        assert isinstance(link.proven.exception(), HandshakeError)
        assert heard == []

    with_link(test)


def test_who_lies_is_not_heard_any_more() -> None:
    def test(link: Link, wire: Wire, heard: list[Any]) -> None:
        prove(link, wire)

        def refuse(stream: int, part: Any) -> None:
            heard.append(stream)
            raise FrameError("a lie")

        link._hear = refuse
        link.data_received(PIECE + PIECE)
        link.data_received(PIECE)
        assert heard == [0]
        assert wire.is_ended

    with_link(test)


def test_nothing_is_written_to_a_link_that_was_ended() -> None:
    """A transport would say so on stderr, from the sixth time on."""

    def test(link: Link, wire: Wire, heard: list[Any]) -> None:
        prove(link, wire)
        written = wire.written
        link.abort()
        link.send(Leaving())
        link.end(7)
        assert wire.written == written
        assert not link.is_open

    with_link(test)


def test_link_that_was_aborted_before_it_was_made_is_ended_then() -> None:
    async def run() -> None:
        link = Link(lambda _: Handshake(coordinator_side(ME)), lambda *_: None, lambda: None)
        link.abort()
        wire = Wire()
        link.connection_made(wire)
        assert wire.is_ended

    asyncio.run(run())


def test_who_stopped_waiting_for_a_proof_is_told_that_there_is_none() -> None:
    async def run() -> None:
        link = Link(lambda _: Handshake(coordinator_side(ME)), lambda *_: None, lambda: None)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(link.proven, 0)
        assert not link.is_proven

    asyncio.run(run())


def test_what_is_sent_in_one_turn_of_the_loop_is_one_write() -> None:
    async def run() -> None:
        link = Link(lambda _: Handshake(coordinator_side(ME)), lambda *_: None, lambda: None)
        wire = Wire()
        link.connection_made(wire)
        prove(link, wire)
        n_writes = wire.n_writes
        for stream in range(1, 100):
            link.send(Leaving(), stream)
        await asyncio.sleep(0)
        assert wire.n_writes == n_writes + 1
        link.send_bytes([bytes(20 << 20)], 1)
        await asyncio.sleep(0)
        assert wire.n_writes == n_writes + 1 + 4  # the others in the next turns
        while link.is_congested or link._outgoing.n_bytes:
            await asyncio.sleep(0)
        assert wire.written.endswith(bytes(1 << 20))

    asyncio.run(run())


def test_what_was_sent_before_close_still_goes() -> None:
    def test(link: Link, wire: Wire, heard: list[Any]) -> None:
        prove(link, wire)
        link.send(Leaving())
        link.close()
        assert wire.written.endswith(PIECE)

    with_link(test)


def test_link_is_ended_when_the_other_end_says_no_more() -> None:
    async def run() -> None:
        link = Link(lambda _: Handshake(coordinator_side(ME)), lambda *_: None, lambda: None)
        wire = Wire()
        link.connection_made(wire)
        prove(link, wire)
        link.eof_received()
        assert not link.is_open
        await asyncio.sleep(0)
        assert wire.is_ended

    asyncio.run(run())
