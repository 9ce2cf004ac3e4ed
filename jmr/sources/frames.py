"""pandas, polars and Arrow frames as a source: cut by rows, sent as columns, and made into rows where they are mapped.

    frame ──frame_rows──> Rows ──peek──> Slice ──dump──> one blob: keys, columns ──load, on a worker──> keys, dicts
                                          └──records──> the same here: for a plain loop

    pandas DataFrame                   (index label, {column label: value}), as df.to_dict("records") gives the rows
    pandas Series                      (index label, value), as series.tolist() gives the values
    polars DataFrame                   (row number, {name: value}), as df.to_dicts() gives the rows
    Arrow Table, RecordBatch, reader   (row number, {name: value}), as table.to_pylist() gives the rows

Row numbers begin at 0. Unpickled, a slice is two lists, those that the blob of any other records has: whoever maps it
need not know of frames. Nothing here imports a library that the user has not.
"""

from __future__ import annotations

import decimal
import importlib.util
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from jmr.codec.values import PLAIN_TYPES
from jmr.errors import ArgumentTypeError, SourceError, describe
from jmr.sources.columns import listed_index
from jmr.sources.slices import Arrow, Column, Numbers, Own, Range, Slice, is_number

__all__ = ["Rows", "frame_rows", "refuse_frame"]

#: Gives the rows from one number to another.
Cut = Callable[[int, int], Slice]
#: Gives some values of one column.
_CutColumn = Callable[[slice], Column]
#: What pandas leaves as it is in a column of objects: of what else there is, it makes ints and floats of Python's.
_LEFT_ALONE = PLAIN_TYPES | {list, tuple, dict, set, decimal.Decimal}
#: Kinds of numpy's arrays that are neither numbers of `memoryview`, nor times, which pandas has classes of its own for.
_BY_ITEM = frozenset("fcSU")
#: Types of polars whose values Arrow gives as polars does.
_AS_IN_ARROW = frozenset(
    {"Boolean", "String", "Binary", "Date", "Float32", "Float64"}
    | {f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)}
)


#: What nobody can have meant for a list of paths.
_TABLES = {
    "pandas": ("DataFrame",),
    "polars": ("DataFrame",),
    "pyarrow": ("Table", "RecordBatch", "RecordBatchReader"),
}


class Rows:
    """The rows of a frame, in order.

    Parameters
    ----------
    parts
        For each part of it: how many rows it has, and what gives some of them.
    n_rows
        Of all parts; None where only reading them can tell.
    """

    def __init__(self, parts: Iterator[tuple[int, Cut]], n_rows: int | None) -> None:
        self.n_rows = n_rows
        self._parts = parts
        self._n_left = 0
        self._at = 0
        self._cut: Cut | None = None

    def peek(self, n: int) -> Slice | None:
        """The next rows, one to `n`, which stay the next; None at the end."""
        while not self._n_left:
            part = next(self._parts, None)
            if part is None:
                return None
            self._n_left, self._cut = part
            self._at = 0
        assert self._cut is not None
        return self._cut(self._at, self._at + min(n, self._n_left))

    def skip(self, n: int) -> None:
        """Be done with as many of the rows that `peek` gave."""
        self._at += n
        self._n_left -= n


def frame_rows(source: Any) -> Rows | None:
    """The rows of a frame; None if the source is none.

    Raises
    ------
    SourceError
        It is one whose rows cannot be dicts: two columns have the same name.
    """
    for library, rows_of in (("pandas", _of_pandas), ("polars", _of_polars), ("pyarrow", _of_arrow)):
        module = sys.modules.get(library)  # who has a frame has imported its library
        rows = None if module is None else rows_of(source, module)
        if rows is not None:
            return rows
    return None


def refuse_frame(function: str, what: Any) -> None:
    """Say what to do with a frame to whoever passes it to a function that takes paths. Raises ArgumentTypeError."""
    for library, names in _TABLES.items():
        module = sys.modules.get(library)
        if module is not None and any(_is_a(what, module, name) for name in names):
            kind = type(what).__name__
            raise ArgumentTypeError(
                f"{function} reads files, and this is a {kind}: pass it to jmr.run as the source, as it is"
            )


def _is_a(source: Any, library: Any, name: str) -> bool:
    """Whether it is of a class of a library, which another thread may be importing just now."""
    return isinstance(source, getattr(library, name, ()))


def _one_part(n_rows: int, cut: Cut) -> Rows:
    return Rows(iter([(n_rows, cut)]), n_rows)


def _checked_names(names: list[Any], source: Any) -> tuple[Any, ...]:
    twice = [name for name, n in Counter(names).items() if n > 1]
    if twice:
        raise SourceError(
            f"the source is a {type(source).__name__} with {describe(twice[0])} for the name of more than one column, "
            "and a row is a dict: rename them"
        )
    return tuple(names)


# ---- pandas


