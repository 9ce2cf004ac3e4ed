"""A worker on another host: one link for it and all of its slots.

    link ──stream 0──> WorkerJoined, Beat, SlotExited, Printed, Drained, Leaving
         ──a slot's──> SlotReady, Carry, MapDone, ... ──> Errands ──> the attempt is over
    start(slot, order) ──> Errands ──> link

What such a worker says may be wrong: what cannot be right ends the connection, before anything of it counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

from jmr.codec.values import Buffer
from jmr.coordinator.errands import Errands
from jmr.coordinator.files import Files
from jmr.coordinator.refusal import Refusal, cannot_hold, lacks_module
from jmr.coordinator.worker import Answer, Line, Owner, Slot, Worker
from jmr.links.link import Link
from jmr.shuffle.files import Room
from jmr.wire.far import (
    MOST_SLOTS,
    AttemptRefused,
    Beat,
    CannotHold,
    CannotKeep,
    Carry,
    Farewell,
    Kept,
    Leaving,
    SplitNotHere,
    Taken,
    WorkerJoined,
)
from jmr.wire.frames import FrameError, Receiver
from jmr.wire.handshake import Handshake
from jmr.wire.messages import (
    GROUP_BYTES,
    NOTICE,
    TAIL_BYTES,
    Blob,
    ForkSlot,
    KillSlot,
    Message,
    OpenJob,
    Printed,
    SlotExited,
    StartMap,
    StartReduce,
    whole,
)
from jmr.wire.streams import CONTROL

__all__ = ["Caller", "RemoteOwner", "RemoteWorker"]

_MOST_NAME, _MOST_MODULE = 64, 1024
#: For a supervisor that is there to say how a slot has ended that it was told to kill.
_LAST_WORDS_SECONDS = 10.0
#: Slots that end before they are ready, in a row.
_MOST_FAILED_STARTS = 3
#: For a worker that is let go to be told why.
_FAREWELL_SECONDS = 1.0


class Caller(Protocol):
    """Whoever has a worker started on one host, and can do so again."""

    def call_again(self) -> None:
        """It was lost. Called in the loop's thread, and waits for nothing."""


class RemoteOwner(Owner, Protocol):
    """What the owner of workers on other hosts is told, and asked, besides."""

    def worker_joined(self, worker: RemoteWorker) -> None:
        """It has proved itself and said what it is: it may have a name, and fork."""

    def worker_leaves(self, worker: RemoteWorker) -> None:
        """It was told to end: its slots finish what they are at."""

    def worker_left(self, worker: RemoteWorker) -> None:
        """It is gone; its slots were told of before."""

    def slot_refused(self, slot: Slot, refusal: Refusal) -> None:
        """Its attempt is over: its host cannot take part in the job."""

    def split_not_here(self, slot: Slot) -> None:
        """It does not see what the split of its attempt reads, and waits for that. Raises FrameError if it has it."""

    def attempt_broke(self, slot: Slot, reason: str) -> None:
        """What an attempt takes or leaves cannot be read or written on this host."""

    def room(self, job: int) -> Room:
        """Where the files of a job lie."""

    def is_over(self, job: int) -> bool:
        """Whether nobody wants anything of a job any more."""


class _Stream:
    """A slot's line: one stream of the link."""

    def __init__(
        self, link: Link, number: int, on_message: Callable[[Message], None], on_close: Callable[[], None]
    ) -> None:
        self._link = link
        self._number = number
        self._receiver = Receiver(trusts=False)
        self._on_message = on_message
        self._on_close = on_close
        self.is_open = True

    def send(self, message: Message) -> None:
        self._link.send(message, self._number)

    def hear(self, part: Buffer | None) -> None:
        """Take what has come, or the stream's end."""
        if not self.is_open:
            return
        if part is None:
            self.is_open = False
            self._on_close()
            return
        for message in self._receiver.feed(part):
            if self._link.is_open:
                self._on_message(message)

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            self._link.drop(self._number)
            self._link.end(self._number)
            asyncio.get_running_loop().call_soon(self._on_close)


class _Control:
    """The supervisor's line."""

    def __init__(self, link: Link) -> None:
        self.link = link

    @property
    def is_open(self) -> bool:
        return self.link.is_open

    def send(self, message: Message) -> None:
        self.link.send(message)

    def close(self) -> None:
        self.link.close()


