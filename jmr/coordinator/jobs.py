"""A job as the coordinator knows it: blobs on their way, and who waits for what.

Splits are kept until their map task has committed, map outputs until the job is over. A split's file may still be read
after that, by an attempt that comes too late: attempts run side by side only when the source has ended, and from then
on the calling thread uses no file again.
"""

from __future__ import annotations

import queue
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from jmr.codec.values import Buffer, byte_length
from jmr.coordinator.books import Books
from jmr.coordinator.mail import Ending, JobPoisoned, Mail, Origin, PartitionKept, PartitionReady, SplitDone
from jmr.coordinator.unseen import Unseen
from jmr.progress.outlet import Outlet
from jmr.progress.report import Report
from jmr.scheduler.effects import StartAttempt
from jmr.scheduler.jobs import JobOptions, Phase, TaskId
from jmr.shuffle.budget import Budget
from jmr.shuffle.outputs import MapOutputs, ReduceInput
from jmr.wire.messages import (
    NOTICE,
    MapDone,
    OpenJob,
    Printed,
    Range,
    ReduceDone,
    SlotExited,
    StartMap,
    StartReduce,
    whole,
)
from jmr.worker.output import read_notice

if TYPE_CHECKING:
    from jmr.coordinator.refusal import Refusal

__all__ = ["Job", "JobSpec", "Letter", "order_of"]


