"""What one seed means: which job, on whom, and what is done to them when. Pure: the same seed, the same script.

    seed ──> Script ──> Deed, Deed, ... in the order of their times

Whom a deed meets is a number from 0 to 1, which picks among those who are there then.
"""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass

__all__ = ["KINDS", "Deed", "End", "Script", "What", "script_of"]

#: Kinds of jobs; see `jobs`.
KINDS = ("words", "large", "hot", "bad", "endless")
#: Of a seed's time: until when deeds are done, and what the job's work takes if nothing is.
_DISTURBED, _WORK = 0.4, 0.27
#: How many deeds there are, and how often one comes together with the one before it.
_FEWEST, _MOST, _TOGETHER = 4, 20, 0.25


class What(enum.Enum):
    """What can be done to processes and links."""

    KILL_SLOT = "kill a slot"
    STOP_SLOT = "stop a slot"
    KILL_SUPERVISOR = "kill a supervisor"
    STOP_SUPERVISOR = "stop a supervisor"
    KILL_WORKER = "kill a worker's first process"
    KILL_HOST = "kill all of a worker"
    STOP_HOST = "stop all of a worker"
    END_WORKER = "tell a worker to end"
    CUT = "cut a link"
    CUT_THERE = "lose what goes to a worker"
    CUT_BACK = "lose what comes from a worker"
    RESET = "reset a link's connections"
    STOP_KERNEL = "stop the kernel"


#: How often each is done, beside the others.
_WEIGHTS = {
    What.KILL_SLOT: 6,
    What.STOP_SLOT: 3,
    What.KILL_SUPERVISOR: 2,
    What.STOP_SUPERVISOR: 1,
    What.KILL_WORKER: 2,
    What.KILL_HOST: 1,
    What.STOP_HOST: 2,
    What.END_WORKER: 1,
    What.CUT: 2,
    What.CUT_THERE: 2,
    What.CUT_BACK: 2,
    What.RESET: 2,
    What.STOP_KERNEL: 1,
}


class End(enum.Enum):
    """How the first job ends."""

    #: It gives its answer.
    ANSWER = "answer"
    #: It is cancelled at a random time, and run again.
    CANCEL = "cancel"
    #: Its kernel is killed at a random time; the job is run again in another.
    KILL = "kill the kernel"


@dataclass(frozen=True, slots=True)
class Deed:
    """One thing that is done, to one of those to whom it can be."""

    #: Seconds since the job began.
    at: float
    what: What
    whom: float
    #: After so long it is undone, if it can be: the stopped go on, a link heals, a worker is started again.
    seconds: float


@dataclass(frozen=True, slots=True)
class Script:
    """What one seed means."""

    seed: int
    kind: str
    #: Slots of the kernel's own, and of each worker.
    n_local: int
    slots: tuple[int, ...]
    #: Whether memory is so short that map outputs go to disk.
    is_short_of_memory: bool
    #: What the job's work takes on all slots, if nothing happens.
    work_seconds: float
    #: The kind of a job that runs beside it, and gives its answer unless the kernel is killed.
    beside: str | None
    end: End
    #: When the job is cancelled or its kernel killed.
    ends_at: float
    deeds: tuple[Deed, ...]


def _times(rng: random.Random, disturbed: float) -> list[float]:
    times: list[float] = []
    for _ in range(rng.randint(_FEWEST, _MOST)):
        is_together = times and rng.random() < _TOGETHER
        times.append(times[-1] + 0.001 if is_together else rng.uniform(0.02, disturbed))
    return sorted(times)


def script_of(seed: int, seconds: float) -> Script:
    """Make a seed's script.

    Parameters
    ----------
    seed
        A number.
    seconds
        How long all of it may take.

    Examples
    --------
    >>> script_of(7, 30.0) == script_of(7, 30.0)
    True
    """
    rng = random.Random(seed)
    disturbed = _DISTURBED * seconds
    times = _times(rng, disturbed)
    whats = rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()), k=len(times))
    deeds = [
        Deed(at, what, rng.random(), rng.uniform(0.3, disturbed / 2)) for at, what in zip(times, whats, strict=True)
    ]
    end = rng.choice([End.ANSWER, End.ANSWER, End.ANSWER, End.CANCEL, End.KILL])
    return Script(
        seed=seed,
        kind=KINDS[seed % len(KINDS)],
        n_local=rng.choice([1, 2, 2, 3]),
        slots=tuple(rng.choice([1, 2]) for _ in range(rng.choice([2, 3]))),
        is_short_of_memory=rng.random() < 0.3,
        work_seconds=_WORK * seconds,
        beside=rng.choice(KINDS) if end is End.CANCEL or rng.random() < 0.2 else None,
        end=end,
        ends_at=rng.uniform(0.02, disturbed),
        deeds=tuple(deeds),
    )
