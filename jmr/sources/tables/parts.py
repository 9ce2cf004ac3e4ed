"""A part of a table's file, and how a worker reads it.

    Part: path, size, mtime; row group, rows ──read──> Stretch: row numbers, record batch ...
    Reading: format, schema, columns, filter ──┘

A row group of a Parquet file can be large, so a part may be some rows of one: see `cursor`. A batch of an Arrow file is
mapped into memory, and cut there. Any other file is read from its beginning.

Asked for batches, it gives the same whatever the parts are: each begins at a multiple of `batch_rows`.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from jmr.codec.values import dump, load
from jmr.errors import SourceError
from jmr.sources.base import NotHereError
from jmr.sources.tables.cursor import begin_at

__all__ = ["Part", "Reading", "Stretch", "dumped_bytes", "groups_of", "needs_arrow", "reading_of"]

#: Rows that are decoded at once where somebody wants rows.
_AT_ONCE = 1 << 16
#: The column that says which rows the filter leaves; not the name of any column.
_LEFT = "jmr: is left"


@dataclass(frozen=True, eq=False)
class Reading:
    """What is wanted of each file. Its members are Arrow's, so it travels as bytes: see `reading_of`."""

    #: A `pyarrow.dataset.FileFormat`.
    format: Any
    #: None for the files of this host.
    filesystem: Any
    #: Of the whole table, with the columns that a directory's name tells.
    schema: Any
    columns: tuple[str, ...]
    #: An expression, or None.
    filter: Any
    #: Rows, else batches.
    by_row: bool
    batch_rows: int


@functools.lru_cache(maxsize=8)
def reading_of(blob: bytes) -> Reading:
    """What `dump` made of it."""
    try:
        reading: Reading = load(blob)
    except ImportError as error:
        raise needs_arrow() from error
    return replace(reading, format=_mended(reading.format))


def _mended(kind: Any) -> Any:
    """A format as it was pickled: Arrow gives one of CSV a handler of bad rows that is None, and calls it."""
    from pyarrow.csv import ParseOptions
    from pyarrow.dataset import CsvFileFormat

    if not isinstance(kind, CsvFileFormat) or kind.parse_options.invalid_row_handler is not None:
        return kind
    names = ("delimiter", "quote_char", "double_quote", "escape_char", "newlines_in_values", "ignore_empty_lines")
    options = ParseOptions(**{name: getattr(kind.parse_options, name) for name in names})
    return CsvFileFormat(parse_options=options, default_fragment_scan_options=kind.default_fragment_scan_options)


def needs_arrow() -> SourceError:
    """It is not here."""
    return SourceError('a table needs Arrow, here and wherever it is read: pip install "jmr[arrow]"')


@dataclass(frozen=True)
class Part:
    """Some rows of a file."""

    path: str
    #: Of the file: it is another one if these differ. None where that is not known.
    n_bytes: int | None
    mtime_ns: int | None
    #: Pickled, what the names of its directories tell; empty if nothing.
    partition: bytes
    #: The row group, or the record batch; None for all that there is.
    group: int | None = None
    #: Number of the group's first row in the file.
    first: int = 0
    #: Rows of the group, from one to another.
    start: int = 0
    stop: int | None = None

    def read(self, reading: Reading) -> Iterator[Stretch]:
        """Its rows, if this host has the same file."""
        self._check_here(reading)
        return read_part(self, reading)

    def fingerprint(self) -> tuple[Any, ...]:
        """What is read."""
        return self.path, self.n_bytes, self.mtime_ns, self.partition, self.group, self.first, self.start, self.stop

    def _check_here(self, reading: Reading) -> None:
        """Raise NotHereError where this host does not have the same file."""
        if reading.filesystem is not None or self.mtime_ns is None:
            return
        try:
            found = os.stat(self.path)
        except FileNotFoundError as error:
            raise NotHereError(self.path, "there is no such file on this worker") from error
        if (found.st_size, found.st_mtime_ns) != (self.n_bytes, self.mtime_ns):
            raise NotHereError(self.path, "it is not the same file as when the job began")


@dataclass(frozen=True)
class Stretch:
    """Some rows of a file: their numbers, and the rows."""

    path: str
    numbers: Sequence[int]
    batch: Any


def groups_of(part: Part, reading: Reading) -> list[tuple[int, int, int]]:
    """Of a file's row groups or record batches that have rows which the filter may leave: number, first row, rows.

    Raises
    ------
    Exception
        What Arrow says about the file.
    """
    from pyarrow.dataset import ParquetFileFormat

    if not isinstance(reading.format, ParquetFileFormat):
        lengths = _ipc_lengths(part, reading)
        return list(zip(range(len(lengths)), accumulate(lengths, initial=0), lengths))  # noqa: B905
    fragment = _fragment(part, reading)
    lengths = [group.num_rows for group in fragment.row_groups]
    wanted = fragment if reading.filter is None else fragment.subset(filter=reading.filter, schema=reading.schema)
    left = {group.id for group in wanted.row_groups}
    firsts = accumulate(lengths, initial=0)
    return [(number, first, n) for number, (first, n) in enumerate(zip(firsts, lengths)) if number in left]  # noqa: B905


