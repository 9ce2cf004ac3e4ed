"""The scheduler as scripts: events in, exact effects out."""

from __future__ import annotations

import random

import pytest

from jmr.scheduler.effects import (
    Commit,
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
from jmr.scheduler.jobs import JobOptions
from jmr.scheduler.machine import Scheduler
from tests.scheduling import Checked, map_task, opened, reduce_task


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
    assert scheduler(SlotJoined(1.0, 2)) == [StartAttempt(2, map_task(0), 2, careful=True)]


def test_a_slot_that_was_lost_with_its_worker_is_no_tasks_fault(scheduler: Checked) -> None:
    scheduler(opened(max_attempts=1), SplitAdded(0.0, 1), SlotJoined(0.0, 1))
    assert scheduler(SlotLost(1.0, 1)) == []
    assert scheduler(SlotJoined(1.0, 2)) == [StartAttempt(2, map_task(0), 2, careful=True)]
    assert scheduler(SlotDied(2.0, 2, 5)) == [PoisonTask(map_task(0), 5, 1)]


def test_poison_ends_the_job_after_max_attempts(scheduler: Checked) -> None:
    scheduler(opened(max_attempts=2), SplitAdded(0.0, 1), SlotJoined(0.0, 1))
    assert scheduler(SlotDied(1.0, 1), SlotJoined(1.0, 2)) == [StartAttempt(2, map_task(0), 2, careful=True)]
    assert scheduler(SlotDied(2.0, 2, 5), SlotJoined(2.0, 3)) == [StartAttempt(3, map_task(0), 3, careful=True)]
    assert scheduler(SlotDied(3.0, 3, 5)) == [PoisonTask(map_task(0), 5, 2)], "the first was at who knows what"
    assert scheduler(SlotJoined(4.0, 4)) == []


def test_deaths_at_no_single_record_are_poison_as_well(scheduler: Checked) -> None:
    scheduler(opened(max_attempts=2, skips=True), SplitAdded(0.0, 1), SlotJoined(0.0, 1))
    scheduler(SlotDied(1.0, 1), SlotJoined(1.0, 2))
    assert scheduler(SlotDied(2.0, 2)) == [PoisonTask(map_task(0), None, 2)]


def test_slots_that_are_killed_at_different_records_make_no_poison(scheduler: Checked) -> None:
    scheduler(opened(max_attempts=2), SplitAdded(0.0, 1), SlotJoined(0.0, 0))
    for slot in range(19):
        cursor = None if slot == 0 else slot
        assert scheduler(SlotDied(1.0, slot, cursor), SlotJoined(1.0, slot + 1)) == [
            StartAttempt(slot + 1, map_task(0), slot + 2, careful=True)
        ]
    assert scheduler(SlotDied(2.0, 19, 19)) == [PoisonTask(map_task(0), None, 20)], "but it does not go on for ever"


def test_where_it_is_known_what_a_slot_died_of_fewer_deaths_are_poison(scheduler: Checked) -> None:
    scheduler(opened(), SplitAdded(0.0, 1), SlotJoined(0.0, 1))
    scheduler(SlotDied(1.0, 1, None, enough=2), SlotJoined(1.0, 2), SlotDied(2.0, 2, 5, enough=2), SlotJoined(2.0, 3))
    assert scheduler(SlotDied(3.0, 3, 5, enough=2)) == [PoisonTask(map_task(0), 5, 2)]


def test_what_many_records_do_together_is_poison_as_well(scheduler: Checked) -> None:
    scheduler(opened(max_attempts=100), SplitAdded(0.0, 1), SlotJoined(0.0, 0))
    for slot in range(3):
        scheduler(SlotDied(1.0, slot, slot, enough=2), SlotJoined(1.0, slot + 1))
    assert scheduler(SlotDied(2.0, 3, 3, enough=2)) == [PoisonTask(map_task(0), None, 4)]


def test_poison_is_set_aside_where_the_job_skips(scheduler: Checked) -> None:
    scheduler(opened(max_attempts=1, skips=True), SplitAdded(0.0, 1), SlotJoined(0.0, 1))
    assert scheduler(SlotDied(1.0, 1, 5)) == [SetAside(map_task(0), 5, 1)]
    assert scheduler(SlotJoined(1.0, 2)) == [StartAttempt(2, map_task(0), 2, (5,), careful=True)]


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
    assert scheduler(SlotJoined(4.0, 1, 5)) == [StartAttempt(1, map_task(0), 2, careful=True)]


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
    assert scheduler(AttemptFinished(2.0, 1)) == [Commit(map_task(1)), StartAttempt(1, map_task(0), 2, careful=True)]
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
