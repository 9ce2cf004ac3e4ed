"""A job is cancelled while a worker of another host, a peer that only talks like one, is at it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

import jmr
from jmr.coordinator import desk, others
from jmr.links import leases
from jmr.wire.far import Carry
from jmr.wire.messages import Drain, KillSlot, StartMap
from tests.peers import Peer

pytestmark = pytest.mark.slow

TOKEN = bytes(range(32))
#: More than may be on its way to a slot that takes nothing.
LARGE_BYTES = 20 << 20


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[jmr.Cluster]:
    """No slot here, and a port for others."""
    monkeypatch.setenv("JMR_TOKEN", TOKEN.hex())
    with jmr.Cluster(workers=0, listen="127.0.0.1:0") as cluster:
        yield cluster


def identity(key: Any, value: Any) -> list[Any]:
    return [(key, value)]


def cancelled(cluster: jmr.Cluster, source: Any, reached: Callable[[Peer], Awaitable[object]], **about: bool) -> None:
    """Cancel a job when the peer has got somewhere with it: it ends, and the slot is ended and forked anew."""

    async def script() -> None:
        peer = await Peer.join(cluster.address or "", TOKEN)
        peer.drains = about.get("drains", True)
        slot = await peer.offer()
        job = jmr.submit(source, identity, engine=cluster, progress=False)
        await reached(peer)
        await asyncio.to_thread(job.cancel)
        with pytest.raises(jmr.JobCancelled):
            await asyncio.to_thread(job.result, 20)
        await asyncio.to_thread(job._thread.join, 20)
        assert not job._thread.is_alive()
        _, kill = await peer.hear(KillSlot)
        assert kill.slot == slot
        assert await peer.offer() != slot
        assert about.get("is_asked", True) is any(isinstance(message, Drain) for _, message in peer._heard)
        await peer.close()

    asyncio.run(script())


def test_while_a_worker_that_is_silent_is_at_it(cluster, monkeypatch):
    monkeypatch.setattr(desk, "_DRAIN_SECONDS", 1_000.0)
    monkeypatch.setattr(desk, "_CANCELLED_DRAIN_SECONDS", 0.05)
    cancelled(cluster, {1: 2}, lambda peer: peer.hear(StartMap), drains=False)


def test_while_a_worker_is_not_heard_any_more_which_is_not_asked_for_what_was_printed(cluster, monkeypatch):
    monkeypatch.setattr(others, "CHECK_SECONDS", 0.05)
    monkeypatch.setattr(leases, "_SUSPECT_SECONDS", 0.1)

    async def reached(peer: Peer) -> None:
        await peer.hear(StartMap)
        async with asyncio.timeout(20):
            while cluster.hosts()[1].state != "silent":
                await asyncio.sleep(0.01)

    cancelled(cluster, {1: 2}, reached, drains=False, is_asked=False)


def test_while_a_split_goes_to_a_slot_that_takes_nothing(cluster):
    cancelled(cluster, {1: bytes(LARGE_BYTES)}, lambda peer: peer.hear(Carry))
