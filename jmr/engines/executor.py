"""Any `concurrent.futures.Executor` runs a plan.

    split ──submit──> call_map ──> a file with all partitions ──path, offset, length──> call_reduce
                                └─ small, or the worker is on another host: in the answer ─┘

An executor has no way from one task to another but through the caller. So what maps leave lies in files of a directory
on this host, and only where it lies goes through the caller; what is small goes along with that. A worker on another
host, where these files are not, is sent its task once more, with what it needs of them inside.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, Future, wait
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from jmr.codec.values import Buffer
from jmr.engines.calls import JobCall, Receipt, call_map, call_reduce
from jmr.errors import WorkerError, describe
from jmr.launch.local import default_slots
from jmr.shuffle.budget import Budget, memory_budget
from jmr.shuffle.directory import Directories
from jmr.shuffle.files import NO_MEMORY, Room, SpillError, Stored, fetch, fetch_all, room_of, store, store_blob
from jmr.wire.messages import Range

__all__ = ["ExecutorPool"]

#: Functions that capture more than this are put into a file.
_SHARED_BYTES = 1 << 16
#: How long to wait for a worker to say whether it sees the directory: all may be busy with other work.
_PROBE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Shared:
    """What all tasks of a job are given."""

    job: JobCall
    #: Where its functions lie, if they are large.
    functions_at: Range | None
    room: Room

    def call(self) -> JobCall:
        """Raises SpillError where the file cannot be seen, on another host."""
        return self.job if self.functions_at is None else replace(self.job, functions=bytes(fetch(self.functions_at)))

    def is_here(self) -> bool:
        """Whether this is the host where files lie."""
        return os.path.isdir(self.room.directory)


@dataclass(frozen=True, slots=True)
class _Task:
    """One that is under way."""

    index: int
    function: Any
    shared: _Shared
    arguments: tuple[Any, ...]


class ExecutorPool:
    """One job on an executor, which belongs to the user."""

    name = "executor"
    least_seconds = 0.0
    round_seconds = 0.0

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._directories: Directories | None = None
        self._job: JobCall | None = None
        self._shared: _Shared | None = None
        self._budget = Budget(memory_budget())
        self._tasks: dict[Future[Any], _Task] = {}
        #: What maps have left, by split; and where each partition of it begins.
        self._stored: dict[int, tuple[Stored, list[int]]] = {}

    @property
    def n_slots(self) -> int:
        """As many as it has processes or threads; those of another kind may not say."""
        said = getattr(self._executor, "_max_workers", None)
        return said if isinstance(said, int) and said > 0 else default_slots()

    @property
    def window(self) -> int:
        """One that runs, and one that waits."""
        return 2 * self.n_slots

    def open(self, job: JobCall) -> None:
        """Make a directory for what maps leave."""
        self._directories = Directories()
        disk, memory = self._directories.disk.path, self._directories.memory
        room = room_of(0, disk, None if memory is None else memory.path, self._budget.total_bytes)
        for directory in (room.directory, room.memory_directory):
            if directory is not None:
                os.mkdir(directory, mode=0o700)
        self._job, functions_at = job, None
        if len(job.functions) > _SHARED_BYTES and self._is_here(room.directory):
            functions_at = store_blob([job.functions], "functions", room)
            job = replace(job, functions=b"")
        self._shared = _Shared(job, functions_at, room)

    def _is_here(self, directory: str) -> bool:
        """Whether workers see the directory, as far as one of them says so soon."""
        future = self._submit(os.path.isdir, directory)
        if not wait([future], timeout=_PROBE_SECONDS).done:
            future.cancel()
            return False
        with _translated():
            return bool(future.result())

    def _submit(self, function: Any, *args: Any) -> Future[Any]:
        try:
            return self._executor.submit(function, *args)
        except BrokenExecutor as error:
            raise _broken(error) from error
        except RuntimeError as error:  # the executor, or the interpreter, was shut down
            raise WorkerError(f"the executor {describe(self._executor)} takes no work: {error}") from error

    def start_map(self, index: int, split: bytes) -> None:
        """Submit it."""
        assert self._shared is not None
        memory_bytes = self._budget.reserve(index, self.window)
        room = replace(self._shared.room, memory_bytes=memory_bytes)
        self._start(_Task(index, _map, replace(self._shared, room=room), (split,)))

    def start_reduce(self, index: int, partitions: Sequence[int], splits: Sequence[int]) -> None:
        """Submit it, with where its inputs lie."""
        assert self._shared is not None
        ranges: list[tuple[int, Range]] = []
        inline: list[Buffer] = []
        for split in splits:
            stored, offsets = self._stored[split]
            for partition in partitions:
                length = stored.lengths[partition]
                if length and stored.path is None:
                    inline.append(stored.inline[partition])
                if length:
                    crc = stored.crcs[partition] if stored.crcs else None
                    ranges.append((split, (stored.path, offsets[partition], length, crc)))
        self._start(_Task(index, _reduce, self._shared, (ranges, inline)))

    def _start(self, task: _Task) -> None:
        self._tasks[self._submit(task.function, task.shared, task.index, *task.arguments)] = task

    def _start_elsewhere(self, task: _Task) -> None:
        """Submit it once more, with what lies in files here inside."""
        assert self._job is not None
        arguments = task.arguments
        if task.function is _reduce:
            try:
                inputs = [(split, bytes(blob)) for split, blob in fetch_all(*arguments)]
            except SpillError as error:
                raise WorkerError(str(error)) from error
            arguments = [(split, (None, 0, len(blob), None)) for split, blob in inputs], [blob for _, blob in inputs]
        shared = replace(task.shared, job=self._job, functions_at=None)
        self._start(replace(task, shared=shared, arguments=arguments))

    def finished(self, seconds: float) -> Sequence[tuple[int, Receipt, bytes]]:
        """Wait for futures."""
        done, _ = wait(self._tasks, timeout=seconds, return_when=FIRST_COMPLETED)
        answers = [self._answer(self._tasks.pop(future), future) for future in done]
        return [answer for answer in answers if answer is not None]

    def _answer(self, task: _Task, future: Future[Any]) -> tuple[int, Receipt, bytes] | None:
        """None if the task begins anew."""
        with _translated():
            answer = future.result()
        if answer is None:
            self._start_elsewhere(task)
            return None
        index, (receipt, left) = task.index, answer
        if not isinstance(left, Stored):
            return index, receipt, left
        self._stored[index] = left, list(accumulate(left.lengths, initial=0))
        self._budget.release(index)
        if left.path is not None and not left.crcs:
            self._budget.use(sum(left.lengths))
        return index, receipt, b""

    def cancel(self) -> None:
        """Those that wait do not start; those that run go on to their end: an executor cannot stop them."""
        for future in self._tasks:
            future.cancel()

    def close(self) -> None:
        """Remove the files; the executor is the user's."""
        self._tasks.clear()
        self._stored.clear()
        if self._directories is not None:
            self._directories.close()
            self._directories = None


