"""Workers on other hosts: lets them in, gives them names, and sees who is silent.

    listen ──> Listener ──guest that proved itself──┐
    join_over (ssh) ──link──────────────────────────┴──> RemoteWorker ──has said what it is──> workers
    every second: who is silent ──> slots paused, resumed, or the worker lost
    who was lost, and has a caller ──call_again──> join_over, or give_up

Loaded when somebody may come from another host; most coordinators never need it.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any, Protocol

from jmr.coordinator.files import Files
from jmr.coordinator.listener import Listener, shake_as_coordinator
from jmr.coordinator.remote import Caller, RemoteOwner, RemoteWorker
from jmr.coordinator.worker import Slot
from jmr.errors import WorkerError
from jmr.launch.local import close_in_forks
from jmr.links.leases import BEAT_SECONDS, CHECK_SECONDS, Lease, Leases
from jmr.links.link import Link
from jmr.wire.handshake import OVER_SSH, Handshake

__all__ = ["Others", "OthersOwner"]

#: For ssh to connect and a worker to start there; and what a login shell may say before.
_SSH_SECONDS, _BANNER_BYTES = 60.0, 1 << 16


class OthersOwner(RemoteOwner, Protocol):
    """Who is told of all workers on other hosts."""

    def slot_paused(self, slot: Slot) -> None:
        """Its worker is silent: nothing new for it."""

    def slot_resumed(self, slot: Slot) -> None:
        """Its worker is heard again."""

    def worker_returned(self, worker: RemoteWorker) -> None:
        """It was lost before, and called again; it has joined like any other."""

    def worker_given_up(self, worker: RemoteWorker, reason: str) -> None:
        """It was lost, and will not be called again."""


class Others:
    """Those of one coordinator.

    Parameters
    ----------
    owner
        Has their slots work.
    call
        Has the loop call something, from any thread.
    numbers
        For slots: no two of a coordinator have the same.
    """

    def __init__(self, owner: OthersOwner, call: Callable[..., None], numbers: Iterator[int]) -> None:
        self._owner = owner
        self._call = call
        self._slot_numbers = numbers
        self._worker_numbers = itertools.count(1)
        self._files = Files()
        self._listener: Listener | None = None
        self._is_listening = False
        self._leases: Leases | None = None
        #: Those that have said what they are, by number.
        self._workers: dict[int, RemoteWorker] = {}
        #: Those that were lost, by who calls them again; and those that are not called any more.
        self._lost: dict[Caller, RemoteWorker] = {}
        self._given_up: list[RemoteWorker] = []
        #: Theirs, and those of whoever may become one.
        self._links: weakref.WeakSet[Link] = weakref.WeakSet()

    # Any thread.

    @property
    def workers(self) -> list[RemoteWorker]:
        """Those that are there, in the order in which they came."""
        return list(self._workers.values())

    @property
    def n_slots(self) -> int:
        """How many slots they have."""
        return sum(worker.n_slots for worker in self.workers)

    @property
    def absent(self) -> list[RemoteWorker]:
        """Those that were lost and are called again, or were given up."""
        return [*self._lost.copy().values(), *self._given_up]

    @property
    def may_return(self) -> bool:
        """Whether one was lost and is called again."""
        return bool(self._lost)

    @property
    def may_come(self) -> bool:
        """Whether any more may join: by themselves, also while the address changes, or as they are called again."""
        return self._is_listening or self.may_return

    def listen(self, listening: socket.socket, context: ssl.SSLContext, certificate: bytes, token: bytes) -> None:
        """Let workers join by this socket, instead of any other; returns when it is so."""
        self._is_listening = True
        self._call_and_wait(self._listen, listening, context, certificate, token)

    def stop_listening(self) -> None:
        """Let nobody in any more; returns when the port is free."""
        self._call_and_wait(self._stop_listening)

    def join_over(self, connection: socket.socket, origin: str, caller: Caller) -> Future[str]:
        """Have a worker join by a connection that ssh has made; gives its name when it has.

        When it is lost, the caller is told, and whatever waits for a worker waits for that one, until it has joined
        again, or `give_up` is called. One that was told to leave, or was sent away, is not lost.
        """
        joined: Future[str] = Future()
        self._call(self._join_over, connection, origin, caller, joined)
        return joined

    def give_up(self, caller: Caller, reason: str) -> None:
        """Wait no longer for a worker that was lost."""
        self._call(self._give_up, caller, reason)

    def join(self) -> None:
        """Wait for the end of what still reads or writes files, after `close`."""
        self._files.join()

    def _call_and_wait(self, function: Callable[..., None], *args: Any) -> None:
        """Have the loop call it, and wait for that."""
        done = threading.Event()
        self._call(function, *args)
        self._call(done.set)
        done.wait()

    # The loop's thread.

    def worker_joined(self, worker: RemoteWorker) -> None:
        """Give it a name that no other has, and have it fork."""
        assert worker.about is not None
        taken = {"local", *(other.name for other in self.workers)}
        names = itertools.chain([worker.about.name], (f"{worker.about.name}#{n}" for n in itertools.count(2)))
        self._workers[worker.number] = worker
        worker.join_as(next(name for name in names if name not in taken))
        if worker.caller is not None and self._lost.pop(worker.caller, None) is not None:
            self._owner.worker_returned(worker)
        if self._leases is None:
            self._leases = Leases(time.monotonic())
            self._watch_leases(itertools.count(1))

    def worker_left(self, worker: RemoteWorker) -> None:
        """Count without it; who had it started calls it again, unless it ended by its own will or by ours."""
        if worker.caller is not None and not worker.is_leaving and not worker.is_dismissed:
            worker.lost = "lost, called again"
            self._lost[worker.caller] = worker
            worker.caller.call_again()
        self._workers.pop(worker.number, None)

    def forget_job(self, job: int) -> None:
        """It is over."""
        for worker in self.workers:
            worker.forget_job(job)

    def close(self) -> None:
        """Let nobody in, and end all connections; awaited by `ended`."""
        self._stop_listening()
        self._files.close()
        for worker in self.workers:
            worker.drop()
        for link in self._links:  # also of those that have proved themselves, and not yet said what they are
            link.abort()

    async def ended(self) -> None:
        """Wait until no connection is left, after `close`."""
        await asyncio.gather(*(link.closed for link in self._links if link.is_connected))

    def _give_up(self, caller: Caller, reason: str) -> None:
        worker = self._lost.pop(caller, None)
        if worker is not None:
            worker.lost = f"lost, given up: {reason}"
            self._given_up.append(worker)
            self._owner.worker_given_up(worker, reason)

    def _listen(self, listening: socket.socket, context: ssl.SSLContext, certificate: bytes, token: bytes) -> None:
        self._stop_listening()
        self._listener = Listener(listening, context, certificate, token, self._make_worker, self._owner.guard)

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _make_worker(self, origin: str, begin: Callable[[bytes], Handshake]) -> tuple[RemoteWorker, Link]:
        number = next(self._worker_numbers)
        worker = RemoteWorker(self._owner, number, self._slot_numbers, self._files, origin)
        link = worker.make_link(begin)
        self._links.add(link)
        return worker, link

    def _join_over(self, connection: socket.socket, origin: str, caller: Caller, joined: Future[str]) -> None:
        task = asyncio.ensure_future(self._joined_over(connection, origin, caller))
        task.add_done_callback(partial(_pass_on, joined))

    async def _joined_over(self, connection: socket.socket, origin: str, caller: Caller) -> str:
        begin = partial(shake_as_coordinator, OVER_SSH, n_skipped=_BANNER_BYTES)
        worker, link = self._make_worker(origin, begin)
        worker.caller = caller
        close_in_forks(connection)
        connection.setblocking(False)
        try:
            async with asyncio.timeout(_SSH_SECONDS):
                await asyncio.get_running_loop().connect_accepted_socket(lambda: link, connection)
                await link.proven
                return await worker.joined
        except BaseException:
            link.abort()
            raise

    def _watch_leases(self, count: Iterator[int]) -> None:
        """Say that we are there, and see who is silent; for as long as there is anybody."""
        if not self._workers:
            self._leases = None
            return
        assert self._leases is not None
        watch = self._owner.guard(self._watch_leases)
        asyncio.get_running_loop().call_later(CHECK_SECONDS, watch, count)
        if next(count) % round(BEAT_SECONDS / CHECK_SECONDS) == 0:
            for worker in self.workers:
                worker.send_beat()
        heard = {number: worker.link.heard_at for number, worker in self._workers.items() if worker.link is not None}
        for number, lease in self._leases.check(time.monotonic(), heard).items():
            self._change_lease(self._workers[number], lease)

    def _change_lease(self, worker: RemoteWorker, lease: Lease) -> None:
        worker.is_suspect = lease is not Lease.HELD
        if lease is Lease.LOST:
            worker.drop()
            return
        change = self._owner.slot_paused if worker.is_suspect else self._owner.slot_resumed
        for slot in worker.slots:
            change(slot)


def _pass_on(future: Future[str], task: asyncio.Task[str]) -> None:
    """Tell another thread how a task has ended."""
    if task.cancelled():
        future.set_exception(WorkerError("the cluster was closed"))
    elif error := task.exception():
        future.set_exception(error)
    else:
        future.set_result(task.result())
