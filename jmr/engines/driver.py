"""The calling thread's side of a job that runs on an engine of somebody else's.

    source ──cut──> splits ──start_map──> Pool ──finished──> receipts
                       └─ the worker does not see what it reads: once more, with that inside
                                           └── what maps have left stays there
    partitions ──start_reduce──> Pool ──finished──> blobs ──> Partition, Partition, ...

A `Pool` is what differs between these engines. Everything else about a job is here: how large splits are, what the
report says, and how a failure becomes the user's error. At most `window` splits are under way, so an endless source
fills no memory. Nothing that tasks leave for each other goes through this process.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Generator, Sequence
from typing import Protocol

from jmr import interrupts
from jmr.codec.functions import dump_functions
from jmr.codec.values import Buffer, load
from jmr.engines.answers import SetAside, decoded
from jmr.engines.base import error_from
from jmr.engines.calls import JobCall, Receipt, here, writable
from jmr.engines.replay import Replay, function_of
from jmr.engines.splitting import SplitSizer, cut, usual_partitions
from jmr.errors import JmrError, JobCancelled
from jmr.plan import Plan
from jmr.progress.outlet import Outlet
from jmr.progress.report import Report, SlotReport
from jmr.result import Attempt, Partition
from jmr.sources import Records, records

__all__ = ["DrivenEngine", "Pool"]

#: How long to wait for the engine before looking whether the job was cancelled.
_TURN_SECONDS = 0.1
#: Of splits that are under way.
_MOST_UNDER_WAY_BYTES = 1 << 28


class Pool(Protocol):
    """How an engine runs calls; used by one thread, for one job."""

    #: As users write it: "Dask".
    name: str
    #: Less work than this is not worth a task of this engine's.
    least_seconds: float
    #: And less than this for each slot is not worth more than one round of tasks.
    round_seconds: float

    @property
    def n_slots(self) -> int:
        """How many calls run at the same time, as far as that is known; 0 while there is no worker."""

    @property
    def window(self) -> int:
        """Most map tasks to have under way."""

    def open(self, job: JobCall) -> None:
        """Get ready for the calls of a job."""

    def start_map(self, index: int, split: bytes) -> None:
        """Have `call_map` run, and keep what it leaves where it is; perhaps once more, if its receipt is "not here"."""

    def start_reduce(self, index: int, partitions: Sequence[int], splits: Sequence[int]) -> None:
        """Have `call_reduce` run, on what these splits have left of these partitions; all map tasks are done."""

    def finished(self, seconds: float) -> Sequence[tuple[int, Receipt, Buffer]]:
        """Wait so long at most for tasks that are done, of whichever is the phase: index, receipt, a reduce's blob.

        Raises
        ------
        WorkerError, SlotDiedError
            The engine itself has failed, and cannot go on.
        """

    def cancel(self) -> None:
        """Stop what runs, or waits, as far as the engine can."""

    def close(self) -> None:
        """Let go of all that the job has there; end what this started, and nothing else."""


class DrivenEngine:
    """One job on a pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._cancelled = threading.Event()
        self._bad = SetAside()
        #: By split: what its map task has left for each partition, in bytes.
        self._lengths: dict[int, tuple[int, ...]] = {}
        #: Splits that workers read, while they are under way; and which of them have inside what they read.
        self._splits: dict[int, bytes] = {}
        self._carried: set[int] = set()
        #: Those that are to be sent again, with that inside; and whether any ever was.
        self._refused: list[int] = []
        self._is_unseen = False
        self._is_unstable = False
        #: Names for the timeline, by where calls ran.
        self._names: dict[tuple[str, int, int], str] = {}

    def run(self, plan: Plan, report: Report) -> Generator[Partition, None, None]:
        """Yield partitions as their reduce tasks finish."""
        self._plan, self._report = plan, report
        with contextlib.closing(Outlet(report.log, lambda: report.awaits_view)) as self._outlet:
            has_ended = False
            try:
                n_partitions = self._open()
                self._map()
                yield from self._reduce(n_partitions)
                self._bad.tell(report)
                has_ended = True
            finally:
                with interrupts.deferred(), contextlib.closing(self._pool):
                    if not has_ended:
                        self._pool.cancel()

    def cancel(self) -> None:
        """Have the job's thread stop it, from any thread."""
        self._cancelled.set()

    def close(self) -> None:
        """What was started for the job has ended with it."""

    def _open(self) -> int:
        functions = b"".join(dump_functions(self._plan.functions))
        n_slots = self._count_slots()
        n_partitions = self._plan.n_partitions or usual_partitions(n_slots)
        call = JobCall(
            id=uuid.uuid4().hex,
            functions=functions,
            n_partitions=n_partitions,
            skips=self._plan.skips,
            max_attempts=self._plan.max_attempts,
            kernel=here()[:2],
        )
        self._pool.open(call)
        return n_partitions

    def _count_slots(self) -> int:
        """Those may come and go."""
        n_slots = self._pool.n_slots
        self._report.n_slots = n_slots
        self._report.is_waiting = not n_slots
        return max(1, n_slots)

    # Map.

    def _map(self) -> None:
        source = records(self._plan.source)
        if source.splits is not None:
            self._map_splits(source)
            return
        report, pool = self._report, self._pool
        report.n_records_total = source.n_records
        sizer = SplitSizer(
            max(1, report.n_slots),
            source.n_records,
            least_seconds=pool.least_seconds,
            round_seconds=pool.round_seconds,
        )
        under_way: dict[int, int] = {}
        index = n_sent = 0
        is_over = False

        def mapped(index: int, receipt: Receipt) -> None:
            del under_way[index]
            sizer.finished(receipt.n_records, receipt.seconds, receipt.flush_seconds, sum(receipt.lengths))

        while under_way or not is_over:
            n_slots = self._count_slots()
            sizer.adapt(n_slots, 1 << 30)
            most = n_slots if sizer.is_blind else max(n_slots, pool.window)
            is_full = is_over or len(under_way) >= most or sum(under_way.values()) >= _MOST_UNDER_WAY_BYTES
            self._take_maps(mapped, 0.0 if not is_full or source.read_ahead() else _TURN_SECONDS)
            if is_full:
                continue
            split, n_records = _next_split(source, sizer)
            if not n_records:
                is_over = True
                continue
            n_sent += n_records
            under_way[index] = len(split)
            self._check()
            pool.start_map(index, split)
            index += 1
            report.n_map_tasks = index
        report.n_records_total = n_sent

    def _map_splits(self, source: Records) -> None:
        """Hand on splits that the workers read: each is a map task."""
        from jmr.engines.handing import Handing  # few jobs need it

        report, pool = self._report, self._pool
        handing = Handing(
            source, max(1, report.n_slots), least_seconds=pool.least_seconds, round_seconds=pool.round_seconds
        )
        is_over = False

        def mapped(index: int, receipt: Receipt) -> None:
            del self._splits[index]
            self._carried.discard(index)
            handing.done(index, receipt.seconds, receipt.flush_seconds, sum(receipt.lengths))

        while handing.n_under_way or not is_over:
            handing.adapt(self._count_slots(), 1 << 30, _MOST_UNDER_WAY_BYTES, pool.window)
            self._send_refused()
            n_bytes = sum(map(len, self._splits.values()))
            is_full = is_over or handing.is_full or bool(self._refused) or n_bytes >= _MOST_UNDER_WAY_BYTES
            self._take_maps(mapped, _TURN_SECONDS if is_full else 0.0)
            if is_full:
                continue
            found = handing.next()
            self._check()
            if found is None:
                is_over = True
                continue
            self._splits[report.n_map_tasks] = b"".join(found[0])
            if self._is_unseen:
                self._read_here(report.n_map_tasks)
            pool.start_map(report.n_map_tasks, self._splits[report.n_map_tasks])
            report.n_map_tasks += 1

    def _refuse(self, index: int) -> None:
        if not self._is_unseen:
            self._is_unseen = True
            self._report.notes.append(f"workers of {self._pool.name} do not see what this job reads, and were sent it")
        self._refused.append(index)

    def _send_refused(self) -> None:
        """Have splits mapped once more, with what they read inside, as far as there is room for that."""
        if not self._refused:
            return
        n_bytes = sum(len(split) for index, split in self._splits.items() if index not in self._refused)
        while self._refused and n_bytes < _MOST_UNDER_WAY_BYTES:
            self._check()
            index = self._refused.pop(0)
            self._read_here(index)
            self._pool.start_map(index, self._splits[index])
            n_bytes += len(self._splits[index])

    def _read_here(self, index: int) -> None:
        """Have a split hold what it reads, once: an engine may tell twice that a worker does not see that."""
        from jmr.sources.carrying import carried  # few jobs need it

        if index not in self._carried:
            self._splits[index] = b"".join(carried(self._splits[index]))
            self._carried.add(index)

    def _take_maps(self, mapped: Callable[[int, Receipt], None], seconds: float) -> None:
        for index, receipt, _ in self._finished(seconds, "map"):
            if receipt.is_not_here:
                self._refuse(index)
                continue
            mapped(index, receipt)
            self._lengths[index] = receipt.lengths
            self._is_unstable |= receipt.is_unstable
            n_bytes = sum(receipt.lengths)
            report = self._report
            report.n_map_tasks_done += 1
            report.n_records += receipt.n_records
            report.n_pairs += receipt.n_pairs
            report.n_combined_pairs += receipt.n_combined_pairs
            report.shuffled_bytes += n_bytes

    # Reduce.

    def _reduce(self, n_partitions: int) -> Generator[Partition, None, None]:
        tasks = self._reduce_tasks(n_partitions)
        report = self._report
        report.begin_reduce(len(tasks))
        for index, (partitions, splits) in enumerate(tasks):
            self._check()
            self._pool.start_reduce(index, partitions, splits)
        n_left = len(tasks)
        while n_left:
            self._count_slots()
            for index, _, blob in self._finished(_TURN_SECONDS, "reduce"):
                n_left -= 1
                partitions, splits = tasks[index]
                report.n_reduce_tasks_done += 1
                report.reduced_bytes += sum(self._lengths[split][part] for split in splits for part in partitions)
                yield decoded(writable(blob))

    def _reduce_tasks(self, n_partitions: int) -> list[tuple[Sequence[int], Sequence[int]]]:
        """Partitions, and the splits that have left something there. A key without a stable hash may be in any."""
        splits = sorted(self._lengths)
        groups = [range(n_partitions)] if self._is_unstable else [[partition] for partition in range(n_partitions)]
        tasks = [
            (group, [split for split in splits if any(self._lengths[split][part] for part in group)])
            for group in groups
        ]
        return [(group, some) for group, some in tasks if some]

    # Both.

    def _finished(self, seconds: float, phase: str) -> Sequence[tuple[int, Receipt, Buffer]]:
        """Those that have gone well; the first that has not ends the job."""
        self._check()
        done = self._pool.finished(seconds)
        for index, receipt, _ in done:
            task = f"{phase}-{index}"
            name = self._note(task, receipt)
            for stream, text, n_hidden in receipt.printed:
                self._outlet.put(name, stream, text, n_hidden)
            if receipt.failed:
                raise self._error_of(receipt, task, name)
            if receipt.n_failures:
                self._report.n_skipped += receipt.n_failures
                self._bad.add((0 if phase == "map" else 1, index), receipt.failures, self._plan)
        return done

    def _check(self) -> None:
        interrupts.check()
        if self._cancelled.is_set():
            raise JobCancelled(f"job {self._plan.name!r} was cancelled")

    def _note(self, task: str, receipt: Receipt) -> str:
        """Have the report show where it ran, and when, as far as that is known; returns the name of the slot."""
        report = self._report
        name = self._names.setdefault(receipt.worker, f"{self._pool.name}/{len(self._names) + 1}")
        row = report.slots.setdefault(name, SlotReport(receipt.worker[0]))
        row.n_tasks += 1
        row.n_records += receipt.n_records
        row.map_seconds += receipt.seconds if task.startswith("map") else 0.0
        row.memory_bytes = receipt.peak_bytes
        report.peak_bytes = max(report.peak_bytes, receipt.peak_bytes)
        ended = time.monotonic() - report.started
        outcome = "raised" if receipt.failed else "refused" if receipt.is_not_here else "done"
        report.timeline.append(Attempt(name, task, 1, max(0.0, ended - receipt.seconds), ended, outcome))
        return name

    def _error_of(self, receipt: Receipt, task: str, name: str) -> JmrError:
        failure = load(receipt.failed)
        split = "split " if task.startswith("map") else ""
        replay = None
        if failure.phase in ("map", "combine", "reduce"):
            missing = "" if failure.is_whole else "it is too large to be sent, or cannot be pickled"
            blob = failure.record if failure.is_whole else None
            replay = Replay(failure.phase, function_of(failure.phase, self._plan), blob, missing=missing)
        return error_from(failure, f"{split}{task}, worker {name}", replay=replay)


def _next_split(source: Records, sizer: SplitSizer) -> tuple[bytes, int]:
    pieces, n_records = cut(source, sizer.next_size())
    split = b"".join(pieces)
    if n_records:
        sizer.sent(n_records, len(split))
    return split, n_records
