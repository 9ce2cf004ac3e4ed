"""Backups of attempts that take too long, and workers that may do less than they could: scripts, and virtual time."""

from __future__ import annotations

import heapq
import itertools
import random
import statistics
from collections.abc import Callable

import pytest
from hypothesis import given
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
    ReduceTasksKnown,
    SlotDied,
    SlotJoined,
    SlotLost,
    SlotPaused,
    SlotResumed,
    SplitAdded,
    SplitRestored,
    Tick,
    WorkerCapped,
)
from jmr.scheduler.jobs import JobOptions, Phase, TaskId
from jmr.scheduler.lengths import Lengths
from jmr.scheduler.machine import Scheduler
from tests.scheduling import Checked, map_task, opened, reduce_task


def begin(scheduler: Checked, *workers: int | None, n_slow: int = 1, **options: int | bool) -> None:
    """A job of a task for each slot, of these workers; all but the first are done after a second."""
    scheduler(opened(**options), *[SplitAdded(0.0, 1) for _ in workers], InputEnded(0.0, 1))
    scheduler(*[SlotJoined(0.0, slot, worker) for slot, worker in enumerate(workers)])
    scheduler(*[AttemptFinished(1.0, slot) for slot in range(n_slow, len(workers))])


def backup(slot: int, task: TaskId, number: int = 2, **how: bool) -> StartAttempt:
    return StartAttempt(slot, task, number, backup=True, **how)


LOCAL = (None, None, None, None)


def test_the_backup_of_a_straggler_wins(scheduler: Checked) -> None:
    begin(scheduler, *LOCAL)
    assert scheduler(Tick(10.0)) == []
    assert scheduler(Tick(10.1)) == [backup(3, map_task(0))]
    assert scheduler(Tick(30.0)) == [], "one at a time"
    assert scheduler(AttemptFinished(31.0, 3)) == [Commit(map_task(0)), StopSlot(0), PlanReduce(1)]
    assert not scheduler.scheduler.counts(0)
    assert scheduler(AttemptFinished(31.1, 0)) == [], "too late"
    assert scheduler(SlotDied(31.2, 0), SlotJoined(31.3, 4)) == []


def test_the_straggler_may_win(scheduler: Checked) -> None:
    begin(scheduler, *LOCAL)
    scheduler(Tick(10.1))
    assert scheduler(AttemptFinished(11.0, 0)) == [Commit(map_task(0)), StopSlot(3), PlanReduce(1)]
    assert scheduler(SlotDied(11.1, 3, 5), ReduceTasksKnown(11.2, 1, 0)) == [EndJob(1)], "nobody's fault"


def test_a_job_is_quiet_when_its_losers_are_gone(scheduler: Checked) -> None:
    begin(scheduler, *LOCAL)
    scheduler(Tick(10.1))
    assert scheduler(AttemptFinished(11.0, 3), ReduceTasksKnown(11.0, 1, 0))[-1] == EndJob(1)
    assert not scheduler.scheduler.is_quiet(1)
    scheduler(SlotDied(11.1, 0))
    assert scheduler.scheduler.is_quiet(1)


@pytest.mark.parametrize("raising", [0, 3])
def test_an_exception_in_either_ends_the_job(scheduler: Checked, raising: int) -> None:
    begin(scheduler, *LOCAL)
    scheduler(Tick(10.1))
    assert scheduler(AttemptRaised(11.0, raising)) == [FailJob(map_task(0)), StopSlot(3 - raising)]


def test_an_exception_that_comes_too_late_is_dropped(scheduler: Checked) -> None:
    begin(scheduler, *LOCAL)
    scheduler(Tick(10.1), AttemptFinished(11.0, 3))
    assert scheduler(AttemptRaised(11.1, 0)) == []


@pytest.mark.parametrize(("first", "second"), [(0, 3), (3, 0)])
@pytest.mark.parametrize("how", [SlotDied, SlotLost])
def test_a_task_runs_again_when_both_are_gone(
    scheduler: Checked, how: type[SlotDied | SlotLost], first: int, second: int
) -> None:
    begin(scheduler, *LOCAL)
    scheduler(Tick(10.1))
    assert scheduler(how(11.0, first)) == []
    assert scheduler(how(12.0, second)) == [StartAttempt(2, map_task(0), 3, careful=True)]


