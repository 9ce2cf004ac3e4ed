"""Columns of a table as lists of Python values, and those as records: what a worker makes of a frame's rows.

    numbers ──memoryview──┐
    Arrow ────numpy───────┼──> one list a column ──records_of──> keys, [{name: value, ...}, ...]
    pandas ───to_dict─────┘

A list is made by one call in C wherever that gives what the library's own rows have: `to_dict("records")` of pandas,
`to_pylist()` of Arrow. Numbers need no library here: a worker that gets nothing else imports none.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

from jmr.codec.values import PLAIN_TYPES, Buffer
from jmr.sources.base import Columns

__all__ = [
    "Columns",
    "listed_arrow",
    "listed_index",
    "listed_numbers",
    "listed_pandas",
    "loaded_arrow",
    "records_of",
    "rows_of",
]

#: A display of more items takes long to compile, and hardly pays.
_MOST_NAMES = 64


def records_of(keys: Iterable[Any], names: tuple[Any, ...] | None, columns: list[list[Any]]) -> Columns:
    """Keys and rows of some columns; without names, the values of the only one.

    Examples
    --------
    >>> records_of(range(2), ("n", "word"), [[1, 2], ["a", "b"]])
    ([0, 1], [{'n': 1, 'word': 'a'}, {'n': 2, 'word': 'b'}])
    >>> records_of("xy", None, [[1, 2]])
    (['x', 'y'], [1, 2])
    """
    listed = list(keys)
    if names is None:
        return listed, columns[0]
    return listed, rows_of(names, columns) if columns else [{} for _ in listed]


def rows_of(names: tuple[Any, ...], columns: list[list[Any]]) -> list[dict[Any, Any]]:
    """One dict a row; there is a column at least."""
    if len(names) > _MOST_NAMES:
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    return _display(len(names))(names, columns)


@functools.cache
def _display(n: int) -> Callable[[tuple[Any, ...], list[list[Any]]], list[dict[Any, Any]]]:
    """What makes rows by a display such as {n0: v0, n1: v1}: up to four times as fast as dict(zip(...))."""
    names, values = ([f"{letter}{i}" for i in range(n)] for letter in "nv")
    items = ", ".join(map("{}: {}".format, names, values))
    listed = f"[{{{items}}} for {', '.join(values)}, in zip(*columns)]"
    text = f"lambda names, columns: (lambda {', '.join(names)}: {listed})(*names)"
    made: Callable[[tuple[Any, ...], list[list[Any]]], list[dict[Any, Any]]] = eval(text)  # of nothing but numbers
    return made


def listed_numbers(buffer: Buffer, code: str) -> list[Any]:
    r"""The numbers in a buffer, by their code in `struct`.

    Examples
    --------
    >>> listed_numbers(b"\x01\x00\x02\x00", "H") in ([1, 2], [256, 512])
    True
    """
    return memoryview(buffer).cast("B").cast(code).tolist()  # type: ignore[call-overload, no-any-return]


def loaded_arrow(buffer: Buffer, missing: tuple[Any, ...]) -> list[list[Any]]:
    """The columns of one record batch in Arrow's stream format; and what stands for null in each."""
    import pyarrow

    with pyarrow.ipc.open_stream(pyarrow.py_buffer(buffer)) as reader:
        batch = reader.read_next_batch()
    return [listed_arrow(column, null) for column, null in zip(batch.columns, missing, strict=True)]


def batch_stream(batch: Any) -> Any:
    """A record batch in Arrow's stream format, in a buffer: of a part of an array no more than that part."""
    import pyarrow

    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


def listed_arrow(array: Any, null: Any = None) -> list[Any]:
    """What `array.to_pylist()` gives, with something else for null.

    Arrow looks at each value by itself, which takes some forty times longer than numpy does for dates and times.
    """
    kind = str(array.type)
    if kind.startswith("dictionary<"):
        return listed_arrow(array.dictionary_decode(), null)
    by_numpy = _BY_NUMPY.get(kind)
    try:
        values = None if by_numpy is None else by_numpy(array)
    except ImportError:  # there is Arrow without numpy
        values = None
    if values is None:
        values = array.to_pylist()
    if null is not None and array.null_count:
        values = [null if value is None else value for value in values]
    return values


def _numbers(array: Any) -> list[Any]:
    if not array.null_count:
        return array.to_numpy(zero_copy_only=False).tolist()  # type: ignore[no-any-return]
    values: list[Any] = array.fill_null(0).to_numpy(zero_copy_only=False).tolist()
    for position in array.is_null().to_numpy(zero_copy_only=False).nonzero()[0].tolist():
        values[position] = None
    return values


def _objects(array: Any) -> list[Any]:
    return array.to_numpy(zero_copy_only=False).tolist()  # type: ignore[no-any-return]


def _days(array: Any) -> list[Any] | None:
    return _if_none_beyond(array.to_numpy(zero_copy_only=False).tolist())


def _moments(array: Any) -> list[Any] | None:
    import pyarrow

    try:
        array = array.cast(pyarrow.timestamp("us"))  # numpy finds out about an overflow only since 2.5
    except pyarrow.ArrowInvalid:
        return None
    return _if_none_beyond(array.to_numpy(zero_copy_only=False).tolist())


def _if_none_beyond(values: list[Any]) -> list[Any] | None:
    """None where something lies beyond what Python's own type holds: numpy gives a number, and Arrow will refuse it."""
    return None if int in set(map(type, values)) else values


#: By the name of the type. What stands in no row here is rare, slow either way, or not the same.
_BY_NUMPY: dict[str, Callable[[Any], list[Any] | None]] = {
    **dict.fromkeys([f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)], _numbers),
    **dict.fromkeys(["float", "double"], _numbers),
    "bool": lambda array: _numbers(array) if not array.null_count else _objects(array),
    **dict.fromkeys(["string", "large_string", "binary", "large_binary"], _objects),
    "date32[day]": _days,
    **dict.fromkeys([f"timestamp[{unit}]" for unit in ("s", "ms", "us")], _moments),
}


def listed_pandas(array: Any) -> list[Any]:
    """The values of an array of pandas as `DataFrame.to_dict("records")` gives them.

    That iterates, and then makes Python's own numbers of numpy's, and None of NA; which is slow, and rarely needed.
    """
    import pandas

    values = list(array)
    left_alone = {pandas.Timestamp, pandas.Timedelta, pandas.Period, pandas.Interval, type(pandas.NaT)}
    if set(map(type, values)) <= PLAIN_TYPES | left_alone:
        return values
    return [row[0] for row in pandas.DataFrame({0: array}, copy=False).to_dict("records")]


def listed_index(index: Any) -> list[Any]:
    """The labels of an index of pandas."""
    return index.tolist()  # type: ignore[no-any-return]
