"""The state machine: `Scheduler.handle(event)` returns what must be done about it.

    SlotJoined, SplitAdded ──> StartAttempt ──> AttemptFinished ──> Commit ──> ... ──> PlanReduce ──> ... ──> EndJob
                                            ├─> AttemptRaised   ──> FailJob, StopSlot for what still runs
                                            └─> SlotDied, SlotLost  ──> the task is queued again, first in line

An event costs the same however many tasks and slots there are, and a free slot goes to the job that runs on the fewest,
found in a heap: O(log n) in the number of jobs and slots. A task's output is committed once; a slot of an ended job is
stopped, and what it still delivers is dropped.

The heap is never searched. A job that wants a slot stands in line with the number it has; when that changes it gets in
line again, and the entry that is out of date is dropped when it comes up. If the number changes back before that, the
entry is true once more and no second one is made: the line does not grow with the tasks.

Invariants, checked by `check` after every event in the tests: a running task has exactly one slot; a job knows the
slots that work for it; a job that wants a slot stands in line with its number of slots, and nobody stands there twice
with one number; no slot is idle while a job wants one.
"""

from __future__ import annotations

import heapq
import itertools

from jmr.scheduler.effects import (
    Commit,
    Effect,
    EndJob,
    FailJob,
    PlanReduce,
    PoisonTask,
    SetAside,
    StartAttempt,
    StopSlot,
)
from jmr.scheduler.events import (
    AttemptFinished,
    AttemptRaised,
    Event,
    InputEnded,
    JobCancelled,
    JobOpened,
    ReduceTasksKnown,
    SlotDied,
    SlotJoined,
    SlotLost,
    SlotUnwanted,
    SplitAdded,
)
from jmr.scheduler.jobs import Job, JobState, Phase, Task, TaskState

__all__ = ["Scheduler"]


class Scheduler:
    """All jobs, tasks and slots of one coordinator."""

    def __init__(self) -> None:
        self._jobs: dict[int, Job] = {}
        #: Jobs that have ended while slots still work for them.
        self._ending: dict[int, Job] = {}
        #: Jobs that want a slot: how many they have, when they were opened (no two are equal so far), which.
        self._line: list[tuple[int, int, Job]] = []
        #: Slots without work, the one that worked last at the end; a dict for its order.
        self._idle: dict[int, None] = {}
        self._running: dict[int, Task] = {}
        #: Slots that were told to stop, until they are gone.
        self._stopping: set[int] = set()
        #: Slots that shall stop when their attempt is over.
        self._unwanted: set[int] = set()
        self._n_opened = itertools.count()

    def handle(self, event: Event) -> list[Effect]:
        """Apply one event and say what must be done about it."""
        match event:
            case JobOpened(_, job, options):
                self._jobs[job] = Job(job, options, next(self._n_opened))
                return []
            case SplitAdded(_, job):
                return self._add_split(job)
            case InputEnded(_, job):
                return self._end_input(job)
            case ReduceTasksKnown(_, job, n_tasks):
                return self._begin_reduce(job, n_tasks)
            case SlotJoined(_, slot):
                self._idle[slot] = None
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
            case JobCancelled(_, job):
                return self._cancel(job)

    def task_of(self, slot: int) -> Task | None:
        """The task that a slot works on."""
        return self._running.get(slot)

    def is_quiet(self, job: int) -> bool:
        """Whether no slot works for the job any more."""
        return job not in self._jobs and job not in self._ending

    def _add_split(self, job_id: int) -> list[Effect]:
        job = self._jobs.get(job_id)
        if job is None:  # it failed while its source was being read
            return []
        job.add(Phase.MAP, job.n_map_tasks)
        job.n_map_tasks += 1
        self._get_in_line(job)
        return self._assign()

    def _end_input(self, job_id: int) -> list[Effect]:
        job = self._jobs.get(job_id)
        if job is None:
            return []
        job.input_ended = True
        return self._advance(job)

    def _begin_reduce(self, job_id: int, n_tasks: int) -> list[Effect]:
        job = self._jobs.get(job_id)
        if job is None:
            return []
        job.state = JobState.REDUCING
        for index in range(n_tasks):
            job.add(Phase.REDUCE, index)
        self._get_in_line(job)
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
        while self._idle and (job := self._neediest()) is not None:
            slot, _ = self._idle.popitem()  # the one that worked last: it has the job's functions, and a warm cache
            effects.append(self._start(job, slot))
        return effects

    def _neediest(self) -> Job | None:
        """Of the jobs that want a slot, the one that runs on the fewest; the oldest of equals."""
        while self._line:
            n_slots, _, job = self._line[0]
            if n_slots == len(job.slots) and job.wants_slot():
                return job
            heapq.heappop(self._line)
            job.in_line.discard(n_slots)
        return None

    def _get_in_line(self, job: Job) -> None:
        """Let a job be found by the number of slots that it has now, if it wants one more."""
        n_slots = len(job.slots)
        if n_slots not in job.in_line and job.wants_slot():
            job.in_line.add(n_slots)
            heapq.heappush(self._line, (n_slots, job.order, job))

    def _start(self, job: Job, slot: int) -> Effect:
        task = job.queue.popleft()
        task.state = TaskState.RUNNING
        task.n_attempts += 1
        job.slots.add(slot)
        self._get_in_line(job)
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
            self._get_in_line(job)
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
        """A slot is free again, unless it was told to stop."""
        effects: list[Effect] = []
        if slot in self._unwanted:
            effects += self._stop([slot])
        elif slot not in self._stopping:
            self._idle[slot] = None
        return effects + self._assign()

    def _retire(self, slot: int) -> list[Effect]:
        if slot in self._idle:
            return self._stop([slot])
        self._unwanted.add(slot)
        return []

    def _stop(self, slots: list[int]) -> list[Effect]:
        """Stop slots, each once."""
        stops = [slot for slot in slots if slot not in self._stopping]
        for slot in stops:
            self._stopping.add(slot)
            self._idle.pop(slot, None)
        return [StopSlot(slot) for slot in stops]

    def _fail(self, slot: int) -> list[Effect]:
        job, task = self._release(slot)
        effects: list[Effect] = []
        if job and task:
            effects = [FailJob(task.id), *self._end(job)]
        return effects + self._return(slot)

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
        if job.slots:
            self._ending[job.id] = job

    def _lose_slot(self, slot: int, cursor: int | None, *, blamed: bool) -> list[Effect]:
        job, task = self._release(slot)
        self._idle.pop(slot, None)
        self._stopping.discard(slot)
        self._unwanted.discard(slot)
        if job is None or task is None:
            return []
        effects = self._count_death(job, task, cursor) if blamed else []
        if job.state is not JobState.ENDED:
            task.state = TaskState.QUEUED
            job.queue.appendleft(task)
            self._get_in_line(job)
        return effects + self._assign()

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
            assert len(job.slots) == len({task.id for task in running})
            assert all(task.state is TaskState.RUNNING for task in running)
            assert job.n_left == len(running) + len(job.queue)
            assert all(task.state is TaskState.QUEUED for task in job.queue)
            assert job.state is not JobState.ENDED
            assert not (self._idle and job.wants_slot())
            assert len(job.slots) in job.in_line or not job.wants_slot()
            assert sorted(job.in_line) == sorted(n for n, order, _ in self._line if order == job.order)
        assert not any(job.wants_slot() for _, _, job in self._line if job.state is JobState.ENDED)
        assert {task.id.job for task in self._running.values()} - self._jobs.keys() == self._ending.keys()
        assert not self._idle.keys() & self._running.keys()
        assert not self._idle.keys() & self._stopping
