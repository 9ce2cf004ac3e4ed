"""What is done while a host is short of memory: who begins nothing more there, and who is stopped.

    Sample (the host, its slots, who works) ──Pressure.weigh──> CapWorker, StopSlot
    a slot that the kernel killed for want of memory ──Pressure.killed──> whether its task is to blame, CapWorker
    a job is over ──Pressure.forget──> CapWorker

        ...────────── 70 % ────────── 80 % ────────── 95 % ──────────>  of the host's memory is used
     as many as there  │   as it was   │  nothing new  │  the largest slot is stopped, and its task runs
     are slots         │               │  begins       │  again; until the job is over, fewer run at once

One attempt may always run, so a job goes on, however full the host is; and one that is alone and still fills it is to
blame for that, so a job ends. What others have filled is not made empty by having fewer of ours: then as many run as
before, or one if nothing else is left, and nobody is stopped. Idle slots that keep much go first, since nothing is lost
with them. Of those that work one is stopped at a time, and what it leaves is waited for.

Pure: no clock (every sample carries `now`), no I/O. It decides for one worker, which is one host, and knows slots and
jobs by their numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["CapWorker", "Decision", "Pressure", "Sample", "StopSlot"]

#: Parts of the host's memory: below the first all is well again, from the second on nothing new begins, from the last
#: on somebody is stopped.
_CALM, _TIGHT, _FULL = 0.70, 0.80, 0.95
#: After one was stopped, until the next may be: as long as the kernel may take to clear what it had, and we to measure.
_CLEARING_SECONDS = 2.0
#: Idle slots that keep so much of the host together, and each no less than a new one would.
_IDLE, _IDLE_BYTES = 0.05, 64 << 20


@dataclass(slots=True)
class Sample:
    """A host's memory."""

    now: float
    used_bytes: int
    limit_bytes: int
    #: What each slot has, by number.
    slots: Mapping[int, int]
    #: Which job each slot works for that works.
    running: Mapping[int, int]


@dataclass(slots=True)
class CapWorker:
    """So many attempts at most may run at once; None for as many as there are slots."""

    most: int | None


@dataclass(slots=True)
class StopSlot:
    """End a slot's process, for the host's sake."""

    slot: int
    #: What it has.
    n_bytes: int
    #: Whether its task cannot run on this host, even alone, and is to blame; else it runs again.
    is_blamed: bool


Decision = CapWorker | StopSlot


@dataclass(slots=True)
class Pressure:
    """Of one worker."""

    #: Most attempts at once, while the host is tight.
    _tight: int | None = None
    #: And for as long as any of these jobs runs, since more were too many.
    _proven: int | None = None
    _jobs: set[int] = field(default_factory=set)
    #: What was decided last.
    _most: int | None = None
    #: Most that have been seen at work.
    _usual: int = 0
    #: Who was told to end, and has still memory; and until when the next is not.
    _stopped: set[int] = field(default_factory=set)
    _next_stop_at: float = 0.0

    def weigh(self, sample: Sample) -> list[Decision]:
        """Decide what is to be done about a sample."""
        others = max(0, sample.used_bytes - sum(sample.slots.values()))
        self._tighten(sample, others)
        self._stopped &= sample.slots.keys()
        stops: list[Decision] = []
        if sample.used_bytes >= _FULL * sample.limit_bytes and sample.now >= self._next_stop_at and not self._stopped:
            stops = self._relieve(sample, others)
        return self._cap() + stops

    def killed(self, now: float, running: Mapping[int, int]) -> tuple[bool, list[Decision]]:
        """Take into account that the kernel was faster: it has ended a slot.

        Parameters
        ----------
        now
            When.
        running
            As in a sample; that slot is still among them.

        Returns
        -------
        Whether its task is to blame, and what else is to be done.
        """
        self._next_stop_at = now + _CLEARING_SECONDS
        if len(running) <= 1:
            return True, []
        self._have_fewer(running)
        return False, self._cap()

    def forget(self, job: int) -> list[Decision]:
        """Take into account that a job is over."""
        self._jobs.discard(job)
        if not self._jobs:
            self._proven = None
        return self._cap()

    def rest(self) -> list[Decision]:
        """Take into account that nothing runs, and nobody measures."""
        self._tight = self._proven = None
        self._jobs.clear()
        self._usual = 0
        return self._cap()

    def _tighten(self, sample: Sample, others: int) -> None:
        self._usual = max(self._usual, len(sample.running))
        if sample.used_bytes < _CALM * sample.limit_bytes:
            self._tight = None
        elif sample.used_bytes >= _TIGHT * sample.limit_bytes:
            may_wait = others < _CALM * sample.limit_bytes  # for what ours leave
            most = 1 if may_wait else max(1, self._usual)
            self._tight = most if self._tight is None else min(self._tight, most)

    def _relieve(self, sample: Sample, others: int) -> list[Decision]:
        """Make room, if that can be done."""
        idle = [slot for slot, n in sample.slots.items() if slot not in sample.running and n >= _IDLE_BYTES]
        if idle and sum(sample.slots[slot] for slot in idle) >= _IDLE * sample.limit_bytes:
            return self._stop(sample, idle, is_blamed=False)
        if others >= _TIGHT * sample.limit_bytes:
            self._tight = 1
            return []
        working = [slot for slot in sample.slots if slot in sample.running]
        if not working:
            return []
        is_alone = len(sample.running) == 1
        if not is_alone:
            self._have_fewer(sample.running)
        return self._stop(sample, [max(working, key=lambda slot: sample.slots[slot])], is_blamed=is_alone)

    def _stop(self, sample: Sample, slots: list[int], *, is_blamed: bool) -> list[Decision]:
        self._next_stop_at = sample.now + _CLEARING_SECONDS
        self._stopped.update(slots)
        return [StopSlot(slot, sample.slots[slot], is_blamed) for slot in slots]

    def _have_fewer(self, running: Mapping[int, int]) -> None:
        fewer = len(running) - 1
        self._proven = fewer if self._proven is None else min(self._proven, fewer)
        self._jobs.update(running.values())

    def _cap(self) -> list[Decision]:
        """Say what has changed."""
        most = min((n for n in (self._tight, self._proven) if n is not None), default=None)
        if most == self._most:
            return []
        self._most = most
        return [CapWorker(most)]
