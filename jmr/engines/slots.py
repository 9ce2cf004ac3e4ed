"""Our own slots run a plan. The calling thread's side of a job:

    source ──cut──> splits ──────> coordinator ──> slots
    result <──load── partitions <── mailbox <── coordinator

The source is read, and everything is unpickled, in the calling thread: cursors and thread-bound objects work, and an
interrupt arrives in user code, where it belongs. At most two splits a slot are under way, of bounded size, so an
endless source fills no memory.
"""

from __future__ import annotations

import os
import queue
import shutil
import threading
import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

from jmr import interrupts
from jmr.codec.functions import LARGE_BYTES, dump_functions
from jmr.codec.values import Buffer, byte_length, dump, load
from jmr.coordinator.jobs import JobSpec
from jmr.coordinator.mail import (
    Ending,
    JobDone,
    JobFailed,
    JobPoisoned,
    JobStopped,
    Mail,
    PartitionKept,
    PartitionReady,
    PoisonSetAside,
    SplitDone,
    SplitWanted,
    WorkersLost,
)
from jmr.engines.answers import SetAside, decoded
from jmr.engines.base import error_from, users_place
from jmr.engines.splitting import SplitSizer, cut, usual_partitions
from jmr.errors import JmrError, JobCancelled, WorkerError
from jmr.launch.local import default_slots
from jmr.plan import Plan
from jmr.progress.outlet import Outlet
from jmr.progress.report import Report
from jmr.result import Partition
from jmr.scheduler.jobs import JobOptions
from jmr.shuffle.files import Room, SpillError, store_blob
from jmr.shuffle.lending import Lender
from jmr.sources import Records, records
from jmr.wire.messages import MapDone, Range
from jmr.worker.surroundings import Surroundings

if TYPE_CHECKING:
    from jmr.engines.carrying import Carrier
    from jmr.engines.cluster import Cluster
    from jmr.engines.keeping import Keeper, Prints

__all__ = ["ClusterEngine"]

_CLEANUP_SECONDS = 2.0
#: Splits under way for each slot: one that runs, one that waits.
_SPLITS_PER_SLOT = 2
#: For each slot, so many bytes of splits.
_MOST_UNDER_WAY_BYTES = 1 << 26
#: Functions that capture more than this are put into a file that all slots of a host map.
_SHARED_BYTES = 1 << 20