def test_one_that_is_left_alone_gets_another_backup_in_its_time(scheduler: Checked) -> None:
    begin(scheduler, *LOCAL)
    scheduler(Tick(10.1), SlotLost(11.0, 0))
    assert scheduler(Tick(20.0)) == [], "that on slot 3 began at 10.1"
    assert scheduler(Tick(20.2)) == [backup(2, map_task(0), 3, careful=True)]


def test_deaths_of_both_count(scheduler: Checked) -> None:
    begin(scheduler, *LOCAL, max_attempts=2)
    scheduler(Tick(10.1), SlotDied(11.0, 0))
    assert scheduler(SlotDied(12.0, 3)) == [PoisonTask(map_task(0), None, 2)]


def test_what_has_not_left_out_what_is_set_aside_now_is_stopped(scheduler: Checked) -> None:
    begin(scheduler, *LOCAL, max_attempts=1, skips=True)
    assert scheduler(Tick(10.1)) == [backup(3, map_task(0), careful=True)]
    assert scheduler(SlotDied(11.0, 3, 7)) == [
        SetAside(map_task(0), 7, 1),
        StopSlot(0),
        StartAttempt(2, map_task(0), 3, (7,), careful=True),
    ]
    assert scheduler(AttemptFinished(11.1, 0)) == []


def test_a_cancelled_job_stops_both(scheduler: Checked) -> None:
    begin(scheduler, *LOCAL)
    scheduler(Tick(10.1))
    assert scheduler(JobCancelled(11.0, 1)) == [StopSlot(0), StopSlot(3)]


def test_another_workers_slot_is_preferred(scheduler: Checked) -> None:
    begin(scheduler, 5, 6, 5, 5)
    assert scheduler(Tick(11.0)) == [backup(1, map_task(0))]


def test_a_slot_of_this_host_is_preferred_for_another_workers_straggler(scheduler: Checked) -> None:
    begin(scheduler, 5, None, 6, 5)
    assert scheduler(Tick(11.0)) == [backup(1, map_task(0))]


def test_a_silent_workers_task_gets_a_backup_and_goes_on_if_it_is_heard_again(scheduler: Checked) -> None:
    begin(scheduler, 5, 6, 6, 6)
    assert scheduler(SlotPaused(9.0, 0), Tick(11.0)) == [backup(3, map_task(0))]
    assert scheduler(SlotResumed(12.0, 0)) == []
    assert scheduler(AttemptFinished(13.0, 0)) == [Commit(map_task(0)), StopSlot(3), PlanReduce(1)]


def test_a_backup_that_is_refused_changes_nothing_else(scheduler: Checked) -> None:
    begin(scheduler, 5, 6, 7, 7)
    assert scheduler(Tick(11.0)) == [backup(3, map_task(0))]
    assert scheduler(AttemptRefused(11.5, 3)) == []
    assert scheduler(Tick(12.0)) == [backup(1, map_task(0), 3)]
    assert scheduler(AttemptRefused(12.5, 1), AttemptRefused(13.0, 0)) == [NoWorkerLeft(1)]


@pytest.mark.parametrize("workers", [(5, 6), (5, 6, 6), LOCAL])
def test_three_quarters_must_be_done(scheduler: Checked, workers: tuple[int | None, ...]) -> None:
    begin(scheduler, *workers)
    assert bool(scheduler(Tick(1_000.0))) is (len(workers) == 4)


def test_what_an_earlier_run_has_done_tells_nothing_of_this_one(scheduler: Checked) -> None:
    scheduler(opened(), *[SplitRestored(0.0, 1)] * 20, *[SplitAdded(0.0, 1)] * 4, InputEnded(0.0, 1))
    scheduler(*[SlotJoined(0.0, slot) for slot in range(5)], AttemptFinished(60.0, 3), AttemptFinished(60.0, 2))
    assert scheduler(Tick(100.0)) == [], "half of what is to be done"
    scheduler(AttemptFinished(101.0, 1))
    assert scheduler(Tick(102.0)) == [], "and not twice as long as the rest"
    assert scheduler(Tick(133.0)) == [backup(1, map_task(20))]


