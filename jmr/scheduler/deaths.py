"""Who is to blame when slots die at a task.

    slot died ──(record or group it was at, if it had said)──> counted for that culprit alone ──> try again, or poison

Slots die of other things than their records: of the system's want of memory, of somebody's `kill`. So a death counts
against the record or group at which it came, and against no other; one that came elsewhere (while values are combined
or pickled, or in an attempt that does not say where it is) counts on its own. A task that dies again and again, each
time somewhere else, is given up at last.

A culprit is not tried without the records before it: one that kills only in their company would be acquitted, and one
that takes an hour would take it twice. The count finds both.
"""

from __future__ import annotations

__all__ = ["Deaths"]

#: So many times `max_attempts` deaths of one task, wherever they came, are too many.
_TIMES_ALL = 10


class Deaths:
    """Of the slots that worked at one task, since a record or group of it was last set aside.

    Examples
    --------
    >>> deaths = Deaths()
    >>> [deaths.add(cursor, max_attempts=2) for cursor in (None, 7, 4, 7)]
    [None, None, None, (7, 2)]
    """

    def __init__(self) -> None:
        self._n_at: dict[int | None, int] = {}

    def add(self, cursor: int | None, max_attempts: int) -> tuple[int | None, int] | None:
        """Count one.

        Returns
        -------
        None if the task may be tried again; else who is to blame, a record or group or nobody in particular, and for
        how many deaths.
        """
        n_here = self._n_at[cursor] = self._n_at.get(cursor, 0) + 1
        if n_here >= max_attempts:
            return cursor, n_here
        n_all = sum(self._n_at.values())
        return (None, n_all) if n_all >= _TIMES_ALL * max_attempts else None
