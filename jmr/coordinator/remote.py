"""A worker on another host: one link for it and all of its slots.

    link ──stream 0──> WorkerJoined, Beat, SlotExited, Printed, Drained, Leaving
         ──a slot's──> SlotReady, Carry ..., MapDone, ...         what is carried goes to a file, then the answer counts
    start(slot, order) ──> Keep ... Kept (functions, once a host), OpenJob, Carry ..., StartMap ──> link

Files of the coordinator's host are not to be seen there, so what lies in one is read and sent, and what would lie in
one is received and written; in threads, and no faster than the other side takes it. It is believed that the other end
holds the token, not that it makes no mistakes: an answer that cannot be right ends the connection, before anything of
it counts.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from jmr.codec.values import Buffer
from jmr.coordinator.files import Files
from jmr.coordinator.worker import Answer, Line, Owner, Slot, Worker
from jmr.links.link import Link
from jmr.shuffle.arriving import Arriving
from jmr.shuffle.files import Room, SpillError
from jmr.wire.far import AttemptRefused, Beat, Carry, ForgetJob, Keep, Kept, Leaving, WorkerJoined
from jmr.wire.frames import FrameError, Receiver
from jmr.wire.handshake import Handshake
from jmr.wire.messages import (
    AttemptFailed,
    ForkSlot,
    KillSlot,
    MapDone,
    Message,
    OpenJob,
    Printed,
    Range,
    ReduceDone,
    StartMap,
    StartReduce,
    whole,
)
from jmr.wire.streams import CONTROL, FILES
from jmr.worker.abroad import CARRIED

__all__ = ["RemoteOwner", "RemoteWorker"]

_MOST_SLOTS = 4096
_MOST_NAME, _MOST_MODULE = 64, 1024
#: A host that has fewer bytes for it gets what is sent to one slot on disk.
_OF_MEMORY = 4
#: More than this that is not written yet: then nothing more is read.
_MOST_UNWRITTEN_BYTES = 1 << 24
#: For a supervisor that is there to say how a slot has ended that it was told to kill.
_LAST_WORDS_SECONDS = 10.0
#: Slots that end before they are ready, in a row.
_MOST_FAILED_STARTS = 3


class RemoteOwner(Owner, Protocol):
    """What the owner of workers on other hosts is told, and asked, besides."""

    def worker_joined(self, worker: RemoteWorker) -> None:
        """It has proved itself and said what it is: it may have a name, and fork."""

    def worker_left(self, worker: RemoteWorker) -> None:
        """It is gone; its slots were told of before."""

    def slot_refused(self, slot: Slot, module: str) -> None:
        """Its attempt is over: a module is missing on its host."""

    def attempt_broke(self, slot: Slot, reason: str) -> None:
        """What an attempt takes or leaves cannot be read or written on this host."""

    def room(self, job: int) -> Room:
        """Where the files of a job lie."""


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


@dataclass(slots=True)
class _Output:
    """A map output on its way here."""

    n_bytes: int
    pieces: asyncio.Queue[Buffer] = field(default_factory=asyncio.Queue)
    n_taken: int = 0
    #: What its pieces take in memory.
    n_unwritten: int = 0
    #: Gives its path.
    file: asyncio.Task[str] = field(init=False)


@dataclass(slots=True)
class _Errand:
    """What is between an order and its answer; by slot."""

    order: StartMap | StartReduce
    n_partitions: int
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    output: _Output | None = None
    #: All of the order is on its way.
    is_asked: bool = False
    #: Its answer is there, and waits for its output to be written.
    is_answered: bool = False


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
        self.is_suspect = self.is_leaving = False
        self.link: Link | None = None
        #: Done with its name when it has one.
        self.joined: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._receiver = Receiver(trusts=False)
        self._errands: dict[int, _Errand] = {}
        self._n_partitions: dict[int, int] = {}
        #: By job: the errand of having its functions there, whose result is their path; and what ends it.
        self._functions: dict[int, asyncio.Task[str]] = {}
        self._kept: dict[int, asyncio.Future[str]] = {}
        self._n_unwritten = 0
        self._n_failed_starts = 0

    def make_link(self, begin: Callable[[bytes], Handshake]) -> Link:
        """The link that it will come over."""
        self.link = Link(begin, self._hear, self._guard(self._lose))
        return self.link

    def join_as(self, name: str) -> None:
        """Begin to fork."""
        assert self.link is not None
        assert self.about is not None
        self.name = name
        self.n_slots = self.about.n_slots
        self._control: Line | None = _Control(self.link)
        self.joined.set_result(name)
        self._fork_missing()

    def start(self, slot: Slot, opening: OpenJob | None, order: StartMap | StartReduce) -> None:
        if opening is not None:
            self._n_partitions[opening.job] = opening.n_partitions
        errand = self._errands[slot.number] = _Errand(order, self._n_partitions[order.job])
        self._run_errand(slot, errand, self._deliver(slot, opening, errand))

    def kill(self, number: int) -> None:
        """End a slot's process; without waiting for its end, which a host that is silent would not tell."""
        slot = self._slots.get(number)
        if slot is not None:
            slot.ending = True
            if not slot.hung_up:  # how that one ends is told, since its user's code is to blame
                asyncio.get_running_loop().call_soon(self._guard(self._forget), number)
        if self._control is not None:
            self._control.send(KillSlot(number))

    def knows(self, job: int) -> bool:
        """Whether any of its slots was told of the job, and it can be asked."""
        return job in self._n_partitions and not self.is_suspect

    def forget_job(self, job: int) -> None:
        """Its files may go."""
        if functions := self._functions.pop(job, None):
            functions.cancel()
        if self._n_partitions.pop(job, None) is not None and self._control is not None:
            self._control.send(ForgetJob(job))

    def send_beat(self) -> None:
        """Let it know that we are there."""
        if self._control is not None:
            self._control.send(Beat(0.0, 0))

    def drop(self) -> None:
        """End the connection at once."""
        if self.link is not None:
            self.link.abort()

    def _guard(self, function: Callable[..., None]) -> Callable[..., None]:
        """Wrap what the loop calls: a mistake of the other end's ends the connection, one of ours is told."""
        return self._owner.guard(partial(self._careful, function))

    def _careful(self, function: Callable[..., None], *args: object) -> None:
        try:
            function(*args)
        except FrameError:
            self.drop()

    # What comes over the link.

    def _hear(self, stream: int, part: Buffer | None) -> None:
        if stream == CONTROL:
            if part is None:
                raise FrameError("the worker has ended its own stream")
            for message in self._receiver.feed(part):
                if self.link is not None and self.link.is_open:
                    self._guard(self._hear_supervisor)(message)
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
                kept = self._kept.get(job)
                if kept is not None and not kept.done():
                    kept.set_result(path)
            case Printed():
                self._check_printed(message)
                super()._hear_supervisor(message)
            case Leaving():
                self.is_leaving = True
                self.resize(0)
            case _:
                super()._hear_supervisor(message)

    def _take_introduction(self, message: Message) -> None:
        if not isinstance(message, WorkerJoined) or not 1 <= message.n_slots <= _MOST_SLOTS or self.joined.done():
            self.drop()  # or it comes too late
            return
        self.about = replace(message, name=_shown(message.name) or "worker", python=_shown(message.python))
        self._remote_owner.worker_joined(self)

    def _check_printed(self, printed: Printed) -> None:
        name, _, position = printed.name.rpartition("/")
        if len(printed.blobs) != 1 or printed.stream not in (1, 2) or name != self.name or not position.isdecimal():
            raise FrameError("the worker sent what no slot of it has printed")

    def _lose(self) -> None:
        """The link has ended, and every slot with it."""
        self._lose_all()
        for functions in self._functions.values():
            functions.cancel()
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
        line = _Stream(self.link, number, self._guard(hear), self._guard(bury))
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
            asyncio.get_running_loop().call_later(_LAST_WORDS_SECONDS, self._guard(self._miss), number)

    def _miss(self, number: int) -> None:
        """Nobody has told how a slot has ended, and its attempt must not wait for ever."""
        if number in self._slots:
            self.drop()

    def _lose_all(self) -> None:
        super()._lose_all()
        for number in list(self._errands):
            self._end_errand(number)

    def _may_go_on(self, reason: str) -> bool:
        self._n_failed_starts += 1
        if self._n_failed_starts >= _MOST_FAILED_STARTS:
            self.drop()
        return self._n_failed_starts < _MOST_FAILED_STARTS

    def _hear_slot(self, number: int, message: Message) -> None:
        slot = self._slots.get(number)
        if slot is None:
            return
        match message:
            case Carry():
                self._take(slot, message)
            case AttemptRefused(module):
                self._refused(slot, module)
            case _:
                super()._hear_slot(number, message)

    # An attempt: its input goes there.

    async def _deliver(self, slot: Slot, opening: OpenJob | None, errand: _Errand) -> None:
        assert self.link is not None
        if opening is not None:
            slot.line.send(await self._opened_there(opening))
        order, ranges = _without_files(errand.order)
        n_bytes = sum(length for _, _, length, _ in ranges)
        in_memory = self._has_memory_for(n_bytes)
        async for piece in self._files.pieces(ranges):
            slot.line.send(Carry(order.job, n_bytes, in_memory, blobs=[piece]))
            await self.link.room()
        errand.is_asked = True
        slot.line.send(order)

    async def _opened_there(self, opening: OpenJob) -> OpenJob:
        """The message that opens a job, with paths of that host."""
        assert self.about is not None
        functions_at = None
        if opening.functions_at is not None:
            path = await self._functions_there(opening.job, opening.functions_at)
            functions_at = (path, *opening.functions_at[1:])
        memory = self.about.memory_directory
        return replace(
            opening,
            directory=f"{self.about.directory}/job-{opening.job}",
            memory_directory=None if memory is None else f"{memory}/job-{opening.job}",
            functions_at=functions_at,
        )

    async def _functions_there(self, job: int, at: Range) -> str:
        """Where that host has the job's functions, which are sent if need be, once."""
        if job not in self._functions:
            self._functions[job] = asyncio.ensure_future(self._send_functions(job, at))
        return await asyncio.shield(self._functions[job])

    async def _send_functions(self, job: int, at: Range) -> str:
        assert self.link is not None
        in_memory = self._has_memory_for(at[2])
        kept = self._kept[job] = asyncio.get_running_loop().create_future()
        try:
            async for piece in self._files.pieces([at]):
                self.link.send(Keep(job, at[2], in_memory, blobs=[piece]), FILES)
                await self.link.room()
            path: str = await kept
        finally:
            del self._kept[job]
        return path

    def _has_memory_for(self, n_bytes: int) -> bool:
        assert self.about is not None
        return n_bytes * _OF_MEMORY * self.about.n_slots <= self.about.memory_bytes

    def _run_errand(self, slot: Slot, errand: _Errand, part: Awaitable[None]) -> None:
        task = asyncio.ensure_future(self._told_of_failures(slot, part))
        errand.tasks.add(task)
        task.add_done_callback(errand.tasks.discard)

    async def _told_of_failures(self, slot: Slot, part: Awaitable[None]) -> None:
        try:
            await part
        except (ConnectionError, asyncio.CancelledError):  # its slot is lost, and that is told otherwise
            return
        except SpillError as error:
            self._owner.guard(self._remote_owner.attempt_broke)(slot, str(error))
        except Exception as error:
            self._owner.guard(_fail)(error)

    def _end_errand(self, number: int) -> None:
        errand = self._errands.pop(number, None)
        if errand is not None:
            for task in errand.tasks:
                task.cancel()
            if errand.output is not None:
                errand.output.file.cancel()

    # An attempt: its output comes here.

    def _take(self, slot: Slot, piece: Carry) -> None:
        errand = self._errands.get(slot.number)
        if errand is None or not isinstance(errand.order, StartMap) or not errand.is_asked or errand.is_answered:
            raise FrameError("a slot sent an output that nobody has asked for")
        blob = whole(piece.blobs[0]) if len(piece.blobs) == 1 else b""
        n_taken = len(blob) + (0 if errand.output is None else errand.output.n_taken)
        if not len(blob) or n_taken > (piece.n_bytes if errand.output is None else errand.output.n_bytes):
            raise FrameError("a slot sent more than it had said, or nothing")
        if errand.output is None:
            errand.output = self._begin_output(errand.order, piece.n_bytes)
        errand.output.n_taken = n_taken
        if not errand.output.file.done():  # else it cannot be written, and that is told when the answer has come
            errand.output.pieces.put_nowait(blob)
            self._count_unwritten(errand.output, sys.getsizeof(blob))

    def _begin_output(self, order: StartMap, n_bytes: int) -> _Output:
        output = _Output(n_bytes)
        output.file = asyncio.ensure_future(self._write(order, output))
        output.file.add_done_callback(partial(self._end_output, output))
        return output

    def _end_output(self, output: _Output, task: asyncio.Task[str]) -> None:
        """Nobody waits for its pieces any more; and perhaps nobody for the task, whose failure is no secret."""
        output.pieces = asyncio.Queue()
        self._count_unwritten(output, -output.n_unwritten)
        if not task.cancelled():
            task.exception()

    async def _write(self, order: StartMap, output: _Output) -> str:
        """Write a map output where reduce tasks will find it; returns the file's path."""
        room = replace(self._remote_owner.room(order.job), memory_bytes=order.memory_bytes)
        file = Arriving(room, f"map-{order.task}-{order.number}", output.n_bytes)
        try:
            while file.n_written < output.n_bytes:
                piece = await output.pieces.get()
                await self._files.run(file.write, piece)
                self._count_unwritten(output, -sys.getsizeof(piece))
        except BaseException:
            file.discard()
            raise
        await self._files.run(file.close)
        return str(file.path)

    def _count_unwritten(self, output: _Output, n_bytes: int) -> None:
        assert self.link is not None
        output.n_unwritten += n_bytes
        self._n_unwritten += n_bytes
        if self._n_unwritten > _MOST_UNWRITTEN_BYTES:
            self.link.pause_reading()
        else:
            self.link.resume_reading()

    def _refused(self, slot: Slot, module: str) -> None:
        self._asked(slot)
        if not 0 < len(module) <= _MOST_MODULE:
            raise FrameError("a slot lacks a module whose name cannot be right")
        self._end_errand(slot.number)
        self._remote_owner.slot_refused(slot, module)

    def _asked(self, slot: Slot) -> _Errand:
        """What a slot's answer is to."""
        errand = self._errands.get(slot.number)
        if errand is None or not errand.is_asked or errand.is_answered:
            raise FrameError("a slot answered what nobody has asked")
        errand.is_answered = True
        return errand

    def _answered(self, slot: Slot, answer: Answer) -> None:
        errand = self._asked(slot)
        _check(answer, errand)
        self._n_failed_starts = 0
        if isinstance(answer, MapDone) and errand.output is not None:
            self._run_errand(slot, errand, self._finish(slot, answer, errand.output))
        else:
            self._finish_now(slot, answer)

    async def _finish(self, slot: Slot, answer: MapDone, output: _Output) -> None:
        path = await output.file
        self._guard(self._finish_now)(slot, replace(answer, path=path))

    def _finish_now(self, slot: Slot, answer: Answer) -> None:
        if slot.number in self._slots:
            self._errands.pop(slot.number, None)
            super()._answered(slot, answer)


