"""How far a job is: each phase as a fraction and in words.

    report, time ──map_phase─────> Phase    in records
                 ──shuffle_phase─> Phase    in bytes, each of which is written by map and taken by reduce
                 ──reduce_phase──> Phase    in tasks; None before it begins

Pure functions of a report and a time; no clock, no output, no IPython.
"""

from __future__ import annotations

from dataclasses import dataclass

from jmr.progress.report import Report
from jmr.progress.words import count, rate, size, time_left

__all__ = ["Phase", "ShufflePhase", "map_phase", "reduce_phase", "shuffle_phase"]

#: Below this share of a phase, what is left is anybody's guess.
MIN_FRACTION_TO_GUESS = 0.02
#: A guess of more seconds than this says nothing: little moves, or nothing does.
MAX_GUESS = 360_000.0


@dataclass(frozen=True, slots=True)
class Phase:
    """How far map or reduce is."""

    n_done: int
    #: None while nobody knows: a source without a length, or a reduce that has not begun.
    n_total: int | None
    unit: str
    elapsed: float
    #: How many a second there were lately, if that is known.
    pace: float | None = None

    @property
    def fraction(self) -> float | None:
        """Share that is done, 0 to 1; None while the total is unknown."""
        if self.n_total is None:
            return None
        return min(self.n_done / self.n_total, 1.0) if self.n_total else 1.0

    @property
    def per_second(self) -> float:
        """Lately, or else on average."""
        if self.pace is not None:
            return self.pace
        return self.n_done / self.elapsed if self.elapsed > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """What is left of this phase at its speed; None when that cannot be said."""
        fraction, speed = self.fraction, self.per_second
        if self.n_total is None or fraction is None or not MIN_FRACTION_TO_GUESS <= fraction < 1 or not speed > 0:
            return None
        seconds = (self.n_total - self.n_done) / speed
        return seconds if seconds <= MAX_GUESS else None

    @property
    def words(self) -> str:
        """Counts, and how fast they grow."""
        counts = self._counts()
        return f"{counts} · {rate(self.per_second, self.unit)}" if self.n_done and self.per_second > 0 else counts

    def __str__(self) -> str:
        left = time_left(self.seconds_left)
        return f"{self.words} · {left} left" if left else self.words

    def _counts(self) -> str:
        if self.n_total is None:
            return f"{count(self.n_done)} {self.unit} so far"
        return f"{count(self.n_done)} / {count(self.n_total)} {self.unit}"


@dataclass(frozen=True, slots=True)
class ShufflePhase:
    """How far the bytes between map and reduce are: half of the way when written, all of it when taken."""

    n_written: int
    #: None before reduce begins.
    n_taken: int | None
    #: Of the map phase.
    map_fraction: float | None
    #: Bytes a second, of what moves now.
    per_second: float

    @property
    def fraction(self) -> float | None:
        """Share of the way that is done, 0 to 1; None while nobody knows how many bytes there will be."""
        if self.map_fraction is None:
            return None
        taken = min((self.n_taken or 0) / self.n_written, 1.0) if self.n_written else float(self.n_taken is not None)
        return self.map_fraction / 2 * (1 + taken)

    @property
    def words(self) -> str:
        """Bytes, and how fast they move."""
        sizes = f"{size(self.n_written)} written"
        if self.n_taken is not None:
            sizes += f", {size(min(self.n_taken, self.n_written))} read"
        return f"{sizes} · {size(self.per_second)}/s" if self.per_second >= 1 else sizes


def map_phase(report: Report, now: float, pace: float | None = None) -> Phase:
    """How far map is, in records: splits are cut as the job runs, so nobody knows how many map tasks there will be."""
    began, total = report.reduce_began, report.n_records_total
    elapsed = report.elapsed(now) if began is None else began - report.started
    if total is None and began is not None:
        total = report.n_records
    return Phase(report.n_records, total, "records", elapsed, pace)


def shuffle_phase(report: Report, now: float, pace: float = 0.0) -> ShufflePhase:
    """How far the bytes are that map leaves for reduce."""
    taken = None if report.reduce_began is None else report.reduced_bytes
    return ShufflePhase(report.shuffled_bytes, taken, map_phase(report, now).fraction, pace)


def reduce_phase(report: Report, now: float, pace: float | None = None) -> Phase | None:
    """How far reduce is, in tasks; None before it begins."""
    if report.reduce_began is None:
        return None
    ended = now if report.ended is None else report.ended
    return Phase(report.n_reduce_tasks_done, report.n_reduce_tasks, "tasks", ended - report.reduce_began, pace)
