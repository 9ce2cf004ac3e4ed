"""A worker, as the coordinator sees it: a supervisor, and the slots that it forks.

    supervisor ──SlotExited, Printed, Drained──> Worker ──slot_died, printed, drained──> Owner
               ──Measured──────────────────────>        ──measured─────────────────────>
    slot ──SlotReady, MapDone, ReduceDone, ...──> Worker ──slot_joined, slot_answered──> Owner

A slot counts as gone when its connection has ended *and* its supervisor has said how: so what it still delivered is
taken first. How slots are reached, and what becomes of a supervisor that is lost, is told by `local` and `remote`.

It knows nothing of jobs. Every method but `join` belongs to the loop's thread.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

from jmr.errors import printable
from jmr.scheduler.effects import StartAttempt
from jmr.wire.frames import FrameError
from jmr.wire.messages import (
    CANNOT_ANSWER,
    CANNOT_START,
    AttemptFailed,
    Drain,
    Drained,
    KillSlot,
    MapDone,
    Measured,
    Message,
    OpenJob,
    Printed,
    ReduceDone,
    SlotExited,
    SlotReady,
    StartMap,
    StartReduce,
    Watch,
    whole,
)

__all__ = ["Answer", "Line", "Owner", "Slot", "Stop", "Worker"]

#: For a slot whose connection has ended to end by itself, and say how.
_GRACE_SECONDS = 1.0
#: Of what a supervisor says why it cannot fork.
_MOST_REASON = 200

Answer = MapDone | ReduceDone | AttemptFailed


class Line(Protocol):
    """What a slot or a supervisor is talked to by."""

    @property
    def is_open(self) -> bool:
        """Whether anything can be said, and heard."""

    def send(self, message: Message) -> None:
        """Send a message, soon."""

    def close(self) -> None:
        """End it; whoever made it is told, soon."""


@dataclass(slots=True)
class Stop:
    """Why a slot has ended, or is told to, if that is for want of memory."""

    #: What it worked on.
    attempt: StartAttempt
    #: "was stopped at 7.10 GB: 95 % of this host's 16.0 GB of memory was used"
    why: str
    #: Whether the task is to blame, which had no others beside it.
    is_blamed: bool


@dataclass(slots=True)
class Slot:
    """A slot's process, from its fork until its connection has ended and its supervisor has told how."""

    number: int
    #: 1 to the worker's number of slots; one that is forked in its place has the same.
    position: int
    worker: Worker
    line: Line
    ready: bool = False
    #: It was told to end.
    ending: bool = False
    #: It had closed its connection and went on.
    hung_up: bool = False
    exited: SlotExited | None = None
    #: Its owner's: the jobs that it has been told of, and what it works on.
    opened: set[int] = field(default_factory=set)
    attempt: StartAttempt | None = None
    stop: Stop | None = None

    @property
    def name(self) -> str:
        """What users call it."""
        return f"{self.worker.name}/{self.position}"


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

    def measured(self, worker: Worker, measured: Measured) -> None:
        """The worker's host has so much memory, and its slots have so much of it."""

    def drained(self, token: int) -> None:
        """All that this worker printed before `Worker.drain(token)` has come, or is lost with it."""

    def worker_broke(self, reason: str) -> None:
        """There will be no slots on this host, until `try_again`."""