def _fail(error: Exception) -> None:
    raise error


def _shown(text: str) -> str:
    """Of what a worker says of itself, as much as can be shown in a line."""
    return "".join(c for c in text if c.isprintable() and not c.isspace())[:_MOST_NAME]


def _without_files(order: StartMap | StartReduce) -> tuple[StartMap | StartReduce, list[Range]]:
    """The order with ranges of one file that is sent before; and what that file is made of."""
    if isinstance(order, StartMap):
        at = order.split_at
        return (order, []) if at is None else (replace(order, split_at=(CARRIED, 0, *at[2:])), [at])
    ranges, inputs, offset = [], [], 0
    for split, where in order.inputs:
        if where[0] is None:
            inputs.append((split, where))
        else:
            inputs.append((split, (CARRIED, offset, *where[2:])))
            ranges.append(where)
            offset += where[2]
    return replace(order, inputs=inputs), ranges


def _check(answer: Answer, errand: _Errand) -> None:
    """Raise FrameError for an answer that cannot be right."""
    match answer:
        case MapDone():
            output = errand.output
            is_right = (
                isinstance(errand.order, StartMap)
                and len(answer.blobs) == 2
                and len(answer.lengths) == errand.n_partitions
                and min(answer.lengths, default=0) >= 0
                and len(answer.crcs) in (0, errand.n_partitions)
                and min(answer.n_records, answer.n_pairs, answer.n_failures) >= 0
                and min(answer.seconds, answer.flush_seconds) >= 0
                and answer.path == (None if output is None else CARRIED)
                and sum(answer.lengths) == (len(whole(answer.blobs[1])) if output is None else output.n_taken)
                and (output is None or output.n_taken == output.n_bytes)
            )
        case ReduceDone():
            is_right = isinstance(errand.order, StartReduce) and len(answer.blobs) == 2 and answer.n_failures >= 0
        case AttemptFailed():
            is_right = len(answer.blobs) == 1
    if not is_right:
        raise FrameError("a slot sent an answer that cannot be right")