#: Mail, and the box that it goes to.
Letter = tuple[queue.SimpleQueue[Mail], Mail]


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What it takes to open a job."""

    options: JobOptions
    n_partitions: int
    #: A blob; or, for all slots of the host, the file that it lies in.
    functions: list[Buffer] | Range
    surroundings: list[Buffer]
    #: For slots on other hosts: what of the surroundings makes sense there, and the modules that travel as source. None
    #: while there can be no such slots; see `Coordinator.amend`.
    elsewhere: tuple[list[Buffer], list[Buffer]] | None
    #: Whether it uses as many slots of this host as there are to be, since nobody has said how many.
    is_elastic: bool
    report: Report
    #: Shows what slots print.
    outlet: Outlet
    #: Where the coordinator's mail goes; unbounded, so that the loop never waits for a reader.
    mailbox: queue.SimpleQueue[Mail]
    #: Where this host's slots leave map outputs, if they are to outlive the job.
    kept_directory: str | None = None


@dataclass(slots=True)
class Job:
    """One job, in the loop's thread."""

    number: int
    spec: JobSpec
    #: Most slots of this host that it may use.
    max_slots: int
    #: What slots are told of it: here, and on other hosts.
    opening: OpenJob
    opening_elsewhere: OpenJob | None
    outputs: MapOutputs
    books: Books
    #: Shared with the other jobs, like the next.
    budget: Budget
    outbox: deque[Letter]
    #: In pieces, or where they lie.
    splits: dict[int, list[Buffer] | Range] = field(default_factory=dict)
    n_splits: int = 0
    reduce_plan: list[ReduceInput] = field(default_factory=list)
    #: The partitions of reduce tasks whose results are there already.
    reduced: frozenset[tuple[int, ...]] = frozenset()
    #: Blobs of what tasks set aside; see `JobDone`.
    failures: list[tuple[tuple[int, int], Buffer]] = field(default_factory=list)
    #: Told when nothing of the job runs any more and all that was printed has arrived.
    ending: Ending | None = None
    #: Workers that have not sent all yet that its slots printed; None before that was asked for.
    n_draining: int | None = None
    #: Of workers that refused it, by number: their names, and why.
    refusals: dict[int | None, tuple[str, Refusal]] = field(default_factory=dict)
    unseen: Unseen = field(default_factory=Unseen)

    def tell(self, mail: Mail) -> None:
        """Have the calling thread told, soon."""
        self.outbox.append((self.spec.mailbox, mail))

    def show(self, printed: Printed) -> None:
        """Have shown what a slot has printed, or warned of, or logged."""
        text = bytes(whole(printed.blobs[0]))
        if printed.stream == NOTICE:
            self.spec.outlet.put_notice(printed.name, *read_notice(text))
        else:
            self.spec.outlet.put(printed.name, printed.stream, text, printed.n_hidden)

    def amend(self, elsewhere: tuple[list[Buffer], list[Buffer]]) -> None:
        """Say what the job takes on other hosts."""
        functions = self.opening.blobs[0]
        self.opening_elsewhere = replace(self.opening, is_remote=True, blobs=[functions, *elsewhere])

    def note(self, text: str) -> None:
        """Have something told at the end, once."""
        if text not in self.spec.report.notes:
            self.spec.report.notes.append(text)

    def add_split(self, split: list[Buffer] | Range) -> None:
        """Keep the next split until it is mapped; the scheduler counts them in the same order."""
        self.splits[self.n_splits] = split
        self.n_splits += 1
        self.spec.report.n_map_tasks = self.n_splits

    def add_done_split(self, done: MapDone) -> None:
        """Take what the next split's map task left in an earlier run."""
        index = self.n_splits
        self.n_splits += 1
        self.spec.report.n_map_tasks = self.n_splits
        self.spec.report.n_tasks_kept += 1
        self._count_failures((0, index), done)
        self._take_output(index, done)

    def order(self, attempt: StartAttempt, carried: list[Buffer] | Range | None = None) -> StartMap | StartReduce:
        """The message that starts an attempt, with its input; `carried` is its split with what that reads inside."""
        task = attempt.task
        common = (self.number, task.index, attempt.number, attempt.careful, attempt.leave_out)
        if task.phase is Phase.MAP:
            memory_bytes = self.budget.reserve(attempt.slot, self.spec.report.n_slots)
            split = self.splits[task.index] if carried is None else carried
            if isinstance(split, list):
                return StartMap(*common, memory_bytes, None, blobs=[split])
            return StartMap(*common, memory_bytes, split)
        plan = self.reduce_plan[task.index]
        inputs, blobs = self.outputs.inputs(plan.partitions)
        return StartReduce(*common, inputs, plan.n_parts, blobs=list(blobs))

    def plan_reduce(self) -> int:
        """Say how many reduce tasks there will be, now that all splits are mapped."""
        self.reduce_plan = self.outputs.plan_reduce(self.budget.input_bytes(max(1, self.spec.report.n_slots)))
        self.spec.report.begin_reduce(len(self.reduce_plan))
        return len(self.reduce_plan)

    def tell_reduced(self) -> frozenset[int]:
        """Tell which reduce tasks need not run; returns their indices."""
        if not self.reduced:
            return frozenset()
        report, done = self.spec.report, set()
        for index, task in enumerate(self.reduce_plan):
            if tuple(task.partitions) in self.reduced:
                done.add(index)
                report.n_reduce_tasks_done += 1
                report.n_tasks_kept += 1
                report.reduced_bytes += task.n_bytes
                self.tell(PartitionKept(index, task.partitions))
        return frozenset(done)

    def told_refusals(self) -> str:
        """Why no worker can run it."""
        advice = dict.fromkeys(refusal.advice for _, refusal in self.refusals.values())
        return f"no worker can run this job: {self._told_reasons()}. {' '.join(advice)}"

    def told_left(self, last: str) -> str:
        """Why nobody is there to run it; `last` says what became of the last one that could."""
        others = f"; {self._told_reasons()}" if self.refusals else ""
        return f"no worker is left: {last}{others}"

    def _told_reasons(self) -> str:
        return "; ".join(f"{name} {refusal.reason}" for name, refusal in self.refusals.values())

    def forget(self) -> None:
        """Let go of what it has in memory."""
        self.budget.free(self.outputs.memory_bytes)

    def commit(self, task: TaskId, done: MapDone | ReduceDone) -> None:
        """Take a task's output as its one and only, and let go of its input."""
        self._count_failures(order_of(task), done)
        if isinstance(done, ReduceDone):
            report, plan = self.spec.report, self.reduce_plan[task.index]
            report.n_reduce_tasks_done += 1
            report.reduced_bytes += plan.n_bytes
            failures, blob = map(whole, done.blobs)
            self.tell(PartitionReady(blob, task.index, plan.partitions, done.n_failures, failures))
            return
        split = self.splits.pop(task.index)
        self.unseen.forget(task.index)
        at, n_bytes = (None, byte_length(split)) if isinstance(split, list) else (split, split[2])
        self._take_output(task.index, done)
        n_output = sum(done.lengths)
        left = None if self.spec.kept_directory is None else done
        self.tell(
            SplitDone(
                done.n_records,
                n_bytes,
                at,
                done.kept_split,
                n_output,
                done.seconds,
                done.flush_seconds,
                task.index,
                left,
            )
        )

    def _count_failures(self, order: tuple[int, int], done: MapDone | ReduceDone) -> None:
        self.spec.report.n_skipped += done.n_failures
        if done.n_failures:
            self.failures.append((order, whole(done.blobs[0])))

    def _take_output(self, index: int, done: MapDone) -> None:
        self.budget.use(self.outputs.add(index, done))
        report = self.spec.report
        report.n_records += done.n_records
        report.n_pairs += done.n_pairs
        report.n_combined_pairs += done.n_combined_pairs
        report.shuffled_bytes = self.outputs.total_bytes
        report.n_map_tasks_done += 1

    def origin(self, task: TaskId) -> Origin:
        """Where its records or groups come from."""
        if task.phase is Phase.MAP:
            return Origin(self.splits.get(task.index, []))  # nothing, if it is mapped by now
        plan = self.reduce_plan[task.index]
        return Origin(None, *self.outputs.inputs(plan.partitions), plan.n_parts, self.spec.n_partitions)

    def poison(self, task: TaskId, exited: SlotExited, slot: str) -> JobPoisoned:
        """All it takes to name the record or group at which a slot ended; how often, the scheduler counts."""
        printed, group = map(whole, exited.blobs or (b"", b""))
        return JobPoisoned(
            task=str(task),
            slot=slot,
            n_deaths=1,
            index=exited.cursor,
            status=exited.status,
            peak_bytes=exited.peak_bytes,
            stack=exited.stack,
            origin=self.origin(task),
            printed=printed,
            group=group,
        )


def order_of(task: TaskId) -> tuple[int, int]:
    """A task's place in source order; see `JobDone`."""
    return int(task.phase is Phase.REDUCE), task.index
