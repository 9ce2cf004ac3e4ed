"""Rows of bytes, as Spark moves them: what the kernel sends, what calls on the workers take and leave.

    splits ──map_rows──> Row, Row, ... ──shuffle──> reduce_rows ──> Row, Row, ...

    table_of, map_batches, reduce_batches: the same as Arrow's batches, for DataFrames

A blob is cut into pieces, for Arrow holds at most 2 GiB in a column of one batch, and Spark puts up to 10,000 rows into
one, whatever their size, if it is not told otherwise; its settings are the user's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from jmr.codec.values import Buffer, dump, load
from jmr.engines.calls import JobCall, Receipt, call_map, call_reduce
from jmr.engines.spark.failures import CHANGED

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["COLUMNS", "RECEIPT", "WHOLE", "Place", "Reduces", "Row", "map_batches", "map_rows", "n_pieces"]
__all__ += ["receipt_of", "reduce_batches", "reduce_rows", "rows_of", "table_of"]

#: Of a result's piece: task, piece.
Place = tuple[int, int]

#: As Spark writes them.
COLUMNS = "task long, partition int, piece int, blob binary"
#: In place of a partition: the row is a receipt; or a result that is small enough to go along with it.
RECEIPT, WHOLE = -1, -2
#: 10,000 of these are less than 2 GiB.
_PIECE_BYTES = 1 << 17
#: A batch is sent when it has so many bytes, or rows.
_BATCH_BYTES, _BATCH_ROWS = 1 << 23, 1 << 12


class Row(NamedTuple):
    """Of a DataFrame with these COLUMNS."""

    task: int
    #: Or RECEIPT, or WHOLE.
    partition: int
    piece: int
    blob: Buffer


class Reduces(NamedTuple):
    """The reduce tasks of a job, as the driver knows them from the receipts of its map tasks."""

    #: Which one each partition belongs to.
    task_of: Mapping[int, int]
    #: How many splits have left something for each.
    n_splits: Mapping[int, int]


def table_of(splits: Sequence[tuple[int, Buffer]]) -> pa.Table:
    """Splits with their numbers, for the workers. Each is a batch of its own, which Spark takes for a task of its own.

    Raises
    ------
    pyarrow.ArrowInvalid
        One has more than 2 GiB.
    """
    import pyarrow as pa

    schema = pa.schema([("task", pa.int64()), ("blob", pa.binary())])
    columns = ([pa.array([index], pa.int64()), pa.array([split], pa.binary())] for index, split in splits)
    return pa.Table.from_batches([pa.record_batch(two, schema=schema) for two in columns])


def map_batches(job: JobCall, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """On a worker: `map_rows`."""
    return _packed(map_rows(job, (split for batch in batches for split in _splits_of(batch))))


def _splits_of(batch: pa.RecordBatch) -> Iterator[tuple[int, Buffer]]:
    for index, split in zip(batch.column(0).to_pylist(), batch.column(1), strict=True):
        yield index, memoryview(split.as_buffer())


def map_rows(job: JobCall, splits: Iterable[tuple[int, Buffer]]) -> Iterator[Row]:
    """On a worker: run a map task for each split."""
    for index, split in splits:
        receipt, blobs = call_map(job, index, split)
        yield _receipt_row(index, receipt)
        for partition, blob in enumerate(blobs):
            yield from _cut(index, partition, blob)


def reduce_batches(
    job: JobCall, reduces: Reduces, most_whole_bytes: int, batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """On a worker: `reduce_rows`."""
    rows = ((row.partition, row) for batch in batches for row in rows_of(batch))
    return _packed(reduce_rows(job, reduces, most_whole_bytes, rows))


def reduce_rows(
    job: JobCall, reduces: Reduces, most_whole_bytes: int, rows: Iterable[tuple[int, tuple[Any, ...]]]
) -> Iterator[Row]:
    """On a worker: run the reduce tasks whose partitions' rows these are.

    Parameters
    ----------
    job
        What all calls share.
    reduces
        All reduce tasks of the job.
    most_whole_bytes
        Of a result that is WHOLE.
    rows
        All rows of some tasks, in any order, each with its partition.

    Raises
    ------
    RuntimeError
        They are not what the receipts of the map tasks have told. Where Spark has lost what a map task left, it runs it
        again, and nobody reads that receipt: it may have failed this time, or have found what it did not see before.
    """
    found: dict[int, list[Row]] = {}
    for partition, row in rows:
        if partition not in reduces.task_of:
            raise RuntimeError(CHANGED)
        found.setdefault(reduces.task_of[partition], []).append(Row(*row))
    for index in sorted(found):
        inputs = _joined(found.pop(index))
        if len({split for split, _ in inputs}) != reduces.n_splits[index]:
            raise RuntimeError(CHANGED)
        yield from _reduced(job, index, inputs, most_whole_bytes)


def _reduced(job: JobCall, index: int, inputs: list[tuple[int, Buffer]], most_whole_bytes: int) -> Iterator[Row]:
    receipt, blob = call_reduce(job, index, inputs)
    yield _receipt_row(index, receipt)
    if len(blob) <= most_whole_bytes:
        yield Row(index, WHOLE, 0, blob)
    else:
        yield from _cut(index, 0, blob)


def _joined(rows: list[Row]) -> list[tuple[int, Buffer]]:
    """Each split with its blobs, whose pieces stand one after another; takes the rows."""
    rows.sort(key=itemgetter(0, 1, 2))
    pieces: dict[tuple[int, int], list[Buffer]] = {}
    for row in rows:
        blobs = pieces.setdefault((row.task, row.partition), [])
        if row.piece != len(blobs):
            raise RuntimeError(CHANGED)
        blobs.append(row.blob)
    rows.clear()
    return [(task, blobs[0] if len(blobs) == 1 else b"".join(blobs)) for (task, _), blobs in pieces.items()]


def _receipt_row(index: int, receipt: Receipt) -> Row:
    return Row(index, RECEIPT, 0, b"".join(dump(receipt)))


def receipt_of(row: Row) -> Receipt:
    """Raises whatever unpickling does, where the worker has another jmr."""
    receipt = load(row.blob)
    assert isinstance(receipt, Receipt)
    return receipt


def n_pieces(n_bytes: int) -> int:
    """In how many rows a blob comes."""
    return -(-n_bytes // _PIECE_BYTES)


def _cut(task: int, partition: int, blob: bytes) -> Iterator[Row]:
    view = memoryview(blob)
    for piece in range(n_pieces(len(blob))):
        yield Row(task, partition, piece, view[piece * _PIECE_BYTES : (piece + 1) * _PIECE_BYTES])


def rows_of(batch: pa.RecordBatch | pa.Table) -> Iterator[Row]:
    """Its rows; their blobs lie in its memory."""
    tasks, partitions, pieces, blobs = (batch.column(number) for number in range(4))
    views = (memoryview(blob.as_buffer()) for blob in blobs)
    yield from map(Row, tasks.to_pylist(), partitions.to_pylist(), pieces.to_pylist(), views)


def _packed(rows: Iterable[Row]) -> Iterator[pa.RecordBatch]:
    waiting: list[Row] = []
    n_bytes = 0
    for row in rows:
        waiting.append(row)
        n_bytes += len(row.blob)
        if n_bytes >= _BATCH_BYTES or len(waiting) >= _BATCH_ROWS:
            yield _batch(waiting)
            waiting, n_bytes = [], 0
    if waiting:
        yield _batch(waiting)


def _batch(rows: list[Row]) -> pa.RecordBatch:
    import pyarrow as pa

    types = {"task": pa.int64(), "partition": pa.int32(), "piece": pa.int32(), "blob": pa.binary()}
    columns = zip(zip(*rows, strict=True), types.values(), strict=True)
    return pa.record_batch([pa.array(column, of) for column, of in columns], schema=pa.schema(list(types.items())))
