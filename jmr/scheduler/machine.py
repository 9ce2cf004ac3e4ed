"""The state machine: `Scheduler.handle(event)` returns what must be done about it.

    SlotJoined, SplitAdded ──> StartAttempt ──> AttemptFinished ──> Commit ──> ... ──> PlanReduce ──> ... ──> EndJob
                                            ├─> AttemptRaised   ──> FailJob, StopSlot for what still runs
                                            ├─> SlotDied, SlotLost  ──> the task is queued again, first in line
                                            ├─> AttemptRefused  ──> the same, and the worker is barred from the job;
                                            │                       NoWorkerLeft if it was the last that might do
                                            └─> Tick ──> StartAttempt, a backup of what runs too long ──> the first that
                                                         finishes: Commit, and StopSlot for the other

An event costs the same however many tasks there are; a tick, the number of jobs and of attempts that run too long. A
free slot goes to the job that runs on the fewest, which `pools` finds in O(log n) of jobs and slots; a job gets a slot
of this host if there is one for it, else another worker's. A task's output is committed once; a slot of an ended job or
task is stopped, and what it still delivers is dropped. A paused slot goes on with what it is at. A job waits for slots
as long as it takes, unless a refusal shows that none is left that may do.

Backups: when nothing of a job waits for a slot or is to come, and three quarters of its phase are done, tasks whose
attempt has run too long (see `lengths`) get one more each, as long as slots are idle, and up to a tenth of the slots
that the job may use (one at least) at a time. A worker that is slow or silent may be why, so another's slot is
preferred.

Invariants, checked by `check` after every event in the tests: a running task has one slot that counts, or two; a job
knows the slots that work for it, and how many are this host's; a slot that does not work is idle, spare, paused or
stopping; a job that wants a slot stands in line with its number of slots in every pool that it may use, and nobody
stands there twice with one number; no slot is idle while a job wants it; a worker that is barred from a job shares its
pool with no other; a worker with spare slots has as many others at work, or idle, as its cap allows.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace

from jmr.scheduler.deaths import Deaths
from jmr.scheduler.effects import (
    Commit,
    Effect,
    EndJob,
    FailJob,
    NoWorkerLeft,
    PlanReduce,
    PoisonTask,
    SetAside,
    StartAttempt,
    StopSlot,
)
from jmr.scheduler.events import (
    AttemptFinished,
    AttemptRaised,
    AttemptRefused,
    Event,
    InputEnded,
    JobCancelled,
    JobOpened,
    LimitChanged,
    ReduceTasksKnown,
    SlotDied,
    SlotJoined,
    SlotLost,
    SlotPaused,
    SlotResumed,
    SlotUnwanted,
    SplitAdded,
    SplitRestored,
    Tick,
    WorkerCapped,
)
from jmr.scheduler.jobs import Job, JobState, Phase, Task, TaskState
from jmr.scheduler.pools import Pool, Pools

__all__ = ["Scheduler"]

#: Of the slots that a job may use, so many at most are for backups.
_OF_SLOTS = 10


class Scheduler:
    """All jobs, tasks and slots of one coordinator."""

    def __init__(self) -> None:
        self._jobs: dict[int, Job] = {}
        #: Jobs that have ended while slots still work for them.
        self._ending: dict[int, Job] = {}
        self._pools = Pools(self._jobs)
        self._running: dict[int, Task] = {}
        #: Slots that were told to stop, until they are gone.
        self._stopping: set[int] = set()
        #: Slots that shall stop when their attempt is over, until they are gone.
        self._unwanted: set[int] = set()
        #: Slots that get no new attempt now.
        self._paused: set[int] = set()
        self._n_opened = itertools.count()
        #: When the event came that is handled, without the time that this process stood still.
        self._now = 0.0
        self._late = 0.0

    def handle(self, event: Event) -> list[Effect]:
        """Apply one event and say what must be done about it."""
        self._now = event.now - self._late
        match event:  # the most frequent first
            case AttemptFinished(_, slot):
                return self._finish(slot)
            case SplitAdded(_, job):
                return self._add_split(job)
            case JobOpened(_, job, options):
                self._open(Job(job, options, next(self._n_opened)))
                return []
            case LimitChanged(_, job, max_slots):
                return self._change_limit(job, max_slots)
            case SplitRestored(_, job):
                self._count_restored(job)
                return []
            case InputEnded(_, job):
                return self._end_input(job)
            case ReduceTasksKnown(_, job, n_tasks, done):
                return self._begin_reduce(job, n_tasks, done)
            case SlotJoined(_, slot, worker):
                self._pools.join(slot, worker)
                self._pools.put_back(slot)
                return self._assign()
            case SlotDied():
                return self._lose_slot(event.slot, event)
            case SlotLost(_, slot):
                return self._lose_slot(slot, None)
            case SlotUnwanted(_, slot):
                return self._retire(slot)
            case AttemptRaised(_, slot):
                return self._fail(slot)
            case AttemptRefused(_, slot, local_to_come, remote_to_come):
                return self._refuse(slot, local_to_come, remote_to_come)
            case JobCancelled(_, job):
                return self._cancel(job)
            case SlotPaused(_, slot):
                return self._pause(slot)
            case SlotResumed(_, slot):
                return self._resume(slot)
            case WorkerCapped(_, worker, most):
                assert most is None or most >= 1, "a job that never ends"
                self._pools.cap(worker, most)
                return self._assign()
            case Tick(_, late):
                return self._tick(late)

    def counts(self, slot: int) -> bool:
        """Whether anybody wants to know how a slot's attempt ends: neither the job has ended nor the task."""
        task = self._running.get(slot)
        return task is not None and slot in task.slots and task.id.job in self._jobs

    def is_quiet(self, job: int) -> bool:
        """Whether no slot works for the job any more."""
        return job not in self._jobs and job not in self._ending

    def _open(self, job: Job) -> None:
        self._jobs[job.id] = job
        self._pools.admit(job)

    def _change_limit(self, job_id: int, max_slots: int) -> list[Effect]:
        job = self._jobs.get(job_id)
        if job is None:
            return []
        job.options = replace(job.options, max_slots=max_slots)
        self._pools.get_in_line(job)
        return self._assign()

    def _add_split(self, job_id: int) -> list[Effect]:
        job = self._jobs.get(job_id)
        if job is None:  # it failed while its source was being read
            return []
        job.add(Phase.MAP)
        self._pools.get_in_line(job)
        return self._assign()

    def _count_restored(self, job_id: int) -> None:
        job = self._jobs.get(job_id)
        if job is not None:
            job.count_kept()

    def _end_input(self, job_id: int) -> list[Effect]:
        job = self._jobs.get(job_id)
        if job is None:
            return []
        job.input_ended = True
        return self._advance(job)

    def _begin_reduce(self, job_id: int, n_tasks: int, done: frozenset[int]) -> list[Effect]:
        job = self._jobs.get(job_id)
        if job is None:
            return []
        job.begin_reduce(n_tasks, done)
        self._pools.get_in_line(job)
        return self._advance(job) + self._assign()

    def _advance(self, job: Job) -> list[Effect]:
        """Move a job to its next state when nothing of this one is left to do."""
        if job.n_left:
            return []
        if job.state is JobState.MAPPING and job.input_ended:
            job.state = JobState.PLANNING
            return [PlanReduce(job.id)]
        if job.state is JobState.REDUCING:
            self._drop(job)
            return [EndJob(job.id)]
        return []

    def _assign(self) -> list[Effect]:
        effects: list[Effect] = []
        for pool in self._pools.open:
            while pool.idle and (job := pool.neediest()) is not None:
                effects.append(self._start(job, pool))
        return effects

    def _start(self, job: Job, pool: Pool) -> Effect:
        slot, _ = pool.idle.popitem()  # the one that worked last: it has the job's functions, and a warm cache
        return self._begin(job, job.queue.popleft(), slot, pool)

    def _begin(self, job: Job, task: Task, slot: int, pool: Pool, *, backup: bool = False) -> Effect:
        task.state = TaskState.RUNNING
        task.n_attempts += 1
        task.slots += (slot,)
        job.slots[slot] = self._now
        job.n_local += pool.is_local
        self._pools.get_in_line(job)
        self._running[slot] = task
        return StartAttempt(slot, task.id, task.n_attempts, task.left_out, task.is_suspect, backup)

    def _tick(self, late: float) -> list[Effect]:
        self._late += late
        self._now -= late
        for job in self._jobs.values():
            job.begin_by(self._now)
        return [effect for job in self._jobs.values() if job.wants_backups() for effect in self._back_up(job)]

    def _back_up(self, job: Job) -> list[Effect]:
        """Start one more attempt at tasks that take too long."""
        effects: list[Effect] = []
        most = max(1, self._pools.n_slots_for(job) // _OF_SLOTS)
        for slot in job.stragglers(self._now):
            if job.n_backups >= most:
                break
            task = self._running[slot]
            if task.slots != (slot,):  # it has a backup, or is one, or is stopping
                continue
            other = self._pools.slot_beside(job, slot)
            if other is None:
                break
            job.n_backups += 1
            effects.append(self._begin(job, task, other, self._pools.worker_of[other].pool, backup=True))
        return effects

    def _release(self, slot: int) -> tuple[Job, Task, float] | None:
        """Take the slot's task away from it, and say since when it had it; None if that is nobody's affair any more."""
        task = self._running.pop(slot, None)
        if task is None:
            return None
        worker = self._pools.worker_of[slot]
        worker.n_open -= 1
        job = self._jobs.get(task.id.job)
        if job is None:
            ending = self._ending[task.id.job]
            del ending.slots[slot]
            if not ending.slots:
                del self._ending[task.id.job]
            return None
        began = job.slots.pop(slot)
        job.n_local -= worker.pool.is_local
        self._pools.get_in_line(job)
        if slot not in task.slots:
            return None
        if len(task.slots) == 1:
            task.slots = ()
        else:
            task.slots = tuple(each for each in task.slots if each != slot)
            job.n_backups -= 1  # the other one is the only one now
        return job, task, began

    def _finish(self, slot: int) -> list[Effect]:
        effects: list[Effect] = []
        if found := self._release(slot):
            job, task, began = found
            task.state = TaskState.DONE
            job.n_left -= 1
            job.lengths.add(self._now - began)
            effects = [Commit(task.id)]
            if task.slots:
                effects += self._stop_others(task)
            if not job.n_left:
                effects += self._advance(job)
        return effects + self._return(slot)

    def _stop_others(self, task: Task) -> list[Effect]:
        """What is left of a task's attempts does not count."""
        others, task.slots = task.slots, ()
        return self._stop(others)

    def _return(self, slot: int) -> list[Effect]:
        """A slot is free again, unless it is paused or was told to stop."""
        effects = self._stop([slot]) if slot in self._unwanted else []
        if slot in self._stopping or slot in self._paused:
            self._pools.withhold(slot)
        else:
            self._pools.put_back(slot)
        return effects + self._assign()

    def _retire(self, slot: int) -> list[Effect]:
        if slot not in self._pools:
            return []
        self._unwanted.add(slot)
        return [] if slot in self._running else self._stop([slot])

    def _pause(self, slot: int) -> list[Effect]:
        if slot in self._pools:
            self._paused.add(slot)
            self._pools.withhold(slot)
        return []

    def _resume(self, slot: int) -> list[Effect]:
        if slot not in self._paused:
            return []
        self._paused.remove(slot)
        return [] if slot in self._running else self._return(slot)

    def _stop(self, slots: Iterable[int]) -> list[Effect]:
        """Stop slots, each once."""
        stops = [slot for slot in slots if slot not in self._stopping]
        for slot in stops:
            self._stopping.add(slot)
            self._pools.withhold(slot)
        return [StopSlot(slot) for slot in stops]

    def _fail(self, slot: int) -> list[Effect]:
        effects: list[Effect] = []
        if found := self._release(slot):
            job, task, _ = found
            effects = [FailJob(task.id), *self._end(job)]
        return effects + self._return(slot)

    def _refuse(self, slot: int, local_to_come: bool, remote_to_come: bool) -> list[Effect]:
        worker = self._pools.worker_of[slot]
        assert worker.number is not None, "a job finds on this host what it needs"
        effects: list[Effect] = []
        if found := self._release(slot):
            job, task, _ = found
            self._pools.bar(job, worker)
            self._queue_again(job, task)
            if not (remote_to_come or self._may_run(job, local_to_come)):
                effects = [NoWorkerLeft(job.id), *self._end(job)]
        return effects + self._return(slot)

    def _may_run(self, job: Job, local_to_come: bool) -> bool:
        """Whether some slot that stays, busy or paused or not, may work for the job."""
        may_be_local = job.options.max_slots != 0
        return (local_to_come and may_be_local) or any(
            (may_be_local if number is None else number not in job.barred) and not worker.slots <= self._unwanted
            for number, worker in self._pools.workers.items()
        )

    def _cancel(self, job_id: int) -> list[Effect]:
        job = self._jobs.get(job_id)
        return [] if job is None else self._end(job) + self._assign()

    def _end(self, job: Job) -> list[Effect]:
        """Give up a job; the slots that work for it are stopped, since user code cannot be."""
        self._drop(job)
        return self._stop(sorted(job.slots))

    def _drop(self, job: Job) -> None:
        job.state = JobState.ENDED
        job.queue.clear()
        del self._jobs[job.id]
        self._pools.dismiss(job)
        if job.slots:
            self._ending[job.id] = job

    def _lose_slot(self, slot: int, died: SlotDied | None) -> list[Effect]:
        found = self._release(slot)
        self._pools.leave(slot)
        self._stopping.discard(slot)
        self._unwanted.discard(slot)
        self._paused.discard(slot)
        effects: list[Effect] = []
        if found:
            job, task, _ = found
            task.is_suspect = True
            effects = [] if died is None else self._count_death(job, task, died)
            if job.state is not JobState.ENDED:
                self._queue_again(job, task)
        return effects + self._assign()

    def _queue_again(self, job: Job, task: Task) -> None:
        """Have a task run again, unless another slot works on it."""
        if not task.slots:
            task.state = TaskState.QUEUED
            job.queue.appendleft(task)
            self._pools.get_in_line(job)

    def _count_death(self, job: Job, task: Task, died: SlotDied) -> list[Effect]:
        if task.deaths is None:
            task.deaths = Deaths()
        verdict = task.deaths.add(died.cursor, job.options.max_attempts, died.enough)
        if verdict is None:
            return []
        culprit, n_deaths = verdict
        if culprit is None or not job.options.skips:
            return [PoisonTask(task.id, culprit, n_deaths), *self._end(job)]
        task.left_out += (culprit,)
        task.deaths = None
        return [SetAside(task.id, culprit, n_deaths), *self._stop_others(task)]  # which have not left it out

    def check(self) -> None:
        """Assert the invariants that the module docstring names."""
        for job in self._jobs.values():
            running = {task.id: task for task in self._running.values() if task.id.job == job.id and task.slots}
            assert job.slots.keys() == {slot for slot, task in self._running.items() if task.id.job == job.id}
            assert job.n_local == sum(self._pools.worker_of[slot].number is None for slot in job.slots)
            assert all(task.state is TaskState.RUNNING and len(task.slots) <= 2 for task in running.values())
            assert all(self._running[slot] is task for task in running.values() for slot in task.slots)
            assert list(job.slots.values()) == sorted(job.slots.values())
            assert job.n_backups == sum(len(task.slots) == 2 for task in running.values())
            assert job.slots.keys() - self._stopping == {slot for task in running.values() for slot in task.slots}
            assert job.n_left == len(running) + len(job.queue) <= job.n_tasks
            assert all(task.state is TaskState.QUEUED and not task.slots for task in job.queue)
            assert job.state is not JobState.ENDED
        assert {task.id.job for task in self._running.values()} - self._jobs.keys() == self._ending.keys()
        slots = {slot for worker in self._pools.workers.values() for slot in worker.slots}
        busy = self._running.keys() | self._stopping | self._paused
        spare = {slot for worker in self._pools.workers.values() for slot in worker.spare}
        assert slots - busy == {slot for pool in self._pools.open for slot in pool.idle} | spare
        for worker in self._pools.workers.values():
            working = worker.slots & self._running.keys()
            assert worker.n_open == len(working) + len(worker.slots & worker.pool.idle.keys())
        assert busy | self._unwanted <= slots
        assert self._unwanted <= self._running.keys() | self._stopping
        self._pools.check()
