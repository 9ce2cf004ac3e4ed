"""A result as a table: a frame of pandas or polars, or an Arrow table.

    items ──columns_of──> {"key": [...], "value": [...]} ──> pandas.DataFrame, polars.DataFrame, pyarrow.Table

A row for each key, in the result's order. Keys that are all tuples of one length become a column for each of their
items: "key_0", "key_1", ..., or by the names that a namedtuple has. Values that are all dicts with the same str keys
become a column for each of these. Where two columns would have one name, keys and values stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from jmr.errors import ArgumentValueError

__all__ = ["columns_of", "to_arrow", "to_pandas", "to_polars"]


def columns_of(rows: Iterable[tuple[Any, Any]]) -> dict[str, list[Any]]:
    """The columns, by their names.

    Examples
    --------
    >>> columns_of([("a", 1), ("b", 2)])
    {'key': ['a', 'b'], 'value': [1, 2]}
    >>> columns_of([(("a", 1), {"n": 3, "mean": 0.5}), (("b", 2), {"n": 4, "mean": 1.5})])
    {'key_0': ['a', 'b'], 'key_1': [1, 2], 'n': [3, 4], 'mean': [0.5, 1.5]}
    """
    keys: list[Any] = []
    values: list[Any] = []
    for key, value in rows:
        keys.append(key)
        values.append(value)
    of_keys, of_values = _of_keys(keys), _of_values(values)
    if of_keys.keys() & of_values.keys():
        return {"key": keys, "value": values}
    return of_keys | of_values


def _of_keys(keys: list[Any]) -> dict[str, list[Any]]:
    lengths = {len(key) if isinstance(key, tuple) else 0 for key in keys}
    if len(lengths) != 1 or 0 in lengths:
        return {"key": keys}
    (length,) = lengths
    fields = {getattr(type(key), "_fields", None) for key in keys}
    names = fields.pop() if len(fields) == 1 else None
    return {
        name: [key[index] for key in keys]
        for index, name in enumerate(names or [f"key_{index}" for index in range(length)])
    }


def _of_values(values: list[Any]) -> dict[str, list[Any]]:
    first = values[0] if values else None
    if not isinstance(first, dict) or not first or not all(isinstance(name, str) for name in first):
        return {"value": values}
    if not all(isinstance(value, dict) and value.keys() == first.keys() for value in values):
        return {"value": values}
    return {name: [value[name] for value in values] for name in first}


def to_pandas(rows: Iterable[tuple[Any, Any]]) -> Any:
    """A pandas.DataFrame."""
    try:
        import pandas as pd
    except ImportError:
        raise ArgumentValueError("to_pandas() needs pandas: pip install pandas") from None
    return pd.DataFrame({name: _one_dimensional(column) for name, column in columns_of(rows).items()})


def _one_dimensional(column: list[Any]) -> Any:
    """What pandas takes for one column: it would spread a list of arrays, and of tuples make what it likes."""
    import pandas as pd

    if any(isinstance(each, (list, tuple, dict)) or getattr(each, "ndim", 0) for each in column):
        series = pd.Series([None] * len(column), dtype=object)
        for index, each in enumerate(column):
            series.iat[index] = each
        return series
    return column


def to_polars(rows: Iterable[tuple[Any, Any]]) -> Any:
    """A polars.DataFrame."""
    try:
        import polars as pl
    except ImportError:
        raise ArgumentValueError("to_polars() needs polars: pip install polars") from None
    return pl.DataFrame([_polars_series(name, column) for name, column in columns_of(rows).items()])


def _polars_series(name: str, column: list[Any]) -> Any:
    """Of one type; only of numbers it may be another than theirs."""
    import polars as pl

    numbers = all(each is None or isinstance(each, (int, float)) for each in column) and bool not in map(type, column)
    try:
        return pl.Series(name, column, strict=not numbers)
    except Exception as error:  # it raises many kinds
        raise ArgumentValueError(f"column {name!r} has no polars type: {str(error).partition(chr(10))[0]}") from error


def to_arrow(rows: Iterable[tuple[Any, Any]]) -> Any:
    """A pyarrow.Table."""
    try:
        import pyarrow as pa
    except ImportError:
        raise ArgumentValueError('to_arrow() needs pyarrow: pip install "jmr[arrow]"') from None
    arrays = {}
    for name, column in columns_of(rows).items():
        try:
            arrays[name] = pa.array(column)
        except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
            raise ArgumentValueError(f"column {name!r} has no Arrow type: {error}") from error
    return pa.table(arrays)
