"""Splits that are read where they are mapped, and workers that do not see what they read.

    slot ──SplitNotHere──> its attempt waits ──SplitWanted──> calling thread, which reads it
    calling thread ──carry──> the split, with that inside ──the order once more──> slot: its attempt goes on

To the scheduler the attempt runs all the while: it may have a backup, be stopped, or be lost with its worker, like any
other. A worker that has missed one split of a job gets the job's others with their bytes at once.

A worker names no file: all that it can have is what its own split reads, and only where somebody has it read a split.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from jmr.codec.values import Buffer
from jmr.coordinator.worker import Slot
from jmr.scheduler.effects import StartAttempt
from jmr.wire.messages import OpenJob, Range

__all__ = ["Unseen", "Waiting"]


@dataclass(frozen=True, slots=True)
class Waiting:
    """An attempt that goes on when its split is there with what that reads."""

    slot: Slot
    attempt: StartAttempt
    #: What the slot must be told of the job before.
    opening: OpenJob | None


@dataclass(slots=True)
class Unseen:
    """Of one job."""

    #: The numbers of workers that do not see what its splits read.
    workers: set[int | None] = field(default_factory=set)
    #: By task, until it is mapped: its split with what that reads inside.
    carried: dict[int, list[Buffer] | Range] = field(default_factory=dict)
    #: By task: the slots that were sent that. If such a task runs there again, it is since the slot had lied.
    sent: dict[int, set[int]] = field(default_factory=dict)
    _waiting: dict[int, list[Waiting]] = field(default_factory=dict)

    def wait(self, attempt: Waiting) -> bool:
        """Have an attempt wait for its split; whether that is the first to."""
        waiting = self._waiting.setdefault(attempt.attempt.task.index, [])
        waiting.append(attempt)
        return len(waiting) == 1

    def arrived(self, index: int, split: list[Buffer] | Range) -> list[Waiting]:
        """Keep a split that was waited for; returns the attempts that have."""
        self.carried[index] = split
        return self._waiting.pop(index, [])

    def forget(self, index: int) -> None:
        """A task is mapped."""
        if self.workers:
            self.carried.pop(index, None)
            self.sent.pop(index, None)
            self._waiting.pop(index, None)
