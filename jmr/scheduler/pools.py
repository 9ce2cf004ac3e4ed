"""Which slots are free, and which jobs stand in line for one.

    this host's slots ───────────────────────────────────> the local pool
    other workers' slots ────────────────────────────────> the shared pool
            └─ a job is barred from a worker ─> its slots move to a pool of their own, which that job does not use

A job stands in line in every pool that it is not barred from, so whichever slot is free finds the job that runs on the
fewest; one at its limit of this host's slots is passed over in their pool, and gets in line when it is below.

A line is a heap that is never searched. A job that wants a slot stands in it with the number of slots that it has, of
all pools; when that changes it gets in line again, and the entry that is out of date is dropped when it comes up. If
the number changes back before that, the entry is true once more and no second one is made: the line does not grow with
the tasks.

A worker may be capped: while as many of its slots work, or may, as the cap allows, the others are held back as spares.
One of them is let in when one of those goes; a slot that has ended its attempt is the first to be given the next.

An event costs O(log n) in the number of jobs and slots for each pool that has slots: for one pool on one host, for two
where others help, and for more only where a worker was barred. The first slot of a pool, and the first job that a
worker is barred from, cost once what there are jobs and slots. A pool ends with its last slot, and with it what stands
in its line.

It decides nothing about tasks, and never ends a slot.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping

from jmr.scheduler.jobs import Job

__all__ = ["Pool", "Pools", "Worker"]


class Pool:
    """Slots that are as good as each other for any job, and the jobs that wait for one of them."""

    def __init__(self, *, is_local: bool = False, worker: int | None = None) -> None:
        self.is_local = is_local
        #: Whose slots these are, if some job is barred from them.
        self.worker = worker
        self.n_slots = 0
        #: Slots without work, the one that worked last at the end; a dict for its order.
        self.idle: dict[int, None] = {}
        #: How many slots a job has, when it was opened (no two are equal so far), which it is.
        self.line: list[tuple[int, int, Job]] = []
        #: Jobs that are not barred, by their order: the numbers with which each stands in line, once with each.
        self.numbers: dict[int, set[int]] = {}

    def admit(self, job: Job) -> None:
        """Let a job stand in line here, unless it is barred."""
        if self.is_open_to(job):
            self.numbers[job.order] = set()
            job.in_line.clear()

    def is_open_to(self, job: Job) -> bool:
        """Whether a job may have slots of these."""
        return self.worker not in job.barred

    def neediest(self) -> Job | None:
        """Of the jobs that want a slot of these, the one that runs on the fewest; the oldest of equals."""
        while self.line:
            n_slots, order, job = self.line[0]
            numbers = self.numbers.get(order)
            if numbers is not None:
                if n_slots == len(job.slots) and job.queue and (not self.is_local or job.may_have_local()):
                    return job
                numbers.discard(n_slots)
                job.in_line.discard(n_slots)
            heapq.heappop(self.line)
        return None

    def check(self, jobs: Mapping[int, Job]) -> None:
        """Assert that the jobs that want a slot stand in line, and that no slot is idle meanwhile."""
        assert self.numbers.keys() == {job.order for job in jobs.values() if self.is_open_to(job)}
        for job in jobs.values():
            numbers = self.numbers.get(job.order)
            if numbers is not None:
                wants = bool(job.queue) and (not self.is_local or job.may_have_local())
                assert not (self.idle and wants)
                assert len(job.slots) in numbers or not wants
                assert sorted(numbers) == sorted(n for n, order, _ in self.line if order == job.order)
                assert job.in_line <= numbers


class Worker:
    """Owns slots; this host's has no number."""

    def __init__(self, number: int | None, pool: Pool, most: int | None) -> None:
        self.number = number
        self.pool = pool
        self.slots: set[int] = set()
        #: How many may work at once; None for all.
        self.most = most
        #: How many do, or may: they are idle, and can be had. The scheduler counts out those that end an attempt.
        self.n_open = 0
        #: Idle slots that cannot be had, as that would be too many; a dict for its order.
        self.spare: dict[int, None] = {}

    def has_room(self) -> bool:
        """Whether one more slot may work."""
        return self.most is None or self.n_open < self.most


