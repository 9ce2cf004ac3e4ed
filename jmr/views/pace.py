"""How fast something grows lately.

    look(count, now) ─> look ─> look ... ─> per_second

An exponentially smoothed speed: when slots come or go, it is right again after a while, where the mean since the start
would never be. The first lumps weigh as much as in a mean, so that it is fair from the beginning. Work comes in lumps,
a task at a time: between them the speed stands, until the next one is late.
"""

from __future__ import annotations

import math

__all__ = ["Pace"]

#: Seconds over which is smoothed: a quarter of the time so far.
LEAST, MOST, SHARE = 4.0, 60.0, 0.25


class Pace:
    """The speed of one count, which was 0 when it began.

    Examples
    --------
    >>> pace = Pace(began=0.0)
    >>> for second in range(1, 101):
    ...     pace.look(10 * second, now=second)
    >>> round(pace.per_second, 3)
    10.0
    """

    def __init__(self, began: float) -> None:
        self._began = self._last_time = began
        self._last_count = self._last_lump = 0.0
        self._speed = 0.0
        #: How much has been seen, 0 to 1: what the speed lacks because it began with 0.
        self._weight = 0.0
        #: 0 before anything has come.
        self.per_second = 0.0

    def look(self, count: float, now: float) -> None:
        """Take the count in, as it is now."""
        passed, lump = now - self._last_time, count - self._last_count
        if passed <= 0:
            return
        if lump > 0:
            self._speed, self._weight = self._smoothed(lump / passed, passed, now)
            self._last_count, self._last_time, self._last_lump = count, now, lump
            self.per_second = self._speed / self._weight
        elif self._weight:
            speed, weight = self._smoothed(self._last_lump / passed, passed, now)  # if as much came right now
            self.per_second = min(self._speed / self._weight, speed / weight)

    def _smoothed(self, speed: float, passed: float, now: float) -> tuple[float, float]:
        over = min(max(SHARE * (now - self._began), LEAST), MOST)
        kept = math.exp(-passed / over)
        return kept * self._speed + (1 - kept) * speed, kept * self._weight + 1 - kept
