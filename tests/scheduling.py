"""For tests of the scheduler: one whose every answer is checked, in three ways.

event ──> Scheduler ──effects──> like those of a naive one? ──> its invariants? ──> History: may that be?
"""

from __future__ import annotations

from jmr.scheduler.effects import Effect
from jmr.scheduler.events import Event, JobOpened
from jmr.scheduler.jobs import Job, JobOptions, Phase, TaskId
from jmr.scheduler.machine import Scheduler
from jmr.scheduler.pools import Pool
from tests.history import History

__all__ = ["Checked", "map_task", "opened", "reduce_task"]


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
    """A scheduler whose answers are those of a naive one, whose invariants hold, and whose history can be told.

    It is a twin that is asked for the neediest job: to ask the scheduler itself would tidy up its line.
    """

    def __init__(self) -> None:
        self.scheduler = Scheduler()
        self.history = History()
        self._naive = NaiveScheduler()
        self._opened: set[int] = set()

    def works(self, slot: int) -> bool:
        """Whether the slot has an attempt, wanted or not."""
        return slot in self.history.slots and self.history.slots[slot].attempt is not None

    def __call__(self, *events: Event) -> list[Effect]:
        effects: list[Effect] = []
        for event in events:
            new = self.scheduler.handle(event)
            assert new == self._naive.handle(event)
            self.scheduler.check()
            self.history.add(event, new)
            if isinstance(event, JobOpened):
                self._opened.add(event.job)
            for job in self._opened:
                assert self.scheduler.is_quiet(job) == self._naive.is_quiet(job)
            effects += new
        return effects


def map_task(index: int, job: int = 1) -> TaskId:
    return TaskId(job, Phase.MAP, index)


def reduce_task(index: int, job: int = 1) -> TaskId:
    return TaskId(job, Phase.REDUCE, index)


def opened(job: int = 1, **options: int | bool) -> JobOpened:
    return JobOpened(0.0, job, JobOptions(**options))  # type: ignore[arg-type]
