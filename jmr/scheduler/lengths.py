"""How long attempts take, so that one that takes too long is found.

    attempt committed ──add──> a count for each length, coarsely ──patience()──> so long may an attempt run

The lengths themselves are not kept: a job may have millions. They are counted in bins that grow by a tenth, so that the
median is known to a tenth however long it is (Masson, Rim and Lee, "DDSketch: a fast and fully-mergeable quantile
sketch with relative-error guarantees", PVLDB 12, 2019). Adding one costs the same however many there are.
"""

from __future__ import annotations

import math

__all__ = ["LEAST_PATIENCE_SECONDS", "Lengths"]

#: No attempt is a straggler before.
LEAST_PATIENCE_SECONDS = 10.0
#: Nor before it has run so many times as long as the others.
_TIMES_MEDIAN = 2.0
#: A shorter median makes no difference.
_SHORT_SECONDS = LEAST_PATIENCE_SECONDS / _TIMES_MEDIAN
_GROWTH = 1.1


class Lengths:
    """Of the attempts of one phase that were committed.

    Examples
    --------
    >>> lengths = Lengths()
    >>> lengths.patience()
    10.0
    >>> for seconds in (1.0, 60.0, 61.0):
    ...     lengths.add(seconds)
    >>> 120.0 <= lengths.patience() <= 1.1 * 120.0
    True
    """

    def __init__(self) -> None:
        self._n_short = 0
        #: How many were at most 1.1 to this power seconds long, and longer than 1.1 to the one before.
        self._longer: dict[int, int] = {}

    def add(self, seconds: float) -> None:
        """Count one."""
        if seconds <= _SHORT_SECONDS:
            self._n_short += 1
        else:
            power = math.ceil(math.log(seconds, _GROWTH))
            self._longer[power] = self._longer.get(power, 0) + 1

    def patience(self) -> float:
        """How long an attempt may run before it is a straggler: 10 s, or twice the median, rounded up by a tenth."""
        half = (self._n_short + sum(self._longer.values())) / 2
        n_below, median = self._n_short, 0.0
        for power in sorted(self._longer):
            if n_below >= half:
                break
            n_below += self._longer[power]
            median = _GROWTH**power
        return max(LEAST_PATIENCE_SECONDS, _TIMES_MEDIAN * median)
