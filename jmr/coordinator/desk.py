"""What the coordinator's thread does: scheduler, workers and jobs, and what goes between them.

    Coordinator ──open_job, add_split, ...──> events ──> Scheduler ──effects──> messages to slots
    workers ──slot_joined, slot_answered, slot_died──> events       └───mail──> calling thread
    Others ──> workers on other hosts

A job's last mail is sent when nothing of it runs any more and what its slots printed has arrived.

It moves opaque bytes: it never unpickles, never runs user code, and never touches a file. All of it belongs to the
loop's thread, but for `room`, `workers`, and reading `jobs`, `local` and `others`.
"""

from __future__ import annotations

import asyncio
import itertools
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from jmr.codec.values import Buffer
from jmr.coordinator import patience
from jmr.coordinator.attempts import Attempts
from jmr.coordinator.books import Books
from jmr.coordinator.jobs import Job, JobSpec, Letter
from jmr.coordinator.local import LocalWorker
from jmr.coordinator.mail import (
    Ending,
    JobDone,
    JobStopped,
    WorkersLost,
)
from jmr.coordinator.worker import Answer, Slot, Stop, Worker
from jmr.launch.local import LocalSupervisor
from jmr.scheduler import effects, events
from jmr.scheduler.machine import Scheduler
from jmr.shuffle.budget import Budget
from jmr.shuffle.directory import Directories
from jmr.shuffle.files import Room, room_of
from jmr.shuffle.outputs import MapOutputs
from jmr.wire.messages import (
    MapDone,
    Measured,
    OpenJob,
    Printed,
    Range,
    SlotExited,
)

if TYPE_CHECKING:
    from jmr.coordinator.others import Others
    from jmr.coordinator.refusal import Refusal
    from jmr.coordinator.remote import RemoteWorker
    from jmr.coordinator.watching import Watching

__all__ = ["Desk"]

#: How long a job's end waits for what was printed on other hosts; and if it was cancelled, when nobody wants to wait.
_DRAIN_SECONDS, _CANCELLED_DRAIN_SECONDS = 2.0, 0.5
#: How often the scheduler is told of the time while jobs run.
_TICK_SECONDS = 1.0


