"""A worker that says what it is told to, over the real wire: for tests of the coordinator, and for benchmarks.

Peer.connect ──TLS, handshake──> proven ──introduce──> joined ──hear(ForkSlot), offer──> StartMap ... ──answer

It forks nothing, and calls nothing of a user's.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from typing import Any, TypeVar

from jmr.codec.values import Buffer
from jmr.launch.address import parsed_address
from jmr.launch.joining import client_context, shake_as_worker
from jmr.links.link import Link
from jmr.wire.far import WorkerJoined
from jmr.wire.frames import Receiver
from jmr.wire.messages import Drain, Drained, ForkSlot, MapDone, Message, SlotReady
from jmr.wire.streams import CONTROL

__all__ = ["Peer", "map_done"]

#: For the coordinator to answer, or to hang up; it is waited for no longer than that takes.
_SECONDS = 10.0
M = TypeVar("M", bound=Message)


class Peer:
    """One connection to a coordinator, proven; made by `connect`."""

    def __init__(self, token: bytes) -> None:
        self.link = Link(lambda certificate: shake_as_worker(token, certificate), self._take, lambda: None)
        self._receivers: dict[int, Receiver] = defaultdict(Receiver)
        self._heard: list[tuple[int, Message]] = []
        self._more = asyncio.Event()
        #: Whether it says that it has sent on what was printed; else the job's end waits for it.
        self.drains = True

    @classmethod
    async def connect(cls, address: str, token: bytes, *, source: str | None = None) -> Peer:
        """Connect, from an address of this host if one is given, and prove that we hold the token."""
        peer, where = cls(token), parsed_address(address)
        local = None if source is None else (source, 0)
        loop, tls = asyncio.get_running_loop(), client_context()
        try:
            async with asyncio.timeout(_SECONDS):
                await loop.create_connection(
                    lambda: peer.link, where.host, where.port, ssl=tls, server_hostname="", local_addr=local
                )
                await peer.link.proven
        except BaseException:
            if peer.link._transport is not None:
                await peer.close()
            raise
        return peer

    @classmethod
    async def join(cls, address: str, token: bytes, **introduction: Any) -> Peer:
        """Connect, and say what we are."""
        peer = await cls.connect(address, token)
        peer.introduce(**introduction)
        return peer

    def introduce(self, **introduction: Any) -> None:
        """Say what we are; what is not given is sensible."""
        usual: dict[str, Any] = {"name": "peer", "pid": 1, "n_slots": 1, "python": "3.13.0", "n_cpus": 1}
        where = {"memory_bytes": 1 << 30, "directory": "/nowhere", "memory_directory": None}
        self.say(WorkerJoined(**{**usual, **where, **introduction}))

    async def offer(self) -> int:
        """Wait until a slot is to be forked, say that it is ready, and return its stream."""
        _, fork = await self.hear(ForkSlot)
        self.say(SlotReady(fork.slot), fork.slot)
        return fork.slot

    def say(self, message: Message, stream: int = CONTROL) -> None:
        """Send a message as it is, sensible or not."""
        self.link.send(message, stream)

    def say_bytes(self, data: bytes, stream: int = CONTROL) -> None:
        """Send what need be no message."""
        self.link.send_bytes([data], stream)

    def say_raw(self, data: bytes) -> None:
        """Send what need be no piece of a stream."""
        assert self.link._transport is not None
        self.link._transport.write(data)

    async def hear(self, kind: type[M]) -> tuple[int, M]:
        """Wait for the next message of a kind, and its stream."""
        async with asyncio.timeout(_SECONDS):
            while True:
                for at, (stream, message) in enumerate(self._heard):
                    if isinstance(message, kind):
                        del self._heard[at]
                        return stream, message
                self._more.clear()
                await self._more.wait()

    async def dropped(self) -> None:
        """Wait until the coordinator has ended the connection."""
        async with asyncio.timeout(_SECONDS):
            await asyncio.shield(self.link.closed)

    async def close(self) -> None:
        """End the connection."""
        self.link.abort()
        await self.dropped()

    def _take(self, stream: int, part: Buffer | None) -> None:
        if part is not None:
            messages = self._receivers[stream].feed(part)
            for drain in messages:
                if isinstance(drain, Drain) and self.drains:
                    self.say(Drained(drain.token))
            self._heard += zip(itertools.repeat(stream), messages)
            self._more.set()


def map_done(lengths: list[int], output: bytes = b"", **others: Any) -> MapDone:
    """The answer to a map order; what is not given is sensible."""
    usual: dict[str, Any] = {"n_records": 1, "n_pairs": 1, "n_combined_pairs": 1, "unstable": False, "seconds": 0.1}
    rest = {
        "flush_seconds": 0.0,
        "n_failures": 0,
        "peak_bytes": 0,
        "kept_split": False,
        "path": None,
        "lengths": lengths,
        "crcs": [],
    }
    return MapDone(**{**usual, **rest, "blobs": [b"", output], **others})
