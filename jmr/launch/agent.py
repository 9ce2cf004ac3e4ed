"""A worker for a coordinator on another host: joins, passes on, rejoins.

    coordinator ──Link──> Agent ──ForkSlot, KillSlot, ...──> supervisor ──fork──> slot
                            └────────────a stream for each slot: bytes, as they are────^

The supervisor is the same as on the coordinator's own host, in a process of its own; this one holds the token and the
connection, and no user code ever runs in it or in what it forks. When the coordinator is gone, the supervisor and all
of its slots are ended, and there is a new one for the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable

from jmr.codec.values import Buffer
from jmr.launch.keeping import Keeping
from jmr.launch.local import LocalSupervisor, close_in_forks, default_slots, start_local
from jmr.launch.token import VARIABLE
from jmr.links.channel import Channel
from jmr.links.leases import BEAT_SECONDS, CHECK_SECONDS, Lease, Leases
from jmr.links.link import Link
from jmr.shuffle.budget import memory_budget
from jmr.shuffle.directory import Directories
from jmr.shuffle.memory import free_memory_bytes
from jmr.wire.far import Beat, Farewell, ForgetJob, Keep, Leaving, WorkerJoined
from jmr.wire.frames import FrameError, Receiver
from jmr.wire.handshake import Handshake
from jmr.wire.messages import (
    Drain,
    Drained,
    ForkSlot,
    KillSlot,
    Measured,
    Message,
    Printed,
    SlotExited,
    Watch,
    WorkerReady,
)
from jmr.wire.streams import CONTROL, FILES
from jmr.worker.surroundings import THREAD_VARIABLES

__all__ = [
    "LEAVE_SECONDS",
    "DismissedError",
    "Membership",
    "MembershipError",
    "SupervisorLostError",
    "prepare_environment",
]

#: For slots to finish what they are at, when the worker was told to end.
LEAVE_SECONDS = 10.0
#: A membership that has lasted so long shows that the worker is not broken.
_LASTING_SECONDS = 60.0


#: For the supervisor to answer; else it was stopped by somebody, perhaps, and is let go on.
_ANSWER_SECONDS = 5.0
#: What it is asked then; jobs have positive numbers.
_ANSWERED = -1


class MembershipError(Exception):
    """A membership has ended because of the worker; the text says why."""


class SupervisorLostError(MembershipError):
    """The supervisor has ended by itself."""

    def __init__(self, words: str) -> None:
        super().__init__(f"the process that forks slots has ended: {words or 'it says nothing'}")


class DismissedError(MembershipError):
    """The coordinator has let the worker go."""

    def __init__(self, reason: str) -> None:
        told = "".join(c for c in reason if c.isprintable())
        super().__init__(f"the coordinator has let this worker go: {told}")


def prepare_environment(n_slots: int) -> None:
    """Make ours what slots shall find: numeric libraries share the CPUs, unless the user says; and no token."""
    os.environ.pop(VARIABLE, None)
    for name in THREAD_VARIABLES:
        os.environ.setdefault(name, str(max(1, default_slots() // n_slots)))


class Membership:
    """One coordinator's worker, from its start to that coordinator's end.

    The supervisor starts at once, and imports while the connection is made.

    Raises
    ------
    ArgumentValueError
        JMR_MEMORY or JMR_MEMORY_LIMIT is no size.
    WorkerError
        There is no directory for files, or no supervisor can be started.
    """

    def __init__(self, n_slots: int) -> None:
        self._n_slots = n_slots
        self._memory_bytes = memory_budget()
        self._loop = asyncio.get_running_loop()
        self._directories = Directories()
        try:
            self._supervisor: LocalSupervisor = start_local(self._directories.paths, for_other_host=True)
        except BaseException:
            self._directories.close()
            raise
        connection = self._supervisor.connection
        self._channel = Channel(self._loop, connection, self._hear_supervisor, self._lose_supervisor, lambda f: f)
        self._link: Link | None = None
        self._receivers = {stream: Receiver(trusts=False) for stream in (CONTROL, FILES)}
        self._relays: dict[int, _Relay] = {}
        self._keeping: Keeping | None = None
        self._is_quiet = asyncio.Event()
        #: Why it has ended, if it is not the coordinator that has.
        self._error: MembershipError | None = None
        self._joined_at = self._loop.time()
        #: A slot has answered an attempt.
        self.has_answered = False
        self._is_closing = False
        #: Whether the supervisor measures, as it does while there is a job; and since when it is to answer.
        self._is_watched = False
        self._asked_at: float | None = None

    def make_link(self, begin: Callable[[bytes], Handshake]) -> Link:
        """The link to join by; another one if that has failed."""
        self._link = Link(begin, self._hear, lambda: None)
        self._keeping = Keeping(self._link, self._directories)
        return self._link

    def remove_leftovers(self) -> None:
        """Remove what this user's killed workers left on this host, in a thread that nobody waits for."""
        threading.Thread(target=self._directories.remove_leftovers, name="jmr-leftovers", daemon=True).start()

    @property
    def has_lasted(self) -> bool:
        """Whether it has been one for so long that the worker cannot be broken."""
        return self._loop.time() - self._joined_at >= _LASTING_SECONDS

    async def serve(self) -> None:
        """Join, once the link is proven, and work until it has ended.

        Raises
        ------
        MembershipError
            It has ended because of the worker.
        """
        assert self._link is not None
        self._joined_at = self._loop.time()
        self._link.send(self._introduction())
        beating = asyncio.ensure_future(self._beat(self._link))
        try:
            await asyncio.shield(self._link.closed)
        finally:
            beating.cancel()
        if self._error is not None:
            raise self._error

    async def leave(self) -> None:
        """Let slots finish what they are at, for a while, then end the connection."""
        if self._link is not None and self._link.is_open and self._link.is_proven:
            self._link.send(Leaving())
            self._note_quiet()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._is_quiet.wait(), LEAVE_SECONDS)
            self._link.close()

    @property
    def is_broken(self) -> bool:
        """Whether it cannot serve any more."""
        return self._error is not None

    def abort(self) -> None:
        """End the connection at once."""
        if self._link is not None:
            self._link.abort()

    async def close(self) -> None:
        """End the supervisor and its slots, and remove their files."""
        self._is_closing = True
        self.abort()
        for relay in tuple(self._relays.values()):
            relay.close()
        self._channel.close()
        if self._keeping is not None:
            await self._loop.run_in_executor(None, self._keeping.close)
        await self._loop.run_in_executor(None, self._supervisor.last_words)
        self._directories.close()

    def _introduction(self) -> WorkerJoined:
        memory = self._directories.memory
        return WorkerJoined(
            name=socket.gethostname(),
            pid=os.getpid(),
            n_slots=self._n_slots,
            python="{}.{}.{}".format(*sys.version_info),
            n_cpus=default_slots(),
            memory_bytes=self._memory_bytes,
            directory=self._directories.disk.path,
            memory_directory=None if memory is None else memory.path,
        )

    async def _beat(self, link: Link) -> None:
        """Say that we are there, and see whether the coordinator is."""
        leases = Leases(self._loop.time())
        n = 0
        while True:
            if n % round(BEAT_SECONDS / CHECK_SECONDS) == 0:
                link.send(Beat(os.getloadavg()[0], free_memory_bytes()))
            n += 1
            self._see_to_supervisor(self._loop.time())
            await asyncio.sleep(CHECK_SECONDS)
            if leases.check(self._loop.time(), {0: link.heard_at}).get(0) is Lease.LOST:
                link.abort()

    def _see_to_supervisor(self, now: float) -> None:
        """While there is a job, see that the supervisor answers: nobody else reads what slots print."""
        if self._asked_at is None:
            if self._is_watched:
                self._asked_at = now
                self._channel.send(Drain(_ANSWERED))
        elif now - self._asked_at >= _ANSWER_SECONDS:
            self._asked_at = None
            self._supervisor.send_signal(signal.SIGCONT)

    # From the coordinator.

    def _hear(self, stream: int, part: Buffer | None) -> None:
        if stream in self._receivers:
            if part is None:
                raise FrameError("the coordinator has ended a stream of the worker's")
            for message in self._receivers[stream].feed(part):
                self._obey(message)
        elif stream in self._relays:
            if part is None:
                self._relays[stream].close()
            else:
                self._relays[stream].write(part)

    def _obey(self, message: Message) -> None:
        assert self._keeping is not None
        match message:
            case ForkSlot(number):
                self._fork(number, message)
            case KillSlot() | Drain():
                self._channel.send(message)
            case Watch(is_on):
                self._is_watched = is_on
                self._channel.send(message)
            case Keep():
                self._keeping.take(message)
            case ForgetJob(job):
                self._keeping.forget(job)
            case Beat():
                return
            case Farewell(reason):
                self._error = DismissedError(reason)
            case _:
                raise FrameError(f"a worker does not answer {message}")

    def _fork(self, number: int, message: ForkSlot) -> None:
        assert self._link is not None
        ours, theirs = socket.socketpair()
        close_in_forks(ours)
        self._relays[number] = _Relay(self._link, number, self._note_answer, self._lose_slot)
        self._relays[number].connect(ours)
        self._channel.send_with_descriptor(message, theirs.detach())

    # From the supervisor and the slots.

    def _hear_supervisor(self, message: Message) -> None:
        match message:
            case Drained(token) if token == _ANSWERED:
                self._asked_at = None
            case SlotExited() | Printed() | Drained() | Measured():
                if self._link is not None:
                    self._link.send(message)
            case WorkerReady():
                return
            case _:
                raise AssertionError(f"a supervisor does not say {message}")

    def _lose_supervisor(self) -> None:
        if not self._is_closing:
            self._error = SupervisorLostError(self._supervisor.end())
            self.abort()

    def _note_answer(self) -> None:
        self.has_answered = True

    def _lose_slot(self, number: int) -> None:
        self._relays.pop(number, None)
        self._note_quiet()

    def _note_quiet(self) -> None:
        if not self._relays:
            self._is_quiet.set()