class Desk:
    """Of one coordinator.

    Parameters
    ----------
    budget, directories
        Memory and disk for files of jobs.
    supervisor, n_slots
        The worker of this host, and how many slots it has to start with.
    """

    def __init__(self, budget: Budget, directories: Directories, supervisor: LocalSupervisor, n_slots: int) -> None:
        self._budget = budget
        self._directories = directories
        self.slot_numbers = itertools.count(1)
        self.local = LocalWorker(self, directories.paths, supervisor, n_slots, self.slot_numbers)
        #: Workers on other hosts, if there may be any.
        self.others: Others | None = None
        self.jobs: dict[int, Job] = {}
        self._scheduler = Scheduler()
        self._attempts = Attempts(self, self._scheduler, self.jobs, budget)
        #: Mail that is not delivered yet.
        self._outbox: deque[Letter] = deque()
        self._broken = False
        self._is_ticking = False
        #: Sees to memory, once a job has run for a second.
        self._watching: Watching | None = None

    def room(self, job: int) -> Room:
        """Where the files of a job lie; see `Coordinator.room`."""
        disk, memory = self._directories.disk, self._directories.memory
        return room_of(job, disk.path, None if memory is None else memory.path, self._budget.total_bytes // 4)

    def is_over(self, job: int) -> bool:
        """Whether nobody wants anything of a job any more: its end was told, and its files may have been removed."""
        return job not in self.jobs

    def workers(self) -> list[Worker]:
        """All that are there, this host's first."""
        return [self.local, *self._remote()]

    def guard(self, function: Callable[..., None]) -> Callable[..., None]:
        """Wrap what the loop calls: a mistake of ours ends the jobs with its traceback, else they would hang."""
        return partial(self._guarded, function)

    def _guarded(self, function: Callable[..., None], *args: Any) -> None:
        try:
            function(*args)
        except Exception:
            self._fail_all("jmr's coordinator failed; please report this:\n" + traceback.format_exc())
        self._post()

    def _post(self) -> None:
        """Hand out mail when slots have their orders: a thread that wakes up takes the interpreter away from us."""
        while self._outbox:
            mailbox, mail = self._outbox.popleft()
            mailbox.put(mail)

    def _apply(self, event: events.Event) -> None:
        for effect in self._scheduler.handle(event):
            self.carry_out(effect)

    def carry_out(self, effect: effects.Effect) -> None:
        """Do what must be done."""
        match effect:
            case effects.StartAttempt():
                self._attempts.start(effect)
            case effects.StopSlot(slot):
                self._attempts.stop(slot)
            case effects.PlanReduce(number):
                n_tasks, done = self.jobs[number].plan_reduce(), self.jobs[number].tell_reduced()
                self._apply(events.ReduceTasksKnown(time.monotonic(), number, n_tasks, done))
            case effects.EndJob(number):
                job = self.jobs[number]
                self._end(job, JobDone(job.failures))
            case effects.NoWorkerLeft(number):
                self._end(self.jobs[number], WorkersLost(self.jobs[number].told_refusals()))
            case effects.Commit() | effects.SetAside() | effects.FailJob() | effects.PoisonTask():
                raise AssertionError(f"{effect} is answered where its event was made")

    # Jobs.

    def open_job(self, number: int, spec: JobSpec, n_slots: int | None) -> None:
        """Begin a job; `n_slots` is what it asked for, and the worker grows to it."""
        room, functions = self.room(number), spec.functions
        at, blob = (None, functions) if isinstance(functions, list) else (functions, [])
        opening = OpenJob(
            number,
            spec.n_partitions,
            spec.options.skips,
            room.directory,
            room.memory_directory,
            spec.kept_directory,
            at,
            is_remote=False,
            blobs=[blob, spec.surroundings, b""],
        )
        outputs = MapOutputs(spec.n_partitions)
        assert spec.options.max_slots is not None
        books = Books(spec.report, time.monotonic)
        most = spec.options.max_slots
        job = Job(number, spec, most, opening, None, outputs, books, self._budget, self._outbox)
        if spec.elsewhere is not None:
            job.amend(spec.elsewhere)
        self.jobs[number] = job
        self._apply(events.JobOpened(time.monotonic(), number, spec.options))
        self._tick_soon()
        if self._broken:
            self._broken = False
            self.local.try_again()
        if n_slots is not None and n_slots > self.local.n_slots:
            self.local.resize(n_slots)
        self._count_slots("it has none")

    def amend(self, number: int, elsewhere: tuple[list[Buffer], list[Buffer]]) -> None:
        """Let a job run on other hosts, too."""
        if number in self.jobs:
            self.jobs[number].amend(elsewhere)

    def add_split(self, number: int, split: list[Buffer] | Range) -> None:
        """Queue a map task."""
        job = self.jobs.get(number)
        if job is None or job.ending is not None:
            return
        job.add_split(split)
        self._apply(events.SplitAdded(time.monotonic(), number))

    def carry(self, number: int, index: int, split: list[Buffer] | Range) -> None:
        """Have attempts go on that waited for this split, with what it reads inside."""
        self._attempts.carry(number, index, split)

    def add_done_split(self, number: int, done: MapDone) -> None:
        """Count a map task as done, by what it left in an earlier run."""
        job = self.jobs.get(number)
        if job is None or job.ending is not None:
            return
        job.add_done_split(done)
        self._apply(events.SplitRestored(time.monotonic(), number))

    def end_input(self, number: int, reduced: frozenset[tuple[int, ...]]) -> None:
        """No more map tasks will come; `reduced` as of `Coordinator.end_input`."""
        if number in self.jobs:
            self.jobs[number].reduced = reduced
        self._apply(events.InputEnded(time.monotonic(), number))

    def cancel(self, number: int, ending: Ending) -> None:
        """End a job like this, unless it has ended."""
        job = self.jobs.get(number)
        if job is None or job.ending is not None:
            return
        self._end(job, ending)
        self._apply(events.JobCancelled(time.monotonic(), number))
        self.settle(job)

    def _tick_soon(self) -> None:
        if not self._is_ticking:
            self._is_ticking = True
            due = time.monotonic() + _TICK_SECONDS
            asyncio.get_running_loop().call_later(_TICK_SECONDS, self.guard(self._tick), due)

    def _tick(self, due: float) -> None:
        """Tell the time, and by how much it is late: this thread may have stood still."""
        self._is_ticking = False
        now = time.monotonic()
        self._apply(events.Tick(now, max(0.0, now - due)))
        self._watch().tick(has_jobs=bool(self.jobs))
        if self.jobs:
            self._tick_soon()

    def _end(self, job: Job, ending: Ending) -> None:
        """Remember how a job ends; it is told when its slots are quiet and what they printed has come."""
        assert job.ending is None
        job.ending = ending
        self.settle(job)

    def settle(self, job: Job) -> None:
        """Have a job's end told, if it has ended and nothing of it runs any more, when what it printed is there."""
        if job.ending is None or job.n_draining is not None or not self._scheduler.is_quiet(job.number):
            return
        asked: list[Worker] = [self.local, *(worker for worker in self._remote() if worker.knows(job.number))]
        job.n_draining = len(asked)
        for worker in asked:
            worker.drain(job.number)
        if job.n_draining:
            seconds = _CANCELLED_DRAIN_SECONDS if isinstance(job.ending, JobStopped) else _DRAIN_SECONDS
            asyncio.get_running_loop().call_later(seconds, self.guard(self._tell_end), job.number)

    def drained(self, token: int) -> None:
        """Everything that the job has printed on one more worker is there: tell its end, if it was the last."""
        job = self.jobs.get(token)
        if job is not None and job.n_draining is not None:
            job.n_draining -= 1
            if not job.n_draining:
                self._tell_end(token)

    def _tell_end(self, number: int) -> None:
        job = self.jobs.pop(number, None)
        if job is None:
            return
        assert job.ending is not None
        job.forget()
        self._attempts.close_job(number)
        if self.others is not None:
            self.others.forget_job(number)
        if self._watching is not None:
            self._watching.job_over(number)
        patience.release()
        job.tell(job.ending)

    # What the worker tells.

    def slot_joined(self, slot: Slot) -> None:
        """It waits for work."""
        self._attempts.joined(slot)
        self._apply(events.SlotJoined(time.monotonic(), slot.number, slot.worker.number))

    def slot_unwanted(self, slot: Slot) -> None:
        """It may finish what it is at."""
        self._apply(events.SlotUnwanted(time.monotonic(), slot.number))

    def slot_answered(self, slot: Slot, answer: Answer) -> None:
        """Its attempt is over."""
        self._attempts.answered(slot, answer)

    def slot_died(self, slot: Slot, exited: SlotExited | None) -> None:
        """Its task runs again, or was tried often enough."""
        self._attempts.died(slot, exited)

    def stop_of(self, slot: Slot, exited: SlotExited) -> Stop | None:
        """Whether a slot, which is gone, has ended for want of memory."""
        return self._watch().stop_of(slot, exited) if slot.stop is not None or exited.is_oom else None

    def _watch(self) -> Watching:
        if self._watching is None:
            from jmr.coordinator.watching import Watching  # short jobs need none of it

            self._watching = Watching(self)
        return self._watching

    def measured(self, worker: Worker, measured: Measured) -> None:
        """Its host has so much memory, and its slots have so much of it."""
        self._watch().measured(worker, measured)

    def slots_measured(self, sizes: Mapping[str, int]) -> None:
        """Show it."""
        for job in self.jobs.values():
            job.books.measured(sizes)

    def worker_capped(self, number: int | None, most: int | None) -> None:
        """So many attempts at most may run at once on the worker of this number."""
        self._apply(events.WorkerCapped(time.monotonic(), number, most))

    def printed(self, printed: Printed) -> None:
        """Have it shown where the job that it belongs to was started, if that has not ended."""
        job = self.jobs.get(printed.job)
        if job is not None:
            job.show(printed)

    def worker_broke(self, reason: str) -> None:
        """Fail the jobs that have nothing else to run on."""
        self._broken = True
        if not self._remote() and not self._n_local_slots:
            self._fail_all(reason)
        self._count_slots(reason)
        for job in self.jobs.values():
            if job.ending is None:
                job.note(f"{reason}; it went on with the slots that there were")

    def attempt_broke(self, slot: Slot, reason: str) -> None:
        """Fail its job: what it takes or leaves cannot be read or written here."""
        if slot.attempt is not None and self._scheduler.counts(slot.number):
            self.cancel(slot.attempt.task.job, WorkersLost(reason))

    def _fail_all(self, reason: str) -> None:
        for number in list(self.jobs):
            self.cancel(number, WorkersLost(reason))

    # Workers on other hosts.

    def _remote(self) -> list[RemoteWorker]:
        return [] if self.others is None else self.others.workers

    def worker_joined(self, worker: RemoteWorker) -> None:
        """It has proved itself and said what it is."""
        assert self.others is not None
        self.others.worker_joined(worker)
        self._count_slots("")

    def worker_left(self, worker: RemoteWorker) -> None:
        """It is gone; its slots were told of before."""
        assert self.others is not None
        self.others.worker_left(worker)
        self._count_slots(f"{worker.name}, the last, has ended or cannot be reached any more")

    def worker_leaves(self, worker: RemoteWorker) -> None:
        """Its slots finish what they are at."""
        self._count_slots(f"{worker.name}, the last, was told to end")

    def worker_returned(self, worker: RemoteWorker) -> None:
        """It was lost before, and called again."""
        self._note(f"{worker.name}, which was lost, is back")

    def worker_given_up(self, worker: RemoteWorker, reason: str) -> None:
        """It was lost, and will not be called again."""
        self._note(f"{worker.name}, which was lost, was given up: {reason}")
        self._count_slots(f"{worker.name}, the last, was lost, and given up: {reason}")

    def _note(self, text: str) -> None:
        for job in self.jobs.values():
            job.note(text)

    def slot_paused(self, slot: Slot) -> None:
        """Its worker is silent: nothing new for it."""
        self._apply(events.SlotPaused(time.monotonic(), slot.number))

    def slot_resumed(self, slot: Slot) -> None:
        """Its worker is heard again."""
        self._apply(events.SlotResumed(time.monotonic(), slot.number))

    def resize(self) -> None:
        """Have as many slots on this host as it was told."""
        n_slots = self.local.n_slots  # the newest
        self.local.resize(n_slots)
        for job in self.jobs.values():
            if job.spec.is_elastic:
                job.max_slots = n_slots
                self._apply(events.LimitChanged(time.monotonic(), job.number, n_slots))
        self._count_slots("this host was told to have none")

    def _count_slots(self, last: str) -> None:
        """Tell jobs how many slots may work for them. Those for which there is none fail, unless one may come.

        Parameters
        ----------
        last
            What became of the last one, if it was.
        """
        for job in list(self.jobs.values()):
            report = job.spec.report
            report.n_slots = self._n_slots_for(job)
            report.is_waiting = not report.n_slots
            if report.is_waiting and (self.others is None or not self.others.may_come):
                self.cancel(job.number, WorkersLost(job.told_left(last)))

    @property
    def _n_local_slots(self) -> int:
        """How many this host has, or will have; where no more can be started, those that live."""
        return len(self.local.slots) if self._broken else self.local.n_slots

    def _n_slots_for(self, job: Job) -> int:
        n_local = min(job.max_slots, self._n_local_slots)
        return n_local + sum(worker.n_slots for worker in self._remote() if worker.number not in job.refusals)

    def slot_refused(self, slot: Slot, refusal: Refusal) -> None:
        """Its host cannot take part in this job, and gets no more of it."""
        job = self._attempts.refused(slot, refusal)
        refused = {} if job is None else job.refusals
        others = [worker for worker in self._remote() if worker.number not in refused]
        remote_to_come = _has_slots_to_come(others) or (self.others is not None and self.others.may_return)
        self._apply(
            events.AttemptRefused(time.monotonic(), slot.number, _has_slots_to_come([self.local]), remote_to_come)
        )
        if job is not None:
            self.settle(job)
        self._count_slots("none can do it")

    def split_not_here(self, slot: Slot) -> None:
        """Its attempt waits for the split with what that reads inside."""
        self._attempts.not_here(slot)

    def close(self) -> None:
        """Fail what runs, and let go of all workers."""
        self._fail_all("the cluster was closed")
        for number in list(self.jobs):
            self._tell_end(number)
        self.local.close()
        if self.others is not None:
            self.others.close()


def _has_slots_to_come(workers: Sequence[Worker]) -> bool:
    return any(not slot.ready for worker in workers for slot in worker.slots)
