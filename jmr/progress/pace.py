"""How fast something grows lately.

    look(count, now) ─> look ─> look ... ─> per_second

An exponentially smoothed speed: when slots come or go, it is right again after a while, where the mean since the start
would never be. The first looks weigh as much as a mean's, so that it is fair from the beginning.
"""

from __future__ import annotations

import math

__all__ = ["Pace"]

#: Seconds over which is smoothed: a quarter of the time so far, because work is done in lumps, which grow at first.
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
        self._last_count = 0.0
        self._speed = 0.0
        #: How much has been seen, 0 to 1: what the speed lacks because it began with 0.
        self._weight = 0.0

    def look(self, count: float, now: float) -> None:
        """Take the count in, as it is now."""
        passed = now - self._last_time
        if passed <= 0:
            return
        over = min(max(SHARE * (now - self._began), LEAST), MOST)
        kept = math.exp(-passed / over)
        self._speed = kept * self._speed + (1 - kept) * (count - self._last_count) / passed
        self._weight = kept * self._weight + (1 - kept)
        self._last_count, self._last_time = count, now

    @property
    def per_second(self) -> float:
        """0 before the first look."""
        return self._speed / self._weight if self._weight else 0.0
