"""Any source as records.

    whatever the user passes ──records()──> Records: (key, value) pairs, one by one, and how many if that is known
                                            or splits, which workers read: a `Source`

A mapping gives its items. So does an object that only has `__iter__` and `__getitem__` and is no sequence or array:
octo.py's rule, by which a value may be loaded when it is asked for. Everything else is iterated and must yield pairs.

The source is read once, lazily, in the thread that iterates; its own exceptions pass through untouched.
"""

from __future__ import annotations

import itertools
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jmr.errors import SourceError, describe
from jmr.sources.base import Columns, SetAside, Source, Split, is_source, read_pairs, splits_of

if TYPE_CHECKING:
    from jmr.sources.frames import Rows

__all__ = ["Block", "Record", "Records", "records"]

Record = tuple[Any, Any]
#: Records of a list or dict that are read at once: few to begin with, since somebody waits for the first.
_LEAST_BLOCK, _MOST_BLOCK = 16, 1 << 12
#: Who has a frame has imported its library.
_LIBRARIES = ("pandas", "polars", "pyarrow")
#: Most blocks to have ready: a million records, of which a block holds no more than two pointers each.
_MOST_AHEAD = 256


@dataclass(frozen=True, slots=True)
class Block:
    """Some records, in two columns, and of what types the values in each are, at most."""

    keys: list[Any]
    values: list[Any]
    kinds: tuple[set[type], set[type]]

    def __getitem__(self, chosen: slice) -> Block:
        return Block(self.keys[chosen], self.values[chosen], self.kinds)


@dataclass(slots=True)
class Records:
    """An iterator of records, with what is known beforehand."""

    #: To be read one by one.
    pairs: Iterator[Record]
    #: None where only reading to the end can tell.
    n_records: int | None
    #: To be read many at a time instead; None where a record may not stay as it is after the next one was read. An
    #: iterator may refill one buffer; a list or dict does not.
    blocks: Iterator[Block] | None = None
    #: To be cut by rows instead: a frame's. `blocks` may be asked all the same, and has none.
    rows: Rows | None = None
    #: To be read by workers instead, each a map task of its own; `pairs` reads the same here.
    splits: Iterator[Split] | None = None
    #: Of what those read in all, about; None where nobody can tell.
    n_bytes: int | None = None
    #: About how much the next one should read; None leaves that to the source.
    wanted_bytes: int | None = None
    #: What was read of `blocks`, and how much of the first is over.
    _ahead: deque[Block] = field(default_factory=deque)
    _n_skipped: int = 0

    def read_ahead(self) -> bool:
        """Have one more block ready; False if there is none, or there are enough."""
        block = None if self.blocks is None or len(self._ahead) >= _MOST_AHEAD else next(self.blocks, None)
        if block is not None:
            self._ahead.append(block)
        return block is not None

    def peek(self, n: int) -> Block | None:
        """The next records of `blocks`, one to `n`, which stay the next; None at the end."""
        if not self._ahead and not self.read_ahead():
            return None
        block = self._ahead[0]
        is_whole = not self._n_skipped and len(block.keys) <= n
        return block if is_whole else block[self._n_skipped : self._n_skipped + n]

    def skip(self, n: int) -> None:
        """Be done with as many of the records that `peek` gave."""
        self._n_skipped += n
        if self._n_skipped == len(self._ahead[0].keys):
            self._ahead.popleft()
            self._n_skipped = 0


def records(source: Any, set_aside: SetAside | None = None) -> Records:
    """Find out how to read a source; reads nothing yet.

    Parameters
    ----------
    source
        Whatever the user passes.
    set_aside
        Given what `pairs` cannot read of a `Source`. Default: that raises SourceError.

    Raises
    ------
    SourceError
        The source cannot be iterated (at once), or yields something that is no pair (when that is reached).

    Examples
    --------
    >>> list(records({"a": 1, "b": 2}).pairs)
    [('a', 1), ('b', 2)]
    >>> list(records(zip("ab", [1, 2])).pairs)
    [('a', 1), ('b', 2)]
    """
    if is_source(source):  # perhaps a dict of files
        return _in_splits(source, set_aside)
    if _is_read_as(source, dict, "items"):
        return _in_blocks(_columns_of_dict(source), source)
    if any(library in sys.modules for library in _LIBRARIES) and (found := _rows_of(source)) is not None:
        return found
    if isinstance(source, Mapping):
        return Records(iter(source.items()), _length(source))
    if hasattr(source, "keys") and hasattr(source, "__getitem__"):
        return Records(_items(source, source.keys()), _length(source))
    if _is_lazy_mapping(source):
        return Records(_items(source, source), _length(source))
    if isinstance(source, (str, bytes, bytearray)):
        raise SourceError(
            f"source is {describe(source, 60)} ({type(source).__name__}), and its characters are no (key, value) "
            "pairs: pass a dict or an iterable of pairs, such as enumerate(lines)"
        )
    try:
        iterator = iter(source)
    except TypeError as error:
        raise SourceError(
            f"source is {describe(source)} ({type(source).__name__}), which cannot be iterated: pass a dict, or an "
            "iterable of (key, value) pairs"
        ) from error
    if any(_is_read_as(source, plain, "__iter__") for plain in (list, tuple, deque)):
        return _in_blocks(_columns_of_list(iterator), source)
    return Records(_pairs(iterator), _length(source))