class _Relay(asyncio.Protocol):
    """Between a slot's connection and its stream of the link."""

    def __init__(self, link: Link, number: int, on_answer: Callable[[], None], on_lost: Callable[[int], None]) -> None:
        self._link = link
        self._number = number
        self._on_answer = on_answer
        self._on_lost = on_lost
        self._is_asked = False
        self._transport: asyncio.Transport | None = None
        self._early: list[bytes] = []
        self._closing = False
        self._tasks: set[asyncio.Task[object]] = set()

    def connect(self, connection: socket.socket) -> None:
        """Begin with a slot's connection."""
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        self._run(loop.create_task(loop.connect_accepted_socket(lambda: self, connection)))

    def write(self, part: Buffer) -> None:
        """Pass on what the coordinator says."""
        self._is_asked = True
        if self._transport is None:
            self._early.append(bytes(part))
        else:
            self._transport.write(part)

    def close(self) -> None:
        """Let go of the slot, which ends then."""
        self._closing = True
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.writelines(self._early)
        self._early.clear()
        if self._closing:
            transport.close()

    def data_received(self, data: bytes) -> None:
        if self._is_asked:
            self._on_answer()
        self._link.send_bytes([data], self._number)
        if self._link.is_congested and self._transport is not None:
            self._transport.pause_reading()
            self._run(asyncio.ensure_future(self._go_on(self._transport)))

    async def _go_on(self, transport: asyncio.Transport) -> None:
        with contextlib.suppress(ConnectionError):
            await self._link.room()
            transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._link.end(self._number)
        self._on_lost(self._number)

    def _run(self, task: asyncio.Task[object]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