def _map(shared: _Shared, index: int, split: bytes) -> tuple[Receipt, Stored] | None:
    """In the executor's process or thread: run a map task, and put what it leaves where reduce tasks find it.

    None if it needs what lies on another host.
    """
    try:
        job = shared.call()
    except SpillError:
        if shared.is_here():
            raise
        return None
    receipt, blobs = call_map(job, index, split)
    room = shared.room
    if not blobs:  # it failed, or is called again: where there is no memory left, even nothing would be a file
        return receipt, Stored(None, [], [], [])
    if not shared.is_here():
        return receipt, Stored(None, list(map(len, blobs)), [], list(blobs))
    if room.memory_bytes <= 0:
        room = replace(room, memory_bytes=NO_MEMORY)
    stored = store([[blob] for blob in blobs], f"map-{index}-{os.getpid()}", room)
    return receipt, replace(stored, inline=list(blobs)) if stored.path is None else stored


def _reduce(
    shared: _Shared, index: int, ranges: Sequence[tuple[int, Range]], inline: Sequence[Buffer]
) -> tuple[Receipt, bytes] | None:
    """The same with a reduce task."""
    try:
        job, inputs = shared.call(), list(fetch_all(ranges, inline))
    except SpillError:
        if shared.is_here():
            raise
        return None
    return call_reduce(job, index, inputs)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Say in a sentence what a future gives instead of a result."""
    try:
        yield
    except (BrokenExecutor, CancelledError) as error:
        raise _broken(error) from error
    except Exception as error:  # of its own, or what cannot be imported there
        raise WorkerError(
            f"the executor could not run a task: {type(error).__name__}: {error}. jmr must be installed where its "
            "tasks run, in the same version as here"
        ) from error


def _broken(error: BaseException) -> WorkerError:
    return WorkerError(
        f"the executor cannot go on: {describe(error)}. If a function of yours, or the system for want of memory, has "
        "ended one of its processes, it takes no more work: make a new one"
    )
