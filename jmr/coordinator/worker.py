"""The worker of this host, as the coordinator sees it: a supervisor, and the slots that it forks.

    supervisor ──SlotExited, Printed, Drained──> Worker ──slot_died, printed, drained──> Owner
    slot ──SlotReady, MapDone, ReduceDone, ...──> Worker ──slot_joined, slot_answered──> Owner

A slot counts as gone when its connection has ended *and* its supervisor has said how: so what it still delivered is
taken first. A lost supervisor takes its slots along, and is started again, unless that keeps failing.

It knows nothing of jobs. Every method but the constructor and `join` belongs to the loop's thread.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from tornado.ioloop import IOLoop

from jmr.coordinator.channel import Channel
from jmr.errors import WorkerError
from jmr.launch.local import LocalWorker, close_in_forks, start_local
from jmr.scheduler.effects import StartAttempt
from jmr.wire.messages import (
    CANNOT_ANSWER,
    AttemptFailed,
    Drain,
    Drained,
    ForkSlot,
    KillSlot,
    MapDone,
    Message,
    Printed,
    ReduceDone,
    SlotExited,
    SlotReady,
    WorkerReady,
)

__all__ = ["Answer", "Owner", "Slot", "Worker"]

#: Supervisors, or slots that were not ready yet, that may be lost in a row with no attempt answered in between.
_MOST_FAILED_STARTS = 3

#: For a slot whose connection has ended to end by itself, and say how.
_GRACE_SECONDS = 1.0

Answer = MapDone | ReduceDone | AttemptFailed


@dataclass(slots=True)
class Slot:
    """A slot's process, from its fork until its connection has ended and its supervisor has told how."""

    number: int
    #: 1 to the worker's number of slots; one that is forked in its place has the same.
    position: int
    channel: Channel
    ready: bool = False
    #: It was told to end.
    ending: bool = False
    #: It had closed its connection and went on.
    hung_up: bool = False
    exited: SlotExited | None = None
    #: Its owner's: the jobs that it has been told of, and what it works on.
    opened: set[int] = field(default_factory=set)
    attempt: StartAttempt | None = None

    @property
    def name(self) -> str:
        """What users call it."""
        return f"local/{self.position}"


class Owner(Protocol):
    """Who has slots work, and is told what becomes of them."""

    def guard(self, function: Callable[..., None]) -> Callable[..., None]:
        """Wrap what the loop calls; see `Guard`."""

    def slot_joined(self, slot: Slot) -> None:
        """It waits for work."""

    def slot_unwanted(self, slot: Slot) -> None:
        """There are more slots than wanted: it may finish what it is at, and is to be stopped then."""

    def slot_answered(self, slot: Slot, answer: Answer) -> None:
        """Its attempt is over."""

    def slot_died(self, slot: Slot, exited: SlotExited | None) -> None:
        """It is gone, and one in its place will join; without `exited`, it was lost with its supervisor."""

    def printed(self, printed: Printed) -> None:
        """User code has printed."""

    def drained(self, token: int) -> None:
        """All that was printed before `Worker.drain(token)` has come, or is lost with the supervisor."""

    def worker_broke(self, reason: str) -> None:
        """There will be no slots, until `Worker.try_again`."""


