"""What is between orders and answers of one worker on another host.

    begin(slot, order) ──> Keep ... Kept (functions, once a host), OpenJob, Carry ..., StartMap ──> link
    link ──Carry ...──> take: a file here ──> MapDone ──> answered ──> finish

Files of the coordinator's host are not to be seen there, so what lies in one is read and sent, and what would lie in
one is received and written; in threads, and no faster than the other side takes it. It is believed that the other end
holds the token, not that it makes no mistakes: an answer that cannot be right raises FrameError, before anything of it
counts.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from jmr.codec.values import Buffer
from jmr.coordinator.files import Files
from jmr.coordinator.refusal import Refusal, cannot_keep
from jmr.coordinator.worker import Answer, Slot
from jmr.links.link import Link
from jmr.shuffle.arriving import Arriving
from jmr.shuffle.files import Room, SpillError, room_of
from jmr.wire.far import CARRIED, Carry, ForgetJob, Keep, WorkerJoined
from jmr.wire.frames import FrameError
from jmr.wire.messages import AttemptFailed, MapDone, OpenJob, Range, ReduceDone, StartMap, StartReduce, whole
from jmr.wire.streams import FILES

__all__ = ["Errands", "ErrandsOwner"]

#: A host that has fewer bytes for it gets what is sent to one slot on disk.
_OF_MEMORY = 4
#: So many bytes of a slot's input may be on their way, else they would pile up before a slot that does not read.
_MOST_AHEAD_BYTES = 1 << 23


class ErrandsOwner(Protocol):
    """Who is told how errands end."""

    def guard(self, function: Callable[..., None]) -> Callable[..., None]:
        """Wrap what the loop calls: a FrameError ends the connection, any other mistake is ours, and told."""

    def finish(self, slot: Slot, answer: Answer) -> None:
        """The slot's attempt is over, and what it left lies here."""

    def attempt_broke(self, slot: Slot, reason: str) -> None:
        """What it takes or leaves cannot be read or written on this host."""

    def refuse(self, slot: Slot, refusal: Refusal) -> None:
        """The slot's host cannot take part in its attempt's job."""

    def room(self, job: int) -> Room:
        """Where the files of a job lie."""

    def is_over(self, job: int) -> bool:
        """Whether nobody wants anything of a job any more."""


class _CannotKeepError(Exception):
    """A job's functions cannot be kept there."""


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
    #: What of its input was sent and is not written there yet; and set while that is little.
    n_ahead: int = 0
    is_roomy: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    output: _Output | None = None
    #: All of the order is on its way.
    is_asked: bool = False
    #: Its answer is there, and waits for its output to be written.
    is_answered: bool = False