def _in_splits(source: Source, set_aside: SetAside | None) -> Records:
    found = Records(iter(()), None, n_bytes=getattr(source, "n_bytes", None))
    found.splits = splits_of(source, lambda: found.wanted_bytes)
    found.pairs = read_pairs(found.splits, set_aside)
    return found


def _rows_of(source: Any) -> Records | None:
    """The rows of a frame; None if the source is none."""
    from jmr.sources.frames import frame_rows  # few have a frame

    rows = frame_rows(source)
    return None if rows is None else Records(_pairs_of(rows), rows.n_rows, blocks=iter(()), rows=rows)


def _pairs_of(rows: Rows) -> Iterator[Record]:
    while (part := rows.peek(_MOST_BLOCK)) is not None:
        yield from zip(*part.records(), strict=True)
        rows.skip(part.n_rows)


def _in_blocks(columns: Iterator[Columns], source: Any) -> Records:
    pairs = itertools.chain.from_iterable(itertools.starmap(zip, columns))
    return Records(pairs, _length(source), itertools.starmap(_block, columns))


def _block(keys: list[Any], values: list[Any]) -> Block:
    return Block(keys, values, (set(map(type, keys)), set(map(type, values))))


def _is_read_as(source: Any, plain: type, method: str) -> bool:
    """Whether it is such a container, and its records come out by that container's own method."""
    return isinstance(source, plain) and getattr(type(source), method) is getattr(plain, method)


def _is_lazy_mapping(source: Any) -> bool:
    if isinstance(source, (Sequence, type)) or hasattr(source, "__array__") or hasattr(source, "__array_interface__"):
        return False
    if not (hasattr(source, "__iter__") and hasattr(source, "__getitem__")):
        return False
    try:
        memoryview(source)
    except TypeError:
        return not isinstance(source, deque)
    return False


def _length(source: Any) -> int | None:
    try:
        return len(source)
    except Exception:  # it has none, or does not want to say
        return None


def _items(source: Any, keys: Iterable[Any]) -> Iterator[Record]:
    for key in keys:
        try:
            value = source[key]
        except StopIteration as error:  # in a generator it would end up as a RuntimeError that names nothing
            raise SourceError(f"source[{describe(key)}] raised StopIteration") from error
        yield key, value


def _block_sizes() -> Iterator[int]:
    size = _LEAST_BLOCK
    while True:
        yield size
        size = min(4 * size, _MOST_BLOCK)


def _columns_of_dict(source: dict[Any, Any]) -> Iterator[Columns]:
    keys, values = iter(dict.keys(source)), iter(dict.values(source))
    for size in _block_sizes():
        block = list(itertools.islice(keys, size)), list(itertools.islice(values, size))
        if not block[0]:
            return
        yield block


def _columns_of_list(iterator: Iterator[Any]) -> Iterator[Columns]:
    """What a list holds; checked together, pairs cost half as much as one by one."""
    n_before = 0
    for size in _block_sizes():
        block = list(itertools.islice(iterator, size))
        if not block:
            return
        columns = _unzipped(block)
        if columns is not None:
            yield columns
        else:
            yield from _one_by_one(block, n_before)
        n_before += len(block)


def _unzipped(block: list[Any]) -> Columns | None:
    """None unless all are tuples of two."""
    if set(map(type, block)) != {tuple}:
        return None
    try:
        return [key for key, _ in block], [value for _, value in block]
    except ValueError:
        return None


def _one_by_one(block: list[Any], n_before: int) -> Iterator[Columns]:
    """The records, up to the first that is no pair."""
    keys: list[Any] = []
    values: list[Any] = []
    try:
        for key, value in _pairs(iter(block), n_before):
            keys.append(key)
            values.append(value)
    except BaseException:
        if keys:
            yield keys, values
        raise
    yield keys, values


def _pairs(iterator: Iterator[Any], n_before: int = 0) -> Iterator[Record]:
    for index, record in enumerate(iterator, n_before):
        if type(record) is tuple and len(record) == 2:
            yield record
        else:
            yield _as_pair(index, record)


def _as_pair(index: int, record: Any) -> Record:
    if not isinstance(record, (str, bytes, bytearray, Mapping, AbstractSet)):
        try:
            key, value = record
        except (TypeError, ValueError):
            pass
        else:
            return key, value
    if isinstance(record, (list, tuple)):
        advice = "make it two, such as (key, (all, the, rest)), or number the rows: enumerate(rows)"
    else:
        advice = "for plain values, pass enumerate(values)"
    raise SourceError(
        f"source yielded {describe(record)} ({type(record).__name__}) as record number {index}, which is no "
        f"(key, value) pair; {advice}"
    )