class ClusterEngine:
    """One job on a cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._coordinator = cluster._running()
        self._called_at = users_place()  # the job itself may run in a thread that has no frame of the user's
        self._mailbox: queue.SimpleQueue[Mail] = queue.SimpleQueue()
        self._name = "job"
        self._plan: Plan | None = None
        #: Whether the coordinator knows what the job takes on other hosts.
        self._is_for_remote = False
        self._room: Room | None = None
        #: Shows what slots print.
        self._outlet: Outlet | None = None
        self._lender: Lender | None = None
        #: Reads what workers elsewhere do not see.
        self._carrier: Carrier | None = None
        #: Where the job has a checkpoint.
        self._keeper: Keeper | None = None
        self._job = 0
        self._ended = self._is_clean = False
        self._cancelled = threading.Event()
        self._bad = SetAside()

    def run(self, plan: Plan, report: Report) -> Generator[Partition, None, None]:
        """Yield partitions as their reduce tasks finish."""
        try:
            self._name = plan.name
            self._open(plan, report)
            self._feed(plan, report)
            while (partition := self._next_partition()) is not None:
                yield partition
            self._bad.tell(report)
            if self._keeper is not None:
                self._keeper.finish()
        except KeyboardInterrupt:
            self._clean_up()
            raise
        finally:  # also after a KeyboardInterrupt that came while that was cleaned up
            try:
                self._clean_up()
                self._remove_files()
            finally:
                if self._keeper is not None:
                    with interrupts.deferred():
                        self._keeper.close()
                if self._outlet is not None:
                    self._outlet.close()

    def cancel(self) -> None:
        """Stop the job, from any thread."""
        self._cancelled.set()
        if self._job:
            self._coordinator.cancel(self._job, JobStopped())

    def close(self) -> None:
        """The cluster stays: it was there before, or is warm for the next job."""

    def expect_remote(self) -> None:
        """Slots on other hosts may come, which nobody expected when the job was opened; from any thread."""
        if self._job and not self._ended and not self._is_for_remote:
            self._coordinator.amend(self._job, self._elsewhere())
            self._is_for_remote = True

    def _elsewhere(self) -> tuple[list[Buffer], list[Buffer]]:
        """What slots on other hosts are told instead of the surroundings; and the modules that they would not find."""
        from jmr.worker.shipping import shipment_for  # it parses them, and few jobs need it

        assert self._plan is not None
        functions = (self._plan.mapfn, self._plan.combinefn, self._plan.reducefn)
        return dump(Surroundings.here().elsewhere()), dump(shipment_for(functions))

    def _open(self, plan: Plan, report: Report) -> None:
        """Open the job, and say how many slots it may use, as far as that is known."""
        n_local = self._cluster._limit(plan)
        n_slots = report.n_slots = n_local + self._coordinator.n_remote_slots
        n_partitions = plan.n_partitions or usual_partitions(n_slots)
        self._plan = plan
        keeper = None if plan.checkpoint is None else self._keep(plan, report)
        if keeper is not None:
            n_partitions = keeper.begin(n_partitions)
        self._outlet = Outlet(report.log, lambda: report.awaits_view)
        surroundings = Surroundings.here(n_threads=max(1, default_slots() // max(1, n_local)))
        functions = dump_functions(plan.functions, () if keeper is None else keeper.known_as())
        if keeper is not None:
            keeper.confirm(self._prints())
        if (n_bytes := byte_length(functions)) >= LARGE_BYTES:
            from jmr.engines.weight import remark

            report.notes.append(remark(plan.functions, n_bytes, self._called_at))
        number = self._coordinator.job_number()
        self._room = self._coordinator.room(number)
        spec = JobSpec(
            options=JobOptions(plan.max_attempts, n_local, plan.skips, plan.speculate is not False),
            n_partitions=n_partitions,
            functions=_shared(functions, self._room),
            surroundings=dump(surroundings),
            elsewhere=self._elsewhere() if self._cluster.has_remote else None,
            is_elastic=plan.workers is None,
            report=report,
            outlet=self._outlet,
            mailbox=self._mailbox if keeper is None else keeper.inbox,
            kept_directory=None if keeper is None else keeper.directory,
        )
        self._begin(number, spec, plan.workers)

    def _begin(self, number: int, spec: JobSpec, workers: int | None) -> None:
        with interrupts.deferred():
            self._coordinator.open_job(number, spec, workers)
            self._job = number
            self._is_for_remote = spec.elsewhere is not None
            self._cluster._runs(self)
            if self._cluster.has_remote:  # perhaps since just now
                self.expect_remote()
        if self._cancelled.is_set():  # before there was anything to stop
            self.cancel()

    def _keep(self, plan: Plan, report: Report) -> Keeper:
        """Open the job's checkpoint."""
        with interrupts.deferred():
            from jmr.engines.keeping import Keeper  # few jobs need it
        prints = self._prints()
        with interrupts.deferred():  # what it has opened must be closed again
            self._keeper = Keeper(plan, prints, report, self._mailbox)
        return self._keeper

    def _prints(self) -> Prints:
        from jmr.engines.keeping import prints_of

        assert self._plan is not None
        return prints_of(self._plan)

    def _feed(self, plan: Plan, report: Report) -> None:
        assert self._room is not None
        source = records(plan.source)
        if source.splits is not None:
            self._feed_splits(source, report)
            return
        report.n_records_total = source.n_records
        sizer = SplitSizer(max(1, report.n_slots), source.n_records)
        lender = self._lender = Lender(self._room)
        under_way = _UnderWay()
        next_split = _cut if self._keeper is None else self._keeper.cut
        n_sent = 0

        def mapped(mail: SplitDone) -> None:
            sizer.finished(mail.n_records, mail.seconds, mail.flush_seconds, mail.output_bytes)
            under_way.remove(mail.n_bytes)

        while True:
            n_slots = max(1, report.n_slots)  # workers may come and go
            most_bytes = self._coordinator.input_bytes(n_slots)
            sizer.adapt(n_slots, most_bytes)
            under_way.most_bytes = min(most_bytes, _MOST_UNDER_WAY_BYTES) * n_slots
            most = n_slots if sizer.is_blind else _SPLITS_PER_SLOT * n_slots
            is_idle = under_way.is_full(most) and not source.read_ahead()
            self._take_mail(mapped, lender, wait=is_idle)
            if under_way.is_full(most):
                continue
            pieces, n_records, left = next_split(source, sizer.next_size())
            interrupts.check()
            if not n_records:
                break
            n_sent += n_records
            n_bytes = byte_length(pieces)
            sizer.sent(n_records, n_bytes)
            if left is not None:
                sizer.finished(left.n_records, left.seconds, left.flush_seconds, sum(left.lengths))
                self._coordinator.add_done_split(self._job, left)
                continue
            under_way.add(n_bytes)
            at = lender.lend(pieces)
            self._coordinator.add_split(self._job, at or (pieces if source.blocks else [b"".join(pieces)]))
        report.n_records_total = n_sent  # a generator's length is known now, and a wrong __len__ is found out
        self._coordinator.end_input(self._job, () if self._keeper is None else self._keeper.reduced())

    def _feed_splits(self, source: Records, report: Report) -> None:
        """Hand on splits that the slots read: each is a map task."""
        from jmr.engines.handing import Handing  # few jobs need it

        assert self._room is not None
        lender = self._lender = Lender(self._room)
        handing = Handing(source, max(1, report.n_slots), self._keeper)

        def mapped(mail: SplitDone) -> None:
            handing.done(mail.index, mail.seconds, mail.flush_seconds, mail.output_bytes)

        while True:
            n_slots = max(1, report.n_slots)
            most_bytes = self._coordinator.input_bytes(n_slots)
            handing.adapt(n_slots, most_bytes, min(most_bytes, _MOST_UNDER_WAY_BYTES) * n_slots)
            self._take_mail(mapped, lender, wait=handing.is_full)
            if handing.is_full:
                continue
            found = handing.next()
            interrupts.check()
            if found is None:
                break
            pieces, left = found
            if left is None:
                self._coordinator.add_split(self._job, lender.lend(pieces) or pieces)
            else:
                self._coordinator.add_done_split(self._job, left)
        self._coordinator.end_input(self._job, () if self._keeper is None else self._keeper.reduced())

    def _take_mail(self, mapped: Callable[[SplitDone], None], lender: Lender, *, wait: bool) -> None:
        """Read what has come, after waiting for it if need be."""
        while (mail := self._receive(wait=wait)) is not None:
            wait = False
            if isinstance(mail, SplitDone):
                mapped(mail)
                if self._carrier is not None:
                    self._carrier.done(mail.index)
                if mail.split_at is not None:
                    lender.take_back(mail.split_at, kept=mail.kept_split)
            else:
                self._answer(mail)

    def _receive(self, *, wait: bool) -> Mail | None:
        try:
            return self._mailbox.get(timeout=1.0) if wait else self._mailbox.get_nowait()
        except queue.Empty:
            return None

    def _next_partition(self) -> Partition | None:
        """Wait for the next partition; None at the end."""
        while not self._ended:
            mail = self._receive(wait=True)
            if isinstance(mail, PartitionReady):
                return decoded(mail.blob)
            if isinstance(mail, PartitionKept):
                return self._kept_partition(mail)
            if mail is not None:
                self._answer(mail)
        return None

    def _kept_partition(self, mail: PartitionKept) -> Partition:
        assert self._keeper is not None
        assert self._plan is not None
        partition, failures = self._keeper.result(mail)
        if failures:
            self._bad.add((1, mail.index), failures, self._plan)
        return partition

    def _answer(self, mail: Mail) -> None:
        """Do what any other mail asks for: remember, or raise."""
        match mail:
            case PoisonSetAside(order, poison):
                from jmr.engines.deaths import bad_record_of  # it imports what slots do, and few jobs need it

                assert self._plan is not None
                self._bad.add_one(order, poison.index, bad_record_of(poison, self._plan))
            case SplitWanted():
                self._carry(mail)
            case JobDone(failures):
                self._ended = True
                assert self._plan is not None
                for order, blob in failures:
                    self._bad.add(order, blob, self._plan)
            case JobFailed() | JobPoisoned() | JobStopped() | WorkersLost():
                self._ended = True
                raise self._error_of(mail)
            case _:  # a split of a job that is ending
                return

    def _carry(self, wanted: SplitWanted) -> None:
        if self._carrier is None:
            from jmr.engines.carrying import Carrier  # few jobs need it

            assert self._lender is not None
            self._carrier = Carrier(self._coordinator, self._job, self._lender)
        self._carrier.carry(wanted)

    def _error_of(self, ending: JobFailed | JobPoisoned | JobStopped | WorkersLost) -> JmrError:
        assert self._plan is not None
        match ending:
            case JobFailed():
                return _error_of_failure(ending, self._plan)
            case JobPoisoned():
                from jmr.engines.deaths import error_of_death

                return error_of_death(ending, self._plan)
            case JobStopped():
                return JobCancelled(f"job {self._name!r} was cancelled")
            case WorkersLost(reason):
                return WorkerError(reason)

    def _clean_up(self) -> None:
        """Wait for the job's end in the coordinator. Harmless if repeated."""
        if self._job and not self._is_clean:
            with interrupts.deferred():
                self._wait_for_end()
                self._is_clean = True

    def _remove_files(self) -> None:
        if self._lender is not None:
            self._lender.close()
        if self._room is not None:
            for directory in (self._room.directory, self._room.memory_directory):
                if directory is not None and os.path.exists(directory):
                    shutil.rmtree(directory, ignore_errors=True)

    def _wait_for_end(self) -> None:
        if not self._ended:
            self.cancel()
        deadline = time.monotonic() + _CLEANUP_SECONDS
        while not self._ended and time.monotonic() < deadline:
            mail = self._receive(wait=True)
            self._ended = isinstance(mail, Ending)