def _ipc_lengths(part: Part, reading: Reading) -> list[int]:
    """Rows of each record batch, of which the file itself tells only the place: the first column is looked at."""
    import pyarrow

    with _opened(part, reading) as file:
        options = pyarrow.ipc.IpcReadOptions(included_fields=[0])
        reader = pyarrow.ipc.open_file(file, options=options)
        return [reader.get_batch(number).num_rows for number in range(reader.num_record_batches)]


def read_part(part: Part, reading: Reading) -> Iterator[Stretch]:
    """Read it, some rows at a time; where a filter leaves none of these, they do not come.

    Raises
    ------
    Exception
        What Arrow says about the file.
    """
    key = reading, replace(part, start=0, stop=None)
    cursor = begin_at(key, part.start, lambda: _batches(part, reading))
    try:
        for start, batch in cursor.between(part.start, part.stop):
            first = part.first + start
            stretch = _filtered(Stretch(part.path, range(first, first + batch.num_rows), batch), reading)
            if stretch.batch.num_rows:
                yield stretch
    except BaseException:
        cursor.close()
        raise
    if part.stop is None:
        cursor.close()
    else:
        cursor.keep()


def _batches(part: Part, reading: Reading) -> Generator[Any, None, None]:
    from pyarrow.dataset import IpcFileFormat

    if part.group is not None and isinstance(reading.format, IpcFileFormat):
        yield from _ipc_batches(part, reading)
        return
    yield from _scanned(_fragment(part, reading), reading)


def _fragment(part: Part, reading: Reading) -> Any:
    from pyarrow.fs import LocalFileSystem

    told = load(part.partition) if part.partition else None
    fragment = reading.format.make_fragment(part.path, reading.filesystem or LocalFileSystem(), told)
    return fragment if part.group is None else fragment.subset(row_group_ids=[part.group])


def _opened(part: Part, reading: Reading) -> Any:
    import pyarrow

    local = reading.filesystem is None
    return pyarrow.memory_map(part.path) if local else reading.filesystem.open_input_file(part.path)


def _scanned(fragment: Any, reading: Reading) -> Iterator[Any]:
    """What a fragment has, in order; `_LEFT` is the last column if there is a filter."""
    scanner = fragment.scanner(
        schema=reading.schema,
        columns=_projection(reading),
        batch_size=_AT_ONCE if reading.by_row else reading.batch_rows,
        batch_readahead=0,  # other cores have tasks of their own
        fragment_readahead=0,
        use_threads=False,
    )
    yield from scanner.to_batches()


def _projection(reading: Reading) -> dict[str, Any]:
    from pyarrow.dataset import field

    columns = {name: field(name) for name in reading.columns}
    return columns if reading.filter is None else {**columns, _LEFT: reading.filter}


def _ipc_batches(part: Part, reading: Reading) -> Iterator[Any]:
    """One record batch of an Arrow file, found without those before it."""
    import pyarrow
    from pyarrow.dataset import Scanner

    with _opened(part, reading) as file:
        batch = pyarrow.ipc.open_file(file).get_batch(part.group)
        whole = _conformed(batch, part, reading)
        step = _AT_ONCE if reading.by_row else reading.batch_rows
        for start in range(0, whole.num_rows, step):
            scanner = Scanner.from_batches(
                [whole.slice(start, step)], schema=whole.schema, columns=_projection(reading), use_threads=False
            )
            yield from scanner.to_table().combine_chunks().to_batches()


def _conformed(batch: Any, part: Part, reading: Reading) -> Any:
    """A batch of the file with the columns of the table: from the file, its directory's name, or null."""
    import pyarrow
    from pyarrow.dataset import get_partition_keys

    told = get_partition_keys(load(part.partition)) if part.partition else {}
    arrays = []
    for field in reading.schema:
        if batch.schema.get_field_index(field.name) >= 0:
            arrays.append(batch.column(field.name).cast(field.type))
        else:
            value = pyarrow.scalar(told.get(field.name)).cast(field.type)
            arrays.append(pyarrow.repeat(value, batch.num_rows))
    return pyarrow.record_batch(arrays, schema=reading.schema)


def _filtered(stretch: Stretch, reading: Reading) -> Stretch:
    if reading.filter is None:
        return stretch
    left = stretch.batch.column(_LEFT)
    batch = stretch.batch.select(list(reading.columns)).filter(left)
    numbers = [number for number, is_left in zip(stretch.numbers, left.to_pylist(), strict=True) if is_left]
    return Stretch(stretch.path, numbers, batch)


def dumped_bytes(obj: object) -> bytes:
    """A blob of something small."""
    return b"".join(dump(obj))
