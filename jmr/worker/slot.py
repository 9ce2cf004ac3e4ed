"""A slot: runs attempts, one at a time, until its coordinator is gone.

    OpenJob ──> functions, surroundings
    StartMap / StartReduce ──> tasks ──> MapDone / ReduceDone / AttemptFailed
    CloseJob ──> forget

User code runs here. Whatever it raises, SystemExit included, becomes an answer; what ends the process is the
supervisor's to tell.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import faulthandler
import gc
import io
import os
import socket
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from jmr.codec import process
from jmr.codec.classes import know_as
from jmr.codec.failures import raised_from
from jmr.codec.functions import KNOWN_AS
from jmr.codec.values import Buffer, dump, dump_at_most, load, swap_classes
from jmr.shuffle.files import NO_MEMORY, Dealt, Room, SpillError, Stored, fetch, fetch_all, let_go, store, write_all
from jmr.shuffle.runs import Runs
from jmr.sources.base import NotHereError
from jmr.tasks.contract import Failure, Failures, PassThroughError, TaskError
from jmr.tasks.map import NOWHERE, MapTask, run_map
from jmr.tasks.memory import uncollected
from jmr.tasks.reduce import Inputs, ReduceTask, deal, run_reduce
from jmr.wire.frames import Receiver, encode
from jmr.wire.messages import (
    CANNOT_ANSWER,
    AttemptFailed,
    Blob,
    CloseJob,
    MapDone,
    Message,
    OpenJob,
    Range,
    ReduceDone,
    SlotReady,
    StartMap,
    StartReduce,
    whole,
)
from jmr.worker.modules import Generation, UserModules
from jmr.worker.notices import Hearing, Notices, identity_of, write_to
from jmr.worker.output import mark
from jmr.worker.peak import forget_peak_memory, peak_memory_bytes
from jmr.worker.spilling import SlotMemory, Spiller, end_copy
from jmr.worker.spot import Spot
from jmr.worker.surroundings import Surroundings

if TYPE_CHECKING:
    from jmr.worker.abroad import Abroad
    from jmr.worker.imports import Installed

__all__ = ["Slot"]

#: Young objects before a collection: user code makes lists by the million, and few of them in cycles.
_GC_THRESHOLD = 50_000
#: Of the values that combinefn failed on: a few dozen.
_FAILED_GROUP_BYTES = 1 << 24


@dataclass(slots=True)
class _OpenJob:
    """A job as this slot knows it: opened at its first attempt here."""

    settings: OpenJob
    functions: dict[str, Any] | None = None
    #: The modules that they are made of.
    generation: Generation | None = None
    #: Which warnings and log records it wants to hear of.
    hearing: Hearing | None = None


@dataclass(slots=True)
class _Inputs:
    """The blobs of a reduce task, each time read anew."""

    read: Callable[[], Iterator[tuple[int, Buffer]]]

    def __iter__(self) -> Iterator[tuple[int, Buffer]]:
        return self.read()


class Slot:
    """The loop of one slot's process."""

    def __init__(self, number: int, connection: socket.socket, spot: Spot, crash_file: int) -> None:
        self._number = number
        self._pid = os.getpid()
        self._crash_file = crash_file
        self._connection = connection
        self._spot = spot
        self._identity = identity_of(connection.fileno())
        self._receiver = Receiver()
        self._jobs: dict[int, _OpenJob] = {}
        self._current_job: int | None = None
        self._own = Surroundings.here()
        #: Set where this host is not the coordinator's.
        self._abroad: Abroad | None = None
        self._modules = UserModules()
        #: Those that the classes which travelled by value are made of.
        self._classes_of: Generation | Installed = self._modules.generation
        #: Copies of the pipes at fds 1 and 2, which user code may close or turn elsewhere.
        self._pipes = {stream: os.dup(stream) for stream in (1, 2)}
        self._notices = Notices(write_to(self._pipes[2]))
        self._spiller = Spiller()

    def run(self) -> NoReturn:
        """Answer messages until the coordinator hangs up; never returns."""
        _become_a_slot(self._crash_file)
        # A child that user code forks must not keep the connection open when this process ends.
        os.register_at_fork(after_in_child=self._connection.close)
        self._send(SlotReady(self._number))
        for message in self._messages():
            match message:
                case OpenJob(job=job):
                    if message.is_remote and self._abroad is None:
                        from jmr.worker.abroad import Abroad  # this host's own slots need none of it

                        self._abroad = Abroad(self._number, lambda job: self._jobs[job].settings)
                    self._jobs[job] = _OpenJob(message)
                case CloseJob(job):
                    self._jobs.pop(job, None)
                    if self._abroad is not None:
                        self._abroad.close_job(job)
                case StartMap() | StartReduce():
                    self._answer(message)
                    del message  # its split need not stay in memory while the slot waits
                case _:
                    assert self._abroad is not None
                    self._send(self._abroad.take(message))
        os._exit(0)

    def _answer(self, message: StartMap | StartReduce) -> None:
        try:
            answer = self._attempt(message)
            if self._abroad is not None:
                self._abroad.leave_attempt()
            # It may have been closed, and be something of the user's now.
            if identity_of(self._connection.fileno()) != self._identity:
                os._exit(CANNOT_ANSWER)
            self._send(answer)
        except BaseException:  # user code closed the connection, or took something away that Python itself needs
            os._exit(CANNOT_ANSWER)

    def _messages(self) -> Iterator[Message]:
        while n := self._connection.recv_into(self._receiver.buffer()):
            yield from self._receiver.received(n)

    def _send(self, message: Message) -> None:
        write_all(self._connection.fileno(), encode(message))

    def _attempt(self, message: StartMap | StartReduce) -> Message:
        began = time.time()
        try:
            functions = self._enter_job(message.job)
            if isinstance(message, StartMap):
                return self._map(message, functions)
            return self._reduce(message, functions)
        except TaskError as error:
            return self._refusal([error.failure]) or _failed(_with_group(error))
        except SpillError as error:
            return self._told(error)
        except PassThroughError as error:
            return self._told(error.original)
        except NotHereError:
            assert self._abroad is not None
            return self._abroad.not_here()
        except BaseException as error:
            return _failed(Failure("slot", "", None, raised_from(error), refused=False))
        finally:
            self._spot.tell(NOWHERE)
            self._modules.note(began)
            _flush()
            self._notices.tell_repeated()

    def _told(self, error: BaseException) -> Message:
        """The answer where a file cannot be written or read, which is no fault of this attempt's functions."""
        if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EMFILE:
            os._exit(CANNOT_ANSWER)  # what ran here before has kept all descriptors: only a new slot helps
        if self._abroad is not None:
            return self._abroad.cannot_hold(error)
        return _failed(Failure("spill", "", None, raised_from(error), refused=True))

    def _enter_job(self, number: int) -> dict[str, Any]:
        """Take on the job's surroundings if another job ran here last; unpickle its functions once."""
        job = self._jobs[number]
        if self._current_job == number and job.functions is not None:
            return job.functions
        if self._current_job != number:
            self._open_streams(number)
            self._notices.begin_job()
            self._spiller.listen()
            self._take_on_surroundings(number, job)
            self._current_job = number
            forget_peak_memory()
        if job.functions is None:
            job.functions = self._functions_of(job)
        assert job.hearing is not None
        job.hearing.take_on()
        return job.functions

    def _functions_of(self, job: _OpenJob) -> dict[str, Any]:
        """Unpickle them. What their modules warn of while they are imported, the kernel has heard before."""
        at = job.settings.functions_at
        blob = whole(job.settings.blobs[0]) if at is None else fetch(at)
        warnings.simplefilter("ignore")
        try:
            functions: dict[str, Any] = load(blob)
        except Exception as error:
            raise TaskError(Failure("functions", "", None, raised_from(error), refused=False)) from error
        for cls, identity in functions.get(KNOWN_AS, ()):
            know_as(cls, identity)
        return functions

    def _take_on_surroundings(self, number: int, job: _OpenJob) -> None:
        """Work where the job's kernel does, with the modules that the job has had here, or none that are of old."""
        if self._abroad is not None:
            self._abroad.leave_job()
        path = list(sys.path)
        surroundings = load(whole(job.settings.blobs[1])).over(self._own)
        surroundings.take_on()
        job.hearing = surroundings.hearing
        if job.generation is not None:
            self._modules.enter(job.generation)
        elif sys.path == path:
            self._modules.forget_changed()
        else:
            self._modules.forget()
        job.generation = self._modules.generation
        if self._abroad is None:
            self._take_on_classes(job.generation)
        else:
            self._take_on_classes(self._abroad.enter_job(number))
            self._modules.skip()

    def _take_on_classes(self, of: Generation | Installed) -> None:
        """Know the classes that are made of these modules, and none of the same names that are made of others."""
        if of is not self._classes_of:
            self._classes_of.classes = swap_classes(of.classes)
            of.classes = {}
            self._classes_of = of

    def _open_streams(self, job: int) -> None:
        """Undo what the last job did to the streams; say whose output comes now."""
        try:
            for stream, pipe in self._pipes.items():
                os.dup2(pipe, stream)
                os.write(pipe, mark(job))
        except OSError:  # it closed every descriptor there is: only a new slot helps
            os._exit(CANNOT_ANSWER)
        sys.stdout, sys.stderr = _printer(1), _printer(2)
        sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr  # type: ignore[misc]  # they led to the supervisor's

    def _map(self, message: StartMap, functions: dict[str, Any]) -> Message:
        settings = self._jobs[message.job].settings
        room = Room(settings.directory, settings.memory_directory, message.memory_bytes)
        name = f"map-{message.task}-{message.number}"
        split = whole(message.blobs[0]) if message.split_at is None else self._fetch(message.split_at)
        with self._spiller.attempt(room, name, settings.n_partitions) as (spilling, runs):
            task = MapTask(
                mapfn=functions["mapfn"],
                combinefn=functions["combinefn"],
                n_partitions=settings.n_partitions,
                skips=settings.skips,
                leave_out=frozenset(message.leave_out),
                cursor=self._spot.tell if message.careful else None,
                at_group=self._spot.tell_group if message.careful else None,
                spilling=spilling,
                asks=self._abroad is not None,
            )
            with self._alone():
                output = run_map(task, split)
            if refusal := self._refusal(output.failures.first):
                return refusal
            if spilling.n_runs:
                stored = self._joined(message, runs)
            else:
                stored = self._stored(message, output.partitions, name, room)
        output.partitions.clear()  # arrays that mapfn passed on lie in the split
        return MapDone(
            n_records=output.n_records,
            n_pairs=output.n_pairs,
            n_combined_pairs=output.n_combined_pairs,
            unstable=output.unstable,
            seconds=output.seconds,
            flush_seconds=output.flush_seconds,
            n_failures=output.failures.n_failures,
            peak_bytes=peak_memory_bytes(),
            kept_split=not let_go(split),
            path=stored.path,
            lengths=stored.lengths,
            crcs=stored.crcs,
            blobs=[_dump_failures(output.failures), stored.inline],
        )

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Only one process leaves this block, however many user code has forked: the others have nothing to answer."""
        try:
            yield
        finally:
            end_copy(self._pid)

    def _stored(self, message: StartMap, partitions: Sequence[list[Buffer]], name: str, room: Room) -> Stored:
        """Put a map output where reduce tasks find it, or send it to where that is."""
        if self._abroad is not None:
            return self._abroad.store(message, partitions, self._send)
        kept = self._jobs[message.job].settings.kept_directory
        if kept is not None:
            with contextlib.suppress(SpillError):  # the job can go on where that disk is full; the kernel says so
                return store(partitions, name, Room(kept, None, NO_MEMORY))
        return store(partitions, name, room)

    def _joined(self, message: StartMap, runs: Runs) -> Stored:
        """The same with one that was spilled."""
        if self._abroad is not None:
            return self._abroad.store_runs(message, runs, self._send)
        settings = self._jobs[message.job].settings
        if settings.kept_directory is not None:
            with contextlib.suppress(SpillError):
                return runs.join(settings.kept_directory)
        return runs.join(settings.directory)

    def _refusal(self, failures: Sequence[Failure]) -> Message | None:
        return None if self._abroad is None else self._abroad.refusal(failures)

    def _reduce(self, message: StartReduce, functions: dict[str, Any]) -> Message:
        task = ReduceTask(
            reducefn=functions["reducefn"],
            combinefn=functions["combinefn"],
            skips=self._jobs[message.job].settings.skips,
            leave_out=frozenset(message.leave_out),
            cursor=self._spot.tell if message.careful else None,
            memory=SlotMemory(),
            out=functions.get("out"),
        )
        with self._alone():
            pieces, failures = run_reduce(task, self._parts(message))
        if refusal := self._refusal(failures.first):
            return refusal
        return ReduceDone(failures.n_failures, peak_memory_bytes(), blobs=[_dump_failures(failures), pieces])

    def _parts(self, message: StartReduce) -> Iterator[Inputs]:
        """What the task reads: all of it, or what does not fit into memory at once part by part."""
        inputs = _Inputs(partial(self._inputs, message.inputs, message.blobs))
        if message.n_parts == 1:
            yield inputs
            return
        settings = self._jobs[message.job].settings
        name = f"reduce-{message.task}-{message.number}"
        with Dealt(settings.directory, name, message.n_parts) as dealt:
            with uncollected():
                for part, split, pieces in deal(inputs, settings.n_partitions, message.n_parts):
                    dealt.add(part, split, pieces)
            for ranges in dealt.ranges:
                yield _Inputs(partial(self._inputs, ranges, ()))
                end_copy(self._pid)

    def _inputs(self, ranges: Iterable[tuple[int, Range]], inline: Iterable[Blob]) -> Iterator[tuple[int, Buffer]]:
        """The blobs of a reduce task, and their splits; that one cannot be had is no fault of the user's functions."""
        try:
            yield from fetch_all([(split, self._found(where)) for split, where in ranges], map(whole, inline))
        except SpillError as error:
            raise PassThroughError(error) from error

    def _fetch(self, where: Range) -> Buffer:
        return fetch(self._found(where))

    def _found(self, where: Range) -> Range:
        """Where a range is on this host."""
        return where if self._abroad is None else self._abroad.found(where)


