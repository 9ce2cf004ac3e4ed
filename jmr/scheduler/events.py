"""What happened. Past tense; `now` is seconds of a monotonic clock."""

from __future__ import annotations

from dataclasses import dataclass

from jmr.scheduler.jobs import JobOptions

__all__ = [
    "AttemptFinished",
    "AttemptRaised",
    "AttemptRefused",
    "Event",
    "InputEnded",
    "JobCancelled",
    "JobOpened",
    "LimitChanged",
    "ReduceTasksKnown",
    "SlotDied",
    "SlotJoined",
    "SlotLost",
    "SlotPaused",
    "SlotResumed",
    "SlotUnwanted",
    "SplitAdded",
    "SplitRestored",
    "Tick",
    "WorkerCapped",
]


@dataclass(slots=True)
class JobOpened:
    """Somebody wants a job run; its splits will follow."""

    now: float
    job: int
    options: JobOptions


@dataclass(slots=True)
class LimitChanged:
    """A job may use more of this host's slots than before, or fewer; those that it has too many finish their work."""

    now: float
    job: int
    max_slots: int


@dataclass(slots=True)
class SplitAdded:
    """The next split of a job's source is there."""

    now: float
    job: int


@dataclass(slots=True)
class SplitRestored:
    """The next split of a job's source is there, and what its map task would leave was kept from an earlier run."""

    now: float
    job: int


@dataclass(slots=True)
class InputEnded:
    """A job's source has no more splits."""

    now: float
    job: int


@dataclass(slots=True)
class ReduceTasksKnown:
    """The answer to `PlanReduce`: how many reduce tasks the map outputs make."""

    now: float
    job: int
    n_tasks: int
    #: Indices of those whose results were kept from an earlier run.
    done: frozenset[int] = frozenset()


@dataclass(slots=True)
class SlotJoined:
    """A slot is ready for its first attempt."""

    now: float
    slot: int
    #: Number of the worker that owns it; None for this host's.
    worker: int | None = None


@dataclass(slots=True)
class SlotDied:
    """A slot is gone, by itself, by a signal, or because we stopped it."""

    now: float
    slot: int
    #: Index of the record or group it was at; None if it had not said.
    cursor: int | None = None
    #: So many deaths there are proof, whatever the job allows: it is known what it died of.
    enough: int | None = None


@dataclass(slots=True)
class SlotLost:
    """A slot is gone with its worker: no task of its own is to blame."""

    now: float
    slot: int


@dataclass(slots=True)
class SlotUnwanted:
    """There are more slots than the user wants now; this one may finish what it is at."""

    now: float
    slot: int


@dataclass(slots=True)
class SlotPaused:
    """Nothing is heard of a slot's worker: it may finish what it is at, and gets nothing new."""

    now: float
    slot: int


@dataclass(slots=True)
class SlotResumed:
    """A paused slot's worker is heard again."""

    now: float
    slot: int


@dataclass(slots=True)
class AttemptFinished:
    """A slot's attempt succeeded and its output lies with us."""

    now: float
    slot: int


@dataclass(slots=True)
class AttemptRaised:
    """User code raised, and the job does not skip that."""

    now: float
    slot: int


@dataclass(slots=True)
class AttemptRefused:
    """A slot's worker lacks what the job needs, a module say: none of its slots can work for that job."""

    now: float
    slot: int
    #: Whether slots of this host are starting: a job that may use them waits for them.
    local_to_come: bool = False
    #: Whether slots are starting on other hosts that have not refused the job.
    remote_to_come: bool = False


@dataclass(slots=True)
class JobCancelled:
    """The job's owner wants no more of it."""

    now: float
    job: int


@dataclass(slots=True)
class WorkerCapped:
    """So many attempts at most may run at once on this worker; those that do finish."""

    now: float
    #: None for this host's.
    worker: int | None
    #: At least 1; None for as many as it has slots.
    most: int | None


@dataclass(slots=True)
class Tick:
    """A second has passed, about; told while jobs run."""

    now: float
    #: So many seconds it comes too late: this process stood still, or did other things, and slots are not to blame.
    late: float = 0.0


Event = (
    JobOpened
    | LimitChanged
    | SplitAdded
    | SplitRestored
    | InputEnded
    | ReduceTasksKnown
    | SlotJoined
    | SlotDied
    | SlotLost
    | SlotUnwanted
    | SlotPaused
    | SlotResumed
    | AttemptFinished
    | AttemptRaised
    | AttemptRefused
    | JobCancelled
    | WorkerCapped
    | Tick
)