def test_a_job_may_have_none(scheduler: Checked) -> None:
    begin(scheduler, *LOCAL, speculates=False)
    assert scheduler(Tick(1_000.0)) == []


def test_a_job_that_is_at_its_limit_has_none_on_this_host(scheduler: Checked) -> None:
    scheduler(
        opened(max_slots=1), *[SplitAdded(0.0, 1)] * 4, InputEnded(0.0, 1), SlotJoined(0.0, 1), SlotJoined(0.0, 2)
    )
    scheduler(*[AttemptFinished(1.0, 1)] * 3)
    assert scheduler(Tick(100.0)) == []
    assert scheduler(SlotJoined(101.0, 3, 5), Tick(101.0)) == [backup(3, map_task(3))]


def test_there_is_none_while_the_source_goes_on_or_tasks_wait(scheduler: Checked) -> None:
    scheduler(opened(), *[SplitAdded(0.0, 1)] * 8, *[SlotJoined(0.0, slot) for slot in range(8)])
    scheduler(*[AttemptFinished(1.0, slot) for slot in range(1, 8)])
    assert scheduler(Tick(100.0)) == []
    scheduler(*[SplitAdded(100.0, 1)] * 8, InputEnded(100.0, 1))
    assert scheduler(Tick(101.0)) == [], "one waits"
    assert scheduler(*[AttemptFinished(102.0, slot) for slot in range(1, 8)])[-1] == Commit(map_task(8))
    assert scheduler(Tick(103.0)) == [backup(7, map_task(0))]


def test_there_are_as_many_as_a_tenth_of_the_slots(scheduler: Checked) -> None:
    begin(scheduler, *[0] * 30, n_slow=7)
    assert scheduler(Tick(11.0)) == [backup(29, map_task(0)), backup(28, map_task(1)), backup(27, map_task(2))]
    assert scheduler(Tick(12.0)) == []
    scheduler(AttemptFinished(13.0, 0))
    assert scheduler(Tick(14.0)) == [backup(0, map_task(3))]


def test_long_tasks_get_none_before_twice_their_median(scheduler: Checked) -> None:
    scheduler(opened(), *[SplitAdded(0.0, 1)] * 4, InputEnded(0.0, 1), *[SlotJoined(0.0, slot) for slot in range(4)])
    scheduler(*[AttemptFinished(60.0, slot) for slot in (1, 2, 3)])
    assert scheduler(Tick(120.0)) == []
    assert scheduler(Tick(132.0)) == [backup(3, map_task(0))]


def test_reduce_tasks_are_measured_by_themselves(scheduler: Checked) -> None:
    scheduler(opened(), *[SplitAdded(0.0, 1)] * 4, InputEnded(0.0, 1), *[SlotJoined(0.0, slot) for slot in range(4)])
    scheduler(*[AttemptFinished(100.0, slot) for slot in range(4)])
    scheduler(ReduceTasksKnown(100.0, 1, 4), *[AttemptFinished(101.0, slot) for slot in range(3)])
    assert scheduler(Tick(109.0)) == []
    assert scheduler(Tick(111.0)) == [backup(2, reduce_task(0))]


def test_time_in_which_we_stood_still_is_no_slots_fault(scheduler: Checked) -> None:
    begin(scheduler, *LOCAL)
    assert scheduler(Tick(125.0, late=119.0)) == []
    assert scheduler(Tick(129.0)) == []
    assert scheduler(Tick(129.2)) == [backup(3, map_task(0))]


def test_what_begins_before_it_is_known_that_we_stood_still_begins_then(scheduler: Checked) -> None:
    scheduler(opened(), *[SplitAdded(0.0, 1)] * 4, *[SlotJoined(0.0, slot) for slot in range(4)])
    scheduler(*[AttemptFinished(1.0, slot) for slot in range(4)])
    assert scheduler(SplitAdded(125.0, 1), InputEnded(125.0, 1)) == [StartAttempt(3, map_task(4), 1)]
    assert scheduler(Tick(125.0, late=119.0)) == []
    assert scheduler(Tick(135.0)) == []
    assert scheduler(Tick(135.1)) == [backup(2, map_task(4))]


