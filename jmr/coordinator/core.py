"""The coordinator: scheduler, slots and jobs on one tornado IOLoop in a thread of its own.

    calling thread ──open_job, add_split, end_input, cancel──> loop
    slots, supervisor ──messages──> loop ──events──> Scheduler ──effects──> messages, mail ──> calling thread

A slot counts as gone when its connection has ended *and* its supervisor has said how: so what it still delivered is
taken first. A job's last mail is sent when nothing of it runs any more and what its slots printed has arrived.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tornado.ioloop import IOLoop

from jmr.codec.values import Buffer
from jmr.coordinator import patience
from jmr.coordinator.channel import Channel
from jmr.coordinator.jobs import Job, JobSpec, order_of
from jmr.coordinator.mail import (
    Ending,
    JobDone,
    JobFailed,
    JobPoisoned,
    PoisonSetAside,
    SlotPrinted,
    WorkersLost,
)
from jmr.errors import WorkerError
from jmr.launch import LocalWorker, close_in_forks, start_local
from jmr.result import Attempt
from jmr.scheduler import effects, events
from jmr.scheduler.machine import Scheduler
from jmr.shuffle import MapOutputs, SpillDirectory
from jmr.wire.messages import (
    AttemptFailed,
    CloseJob,
    Drain,
    Drained,
    ForkSlot,
    KillSlot,
    MapDone,
    Message,
    OpenJob,
    Printed,
    ReduceDone,
    SlotExited,
    SlotReady,
    WorkerReady,
)

__all__ = ["Coordinator"]

#: Supervisors, or slots, that may be lost in a row before anything has worked.
_MOST_FAILED_STARTS = 3
_job_numbers = itertools.count(1)


@dataclass(slots=True)
class _Slot:
    """A slot's process, from its fork until its connection has ended and its supervisor has told how."""

    number: int
    position: int
    name: str
    channel: Channel | None = None
    opened: set[int] = field(default_factory=set)
    attempt: effects.StartAttempt | None = None
    ready: bool = False
    #: Its supervisor is gone.
    orphaned: bool = False
    exited: SlotExited | None = None