def _dump_failures(failures: Failures) -> bytes:
    return b"".join(dump(failures)) if failures.n_failures else b""


def _failed(failure: Failure) -> AttemptFailed:
    return AttemptFailed(blobs=[b"".join(dump(failure))])


def _with_group(error: TaskError) -> Failure:
    """With what combinefn was given in a map task, which is part of no input, unless that is large."""
    failure, record = error.failure, error.record
    if record is None or failure.phase != "combine" or failure.index is not None:
        return failure
    blob = dump_at_most(record, _FAILED_GROUP_BYTES)
    return failure if blob is None else replace(failure, record=blob, is_whole=True)


def _become_a_slot(crash_file: int) -> None:
    process.is_slot = True
    # User code pickled by value belongs to __main__; the supervisor's own must not be found there.
    sys.modules["__main__"] = types.ModuleType("__main__")
    sys.stdin = open(0, encoding="utf-8")  # noqa: SIM115 - for the life of the process
    sys.breakpointhook = _refuse_breakpoint
    faulthandler.enable(file=crash_file, all_threads=False)
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD, 20, 20)


def _printer(descriptor: int) -> io.TextIOWrapper:
    raw = open(descriptor, "wb", closefd=False)  # noqa: SIM115 - for the life of the process
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True)


def _refuse_breakpoint(*_: Any, **__: Any) -> NoReturn:
    raise RuntimeError(
        "breakpoint() in a slot has no terminal: jmr.replay() stops in it, in your own process; "
        'engine="inline" runs the whole job there'
    )


def _flush() -> None:
    """Push out what Python and C code have printed, so that it is in the pipe before the answer is on its way."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, ValueError, OSError):  # user code replaced or closed it
            continue
    _fflush(None)


_fflush: Callable[[Any], int] = ctypes.CDLL(None).fflush
