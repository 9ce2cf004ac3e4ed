"""Where records come from.

    whatever the user passes ──records()──> Records: (key, value) pairs, one by one, and how many if that is known

A mapping gives its items. So does an object that only has `__iter__` and `__getitem__` and is no sequence or array:
octo.py's rule, by which a value may be loaded when it is asked for. Everything else is iterated and must yield pairs.

The source is read once, lazily, in the thread that iterates; its own exceptions pass through untouched.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from jmr.errors import SourceError, describe

__all__ = ["Record", "Records", "records"]

Record = tuple[Any, Any]
#: Records of a list that are checked at once.
_BLOCK = 1024


@dataclass(slots=True)
class Records:
    """An iterator of records, with what is known beforehand."""

    pairs: Iterator[Record]
    #: None where only reading to the end can tell.
    n_records: int | None
    #: Whether a record stays as it is after the next one was read. An iterator may refill one buffer; a dict does not.
    settled: bool
    #: Records that were read, and will be taken next.
    _ahead: list[Record] = field(default_factory=list)

    def take(self, n: int) -> list[Record]:
        """Read up to `n` records; fewer at the end. For a source that is settled."""
        taken, self._ahead = self._ahead[:n], self._ahead[n:]
        if len(taken) < n:
            taken += itertools.islice(self.pairs, n - len(taken))
        return taken

    def put_back(self, records: list[Record]) -> None:
        """Have these taken next."""
        self._ahead = records + self._ahead


def records(source: Any) -> Records:
    """Find out how to read a source; reads nothing yet.

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
    if isinstance(source, Mapping):
        return Records(iter(source.items()), _length(source), settled=_is_read_as(source, dict, "items"))
    if hasattr(source, "keys") and hasattr(source, "__getitem__"):
        return Records(_items(source, source.keys()), _length(source), settled=False)
    if _is_lazy_mapping(source):
        return Records(_items(source, source), _length(source), settled=False)
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
    settled = any(_is_read_as(source, plain, "__iter__") for plain in (list, tuple, deque))
    pairs = itertools.chain.from_iterable(_blocks(iterator)) if settled else _pairs(iterator)
    return Records(pairs, _length(source), settled=settled)


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


def _blocks(iterator: Iterator[Any]) -> Iterator[Iterable[Record]]:
    """What a list holds, as pairs, a thousand at a time: checked together they cost half as much."""
    for n_before in itertools.count(0, _BLOCK):
        block = list(itertools.islice(iterator, _BLOCK))
        if not block:
            return
        is_well = set(map(type, block)) == {tuple} and set(map(len, block)) == {2}
        yield block if is_well else _pairs(iter(block), n_before)


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