class _UnderWay:
    """Splits that were sent and are not mapped yet: a bounded number, of bounded size in sum."""

    def __init__(self) -> None:
        self.most_bytes = 0
        self._n = self._n_bytes = 0

    def is_full(self, most: int) -> bool:
        return self._n >= most or self._n_bytes >= self.most_bytes

    def add(self, n_bytes: int) -> None:
        self._n += 1
        self._n_bytes += n_bytes

    def remove(self, n_bytes: int) -> None:
        self._n -= 1
        self._n_bytes -= n_bytes


def _cut(source: Records, n_records: int) -> tuple[list[Buffer], int, MapDone | None]:
    """What `Keeper.cut` does, without a checkpoint."""
    return *cut(source, n_records), None


def _shared(functions: list[Buffer], room: Room) -> list[Buffer] | Range:
    """The functions themselves, or, where they capture much, the file that they lie in."""
    if byte_length(functions) < _SHARED_BYTES:
        return functions
    try:
        return store_blob(functions, "functions", room)
    except SpillError as error:
        raise WorkerError(f"what your functions capture cannot be handed to the slots: {error}") from error


def _error_of_failure(failed: JobFailed, plan: Plan) -> JmrError:
    from jmr.engines.replay import replay_of  # few jobs need it

    split = "split " if failed.task.startswith("map") else ""
    failure = load(failed.failure)
    replay = replay_of(failure, plan, failed.origin)
    return error_from(failure, f"{split}{failed.task}, attempt {failed.number}, worker {failed.slot}", replay=replay)
