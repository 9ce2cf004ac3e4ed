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
from jmr.scheduler.jobs import Job, JobOptions, Phase, TaskId
from jmr.scheduler.machine import Scheduler
from jmr.scheduler.pools import Pool


class NaiveScheduler(Scheduler):
    """Looks at all jobs, all running tasks and all pools each time."""

    def _assign(self) -> list[Effect]:
        effects: list[Effect] = []
        while pairs := [(pool, job) for pool in self._pools.open if pool.idle for job in self._wanting(pool)]:
            first = pairs[0][0]
            neediest = min((job for pool, job in pairs if pool is first), key=lambda job: len(job.slots))
            effects.append(self._start(neediest, first))
        return effects

    def _wanting(self, pool: Pool) -> list[Job]:
        return [job for job in self._jobs.values() if job.queue and self._may_use(job, pool)]

    def _may_use(self, job: Job, pool: Pool) -> bool:
        workers = self._pools.worker_of
        if not pool.is_local:
            return not {workers[slot].number for slot in pool.idle} & job.barred
        most = job.options.max_slots
        return most is None or sum(workers[slot].number is None for slot in job.slots) < most

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


def test_a_limit_that_rises_lets_idle_slots_work(scheduler: Checked) -> None:
    scheduler(SlotJoined(0.0, 1), SlotJoined(0.0, 2), JobOpened(0.0, 1, JobOptions(max_slots=1)))
    assert scheduler(SplitAdded(0.0, 1), SplitAdded(0.0, 1)) == [StartAttempt(2, map_task(0), 1)]
    assert scheduler(LimitChanged(1.0, 1, 2)) == [StartAttempt(1, map_task(1), 1)]
    scheduler(LimitChanged(2.0, 1, 0), LimitChanged(2.0, 7, 3))
    assert scheduler(SplitAdded(3.0, 1), AttemptFinished(3.0, 1)) == [Commit(map_task(1))]
    assert scheduler(LimitChanged(4.0, 1, 1)) == []
    assert scheduler(AttemptFinished(5.0, 2)) == [Commit(map_task(0)), StartAttempt(2, map_task(2), 1)]


def test_a_job_goes_from_split_to_end(scheduler: Checked) -> None:
    assert scheduler(opened(), SlotJoined(0.0, 7)) == []
    assert scheduler(SplitAdded(1.0, 1)) == [StartAttempt(7, map_task(0), 1)]
    assert scheduler(AttemptFinished(2.0, 7)) == [Commit(map_task(0))]
    assert scheduler(InputEnded(2.0, 1)) == [PlanReduce(1)]
    assert scheduler(ReduceTasksKnown(2.0, 1, 1)) == [StartAttempt(7, reduce_task(0), 1)]
    assert scheduler(AttemptFinished(3.0, 7)) == [Commit(reduce_task(0)), EndJob(1)]


def test_a_task_that_an_earlier_run_has_done_is_counted_and_not_run(scheduler: Checked) -> None:
    scheduler(opened(), SlotJoined(0, 1), SplitRestored(0, 1))
    assert scheduler(SplitAdded(0, 1), SplitRestored(0, 1)) == [StartAttempt(1, map_task(1), 1)]
    assert scheduler(InputEnded(0, 1)) == []
    assert scheduler(AttemptFinished(1, 1)) == [Commit(map_task(1)), PlanReduce(1)]
    assert scheduler(ReduceTasksKnown(1, 1, 3, frozenset({0, 2}))) == [StartAttempt(1, reduce_task(1), 1)]
    assert scheduler(AttemptFinished(2, 1)) == [Commit(reduce_task(1)), EndJob(1)]


def test_a_job_of_which_all_was_done_before_needs_no_slot(scheduler: Checked) -> None:
    assert scheduler(opened(), SplitRestored(0, 1), InputEnded(0, 1)) == [PlanReduce(1)]
    assert scheduler(ReduceTasksKnown(1, 1, 2, frozenset({0, 1}))) == [EndJob(1)]


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
        (pool,) = scheduler._pools.open
        assert len(pool.line) <= 3 * (2 + 1), "a job runs on 2 of 6 slots, or on 1, or for a moment on 3"


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


