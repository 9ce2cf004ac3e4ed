"""Links and leases: two ends in memory; what arrives before the other end has proved itself is not looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from jmr.links.leases import Lease, Leases
from jmr.links.link import Link
from jmr.wire.far import Beat
from jmr.wire.handshake import NONCE_BYTES, Handshake, HandshakeError, Identity, Verdict, coordinator_side, worker_side
from jmr.wire.messages import Drain
from jmr.wire.streams import PIECE_BYTES

TOKEN = b"t" * 32


class Wire(asyncio.Transport):
    """One direction of a connection in memory: what is written waits until `deliver`."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.ends: list[Link] = []
        self.is_closed = self.is_paused = False

    def write(self, data: Any) -> None:
        self.sent += data

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            for end in self.ends:
                end.connection_lost(None)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def is_closing(self) -> bool:
        return self.is_closed


class Pair:
    """A worker's and a coordinator's link, and what each has heard."""

    def __init__(self, workers_token: bytes = TOKEN) -> None:
        self.heard: dict[str, list[tuple[int, bytes | None]]] = {"worker": [], "coordinator": []}
        self.lost: list[str] = []
        self.links: dict[str, Link] = {}
        self.wires: dict[str, Wire] = {}
        sides = (("worker", worker_side, workers_token), ("coordinator", coordinator_side, TOKEN))
        for name, side, token in sides:
            identity = Identity(token, b"c", name[:1].encode() * NONCE_BYTES, (3, 13))
            self.links[name] = Link(
                lambda _, side=side, me=identity: Handshake(side(me)),
                lambda stream, part, name=name: self.heard[name].append((stream, part and bytes(part))),
                lambda name=name: self.lost.append(name),
            )
            self.wires[name] = Wire()
        for name in self.links:
            self.wires[name].ends = [self.links[name]]
            self.links[name].connection_made(self.wires[name])

    def deliver(self) -> None:
        """Bring to each end what the other has sent, until nothing is on its way."""
        for link in self.links.values():
            link._pump()  # what the loop does in its next turn
        while any(wire.sent for wire in self.wires.values()):
            for name, other in (("worker", "coordinator"), ("coordinator", "worker")):
                data, self.wires[name].sent = bytes(self.wires[name].sent), bytearray()
                if data and not self.wires[other].is_closed:
                    self.links[other].data_received(data)


def story(function: Callable[[], Awaitable[None]]) -> None:
    async def told() -> None:
        await function()

    asyncio.run(told())


def test_two_ends_that_hold_the_token_talk() -> None:
    async def run() -> None:
        pair = Pair()
        pair.deliver()
        await asyncio.gather(pair.links["worker"].proven, pair.links["coordinator"].proven)
        pair.links["coordinator"].send(Drain(7), 3)
        pair.links["worker"].end(3)
        pair.deliver()
        ((stream, data),) = pair.heard["worker"]
        assert (stream, data is not None and data.endswith(b"[7]")) == (3, True)
        assert pair.heard["coordinator"] == [(3, None)]
        pair.wires["worker"].abort()
        assert pair.lost == ["worker"]
        assert not pair.links["worker"].is_open
        pair.links["worker"].send(Drain(8))
        assert not pair.wires["worker"].sent
        with pytest.raises(ConnectionError):
            await pair.links["worker"].room()

    story(run)


def test_nothing_is_heard_of_an_end_that_has_not_proved_itself() -> None:
    async def run() -> None:
        pair = Pair(workers_token=b"?" * 32)
        pair.deliver()
        with pytest.raises(HandshakeError) as caught:
            await pair.links["worker"].proven
        assert caught.value.verdict is Verdict.OTHER_TOKEN
        pair.links["coordinator"].data_received(bytes(1000))
        with pytest.raises(HandshakeError):
            await pair.links["coordinator"].proven
        assert (pair.heard, pair.lost) == ({"worker": [], "coordinator": []}, [])

    story(run)


def test_what_makes_no_sense_ends_the_connection() -> None:
    async def run() -> None:
        pair = Pair()
        pair.deliver()
        pair.links["coordinator"].data_received(b"\0\0\0\1\xff\xff\xff\xff")
        assert pair.lost == ["coordinator"]

    story(run)


def test_who_can_wait_waits_while_the_transport_is_full() -> None:
    async def run() -> None:
        pair = Pair()
        pair.deliver()
        link, wire = pair.links["worker"], pair.wires["worker"]
        link.pause_writing()
        link.send_bytes([bytes(5 * PIECE_BYTES)], 3)
        link.send(Beat(0.0, 0))
        assert (link.is_congested, wire.sent) == (True, b"")
        waiting = asyncio.ensure_future(link.room())
        await asyncio.sleep(0)
        assert not waiting.done()
        link.resume_writing()
        await waiting
        assert wire.sent[:4] == bytes(4)  # the heartbeat overtakes
        assert len(wire.sent) > 5 * PIECE_BYTES

    story(run)


# Leases


def checked(leases: Leases, begin: int, end: int, heard: dict[int, float]) -> list[tuple[int, dict[int, Lease]]]:
    """What changes from one second to the next."""
    changes = [(now, leases.check(float(now), heard)) for now in range(begin, end)]
    return [(now, change) for now, change in changes if change]


def test_a_silent_worker_is_suspect_then_lost() -> None:
    leases = Leases(0.0)
    assert checked(leases, 1, 70, {1: 0.0, 2: 100.0}) == [(16, {1: Lease.SUSPECT}), (61, {1: Lease.LOST})]


def test_any_byte_renews_a_lease() -> None:
    leases = Leases(0.0)
    assert checked(leases, 1, 20, {1: 0.0}) == [(16, {1: Lease.SUSPECT})]
    assert checked(leases, 20, 36, {1: 19.5}) == [(20, {1: Lease.HELD}), (35, {1: Lease.SUSPECT})]


def test_leases_grow_by_the_lateness_of_our_own_loop() -> None:
    leases = Leases(0.0)
    assert checked(leases, 1, 11, {1: 0.0}) == []
    assert leases.check(130.0, {1: 0.0}) == {}  # stopped for two minutes: nothing could be heard
    assert checked(leases, 131, 190, {1: 0.0}) == [(134, {1: Lease.SUSPECT}), (179, {1: Lease.LOST})]


def test_who_has_left_is_forgotten() -> None:
    leases = Leases(0.0)
    checked(leases, 1, 30, {1: 0.0})
    assert leases.check(30.0, {}) == {}
    assert leases.check(31.0, {1: 31.0}) == {}
