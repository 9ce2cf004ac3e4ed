"""What the coordinator tells the thread that waits for a job; the last mail of a job is an ending."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jmr.codec.values import Buffer
from jmr.wire.messages import MapDone, Range

__all__ = [
    "Ending",
    "JobDone",
    "JobFailed",
    "JobPoisoned",
    "JobStopped",
    "Mail",
    "Origin",
    "PartitionKept",
    "PartitionReady",
    "PoisonSetAside",
    "SplitDone",
    "SplitWanted",
    "WorkersLost",
]


@dataclass(slots=True)
class SplitDone:
    """A map task has committed; the feeder may send more, and knows better how much."""

    n_records: int
    #: Of the split.
    n_bytes: int
    #: Where it lies, if in a file; and whether user code in a slot holds on to some of it.
    split_at: Range | None
    kept_split: bool
    output_bytes: int
    seconds: float
    flush_seconds: float
    #: Of the task.
    index: int
    #: What it left, where somebody wants to keep that.
    left: MapDone | None


@dataclass(slots=True)
class SplitWanted:
    """A worker does not see what a split reads, and waits for `Coordinator.carry`."""

    #: Of its task.
    index: int
    #: As it was added.
    split: list[Buffer] | Range


@dataclass(slots=True)
class PartitionReady:
    """A reduce task's result."""

    blob: Buffer
    #: Of the task; and what it has reduced.
    index: int
    partitions: Sequence[int]
    #: How many groups it set aside; and their blob.
    n_failures: int
    failures: Buffer


@dataclass(slots=True)
class PartitionKept:
    """A reduce task need not run: its result is one of those that `Coordinator.end_input` named."""

    index: int
    partitions: Sequence[int]


@dataclass(slots=True)
class JobDone:
    """Everything was delivered; with the blobs of what was set aside.

    An order is (0 for map or 1 for reduce, index of the task): sorted by it, failures stand in source order.
    """

    failures: Sequence[tuple[tuple[int, int], Buffer]]


@dataclass(slots=True)
class Origin:
    """A task's input, from which a record or a group can be had by its index, while the job's files are there."""

    #: The split of a map task, in pieces or in a file; None for a reduce task.
    split: list[Buffer] | Range | None
    inputs: Sequence[tuple[int, Range]] = ()
    inline: Sequence[Buffer] = ()
    #: How the keys of a reduce task are dealt out.
    n_parts: int = 1
    n_partitions: int = 1


@dataclass(slots=True)
class JobFailed:
    """A user function failed."""

    task: str
    number: int
    slot: str
    failure: Buffer
    origin: Origin


@dataclass(slots=True)
class JobPoisoned:
    """A task killed its slot too often; with what it takes to name the record or group."""

    task: str
    slot: str
    n_deaths: int
    index: int | None
    status: int
    peak_bytes: int
    stack: Sequence[str]
    origin: Origin
    #: The end of what the slot had printed.
    printed: Buffer = b""
    #: The blob of a group that combinefn was at in a map task; empty if it was at none, or that is too large.
    group: Buffer = b""
    #: Why it was ended, if that was for want of memory; see `Stop`.
    why: str = ""


@dataclass(slots=True)
class JobStopped:
    """Somebody cancelled it."""


@dataclass(slots=True)
class PoisonSetAside:
    """The record or group that killed its slots is left out, and the job goes on."""

    order: tuple[int, int]
    poison: JobPoisoned


@dataclass(slots=True)
class WorkersLost:
    """No worker can be had."""

    reason: str


Ending = JobDone | JobFailed | JobPoisoned | JobStopped | WorkersLost
Mail = SplitDone | SplitWanted | PartitionReady | PartitionKept | PoisonSetAside | Ending