def test_a_limit_is_for_this_hosts_slots_and_others_come_on_top(scheduler: Checked) -> None:
    scheduler(opened(max_slots=1), *[SplitAdded(0.0, 1)] * 4)
    assert scheduler(SlotJoined(0.0, 1), SlotJoined(0.0, 2)) == [StartAttempt(1, map_task(0), 1)]
    assert scheduler(SlotJoined(0.0, 3, 5), SlotJoined(0.0, 4, 5)) == [
        StartAttempt(3, map_task(1), 1),
        StartAttempt(4, map_task(2), 1),
    ]
    assert scheduler(AttemptFinished(1.0, 4)) == [Commit(map_task(2)), StartAttempt(4, map_task(3), 1)]


def test_a_job_with_no_slots_of_this_host_runs_on_other_workers_alone(scheduler: Checked) -> None:
    scheduler(opened(max_slots=0), SlotJoined(0.0, 1))
    assert scheduler(SplitAdded(0.0, 1)) == []
    assert scheduler(SlotJoined(0.0, 2, 5)) == [StartAttempt(2, map_task(0), 1)]


def test_a_slot_of_this_host_is_preferred(scheduler: Checked) -> None:
    scheduler(opened(), SlotJoined(0.0, 1), SlotJoined(0.0, 2, 5))
    assert scheduler(SplitAdded(0.0, 1)) == [StartAttempt(1, map_task(0), 1)]
    assert scheduler(SplitAdded(0.0, 1)) == [StartAttempt(2, map_task(1), 1)]


def test_a_slot_of_this_host_is_preferred_though_others_came_first(scheduler: Checked) -> None:
    scheduler(opened(), SlotJoined(0.0, 2, 5), SlotJoined(0.0, 1))
    assert scheduler(SplitAdded(0.0, 1)) == [StartAttempt(1, map_task(0), 1)]


def test_a_free_slot_goes_to_the_job_with_the_fewest_of_all_workers(scheduler: Checked) -> None:
    scheduler(opened(1, max_slots=0), *[SlotJoined(0.0, slot, 5) for slot in (1, 2)], *[SplitAdded(0.0, 1)] * 4)
    scheduler(opened(2), SlotJoined(1.0, 3), *[SplitAdded(1.0, 2)] * 4)
    assert scheduler(AttemptFinished(2.0, 1))[-1] == StartAttempt(1, map_task(2, 1), 1), "both have one, it is older"
    assert scheduler(SlotJoined(3.0, 4, 5)) == [StartAttempt(4, map_task(1, 2), 1)], "two and one"


def test_a_paused_slot_may_finish_and_gets_nothing_new(scheduler: Checked) -> None:
    scheduler(opened(), SlotJoined(0.0, 1, 5), *[SplitAdded(0.0, 1)] * 2)
    assert scheduler(SlotPaused(1.0, 1), SlotPaused(1.0, 1)) == []
    assert scheduler(AttemptFinished(2.0, 1)) == [Commit(map_task(0))]
    assert scheduler(SlotResumed(3.0, 1)) == [StartAttempt(1, map_task(1), 1)]


def test_a_pause_can_end_before_the_attempt_does(scheduler: Checked) -> None:
    scheduler(opened(), SlotJoined(0.0, 1, 5), *[SplitAdded(0.0, 1)] * 2)
    assert scheduler(SlotPaused(1.0, 1), SlotResumed(2.0, 1), SlotResumed(2.0, 1)) == []
    assert scheduler(AttemptFinished(3.0, 1)) == [Commit(map_task(0)), StartAttempt(1, map_task(1), 1)]


def test_an_idle_slot_can_be_paused(scheduler: Checked) -> None:
    scheduler(opened(), SlotJoined(0.0, 1, 5), SlotPaused(1.0, 1))
    assert scheduler(SplitAdded(2.0, 1)) == []
    assert scheduler(SlotResumed(3.0, 1)) == [StartAttempt(1, map_task(0), 1)]


def test_a_paused_slot_that_is_lost_is_forgotten(scheduler: Checked) -> None:
    scheduler(opened(), SlotJoined(0.0, 1, 5), SplitAdded(0.0, 1), SlotPaused(1.0, 1))
    assert scheduler(SlotLost(2.0, 1), SlotResumed(3.0, 1), SlotPaused(3.0, 1)) == []
    assert scheduler(SlotJoined(4.0, 1, 5)) == [StartAttempt(1, map_task(0), 2)]


