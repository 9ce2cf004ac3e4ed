"""Where a job's rows lie in a session of Spark Connect, which has no RDDs: in DataFrames.

    splits ──DataFrame, mapInArrow──> localCheckpoint ──> receipts, which are collected
    all chunks ──union, repartition, mapInArrow──> localCheckpoint ──> receipts and small results ──> large ones

A local checkpoint keeps rows on the executors, in memory and on their disks, and forgets how they were made: a client
can refer to it by a number, while any other plan would bring all splits along once more. It is an eager one: after a
lazy one the server holds the splits all the same (measured). The price: an executor that is lost takes it along, and
the job ends. The server lets go of what no client refers to.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

from jmr.codec.values import Buffer
from jmr.engines.calls import JobCall
from jmr.engines.spark.rows import COLUMNS, Place, Reduces, Row, map_batches, reduce_batches, rows_of, table_of

__all__ = ["Frames"]

_PLAN_CACHE = "spark.connect.session.planCache.enabled"


class Frames:
    """Of one job."""

    #: A server takes several times as much while a chunk is under way, and has 1 GiB if nobody says otherwise.
    most_chunk_bytes = 1 << 23

    def __init__(self, session: Any, job: JobCall) -> None:
        self._session, self._job = session, job
        self._plans = _UncachedPlans(session)
        self._chunks: list[Any] = []
        self._reduced: Any = None

    def tag(self, tag: str) -> None:
        """Have `cancel` end what this thread runs from now on."""
        self._session.addTag(tag)

    def cancel(self, tag: str) -> None:
        """End what runs under the tag."""
        self._session.interruptTag(tag)

    def map(self, splits: Sequence[tuple[int, Buffer]]) -> list[Row]:
        """Run map tasks; gives their receipts."""
        frame = self._session.createDataFrame(table_of(splits))
        chunk = frame.mapInArrow(partial(map_batches, self._job), COLUMNS).localCheckpoint()
        told = _told(chunk)
        self._chunks.append(chunk)
        return told

    def reduce(self, reduces: Reduces, n_parts: int, most_whole_bytes: int) -> list[Row]:
        """Run reduce tasks, in so many of Spark's; gives their receipts, and results that are not too large."""
        call = partial(reduce_batches, self._job, reduces, most_whole_bytes)
        rows = _dealt(_union(self._chunks).where("partition >= 0"), n_parts)
        self._reduced = rows.mapInArrow(call, COLUMNS).localCheckpoint()
        return _told(self._reduced)

    def fetch(self, first: Place, last: Place, _part: int) -> list[Row]:
        """Pieces of large results, from one to another."""
        wanted = "partition = 0 and struct(task, piece) between struct({}L, {}) and struct({}L, {})"
        return list(rows_of(self._reduced.where(wanted.format(*first, *last)).toArrow()))

    def forget(self) -> None:
        """Refer to nothing any more."""
        self._chunks, self._reduced = [], None
        self._plans.close()


class _UncachedPlans:
    """While a job of ours runs in a session, its server does not hold the last 16 plans, with all splits in them."""

    _lock: ClassVar = threading.Lock()
    #: By session: how many jobs run, and what the setting was before.
    _before: ClassVar[weakref.WeakKeyDictionary[Any, tuple[int, str | None]]] = weakref.WeakKeyDictionary()

    def __init__(self, session: Any) -> None:
        self._session = session
        with self._lock:
            n_jobs, before = self._before.get(session) or (0, session.conf.get(_PLAN_CACHE, None))
            session.conf.set(_PLAN_CACHE, "false")
            self._before[session] = n_jobs + 1, before

    def close(self) -> None:
        """Set it as it was, after the last job."""
        with self._lock:
            n_jobs, before = self._before.pop(self._session)
            if n_jobs > 1:
                self._before[self._session] = n_jobs - 1, before
            elif before is None:
                self._session.conf.unset(_PLAN_CACHE)
            else:
                self._session.conf.set(_PLAN_CACHE, before)


def _told(frame: Any) -> list[Row]:
    """What is there for the driver."""
    return list(rows_of(frame.where("partition < 0").toArrow()))


def _union(frames: list[Any]) -> Any:
    """By halves: a long chain of unions is slow to look through, and too deep for Connect's messages."""
    if len(frames) == 1:
        return frames[0]
    middle = len(frames) // 2
    return _union(frames[:middle]).unionAll(_union(frames[middle:]))


def _dealt(rows: Any, n_parts: int) -> Any:
    """All rows of a partition in one task of Spark's, and the partitions dealt out like cards."""
    placed = rows.selectExpr("*", f"partition % {n_parts} as place")
    if hasattr(placed, "repartitionById"):
        return placed.repartitionById(n_parts, "place")
    return placed.repartition(n_parts, "place")  # by hash: some tasks get more; each takes any number of partitions