@given(st.lists(st.floats(0.0, 1e6), min_size=1))
def test_the_median_is_known_to_a_tenth(seconds: list[float]) -> None:
    lengths = Lengths()
    for each in seconds:
        lengths.add(each)
    exact = max(10.0, 2 * statistics.median_low(seconds))
    assert exact * (1 - 1e-9) <= lengths.patience() <= 1.1001 * exact


# Workers that may do less.


def test_a_capped_workers_attempts_finish_and_few_follow(scheduler: Checked) -> None:
    scheduler(opened(), *[SplitAdded(0.0, 1)] * 9, *[SlotJoined(0.0, slot) for slot in range(4)])
    assert scheduler(WorkerCapped(1.0, None, 2)) == []
    assert scheduler(AttemptFinished(2.0, 0), AttemptFinished(2.0, 1)) == [Commit(map_task(0)), Commit(map_task(1))]
    assert scheduler(AttemptFinished(3.0, 3)) == [Commit(map_task(3)), StartAttempt(3, map_task(4), 1)], "warm"
    assert scheduler(WorkerCapped(4.0, None, None)) == [
        StartAttempt(0, map_task(5), 1),
        StartAttempt(1, map_task(6), 1),
    ]


def test_a_slot_that_is_gone_leaves_its_place_to_a_spare_one(scheduler: Checked) -> None:
    scheduler(WorkerCapped(0.0, 5, 1), opened(), *[SlotJoined(0.0, slot, 5) for slot in range(3)])
    assert scheduler(SplitAdded(0.0, 1), SplitAdded(0.0, 1)) == [StartAttempt(0, map_task(0), 1)]
    assert scheduler(SlotLost(1.0, 0)) == [StartAttempt(2, map_task(0), 2, careful=True)]
    assert scheduler(SlotPaused(2.0, 1), AttemptFinished(2.0, 2)) == [
        Commit(map_task(0)),
        StartAttempt(2, map_task(1), 1),
    ]


def test_idle_slots_are_held_back_and_other_workers_are_not(scheduler: Checked) -> None:
    scheduler(opened(), *[SlotJoined(0.0, slot, 5) for slot in range(3)], WorkerCapped(1.0, 5, 1))
    assert scheduler(*[SplitAdded(1.0, 1)] * 3) == [StartAttempt(2, map_task(0), 1)]
    assert scheduler(SlotJoined(2.0, 7, 6)) == [StartAttempt(7, map_task(1), 1)]
    assert scheduler(WorkerCapped(3.0, 5, 2)) == [StartAttempt(1, map_task(2), 1)]


def test_a_cap_holds_for_a_worker_that_has_no_slots_for_a_moment(scheduler: Checked) -> None:
    scheduler(opened(), SplitAdded(0.0, 1), SplitAdded(0.0, 1), SlotJoined(0.0, 1), WorkerCapped(1.0, None, 1))
    assert scheduler(SlotLost(2.0, 1), SlotJoined(3.0, 2), SlotJoined(3.0, 3)) == [
        StartAttempt(2, map_task(0), 2, careful=True)
    ]


def test_a_capped_worker_may_refuse_a_job_and_work_for_others(scheduler: Checked) -> None:
    scheduler(opened(1), opened(2), *[SlotJoined(0.0, slot, 5) for slot in range(3)], WorkerCapped(0.0, 5, 2))
    scheduler(SlotJoined(0.0, 9, 6), SlotPaused(0.0, 9), SplitAdded(0.0, 1))
    assert scheduler(AttemptRefused(1.0, 2)) == []
    assert scheduler(*[SplitAdded(2.0, 2)] * 3) == [
        StartAttempt(2, map_task(0, 2), 1),
        StartAttempt(1, map_task(1, 2), 1),
    ]


# Virtual time.


