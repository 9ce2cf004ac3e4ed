"""What a job has done so far, for whoever wants to look.

    whoever runs the job ──writes──> Report <──reads── painters, summaries, %jmr

One `Report` a job. The engine adds to its counts (one writer at a time, so no lock), a painter reads them whenever it
likes. A report never paints, never waits and never holds a record.
"""

from __future__ import annotations

import enum
import time
from dataclasses import dataclass, field

from jmr.result import Attempt, BadRecords

__all__ = ["Report", "State"]


class State(enum.Enum):
    """Where a job stands."""

    #: Records are read, mapped or reduced.
    RUNNING = "running"
    #: The result is there.
    DONE = "done"
    #: An error ended it.
    FAILED = "failed"
    #: Somebody ended it.
    CANCELLED = "cancelled"


@dataclass(slots=True)
class Report:
    """Counts of one job. Times are `time.monotonic()` seconds."""

    name: str
    #: Said at the end of the summary line, such as "source from an earlier cell".
    notes: list[str] = field(default_factory=list)
    state: State = State.RUNNING
    started: float = field(default_factory=time.monotonic)
    ended: float | None = None
    n_slots: int = 0
    #: Whether it waits for a slot: none that may work for it is there.
    is_waiting: bool = False
    #: Records whose map task has committed; the total is None while the source's length is unknown.
    n_records: int = 0
    n_records_total: int | None = None
    n_map_tasks: int = 0
    n_map_tasks_done: int = 0
    n_pairs: int = 0
    shuffled_bytes: int = 0
    #: 0 until the reduce phase begins.
    n_reduce_tasks: int = 0
    n_reduce_tasks_done: int = 0
    n_keys: int = 0
    #: Bad records and groups set aside by on_error="skip".
    n_skipped: int = 0
    #: What was set aside, as far as it is kept whole.
    errors: BadRecords = field(default_factory=BadRecords)
    #: Which slot ran which attempt when.
    timeline: list[Attempt] = field(default_factory=list)

    def elapsed(self, now: float) -> float:
        """Seconds since the start, or from start to end."""
        return (now if self.ended is None else self.ended) - self.started

    def end(self, state: State) -> None:
        """Say how the job ended; the first to say so is right."""
        if self.state is State.RUNNING:
            self.ended = time.monotonic()
            self.state = state
