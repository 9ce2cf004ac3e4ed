"""What a cluster looks like from outside: workers, and what their slots do."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from jmr.coordinator.remote import RemoteWorker
from jmr.coordinator.worker import Slot, Worker
from jmr.shuffle.memory import free_memory_bytes

__all__ = ["SlotStatus", "WorkerStatus", "status_of"]


@dataclass(frozen=True, slots=True)
class SlotStatus:
    """One slot."""

    name: str
    #: "starting", "idle", "words: map-4" (the job's name, and the task) or "ending".
    doing: str
    #: Whether it runs a task.
    is_busy: bool = False


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker: its host, and its slots."""

    name: str
    #: The address that it came from; its host name if it is this host.
    origin: str
    slots: list[SlotStatus]
    #: "3.13.0"
    python: str
    #: Processes that want a CPU, on average over a minute; None as long as it has not said.
    load: float | None
    free_bytes: int | None
    #: "ready"; "silent": not heard for a while, so it gets no new work; "leaving"; or what is done about its loss.
    state: str

    @classmethod
    def here(cls, slots: list[SlotStatus]) -> WorkerStatus:
        """The worker of this host."""
        python = "{}.{}.{}".format(*sys.version_info)
        return cls("local", socket.gethostname(), slots, python, os.getloadavg()[0], free_memory_bytes(), "ready")


def status_of(worker: Worker, names: Mapping[int, str]) -> WorkerStatus:
    """What can be said of a worker now, with jobs by their names."""
    slots = [_slot_status(slot, names) for slot in worker.slots]
    if not isinstance(worker, RemoteWorker):
        return WorkerStatus.here(slots)
    assert worker.about is not None
    state = worker.lost or ("leaving" if worker.is_leaving else "silent" if worker.is_suspect else "ready")
    load, free = (None, None) if worker.beat is None else (worker.beat.load, worker.beat.free_bytes)
    return WorkerStatus(worker.name, worker.origin, slots, worker.about.python, load, free, state)


def _slot_status(slot: Slot, names: Mapping[int, str]) -> SlotStatus:
    attempt = slot.attempt  # read once: the loop's thread may be about to change it
    if slot.ending or not slot.ready:
        return SlotStatus(slot.name, "ending" if slot.ending else "starting")
    if attempt is None:
        return SlotStatus(slot.name, "idle")
    task = attempt.task
    return SlotStatus(slot.name, f"{names.get(task.job, f'job {task.job}')}: {task}", is_busy=True)
