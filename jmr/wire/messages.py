"""What coordinator, supervisor and slot say to each other.

    coordinator ──OpenJob, StartMap, StartReduce, CloseJob──> slot
    coordinator <──SlotReady, MapDone, ReduceDone, AttemptFailed── slot

    coordinator ──ForkSlot (with a socket), KillSlot, Drain──> supervisor
    coordinator <──WorkerReady, SlotExited, Printed, Drained── supervisor

On another host a worker stands in between and passes all of this on; what it and its slots say besides:

    coordinator <──WorkerJoined, Kept, Leaving── worker
    coordinator <──Beat──> worker
    coordinator ──Keep, ForgetJob──> worker                  Keep: a file for all of its slots
    coordinator ──Carry──> slot, slot ──Carry──> coordinator   what would lie in a file if they were on one host
    coordinator <──AttemptRefused── slot

Nobody changes a message. They are not frozen because that doubles what it takes to import the class, which every start
of a worker waits for, and trebles what it takes to make an object; the same holds for events, effects and mail.

Fields are what JSON can say; `blobs` are opaque bytes, moved but never looked into on the way. Whoever sends one may
give it in pieces, which need not be joined for that; what arrives is one bytearray.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jmr.codec.values import Buffer

__all__ = [
    "CANNOT_ANSWER",
    "KINDS",
    "AttemptFailed",
    "AttemptRefused",
    "Beat",
    "Blob",
    "Carry",
    "CloseJob",
    "Drain",
    "Drained",
    "ForgetJob",
    "ForkSlot",
    "Keep",
    "Kept",
    "KillSlot",
    "Leaving",
    "MapDone",
    "Message",
    "OpenJob",
    "Printed",
    "Range",
    "ReduceDone",
    "SlotExited",
    "SlotReady",
    "StartMap",
    "StartReduce",
    "WorkerJoined",
    "WorkerReady",
    "whole",
]

#: Exit code of a slot that could not send its answer.
CANNOT_ANSWER = 86
#: (path or None for inline, offset, length, crc or None for what lies in memory): where one partition of one map output
#: lies.
Range = tuple[str | None, int, int, int | None]
Blob = Buffer | list[Buffer]


@dataclass(slots=True)
class OpenJob:
    """What a slot is told of a job, once; blobs: functions, surroundings, and modules that travel as source, if any."""

    job: int
    n_partitions: int
    skips: bool
    #: Where map outputs too big to travel inline are written: on disk, and in memory if there is such a place.
    directory: str
    memory_directory: str | None
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
    unstable: bool
    seconds: float
    flush_seconds: float
    n_failures: int
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
    """A slot's process is gone."""

    slot: int
    #: Exit code, or minus the signal's number.
    status: int
    cursor: int | None
    peak_bytes: int
    #: Where a signal such as SIGSEGV hit the user's code, innermost first: "name (file:line)".
    stack: Sequence[str] = ()


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
    """Whole lines that a slot printed; blobs: the text."""

    job: int
    name: str
    #: 1 or 2, as file descriptors go.
    stream: int
    blobs: Sequence[Blob] = ()


@dataclass(slots=True)
class Carry:
    """Bytes that would lie in a file if both ends were on one host; blobs: the next of them.

    To a slot, they are the file that the next attempt's ranges without a name refer to; from a slot, the map output
    that its next answer tells of.
    """

    job: int
    #: Of all that comes before the next attempt, or answer.
    n_bytes: int
    #: Whether they may be kept in memory.
    in_memory: bool
    blobs: Sequence[Blob] = ()


@dataclass(slots=True)
class AttemptRefused:
    """The attempt cannot run here: a module is missing."""

    module: str


@dataclass(slots=True)
class WorkerJoined:
    """What a worker on another host is."""

    name: str
    pid: int
    n_slots: int
    #: "3.13.0"
    python: str
    n_cpus: int
    #: What its slots may keep in memory beside their work.
    memory_bytes: int
    #: Where its slots may put files: on disk, and in memory if there is such a place.
    directory: str
    memory_directory: str | None


@dataclass(slots=True)
class Beat:
    """Somebody is there; from a worker, with how its host is."""

    #: Processes that want a CPU, on average over a minute.
    load: float
    free_bytes: int


@dataclass(slots=True)
class Keep:
    """Bytes of a job's functions file, for all slots of a worker; blobs: the next of them."""

    job: int
    n_bytes: int
    in_memory: bool
    blobs: Sequence[Blob] = ()


@dataclass(slots=True)
class Kept:
    """All of the job's functions file is there."""

    job: int
    path: str


@dataclass(slots=True)
class ForgetJob:
    """A job is over: its files may go."""

    job: int


@dataclass(slots=True)
class Leaving:
    """The worker was told to end: no new attempts, please."""


def whole(blob: Blob) -> Buffer:
    """A blob that has arrived, which is in one piece."""
    assert not isinstance(blob, list)
    return blob


Message = (
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
    | Carry
    | AttemptRefused
    | WorkerJoined
    | Beat
    | Keep
    | Kept
    | ForgetJob
    | Leaving
)

#: A message's number on the wire is its place here.
KINDS: tuple[type[Message], ...] = (
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
    Carry,
    AttemptRefused,
    WorkerJoined,
    Beat,
    Keep,
    Kept,
    ForgetJob,
    Leaving,
)
