"""Sees to the memory of hosts while jobs run.

    every second, while there are jobs ──Watch──> supervisors
    Measured ──> Pressure ──CapWorker──> scheduler
                        └───StopSlot──> the slot's process is ended ──> `stop_of`: why, and whether its task is to blame

Of measurements that have piled up while this thread stood still, only the last of each worker counts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

from jmr.coordinator.pressure import CapWorker, Decision, Pressure, Sample, StopSlot
from jmr.coordinator.worker import Slot, Stop, Worker
from jmr.progress.words import size
from jmr.wire.messages import Measured, SlotExited

__all__ = ["Watching", "WatchingOwner"]


class WatchingOwner(Protocol):
    """Whose workers these are."""

    def guard(self, function: Callable[..., None]) -> Callable[..., None]:
        """Wrap what the loop calls."""

    def workers(self) -> list[Worker]:
        """Those that are there."""

    def worker_capped(self, number: int | None, most: int | None) -> None:
        """So many attempts at most may run at once on the worker of this number."""

    def slot_unwanted(self, slot: Slot) -> None:
        """It does nothing, and is to be stopped."""

    def slots_measured(self, sizes: Mapping[str, int]) -> None:
        """Slots have so much memory, by name."""


class Watching:
    """Of one coordinator; all of it belongs to the loop's thread."""

    def __init__(self, owner: WatchingOwner) -> None:
        self._owner = owner
        #: By the worker's number.
        self._pressures: dict[int | None, Pressure] = {}
        self._latest: dict[int | None, Measured] = {}
        self._is_on = False

    def tick(self, *, has_jobs: bool) -> None:
        """Have memory measured everywhere while there are jobs, and no longer; to be called about every second."""
        self._is_on = has_jobs
        workers = {worker.number: worker for worker in self._owner.workers()}
        for worker in workers.values():
            worker.watch(is_on=has_jobs)
        for number in list(self._pressures):
            if number not in workers or not has_jobs:
                self._cap(number, self._pressures.pop(number).rest())

    def job_over(self, job: int) -> None:
        """Where fewer ran than there are slots because of that job, more may run again."""
        for worker in self._owner.workers():
            if worker.number in self._pressures:
                self._cap(worker.number, self._pressures[worker.number].forget(job))

    def measured(self, worker: Worker, measured: Measured) -> None:
        """Weigh it, soon."""
        if worker.number not in self._latest:
            asyncio.get_running_loop().call_soon(self._owner.guard(self._weigh), worker)
        self._latest[worker.number] = measured

    def stop_of(self, slot: Slot, exited: SlotExited) -> Stop | None:
        """Say whether a slot, which is gone, has ended for want of memory."""
        if slot.attempt is None:
            return None
        if slot.stop is not None:
            is_its = slot.attempt is slot.stop.attempt  # else it had one more, which has done nothing
            return replace(slot.stop, is_blamed=slot.stop.is_blamed and is_its)
        if not exited.is_oom:
            return None
        running = _running(slot.worker) | {slot.number: slot.attempt.task.job}
        is_blamed, decisions = self._pressure(slot.worker).killed(time.monotonic(), running)
        self._cap(slot.worker.number, decisions)
        why = f"was ended at {size(exited.peak_bytes)} by the system, which had no memory left"
        return Stop(slot.attempt, why, is_blamed)

    def _pressure(self, worker: Worker) -> Pressure:
        return self._pressures.setdefault(worker.number, Pressure())

    def _weigh(self, worker: Worker) -> None:
        measured = self._latest.pop(worker.number)
        if not self._is_on or worker not in self._owner.workers():  # it comes too late
            return
        slots = {slot.number: slot for slot in worker.slots}
        sizes = {number: n_bytes for number, n_bytes in measured.slots if number in slots}
        self._owner.slots_measured({slots[number].name: n_bytes for number, n_bytes in sizes.items()})
        sample = Sample(time.monotonic(), measured.used_bytes, measured.limit_bytes, sizes, _running(worker))
        whose = "this host's" if worker.number is None else f"{worker.name}'s"
        percent = round(100 * sample.used_bytes / sample.limit_bytes)
        full = f"{percent} % of {whose} {size(sample.limit_bytes)} of memory was used"
        decisions = self._pressure(worker).weigh(sample)
        self._cap(worker.number, decisions)
        for stop in decisions:
            if isinstance(stop, StopSlot):
                self._stop(slots[stop.slot], f"was stopped at {size(stop.n_bytes)}: {full}", stop.is_blamed)

    def _cap(self, number: int | None, decisions: list[Decision]) -> None:
        for decision in decisions:
            if isinstance(decision, CapWorker):
                self._owner.worker_capped(number, decision.most)

    def _stop(self, slot: Slot, why: str, is_blamed: bool) -> None:
        if slot.attempt is None:
            self._owner.slot_unwanted(slot)
        else:
            slot.stop = Stop(slot.attempt, why, is_blamed)
            slot.worker.stop(slot.number)


def _running(worker: Worker) -> dict[int, int]:
    """Which job each slot works for that works, and was not told to end."""
    return {slot.number: slot.attempt.task.job for slot in worker.slots if slot.attempt and not slot.stop}
