"""What becomes of attempts: begun where the scheduler says, and told to it when they are over, however that was.

    StartAttempt ──> the job's order ──> slot
    slot ──answered──> AttemptFinished, AttemptRaised ──> Commit, FailJob ──> the job
    slot ──died──────> SlotDied ──> PoisonTask, SetAside ──> the job
         ├─ does not see what its split reads ──> SplitWanted ──> carry ──> the order once more: the attempt goes on
         └─ with its worker, stopped, for want of memory ──> SlotLost: its task runs again, and is not to blame

Each is entered in the job's books before the scheduler hears of it, who may give the slot's position to the next. It
decides nothing about tasks, and tells only those effects itself that need what the slot has said.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from jmr.codec.values import Buffer
from jmr.coordinator.jobs import Job, order_of
from jmr.coordinator.mail import Ending, JobFailed, JobPoisoned, PoisonSetAside, SplitWanted, WorkersLost
from jmr.coordinator.unseen import Waiting
from jmr.coordinator.worker import Answer, Slot, Stop
from jmr.scheduler import effects, events
from jmr.scheduler.jobs import Phase
from jmr.scheduler.machine import Scheduler
from jmr.shuffle.budget import Budget
from jmr.wire.frames import FrameError
from jmr.wire.messages import AttemptFailed, CloseJob, MapDone, Range, ReduceDone, SlotExited, whole

if TYPE_CHECKING:
    from jmr.coordinator.refusal import Refusal

__all__ = ["Attempts", "AttemptsOwner"]

#: A record that fills its host alone does so again; once more, as others may have had their part in it.
_ENOUGH_STOPS = 2


class AttemptsOwner(Protocol):
    """Who carries out whatever else follows."""

    def carry_out(self, effect: effects.Effect) -> None:
        """Do what must be done."""

    def settle(self, job: Job) -> None:
        """It may have ended, and nothing of it may run any more."""

    def stop_of(self, slot: Slot, exited: SlotExited) -> Stop | None:
        """Whether a slot, which is gone, has ended for want of memory."""


class Attempts:
    """Those of one coordinator; all of it belongs to the loop's thread.

    Parameters
    ----------
    owner
        Carries out what follows.
    scheduler, jobs
        The owner's.
    budget
        Memory for what attempts leave.
    """

    def __init__(self, owner: AttemptsOwner, scheduler: Scheduler, jobs: Mapping[int, Job], budget: Budget) -> None:
        self._owner = owner
        self._scheduler = scheduler
        self._jobs = jobs
        self._budget = budget
        #: Slots that have joined.
        self._slots: dict[int, Slot] = {}

    def joined(self, slot: Slot) -> None:
        """It may be told to start one."""
        self._slots[slot.number] = slot

    def stop(self, number: int) -> None:
        """End a slot's process, and what it is at."""
        if number in self._slots:
            self._slots[number].worker.kill(number)

    def close_job(self, number: int) -> None:
        """No more attempts of this job: have slots forget it."""
        for slot in self._slots.values():
            if number in slot.opened:
                slot.opened.discard(number)
                slot.line.send(CloseJob(number))

    def start(self, attempt: effects.StartAttempt) -> None:
        """Send a task to a slot."""
        job, slot = self._jobs[attempt.task.job], self._slots[attempt.slot]
        slot.attempt = attempt
        job.books.began(slot, attempt)
        opening = None
        if job.number not in slot.opened:
            slot.opened.add(job.number)
            opening = job.opening if slot.worker.number is None else job.opening_elsewhere
        if attempt.task.phase is Phase.MAP and slot.worker.number in job.unseen.workers:
            self._start_with_bytes(job, Waiting(slot, attempt, opening))
        else:
            slot.worker.start(slot, opening, job.order(attempt))

    def not_here(self, slot: Slot) -> None:
        """A slot does not see what its split reads, and waits for that. Raises FrameError if it has it."""
        attempt = slot.attempt
        assert attempt is not None
        job = self._jobs.get(attempt.task.job)
        if job is None or not self._scheduler.counts(slot.number):  # it is about to be stopped
            return
        if slot.number in job.unseen.sent.get(attempt.task.index, ()):
            raise FrameError("a slot waits for what it was sent")
        if slot.worker.number not in job.unseen.workers:
            job.unseen.workers.add(slot.worker.number)
            job.note(f"{slot.worker.name} does not see what this job reads, and was sent it")
        self._start_with_bytes(job, Waiting(slot, attempt, None))

    def carry(self, number: int, index: int, split: list[Buffer] | Range) -> None:
        """Have those attempts go on that wait for this split, with what it reads inside."""
        job = self._jobs.get(number)
        if job is not None and index in job.splits:  # else it has ended, or another attempt has done it
            for waiting in job.unseen.arrived(index, split):
                self._start_with_bytes(job, waiting)

    def _start_with_bytes(self, job: Job, waiting: Waiting) -> None:
        """Send a task to a slot that does not see what its split reads, at once or when that is there."""
        slot, attempt = waiting.slot, waiting.attempt
        carried = job.unseen.carried.get(attempt.task.index)
        if carried is None:
            if job.unseen.wait(waiting):
                job.tell(SplitWanted(attempt.task.index, job.splits[attempt.task.index]))
        elif slot.attempt is attempt:  # else it is gone, or ends
            self._budget.release(slot.number)
            job.unseen.sent.setdefault(attempt.task.index, set()).add(slot.number)
            slot.worker.start(slot, waiting.opening, job.order(attempt, carried))

    def answered(self, slot: Slot, answer: Answer) -> None:
        """It is over."""
        match answer:
            case AttemptFailed():
                self._raise(slot, whole(answer.blobs[0]))
            case MapDone() | ReduceDone():
                self._finish(slot, answer)

    def died(self, slot: Slot, exited: SlotExited | None) -> None:
        """A slot is gone: its task runs again, or was tried often enough."""
        self._slots.pop(slot.number, None)
        if exited is None:
            self._lose(slot)
            return
        stop = self._owner.stop_of(slot, exited)
        if exited.was_stopped or (stop is not None and not stop.is_blamed):
            self._take_back(slot, exited, stop)
            return
        enough = None if slot.stop is None else _ENOUGH_STOPS
        event = events.SlotDied(time.monotonic(), slot.number, exited.cursor, enough)
        if slot.attempt is None:
            self._apply(event)
            return
        counts = self._scheduler.counts(slot.number)
        job, attempt = self._take(slot, "died", exited=exited, stop=stop)
        told: Ending = WorkersLost("")
        if job is not None and counts:
            told = job.poison(attempt.task, exited, slot.name)
            told.why = "" if stop is None else stop.why
        self._apply_ending(job, told, event, effects.PoisonTask)

    def refused(self, slot: Slot, refusal: Refusal) -> Job | None:
        """A slot's host cannot take part in its job, which is returned unless it is over; the scheduler is not told."""
        counts = self._scheduler.counts(slot.number)
        job, _ = self._take(slot, "refused")
        if job is not None and counts and slot.worker.number not in job.refusals:
            job.refusals[slot.worker.number] = slot.worker.name, refusal
            job.note(f"without {slot.worker.name}, which {refusal.reason}")
        return job

    def _finish(self, slot: Slot, message: MapDone | ReduceDone) -> None:
        job, attempt = self._take(slot, "done", answer=message)
        for effect in self._scheduler.handle(events.AttemptFinished(time.monotonic(), slot.number)):
            if isinstance(effect, effects.Commit):
                assert job is not None
                job.commit(attempt.task, message)
            else:
                self._owner.carry_out(effect)
        if job is not None:
            self._owner.settle(job)

    def _raise(self, slot: Slot, failure: Buffer) -> None:
        job, attempt = self._take(slot, "raised")
        told: Ending = WorkersLost("")
        if job is not None:
            told = JobFailed(str(attempt.task), attempt.number, slot.name, failure, job.origin(attempt.task))
        self._apply_ending(job, told, events.AttemptRaised(time.monotonic(), slot.number), effects.FailJob)

    def _lose(self, slot: Slot) -> None:
        counts = self._scheduler.counts(slot.number)
        job = self._take(slot, "lost")[0] if slot.attempt is not None else None
        if not slot.ending:
            for each in self._jobs.values():
                each.books.lost(slot)
        if job is not None and counts and slot.worker.number is not None and not slot.ending:
            job.note(f"{slot.worker.name} was lost, and its work done again")
        self._apply(events.SlotLost(time.monotonic(), slot.number))
        if job is not None:
            self._owner.settle(job)

    def _take_back(self, slot: Slot, exited: SlotExited, stop: Stop | None) -> None:
        """It has ended for want of memory, or as somebody had stopped it, and its task runs again."""
        counts, job = self._scheduler.counts(slot.number), None
        if slot.attempt is not None:
            job, _ = self._take(slot, "stopped", exited=exited, stop=stop)
        if job is not None and counts and exited.was_stopped:
            job.note(f"{slot.name} was stopped by a signal for a minute, and its work done again")
        self._apply(events.SlotLost(time.monotonic(), slot.number))
        if job is not None:
            self._owner.settle(job)

    def _take(
        self,
        slot: Slot,
        outcome: str,
        *,
        answer: Answer | None = None,
        exited: SlotExited | None = None,
        stop: Stop | None = None,
    ) -> tuple[Job | None, effects.StartAttempt]:
        """End an attempt in the books, before the scheduler hears of it; the job is None if it is over already."""
        attempt, slot.attempt = slot.attempt, None
        assert attempt is not None
        self._budget.release(slot.number)
        job = self._jobs.get(attempt.task.job)
        if job is None:
            pass
        elif self._scheduler.counts(slot.number):
            job.books.ended(slot, attempt, outcome, answer, exited, stop=stop)
        else:
            job.books.ended(slot, attempt, "stopped", None, exited)
        return job, attempt

    def _apply(self, event: events.Event) -> None:
        for effect in self._scheduler.handle(event):
            self._owner.carry_out(effect)

    def _apply_ending(self, job: Job | None, told: Ending, event: events.Event, ends: type[effects.Effect]) -> None:
        """Handle an event whose effect may be the job's end, told in these words."""
        for effect in self._scheduler.handle(event):
            if isinstance(effect, effects.PoisonTask | effects.SetAside):
                assert isinstance(told, JobPoisoned)
                told = replace(told, index=effect.index, n_deaths=effect.n_deaths)
            if isinstance(effect, ends):
                assert job is not None
                job.ending = told
            elif isinstance(effect, effects.SetAside):
                assert job is not None
                self._set_aside(job, effect, told)
            else:
                self._owner.carry_out(effect)
        if job is not None:
            self._owner.settle(job)

    def _set_aside(self, job: Job, effect: effects.SetAside, told: Ending) -> None:
        assert isinstance(told, JobPoisoned)
        job.spec.report.n_skipped += 1
        job.tell(PoisonSetAside(order_of(effect.task), told))
