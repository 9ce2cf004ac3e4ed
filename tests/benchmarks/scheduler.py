"""How long the scheduler takes for a large cluster, in virtual time.

    python -m tests.benchmarks.scheduler [--slots 10000] [--hosts 200] [--tasks 1000000] [--jobs 1]

All slots are other hosts'. Events come from a heap of (virtual seconds, what): attempts that finish after about a
second, or never if their slot stands still then, hosts that are lost with all their slots and come back, slots that die
(one that is away is not lost: it would join twice), ticks. Splits are added as the calling thread does it, two for each
slot at a time. Every task must be committed exactly once.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import random
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

from jmr.scheduler.effects import Commit, Effect, EndJob, PlanReduce, StartAttempt, StopSlot
from jmr.scheduler.events import (
    AttemptFinished,
    Event,
    InputEnded,
    JobOpened,
    ReduceTasksKnown,
    SlotDied,
    SlotJoined,
    SlotLost,
    SplitAdded,
    Tick,
)
from jmr.scheduler.jobs import JobOptions, TaskId
from jmr.scheduler.machine import Scheduler

_REDUCE_TASKS = 2_000
_HOST_LOSSES, _SLOT_DEATHS, _SLOTS_STUCK = 5, 200, 20
#: Seconds until a host that was lost is there again.
_AWAY = 30.0


class Simulation:
    """A cluster and its jobs; `run` plays them to their end."""

    def __init__(self, n_slots: int, n_hosts: int, n_tasks: int, n_jobs: int) -> None:
        self._dice = random.Random(1)
        self._n_slots, self._n_hosts = n_slots, n_hosts
        self._scheduler = Scheduler()
        self._to_add = dict.fromkeys(range(n_jobs), n_tasks // n_jobs)
        self._under_way: Counter[int] = Counter()
        self._most_under_way = max(2, 2 * n_slots // n_jobs)
        #: What happens when; the number keeps equal times in order.
        self._agenda: list[tuple[float, int, Any]] = []
        self._numbers = itertools.count()
        #: The number of the attempt that each slot works on: a lost slot's does not finish.
        self._attempts: dict[int, int] = {}
        #: Slots that were lost or stopped and have not joined again; and those that stand still.
        self._away: set[int] = set()
        self._stuck: set[int] = set()
        self._lengths: dict[TaskId, float] = {}
        self.committed: set[TaskId] = set()
        self.ended: set[int] = set()
        self.n_events = 0
        self.seconds_in_scheduler = 0.0
        self.busy = 0.0

    def run(self) -> float:
        """Play; returns the virtual seconds until the last job has ended."""
        now = 0.0
        self._tell(JobOpened(now, job, JobOptions()) for job in self._to_add)
        self._tell(SlotJoined(now, slot, slot % self._n_hosts) for slot in range(self._n_slots))
        for job in self._to_add:
            self._feed(now, job)
        for _ in range(_HOST_LOSSES):
            self._put(self._dice.uniform(1, 60), ("host lost", self._dice.randrange(self._n_hosts)))
        for _ in range(_SLOT_DEATHS):
            self._put(self._dice.uniform(1, 60), ("slot died", self._dice.randrange(self._n_slots)))
        for _ in range(_SLOTS_STUCK):
            self._put(self._dice.uniform(1, 60), ("stuck", self._dice.randrange(self._n_slots)))
        self._put(1.0, ("tick", 0))
        while len(self.ended) < len(self._to_add):
            now, number, (what, which) = heapq.heappop(self._agenda)
            match what:
                case "finished":
                    if self._attempts.get(which) == number and which not in self._stuck:
                        del self._attempts[which]
                        self._tell([AttemptFinished(now, which)])
                case "slot died":
                    self._lose(now, [which], SlotDied)
                case "host lost":
                    self._lose(now, range(which, self._n_slots, self._n_hosts), SlotLost)
                case "stuck":
                    self._stuck.add(which)
                case "tick":
                    self._tell([Tick(now)])
                    self._put(now + 1.0, ("tick", 0))
                case "joined":
                    self._away.remove(which)
                    self._tell([SlotJoined(now, which, which % self._n_hosts)])
        return now

    def _lose(self, now: float, slots: Iterable[int], how: type[SlotDied | SlotLost]) -> None:
        for slot in set(slots) - self._away:
            self._away.add(slot)
            self._stuck.discard(slot)
            self._attempts.pop(slot, None)
            self._tell([how(now, slot)])
            self._put(now + _AWAY, ("joined", slot))

    def _put(self, when: float, what: tuple[str, int]) -> int:
        number = next(self._numbers)
        heapq.heappush(self._agenda, (when, number, what))
        return number

    def _tell(self, events: Iterable[Event]) -> None:
        for event in events:
            began = time.perf_counter()
            effects = self._scheduler.handle(event)
            self.seconds_in_scheduler += time.perf_counter() - began
            self.n_events += 1
            for effect in effects:
                self._carry_out(event.now, effect)

    def _carry_out(self, now: float, effect: Effect) -> None:
        match effect:
            case StartAttempt(slot, task):
                seconds = self._lengths.setdefault(task, self._dice.uniform(0.5, 1.5))
                self._attempts[slot] = self._put(now + seconds, ("finished", slot))
            case Commit(task):
                assert task not in self.committed
                self.committed.add(task)
                self.busy += self._lengths.pop(task)
                self._under_way[task.job] -= 1
                self._feed(now, task.job)
            case StopSlot(slot):
                self._put(now + 0.01, ("slot died", slot))
            case PlanReduce(job):
                self._tell([ReduceTasksKnown(now, job, _REDUCE_TASKS // len(self._to_add))])
            case EndJob(job):
                self.ended.add(job)
            case _:
                raise AssertionError(f"nothing here leads to {effect}")

    def _feed(self, now: float, job: int) -> None:
        while self._to_add[job] and self._under_way[job] < self._most_under_way:
            self._to_add[job] -= 1
            self._under_way[job] += 1
            self._tell([SplitAdded(now, job)])
            if not self._to_add[job]:
                self._tell([InputEnded(now, job)])


def main() -> None:
    """Simulate, check, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.scheduler", description=__doc__)
    parser.add_argument("--slots", type=int, default=10_000)
    parser.add_argument("--hosts", type=int, default=200)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    simulation = Simulation(options.slots, options.hosts, options.tasks, options.jobs)
    began = time.perf_counter()
    makespan = simulation.run()
    seconds = time.perf_counter() - began
    per_job = options.tasks // options.jobs + _REDUCE_TASKS // options.jobs
    assert len(simulation.committed) == per_job * options.jobs
    inside = simulation.seconds_in_scheduler
    n_tasks, n_events = len(simulation.committed), simulation.n_events
    print(
        f"{n_tasks:,} tasks, {options.jobs} job(s), {options.slots:,} slots on {options.hosts} hosts: {seconds:.1f} s"
    )
    print(
        f"in the scheduler: {inside:.1f} s, {inside / n_events * 1e6:.1f} us for each of {n_events:,} events, "
        f"{inside / n_tasks * 1e6:.1f} us for each task"
    )
    ideal = simulation.busy / options.slots
    longer = makespan / ideal - 1
    print(f"virtual makespan: {makespan:.1f} s, {longer:.1%} over {ideal:.1f} s with all slots busy all the time")


if __name__ == "__main__":
    main()
