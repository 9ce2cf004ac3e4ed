"""The scheduler as scripts: events in, exact effects out; then random events, every job ends."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from jmr.scheduler.jobs import Job, JobOptions, Phase, TaskId
from jmr.scheduler.machine import Scheduler


class NaiveScheduler(Scheduler):
    """Looks at all jobs and all running tasks each time."""

    def _neediest(self) -> Job | None:
        wanting = (job for job in self._jobs.values() if job.wants_slot())
        return min(wanting, key=lambda job: len(job.slots), default=None)

    def is_quiet(self, job: int) -> bool:
        return job not in self._jobs and not any(task.id.job == job for task in self._running.values())


class Checked:
    """A scheduler whose invariants are checked after every event, and whose answers are those of a naive one.

    It is a twin that is asked for the neediest job: to ask the scheduler itself would tidy up its line.
    """

    def __init__(self) -> None:
        self.scheduler = Scheduler()
        self._naive = NaiveScheduler()
        self._opened: set[int] = set()

    def __call__(self, *events: Event) -> list[Effect]:
        effects: list[Effect] = []
        for event in events:
            new = self.scheduler.handle(event)
            assert new == self._naive.handle(event)
            self.scheduler.check()
            if isinstance(event, JobOpened):
                self._opened.add(event.job)
            for job in self._opened:
                assert self.scheduler.is_quiet(job) == self._naive.is_quiet(job)
            effects += new
        return effects


@pytest.fixture
def scheduler() -> Iterator[Checked]:
    checked = Checked()
    yield checked
    checked.scheduler.check()


def map_task(index: int, job: int = 1) -> TaskId:
    return TaskId(job, Phase.MAP, index)


def reduce_task(index: int, job: int = 1) -> TaskId:
    return TaskId(job, Phase.REDUCE, index)


def opened(job: int = 1, **options: int | bool) -> JobOpened:
    return JobOpened(0.0, job, JobOptions(**options))  # type: ignore[arg-type]


def test_a_job_goes_from_split_to_end(scheduler: Checked) -> None:
    assert scheduler(opened(), SlotJoined(0.0, 7)) == []
    assert scheduler(SplitAdded(1.0, 1)) == [StartAttempt(7, map_task(0), 1)]
    assert scheduler(AttemptFinished(2.0, 7)) == [Commit(map_task(0))]
    assert scheduler(InputEnded(2.0, 1)) == [PlanReduce(1)]
    assert scheduler(ReduceTasksKnown(2.0, 1, 1)) == [StartAttempt(7, reduce_task(0), 1)]
    assert scheduler(AttemptFinished(3.0, 7)) == [Commit(reduce_task(0)), EndJob(1)]


def test_a_job_without_records_ends_at_once(scheduler: Checked) -> None:
    assert scheduler(opened(), InputEnded(0.0, 1)) == [PlanReduce(1)]
    assert scheduler(ReduceTasksKnown(0.0, 1, 0)) == [EndJob(1)]


def test_a_lost_slots_task_runs_again_first_in_line(scheduler: Checked) -> None:
    scheduler(opened(), SlotJoined(0.0, 1), SplitAdded(0.0, 1), SplitAdded(0.0, 1))
    assert scheduler(SlotDied(1.0, 1)) == []
    assert scheduler(SlotJoined(1.0, 2)) == [StartAttempt(2, map_task(0), 2)]


def test_a_slot_that_was_lost_with_its_worker_is_no_tasks_fault(scheduler: Checked) -> None:
    scheduler(opened(max_attempts=1), SplitAdded(0.0, 1), SlotJoined(0.0, 1))
    assert scheduler(SlotLost(1.0, 1)) == []
    assert scheduler(SlotJoined(1.0, 2)) == [StartAttempt(2, map_task(0), 2)]
    assert scheduler(SlotDied(2.0, 2, 5)) == [PoisonTask(map_task(0), 5, 1)]


def test_poison_ends_the_job_after_max_attempts(scheduler: Checked) -> None:
    scheduler(opened(max_attempts=2), SplitAdded(0.0, 1), SlotJoined(0.0, 1))
    assert scheduler(SlotDied(1.0, 1), SlotJoined(1.0, 2)) == [StartAttempt(2, map_task(0), 2)]
    assert scheduler(SlotDied(2.0, 2, 5)) == [PoisonTask(map_task(0), 5, 2)]
    assert scheduler(SlotJoined(3.0, 3)) == []


def test_poison_is_set_aside_where_the_job_skips(scheduler: Checked) -> None:
    scheduler(opened(max_attempts=1, skips=True), SplitAdded(0.0, 1), SlotJoined(0.0, 1))
    assert scheduler(SlotDied(1.0, 1, 5)) == [SetAside(map_task(0), 5)]
    assert scheduler(SlotJoined(1.0, 2)) == [StartAttempt(2, map_task(0), 2, (5,))]


def test_a_user_exception_ends_the_job_and_stops_its_other_slots(scheduler: Checked) -> None:
    scheduler(opened(), SlotJoined(0.0, 2), SlotJoined(0.0, 1), SplitAdded(0.0, 1), SplitAdded(0.0, 1))
    assert scheduler(AttemptRaised(1.0, 1)) == [FailJob(map_task(0)), StopSlot(2)]
    assert scheduler(SplitAdded(1.0, 1), InputEnded(1.0, 1)) == []
    assert scheduler(SlotDied(2.0, 2)) == []


def test_what_a_stopped_slot_still_delivers_is_dropped(scheduler: Checked) -> None:
    scheduler(opened(), SlotJoined(0.0, 1), SplitAdded(0.0, 1))
    assert scheduler(JobCancelled(1.0, 1)) == [StopSlot(1)]
    assert scheduler(AttemptFinished(1.0, 1)) == []
    assert scheduler(opened(2), SplitAdded(1.0, 2)) == [], "a slot that is being stopped gets no work"


def test_an_ended_job_is_quiet_when_its_last_slot_is(scheduler: Checked) -> None:
    scheduler(opened(), *[SlotJoined(0.0, slot) for slot in (1, 2)], *[SplitAdded(0.0, 1)] * 3)
    scheduler(AttemptRaised(1.0, 2))
    assert not scheduler.scheduler.is_quiet(1)
    scheduler(SlotDied(1.0, 1))
    assert scheduler.scheduler.is_quiet(1)


def test_jobs_share_slots_fairly(scheduler: Checked) -> None:
    scheduler(opened(1), opened(2), *[SplitAdded(0.0, job) for job in (1, 1, 1, 2, 2, 2)])
    started = scheduler(*[SlotJoined(0.0, slot) for slot in range(4)])
    assert [effect.task.job for effect in started if isinstance(effect, StartAttempt)] == [1, 2, 1, 2]


def test_the_line_does_not_grow_with_the_tasks() -> None:
    scheduler, dice = Scheduler(), random.Random(1)
    for job in range(3):
        for event in (opened(job), *[SplitAdded(0.0, job)] * 1_000):
            scheduler.handle(event)
    for slot in range(6):
        scheduler.handle(SlotJoined(0.0, slot))
    for _ in range(1_000):
        scheduler.handle(AttemptFinished(1.0, dice.randrange(6)))
        assert len(scheduler._line) <= 3 * (2 + 1), "a job runs on 2 of 6 slots, or on 1, or for a moment on 3"


def test_a_job_keeps_to_its_limit(scheduler: Checked) -> None:
    scheduler(opened(max_slots=1), SplitAdded(0.0, 1), SplitAdded(0.0, 1))
    assert scheduler(SlotJoined(0.0, 2), SlotJoined(0.0, 1)) == [StartAttempt(2, map_task(0), 1)]
    assert scheduler(AttemptFinished(1.0, 2))[-1] == StartAttempt(2, map_task(1), 1), "on the slot that is warm"


def test_an_unwanted_slot_finishes_what_it_is_at(scheduler: Checked) -> None:
    scheduler(opened(), SlotJoined(0.0, 1), SplitAdded(0.0, 1), SplitAdded(0.0, 1))
    assert scheduler(SlotUnwanted(0.5, 1)) == []
    assert scheduler(AttemptFinished(1.0, 1)) == [Commit(map_task(0)), StopSlot(1)]
    assert scheduler(SlotJoined(1.0, 2), SlotUnwanted(1.0, 2), SlotJoined(1.0, 3), SlotUnwanted(1.0, 3)) == [
        StartAttempt(2, map_task(1), 1),
        StopSlot(3),
    ]


def test_an_idle_slot_takes_over_where_an_unwanted_one_leaves_a_job_below_its_limit(scheduler: Checked) -> None:
    scheduler(opened(max_slots=1), SplitAdded(0.0, 1), SplitAdded(0.0, 1), InputEnded(0.0, 1))
    assert scheduler(SlotJoined(0.0, 1), SlotJoined(0.0, 2)) == [StartAttempt(1, map_task(0), 1)]
    assert scheduler(SlotUnwanted(0.5, 1)) == []
    assert scheduler(AttemptFinished(1.0, 1)) == [Commit(map_task(0)), StopSlot(1), StartAttempt(2, map_task(1), 1)]


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 2), st.integers(0, 5)), max_size=80))
@settings(max_examples=300, deadline=None)
def test_random_events_have_the_effects_that_a_look_at_all_jobs_gives_them(steps: list[tuple[int, int, int]]) -> None:
    """Events of every kind, to jobs and slots that may have ended; `Checked` compares."""
    run, slots = Checked(), set[int]()
    run(*[opened(job, max_attempts=2, skips=job == 1, max_slots=2 + 2 * job) for job in range(3)])
    for what, job, slot in steps:
        works = run.scheduler.task_of(slot) is not None
        effects: list[Effect] = []
        match what:
            case 0 | 1 | 2:
                effects = run(SplitAdded(0.0, job), SplitAdded(0.0, job))
            case 3 | 4 | 5 if slot not in slots:
                slots.add(slot)
                effects = run(SlotJoined(0.0, slot))
            case 3 | 4 | 5 | 6 if works:
                effects = run(AttemptFinished(0.0, slot))
            case 7 if slot in slots:
                slots.remove(slot)
                effects = run(SlotDied(0.0, slot, slot) if job else SlotLost(0.0, slot))
            case 8 if slot in slots:
                effects = run(SlotUnwanted(0.0, slot))
            case 9 if works:
                effects = run(AttemptRaised(0.0, slot))
            case 10:
                effects = run(JobCancelled(0.0, job))
            case 11:
                effects = run(InputEnded(0.0, job))
        run(*[ReduceTasksKnown(0.0, effect.job, 4) for effect in effects if isinstance(effect, PlanReduce)])


@pytest.mark.slow
@given(st.integers(0, 2**32), st.integers(1, 3), st.integers(0, 12), st.booleans())
@settings(max_examples=300, deadline=None)
def test_every_job_ends_and_commits_each_task_once(seed: int, n_jobs: int, n_splits: int, skips: bool) -> None:
    """Slots die, finish and join in any order; a run that gets no worse luck than its max_attempts must end well."""
    dice = random.Random(seed)
    run = Checked()
    running: dict[int, StartAttempt] = {}
    committed: list[TaskId] = []
    ended: set[int] = set()
    todo: list[Event] = []
    for job in range(n_jobs):
        todo += [opened(job, max_attempts=1_000, skips=skips), *[SplitAdded(0.0, job)] * n_splits, InputEnded(0.0, job)]
    next_slot = 0

    def carry_out(effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case StartAttempt(slot):
                    assert slot not in running
                    running[slot] = effect
                case Commit(task):
                    committed.append(task)
                case PlanReduce(job):
                    todo.append(ReduceTasksKnown(0.0, job, dice.randrange(5)))
                case EndJob(job):
                    ended.add(job)

    for _ in range(10_000):
        if len(ended) == n_jobs:
            break
        roll = dice.random()
        if todo and roll < 0.5:
            carry_out(run(todo.pop(0)))
        elif running and roll < 0.9:
            slot = dice.choice(list(running))
            del running[slot]
            fate = dice.random()
            if fate < 0.1:
                carry_out(run(SlotDied(0.0, slot, dice.randrange(3))))
            elif fate < 0.2:
                carry_out(run(SlotLost(0.0, slot)))
            else:
                carry_out(run(AttemptFinished(0.0, slot)))
        else:
            carry_out(run(SlotJoined(0.0, next_slot)))
            next_slot += 1
    assert ended == set(range(n_jobs))
    assert len(committed) == len(set(committed))
    assert {task for task in committed if task.phase is Phase.MAP} == {
        map_task(index, job) for job in range(n_jobs) for index in range(n_splits)
    }
