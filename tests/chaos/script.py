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
_DISTURBED, _WORK = 0.45, 0.25


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
    end: End
    #: When the job is cancelled or its kernel killed.
    ends_at: float
    deeds: tuple[Deed, ...]


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
    times = sorted(rng.uniform(0.02, disturbed) for _ in range(rng.randint(3, 12)))
    whats = rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()), k=len(times))
    deeds = [
        Deed(at, what, rng.random(), rng.uniform(0.3, disturbed / 2)) for at, what in zip(times, whats, strict=True)
    ]
    return Script(
        seed=seed,
        kind=KINDS[seed % len(KINDS)],
        n_local=rng.choice([1, 2, 2, 3]),
        slots=tuple(rng.choice([1, 2]) for _ in range(rng.choice([2, 3]))),
        is_short_of_memory=rng.random() < 0.3,
        work_seconds=_WORK * seconds,
        end=rng.choice([End.ANSWER, End.ANSWER, End.ANSWER, End.CANCEL, End.KILL]),
        ends_at=rng.uniform(0.02, disturbed),
        deeds=tuple(deeds),
    )
