"""Where a process is in a row group that it reads part by part.

    begin_at(key, start) ──> Cursor ──between(start, stop)──> batches ──keep──> for the next part of the same group

Rows in the middle of a row group are found by decoding all before them. Parts of one come to a slot in order, though,
so that it need not begin again each time: all parts of a group together cost a slot no more than to decode it once.

At most one is kept in a process, which holds what is encoded of a row group, and one decoded batch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Hashable, Iterator
from typing import Any

__all__ = ["Cursor", "begin_at"]

_kept: dict[str, Cursor] = {}


def begin_at(key: Hashable, start: int, batches: Callable[[], Generator[Any, None, None]]) -> Cursor:
    """One that has not read beyond a row: that which was kept, or a new one.

    Parameters
    ----------
    key
        Of what is read.
    start
        The first row that is needed.
    batches
        Reads it from its beginning.
    """
    kept = _kept.pop("", None)  # by one call, as other threads may read, too
    key = key, os.getpid()  # what reads for Arrow does not survive a fork
    if kept is not None and kept.key == key and kept.begin <= start:
        return kept
    return Cursor(key, batches())


class Cursor:
    """Reads batches one after the other.

    Parameters
    ----------
    key
        Of what is read.
    batches
        All that it has.
    """

    def __init__(self, key: Hashable, batches: Generator[Any, None, None]) -> None:
        self.key = key
        #: Number of the first row of the batch that was read last.
        self.begin = 0
        self._batch: Any = None
        self._batches = batches
        self._is_over = False

    def between(self, start: int, stop: int | None) -> Iterator[tuple[int, Any]]:
        """The rows from one to another: number of the first, and as many as are in one batch."""
        while stop is None or start < stop:
            end = self.begin + (0 if self._batch is None else self._batch.num_rows)
            if start < end:
                last = end if stop is None else min(stop, end)
                yield start, self._batch.slice(start - self.begin, last - start)
                start = last
                continue
            batch = next(self._batches, None)
            if batch is None:
                self._is_over = True
                return
            self.begin, self._batch = end, batch

    def keep(self) -> None:
        """Be there for the next part."""
        if not self._is_over:
            _kept[""] = self

    def close(self) -> None:
        """Read no more."""
        self._batches.close()
