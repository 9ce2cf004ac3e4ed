"""What coordinator, supervisor and slot say to each other.

    coordinator ──OpenJob, StartMap, StartReduce, CloseJob──> slot
    coordinator <──SlotReady, MapDone, ReduceDone, AttemptFailed── slot

    coordinator ──ForkSlot (with a socket), KillSlot, Drain, Watch──> supervisor
    coordinator <──WorkerReady, SlotExited, Printed, Drained, Measured── supervisor

Nobody changes a message. They are not frozen because that doubles what it takes to import the class, which every start
of a worker waits for, and trebles what it takes to make an object; the same holds for events, effects and mail.

Fields are what JSON can say; `blobs` are opaque bytes, moved but never looked into on the way. Whoever sends one may
give it in pieces, which need not be joined for that; what arrives is one bytearray.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from jmr.codec.values import Buffer

if TYPE_CHECKING:
    from jmr.wire.far import FarMessage

__all__ = [
    "CANNOT_ANSWER",
    "CANNOT_START",
    "GROUP_BYTES",
    "KINDS",
    "NOTICE",
    "TAIL_BYTES",
    "AttemptFailed",
    "Blob",
    "CloseJob",
    "Drain",
    "Drained",
    "ForkSlot",
    "KillSlot",
    "MapDone",
    "Measured",
    "Message",
    "OpenJob",
    "Printed",
    "Range",
    "ReduceDone",
    "SlotExited",
    "SlotReady",
    "StartMap",
    "StartReduce",
    "Watch",
    "WorkerReady",
    "whole",
]

#: Exit code of a slot that could not send its answer.
CANNOT_ANSWER = 86
#: In place of an exit code, where a slot could not be forked; the blob says why.
CANNOT_START = 87
#: Most bytes of the end of what a slot has printed, and of a group that combinefn is given.
TAIL_BYTES, GROUP_BYTES = 2_000, 1 << 16
#: Among the streams of a slot: its warnings and log records.
NOTICE = 3
#: (path or None for inline, offset, length, crc or None for what lies in memory): where one partition of one map output
#: lies.
Range = tuple[str | None, int, int, int | None]
Blob = Buffer | list[Buffer]


@dataclass(slots=True)
class OpenJob:
    """What a slot is told of a job, once; blobs: functions, surroundings, and elsewhere a Shipment."""

    job: int
    n_partitions: int
    skips: bool
    #: Where map outputs too big to travel inline are written: on disk, and in memory if there is such a place.
    directory: str
    memory_directory: str | None
    #: Where map outputs are written instead, whatever their size, to be kept for a later run of the job; else None.
    kept_directory: str | None
    #: Where the functions lie, if what they capture is large: there is one copy for all slots of a host.
    functions_at: Range | None
    #: Whether the slot is on another host: files there are not those of the coordinator.
    is_remote: bool
    blobs: Sequence[Blob] = ()


@dataclass(slots=True)
class CloseJob:
    """No more attempts of this job."""

    job: int


@dataclass(slots=True)
class StartMap:
    """Run a map task; blobs: the split, if it lies in no file."""

    job: int
    task: int
    number: int
    #: Say which record is being worked on.
    careful: bool
    leave_out: Sequence[int]
    #: Most bytes of output that may stay in memory; more goes to disk.
    memory_bytes: int
    split_at: Range | None
    blobs: Sequence[Blob] = ()


@dataclass(slots=True)
class StartReduce:
    """Run a reduce task over (split, range) inputs; blobs: those that are inline, in the same order."""

    job: int
    task: int
    number: int
    careful: bool
    leave_out: Sequence[int]
    inputs: Sequence[tuple[int, Range]]
    #: Into so many parts the keys are dealt out first.
    n_parts: int
    blobs: Sequence[Blob] = ()


@dataclass(slots=True)
class SlotReady:
    """A slot runs and waits for work."""

    slot: int


@dataclass(slots=True)
class MapDone:
    """A map attempt's output; blobs: failures set aside (may be empty), then the output if it is inline."""

    n_records: int
    n_pairs: int
    #: What the combiner left of them.
    n_combined_pairs: int
    unstable: bool
    seconds: float
    flush_seconds: float
    n_failures: int
    #: Most memory that the slot has had since it took to the job; so in `ReduceDone`.
    peak_bytes: int
    #: Whether user code holds on to some of the file that the split lies in.
    kept_split: bool
    #: None where the output is inline.
    path: str | None
    lengths: Sequence[int]
    #: None of what lies in memory.
    crcs: Sequence[int]
    blobs: Sequence[Blob] = ()


