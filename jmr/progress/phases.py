"""How far a job is: each phase as a fraction and in words.

    report, time ──map_phase────> Phase    in records
                 ──reduce_phase─> Phase    in tasks; None before it begins

Pure functions of a report and a time; no clock, no output, no IPython.
"""

from __future__ import annotations

from dataclasses import dataclass

from jmr.progress.report import Report
from jmr.progress.summary import count, rate, whole

__all__ = ["Phase", "map_phase", "reduce_phase"]

#: Below this share of a phase, what is left is anybody's guess.
MIN_FRACTION_TO_GUESS = 0.02


@dataclass(frozen=True, slots=True)
class Phase:
    """How far map or reduce is."""

    n_done: int
    #: None while nobody knows: a source without a length, or a reduce that has not begun.
    n_total: int | None
    unit: str
    elapsed: float

    @property
    def fraction(self) -> float | None:
        """Share that is done, 0 to 1; None while the total is unknown."""
        if self.n_total is None:
            return None
        return min(self.n_done / self.n_total, 1.0) if self.n_total else 1.0

    @property
    def seconds_left(self) -> float | None:
        """What is left of this phase at its speed so far; None when that cannot be said."""
        fraction = self.fraction
        if fraction is None or not MIN_FRACTION_TO_GUESS <= fraction < 1:
            return None
        return self.elapsed * (1 - fraction) / fraction

    def __str__(self) -> str:
        parts = [self._counts()]
        if self.n_done and self.elapsed > 0:
            parts.append(rate(self.n_done / self.elapsed, self.unit))
        if self.seconds_left is not None and self.seconds_left >= 0.5:
            parts.append(f"about {whole(self.seconds_left)} left")
        return " · ".join(parts)

    def _counts(self) -> str:
        if self.n_total is None:
            return f"{count(self.n_done)} {self.unit} so far"
        return f"{count(self.n_done)} / {count(self.n_total)} {self.unit}"


def map_phase(report: Report, now: float, reduce_began: float | None) -> Phase:
    """How far map is, in records: splits are cut as the job runs, so nobody knows how many map tasks there will be."""
    elapsed = report.elapsed(now) if reduce_began is None else reduce_began - report.started
    total = report.n_records_total
    if total is None and reduce_began is not None:
        total = report.n_records
    return Phase(report.n_records, total, "records", elapsed)


def reduce_phase(report: Report, now: float, reduce_began: float | None) -> Phase | None:
    """How far reduce is, in tasks; None before it begins."""
    if reduce_began is None:
        return None
    ended = now if report.ended is None else report.ended
    return Phase(report.n_reduce_tasks_done, report.n_reduce_tasks, "tasks", ended - reduce_began)