def test_a_slot_that_must_stop_stops_though_it_is_paused(scheduler: Checked) -> None:
    scheduler(SlotJoined(0.0, 1, 5), SlotPaused(1.0, 1))
    assert scheduler(SlotUnwanted(2.0, 1)) == [StopSlot(1)]
    assert scheduler(SlotPaused(2.0, 1), SlotResumed(2.0, 1), SlotUnwanted(2.0, 1)) == []
    assert scheduler(opened(), SplitAdded(3.0, 1), SlotDied(3.0, 1)) == []


def test_a_stopped_slot_that_is_paused_and_resumed_gets_no_work(scheduler: Checked) -> None:
    scheduler(opened(1), opened(2), SlotJoined(0.0, 1, 5), SplitAdded(0.0, 1), SplitAdded(0.0, 2))
    assert scheduler(JobCancelled(1.0, 1)) == [StopSlot(1)]
    assert scheduler(SlotPaused(1.0, 1), SlotResumed(1.0, 1), AttemptFinished(1.0, 1), SlotResumed(1.0, 1)) == []


def test_a_refused_attempt_is_made_elsewhere_and_its_worker_gets_no_more_of_the_job(scheduler: Checked) -> None:
    scheduler(opened(max_attempts=1), SlotJoined(0.0, 1, 5), SlotJoined(0.0, 3, 6), *[SplitAdded(0.0, 1)] * 3)
    assert scheduler(AttemptRefused(1.0, 3)) == []
    assert scheduler(SlotJoined(1.0, 4, 6)) == [], "of the same worker"
    assert scheduler(AttemptFinished(2.0, 1)) == [Commit(map_task(1)), StartAttempt(1, map_task(0), 2)]
    assert scheduler(SlotDied(3.0, 1, 5)) == [PoisonTask(map_task(0), 5, 1)], "its only death"


def test_a_worker_that_refused_a_job_works_for_others(scheduler: Checked) -> None:
    scheduler(opened(1), opened(2), *[SlotJoined(0.0, slot, 5) for slot in (1, 2, 3)], SplitAdded(0.0, 1))
    assert scheduler(AttemptRefused(1.0, 3, local_to_come=True)) == []
    assert scheduler(*[SplitAdded(1.0, 2)] * 3) == [
        StartAttempt(3, map_task(0, 2), 1),
        StartAttempt(2, map_task(1, 2), 1),
        StartAttempt(1, map_task(2, 2), 1),
    ]
    assert scheduler(SlotJoined(2.0, 4)) == [StartAttempt(4, map_task(0, 1), 2)]


def test_a_refusing_workers_other_slots_may_finish_or_refuse_as_well(scheduler: Checked) -> None:
    scheduler(opened(), SlotJoined(0.0, 9, 6), *[SlotJoined(0.0, slot, 5) for slot in (1, 2, 3)])
    scheduler(*[SplitAdded(0.0, 1)] * 4, InputEnded(0.0, 1))
    assert scheduler(AttemptRefused(1.0, 3), AttemptRefused(1.0, 2)) == []
    assert scheduler(AttemptFinished(1.0, 1)) == [Commit(map_task(2))]
    assert scheduler(AttemptFinished(2.0, 9)) == [Commit(map_task(3)), StartAttempt(9, map_task(1), 2)]
    assert scheduler(AttemptFinished(3.0, 9)) == [Commit(map_task(1)), StartAttempt(9, map_task(0), 2)]
    assert scheduler(AttemptFinished(4.0, 9)) == [Commit(map_task(0)), PlanReduce(1)]


def test_a_worker_that_refused_and_came_back_is_still_barred(scheduler: Checked) -> None:
    scheduler(opened(1), opened(2), SlotJoined(0.0, 1, 5), SlotJoined(0.0, 2, 6), *[SplitAdded(0.0, 1)] * 2)
    assert scheduler(AttemptRefused(1.0, 2), SlotLost(2.0, 2), SlotJoined(3.0, 3, 6)) == []
    assert scheduler(SplitAdded(4.0, 2)) == [StartAttempt(3, map_task(0, 2), 1)]


