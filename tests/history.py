"""The history of a scheduler's jobs, as somebody sees it who knows its events and effects alone, and what may not be.

    event, effects ──add──> slots, attempts, tasks, jobs ──> a task committed twice? a slot idle while a task waits? ...

It shares no code with the scheduler: it counts, sorts and looks at everything each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

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
from jmr.scheduler.jobs import JobOptions, Phase, TaskId

__all__ = ["History"]


@dataclass(slots=True)
class Slot:
    """One that has joined and is not gone."""

    worker: int | None
    paused: bool = False
    unwanted: bool = False
    stopping: bool = False
    attempt: Attempt | None = None


@dataclass(slots=True)
class Attempt:
    """What a slot was told to do."""

    task: TaskId
    began: float
    backup: bool
    #: Whether its answer is wanted.
    counts: bool = True


@dataclass(slots=True)
class Job:
    """One that was opened."""

    options: JobOptions
    tasks: set[TaskId] = field(default_factory=set)
    committed: set[TaskId] = field(default_factory=set)
    #: Those that an earlier run has done.
    kept: set[TaskId] = field(default_factory=set)
    #: Of this phase: how long attempts took.
    lengths: list[float] = field(default_factory=list)
    deaths: dict[TaskId, list[SlotDied]] = field(default_factory=dict)
    n_attempts: dict[TaskId, int] = field(default_factory=dict)
    left_out: dict[TaskId, tuple[int, ...]] = field(default_factory=dict)
    phase: Phase = Phase.MAP
    input_ended: bool = False
    ended: bool = False
    barred: set[int | None] = field(default_factory=set)

    def of_phase(self) -> set[TaskId]:
        """The tasks of this phase."""
        return {task for task in self.tasks if task.phase is self.phase}

    def patience(self) -> float:
        """An attempt that has run longer takes too long."""
        return max(10.0, 2 * sorted(self.lengths)[(len(self.lengths) - 1) // 2] if self.lengths else 0.0)


class History:
    """Grows by an event and its effects at a time."""

    def __init__(self) -> None:
        self.slots: dict[int, Slot] = {}
        self.jobs: dict[int, Job] = {}
        self.caps: dict[int | None, int] = {}
        #: How many there were, and how many of them were the first to finish.
        self.n_backups = self.n_won = 0
        self._late = 0.0

    def add(self, event: Event, effects: list[Effect]) -> None:
        """Take down what happened, and what was done about it; raise AssertionError if that cannot be right."""
        now = event.now - self._late - (event.late if isinstance(event, Tick) else 0.0)
        over = self._take_down(event)
        for effect in effects:
            self._check(effect, event, over, now)
        assert not [job for job in self._open() for _ in self._useful_slots(job) if self._waiting(job)], "a slot idles"
        if isinstance(event, Tick):
            assert not [job for job in self._open() if self._misses_backup(job, now)], "a straggler without a backup"

    def kept(self) -> set[TaskId]:
        """Tasks that an earlier run has done."""
        return set().union(*(job.kept for job in self.jobs.values()))

    # Events.

    def _take_down(self, event: Event) -> Attempt | None:
        """Note an event; returns the attempt that is over by it."""
        match event:
            case JobOpened(_, job, options):
                self.jobs[job] = Job(options)
            case LimitChanged(_, job, max_slots) if job in self.jobs:
                self.jobs[job].options = replace(self.jobs[job].options, max_slots=max_slots)
            case SplitAdded(_, job) if not self.jobs[job].ended:
                self._add_task(job, Phase.MAP)
            case SplitRestored(_, job) if not self.jobs[job].ended:
                self._keep(self._add_task(job, Phase.MAP))
            case InputEnded(_, job):
                self.jobs[job].input_ended = True
            case ReduceTasksKnown(_, job, n_tasks, done) if not self.jobs[job].ended:
                self.jobs[job].phase, self.jobs[job].lengths = Phase.REDUCE, []
                tasks = [self._add_task(job, Phase.REDUCE) for _ in range(n_tasks)]
                for index in done:
                    self._keep(tasks[index])
            case JobCancelled(_, job) if job in self.jobs:
                self._end(job)
            case SlotJoined(_, slot, worker):
                assert slot not in self.slots
                self.slots[slot] = Slot(worker)
            case SlotPaused(_, slot) if slot in self.slots:
                self.slots[slot].paused = True
            case SlotResumed(_, slot) if slot in self.slots:
                self.slots[slot].paused = False
            case SlotUnwanted(_, slot) if slot in self.slots:
                self.slots[slot].unwanted = True
            case WorkerCapped(_, worker, most):
                self.caps.pop(worker, None)
                if most is not None:
                    self.caps[worker] = most
            case Tick(now, late):
                self._late += late
                for attempt in [slot.attempt for slot in self.slots.values() if slot.attempt is not None]:
                    attempt.began = min(attempt.began, now - self._late)  # nothing begins later than now
            case _:
                return self._end_attempt(event)
        return None

    def _end_attempt(self, event: Event) -> Attempt | None:
        slot = self.slots.get(getattr(event, "slot", -1))
        if slot is None:
            return None
        attempt, slot.attempt = slot.attempt, None
        if isinstance(event, SlotDied | SlotLost):
            del self.slots[event.slot]
        if attempt is None or not attempt.counts:
            return None
        if isinstance(event, SlotDied):
            self.jobs[attempt.task.job].deaths.setdefault(attempt.task, []).append(event)
        if isinstance(event, AttemptRefused):
            self.jobs[attempt.task.job].barred.add(slot.worker)
        return attempt

    def _add_task(self, job: int, phase: Phase) -> TaskId:
        task = TaskId(job, phase, sum(task.phase is phase for task in self.jobs[job].tasks))
        self.jobs[job].tasks.add(task)
        return task

    def _keep(self, task: TaskId) -> None:
        self.jobs[task.job].kept.add(task)
        self.jobs[task.job].committed.add(task)

    def _end(self, job: int) -> None:
        self.jobs[job].ended = True
        for attempt in self._attempts():
            if attempt.task.job == job:
                attempt.counts = False

    # Effects.

    def _check(self, effect: Effect, event: Event, over: Attempt | None, now: float) -> None:
        match effect:
            case StartAttempt():
                self._begin(effect, event, now)
            case StopSlot(slot):
                assert not self.slots[slot].stopping, "stopped twice"
                self.slots[slot].stopping = True
                attempt = self.slots[slot].attempt
                assert self.slots[slot].unwanted if attempt is None else not attempt.counts
            case Commit(task):
                assert isinstance(event, AttemptFinished)
                assert over is not None
                assert over.task == task
                job = self.jobs[task.job]
                assert task not in job.committed
                assert not job.ended
                job.committed.add(task)
                job.lengths.append(now - over.began)
                self.n_won += over.backup
                self._give_up(task)
            case SetAside(task, index, n_deaths):
                job = self.jobs[task.job]
                assert job.options.skips
                assert index not in job.left_out.get(task, ())
                assert _is_proof(job, job.deaths[task], index, n_deaths)
                job.left_out[task] = (*job.left_out.get(task, ()), index)
                del job.deaths[task]
                self._give_up(task)
            case PoisonTask(task, culprit, n_deaths):
                self._check_poison(self.jobs[task.job], self.jobs[task.job].deaths[task], culprit, n_deaths)
                self._end(task.job)
            case FailJob(task):
                assert isinstance(event, AttemptRaised)
                assert over is not None
                assert over.task == task
                self._end(task.job)
            case PlanReduce(number):
                job = self.jobs[number]
                assert job.input_ended
                assert job.phase is Phase.MAP
                assert job.committed == job.tasks
            case EndJob(number):
                job = self.jobs[number]
                assert job.phase is Phase.REDUCE
                assert job.committed == job.tasks
                self._end(number)
            case NoWorkerLeft(number):
                self._end(number)

    def _check_poison(self, job: Job, deaths: list[SlotDied], culprit: int | None, n_deaths: int) -> None:
        assert culprit is None or not job.options.skips
        n_known = sum(death.enough is not None for death in deaths)
        if culprit is None and (
            len(deaths) == 10 * job.options.max_attempts or n_known == 2 * (deaths[-1].enough or 0)
        ):
            assert n_deaths == len(deaths)
        else:
            assert _is_proof(job, deaths, culprit, n_deaths)

    def _begin(self, start: StartAttempt, event: Event, now: float) -> None:
        slot, job = self.slots[start.slot], self.jobs[start.task.job]
        assert start.slot in self._useful_slots(job)
        assert start.task in job.of_phase() - job.committed
        assert start.leave_out == job.left_out.get(start.task, ())
        job.n_attempts[start.task] = start.number
        if start.backup:
            assert isinstance(event, Tick)
            others = [attempt for attempt in self._attempts() if attempt.task == start.task and attempt.counts]
            assert len(others) == 1
            assert now - others[0].began > job.patience()
            assert self._may_back_up(job)
            first = next(each for each in self.slots.values() if each.attempt is others[0])
            elsewhere = [each for each in self._useful_slots(job) if self.slots[each].worker != first.worker]
            assert slot.worker != first.worker or not elsewhere
            self.n_backups += 1
        else:
            assert start.task in self._waiting(job)
        slot.attempt = Attempt(start.task, now, start.backup)

    def _give_up(self, task: TaskId) -> None:
        for attempt in self._attempts():
            if attempt.task == task:
                attempt.counts = False

    # What is the case.

    def _open(self) -> list[Job]:
        return [job for job in self.jobs.values() if not job.ended]

    def _attempts(self) -> list[Attempt]:
        return [slot.attempt for slot in self.slots.values() if slot.attempt is not None]

    def _counting(self, job: Job) -> list[Attempt]:
        return [attempt for attempt in self._attempts() if attempt.counts and attempt.task in job.tasks]

    def _waiting(self, job: Job) -> set[TaskId]:
        """Tasks that somebody should work on."""
        return job.of_phase() - job.committed - {attempt.task for attempt in self._counting(job)}

    def _useful_slots(self, job: Job) -> Iterator[int]:
        """Slots that the job could have now."""
        n_local = sum(
            slot.worker is None and slot.attempt is not None and slot.attempt.task in job.tasks
            for slot in self.slots.values()
        )
        most = job.options.max_slots
        for number, slot in self.slots.items():
            busy = sum(each.attempt is not None for each in self.slots.values() if each.worker == slot.worker)
            is_idle = slot.attempt is None and not (slot.paused or slot.unwanted or slot.stopping)
            is_allowed = slot.worker is not None or most is None or n_local < most
            if is_idle and is_allowed and slot.worker not in job.barred and busy < self.caps.get(slot.worker, busy + 1):
                yield number

    def _may_back_up(self, job: Job) -> bool:
        """Whether one more backup is allowed."""
        n_local = sum(slot.worker is None for slot in self.slots.values())
        n_others = sum(slot.worker is not None and slot.worker not in job.barred for slot in self.slots.values())
        n_usable = n_others + (n_local if job.options.max_slots is None else min(n_local, job.options.max_slots))
        counting = self._counting(job)
        n_running_twice = len(counting) - len({attempt.task for attempt in counting})
        return (
            job.options.speculates
            and job.input_ended
            and not self._waiting(job)
            and 4 * len(job.of_phase() & job.committed - job.kept) >= 3 * len(job.of_phase() - job.kept)
            and n_running_twice < max(1, n_usable // 10)
        )

    def _misses_backup(self, job: Job, now: float) -> bool:
        tasks = [attempt.task for attempt in self._counting(job)]
        patience = 1.1 * job.patience()  # the median is known to a tenth
        late = [each for each in self._counting(job) if now - each.began > patience and tasks.count(each.task) == 1]
        return bool(late) and self._may_back_up(job) and bool(list(self._useful_slots(job)))


def _is_proof(job: Job, deaths: list[SlotDied], culprit: int | None, n_deaths: int) -> bool:
    """Whether the last death at it was one too many, and there were so many."""
    most = min(job.options.max_attempts, deaths[-1].enough or job.options.max_attempts)
    n_before = sum(death.cursor == culprit for death in deaths[:-1])
    return deaths[-1].cursor == culprit and n_before + 1 == n_deaths >= most and n_before < job.options.max_attempts