class Virtual:
    """A job on slots of one worker, in virtual time.

    Parameters
    ----------
    n_slots
        How many slots.
    lengths
        Of map tasks and of reduce tasks, in seconds.
    slowness
        How many times as long a slot, by its place, takes.
    """

    def __init__(
        self, n_slots: int, lengths: dict[Phase, list[float]], slowness: Callable[[int], float] = lambda _: 1.0
    ) -> None:
        self._lengths = lengths
        self._slowness = slowness
        self._scheduler = Scheduler()
        self._agenda: list[tuple[float, int, Event]] = []
        self._numbers = itertools.count()
        self._slots = itertools.count(n_slots)
        #: By slot: its place, as one that is stopped leaves it to another; and the number of what it is at.
        self._places = {slot: slot for slot in range(n_slots)}
        self._at: dict[int, int] = {}
        self.n_started = 0
        self.seconds = 0.0

    def run(self) -> float:
        """Play; returns the seconds until the job has ended."""
        n_splits = len(self._lengths[Phase.MAP])
        self._tell(JobOpened(0.0, 1, JobOptions()))
        for _ in range(n_splits):
            self._tell(SplitAdded(0.0, 1))
        self._tell(InputEnded(0.0, 1))
        for slot in list(self._places):
            self._tell(SlotJoined(0.0, slot))
        self._put(Tick(1.0))
        while not self.seconds:
            _, number, event = heapq.heappop(self._agenda)
            if isinstance(event, Tick):
                self._put(Tick(event.now + 1.0))
            elif isinstance(event, AttemptFinished) and self._at.get(event.slot) != number:
                continue  # it was stopped
            self._tell(event)
        return self.seconds

    def _put(self, event: Event) -> int:
        number = next(self._numbers)
        heapq.heappush(self._agenda, (event.now, number, event))
        return number

    def _tell(self, event: Event) -> None:
        for effect in self._scheduler.handle(event):
            self._carry_out(event.now, effect)

    def _carry_out(self, now: float, effect: Effect) -> None:
        match effect:
            case StartAttempt(slot, task):
                self.n_started += 1
                seconds = self._lengths[task.phase][task.index] * self._slowness(self._places[slot])
                self._at[slot] = self._put(AttemptFinished(now + seconds, slot))
            case StopSlot(slot):
                del self._at[slot]
                other = next(self._slots)
                self._places[other] = self._places.pop(slot)
                self._put(SlotDied(now + 0.01, slot))
                self._put(SlotJoined(now + 0.02, other))
            case PlanReduce(job):
                self._tell(ReduceTasksKnown(now, job, len(self._lengths[Phase.REDUCE])))
            case EndJob():
                self.seconds = now


def uneven(dice: random.Random, least: float, most: float, total: float) -> list[float]:
    """Lengths that add up to about that."""
    return [dice.uniform(least, most) for _ in range(round(2 * total / (least + most)))]


def slow_first(place: int) -> float:
    return 5.0 if place == 0 else 1.0


@pytest.mark.slow
@pytest.mark.parametrize("n_slots", [8, 16, 100])
@pytest.mark.parametrize("longest", [0.5, 1.0, 2.0])
def test_a_slot_that_is_five_times_slower_costs_a_minutes_job_less_than_a_third(n_slots: int, longest: float) -> None:
    for seed in range(3):
        dice = random.Random(seed)
        lengths = {
            Phase.MAP: uneven(dice, longest / 2, longest, 58.0 * n_slots),
            Phase.REDUCE: uneven(dice, longest / 2, longest, 4.0 * n_slots),
        }
        healthy = Virtual(n_slots, lengths)
        assert healthy.run() >= 60.0
        assert healthy.n_started == sum(map(len, lengths.values()))
        assert Virtual(n_slots, lengths, slow_first).run() <= 1.3 * healthy.seconds


@pytest.mark.slow
@pytest.mark.parametrize("n_slots", [8, 100])
def test_a_healthy_job_with_uneven_tasks_runs_each_once(n_slots: int) -> None:
    for seed in range(5):
        dice = random.Random(seed)
        lengths = {
            Phase.MAP: uneven(dice, 2.0, 5.0, 60.0 * n_slots),
            Phase.REDUCE: uneven(dice, 2.0, 5.0, 2.0 * n_slots),
        }
        job = Virtual(n_slots, lengths)
        job.run()
        assert job.n_started == sum(map(len, lengths.values()))


def test_a_slot_that_stands_still_costs_seconds() -> None:
    lengths = {Phase.MAP: [1.0] * 480, Phase.REDUCE: [0.1] * 32}
    stuck = Virtual(8, lengths, lambda place: 1e6 if place == 0 else 1.0)
    assert stuck.run() < 60.0 * 8 / 7 + 15.0
