"""Some rows of a frame, in a form that travels well.

    Slice ──dump──> labels, names, columns ──load, on a worker──> keys, [{name: value, ...}, ...]
                    │               ├ few values  as lists
                    └───────────────┼ Numbers     a buffer
                                    ├ Arrow       all of them in one Arrow batch
                                    └ Own         an array of pandas, which pandas makes into Python objects

Nothing is pickled row by row. A worker that gets few values, or numbers, imports no library for them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jmr.codec.values import Buffer, lent
from jmr.sources.base import Columns
from jmr.sources.columns import batch_stream, listed_arrow, listed_numbers, listed_pandas, loaded_arrow, records_of

__all__ = ["Arrow", "Column", "Numbers", "Own", "Range", "Slice", "is_number"]

#: A library is imported on a worker only for more values than this.
_FEW_VALUES = 1 << 10
#: What `memoryview` calls numpy's numbers.
_CODES = {
    **dict(zip(("int8", "int16", "int32", "int64"), "bhiq", strict=True)),
    **dict(zip(("uint8", "uint16", "uint32", "uint64"), "BHIQ", strict=True)),
    **dict(zip(("float32", "float64", "bool"), "fd?", strict=True)),
}


def is_number(dtype: Any) -> bool:
    """Whether an array of this dtype can be `Numbers`. Others than numpy's have names of their own: Int64, boolean."""
    return dtype.name in _CODES and getattr(dtype, "isnative", False)


@dataclass(frozen=True, slots=True)
class Range:
    """Row numbers, or labels that were never given."""

    labels: range

    def listed(self) -> list[Any]:
        """As Python objects."""
        return list(self.labels)

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (self.labels,)


@dataclass(frozen=True, slots=True)
class Numbers:
    """A numpy array."""

    array: Any

    def listed(self) -> list[Any]:
        """As Python objects."""
        return self.array.tolist()  # type: ignore[no-any-return]

    def __reduce__(self) -> tuple[Any, ...]:
        import numpy

        array = numpy.ascontiguousarray(self.array)
        return listed_numbers, (lent(array.view(numpy.uint8)), _CODES[array.dtype.name])


@dataclass(frozen=True, slots=True)
class Own:
    """What pandas alone can make into Python objects; and how."""

    array: Any
    listing: Callable[[Any], list[Any]] = listed_pandas

    def listed(self) -> list[Any]:
        """As Python objects."""
        return self.listing(self.array)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.listing, (self.array,)


@dataclass(frozen=True, slots=True)
class Arrow:
    """An Arrow array, and what stands for its nulls."""

    array: Any
    null: Any = None

    def listed(self) -> list[Any]:
        """As Python objects."""
        return listed_arrow(self.array, self.null)


#: A list stands for itself.
Column = Range | Numbers | Own | Arrow | list[Any]


@dataclass(frozen=True, slots=True)
class Slice:
    """Some rows. Unpickled, it is two lists: their keys and their values."""

    n_rows: int
    labels: Column
    #: None where a row is a single value.
    names: tuple[Any, ...] | None
    columns: list[Column]

    def listed(self) -> list[list[Any]]:
        """Keys, and the values of each column: what its records depend on, and nothing else."""
        return [_listed(self.labels), *map(_listed, self.columns)]

    def records(self) -> Columns:
        """Keys and rows."""
        keys, *columns = self.listed()
        return records_of(keys, self.names, columns)

    def __reduce__(self) -> tuple[Any, ...]:
        if self.n_rows * len(self.columns) < _FEW_VALUES:
            keys, *listed = self.listed()
            return records_of, (keys, self.names, listed)
        columns: list[Column] = [self.labels, *self.columns]
        arrows = [column for column in columns if isinstance(column, Arrow)]
        if not arrows:
            return records_of, (self.labels, self.names, self.columns)
        rest = [None if isinstance(column, Arrow) else column for column in columns]
        return _records_with_arrow, (self.names, rest, _batch_of(arrows), tuple(arrow.null for arrow in arrows))


def _listed(column: Column) -> list[Any]:
    return column if isinstance(column, list) else column.listed()


def _batch_of(arrows: list[Arrow]) -> Any:
    import pyarrow

    batch = pyarrow.record_batch([arrow.array for arrow in arrows], names=list(map(str, range(len(arrows)))))
    return lent(batch_stream(batch))


def _records_with_arrow(
    names: tuple[Any, ...] | None, columns: list[list[Any] | None], batch: Buffer, nulls: tuple[Any, ...]
) -> Columns:
    """What `records_of` gives, with the columns of a batch where there is None."""
    loaded = iter(loaded_arrow(batch, nulls))
    keys, *listed = [next(loaded) if column is None else column for column in columns]
    return records_of(keys, names, listed)
