"""What a job has done so far, for whoever wants to look.

    whoever runs the job ──writes──> Report <──reads── painters, summaries, %jmr

One `Report` a job. The engine adds to its counts (one writer at a time, so no lock), a painter reads them whenever it
likes. A report never paints, never waits and never holds a record.
"""

from __future__ import annotations

import enum
import time
from dataclasses import dataclass, field

from jmr.progress.log import Log
from jmr.result import Attempt, BadRecords

__all__ = ["Report", "SlotReport", "State"]


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
class SlotReport:
    """What one slot does for a job, and has done."""

    #: Of the worker that owns it: "local", or its host's name.
    worker: str
    #: "map-3"; empty while it does nothing for this job.
    doing: str = ""
    #: When it began with that, in `time.monotonic()` seconds.
    since: float = 0.0
    #: Attempts that gave an answer, and the records that they mapped.
    n_tasks: int = 0
    n_records: int = 0
    #: What mapping them took.
    map_seconds: float = 0.0
    #: Attempts that ended otherwise: the slot died, or was lost.
    n_failures: int = 0
    #: What its process has, as measured last; in a job that is over before that, most that it had at once since it took
    #: to the job, as told when its last attempt ended.
    memory_bytes: int = 0
    is_gone: bool = False


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
    #: Whether a live view will be shown, should the job be long, and is not there yet. Painters say so; nobody else.
    awaits_view: bool = False
    #: Records whose map task has committed; the total is None while the source's length is unknown.
    n_records: int = 0
    n_records_total: int | None = None
    n_map_tasks: int = 0
    n_map_tasks_done: int = 0
    #: Pairs that mapfn emitted; and what the combiner left of them.
    n_pairs: int = 0
    n_combined_pairs: int = 0
    #: Map outputs, and how much of them reduce tasks have taken.
    shuffled_bytes: int = 0
    reduced_bytes: int = 0
    #: 0 until the reduce phase begins; and when that was.
    n_reduce_tasks: int = 0
    n_reduce_tasks_done: int = 0
    reduce_began: float | None = None
    n_keys: int = 0
    #: Of the tasks that are done: those that an earlier run has done, as a checkpoint tells.
    n_tasks_kept: int = 0
    #: Bad records and groups set aside by on_error="skip".
    n_skipped: int = 0
    #: Most memory that a slot had while it worked for the job; 0 if unknown.
    peak_bytes: int = 0
    #: By name, in the order in which they began to work for the job.
    slots: dict[str, SlotReport] = field(default_factory=dict)
    #: Attempts that gave no answer, and what is to be said of the last: "map-3 on local/1 ended with signal 9".
    n_failures: int = 0
    last_failure: str = ""
    #: What ended the job, in one line, if it failed.
    error: str = ""
    #: The first items of the result, as text: few and short, as it is all kept with the notebook.
    sample: list[tuple[str, str]] = field(default_factory=list)
    #: What workers printed, warned and logged; inline, that goes where it always goes, and is not here.
    log: Log = field(default_factory=Log)
    #: What was set aside, as far as it is kept whole.
    errors: BadRecords = field(default_factory=BadRecords)
    #: Which slot ran which attempt when.
    timeline: list[Attempt] = field(default_factory=list)
    #: So many of the notes were known before the job began.
    n_first_notes: int = field(init=False)

    def __post_init__(self) -> None:
        self.n_first_notes = len(self.notes)

    def elapsed(self, now: float) -> float:
        """Seconds since the start, or from start to end."""
        return (now if self.ended is None else self.ended) - self.started

    def begin_reduce(self, n_tasks: int) -> None:
        """Say that all is mapped, and how many tasks are to come; where nothing was emitted, none, and it is over."""
        self.n_reduce_tasks = n_tasks
        if n_tasks:
            self.reduce_began = time.monotonic()  # last: who sees it may divide by the number of tasks

    def end(self, state: State) -> None:
        """Say how the job ended; the first to say so is right."""
        if self.state is State.RUNNING:
            self.ended = time.monotonic()
            self.state = state
