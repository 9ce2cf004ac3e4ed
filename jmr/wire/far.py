"""What is said besides where a worker is on another host.

A worker stands between the coordinator and the supervisor with its slots there, and passes on what they say. And:

    coordinator <──WorkerJoined, Kept, CannotKeep, Leaving── worker
    coordinator <──Beat──> worker
    coordinator ──Keep, ForgetJob──> worker                  Keep: a file for all of its slots
    coordinator ──Farewell──> worker                         the last that is said
    coordinator ──Carry──> slot, slot ──Carry──> coordinator   what would lie in a file if they were on one host
    coordinator <──Taken, AttemptRefused, SplitNotHere── slot

To import this makes frames of them possible; a coordinator without such workers, and its slots, need none of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from jmr.wire.frames import register
from jmr.wire.messages import Blob

__all__ = [
    "CARRIED",
    "MOST_SLOTS",
    "AttemptRefused",
    "Beat",
    "CannotHold",
    "CannotKeep",
    "Carry",
    "FarMessage",
    "Farewell",
    "ForgetJob",
    "Keep",
    "Kept",
    "Leaving",
    "SplitNotHere",
    "Taken",
    "WorkerJoined",
]

#: What ranges call the file that was carried to a slot, and a map output's path where it was carried from one.
CARRIED = ""
#: Most slots of a worker.
MOST_SLOTS = 4096


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
class Taken:
    """A slot has written so much of what was carried to it."""

    n_bytes: int


@dataclass(slots=True)
class AttemptRefused:
    """The attempt cannot run here: a module is missing."""

    module: str


@dataclass(slots=True)
class CannotHold:
    """The attempt cannot run here: what it takes cannot be written to this host's disk, which is full, say."""

    reason: str


@dataclass(slots=True)
class SplitNotHere:
    """The slot does not see what its split reads: it waits for the same order once more, with that inside."""


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
class CannotKeep:
    """The job's functions file cannot be written there: its disk is full, say."""

    job: int
    reason: str


@dataclass(slots=True)
class ForgetJob:
    """A job is over: its files may go."""

    job: int


@dataclass(slots=True)
class Leaving:
    """The worker was told to end: no new attempts, please."""


@dataclass(slots=True)
class Farewell:
    """The coordinator ends the connection, since the worker is of no use to it."""

    reason: str


FarMessage: TypeAlias = (
    Carry
    | Taken
    | AttemptRefused
    | WorkerJoined
    | Beat
    | Keep
    | Kept
    | ForgetJob
    | Leaving
    | Farewell
    | CannotKeep
    | CannotHold
    | SplitNotHere
)

register(
    (
        Carry,
        Taken,
        AttemptRefused,
        WorkerJoined,
        Beat,
        Keep,
        Kept,
        ForgetJob,
        Leaving,
        Farewell,
        CannotKeep,
        CannotHold,
        SplitNotHere,
    ),
    first=24,
)
