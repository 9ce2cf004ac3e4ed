"""Where a job's rows lie in a classic session: in RDDs, whose jobs cost Java a tenth of what those of DataFrames do.

    splits ──parallelize, mapPartitions──> persist ──> receipts, by an accumulator
    all chunks ──union, shuffle, mapPartitions──> persist ──> receipts and small results, in the same way
                                                        └──runJob on one part──> large results

What maps have left lies on the executors, in memory and on their disks. Where an executor is lost, Spark runs its map
tasks again; for that Java here must hold their splits. It does so up to a bound, which splits that workers read by
themselves never come to. Beyond it Spark is told to forget how the rows were made, and a lost executor ends the job.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from jmr.codec.values import Buffer
from jmr.engines.calls import JobCall
from jmr.engines.spark.rows import Place, Reduces, Row, map_rows, reduce_rows

__all__ = ["Rdds"]

#: Of splits that Java holds in case that their tasks must run again.
_MOST_HELD_BYTES = 1 << 26
#: Functions that are larger are sent once: PySpark sends them with each chunk, and above 1 MiB leaves a file each time.
_LARGE_BYTES = 1 << 19


class _Lists:
    """Adds lists up: what Spark calls an AccumulatorParam."""

    def zero(self, _value: list[Any]) -> list[Any]:
        return []

    def addInPlace(self, lists: list[Any], more: list[Any]) -> list[Any]:  # noqa: N802 - Spark calls it so
        lists += more
        return lists


class Rdds:
    """Of one job."""

    #: Java holds two chunks that are under way, each of them twice.
    most_chunk_bytes = 1 << 25

    def __init__(self, session: Any, job: JobCall) -> None:
        self._context, self._job = session.sparkContext, job
        self._lock = threading.Lock()
        #: The job as Spark's broadcast, if it is large.
        self._shared: Any = None
        self._n_held_bytes = 0
        #: All that is persisted, also by what has failed since.
        self._kept: list[Any] = []
        self._chunks: list[Any] = []
        self._reduced: Any = None

    def tag(self, tag: str) -> None:
        """Have `cancel` end what this thread runs from now on. Tags of the session reach only its queries."""
        self._context.addJobTag(tag)

    def cancel(self, tag: str) -> None:
        """End what runs under the tag."""
        self._context.cancelJobsWithTag(tag)

    def map(self, splits: Sequence[tuple[int, Buffer]]) -> list[Row]:
        """Run map tasks; gives their receipts."""
        self._n_held_bytes += sum(len(split) for _, split in splits)
        given = self._context.parallelize(splits, len(splits))
        chunk, told = self._run(given, self._call(map_rows), is_keyed=True)
        self._chunks.append(chunk)
        return told

    def reduce(self, reduces: Reduces, n_parts: int, most_whole_bytes: int) -> list[Row]:
        """Run reduce tasks, in so many of Spark's; gives their receipts, and results that are not too large."""
        keyed = self._context.union(self._chunks).coalesce(max(n_parts, self._context.defaultParallelism))
        dealt = self._shuffled(keyed, n_parts)
        self._reduced, told = self._run(dealt, self._call(reduce_rows, reduces, most_whole_bytes))
        return told

    def _call(
        self, function: Callable[..., Iterator[Row]], *arguments: Any
    ) -> Callable[[Iterable[Any]], Iterator[Row]]:
        """What runs on a worker: a function of the job, of these, and of rows."""
        if len(self._job.functions) <= _LARGE_BYTES:
            return partial(function, self._job, *arguments)
        with self._lock:
            if self._shared is None:
                self._shared = self._context.broadcast(self._job)
        return partial(_with_value, self._shared, function, *arguments)

    def _shuffled(self, keyed: Any, n_parts: int) -> Any:
        """What `RDD.partitionBy` does when Python has told each row's key; that is partition modulo `n_parts`."""
        from pyspark import RDD, CPickleSerializer
        from pyspark.serializers import BatchedSerializer

        java = self._context._jvm
        pairs = java.PairwiseRDD(keyed._jrdd.rdd()).asJavaPairRDD()
        dealt = pairs.partitionBy(java.PythonPartitioner(n_parts, 0))
        lists: Any = BatchedSerializer
        return RDD(java.PythonRDD.valueOfPair(dealt), self._context, lists(CPickleSerializer()))

    def _run(
        self, rows: Any, call: Callable[[Iterable[Any]], Iterator[Row]], *, is_keyed: bool = False
    ) -> tuple[Any, list[Row]]:
        """Run calls, and keep the rows that they give where they are; but for those that are told."""
        from pyspark import StorageLevel

        told = self._context.accumulator([], _Lists())
        kept = rows.mapPartitions(partial(_keyed if is_keyed else _parted, call, told))
        kept._bypass_serializer = is_keyed
        kept.persist(StorageLevel.MEMORY_AND_DISK)
        self._kept.append(kept)
        if self._n_held_bytes > _MOST_HELD_BYTES:
            kept.localCheckpoint()
        try:
            kept._jrdd.count()  # in Java: `kept.count()` would have Python read all rows again
            once = {row[:3]: Row(*row) for row in told.value}  # of a task that ran again as well
        finally:
            told.value = []  # PySpark holds it until the process ends
        return kept, list(once.values())

    def fetch(self, first: Place, last: Place, part: int) -> list[Row]:
        """Pieces of large results, from one to another, which lie in this part."""
        return [row for _, row in self._context.runJob(self._reduced, partial(_between, first, last), [part])]

    def forget(self) -> None:
        """Free what they take."""
        kept, self._kept, self._chunks, self._reduced = self._kept, [], [], None
        for rows in kept:
            rows.unpersist()
        shared, self._shared = self._shared, None
        if shared is not None:
            shared.destroy()


def _with_value(shared: Any, function: Callable[..., Iterator[Row]], *arguments: Any) -> Iterator[Row]:
    """On a worker: which has got the job with its first task."""
    return function(shared.value, *arguments)


def _parted(
    call: Callable[[Iterable[Any]], Iterator[Row]], told: Any, rows: Iterable[Any]
) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """On a worker: what is told goes to the driver; the others stay, each with its partition."""
    for row in call(rows):
        plain = (*row[:3], bytes(row.blob))
        if row.partition < 0:
            told.add([plain])
        else:
            yield row.partition, plain


def _keyed(call: Callable[[Iterable[Any]], Iterator[Row]], told: Any, rows: Iterable[Any]) -> Iterator[bytes]:
    """On a worker: the same, as Java wants it for a shuffle: in turns, a number and what belongs there."""
    from pyspark import CPickleSerializer

    pickled: Any = CPickleSerializer()
    for partition, plain in _parted(call, told, rows):
        yield partition.to_bytes(8, "big")
        yield pickled.dumps([(partition, plain)])


def _between(first: Place, last: Place, rows: Iterable[tuple[int, tuple[Any, ...]]]) -> Iterator[tuple[int, Row]]:
    return ((partition, Row(*row)) for partition, row in rows if first <= (row[0], row[2]) <= last)