class Coordinator:
    """Runs jobs on this host's slots.

    Parameters
    ----------
    n_slots
        How many to start with.
    """

    def __init__(self, n_slots: int) -> None:
        self._pid = os.getpid()
        self._directory = SpillDirectory()
        self._worker: LocalWorker | None = start_local(self._directory.path)
        self._control: Channel | None = None
        self._target = n_slots
        self._scheduler = Scheduler()
        self._slots: dict[int, _Slot] = {}
        self._slot_numbers = itertools.count(1)
        self._jobs: dict[int, Job] = {}
        self._n_failed_starts = 0
        self._broken: str | None = None
        self._started = threading.Event()
        self._closing = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="jmr-coordinator", daemon=True)
        self._thread.start()
        self._started.wait()
        self._directory.remove_leftovers()

    # Any thread.

    def open_job(self, spec: JobSpec, n_slots: int | None) -> int:
        """Open a job; `n_slots` is what it asked for, and the worker grows to it. Returns the job's number."""
        with self._closing:
            if self._closed:
                raise WorkerError("the cluster was closed before this job began")
            number = next(_job_numbers)
            patience.acquire()
            self._call(self._open_job, number, spec, n_slots)
            return number

    def add_split(self, job: int, split: Buffer) -> None:
        """Queue the next split of a job's source."""
        self._call(self._add_split, job, split)

    def end_input(self, job: int) -> None:
        """Say that a job's source has no more."""
        self._call(lambda: self._apply(events.InputEnded(time.monotonic(), job)))

    def cancel(self, job: int, ending: Ending) -> None:
        """Stop a job's attempts; `ending` is its last mail, unless it had ended before."""
        self._call(self._cancel, job, ending)

    def job_directory(self, job: int) -> str:
        """Where a job's large map outputs lie, if it has any."""
        return f"{self._directory.path}/job-{job}"

    def resize(self, n_slots: int) -> None:
        """Have this many slots, soon."""
        self._target = n_slots  # told at once, and done soon
        self._call(self._resize, n_slots)

    def status(self) -> list[tuple[str, str]]:
        """(name, what it does) of every slot."""
        slots = sorted(self._slots.values(), key=lambda slot: slot.position)
        return [(slot.name, _doing(slot)) for slot in slots]

    @property
    def n_slots(self) -> int:
        """How many slots there are, or will be when those that start have started."""
        return self._target

    def close(self) -> None:
        """End every slot and the thread; jobs that still run fail. Harmless the second time."""
        if os.getpid() != self._pid:  # a forked child has neither the thread nor the workers
            return
        with self._closing:
            if not self._closed:
                self._closed = True
                self._call(self._close)
        self._thread.join()
        if self._worker is not None:
            self._worker.last_words()
        self._directory.close()

    # The loop's thread.

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = IOLoop.current()
        self._stop = asyncio.Event()
        self._attach_worker()
        self._started.set()
        await self._stop.wait()

    def _call(self, function: Callable[..., None], *args: Any) -> None:
        self._loop.add_callback(self._guarded, function, *args)

    def _guarded(self, function: Callable[..., None], *args: Any) -> None:
        """Run a callback; a mistake of ours ends the jobs with its traceback instead of leaving them hanging."""
        try:
            function(*args)
        except Exception:
            self._break("jmr's coordinator failed; please report this:\n" + traceback.format_exc())

    def _guard(self, function: Callable[..., None], *first: Any) -> Callable[..., None]:
        return lambda *rest: self._guarded(function, *first, *rest)

    def _apply(self, event: events.Event) -> None:
        for effect in self._scheduler.handle(event):
            self._carry_out(effect)

    def _carry_out(self, effect: effects.Effect) -> None:
        match effect:
            case effects.StartAttempt():
                self._start_attempt(effect)
            case effects.StopSlot(slot):
                self._kill(slot)
            case effects.PlanReduce(number):
                self._plan_reduce(self._jobs[number])
            case effects.EndJob(number):
                job = self._jobs[number]
                self._end(job, JobDone(job.failures))
            case effects.Commit() | effects.SetAside() | effects.FailJob() | effects.PoisonTask():
                raise AssertionError(f"{effect} is answered where its event was made")

    # Jobs.

    def _open_job(self, number: int, spec: JobSpec, n_slots: int | None) -> None:
        if self._broken is not None:
            self._try_again()
        opening = OpenJob(
            number,
            spec.n_partitions,
            spec.options.skips,
            self.job_directory(number),
            blobs=[spec.functions, spec.surroundings],
        )
        job = Job(number, spec, time.monotonic(), opening, MapOutputs(spec.n_partitions))
        self._jobs[number] = job
        self._apply(events.JobOpened(job.started, number, spec.options))
        if n_slots is not None and n_slots > self._target:
            self._resize(n_slots)

    def _add_split(self, number: int, split: Buffer) -> None:
        job = self._jobs.get(number)
        if job is None or job.ending is not None:
            return
        job.splits[job.spec.report.n_map_tasks] = split
        job.spec.report.n_map_tasks += 1
        self._apply(events.SplitAdded(time.monotonic(), number))

    def _plan_reduce(self, job: Job) -> None:
        job.reduce_plan = job.outputs.plan_reduce()
        job.spec.report.n_reduce_tasks = len(job.reduce_plan)
        self._apply(events.ReduceTasksKnown(time.monotonic(), job.number, len(job.reduce_plan)))

    def _cancel(self, number: int, ending: Ending) -> None:
        job = self._jobs.get(number)
        if job is None or job.ending is not None:
            return
        self._end(job, ending)
        self._apply(events.JobCancelled(time.monotonic(), number))
        self._settle(job)

    def _end(self, job: Job, ending: Ending) -> None:
        """Remember how a job ends; it is told when its slots are quiet and what they printed has come."""
        job.ending = ending
        self._settle(job)

    def _settle(self, job: Job) -> None:
        if job.ending is None or job.is_draining or not self._scheduler.is_quiet(job.number):
            return
        job.is_draining = True
        if self._control is not None and self._control.is_open:
            self._control.send(Drain(job.number))
        else:
            self._tell_end(job.number)

    def _tell_end(self, number: int) -> None:
        job = self._jobs.pop(number, None)
        if job is None:
            return
        assert job.ending is not None
        for slot in self._slots.values():
            if number in slot.opened and slot.channel is not None:
                slot.opened.discard(number)
                slot.channel.send(CloseJob(number))
        patience.release()
        job.spec.mailbox.put(job.ending)

    # Attempts.

    def _start_attempt(self, attempt: effects.StartAttempt) -> None:
        job, slot = self._jobs[attempt.task.job], self._slots[attempt.slot]
        assert slot.channel is not None
        slot.attempt = attempt
        job.attempts[slot.number] = time.monotonic()
        if job.number not in slot.opened:
            slot.opened.add(job.number)
            slot.channel.send(job.opening)
        slot.channel.send(job.order(attempt))

    def _finish(self, slot: _Slot, message: MapDone | ReduceDone) -> None:
        job, attempt = self._take_attempt(slot, "done")
        for effect in self._scheduler.handle(events.AttemptFinished(time.monotonic(), slot.number)):
            if isinstance(effect, effects.Commit):
                assert job is not None
                job.commit(attempt.task, message)
            else:
                self._carry_out(effect)
        if job is not None:
            self._settle(job)

    def _raise(self, slot: _Slot, failure: Buffer) -> None:
        job, attempt = self._take_attempt(slot, "raised")
        told = JobFailed(str(attempt.task), attempt.number, slot.name, failure)
        self._apply_ending(job, told, events.AttemptRaised(time.monotonic(), slot.number), effects.FailJob)

    def _apply_ending(self, job: Job | None, told: Ending, event: events.Event, ends: type[effects.Effect]) -> None:
        """Handle an event whose effect may be the job's end, told in these words."""
        for effect in self._scheduler.handle(event):
            if isinstance(effect, ends):
                assert job is not None
                job.ending = told
            elif isinstance(effect, effects.SetAside):
                assert job is not None
                self._set_aside(job, effect, told)
            else:
                self._carry_out(effect)
        if job is not None:
            self._settle(job)

    def _set_aside(self, job: Job, effect: effects.SetAside, told: Ending) -> None:
        assert isinstance(told, JobPoisoned)
        job.spec.report.n_skipped += 1
        job.spec.mailbox.put(PoisonSetAside(order_of(effect.task), told))

    def _take_attempt(self, slot: _Slot, outcome: str) -> tuple[Job | None, effects.StartAttempt]:
        """End a slot's attempt in the books; the job is None if it is over already."""
        attempt, slot.attempt = slot.attempt, None
        assert attempt is not None
        job = self._jobs.get(attempt.task.job)
        if job is not None:
            began = job.attempts.pop(slot.number) - job.started
            ended = time.monotonic() - job.started
            how = outcome if job.ending is None else "stopped"
            job.spec.report.timeline.append(Attempt(slot.name, str(attempt.task), attempt.number, began, ended, how))
        return job, attempt

    # Slots.

    def _resize(self, n_slots: int) -> None:
        self._target = n_slots
        for slot in list(self._slots.values()):
            if slot.position > n_slots and slot.ready:
                self._apply(events.SlotUnwanted(time.monotonic(), slot.number))
        self._fork_missing()

    def _fork_missing(self) -> None:
        """Fork a slot for each position that has none."""
        if self._control is None or not self._control.is_open:
            return
        taken = {slot.position for slot in self._slots.values()}
        for position in range(1, self._target + 1):
            if position not in taken:
                self._fork(position)

    def _fork(self, position: int) -> None:
        slot = _Slot(next(self._slot_numbers), position, f"local/{position}")
        ours, theirs = socket.socketpair()
        close_in_forks(ours)
        self._slots[slot.number] = slot
        slot.channel = Channel(self._loop, ours, self._guard(self._hear_slot, slot), self._guard(self._bury, slot))
        assert self._control is not None
        with theirs:
            self._control.send_with_descriptor(ForkSlot(slot.number, slot.name), theirs.fileno())

    def _kill(self, number: int) -> None:
        if self._control is not None:
            self._control.send(KillSlot(number))

    def _hear_slot(self, slot: _Slot, message: Message) -> None:
        match message:
            case SlotReady():
                slot.ready = True
                self._n_failed_starts = 0
                self._apply(events.SlotJoined(time.monotonic(), slot.number))
                if slot.position > self._target:
                    self._apply(events.SlotUnwanted(time.monotonic(), slot.number))
            case MapDone() | ReduceDone():
                self._finish(slot, message)
            case AttemptFailed(blobs=[failure]):
                self._raise(slot, failure)
            case _:
                raise AssertionError(f"a slot does not say {message}")

    def _bury(self, slot: _Slot) -> None:
        """Let go of a slot, once its connection has ended and its supervisor has told how."""
        if slot.channel is None or slot.channel.is_open or slot.exited is None or slot.number not in self._slots:
            return
        del self._slots[slot.number]
        event = events.SlotDied(time.monotonic(), slot.number, slot.exited.cursor)
        if slot.attempt is None:
            self._apply(event)
        else:
            job, attempt = self._take_attempt(slot, "died")
            told = self._told_of_death(job, attempt, slot) if job is not None else WorkersLost("")
            self._apply_ending(job, told, event, effects.PoisonTask)
        self._replace(slot)

    def _told_of_death(self, job: Job, attempt: effects.StartAttempt, slot: _Slot) -> Ending:
        """What to tell if this death was one too many."""
        assert slot.exited is not None
        task = self._scheduler.task_of(slot.number)
        return job.poison(attempt.task, slot.exited, slot.name, (task.n_deaths if task else 0) + 1)

    def _replace(self, slot: _Slot) -> None:
        if not slot.ready and not slot.orphaned:
            self._n_failed_starts += 1
            if self._n_failed_starts >= _MOST_FAILED_STARTS:
                assert slot.exited is not None
                self._break(f"slots end as soon as they start, with status {slot.exited.status}")
                return
        self._fork_missing()

    # The supervisor.

    def _attach_worker(self) -> None:
        assert self._worker is not None
        worker = self._worker
        self._control = Channel(
            self._loop,
            worker.connection,
            self._guard(self._hear_supervisor),
            self._guard(self._lose_worker, worker),
        )
        self._fork_missing()

    def _restart_worker(self) -> None:
        self._worker = start_local(self._directory.path)
        self._attach_worker()

    def _hear_supervisor(self, message: Message) -> None:
        match message:
            case WorkerReady():
                return
            case SlotExited(slot=number):
                slot = self._slots.get(number)
                if slot is not None:
                    slot.exited = message
                    self._bury(slot)
            case Printed(job, name, stream, blobs=[text]):
                if job in self._jobs:
                    self._jobs[job].spec.mailbox.put(SlotPrinted(name, stream, bytes(text)))
            case Drained(job):
                self._tell_end(job)
            case _:
                raise AssertionError(f"a supervisor does not say {message}")

    def _lose_worker(self, worker: LocalWorker) -> None:
        """The supervisor is gone, and with it every slot; start another, unless they keep dying."""
        if self._stop.is_set():
            return
        worker.process.kill()
        words = worker.last_words()
        self._n_failed_starts += 1
        self._control = None
        # The idle ones first, else they would be given what the busy ones leave, and that would count as their deaths.
        for slot in sorted(self._slots.values(), key=lambda slot: slot.attempt is not None):
            slot.orphaned = True
            slot.exited = SlotExited(slot.number, -9, None, 0)
            assert slot.channel is not None
            slot.channel.close()
            self._bury(slot)  # now, also where its connection had ended before its supervisor's
        if self._n_failed_starts >= _MOST_FAILED_STARTS:
            self._worker = None
            self._break(f"the worker on this host does not start: {words or 'it says nothing'}")
            return
        self._restart_worker()
        for job in list(self._jobs.values()):
            if job.is_draining:  # nobody is left to answer
                self._tell_end(job.number)

    def _break(self, reason: str) -> None:
        """Fail all jobs: there is nothing to run them on."""
        self._broken = reason
        for number in list(self._jobs):
            self._cancel(number, WorkersLost(reason))

    def _try_again(self) -> None:
        """A new job may find what the last one missed: memory, a file descriptor, a repaired installation."""
        self._broken = None
        self._n_failed_starts = 0
        if self._worker is None:
            self._restart_worker()
        else:
            self._fork_missing()

    def _close(self) -> None:
        self._stop.set()
        self._break("the cluster was closed")
        for number in list(self._jobs):
            self._tell_end(number)
        if self._control is not None:
            self._control.close()
        for slot in self._slots.values():
            if slot.channel is not None:
                slot.channel.close()


def _doing(slot: _Slot) -> str:
    if not slot.ready:
        return "starting"
    return "idle" if slot.attempt is None else f"job {slot.attempt.task.job}: {slot.attempt.task}"
