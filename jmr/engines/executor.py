"""Any `concurrent.futures.Executor` runs a plan.

    split ──submit──> call_map ──> a file with all partitions ──path, offset, length──> call_reduce
                                └─ small, or the worker is on another host: in the answer ─┘

An executor has no way from one task to another but through the caller. So what maps leave lies in files of a directory
on this host, and only where it lies goes through the caller; what is small goes along with that.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
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
from jmr.shuffle.files import NO_MEMORY, Room, Stored, fetch, fetch_all, room_of, store, store_blob
from jmr.wire.messages import Range

__all__ = ["ExecutorPool"]

#: Functions that capture more than this are put into a file.
_SHARED_BYTES = 1 << 16


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


class ExecutorPool:
    """One job on an executor, which belongs to the user."""

    name = "executor"
    least_seconds = 0.0
    round_seconds = 0.0

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._directories: Directories | None = None
        self._shared: _Shared | None = None
        self._budget = Budget(memory_budget())
        #: Tasks that are under way.
        self._indices: dict[Future[Any], int] = {}
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
        functions_at = None
        if len(job.functions) > _SHARED_BYTES and self._is_here(room.directory):
            functions_at = store_blob([job.functions], "functions", room)
            job = replace(job, functions=b"")
        self._shared = _Shared(job, functions_at, room)

    def _is_here(self, directory: str) -> bool:
        return bool(self._submit(os.path.isdir, directory).result())

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
        self._indices[self._submit(_map, replace(self._shared, room=room), index, split)] = index

    def start_reduce(self, index: int, partitions: Sequence[int], splits: Sequence[int]) -> None:
        """Submit it, with where its inputs lie."""
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
        self._indices[self._submit(_reduce, self._shared, index, ranges, inline)] = index

    def finished(self, seconds: float) -> Sequence[tuple[int, Receipt, bytes]]:
        """Wait for futures."""
        done, _ = wait(self._indices, timeout=seconds, return_when=FIRST_COMPLETED)
        return [self._answer(self._indices.pop(future), future) for future in done]

    def _answer(self, index: int, future: Future[Any]) -> tuple[int, Receipt, bytes]:
        try:
            receipt, left = future.result()
        except (BrokenExecutor, CancelledError) as error:
            raise _broken(error) from error
        except Exception as error:  # of its own, or what cannot be imported there
            raise WorkerError(
                f"the executor could not run a task: {type(error).__name__}: {error}. jmr must be installed where its "
                "tasks run, in the same version as here"
            ) from error
        if not isinstance(left, Stored):
            return index, receipt, left
        self._stored[index] = left, list(accumulate(left.lengths, initial=0))
        self._budget.release(index)
        if left.path is not None and not left.crcs:
            self._budget.use(sum(left.lengths))
        return index, receipt, b""

    def cancel(self) -> None:
        """Those that wait do not start; those that run go on to their end: an executor cannot stop them."""
        for future in self._indices:
            future.cancel()

    def close(self) -> None:
        """Remove the files; the executor is the user's."""
        self._indices.clear()
        self._stored.clear()
        if self._directories is not None:
            self._directories.close()
            self._directories = None


def _map(shared: _Shared, index: int, split: bytes) -> tuple[Receipt, Stored]:
    """In the executor's process or thread: run a map task, and put what it leaves where reduce tasks find it."""
    receipt, blobs = call_map(shared.call(), index, split)
    room = shared.room
    if not blobs:  # it failed, or is called again: where there is no memory left, even nothing would be a file
        return receipt, Stored(None, [], [], [])
    if not os.path.isdir(room.directory):  # this is another host
        return receipt, Stored(None, list(map(len, blobs)), [], list(blobs))
    if room.memory_bytes <= 0:
        room = replace(room, memory_bytes=NO_MEMORY)
    stored = store([[blob] for blob in blobs], f"map-{index}-{os.getpid()}", room)
    return receipt, replace(stored, inline=list(blobs)) if stored.path is None else stored


def _reduce(
    shared: _Shared, index: int, ranges: Sequence[tuple[int, Range]], inline: Sequence[Buffer]
) -> tuple[Receipt, bytes]:
    """The same with a reduce task."""
    return call_reduce(shared.call(), index, list(fetch_all(ranges, inline)))


def _broken(error: BaseException) -> WorkerError:
    return WorkerError(
        f"the executor cannot go on: {describe(error)}. If a function of yours, or the system for want of memory, has "
        "ended one of its processes, it takes no more work: make a new one"
    )
