"""The state machine: `Scheduler.handle(event)` returns what must be done about it.

    SlotJoined, SplitAdded ──> StartAttempt ──> AttemptFinished ──> Commit ──> ... ──> PlanReduce ──> ... ──> EndJob
                                            ├─> AttemptRaised   ──> FailJob, StopSlot for what still runs
                                            ├─> SlotDied, SlotLost  ──> the task is queued again, first in line
                                            └─> AttemptRefused  ──> the same, and the worker is barred from the job;
                                                                    NoWorkerLeft if it was the last that might do

An event costs the same however many tasks there are. A free slot goes to the job that runs on the fewest, which `pools`
finds in O(log n) of jobs and slots; a job gets a slot of this host if there is one for it, else another worker's. A
task's output is committed once; a slot of an ended job is stopped, and what it still delivers is dropped. A paused slot
goes on with what it is at. A job waits for slots as long as it takes, unless a refusal shows that none is left that may
do.

Invariants, checked by `check` after every event in the tests: a running task has exactly one slot; a job knows the
slots that work for it, and how many are this host's; a slot that does not work is idle, paused or stopping; a job that
wants a slot stands in line with its number of slots in every pool that it may use, and nobody stands there twice with
one number; no slot is idle while a job wants it; a worker that is barred from a job shares its pool with no other.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

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
)
from jmr.scheduler.jobs import Job, JobState, Phase, Task, TaskState
from jmr.scheduler.pools import Pool, Pools

__all__ = ["Scheduler"]


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

    def handle(self, event: Event) -> list[Effect]:
        """Apply one event and say what must be done about it."""
        match event:
            case JobOpened(_, job, options):
                self._open(Job(job, options, next(self._n_opened)))
                return []
            case LimitChanged(_, job, max_slots):
                return self._change_limit(job, max_slots)
            case SplitAdded(_, job):
                return self._add_split(job)
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
            case SlotDied(_, slot, cursor):
                return self._lose_slot(slot, cursor, blamed=True)
            case SlotLost(_, slot):
                return self._lose_slot(slot, None, blamed=False)
            case SlotUnwanted(_, slot):
                return self._retire(slot)
            case AttemptFinished(_, slot):
                return self._finish(slot)
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

    def task_of(self, slot: int) -> Task | None:
        """The task that a slot works on."""
        return self._running.get(slot)

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
        job.add(Phase.MAP, job.n_map_tasks)
        job.n_map_tasks += 1
        self._pools.get_in_line(job)
        return self._assign()

    def _count_restored(self, job_id: int) -> None:
        job = self._jobs.get(job_id)
        if job is not None:
            job.n_map_tasks += 1

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
        job.state = JobState.REDUCING
        for index in range(n_tasks):
            if index not in done:
                job.add(Phase.REDUCE, index)
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
        task = job.queue.popleft()
        task.state = TaskState.RUNNING
        task.n_attempts += 1
        job.slots.add(slot)
        task.is_local = pool.is_local
        job.n_local += pool.is_local
        self._pools.get_in_line(job)
        self._running[slot] = task
        return StartAttempt(slot, task.id, task.n_attempts, task.left_out)

    def _release(self, slot: int) -> tuple[Job | None, Task | None]:
        """Take the slot's task away from it."""
        task = self._running.pop(slot, None)
        if task is None:
            return None, None
        job = self._jobs.get(task.id.job)
        if job is None:
            ending = self._ending[task.id.job]
            ending.slots.discard(slot)
            if not ending.slots:
                del self._ending[task.id.job]
        else:
            job.slots.discard(slot)
            job.n_local -= task.is_local
            self._pools.get_in_line(job)
        return job, task

    def _finish(self, slot: int) -> list[Effect]:
        job, task = self._release(slot)
        effects: list[Effect] = []
        if job and task:
            task.state = TaskState.DONE
            job.n_left -= 1
            effects = [Commit(task.id), *self._advance(job)]
        return effects + self._return(slot)

    def _return(self, slot: int) -> list[Effect]:
        """A slot is free again, unless it is paused or was told to stop."""
        effects: list[Effect] = []
        if slot in self._unwanted:
            effects += self._stop([slot])
        elif slot not in self._stopping and slot not in self._paused:
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

    def _stop(self, slots: list[int]) -> list[Effect]:
        """Stop slots, each once."""
        stops = [slot for slot in slots if slot not in self._stopping]
        for slot in stops:
            self._stopping.add(slot)
            self._pools.withhold(slot)
        return [StopSlot(slot) for slot in stops]

    def _fail(self, slot: int) -> list[Effect]:
        job, task = self._release(slot)
        effects: list[Effect] = []
        if job and task:
            effects = [FailJob(task.id), *self._end(job)]
        return effects + self._return(slot)

    def _refuse(self, slot: int, local_to_come: bool, remote_to_come: bool) -> list[Effect]:
        worker = self._pools.worker_of[slot]
        assert worker.number is not None, "a job finds on this host what it needs"
        job, task = self._release(slot)
        effects: list[Effect] = []
        if job and task:
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

    def _lose_slot(self, slot: int, cursor: int | None, *, blamed: bool) -> list[Effect]:
        job, task = self._release(slot)
        self._pools.leave(slot)
        self._stopping.discard(slot)
        self._unwanted.discard(slot)
        self._paused.discard(slot)
        if job is None or task is None:
            return []
        effects = self._count_death(job, task, cursor) if blamed else []
        if job.state is not JobState.ENDED:
            self._queue_again(job, task)
        return effects + self._assign()

    def _queue_again(self, job: Job, task: Task) -> None:
        task.state = TaskState.QUEUED
        job.queue.appendleft(task)
        self._pools.get_in_line(job)

    def _count_death(self, job: Job, task: Task, cursor: int | None) -> list[Effect]:
        task.n_deaths += 1
        if task.n_deaths < job.options.max_attempts:
            return []
        if cursor is None or not job.options.skips:
            return [PoisonTask(task.id, cursor, task.n_deaths), *self._end(job)]
        task.left_out += (cursor,)
        task.n_deaths = 0
        return [SetAside(task.id, cursor)]

    def check(self) -> None:
        """Assert the invariants that the module docstring names."""
        for job in self._jobs.values():
            running = [task for task in self._running.values() if task.id.job == job.id]
            assert job.slots == {slot for slot, task in self._running.items() if task.id.job == job.id}
            assert job.n_local == sum(self._pools.worker_of[slot].number is None for slot in job.slots)
            assert len(job.slots) == len({task.id for task in running})
            assert all(task.state is TaskState.RUNNING for task in running)
            assert job.n_left == len(running) + len(job.queue)
            assert all(task.state is TaskState.QUEUED for task in job.queue)
            assert job.state is not JobState.ENDED
        assert {task.id.job for task in self._running.values()} - self._jobs.keys() == self._ending.keys()
        slots = {slot for worker in self._pools.workers.values() for slot in worker.slots}
        busy = self._running.keys() | self._stopping | self._paused
        assert slots - busy == {slot for pool in self._pools.open for slot in pool.idle}
        assert busy | self._unwanted <= slots
        assert self._unwanted <= self._running.keys() | self._stopping
        self._pools.check()
