"""The scheduler under random events: every job ends, and its history is right (see `tests.history`)."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jmr.scheduler.effects import Commit, Effect, EndJob, NoWorkerLeft, PlanReduce, StartAttempt, StopSlot
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
    SlotUnwanted,
    SplitAdded,
    SplitRestored,
    Tick,
    WorkerCapped,
)
from jmr.scheduler.jobs import JobOptions, Phase, TaskId
from tests.scheduling import Checked, map_task, opened


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 17), st.integers(0, 2), st.integers(0, 7)), max_size=80))
@settings(max_examples=300, deadline=None)
def test_random_events_have_the_effects_that_a_look_at_all_jobs_gives_them(steps: list[tuple[int, int, int]]) -> None:
    """Events of every kind, to jobs and slots that may have ended; `Checked` compares."""
    run, slots, workers, complete = Checked(), set[int](), [None, None, None, 0, 0, 1, 1, 2], set[int]()
    run(*[opened(job, max_attempts=2, skips=job == 1, max_slots=2 * job) for job in range(3)])
    for now, (what, job, slot) in enumerate(steps):
        works = run.works(slot)
        effects: list[Effect] = []
        match what:
            case 0 | 1 | 2 if job not in complete:
                effects = run(SplitAdded(now, job), SplitAdded(now, job))
            case 3 | 4 | 5 if slot not in slots:
                slots.add(slot)
                effects = run(SlotJoined(now, slot, workers[slot]))
            case 3 | 4 | 5 | 6 if works:
                effects = run(AttemptFinished(now, slot))
            case 7 if slot in slots:
                slots.remove(slot)
                enough = 2 if slot % 3 else None
                effects = run(SlotDied(now, slot, slot % 5, enough) if job else SlotLost(now, slot))
            case 8 if slot in slots:
                effects = run(SlotUnwanted(now, slot))
            case 9 if works:
                effects = run(AttemptRaised(now, slot))
            case 10:
                effects = run(JobCancelled(now, job))
            case 11 if job not in complete:
                complete.add(job)
                effects = run(InputEnded(now, job))
            case 12:
                effects = run(SlotPaused(now, slot))
            case 13:
                effects = run(SlotResumed(now, slot))
            case 14 | 15 if works and workers[slot] is not None:
                effects = run(AttemptRefused(now, slot, local_to_come=not job))
            case 16:
                effects = run(WorkerCapped(now, workers[slot], job + 1 if job else None))
            case 17:
                effects = run(Tick(now))
        run(*[ReduceTasksKnown(now, effect.job, 4) for effect in effects if isinstance(effect, PlanReduce)])


class Play:
    """Jobs on slots that join, pause, resume, die, are lost, finish and refuse in any order; their workers are capped.

    Worker 3 lacks nothing: as long as slots join, every job can end. Time passes in leaps, and is told now and then.
    """

    def __init__(self, seed: int, n_jobs: int, n_splits: int, skips: bool) -> None:
        self.dice = random.Random(seed)
        self.now = 0.0
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
            options = JobOptions(1_000, limit, skips, speculates=self.dice.random() < 0.8)
            splits = [self.dice.choice([SplitAdded] * 9 + [SplitRestored])(0.0, job) for _ in range(n_splits)]
            self.todo += [JobOpened(0.0, job, options), *splits, InputEnded(0.0, job)]

    def step(self) -> None:
        roll = self.dice.random()
        if self.dice.random() < 0.3:
            self.pass_time()
        if self.todo and roll < 0.5:
            event = self.todo.pop(0)
            event.now = self.now
            self.tell(event)
        elif self.workers and roll < 0.6:
            change = self.dice.choice([SlotPaused, SlotResumed, SlotResumed, SlotUnwanted])
            self.tell(change(self.now, self.dice.choice(list(self.workers))))
        elif roll < 0.63:
            self.tell(WorkerCapped(self.now, self.any_worker(), self.dice.choice([None, 1, 2, 5])))
        elif self.stopping and roll < 0.67:
            self.leave(self.dice.choice(list(self.stopping)))
        elif self.running and roll < 0.9:
            self.answer(self.dice.choice(list(self.running)))
        else:
            slot = len(self.workers)
            self.workers[slot] = self.any_worker()
            self.tell(SlotJoined(self.now, slot, self.workers[slot]))

    def pass_time(self) -> None:
        late = self.dice.choice([0.0, 0.0, 0.0, 30.0])
        self.now += late + self.dice.choice([0.1, 1.0, 8.0, 40.0])
        self.tell(Tick(self.now, late))

    def any_worker(self) -> int | None:
        return None if self.dice.random() < self.local_share else self.dice.randrange(4)

    def answer(self, slot: int) -> None:
        fate = self.dice.random()
        if fate < 0.2:
            self.leave(slot)
        elif (self.workers[slot], self.running.pop(slot).task.job) in self.lacking:
            self.tell(AttemptRefused(self.now, slot, local_to_come=fate < 0.3))
        else:
            self.tell(AttemptFinished(self.now, slot))

    def leave(self, slot: int) -> None:
        self.running.pop(slot, None)
        self.stopping.discard(slot)
        lost = self.dice.random() < 0.5
        self.tell(SlotLost(self.now, slot) if lost else SlotDied(self.now, slot, self.dice.randrange(3)))

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
                    n_tasks = self.dice.randrange(5)
                    done = frozenset(index for index in range(n_tasks) if self.dice.random() < 0.1)
                    self.todo.append(ReduceTasksKnown(0.0, job, n_tasks, done))
                case EndJob(job):
                    self.ended.add(job)
                case NoWorkerLeft(job):
                    self.failed.add(job)


def played(seed: int, n_jobs: int, n_splits: int, skips: bool) -> Play:
    play = Play(seed, n_jobs, n_splits, skips)
    for _ in range(10_000):
        if len(play.ended) + len(play.failed) == n_jobs:
            break
        play.step()
    return play


@pytest.mark.slow
@given(st.integers(0, 2**32), st.integers(1, 3), st.integers(0, 12), st.booleans())
@settings(max_examples=300, deadline=None)
def test_every_job_ends_and_commits_each_task_once(seed: int, n_jobs: int, n_splits: int, skips: bool) -> None:
    """A play that gets no worse luck than its max_attempts must end well, unless no worker is left for a job."""
    play = played(seed, n_jobs, n_splits, skips)
    assert sorted([*play.ended, *play.failed]) == list(range(n_jobs))
    assert len(play.committed) == len(set(play.committed))
    done = play.run.history.kept() | set(play.committed)
    assert len(done) == len(play.run.history.kept()) + len(play.committed)
    assert {task for task in done if task.phase is Phase.MAP and task.job in play.ended} == {
        map_task(index, job) for job in play.ended for index in range(n_splits)
    }


@pytest.mark.slow
def test_plays_have_backups_that_win_and_such_that_lose() -> None:
    plays = [played(seed, 2, 10, skips=False) for seed in range(30)]
    assert sum(play.run.history.n_backups for play in plays) > 10
    assert sum(play.run.history.n_won for play in plays) > 3
    assert sum(play.run.history.n_backups - play.run.history.n_won for play in plays) > 3
