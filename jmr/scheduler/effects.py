"""What must be done. Imperative; whoever drives the scheduler carries them out in order."""

from __future__ import annotations

from dataclasses import dataclass

from jmr.scheduler.jobs import TaskId

__all__ = [
    "Commit",
    "Effect",
    "EndJob",
    "FailJob",
    "NoWorkerLeft",
    "PlanReduce",
    "PoisonTask",
    "SetAside",
    "StartAttempt",
    "StopSlot",
]


@dataclass(slots=True)
class StartAttempt:
    """Send a task to a slot."""

    slot: int
    task: TaskId
    number: int
    #: Records or groups to leave out: each killed its slot in every attempt it was allowed.
    leave_out: tuple[int, ...] = ()
    #: Whether to say which record or group it is at: a slot has ended at this task before, or the first to is the last.
    careful: bool = False
    #: Whether another attempt at the task runs already.
    backup: bool = False


@dataclass(slots=True)
class StopSlot:
    """End the slot's process; its work is no longer wanted."""

    slot: int


@dataclass(slots=True)
class Commit:
    """Take the output that the slot just delivered as the task's one and only."""

    task: TaskId


@dataclass(slots=True)
class SetAside:
    """A record or group killed its slot too often, and the job skips such."""

    task: TaskId
    index: int
    n_deaths: int


@dataclass(slots=True)
class PlanReduce:
    """Every map task of the job has committed: say how many reduce tasks there are."""

    job: int


@dataclass(slots=True)
class EndJob:
    """Every reduce task has committed."""

    job: int


@dataclass(slots=True)
class FailJob:
    """User code raised in an attempt at this task; its slot delivered the exception."""

    task: TaskId


@dataclass(slots=True)
class PoisonTask:
    """Attempts at this task ended their slots too often; `index` is the record or group they were at, if it was one."""

    task: TaskId
    index: int | None
    n_deaths: int


@dataclass(slots=True)
class NoWorkerLeft:
    """Every worker that is there lacks what the job needs, and this host's slots cannot help; the job has ended."""

    job: int


Effect = StartAttempt | StopSlot | Commit | SetAside | PlanReduce | EndJob | FailJob | PoisonTask | NoWorkerLeft