class RemoteWorker(Worker):
    """A worker that has come over a link.

    Parameters
    ----------
    owner
        Is told what happens, in the loop's thread.
    number
        No two of a coordinator have the same, and none is 0.
    numbers
        For its slots.
    files
        Threads for them.
    origin
        Where it came from: an address, or how ssh was told.
    """

    def __init__(self, owner: RemoteOwner, number: int, numbers: Iterator[int], files: Files, origin: str) -> None:
        super().__init__(owner, origin, 0, numbers)
        self._remote_owner = owner
        self._files = files
        self.number: int = number
        self.origin = origin
        #: What it has said of itself, first and last.
        self.about: WorkerJoined | None = None
        self.beat: Beat | None = None
        self.is_suspect = self.is_leaving = self.is_dismissed = False
        #: Who had it started, if that was us; and where it was lost, what is done about that.
        self.caller: Caller | None = None
        self.lost = ""
        self.link: Link | None = None
        #: Done with its name when it has one.
        self.joined: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._receiver = Receiver(trusts=False)
        self._errands: Errands | None = None
        self._n_failed_starts = 0

    def make_link(self, begin: Callable[[bytes], Handshake]) -> Link:
        """The link that it will come over."""
        self.link = Link(begin, self._hear, self.guard(self._lose))
        return self.link

    def join_as(self, name: str) -> None:
        """Begin to fork."""
        assert self.link is not None
        assert self.about is not None
        self.name = name
        self.n_slots = self.about.n_slots
        self._control: Line | None = _Control(self.link)
        self._errands = Errands(self, self.link, self.about, self._files)
        self.joined.set_result(name)
        self._fork_missing()

    def start(self, slot: Slot, opening: OpenJob | None, order: StartMap | StartReduce) -> None:
        assert self._errands is not None
        self._errands.begin(slot, opening, order)

    def kill(self, number: int) -> None:
        """End a slot's process; without waiting for its end, which a host that is silent would not tell."""
        slot = self._slots.get(number)
        if slot is not None:
            slot.ending = True
            if not slot.hung_up:  # how that one ends is told, since its user's code is to blame
                asyncio.get_running_loop().call_soon(self.guard(self._forget), number)
        if self._control is not None:
            self._control.send(KillSlot(number))

    def knows(self, job: int) -> bool:
        """Whether any of its slots was told of the job, and it can be asked."""
        return self._errands is not None and self._errands.knows(job) and not self.is_suspect

    def forget_job(self, job: int) -> None:
        """Its files may go."""
        if self._errands is not None:
            self._errands.forget_job(job)

    def send_beat(self) -> None:
        """Let it know that we are there."""
        if self._control is not None:
            self._control.send(Beat(0.0, 0))

    def drop(self) -> None:
        """End the connection at once."""
        if self.link is not None:
            self.link.abort()

    def dismiss(self, reason: str) -> None:
        """Tell it why it is of no use, hear nothing more of it, and end the connection soon."""
        assert self.link is not None
        self.is_dismissed = True
        self.link.send(Farewell(reason))
        self.link.close()
        asyncio.get_running_loop().call_later(_FAREWELL_SECONDS, self.link.abort)

    def guard(self, function: Callable[..., None]) -> Callable[..., None]:
        """Wrap what the loop calls: a mistake of the other end's ends the connection, one of ours is told."""
        return self._owner.guard(partial(self._careful, function))

    def _careful(self, function: Callable[..., None], *args: object) -> None:
        try:
            function(*args)
        except FrameError as error:
            self._dismiss_liar(error)

    def _dismiss_liar(self, error: FrameError) -> None:
        self.dismiss(f"it has sent what cannot be right ({error})")

    # What comes over the link.

    def _hear(self, stream: int, part: Buffer | None) -> None:
        try:
            self._take(stream, part)
        except FrameError as error:
            self._dismiss_liar(error)

    def _take(self, stream: int, part: Buffer | None) -> None:
        if stream == CONTROL:
            if part is None:
                raise FrameError("the worker has ended its own stream")
            for message in self._receiver.feed(part):
                if self.link is not None and self.link.is_open:
                    self.guard(self._hear_supervisor)(message)
        elif (slot := self._slots.get(stream)) is not None:
            assert isinstance(slot.line, _Stream)
            slot.line.hear(part)

    def _hear_supervisor(self, message: Message) -> None:
        if self.about is None:
            self._take_introduction(message)
            return
        match message:
            case Beat():
                self.beat = message
            case Kept(job, path):
                assert self._errands is not None
                self._errands.kept(job, path)
            case CannotKeep(job, reason):
                assert self._errands is not None
                self._errands.cannot_keep(job, reason)
            case Printed():
                self._check_printed(message)
                super()._hear_supervisor(message)
            case SlotExited():
                if not _are_last_words(message.blobs):
                    raise FrameError("the worker sent last words of a slot that cannot be right")
                super()._hear_supervisor(message)
            case Leaving():
                self.is_leaving = True
                self.resize(0)
                self._remote_owner.worker_leaves(self)
            case _:
                super()._hear_supervisor(message)

    def _take_introduction(self, message: Message) -> None:
        if not isinstance(message, WorkerJoined) or not 1 <= message.n_slots <= MOST_SLOTS or self.joined.done():
            self.drop()  # or it comes too late
            return
        self.about = replace(message, name=_shown(message.name) or "worker", python=_shown(message.python))
        self._remote_owner.worker_joined(self)

    def _check_printed(self, printed: Printed) -> None:
        name, _, position = printed.name.rpartition("/")
        is_ours = name == self.name and position.isdecimal()
        if not is_ours or len(printed.blobs) != 1 or printed.stream not in (1, 2, NOTICE) or printed.n_hidden < 0:
            raise FrameError("the worker sent what no slot of it has printed")

    def _lose(self) -> None:
        """The link has ended, and every slot with it."""
        self._lose_all()
        if self.about is not None:
            self._remote_owner.worker_left(self)
        if not self.joined.done():
            self.joined.set_exception(ConnectionResetError("the worker ended as soon as it had come"))
            self.joined.exception()  # looked at: nobody need wait for it

    # Slots.

    def _fork(self, position: int, control: Line) -> None:
        assert self.link is not None
        number = next(self._slot_numbers)
        hear, bury = partial(self._hear_slot, number), partial(self._bury, number)
        line = _Stream(self.link, number, self.guard(hear), self.guard(bury))
        slot = self._slots[number] = Slot(number, position, self, line)
        control.send(ForkSlot(number, slot.name))

    def _forget(self, number: int) -> None:
        """Let go of a slot that was told to end."""
        slot = self._slots.pop(number, None)
        if slot is not None:
            slot.line.close()
            self._end_errand(number)
            self._owner.slot_died(slot, None)
            self._fork_missing()

    def _bury(self, number: int) -> None:
        super()._bury(number)
        if number not in self._slots:
            self._end_errand(number)

    def _hang_up(self, number: int) -> None:
        super()._hang_up(number)
        if number in self._slots:
            asyncio.get_running_loop().call_later(_LAST_WORDS_SECONDS, self.guard(self._miss), number)

    def _miss(self, number: int) -> None:
        """Nobody has told how a slot has ended, and its attempt must not wait for ever."""
        if number in self._slots:
            self.dismiss("it does not tell how a slot has ended")

    def _lose_all(self) -> None:
        super()._lose_all()
        if self._errands is not None:
            self._errands.end_all()

    def _end_errand(self, number: int) -> None:
        assert self._errands is not None
        self._errands.end(number)

    def _may_go_on(self, reason: str) -> bool:
        self._n_failed_starts += 1
        if self._n_failed_starts >= _MOST_FAILED_STARTS:
            self.dismiss(reason)
        return self._n_failed_starts < _MOST_FAILED_STARTS

    def _hear_slot(self, number: int, message: Message) -> None:
        slot = self._slots.get(number)
        if slot is None:
            return
        match message:
            case Carry():
                assert self._errands is not None
                self._errands.take(slot, message)
            case Taken(n_bytes):
                assert self._errands is not None
                self._errands.taken(slot, n_bytes)
            case AttemptRefused(module):
                if not 0 < len(module) <= _MOST_MODULE:
                    raise FrameError("a slot lacks a module whose name cannot be right")
                self._refused(slot, lacks_module(module))
            case CannotHold(reason):
                self._refused(slot, cannot_hold(reason))
            case SplitNotHere():
                assert self._errands is not None
                self._errands.not_here(slot)
                self._remote_owner.split_not_here(slot)
            case _:
                super()._hear_slot(number, message)

    def _refused(self, slot: Slot, refusal: Refusal) -> None:
        assert self._errands is not None
        self._errands.refused(slot)
        self.refuse(slot, refusal)

    def _answered(self, slot: Slot, answer: Answer) -> None:
        assert self._errands is not None
        self._errands.answered(slot, answer)
        self._n_failed_starts = 0

    # What errands tell.

    def finish(self, slot: Slot, answer: Answer) -> None:
        """The slot's attempt is over, and what it left lies here."""
        if slot.number in self._slots:
            super()._answered(slot, answer)

    def attempt_broke(self, slot: Slot, reason: str) -> None:
        """What it takes or leaves cannot be read or written on this host."""
        self._remote_owner.attempt_broke(slot, reason)

    def refuse(self, slot: Slot, refusal: Refusal) -> None:
        """Its host cannot take part in its attempt's job."""
        self._remote_owner.slot_refused(slot, refusal)

    def room(self, job: int) -> Room:
        """Where the files of a job lie."""
        return self._remote_owner.room(job)

    def is_over(self, job: int) -> bool:
        """Whether nobody wants anything of a job any more."""
        return self._remote_owner.is_over(job)


def _shown(text: str) -> str:
    """Of what a worker says of itself, as much as can be shown in a line."""
    return "".join(c for c in text if c.isprintable() and not c.isspace())[:_MOST_NAME]


def _are_last_words(blobs: Sequence[Blob]) -> bool:
    """What a slot had printed last, and the group it was at: neither larger than it can be."""
    return len(blobs) == 2 and len(whole(blobs[0])) <= TAIL_BYTES and len(whole(blobs[1])) <= GROUP_BYTES