class Pools:
    """All slots that are there, by worker and by pool.

    Parameters
    ----------
    jobs
        Those that have not ended; it is the scheduler's, and looked at when a pool begins.
    """

    def __init__(self, jobs: Mapping[int, Job]) -> None:
        self._jobs = jobs
        #: Those that have slots, in the order in which they are used: local ones first, and the shared one last, since
        #: every job may use it.
        self.open: list[Pool] = []
        self._local = Pool(is_local=True)
        self._shared = Pool()
        #: Those that have slots.
        self.workers: dict[int | None, Worker] = {}
        #: Whose slot it is.
        self.worker_of: dict[int, Worker] = {}
        #: How many slots of a worker may work at once, if not all; kept while it has none.
        self._most: dict[int | None, int] = {}

    def __contains__(self, slot: int) -> bool:
        return slot in self.worker_of

    def join(self, slot: int, number: int | None) -> None:
        """A slot is there; it is not free before `put_back`."""
        worker = self.workers.get(number)
        if worker is None:
            worker = self.workers[number] = Worker(number, self._pool_for(number), self._most.get(number))
        worker.slots.add(slot)
        self.worker_of[slot] = worker
        self._grow(worker.pool, 1)

    def leave(self, slot: int) -> None:
        """Forget a slot, if it is known."""
        worker = self.worker_of.pop(slot, None)
        if worker is None:
            return
        self._take_out(worker, slot)
        worker.slots.remove(slot)
        self._shrink(worker.pool, 1)
        if worker.slots:
            self._fill(worker)
        else:
            del self.workers[worker.number]

    def put_back(self, slot: int) -> None:
        """A slot is free for the next job in line, or held back."""
        worker = self.worker_of[slot]
        if worker.most is None or worker.n_open < worker.most:
            worker.n_open += 1
            worker.pool.idle[slot] = None
        else:
            worker.spare[slot] = None

    def withhold(self, slot: int) -> None:
        """A slot gets no work any more, if it was free, until it is put back."""
        worker = self.worker_of[slot]
        self._take_out(worker, slot)
        self._fill(worker)

    def cap(self, number: int | None, most: int | None) -> None:
        """Let no more than so many slots of a worker work at once, once those that do have ended; None for all."""
        if most is None:
            self._most.pop(number, None)
        else:
            self._most[number] = most
        worker = self.workers.get(number)
        if worker is None:
            return
        worker.most = most
        if most is not None and worker.n_open > most:
            idle = [slot for slot in worker.pool.idle if slot in worker.slots]
            for slot in idle[: worker.n_open - most]:
                self._take_out(worker, slot)
                worker.spare[slot] = None
        self._fill(worker)

    def _take_out(self, worker: Worker, slot: int) -> None:
        if slot in worker.pool.idle:
            del worker.pool.idle[slot]
            worker.n_open -= 1
        else:
            worker.spare.pop(slot, None)

    def _fill(self, worker: Worker) -> None:
        """Let in as many of a worker's spare slots as may work."""
        while worker.spare and worker.has_room():
            slot, _ = worker.spare.popitem()
            self.put_back(slot)

    def n_slots_for(self, job: Job) -> int:
        """How many slots a job may use, busy or not."""
        most = job.options.max_slots
        return sum(
            min(pool.n_slots, most) if pool.is_local and most is not None else pool.n_slots
            for pool in self.open
            if pool.is_open_to(job)
        )

    def slot_beside(self, job: Job, slot: int) -> int | None:
        """Take a free slot for a job that one of its slots holds up: of another worker, if there is one."""
        pools = [pool for pool in self.open if pool.is_open_to(job) and (not pool.is_local or job.may_have_local())]
        worker = self.worker_of[slot]
        elsewhere = (each for pool in pools for each in reversed(pool.idle) if each not in worker.slots)
        chosen = next(elsewhere, None)
        if chosen is None:
            chosen = next((each for pool in pools for each in reversed(pool.idle)), None)
        if chosen is not None:
            del self.worker_of[chosen].pool.idle[chosen]
        return chosen

    def admit(self, job: Job) -> None:
        """A job was opened."""
        for pool in self.open:
            pool.admit(job)

    def dismiss(self, job: Job) -> None:
        """A job has ended; what stands in line for it is dropped when it comes up."""
        for pool in self.open:
            pool.numbers.pop(job.order, None)

    def get_in_line(self, job: Job) -> None:
        """Let a job be found by the number of slots that it has now, wherever it may have one more."""
        n_slots, order = len(job.slots), job.order
        if n_slots in job.in_line or not job.queue:
            return
        job.in_line.add(n_slots)
        for pool in self.open:
            numbers = pool.numbers.get(order)
            if numbers is not None and n_slots not in numbers:
                numbers.add(n_slots)
                heapq.heappush(pool.line, (n_slots, order, job))

    def bar(self, job: Job, worker: Worker) -> None:
        """Give no slot of a worker to a job any more."""
        assert worker.number is not None, "a job finds on this host what it needs"
        job.barred.add(worker.number)
        if worker.pool is self._shared:
            self._set_apart(worker)
        else:
            worker.pool.numbers.pop(job.order, None)

    def _set_apart(self, worker: Worker) -> None:
        """Move a worker's slots to a pool of their own."""
        idle = [slot for slot in self._shared.idle if slot in worker.slots]
        for slot in idle:
            del self._shared.idle[slot]
        self._shrink(self._shared, len(worker.slots))
        worker.pool = Pool(worker=worker.number)
        self._grow(worker.pool, len(worker.slots))
        worker.pool.idle.update(dict.fromkeys(idle))

    def _pool_for(self, number: int | None) -> Pool:
        if number is None:
            return self._local
        if any(number in job.barred for job in self._jobs.values()):  # it was here before, and had left
            return Pool(worker=number)
        return self._shared

    def _grow(self, pool: Pool, n_slots: int) -> None:
        pool.n_slots += n_slots
        if pool.n_slots == n_slots:
            self.open.append(pool)
            self.open.sort(key=lambda pool: (not pool.is_local, pool is self._shared))
            for job in self._jobs.values():
                pool.admit(job)
                self.get_in_line(job)

    def _shrink(self, pool: Pool, n_slots: int) -> None:
        pool.n_slots -= n_slots
        if not pool.n_slots:
            self.open.remove(pool)
            pool.line.clear()
            pool.numbers.clear()

    def check(self) -> None:
        """Assert what the module docstring says of pools, and that the books on slots agree."""
        assert self.worker_of == {slot: worker for worker in self.workers.values() for slot in worker.slots}
        assert {id(pool) for pool in self.open} == {id(worker.pool) for worker in self.workers.values()}
        for number, worker in self.workers.items():
            assert worker.number == number
            assert (worker.pool is self._local) == (number is None)
            assert worker.pool.worker in {None, number}
            is_barred = any(number in job.barred for job in self._jobs.values())
            assert not (is_barred and worker.pool is self._shared)
            assert worker.most == self._most.get(number)
            assert not worker.spare or not worker.has_room()
            assert worker.has_room() or worker.n_open == worker.most or not worker.slots & worker.pool.idle.keys()
            assert not worker.spare.keys() & worker.pool.idle.keys()
            assert worker.spare.keys() <= worker.slots
        for pool in self.open:
            members = [worker for worker in self.workers.values() if worker.pool is pool]
            assert pool.n_slots == sum(len(worker.slots) for worker in members)
            assert pool.idle.keys() <= {slot for worker in members for slot in worker.slots}
            pool.check(self._jobs)
        for pool in {self._local, self._shared} - set(self.open):
            assert not any([pool.n_slots, pool.idle, pool.line, pool.numbers])