class Worker:
    """The worker of this host.

    Parameters
    ----------
    owner
        Is told what happens, in the loop's thread.
    directories
        Where slots put large map outputs.
    supervisor
        Has been started with these directories.
    n_slots
        How many to start with.
    """

    def __init__(self, owner: Owner, directories: list[str], supervisor: LocalWorker, n_slots: int) -> None:
        self._owner = owner
        self._directories = directories
        #: How many slots are wanted.
        self.n_slots = n_slots
        self._supervisor: LocalWorker | None = supervisor
        self._control: Channel | None = None
        self._slots: dict[int, Slot] = {}
        self._slot_numbers = itertools.count(1)
        self._draining: set[int] = set()
        self._n_failed_starts = 0
        self._closed = False

    @property
    def slots(self) -> list[Slot]:
        """Those that live, by position."""
        return sorted(self._slots.values(), key=lambda slot: slot.position)

    def slot(self, number: int) -> Slot:
        """A slot that lives, by its number."""
        return self._slots[number]

    def attach(self, loop: IOLoop) -> None:
        """Begin to hear and to fork."""
        self._loop = loop
        self._is_ready = False
        assert self._supervisor is not None
        self._control = Channel(
            loop,
            self._supervisor.connection,
            self._hear_supervisor,
            partial(self._lose_supervisor, self._supervisor),
            self._owner.guard,
        )
        self._fork_missing()

    def resize(self, n_slots: int) -> None:
        """Have this many slots, soon."""
        self.n_slots = n_slots
        for slot in self.slots:
            if slot.position > n_slots and slot.ready:
                self._owner.slot_unwanted(slot)
        self._fork_missing()

    def kill(self, number: int) -> None:
        """End a slot's process, and what it has started."""
        if number in self._slots:
            self._slots[number].ending = True
        if self._control is not None:
            self._control.send(KillSlot(number))

    def drain(self, token: int) -> None:
        """Have what was printed so far sent on; answered by `Owner.drained`, later or at once."""
        if self._control is not None and self._control.is_open:
            self._draining.add(token)
            self._control.send(Drain(token))
        else:
            self._owner.drained(token)

    def try_again(self) -> None:
        """After it broke: there may be memory now, or a file descriptor, or a repaired installation."""
        self._n_failed_starts = 0
        if self._supervisor is None:
            self._restart()
        else:
            self._fork_missing()

    def close(self) -> None:
        """Let go of every process; `join` waits for their end."""
        self._closed = True
        if self._control is not None:
            self._control.close()
        for slot in self._slots.values():
            slot.channel.close()

    def join(self) -> None:
        """Wait for the supervisor's end."""
        if self._supervisor is not None:
            self._supervisor.last_words()

    # Slots.

    def _fork_missing(self) -> None:
        """Fork a slot for each position that has none."""
        if self._control is None or not self._control.is_open:
            return
        taken = {slot.position for slot in self._slots.values()}
        try:
            for position in range(1, self.n_slots + 1):
                if position not in taken:
                    self._fork(position, self._control)
        except OSError as error:  # no more file descriptors, say
            self._owner.worker_broke(f"slots cannot be started: {error}")

    def _fork(self, position: int, control: Channel) -> None:
        number = next(self._slot_numbers)
        ours, theirs = socket.socketpair()
        close_in_forks(ours)
        hear, bury = partial(self._hear_slot, number), partial(self._bury, number)
        slot = Slot(number, position, Channel(self._loop, ours, hear, bury, self._owner.guard))
        self._slots[number] = slot
        control.send_with_descriptor(ForkSlot(number, slot.name), theirs.detach())

    def _hear_slot(self, number: int, message: Message) -> None:
        slot = self._slots[number]
        match message:
            case SlotReady():
                slot.ready = True
                self._owner.slot_joined(slot)
                if slot.position > self.n_slots:
                    self._owner.slot_unwanted(slot)
            case MapDone() | ReduceDone() | AttemptFailed():
                self._n_failed_starts = 0
                self._owner.slot_answered(slot, message)
            case _:
                raise AssertionError(f"a slot does not say {message}")

    def _bury(self, number: int) -> None:
        """Let go of a slot, once its connection has ended and its supervisor has told how."""
        slot = self._slots.get(number)
        if slot is None or slot.channel.is_open:
            return
        if slot.exited is None:  # it is on its way out, or user code has closed its connection and goes on
            self._loop.call_later(_GRACE_SECONDS, self._owner.guard(self._hang_up), number)
            return
        del self._slots[number]
        how = replace(slot.exited, status=CANNOT_ANSWER) if slot.hung_up else slot.exited
        self._owner.slot_died(slot, how)
        told = f"slots end as soon as they start, with status {slot.exited.status}"
        if slot.ready or self._may_go_on(told):
            self._fork_missing()

    def _hang_up(self, number: int) -> None:
        """End a slot that could not answer any more."""
        if number in self._slots:
            self._slots[number].hung_up = True
            self.kill(number)

    # The supervisor.

    def _hear_supervisor(self, message: Message) -> None:
        match message:
            case WorkerReady():
                self._is_ready = True
            case SlotExited(slot=number):
                if number in self._slots:
                    self._slots[number].exited = message
                    self._bury(number)
            case Printed():
                self._owner.printed(message)
            case Drained(token):
                self._draining.discard(token)
                self._owner.drained(token)
            case _:
                raise AssertionError(f"a supervisor does not say {message}")

    def _lose_supervisor(self, supervisor: LocalWorker) -> None:
        """It is gone, and every slot with it; start another, unless they keep dying."""
        if self._closed:
            return
        supervisor.process.kill()
        words = supervisor.last_words()
        self._control = self._supervisor = None
        # The idle ones first, else they would be given what the busy ones leave.
        for slot in sorted(self._slots.values(), key=lambda slot: slot.attempt is not None):
            del self._slots[slot.number]
            slot.channel.close()
            self._owner.slot_died(slot, None)
        while self._draining:  # nobody is left to answer
            self._owner.drained(self._draining.pop())
        how = "keeps ending" if self._is_ready else "does not start"
        if self._may_go_on(f"the worker on this host {how}: {words or 'it says nothing'}"):
            self._restart()

    def _restart(self) -> None:
        try:
            self._supervisor = start_local(self._directories)
        except WorkerError as error:
            self._owner.worker_broke(str(error))
        else:
            self.attach(self._loop)

    def _may_go_on(self, reason: str) -> bool:
        """Count one more failed start: a worker that only ever fails must not be started for ever."""
        self._n_failed_starts += 1
        if self._n_failed_starts < _MOST_FAILED_STARTS:
            return True
        self._owner.worker_broke(reason)
        return False
