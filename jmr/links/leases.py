"""For how long a silent worker is believed to be there.

    heard ──15 s of silence──> SUSPECT: no new attempts ──60 s──> LOST: its attempts go to others
      ^────────any byte────────────┘

Whether it is silent is only known while we listen ourselves: where this process was stopped, or its loop was late,
leases grow by the lateness. Pure: the clock is the caller's.

Gray and Cheriton, "Leases: an efficient fault-tolerant mechanism for distributed file cache consistency", SOSP 1989.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

__all__ = ["BEAT_SECONDS", "CHECK_SECONDS", "Lease", "Leases"]

#: Between two heartbeats.
BEAT_SECONDS = 5.0
#: Between two calls of `Leases.check`.
CHECK_SECONDS = 1.0
_SUSPECT_SECONDS, _LOST_SECONDS = 15.0, 60.0


class Lease(enum.Enum):
    """What silence means so far."""

    #: It was heard lately.
    HELD = "held"
    #: It may be gone.
    SUSPECT = "suspect"
    #: It is taken for gone.
    LOST = "lost"


class Leases:
    """Those of all workers on other hosts, by number.

    Examples
    --------
    >>> leases = Leases(now=0.0)
    >>> [leases.check(float(second), {7: 0.0}).get(7) for second in range(1, 17)][-2:]
    [None, <Lease.SUSPECT: 'suspect'>]
    >>> leases.check(17.0, {7: 16.5})
    {7: <Lease.HELD: 'held'>}
    """

    def __init__(self, now: float) -> None:
        self._checked_at = now
        self._heard: dict[int, float] = {}
        self._states: dict[int, Lease] = {}

    def check(self, now: float, heard: Mapping[int, float]) -> dict[int, Lease]:
        """Say for whom something has changed.

        Parameters
        ----------
        now
            Seconds; to be called every `CHECK_SECONDS`.
        heard
            When each worker's last byte came.
        """
        late = max(0.0, now - self._checked_at - 2 * CHECK_SECONDS)
        self._checked_at = now
        for gone in self._heard.keys() - heard.keys():
            del self._heard[gone], self._states[gone]
        changed = {}
        for worker, last in heard.items():
            known = self._heard.get(worker, last) + late
            self._heard[worker] = max(last, min(known, now))
            state = _lease(now - self._heard[worker])
            if state is not self._states.get(worker, Lease.HELD):
                changed[worker] = state
            self._states[worker] = state
        return changed


def _lease(silent_seconds: float) -> Lease:
    if silent_seconds > _LOST_SECONDS:
        return Lease.LOST
    return Lease.SUSPECT if silent_seconds > _SUSPECT_SECONDS else Lease.HELD