class Errands:
    """Those of one worker.

    Parameters
    ----------
    owner
        Is told how they end.
    link
        To the worker.
    about
        What it has said of itself.
    files
        Threads for them.
    """

    def __init__(self, owner: ErrandsOwner, link: Link, about: WorkerJoined, files: Files) -> None:
        self._owner = owner
        self._link = link
        self._about = about
        self._files = files
        self._errands: dict[int, _Errand] = {}
        self._n_partitions: dict[int, int] = {}
        #: By job: the errand of having its functions there, whose result is their path; and what ends it.
        self._functions: dict[int, asyncio.Task[str]] = {}
        self._kept: dict[int, asyncio.Future[str]] = {}

    def begin(self, slot: Slot, opening: OpenJob | None, order: StartMap | StartReduce) -> None:
        """Bring an order to a slot, with all that it takes."""
        if opening is not None:
            self._n_partitions[opening.job] = opening.n_partitions
        errand = self._errands[slot.number] = _Errand(order, self._n_partitions[order.job])
        self._run(slot, errand, self._deliver(slot, opening, errand))

    def end(self, number: int) -> None:
        """A slot is gone, or has refused."""
        errand = self._errands.pop(number, None)
        if errand is not None:
            for task in errand.tasks:
                task.cancel()
            if errand.output is not None:
                errand.output.file.cancel()

    def end_all(self) -> None:
        """The worker is gone."""
        for number in list(self._errands):
            self.end(number)
        for functions in self._functions.values():
            functions.cancel()

    def knows(self, job: int) -> bool:
        """Whether any slot there was told of the job."""
        return job in self._n_partitions

    def forget_job(self, job: int) -> None:
        """Its files may go."""
        if functions := self._functions.pop(job, None):
            functions.cancel()
        if self._n_partitions.pop(job, None) is not None:
            self._link.send(ForgetJob(job))

    def kept(self, job: int, path: str) -> None:
        """The job's functions are there."""
        kept = self._kept.get(job)
        if kept is not None and not kept.done():
            kept.set_result(path)

    def cannot_keep(self, job: int, reason: str) -> None:
        """The job's functions cannot be there."""
        kept = self._kept.get(job)
        if kept is not None and not kept.done():
            kept.set_exception(_CannotKeepError(reason))
            kept.exception()  # looked at: perhaps nobody waits for it any more

    def take(self, slot: Slot, piece: Carry) -> None:
        """Take some of the map output that a slot's next answer tells of. Raises FrameError."""
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

    def taken(self, slot: Slot, n_bytes: int) -> None:
        """A slot has written some of its input. Raises FrameError if it was not sent that."""
        errand = self._errands.get(slot.number)
        if errand is None or not 0 < n_bytes <= errand.n_ahead:
            raise FrameError("a slot has taken what nobody has sent")
        self._count_ahead(errand, -n_bytes)

    def refused(self, slot: Slot) -> None:
        """A slot does not do what it was asked for. Raises FrameError if it was not."""
        self._asked(slot)
        self.end(slot.number)

    def not_here(self, slot: Slot) -> None:
        """A slot waits for its order once more, with what its split reads. Raises FrameError if it takes none."""
        errand = self._asked(slot)
        if not isinstance(errand.order, StartMap) or errand.output is not None:
            raise FrameError("a slot waits for what it was not to read")
        self.end(slot.number)

    def answered(self, slot: Slot, answer: Answer) -> None:
        """A slot has answered; `finish` is called when what it left is written. Raises FrameError."""
        errand = self._asked(slot)
        _check(answer, errand)
        if isinstance(answer, MapDone):
            answer = replace(answer, kept_split=False)  # what it may hold on to is its own copy
        if isinstance(answer, MapDone) and errand.output is not None:
            self._run(slot, errand, self._finish(slot, answer, errand.output))
        else:
            self._finish_now(slot, answer)

    def _asked(self, slot: Slot) -> _Errand:
        """What a slot's answer is to."""
        errand = self._errands.get(slot.number)
        if errand is None or not errand.is_asked or errand.is_answered:
            raise FrameError("a slot answered what nobody has asked")
        errand.is_answered = True
        return errand

    async def _finish(self, slot: Slot, answer: MapDone, output: _Output) -> None:
        path = await output.file
        self._owner.guard(self._finish_now)(slot, replace(answer, path=path))

    def _finish_now(self, slot: Slot, answer: Answer) -> None:
        if slot.number in self._errands:
            self.end(slot.number)
            self._owner.finish(slot, answer)

    # Its input goes there.

    async def _deliver(self, slot: Slot, opening: OpenJob | None, errand: _Errand) -> None:
        if opening is not None:
            slot.line.send(await self._opened_there(opening))
        order, ranges = _without_files(errand.order)
        n_bytes = sum(length for _, _, length, _ in ranges)
        in_memory = self._has_memory_for(n_bytes)
        async for piece in self._files.pieces(ranges):
            slot.line.send(Carry(order.job, n_bytes, in_memory, blobs=[piece]))
            self._count_ahead(errand, len(piece))
            await errand.is_roomy.wait()
            await self._link.room()
        errand.is_asked = True
        slot.line.send(order)

    async def _opened_there(self, opening: OpenJob) -> OpenJob:
        """The message that opens a job, with paths of that host."""
        functions_at = None
        if opening.functions_at is not None:
            path = await self._functions_there(opening.job, opening.functions_at)
            functions_at = (path, *opening.functions_at[1:])
        there = room_of(opening.job, self._about.directory, self._about.memory_directory, self._about.memory_bytes)
        return replace(
            opening,
            directory=there.directory,
            memory_directory=there.memory_directory,
            kept_directory=None,  # that is a directory of this host
            functions_at=functions_at,
        )

    async def _functions_there(self, job: int, at: Range) -> str:
        """Where that host has the job's functions, which are sent if need be, once."""
        if job not in self._functions:
            self._functions[job] = asyncio.ensure_future(self._send_functions(job, at))
        return await asyncio.shield(self._functions[job])

    async def _send_functions(self, job: int, at: Range) -> str:
        in_memory = self._has_memory_for(at[2])
        kept = self._kept[job] = asyncio.get_running_loop().create_future()
        try:
            async for piece in self._files.pieces([at]):
                self._link.send(Keep(job, at[2], in_memory, blobs=[piece]), FILES)
                await self._link.room()
                if kept.done():
                    break
            path: str = await kept
        finally:
            del self._kept[job]
        return path

    def _count_ahead(self, errand: _Errand, n_bytes: int) -> None:
        errand.n_ahead += n_bytes
        if errand.n_ahead <= _MOST_AHEAD_BYTES:
            errand.is_roomy.set()
        else:
            errand.is_roomy.clear()

    def _has_memory_for(self, n_bytes: int) -> bool:
        return n_bytes * _OF_MEMORY * self._about.n_slots <= self._about.memory_bytes

    def _run(self, slot: Slot, errand: _Errand, part: Awaitable[None]) -> None:
        task = asyncio.ensure_future(self._told_of_failures(slot, part))
        errand.tasks.add(task)
        task.add_done_callback(errand.tasks.discard)

    async def _told_of_failures(self, slot: Slot, part: Awaitable[None]) -> None:
        try:
            await part
        except (ConnectionError, asyncio.CancelledError):  # its slot is lost, and that is told otherwise
            return
        except SpillError as error:
            self._owner.guard(self._owner.attempt_broke)(slot, str(error))
        except _CannotKeepError as error:
            self.end(slot.number)
            self._owner.guard(self._owner.refuse)(slot, cannot_keep(str(error)))
        except Exception as error:
            self._owner.guard(_fail)(error)

    # Its output comes here.

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
        room = replace(self._owner.room(order.job), memory_bytes=order.memory_bytes)
        file = Arriving(room, f"map-{order.task}-{order.number}", output.n_bytes)
        try:
            while file.n_written < output.n_bytes:
                piece = await output.pieces.get()
                await self._files.run(file.write, piece)
                self._count_unwritten(output, -sys.getsizeof(piece))
        except BaseException:
            # Of a job that is over the directories were removed, and one was perhaps made once more for this file.
            await self._files.discard(file, is_last=self._owner.is_over(order.job))
            raise
        await self._files.run(file.close)
        return str(file.path)

    def _count_unwritten(self, output: _Output, n_bytes: int) -> None:
        output.n_unwritten += n_bytes
        self._link.note_unwritten(n_bytes)


def _fail(error: Exception) -> None:
    raise error


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
                and min(answer.n_records, answer.n_pairs, answer.n_failures, answer.peak_bytes) >= 0
                and 0 <= answer.n_combined_pairs <= answer.n_pairs
                and min(answer.seconds, answer.flush_seconds) >= 0
                and answer.path == (None if output is None else CARRIED)
                and sum(answer.lengths) == (len(whole(answer.blobs[1])) if output is None else output.n_taken)
                and (output is None or output.n_taken == output.n_bytes)
            )
        case ReduceDone():
            is_right = (
                isinstance(errand.order, StartReduce)
                and len(answer.blobs) == 2
                and min(answer.n_failures, answer.peak_bytes) >= 0
            )
        case AttemptFailed():
            is_right = len(answer.blobs) == 1
    if not is_right:
        raise FrameError("a slot sent an answer that cannot be right")