class Worker:
    """What workers here and elsewhere have in common.

    Parameters
    ----------
    owner
        Is told what happens, in the loop's thread.
    name
        What users call it.
    n_slots
        How many to start with.
    numbers
        For slots: no two of a coordinator have the same.
    """

    def __init__(self, owner: Owner, name: str, n_slots: int, numbers: Iterator[int]) -> None:
        self._owner = owner
        self.name = name
        #: None for this host's.
        self.number: int | None = None
        #: How many slots are wanted.
        self.n_slots = n_slots
        #: To the supervisor; None while there is none.
        self._control: Line | None = None
        self._slots: dict[int, Slot] = {}
        self._slot_numbers = numbers
        self._draining: set[int] = set()
        self._is_watched = False

    @property
    def slots(self) -> list[Slot]:
        """Those that live, by position."""
        return sorted(self._slots.values(), key=lambda slot: slot.position)

    def resize(self, n_slots: int) -> None:
        """Have this many slots, soon."""
        self.n_slots = n_slots
        for slot in self.slots:
            if slot.position > n_slots and slot.ready:
                self._owner.slot_unwanted(slot)
        self._fork_missing()

    def start(self, slot: Slot, opening: OpenJob | None, order: StartMap | StartReduce) -> None:
        """Have an idle slot begin an attempt, after telling it of the job if need be."""
        if opening is not None:
            slot.line.send(opening)
        slot.line.send(order)

    def kill(self, number: int) -> None:
        """End a slot's process, and what it has started."""
        if number in self._slots:
            self._slots[number].ending = True
        if self._control is not None:
            self._control.send(KillSlot(number))

    def stop(self, number: int) -> None:
        """End a slot's process, and be told how it ended, as if it had done so by itself."""
        if self._control is not None:
            self._control.send(KillSlot(number))

    def watch(self, *, is_on: bool) -> None:
        """Have its memory measured, and told, or not; nothing happens where it is so already."""
        if self._control is not None and self._control.is_open and is_on is not self._is_watched:
            self._is_watched = is_on
            self._control.send(Watch(is_on))

    def drain(self, token: int) -> None:
        """Have what was printed so far sent on; answered by `Owner.drained`, later or at once."""
        if self._control is not None and self._control.is_open:
            self._draining.add(token)
            self._control.send(Drain(token))
        else:
            self._owner.drained(token)

    def close(self) -> None:
        """Let go of every process."""
        if self._control is not None:
            self._control.close()
        for slot in self._slots.values():
            slot.line.close()

    # Slots.

    def _fork(self, position: int, control: Line) -> None:
        """Have a slot forked."""
        raise NotImplementedError

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

    def _hear_slot(self, number: int, message: Message) -> None:
        slot = self._slots[number]
        match message:
            case SlotReady() if not slot.ready:
                slot.ready = True
                self._owner.slot_joined(slot)
                if slot.position > self.n_slots:
                    self._owner.slot_unwanted(slot)
            case MapDone() | ReduceDone() | AttemptFailed():
                self._answered(slot, message)
            case _:
                raise FrameError(f"a slot does not say {message}")

    def _answered(self, slot: Slot, answer: Answer) -> None:
        self._owner.slot_answered(slot, answer)

    def _bury(self, number: int) -> None:
        """Let go of a slot, once its connection has ended and its supervisor has told how."""
        slot = self._slots.get(number)
        if slot is None or slot.line.is_open:
            return
        if slot.exited is None:  # it is on its way out, or user code has closed its connection and goes on
            asyncio.get_running_loop().call_later(_GRACE_SECONDS, self._owner.guard(self._hang_up), number)
            return
        del self._slots[number]
        self._owner.slot_died(slot, _told_exit(slot, slot.exited))
        is_wanted = slot.position <= self.n_slots
        if slot.ready or not is_wanted or self._may_go_on(_told_start(slot.exited)):
            self._fork_missing()

    def _hang_up(self, number: int) -> None:
        """End a slot that could not answer any more."""
        if number in self._slots:
            self._slots[number].hung_up = True
            self.kill(number)

    def _may_go_on(self, reason: str) -> bool:
        """Whether to fork one more slot after one that was never ready."""
        raise NotImplementedError

    # The supervisor.

    def _hear_supervisor(self, message: Message) -> None:
        match message:
            case SlotExited(slot=number):
                if number in self._slots:
                    self._slots[number].exited = message
                    self._bury(number)
            case Printed():
                self._owner.printed(message)
            case Measured() if _is_possible(message):
                self._owner.measured(self, message)
            case Drained(token) if token in self._draining:
                self._draining.discard(token)
                self._owner.drained(token)
            case _:
                raise FrameError(f"a supervisor does not say {message}")

    def _lose_all(self) -> None:
        """The supervisor is gone, and every slot with it."""
        self._control = None
        self._is_watched = False
        # The idle ones first, else they would be given what the busy ones leave.
        for slot in sorted(self._slots.values(), key=lambda slot: slot.attempt is not None):
            del self._slots[slot.number]
            slot.line.close()
            self._owner.slot_died(slot, None)
        while self._draining:  # nobody is left to answer
            self._owner.drained(self._draining.pop())


def _told_exit(slot: Slot, exited: SlotExited) -> SlotExited:
    """How it ended; one that lived on without its connection did so only as we have killed it."""
    is_ours = slot.hung_up and exited.status == -signal.SIGKILL
    return replace(exited, status=CANNOT_ANSWER) if is_ours else exited


def _told_start(exited: SlotExited) -> str:
    """Why there is no slot."""
    if exited.status == CANNOT_START and exited.blobs:
        said = bytes(whole(exited.blobs[0])).decode(errors="replace")
        return f"slots cannot be started: {printable(said, _MOST_REASON)}"
    return f"slots end as soon as they start, with status {exited.status}"


def _is_possible(measured: Measured) -> bool:
    return measured.limit_bytes > 0 <= measured.used_bytes and all(n_bytes >= 0 for _, n_bytes in measured.slots)
