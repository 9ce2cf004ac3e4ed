"""Which slots somebody has stopped (SIGSTOP), and for how long: such a slot keeps its task and does nothing for it.

    stopped ──every second that we see it so──> 60 s: it is to be ended, and its task runs elsewhere
       └──continued, or gone──> nothing has happened

Only what we have seen counts: where this process was stopped as well, or its host, it is not the slot that is late.
Pure: the clock is the caller's.
"""

from __future__ import annotations

__all__ = ["CHECK_SECONDS", "MOST_SECONDS", "Stops"]

#: As long as a silent host is believed to be there.
MOST_SECONDS = 60.0
#: Between two calls of `Stops.too_long`.
CHECK_SECONDS = 1.0


class Stops:
    """Of one host's slots.

    Examples
    --------
    >>> stops = Stops()
    >>> stops.stopped(7, now=0.0)
    >>> [stops.too_long(float(second)) for second in range(1, 61)][-2:]
    [[], [7]]
    """

    def __init__(self) -> None:
        #: For how long each was seen stopped.
        self._seconds: dict[int, float] = {}
        self._checked_at = 0.0

    @property
    def check_at(self) -> float | None:
        """When to look next; None if nobody is stopped."""
        return self._checked_at + CHECK_SECONDS if self._seconds else None

    def stopped(self, slot: int, now: float) -> None:
        """It does nothing from now on."""
        if not self._seconds:
            self._checked_at = now
        self._seconds[slot] = self._checked_at - now  # not what has passed since we looked

    def went_on(self, slot: int) -> None:
        """It does something, or is gone."""
        self._seconds.pop(slot, None)

    def too_long(self, now: float) -> list[int]:
        """Say who was stopped for so long that it is to be ended; each is told once."""
        seen = min(now - self._checked_at, 2 * CHECK_SECONDS)
        self._checked_at = now
        for slot in self._seconds:
            self._seconds[slot] += seen
        over = [slot for slot, seconds in self._seconds.items() if seconds >= MOST_SECONDS]
        for slot in over:
            del self._seconds[slot]
        return over
