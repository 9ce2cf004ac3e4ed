"""Tables in files: Parquet, CSV, Arrow, ORC, JSON lines; by rows or by record batches.

    jmr.table(what) ──find──> files, schema ──splits──> TableSplit: parts of files ──read, on a worker──> keys, values
                                                 │                      └──carried──> Carried: what they hold
                                                 └──> Carried: of a large text, which cannot be cut

Row groups of Parquet files and record batches of Arrow files are cut by rows; small files are put together. A file of
text cannot be cut: where a line ends is only known to who has read it from the beginning. A small one is read by a
worker; a large one is read here, some rows at a time, and its rows are sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from jmr.errors import ArgumentTypeError, ArgumentValueError, SourceError, describe
from jmr.plan import checked_count
from jmr.sources.base import Source, Split
from jmr.sources.tables.finding import Found, found_table
from jmr.sources.tables.parts import Part, Reading, dumped_bytes, groups_of, needs_arrow
from jmr.sources.tables.splits import Group, Packed, Unread

__all__ = ["Table", "table"]

#: Of files, in a split that nobody has asked for in another size.
_USUAL_BYTES = 1 << 22
#: Values in a split, at most: as Python objects they take a hundred bytes each.
_MOST_VALUES = 1 << 20
#: A file up to this is not looked into before a worker reads it.
_SMALL_BYTES = 1 << 18
#: A file that cannot be cut is read by a worker if it is no larger; one that is compressed, if it is much smaller.
_MOST_TEXT_BYTES, _MOST_COMPRESSED_BYTES = 1 << 25, 1 << 22
_COMPRESSED = (".gz", ".bz2", ".zst", ".lz4", ".br")


def table(
    what: Any,
    *,
    columns: Iterable[str] | None = None,
    filter: Any = None,  # noqa: A002  # Arrow's word, as format is
    by: str = "row",
    batch_rows: int = 1 << 16,
    format: Any = None,  # noqa: A002
    schema: Any = None,
    filesystem: Any = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Table:
    """A table in files as a source, which workers read; a CSV or JSON file over 32 MB (compressed: 4 MB) is read here.

    Parameters
    ----------
    what
        A path, a URL, a pattern such as "flights/*.parquet", a directory, a list of paths, or a dataset of files, a
        `pyarrow.dataset.Dataset`. Of a directory, all files below it whose names do not begin with "." or "_", and end
        as those of one format do. Files are taken in the order of their paths; those of a list, in that order.
        Directories whose names are such as "year=2013" give each row of theirs a column, `year`.
    columns
        The names of those to read; others are left where they are. Default: all.
    filter
        An expression such as `pyarrow.dataset.field("year") > 2012`: other rows are left out, and where that is known
        beforehand, not read.
    by
        "row": records are ((path, row number), {column: value}), with the values of `pyarrow.Table.to_pylist`, and row
        numbers of the file, from 0. "batch": records are ((path, number of its first row), `pyarrow.RecordBatch`).
    batch_rows
        Rows in a batch; the last one of a row group has fewer. A file of text gives batches of about a megabyte.
    format
        "parquet", "csv", "feather" (or "arrow", "ipc"), "orc", "json", or a `pyarrow.dataset.FileFormat`, such as
        one of a CSV with semicolons. Default: as the names of the files say, or how the first one begins.
    schema
        Names and types of the columns, a `pyarrow.Schema`. Default: those of the first file that can be read; what
        another file lacks of them is None, what it has beyond them is not read. Types in a CSV file are guessed from
        its first megabyte.
    filesystem
        Where the paths are, if not on this host: a `pyarrow.fs.FileSystem`, or one of fsspec.
    storage_options
        For a URL, which is read through fsspec (pip install "jmr[fs]"): what its file system wants to know.

    Raises
    ------
    SourceError
        At once: a file is missing, there is none, no file can be read, there is no such column.

    Examples
    --------
    >>> table("flights", columns=["carrier", "delay"])  # doctest: +SKIP
    jmr.table of 12 files, 41.3 MB: carrier, delay
    """
    try:
        import pyarrow.dataset
    except ImportError as error:
        raise needs_arrow() from error
    if by not in ("row", "batch"):
        raise ArgumentValueError(f'by must be "row" or "batch", not {describe(by)}')
    if filter is not None and not isinstance(filter, pyarrow.dataset.Expression):
        raise ArgumentTypeError(
            f"filter must be an expression such as pyarrow.dataset.field('year') > 2012, not {describe(filter)}"
        )
    rows = checked_count("batch_rows", batch_rows, most=1 << 31)
    found = found_table(what, format, schema, filesystem, storage_options)
    reading = Reading(
        format=found.format,
        filesystem=found.filesystem,
        schema=found.schema,
        columns=_checked_columns(columns, found.schema),
        filter=filter,
        by_row=by == "row",
        batch_rows=rows,
    )
    _check_filter(reading)
    return Table(found, reading)


def _checked_columns(columns: Iterable[str] | None, schema: Any) -> tuple[str, ...]:
    if isinstance(columns, str):
        raise ArgumentTypeError(f"columns must be a list of names, such as [{columns!r}], not a str")
    names = tuple(schema.names if columns is None else columns)
    for name in names:
        if name not in schema.names:
            raise SourceError(f"there is no column {describe(name)}; the columns are {', '.join(schema.names)}")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise SourceError(f"there are two columns {describe(twice)}, and a row is a dict: name each once")
    return names


def _check_filter(reading: Reading) -> None:
    from pyarrow import ArrowException
    from pyarrow.dataset import Scanner

    if reading.filter is not None:
        try:
            Scanner.from_batches([], schema=reading.schema, columns={"left": reading.filter})
        except ArrowException as error:
            text = str(error).partition(" in ")[0]
            names = ", ".join(reading.schema.names)
            raise SourceError(f"filter={reading.filter}: {text}; the columns are {names}") from error


class Table(Source):
    """What `jmr.table` gives.

    Attributes
    ----------
    n_bytes
        Of all files.
    """

    def __init__(self, found: Found, reading: Reading) -> None:
        self._found = found
        self._reading = reading
        self._blob = dumped_bytes(reading)
        self._files = found.parts(reading.filter)
        self.n_bytes = sum(part.n_bytes or 0 for part in self._files)
        self._most_rows = max(1, _MOST_VALUES // max(1, len(reading.columns)))

    def __repr__(self) -> str:
        n = len(self._files)
        files = "1 file" if n == 1 else f"{n:,} files"
        return f"jmr.table of {files}, {self.n_bytes / 1e6:.1f} MB: {', '.join(self._reading.columns)}"

    def splits(self) -> Iterator[Split]:
        """Yield splits of the usual size, read lazily."""
        return self.sized_splits(lambda: None)

    def sized_splits(self, wanted: Callable[[], int | None]) -> Iterator[Split]:
        """Yield splits of about as many bytes of the files as `wanted` says; of one row at least."""
        splits = self._cut(wanted)
        return (split.carried() for split in splits) if self._found.is_of_this_process else splits

    def _cut(self, wanted: Callable[[], int | None]) -> Iterator[Split]:
        most_bytes = wanted() or _USUAL_BYTES
        packed = Packed()
        for group in self._groups():
            left: Group | None = group
            while left is not None:
                taken, left = left.cut(self._n_fitting(left, most_bytes - packed.n_bytes, packed.n_rows))
                packed.add(taken)
                if packed.is_full(most_bytes, self._most_rows):
                    yield packed.split(self._blob)
                    most_bytes, packed = wanted() or _USUAL_BYTES, Packed()
        if packed.items:
            yield packed.split(self._blob)

    def _n_fitting(self, group: Group, n_bytes: int, n_rows_before: int) -> int:
        """How many rows of a group come to so many bytes; in whole batches where these are wanted."""
        n_rows = min(n_bytes * group.n_rows // max(1, group.n_bytes), self._most_rows - n_rows_before)
        unit = 1 if self._reading.by_row else self._reading.batch_rows
        return max(1, -(-n_rows // unit)) * unit

    def _groups(self) -> Iterator[Group]:
        """What splits are made of, in order."""
        for part in self._files:
            n_bytes = part.n_bytes or 0
            if n_bytes <= _SMALL_BYTES:
                yield Group(part, 1, n_bytes)
            elif self._found.has_groups:
                yield from self._groups_of(part)
            elif n_bytes <= (_MOST_COMPRESSED_BYTES if part.path.endswith(_COMPRESSED) else _MOST_TEXT_BYTES):
                yield Group(part, 1, n_bytes)
            else:
                yield from self._streamed(part, n_bytes)

    def _groups_of(self, part: Part) -> Iterator[Group]:
        try:
            groups = groups_of(part, self._reading)
        except Exception:  # whatever it is, the worker that reads the file will find it too, and tell
            yield Group(part, 1, part.n_bytes or 0)
            return
        n_rows = max(1, sum(n for *_, n in groups))
        for number, first, n in groups:
            if n:
                yield Group(replace(part, group=number, first=first, stop=n), n, (part.n_bytes or 0) * n // n_rows)

    def _streamed(self, part: Part, n_bytes: int) -> Iterator[Group]:
        """A file that cannot be cut, read here."""
        n_read = 0
        try:
            for stretch in part.read(self._reading):
                n_read += stretch.batch.nbytes
                yield Group(stretch, stretch.batch.num_rows if self._reading.by_row else 1, stretch.batch.nbytes)
        except Exception as error:  # of the file: what has been read of it stands
            yield Group(Unread(part.path, error), 1, max(0, n_bytes - n_read))
