"""Where a job's rows lie in a session of Spark Connect, which has no RDDs: in DataFrames.

    splits ──DataFrame, mapInArrow──> localCheckpoint ──> receipts, which are collected
    all chunks ──union, repartition, mapInArrow──> localCheckpoint ──> receipts and small results ──> large ones

A local checkpoint keeps rows on the executors, in memory and on their disks, and forgets how they were made: a client
can refer to it by a number, while any other plan would bring all splits along once more. The price: an executor that is
lost takes it along, and the job ends. The server lets go of what no client refers to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from jmr.codec.values import Buffer
from jmr.engines.calls import JobCall
from jmr.engines.spark.rows import COLUMNS, Place, Row, map_batches, reduce_batches, rows_of, table_of

__all__ = ["Frames"]


class Frames:
    """Of one job."""

    def __init__(self, session: Any, job: JobCall) -> None:
        self._session, self._job = session, job
        self._chunks: list[Any] = []
        self._reduced: Any = None

    def map(self, splits: Sequence[tuple[int, Buffer]]) -> list[Row]:
        """Run map tasks; gives their receipts."""
        frame = self._session.createDataFrame(table_of(splits))
        chunk = frame.mapInArrow(partial(map_batches, self._job), COLUMNS).localCheckpoint(eager=False)
        told = _told(chunk)
        self._chunks.append(chunk)
        return told

    def reduce(self, task_of: Mapping[int, int], n_parts: int, most_whole_bytes: int) -> list[Row]:
        """Run reduce tasks, in so many of Spark's; gives their receipts, and results that are not too large."""
        call = partial(reduce_batches, self._job, task_of, most_whole_bytes)
        rows = _dealt(_union(self._chunks).where("partition >= 0"), n_parts)
        self._reduced = rows.mapInArrow(call, COLUMNS).localCheckpoint(eager=False)
        return _told(self._reduced)

    def fetch(self, first: Place, last: Place, _part: int) -> list[Row]:
        """Pieces of large results, from one to another."""
        wanted = "partition = 0 and struct(task, piece) between struct({}L, {}) and struct({}L, {})"
        return list(rows_of(self._reduced.where(wanted.format(*first, *last)).toArrow()))

    def forget(self) -> None:
        """Refer to nothing any more."""
        self._chunks, self._reduced = [], None


def _told(frame: Any) -> list[Row]:
    """Run what a DataFrame stands for."""
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
