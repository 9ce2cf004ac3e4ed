"""Tasks and jobs, and the states they go through.

task   QUEUED ──> RUNNING ──> DONE
         ^           │
         └── slot died, attempts left; slot lost; worker refused

job    MAPPING ──input ended, all maps done──> PLANNING ──tasks known──> REDUCING ──all done──> ENDED
          └───────────────── user code raised, poison, cancelled, no worker left ──────────────────^
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["Job", "JobOptions", "JobState", "Phase", "Task", "TaskId", "TaskState"]


class Phase(enum.Enum):
    """Which half of a job a task belongs to."""

    #: A split goes through mapfn.
    MAP = "map"
    #: A partition goes through reducefn.
    REDUCE = "reduce"


class TaskId(NamedTuple):
    """Names a task; reads "map-3"."""

    job: int
    phase: Phase
    index: int  # type: ignore[assignment]  # a task's, not the tuple method

    def __str__(self) -> str:
        return f"{self.phase.value}-{self.index}"


@dataclass(frozen=True, slots=True)
class JobOptions:
    """What a job allows."""

    max_attempts: int = 4
    #: Most slots of this host at once, those of other workers come on top; 0 for those alone, None for all.
    max_slots: int | None = None
    #: Whether poison is set aside instead of failing the job.
    skips: bool = False


class TaskState(enum.Enum):
    """Where a task stands."""

    #: Waits for a slot.
    QUEUED = enum.auto()
    #: One slot works on it.
    RUNNING = enum.auto()
    #: Its output is committed.
    DONE = enum.auto()


@dataclass(slots=True)
class Task:
    """One split or one partition."""

    id: TaskId
    state: TaskState = TaskState.QUEUED
    n_attempts: int = 0
    #: Deaths since the last record or group was set aside.
    n_deaths: int = 0
    left_out: tuple[int, ...] = ()
    #: Whether the slot that works on it, if one does, is this host's.
    is_local: bool = False


class JobState(enum.Enum):
    """Where a job stands."""

    #: Splits arrive and are mapped.
    MAPPING = enum.auto()
    #: All maps are done; the driver counts the reduce tasks.
    PLANNING = enum.auto()
    #: Partitions are reduced.
    REDUCING = enum.auto()
    #: Nothing of it runs or waits any more.
    ENDED = enum.auto()


@dataclass(slots=True)
class Job:
    """One job, and its tasks that wait."""

    id: int
    options: JobOptions
    #: Which job it is that was opened.
    order: int
    state: JobState = JobState.MAPPING
    input_ended: bool = False
    n_map_tasks: int = 0
    #: Tasks that are not DONE.
    n_left: int = 0
    queue: deque[Task] = field(default_factory=deque)
    #: Slots that work for it.
    slots: set[int] = field(default_factory=set)
    #: How many of them are this host's.
    n_local: int = 0
    #: Workers that lack what it needs.
    barred: set[int] = field(default_factory=set)
    #: Numbers of slots with which it stands in line for one more in all pools.
    in_line: set[int] = field(default_factory=set)

    def add(self, phase: Phase, index: int) -> None:
        """Queue a new task."""
        self.queue.append(Task(TaskId(self.id, phase, index)))
        self.n_left += 1

    def may_have_local(self) -> bool:
        """Whether it may run on one more slot of this host."""
        most = self.options.max_slots
        return most is None or self.n_local < most
