"""What a job's report learns from its attempts: the timeline, a row for each slot, failures.

    StartAttempt ──began──> the slot's row says what it does
    answer, death, loss ──ended──> a line of the timeline, and the row's counts
    memory of slots ──measured──> the row;  stop for want of it ──ended──> a failure, and a note
    loss of its worker ──lost──> the row says so

Only numbers and names; what an attempt leaves is the job's own affair.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping

from jmr.coordinator.worker import Answer, Slot, Stop
from jmr.progress.report import Report, SlotReport
from jmr.progress.words import plural
from jmr.result import Attempt
from jmr.scheduler.effects import StartAttempt
from jmr.wire.messages import MapDone, ReduceDone, SlotExited

__all__ = ["Books", "told_exit"]

#: Outcomes that somebody who looks on should hear of; the last thing a stopped attempt did was nobody's fault.
_FAILURES = {"raised": "raised", "died": "ended", "lost": "was lost with its worker", "refused": "was refused"}

#: What signals mean that are not sent by people.
_HINTS = {
    "SIGABRT": "C code called abort(), as it does when it finds its memory damaged",
    "SIGBUS": "a file in memory became shorter, or memory is used up",
    "SIGFPE": "C code divided by zero",
    "SIGILL": "C code is made for another CPU, or is damaged",
    "SIGKILL": "perhaps the system ran out of memory",
    "SIGSEGV": "C code touched memory that is not its own",
    "SIGXCPU": "its CPU time was used up: see ulimit -t",
    "SIGXFSZ": "it wrote a file larger than allowed: see ulimit -f",
}


class Books:
    """Of one job."""

    def __init__(self, report: Report, clock: Callable[[], float]) -> None:
        self._report = report
        self._clock = clock
        #: By slot: when its attempt began, the names of slot and task, and the slot's row.
        self._running: dict[int, tuple[float, str, str, SlotReport]] = {}
        #: Names of slots whose memory was measured while the job ran.
        self._measured: set[str] = set()
        self._stops, self._backups = _Repeated(report.notes), _Repeated(report.notes)

    def began(self, slot: Slot, attempt: StartAttempt) -> None:
        """A slot is told to start."""
        now, name, task = self._clock(), slot.name, str(attempt.task)
        row = self._report.slots.get(name)
        if row is None:
            row = self._report.slots[name] = SlotReport(slot.worker.name)
        row.since = now  # first: somebody may look at any time
        row.doing = task
        row.is_gone = False
        self._running[slot.number] = now, name, task, row
        if attempt.backup:
            self._backups.note(f"{task} took long, and was begun once more, on {name}")

    def ended(
        self,
        slot: Slot,
        attempt: StartAttempt,
        outcome: str,
        answer: Answer | None = None,
        exited: SlotExited | None = None,
        *,
        stop: Stop | None = None,
    ) -> None:
        """Its attempt is over; `outcome` as in `Attempt`."""
        began, name, task, row = self._running.pop(slot.number)
        started = self._report.started
        times = began - started, self._clock() - started
        self._report.timeline.append(Attempt(name, task, attempt.number, *times, outcome, attempt.backup))
        row.doing = ""
        row.is_gone = outcome in ("lost", "refused")
        if stop is not None:
            self._count_failure(row, f"{task} on {name} {stop.why}")
            again = "it ran again" + ("" if stop.is_blamed else " with fewer beside it")
            self._stops.note(f"{task} on {name} {stop.why}; {again}")
        elif outcome in _FAILURES:
            how = "" if exited is None else f": {told_exit(exited.status)}"
            self._count_failure(row, f"{task} on {name} {_FAILURES[outcome]}{how}")
        if isinstance(answer, MapDone | ReduceDone):
            self._count(name, row, answer)
        if exited is not None:
            self._report.peak_bytes = max(self._report.peak_bytes, exited.peak_bytes)

    def lost(self, slot: Slot) -> None:
        """It is gone with its worker, whether it was at work or not."""
        if slot.name in self._report.slots:
            self._report.slots[slot.name].is_gone = True

    def measured(self, sizes: Mapping[str, int]) -> None:
        """Slots have so much memory, by name."""
        for name in sizes.keys() & self._report.slots.keys():
            self._measured.add(name)
            self._report.slots[name].memory_bytes = sizes[name]

    def _count_failure(self, row: SlotReport, told: str) -> None:
        row.n_failures += 1
        self._report.n_failures += 1
        self._report.last_failure = told

    def _count(self, name: str, row: SlotReport, answer: MapDone | ReduceDone) -> None:
        row.n_tasks += 1
        if name not in self._measured:
            row.memory_bytes = answer.peak_bytes
        self._report.peak_bytes = max(self._report.peak_bytes, answer.peak_bytes)
        if isinstance(answer, MapDone):
            row.n_records += answer.n_records
            row.map_seconds += answer.seconds


class _Repeated:
    """What may happen many times: of the first it is noted what it was, and of the others how many there were."""

    def __init__(self, notes: list[str]) -> None:
        self._notes = notes
        self._first = ""
        self._n_times = 0

    def note(self, text: str) -> None:
        """It has happened."""
        self._n_times += 1
        if self._n_times == 1:
            self._first = text
            self._notes.append(text)
        else:
            at = next(at for at, note in enumerate(self._notes) if note.startswith(self._first))
            self._notes[at] = f"{self._first}; the same {plural(self._n_times - 1, 'more time')}"


def told_exit(status: int) -> str:
    """Put an exit status into words.

    Examples
    --------
    >>> told_exit(-11)
    'killed by signal 11 (SIGSEGV; C code touched memory that is not its own)'
    >>> told_exit(3)
    'exited with code 3'
    """
    if status >= 0:
        return f"exited with code {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = "unknown"
    hint = f"; {_HINTS[name]}" if name in _HINTS else ""
    return f"killed by signal {-status} ({name}{hint})"
