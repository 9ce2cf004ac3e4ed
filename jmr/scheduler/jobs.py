"""Tasks and jobs, and the states they go through.

task   QUEUED ──> RUNNING (by one slot, or by two where the first takes long) ──> DONE
         ^           │
         └── its last slot died, attempts left; was lost; refused

job    MAPPING ──input ended, all maps done──> PLANNING ──tasks known──> REDUCING ──all done──> ENDED
          └───────────────── user code raised, poison, cancelled, no worker left ──────────────────^
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass, field
from itertools import takewhile
from typing import NamedTuple

from jmr.scheduler.deaths import Deaths
from jmr.scheduler.lengths import Lengths

__all__ = ["Job", "JobOptions", "JobState", "Phase", "Task", "TaskId", "TaskState"]

#: Of a phase's tasks; before, there is enough to do for every slot.
_MOSTLY_DONE = 0.75


class Phase(enum.Enum):
    """Which half of a job a task belongs to."""

    #: A split goes through mapfn.
    MAP = "map"
    #: A partition goes through reducefn.
    REDUCE = "reduce"

    #: Enum's own takes as long as all the rest of looking up a task.
    __hash__ = object.__hash__


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
    #: Whether a task that takes long may have a second attempt beside the first.
    speculates: bool = True


class TaskState(enum.Enum):
    """Where a task stands."""

    #: Waits for a slot.
    QUEUED = enum.auto()
    #: A slot works on it, or two.
    RUNNING = enum.auto()
    #: Its output is committed.
    DONE = enum.auto()


@dataclass(slots=True)
class Task:
    """One split or one partition."""

    id: TaskId
    state: TaskState = TaskState.QUEUED
    n_attempts: int = 0
    #: Those that work on it and whose answer counts: the first that comes is taken.
    slots: tuple[int, ...] = ()
    #: Whether attempts say which record or group they are at: a slot has ended at it, or the first to is the last.
    is_suspect: bool = False
    deaths: Deaths | None = None
    left_out: tuple[int, ...] = ()


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
    #: Tasks of this phase that are known.
    n_tasks: int = 0
    #: Those of them that an earlier run has done; nobody knows how long they took.
    n_kept: int = 0
    #: Those that are not DONE.
    n_left: int = 0
    queue: deque[Task] = field(default_factory=deque)
    #: Slots that work for it, and when each began; the first that did comes first.
    slots: dict[int, float] = field(default_factory=dict)
    #: How many of them are this host's.
    n_local: int = 0
    #: Tasks that two slots work on.
    n_backups: int = 0
    #: How long the attempts of this phase took that were committed.
    lengths: Lengths = field(default_factory=Lengths)
    #: Workers that lack what it needs.
    barred: set[int] = field(default_factory=set)
    #: Numbers of slots with which it stands in line for one more in all pools.
    in_line: set[int] = field(default_factory=set)

    def add(self, phase: Phase) -> None:
        """Queue a new task."""
        task = Task(TaskId(self.id, phase, self.n_tasks))
        if self.options.max_attempts == 1:
            task.is_suspect = True
        self.queue.append(task)
        self.n_tasks += 1
        self.n_left += 1

    def count_kept(self) -> None:
        """Count a task that an earlier run has done."""
        self.n_tasks += 1
        self.n_kept += 1

    def begin_reduce(self, n_tasks: int, done: frozenset[int]) -> None:
        """Queue the tasks of the second phase, but those that an earlier run has done."""
        self.state = JobState.REDUCING
        self.n_tasks = self.n_kept = 0
        self.lengths = Lengths()
        for index in range(n_tasks):
            if index in done:
                self.count_kept()
            else:
                self.add(Phase.REDUCE)

    def may_have_local(self) -> bool:
        """Whether it may run on one more slot of this host."""
        most = self.options.max_slots
        return most is None or self.n_local < most

    def wants_backups(self) -> bool:
        """Whether nothing of it waits or is to come, and most of its phase is done: only what runs holds it up."""
        return (
            self.options.speculates
            and not self.queue
            and self.input_ended
            and 0 < self.n_left <= (1 - _MOSTLY_DONE) * (self.n_tasks - self.n_kept)
        )

    def begin_by(self, now: float) -> None:
        """Count attempts as begun now that were said to begin later, before it was known by how much we were late."""
        for slot, _ in takewhile(lambda attempt: attempt[1] > now, reversed(self.slots.items())):
            self.slots[slot] = now

    def stragglers(self, now: float) -> list[int]:
        """Slots whose attempt has run too long, the one that has run longest first."""
        since = now - self.lengths.patience()
        return [slot for slot, _ in takewhile(lambda attempt: attempt[1] < since, self.slots.items())]
