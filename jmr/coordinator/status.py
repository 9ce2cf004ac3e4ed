"""What a cluster looks like from outside: workers, and what their slots do."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass

from jmr.coordinator.remote import RemoteWorker
from jmr.coordinator.worker import Slot, Worker
from jmr.shuffle.budget import free_memory_bytes

__all__ = ["SlotStatus", "WorkerStatus", "status_of"]


@dataclass(frozen=True, slots=True)
class SlotStatus:
    """One slot."""

    name: str
    #: "starting", "idle", "job 3: map-4" or "ending".
    doing: str


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
    #: "ready"; "silent": not heard for a while, so it gets no new work; or "leaving".
    state: str

    @classmethod
    def here(cls, slots: list[SlotStatus]) -> WorkerStatus:
        """The worker of this host."""
        python = "{}.{}.{}".format(*sys.version_info)
        return cls("local", socket.gethostname(), slots, python, os.getloadavg()[0], free_memory_bytes(), "ready")


def status_of(worker: Worker) -> WorkerStatus:
    """What can be said of a worker now."""
    slots = [SlotStatus(slot.name, _doing(slot)) for slot in worker.slots]
    if not isinstance(worker, RemoteWorker):
        return WorkerStatus.here(slots)
    assert worker.about is not None
    state = "leaving" if worker.is_leaving else "silent" if worker.is_suspect else "ready"
    load, free = (None, None) if worker.beat is None else (worker.beat.load, worker.beat.free_bytes)
    return WorkerStatus(worker.name, worker.origin, slots, worker.about.python, load, free, state)


def _doing(slot: Slot) -> str:
    if slot.ending or not slot.ready:
        return "ending" if slot.ending else "starting"
    return "idle" if slot.attempt is None else f"job {slot.attempt.task.job}: {slot.attempt.task}"