def _of_pandas(source: Any, pandas: Any) -> Rows | None:
    if _is_a(source, pandas, "DataFrame"):
        names = _checked_names(source.columns.tolist(), source)
        columns = [_pandas_cut(column.array, column.dtype, is_boxed=True) for _, column in source.items()]
    elif _is_a(source, pandas, "Series"):
        names = None
        columns = [_pandas_cut(source.array, source.dtype, is_boxed=False)]
    else:
        return None
    labels = _labels_cut(source.index, pandas)

    def cut(start: int, stop: int) -> Slice:
        at = slice(start, stop)
        return Slice(stop - start, labels(at), names, [column(at) for column in columns])

    return _one_part(len(source), cut)


def _labels_cut(index: Any, pandas: Any) -> _CutColumn:
    if isinstance(index, pandas.RangeIndex):
        labels = range(index.start, index.stop, index.step)
        return lambda at: Range(labels[at])
    if isinstance(index, pandas.MultiIndex):  # a slice of it would bring the labels of all levels
        return lambda at: index[at].tolist()
    if is_number(index.dtype) or index.dtype.name == "object" or _is_arrow_text(index.dtype):
        return _pandas_cut(index.array, index.dtype, is_boxed=False)
    return lambda at: Own(index[at], listed_index)


def _pandas_cut(array: Any, dtype: Any, *, is_boxed: bool) -> _CutColumn:
    """What gives some values of an array of pandas: as `to_dict` gives them if they are boxed, else as `tolist`."""
    if is_number(dtype):
        numbers = array.to_numpy()
        return lambda at: Numbers(numbers[at])
    if dtype.name == "object":
        objects = array.to_numpy()
        return lambda at: _boxed(objects[at]) if is_boxed else objects[at].tolist()
    if dtype.kind in _BY_ITEM and hasattr(dtype, "isnative"):  # others than numpy's have kinds, too
        odd = array.to_numpy()
        return lambda at: odd[at].tolist()
    if _is_arrow_text(dtype):
        return lambda at: Arrow(_arrow_array(array[at]), math.nan)
    return lambda at: Own(array[at]) if is_boxed else Own(array[at], listed_index)


def _is_arrow_text(dtype: Any) -> bool:
    """Whether it is the text of pandas 3, in Arrow's memory; what is missing is NaN."""
    if dtype.name != "str" or getattr(dtype, "storage", None) != "pyarrow":
        return False
    return isinstance(dtype.na_value, float)


def _arrow_array(array: Any) -> Any:
    import pyarrow

    found = pyarrow.array(array)
    return found.combine_chunks() if isinstance(found, pyarrow.ChunkedArray) else found


def _boxed(objects: Any) -> list[Any]:
    values: list[Any] = objects.tolist()
    if set(map(type, values)) <= _LEFT_ALONE:
        return values
    import pandas

    return [row[0] for row in pandas.Series(objects, dtype=object).to_frame(0).to_dict("records")]


# ---- polars


def _of_polars(source: Any, polars: Any) -> Rows | None:
    if _is_a(source, polars, "LazyFrame"):
        raise SourceError("the source is a LazyFrame, which has no rows yet: pass lazy_frame.collect()")
    if not _is_a(source, polars, "DataFrame"):
        return None
    names = _checked_names(source.columns, source)
    list_column = _polars_column if importlib.util.find_spec("pyarrow") else _polars_list

    def cut(start: int, stop: int) -> Slice:
        part = source.slice(start, stop - start)
        return Slice(stop - start, Range(range(start, stop)), names, list(map(list_column, part.get_columns())))

    return _one_part(len(source), cut)


def _polars_list(series: Any) -> list[Any]:
    return series.to_list()  # type: ignore[no-any-return]


def _polars_column(series: Any) -> Column:
    kind = series.dtype
    name = type(kind).__name__
    if name == "Datetime" and kind.time_unit != "ns" and kind.time_zone is None:
        return Arrow(series.to_arrow())
    return Arrow(series.to_arrow()) if name in _AS_IN_ARROW else _polars_list(series)


# ---- Arrow


def _of_arrow(source: Any, pyarrow: Any) -> Rows | None:
    if _is_a(source, pyarrow, "RecordBatchReader"):
        return Rows(_batches(iter(source), _checked_names(source.schema.names, source)), None)
    if _is_a(source, pyarrow, "Table") or _is_a(source, pyarrow, "RecordBatch"):
        names = _checked_names(source.schema.names, source)
        return _one_part(source.num_rows, partial(_cut_arrow, source, 0, names))
    return None


def _batches(batches: Iterator[Any], names: tuple[Any, ...]) -> Iterator[tuple[int, Cut]]:
    first = 0
    for batch in batches:
        yield batch.num_rows, partial(_cut_arrow, batch, first, names)
        first += batch.num_rows


def _cut_arrow(rows: Any, first: int, names: tuple[Any, ...], start: int, stop: int) -> Slice:
    """Some rows of a batch, or of a table, however that lies in pieces."""
    columns = rows.slice(start, stop - start).columns
    whole = [column.combine_chunks() if hasattr(column, "chunks") else column for column in columns]
    return Slice(stop - start, Range(range(first + start, first + stop)), names, list(map(Arrow, whole)))