@dataclass(slots=True)
class ReduceDone:
    """A reduce attempt's result; blobs: failures set aside (may be empty), the result."""

    n_failures: int
    peak_bytes: int
    blobs: Sequence[Blob] = ()


@dataclass(slots=True)
class AttemptFailed:
    """User code failed; blobs: the failure."""

    blobs: Sequence[Blob] = ()


@dataclass(slots=True)
class WorkerReady:
    """A supervisor runs."""

    pid: int


@dataclass(slots=True)
class ForkSlot:
    """Fork a slot; a socket to the coordinator comes with this message."""

    slot: int
    name: str


@dataclass(slots=True)
class KillSlot:
    """End a slot and whatever it started."""

    slot: int


@dataclass(slots=True)
class SlotExited:
    """A slot's process is gone; blobs: the end of what it had printed for its job; the group, as `Spot` has it."""

    slot: int
    #: Exit code, or minus the signal's number.
    status: int
    cursor: int | None
    peak_bytes: int
    #: Where a signal such as SIGSEGV hit the user's code, innermost first: "name (file:line)".
    stack: Sequence[str] = ()
    #: Whether it was the kernel that killed it, for want of memory.
    is_oom: bool = False
    #: Whether it was its supervisor, as somebody had stopped it and did not let it go on.
    was_stopped: bool = False
    blobs: Sequence[Blob] = ()


@dataclass(slots=True)
class Drain:
    """Send what slots have printed so far, then say so."""

    token: int


@dataclass(slots=True)
class Drained:
    """Everything printed before `Drain` was sent on."""

    token: int


@dataclass(slots=True)
class Printed:
    """Whole lines that a slot printed, or a notice; blobs: the text, or what `worker.output.notice` makes."""

    job: int
    name: str
    #: 1 or 2, as file descriptors go; or NOTICE.
    stream: int
    #: Lines that were not passed on since the last such message.
    n_hidden: int = 0
    blobs: Sequence[Blob] = ()


@dataclass(slots=True)
class Watch:
    """Measure memory about every second, and tell; or do so no more."""

    is_on: bool


@dataclass(slots=True)
class Measured:
    """How full a host's memory is, and what slots have of it."""

    used_bytes: int
    limit_bytes: int
    #: (number, bytes) of each.
    slots: Sequence[tuple[int, int]]


def whole(blob: Blob) -> Buffer:
    """A blob that has arrived, which is in one piece."""
    assert not isinstance(blob, list)
    return blob


NearMessage: TypeAlias = (
    OpenJob
    | CloseJob
    | StartMap
    | StartReduce
    | SlotReady
    | MapDone
    | ReduceDone
    | AttemptFailed
    | WorkerReady
    | ForkSlot
    | KillSlot
    | SlotExited
    | Drain
    | Drained
    | Printed
    | Watch
    | Measured
)

#: Of any kind; see `far` for the others.
Message: TypeAlias = "NearMessage | FarMessage"

#: A message's number on the wire is its place here.
KINDS: tuple[type[NearMessage], ...] = (
    OpenJob,
    CloseJob,
    StartMap,
    StartReduce,
    SlotReady,
    MapDone,
    ReduceDone,
    AttemptFailed,
    WorkerReady,
    ForkSlot,
    KillSlot,
    SlotExited,
    Drain,
    Drained,
    Printed,
    Watch,
    Measured,
)
