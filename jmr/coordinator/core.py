"""The coordinator: what any thread may call, and the thread that does it.

    calling thread ──open_job, add_split, end_input, cancel──> loop ──> Desk
    Desk ──mail──> calling thread

One tornado IOLoop in a thread of its own; what it does is told by `desk`.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from tornado.ioloop import IOLoop

from jmr.codec.values import Buffer
from jmr.coordinator import patience
from jmr.coordinator.desk import Desk
from jmr.coordinator.jobs import JobSpec
from jmr.coordinator.mail import Ending
from jmr.errors import WorkerError
from jmr.launch.local import LocalSupervisor
from jmr.shuffle.budget import Budget, memory_budget
from jmr.shuffle.directory import Directories
from jmr.shuffle.files import Room
from jmr.wire.messages import MapDone, Range

if TYPE_CHECKING:
    from jmr.coordinator.others import Others
    from jmr.coordinator.status import WorkerStatus

__all__ = ["Coordinator"]

_job_numbers = itertools.count(1)


class Coordinator:
    """Runs jobs on slots of this host, and of others that join.

    Parameters
    ----------
    n_slots
        How many to start with.
    directories
        Where files of jobs lie; closed with this.
    supervisor
        The worker of this host.
    """

    def __init__(self, n_slots: int, directories: Directories, supervisor: LocalSupervisor) -> None:
        self._pid = os.getpid()
        self._budget = Budget(memory_budget())
        self._directories = directories
        self._desk = Desk(self._budget, directories, supervisor, n_slots)
        self._started = threading.Event()
        self._closing = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="jmr-coordinator", daemon=True)
        self._thread.start()
        self._started.wait()
        self._directories.remove_leftovers()

    def job_number(self) -> int:
        """A number for a job that will be opened."""
        return next(_job_numbers)

    def open_job(self, number: int, spec: JobSpec, n_slots: int | None) -> None:
        """Open a job; `n_slots` is what it asked for, and the worker grows to it."""
        with self._closing:
            if self._closed:
                raise WorkerError("the cluster was closed before this job began")
            patience.acquire()
            self._call(self._desk.open_job, number, spec, n_slots)

    def amend(self, job: int, elsewhere: tuple[list[Buffer], list[Buffer]]) -> None:
        """Before workers may join whom nobody expected when the job was opened: say what it takes there."""
        self._call(self._desk.amend, job, elsewhere)

    def add_split(self, job: int, split: list[Buffer] | Range) -> None:
        """Queue the next split of a job's source."""
        self._call(self._desk.add_split, job, split)

    def carry(self, job: int, index: int, split: list[Buffer] | Range) -> None:
        """Give a split, with what it reads inside, to the slots that wait for it; see `SplitWanted`."""
        self._call(self._desk.carry, job, index, split)

    def add_done_split(self, job: int, done: MapDone) -> None:
        """Count the next split of a job's source as mapped: this is what its map task left in an earlier run."""
        self._call(self._desk.add_done_split, job, done)

    def end_input(self, job: int, reduced: Collection[tuple[int, ...]] = ()) -> None:
        """Say that a job's source has no more.

        Parameters
        ----------
        job
            Its number.
        reduced
            The partitions, in order, of reduce tasks whose results are there from an earlier run. Those among them that
            this job would have are told by `PartitionKept`, and do not run.
        """
        self._call(self._desk.end_input, job, frozenset(reduced))

    def cancel(self, job: int, ending: Ending) -> None:
        """Stop a job's attempts; `ending` is its last mail, unless it had ended before."""
        self._call(self._desk.cancel, job, ending)

    def room(self, job: int) -> Room:
        """Where a job's files lie, if it has any; and how large one may be that is there all the time."""
        return self._desk.room(job)

    def input_bytes(self, n_slots: int) -> int:
        """How large a task's input may be where `n_slots` work at the same time."""
        return self._budget.input_bytes(n_slots)

    def resize(self, n_slots: int) -> None:
        """Have this many slots on this host, soon."""
        self._desk.local.n_slots = n_slots  # told at once, and done soon
        self._call(self._desk.resize)

    def others(self) -> Others:
        """What lets workers of other hosts in."""
        from jmr.coordinator.others import Others  # few coordinators need it

        with self._closing:
            if self._closed:
                raise WorkerError("the cluster was closed")
            if self._desk.others is None:
                self._desk.others = Others(self._desk, self.call, self._desk.slot_numbers)
        return self._desk.others

    def call(self, function: Callable[..., None], *args: Any) -> None:
        """Have the loop call it. Raises WorkerError where it has ended, or is about to."""
        with self._closing:
            if self._closed:
                raise WorkerError("the cluster was closed")
            self._call(function, *args)

    def status(self) -> list[WorkerStatus]:
        """The workers, this host's first: what there is, and what it does; last those that were lost."""
        from jmr.coordinator.status import status_of

        names = {number: job.spec.report.name for number, job in self._desk.jobs.copy().items()}
        absent = [] if self._desk.others is None else self._desk.others.absent
        return [status_of(worker, names) for worker in [*self._desk.workers(), *absent]]

    @property
    def n_slots(self) -> int:
        """How many slots there are on this host, or will be when those that start have started."""
        return self._desk.local.n_slots

    @property
    def n_remote_slots(self) -> int:
        """How many there are on other hosts."""
        return 0 if self._desk.others is None else self._desk.others.n_slots

    @property
    def may_come(self) -> bool:
        """Whether more workers may join from other hosts."""
        return self._desk.others is not None and self._desk.others.may_come

    def close(self) -> None:
        """End every slot and the thread; jobs that still run fail. Harmless the second time."""
        if os.getpid() != self._pid:  # a forked child has neither the thread nor the workers
            return
        with self._closing:
            if not self._closed:
                self._closed = True
                self._call(self._close)
        self._thread.join()
        self._desk.local.join()
        if self._desk.others is not None:
            self._desk.others.join()
        self._directories.close()

    # The loop's thread.

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = IOLoop.current()
        self._stop = asyncio.Event()
        self._started.set()
        self._desk.guard(self._desk.local.attach)()
        await self._stop.wait()
        if self._desk.others is not None:
            await self._desk.others.ended()

    def _close(self) -> None:
        self._stop.set()
        self._desk.close()

    def _call(self, function: Callable[..., None], *args: Any) -> None:
        self._loop.add_callback(self._desk.guard(function), *args)