def test_the_job_ends_when_the_last_worker_refuses_it(scheduler: Checked) -> None:
    scheduler(opened(max_slots=0), SlotJoined(0.0, 1), *[SlotJoined(0.0, slot, slot) for slot in (2, 3)])
    scheduler(*[SplitAdded(0.0, 1)] * 3, SlotJoined(0.0, 4, 2))
    assert scheduler(AttemptRefused(1.0, 2)) == []
    assert scheduler(AttemptRefused(1.0, 3)) == [NoWorkerLeft(1), StopSlot(4)]
    assert scheduler(AttemptRefused(2.0, 4), SlotDied(2.0, 4)) == [], "it was told to stop"
    assert scheduler.scheduler.is_quiet(1)


@pytest.mark.parametrize("local_to_come", [False, True])
def test_a_refused_job_waits_for_slots_of_this_host_that_it_may_use(scheduler: Checked, local_to_come: bool) -> None:
    scheduler(opened(max_slots=1), SlotJoined(0.0, 1, 5), SplitAdded(0.0, 1))
    if local_to_come:
        assert scheduler(AttemptRefused(1.0, 1, local_to_come)) == []
        assert scheduler(SlotJoined(2.0, 2)) == [StartAttempt(2, map_task(0), 2)]
    else:
        assert scheduler(AttemptRefused(1.0, 1)) == [NoWorkerLeft(1)]


def test_a_refused_job_waits_for_slots_of_another_host(scheduler: Checked) -> None:
    scheduler(opened(max_slots=0), SlotJoined(0.0, 1, 5), SplitAdded(0.0, 1))
    assert scheduler(AttemptRefused(1.0, 1, remote_to_come=True)) == []
    assert scheduler(SlotJoined(2.0, 2, 6)) == [StartAttempt(2, map_task(0), 2)]


def test_a_refused_job_without_slots_of_this_host_does_not_wait_for_them(scheduler: Checked) -> None:
    scheduler(opened(max_slots=0), SlotJoined(0.0, 1, 5), SplitAdded(0.0, 1))
    assert scheduler(AttemptRefused(1.0, 1, local_to_come=True)) == [NoWorkerLeft(1)]


def test_a_refused_job_waits_for_a_busy_or_paused_slot_but_not_for_an_unwanted_one(scheduler: Checked) -> None:
    scheduler(
        opened(), SlotJoined(0.0, 1), *[SlotJoined(0.0, slot, slot) for slot in (2, 3)], *[SplitAdded(0.0, 1)] * 3
    )
    assert scheduler(SlotPaused(1.0, 1), AttemptRefused(1.0, 2)) == []
    assert scheduler(SlotUnwanted(2.0, 1), AttemptRefused(2.0, 3)) == [NoWorkerLeft(1), StopSlot(1)]


def test_a_local_slot_refuses_nothing(scheduler: Checked) -> None:
    scheduler(opened(), SlotJoined(0.0, 1), SplitAdded(0.0, 1))
    with pytest.raises(AssertionError, match="finds on this host"):
        scheduler.scheduler.handle(AttemptRefused(1.0, 1))


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 15), st.integers(0, 2), st.integers(0, 7)), max_size=80))
@settings(max_examples=300, deadline=None)
def test_random_events_have_the_effects_that_a_look_at_all_jobs_gives_them(steps: list[tuple[int, int, int]]) -> None:
    """Events of every kind, to jobs and slots that may have ended; `Checked` compares."""
    run, slots, workers = Checked(), set[int](), [None, None, None, 0, 0, 1, 1, 2]
    run(*[opened(job, max_attempts=2, skips=job == 1, max_slots=2 * job) for job in range(3)])
    for what, job, slot in steps:
        works = run.scheduler.task_of(slot) is not None
        effects: list[Effect] = []
        match what:
            case 0 | 1 | 2:
                effects = run(SplitAdded(0.0, job), SplitAdded(0.0, job))
            case 3 | 4 | 5 if slot not in slots:
                slots.add(slot)
                effects = run(SlotJoined(0.0, slot, workers[slot]))
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
            case 12:
                effects = run(SlotPaused(0.0, slot))
            case 13:
                effects = run(SlotResumed(0.0, slot))
            case 14 | 15 if works and workers[slot] is not None:
                effects = run(AttemptRefused(0.0, slot, local_to_come=not job))
        run(*[ReduceTasksKnown(0.0, effect.job, 4) for effect in effects if isinstance(effect, PlanReduce)])


