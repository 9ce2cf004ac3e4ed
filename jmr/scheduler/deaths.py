"""Who is to blame when slots die at a task.

    slot died ──(record or group it was at, if it had said)──> counted for that culprit alone ──> try again, or poison

Slots die of other things than their records: of the system's want of memory, of somebody's `kill`. So a death counts
against the record or group at which it came, and against no other; one that came elsewhere (while values are combined
or pickled, or in an attempt that does not say where it is) counts on its own. A task that dies again and again, each
time somewhere else, is given up at last.

Where it is known what a slot died of, want of memory in an attempt that was alone on its host, fewer deaths are proof;
and as what fills a slot may be many records together, twice as many at different ones.

A culprit is not tried without the records before it: one that kills only in their company would be acquitted, and one
that takes an hour would take it twice. The count finds both.
"""

from __future__ import annotations

__all__ = ["Deaths"]

#: So many times `max_attempts` deaths of one task, wherever they came, are too many.
_TIMES_ALL = 10
#: And so many times what is enough at one record, of those of which it is known what they were.
_TIMES_KNOWN = 2


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
        self._n_known = 0

    def add(self, cursor: int | None, max_attempts: int, enough: int | None = None) -> tuple[int | None, int] | None:
        """Count one.

        Parameters
        ----------
        cursor
            The record or group it was at; None if it had not said.
        max_attempts
            So many deaths at one are proof.
        enough
            And so many if that is less: it is known what this one died of.

        Returns
        -------
        None if the task may be tried again; else who is to blame, a record or group or nobody in particular, and for
        how many deaths.
        """
        n_here = self._n_at[cursor] = self._n_at.get(cursor, 0) + 1
        if n_here >= max_attempts or (enough is not None and n_here >= enough):
            return cursor, n_here
        n_all = sum(self._n_at.values())
        self._n_known += enough is not None
        is_proof = n_all >= _TIMES_ALL * max_attempts or (enough is not None and self._n_known >= _TIMES_KNOWN * enough)
        return (None, n_all) if is_proof else None
