"""A split of a table: parts of files that a worker reads, and rows that were read before.

    Group ──cut, Packed──> TableSplit: Part, Held, Unread ──read, on a worker──> keys, values
                               └──carried──> the same, with Held for each Part

Held are the rows of a file that could not be cut, and of one that a worker does not see.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any

from jmr.errors import SourceError
from jmr.sources.base import Columns, NotHereError, SetAside, Split
from jmr.sources.columns import batch_stream, listed_arrow, rows_of
from jmr.sources.tables.parts import Part, Reading, Stretch, reading_of

__all__ = ["Group", "Packed", "TableSplit", "Unread"]

#: Files in a split, at most.
_MOST_PARTS = 1 << 10


@dataclass(frozen=True)
class Held:
    """Rows that were read before, in Arrow's stream format."""

    path: str
    numbers: Sequence[int]
    content: bytes

    @classmethod
    def of(cls, stretch: Stretch) -> Held:
        """Hold them."""
        return cls(stretch.path, stretch.numbers, bytes(batch_stream(stretch.batch)))

    def read(self, _: Reading) -> Iterator[Stretch]:
        """Its rows."""
        import pyarrow

        with pyarrow.ipc.open_stream(self.content) as reader:
            yield Stretch(self.path, self.numbers, reader.read_next_batch())

    def fingerprint(self) -> tuple[Any, ...]:
        """What it holds."""
        return self.path, self.numbers, hashlib.sha256(self.content, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Unread:
    """What could not be read before."""

    path: str
    error: Exception

    def read(self, _: Reading) -> Iterator[Stretch]:
        """Raise it where it can be told."""
        raise self.error

    def fingerprint(self) -> tuple[Any, ...]:
        """Nothing is kept of it."""
        return self.path, repr(self.error)


@dataclass(frozen=True, slots=True)
class Group:
    """Something that can be cut by rows; or, of one row, cannot."""

    item: Part | Stretch | Unread
    n_rows: int
    n_bytes: int

    def cut(self, n: int) -> tuple[Group, Group | None]:
        """The first `n` rows, and the rest."""
        if n >= self.n_rows:
            return self, None
        n_bytes = self.n_bytes * n // self.n_rows
        first, rest = _cut(self.item, n)
        return Group(first, n, n_bytes), Group(rest, self.n_rows - n, self.n_bytes - n_bytes)


def _cut(item: Part | Stretch | Unread, n: int) -> tuple[Part | Stretch, Part | Stretch]:
    if isinstance(item, Part):
        return replace(item, stop=item.start + n), replace(item, start=item.start + n)
    assert isinstance(item, Stretch)
    numbers, batch = item.numbers, item.batch
    return Stretch(item.path, numbers[:n], batch.slice(0, n)), Stretch(item.path, numbers[n:], batch.slice(n))


class Packed:
    """What the next split will have."""

    def __init__(self) -> None:
        self.items: list[Part | Stretch | Unread] = []
        self.n_rows = self.n_bytes = 0

    def add(self, group: Group) -> None:
        """Have one more."""
        self.items.append(group.item)
        self.n_rows += group.n_rows
        self.n_bytes += group.n_bytes

    def is_full(self, most_bytes: int, most_rows: int) -> bool:
        """Whether it is large enough."""
        return self.n_bytes >= most_bytes or self.n_rows >= most_rows or len(self.items) >= _MOST_PARTS

    def split(self, reading: bytes) -> TableSplit:
        """The split; `reading` is pickled."""
        items = tuple(Held.of(item) if isinstance(item, Stretch) else item for item in self.items)
        return TableSplit(items, reading, self.n_bytes)


@dataclass(frozen=True)
class TableSplit(Split):
    """Some rows of some files."""

    items: tuple[Part | Held | Unread, ...]
    #: Pickled, a `Reading`.
    reading: bytes
    n_bytes: int | None

    def read(self, set_aside: SetAside, /) -> Columns:
        """Read one file after the other: of one that cannot be read, nothing counts."""
        reading = reading_of(self.reading)
        keys: list[Any] = []
        values: list[Any] = []
        for item in self.items:
            try:
                stretches = [_records_of(found, by_row=reading.by_row) for found in item.read(reading)]
            except (NotHereError, MemoryError):
                raise
            except Exception as error:  # Arrow has many
                set_aside(item.path, error, len(keys))
                continue
            for more_keys, more_values in stretches:
                keys += more_keys
                values += more_values
        return keys, values

    def carried(self) -> TableSplit:
        """With what the files hold of these rows."""
        reading = reading_of(self.reading)
        return replace(self, items=tuple(held for item in self.items for held in _held(item, reading)))

    def fingerprint(self) -> str:
        """Paths, sizes and times of the files, and what is read of them."""
        reading = reading_of(self.reading)
        told = reading.columns, str(reading.filter), str(reading.schema), reading.by_row, reading.batch_rows
        return repr((type(reading.format).__name__, told, [item.fingerprint() for item in self.items]))


def _held(item: Part | Held | Unread, reading: Reading) -> Iterator[Held | Unread]:
    if not isinstance(item, Part):
        yield item
        return
    try:
        found = list(item.read(reading))
    except NotHereError as error:
        yield Unread(item.path, SourceError(f"it has changed since the job began, or is gone: {error}"))
    except Exception as error:  # the worker will tell
        yield Unread(item.path, error)
    else:
        yield from map(Held.of, found)


def _records_of(stretch: Stretch, *, by_row: bool) -> Columns:
    """Rows as ((path, number), dict); else one record, ((path, number of its first row), batch)."""
    if not by_row:
        return [(stretch.path, stretch.numbers[0])], [stretch.batch]
    names = tuple(stretch.batch.schema.names)
    keys = list(zip(repeat(stretch.path), stretch.numbers))  # one of them has no end
    return keys, rows_of(names, list(map(listed_arrow, stretch.batch.columns))) if names else [{} for _ in keys]