class Play:
    """Jobs on slots that join, pause, resume, die, are lost, finish and refuse in any order.

    Worker 3 lacks nothing: as long as slots join, every job can end.
    """

    def __init__(self, seed: int, n_jobs: int, n_splits: int, skips: bool) -> None:
        self.dice = random.Random(seed)
        self.run = Checked()
        self.running: dict[int, StartAttempt] = {}
        self.workers: dict[int, int | None] = {}
        self.stopping: set[int] = set()
        self.committed: list[TaskId] = []
        self.ended: set[int] = set()
        #: Jobs that no worker was left for.
        self.failed: set[int] = set()
        self.todo: list[Event] = []
        self.lacking = {(worker, job) for worker in range(3) for job in range(n_jobs) if self.dice.random() < 0.5}
        self.local_share = self.dice.choice([0.0, 0.3, 1.0])
        for job in range(n_jobs):
            limit = self.dice.choice([None, 1] if self.local_share == 1.0 else [None, 1, 0])
            options = JobOptions(max_attempts=1_000, skips=skips, max_slots=limit)
            self.todo += [JobOpened(0.0, job, options), *[SplitAdded(0.0, job)] * n_splits, InputEnded(0.0, job)]

    def step(self) -> None:
        roll = self.dice.random()
        if self.todo and roll < 0.5:
            self.tell(self.todo.pop(0))
        elif self.workers and roll < 0.6:
            change = self.dice.choice([SlotPaused, SlotResumed, SlotResumed, SlotUnwanted])
            self.tell(change(0.0, self.dice.choice(list(self.workers))))
        elif self.stopping and roll < 0.65:
            self.leave(self.dice.choice(list(self.stopping)))
        elif self.running and roll < 0.9:
            self.answer(self.dice.choice(list(self.running)))
        else:
            slot = len(self.workers)
            self.workers[slot] = None if self.dice.random() < self.local_share else self.dice.randrange(4)
            self.tell(SlotJoined(0.0, slot, self.workers[slot]))

    def answer(self, slot: int) -> None:
        fate = self.dice.random()
        if fate < 0.2:
            self.leave(slot)
        elif (self.workers[slot], self.running.pop(slot).task.job) in self.lacking:
            self.tell(AttemptRefused(0.0, slot, local_to_come=fate < 0.3))
        else:
            self.tell(AttemptFinished(0.0, slot))

    def leave(self, slot: int) -> None:
        self.running.pop(slot, None)
        self.stopping.discard(slot)
        self.tell(SlotLost(0.0, slot) if self.dice.random() < 0.5 else SlotDied(0.0, slot, self.dice.randrange(3)))

    def tell(self, event: Event) -> None:
        for effect in self.run(event):
            match effect:
                case StartAttempt(slot, task):
                    assert slot not in self.running
                    assert slot not in self.stopping
                    self.running[slot] = effect
                case StopSlot(slot):
                    self.stopping.add(slot)
                case Commit(task):
                    self.committed.append(task)
                case PlanReduce(job):
                    self.todo.append(ReduceTasksKnown(0.0, job, self.dice.randrange(5)))
                case EndJob(job):
                    self.ended.add(job)
                case NoWorkerLeft(job):
                    self.failed.add(job)


@pytest.mark.slow
@given(st.integers(0, 2**32), st.integers(1, 3), st.integers(0, 12), st.booleans())
@settings(max_examples=300, deadline=None)
def test_every_job_ends_and_commits_each_task_once(seed: int, n_jobs: int, n_splits: int, skips: bool) -> None:
    """A play that gets no worse luck than its max_attempts must end well, unless no worker is left for a job."""
    play = Play(seed, n_jobs, n_splits, skips)
    for _ in range(10_000):
        if len(play.ended) + len(play.failed) == n_jobs:
            break
        play.step()
    assert sorted([*play.ended, *play.failed]) == list(range(n_jobs))
    assert len(play.committed) == len(set(play.committed))
    assert {task for task in play.committed if task.phase is Phase.MAP and task.job in play.ended} == {
        map_task(index, job) for job in play.ended for index in range(n_splits)
    }
