"""Any object to a digest that depends on its value alone.

    items ──simple──> marshal's bytes ───────────────────────────────┐
          └─ else ──take_apart──> Parts: kind, items, raw bytes      ├──> SHA-256
                                   └── printed in the same way ──> a digest

A simple item is a str, a number, bytes, or a list, tuple or dict of such ones, by exact type. What marshal's format 2
writes of it depends on its value alone: it has no references, and does not know of interned strings. Items are written
one after another, and each tells where it ends, so it does not matter how they were batched.

Whatever else there is gets a digest of its own, made once where it is met more than once: so that it costs no more, and
prints no other than a copy. What leads back to itself is the exception. Inside of a cycle, an object that was met
before is told by how far back that was: how it is shared is a part of a cyclic value.

Must not depend on where an object lies, on what else there is, nor on the order inside a set.
"""

from __future__ import annotations

import hashlib
import itertools
import marshal
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jmr.codec.values import PLAIN_TYPES, Buffer

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["DIGEST_BYTES", "Parts", "Printer", "new_hash"]

#: Of 32: no two things in the world will meet by accident, and whoever could make them meet writes the code that runs.
DIGEST_BYTES = 16
#: The first without references, and with floats as they are.
_FORMAT = 2
#: What a list takes in that format, before its items.
_LIST_HEAD = 5
_SINGLE = PLAIN_TYPES | {complex, type(...)}
_SEVERAL = frozenset({tuple, list, dict})
_SIMPLE = _SINGLE | _SEVERAL
_SIZED = frozenset({str, bytes})
_SHORT = _SINGLE - _SIZED
#: Of these, all of one type can be sorted.
_SORTABLE: tuple[set[type], ...] = ({str}, {int}, {bytes})
#: Items that are looked at and written together: many, but what a kilobyte each makes should stay in a cache.
_AT_ONCE = 1 << 8
#: What is larger, or deeper, is not simple: it could be shared, so that its copies would fill the memory.
_MOST_BYTES, _MOST_ITEMS, _MOST_LEVELS = 1 << 22, 1 << 14, 100
#: No first byte of what marshal writes.
_DIGEST, _BACK, _ACROSS, _WHOLE = b"\x80", b"\x81", b"\x82", b"\x83"
#: Bytes of an object that stand for themselves: to make a digest takes longer than all the rest.
_MOST_WHOLE = 96
#: Objects whose digests are remembered.
_MOST_KNOWN = 1 << 16


def new_hash() -> _Hash:
    """SHA-256: processors have instructions for it, which make it faster than BLAKE2 is without."""
    return hashlib.sha256(usedforsecurity=False)


@dataclass(frozen=True, slots=True)
class Parts:
    """What an object is made of."""

    #: Tells apart what has equal parts.
    kind: str
    items: Sequence[object] = ()
    is_ordered: bool = True
    #: Bytes whose number follows from the items.
    raw: Iterable[Buffer] = ()
    #: So many items to begin with are not like the rest: all of those may be simple.
    n_apart: int = 0


class Printer:
    """Prints objects, as long as nobody changes them meanwhile. Of no more use once it has raised an exception.

    Parameters
    ----------
    take_apart
        Says what an object that is not simple is made of. What it makes for that may be new objects.
    print_alone
        Gives the digest of an object that is to be printed as if it had been met nowhere else; None for all others.

    Examples
    --------
    >>> printer = Printer(lambda obj: Parts("set", list(obj), is_ordered=False))
    >>> printer.print_of({1, 2.0, "a"}) == Printer(lambda obj: Parts("set", list(obj), is_ordered=False)).print_of(
    ...     {"a", 2.0, 1}
    ... )
    True
    """

    def __init__(
        self,
        take_apart: Callable[[object], Parts],
        print_alone: Callable[[object], bytes | None] = lambda _: None,
    ) -> None:
        self._take_apart = take_apart
        self._print_alone = print_alone
        #: By id, with the object, whose id nobody else gets meanwhile: those that lead into no cycle, ...
        self._known: dict[int, tuple[object, bytes]] = {}
        #: ... those that do, but not out of themselves, ...
        self._known_cyclic: dict[int, tuple[object, bytes]] = {}
        #: ... and those that lead to one which is not done yet: how many there were before, and to which.
        self._unfinished: dict[int, tuple[object, int, _Lead]] = {}
        #: By its depth, if there are such that lead to it.
        self._leads: dict[int, _Lead] = {}
        #: How deep those lie that are not done yet.
        self._open: dict[int, int] = {}
        #: The outermost open object that the innermost one leads to, by its depth.
        self._reach = 0
        self._is_cyclic = False
        #: Of what `_at_once` had no answer for.
        self._parts = Parts("")

    def print_of(self, obj: object) -> bytes:
        """The digest of one object."""
        digest = new_hash()
        self.write([obj], digest)
        return digest.digest()[:DIGEST_BYTES]

    def write(self, items: Sequence[object], to: _Hash, kinds: set[type] | None = None) -> None:
        """Add items to a digest; `kinds` are their types, at most, if somebody knows."""
        for start in range(0, len(items), _AT_ONCE):
            some = items[start : start + _AT_ONCE]
            if _are_simple(some, set(map(type, some)) if kinds is None else kinds):
                to.update(_simply(some))
                continue
            for item in some:
                self._known_cyclic.clear()  # or else it would matter what was printed together
                to.update(self._at_once(item) or self._walked(item))

    def forget(self) -> None:
        """Objects may change from here on."""
        self._known.clear()
        self._known_cyclic.clear()

    def _at_once(self, item: object) -> bytes | None:
        """What is written of an item; None if it must be visited first."""
        written = self._already(item)
        if written is None:
            parts = self._parts = self._take_apart(item)
            if not parts.raw and len(parts.items) <= _MOST_WHOLE:
                written = self._as_leaf(item, parts)
        return written

    def _already(self, item: object) -> bytes | None:
        """What is written of an item that is simple, or has been met before."""
        kind = type(item)
        if kind in _SHORT or (kind in _SIMPLE and _are_simple([item], {kind})):
            return marshal.dumps(item, _FORMAT)  # type: ignore[arg-type]
        at = id(item)
        if (known := self._known.get(at)) is not None:
            return known[1]
        if (known := self._known_cyclic.get(at)) is not None:
            self._is_cyclic = True
            return known[1]
        if at in self._open:
            self._reach = min(self._reach, self._open[at])
            self._is_cyclic = True
            return _BACK + _number(len(self._open) - self._open[at])
        if at in self._unfinished:
            _, n_before, lead = self._unfinished[at]
            self._reach = min(self._reach, lead.depth())
            self._is_cyclic = True
            return _ACROSS + _number(len(self._unfinished) - n_before)
        alone = self._print_alone(item)
        return None if alone is None else _DIGEST + alone

    def _as_leaf(self, obj: object, parts: Parts) -> bytes | None:
        """What is written of an object that holds nothing but what is short and simple: as by a visit, but sooner."""
        rest = parts.items[parts.n_apart :]
        if not parts.is_ordered or not _are_simple(rest, set(map(type, rest))):
            return None
        was_cyclic, self._is_cyclic = self._is_cyclic, False
        pieces = [self._already(item) for item in parts.items[: parts.n_apart]]
        written = None
        if not any(piece is None or piece[:1] in (_BACK, _ACROSS) for piece in pieces):
            start = b"".join((_start_of(parts), *pieces, _simply(rest)))  # type: ignore[arg-type]
            if len(start) <= _MOST_WHOLE:
                written = _whole(start)
                self._remember(obj, written)
        self._is_cyclic |= was_cyclic
        return written

    def _walked(self, root: object) -> bytes:
        """Visit an object, and all in it that must be: not by recursion, for lists may be linked and trees deep."""
        visits = [self._enter(root, self._parts)]
        while True:
            visit = visits[-1]
            if self._advance(visit):
                visits.append(self._enter(visit.item, self._parts))
                continue
            written = self._leave(visits.pop())
            if not visits:
                return written
            visits[-1].add(written)

    def _enter(self, obj: object, parts: Parts) -> _Visit:
        visit = _Visit(obj, parts, len(self._unfinished), self._reach, self._is_cyclic)
        self._open[id(obj)] = self._reach = len(self._open)
        self._is_cyclic = False
        return visit

    def _advance(self, visit: _Visit) -> bool:
        """Add to an object's digest what is in it; True on the way if an item, `visit.item`, must be visited first."""
        items = visit.items
        while visit.n_added < len(items):
            if visit.loose is None and visit.n_added == visit.n_looked_at:
                some = items[visit.n_added : visit.n_added + _AT_ONCE]
                visit.n_looked_at += len(some)
                if _are_simple(some, set(map(type, some))):
                    visit.add(_simply(some))
                    visit.n_added = visit.n_looked_at
                    continue
            visit.item = items[visit.n_added]
            visit.n_added += 1
            written = self._at_once(visit.item)
            if written is None:
                return True
            visit.add(written)
        return False

    def _leave(self, visit: _Visit) -> bytes:
        written = visit.written()
        del self._open[id(visit.obj)]
        to_this = self._leads.pop(len(self._open), None)
        if self._reach < len(self._open):
            lead = self._leads.setdefault(self._reach, _Lead(self._reach))
            if to_this is not None:
                to_this.goes_on = lead
            self._unfinished[id(visit.obj)] = visit.obj, len(self._unfinished), lead
        else:
            while len(self._unfinished) > visit.n_unfinished:
                self._unfinished.popitem()
            self._remember(visit.obj, written)
        self._reach = min(visit.outer_reach, self._reach)
        self._is_cyclic |= visit.was_cyclic
        return written

    def _remember(self, obj: object, written: bytes) -> None:
        known = self._known_cyclic if self._is_cyclic else self._known
        if len(known) >= _MOST_KNOWN:
            known.clear()
        known[id(obj)] = obj, written


class _Lead:
    """To an open object of some depth; or to one that was, and from there to one further out."""

    __slots__ = ("_depth", "goes_on")

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self.goes_on: _Lead | None = None

    def depth(self) -> int:
        """Of the object that is open still; what was passed on the way need not be passed again."""
        end = self
        while end.goes_on is not None:
            end = end.goes_on
        lead: _Lead = self
        while lead.goes_on is not None:
            lead.goes_on, lead = end, lead.goes_on
        return end._depth


class _Visit:
    """An object whose digest is being made."""

    __slots__ = (
        "digest",
        "item",
        "items",
        "loose",
        "n_added",
        "n_looked_at",
        "n_unfinished",
        "obj",
        "outer_reach",
        "raw",
        "start",
        "was_cyclic",
    )

    def __init__(self, obj: object, parts: Parts, n_unfinished: int, outer_reach: int, was_cyclic: bool) -> None:
        self.obj = obj
        self.items, self.raw = parts.items, parts.raw
        self.n_unfinished, self.outer_reach, self.was_cyclic = n_unfinished, outer_reach, was_cyclic
        #: How many items are in the digest, and of how many it was found out whether they are simple.
        self.n_added, self.n_looked_at = 0, parts.n_apart
        self.item: object = None
        #: What was written of items that have no order.
        self.loose: list[bytes] | None = None
        if not parts.is_ordered:
            if set(map(type, parts.items)) in _SORTABLE:
                self.items = sorted(parts.items)  # type: ignore[type-var]
            else:
                self.loose = []
        self.start = _start_of(parts)
        #: Made when there is more than it would be shorter than.
        self.digest: _Hash | None = None

    def add(self, written: Buffer) -> None:
        """Add what was written of an item, or of some that have an order."""
        if self.loose is None:
            self._feed(written)
        else:
            self.loose.append(bytes(written))

    def written(self) -> bytes:
        """What is written of the object, when all of its items have been added."""
        if self.loose is not None:
            self._feed(b"".join(sorted(self.loose)))
        for raw in self.raw:
            self._feed(raw)
        if self.digest is None:
            return _whole(self.start)
        return _DIGEST + self.digest.digest()[:DIGEST_BYTES]

    def _feed(self, piece: Buffer) -> None:
        if self.digest is None:
            if len(self.start) + len(piece) <= _MOST_WHOLE:
                self.start += piece
                return
            self.digest = new_hash()
            self.digest.update(self.start)
        self.digest.update(piece)


def _start_of(parts: Parts) -> bytes:
    return marshal.dumps((parts.kind, len(parts.items)), _FORMAT)


def _whole(written: bytes) -> bytes:
    return _WHOLE + bytes((len(written),)) + written


def _simply(items: Sequence[object]) -> memoryview:
    return memoryview(marshal.dumps(list(items), _FORMAT))[_LIST_HEAD:]


def _are_simple(items: Sequence[object], kinds: set[type]) -> bool:
    """Whether marshal writes what these are, and no more than is good; true of some items only if of each alone."""
    n_bytes = n_items = 0
    for _ in range(_MOST_LEVELS):
        if not kinds <= _SIMPLE:
            return False
        if kinds & _SIZED:
            sized = items if kinds <= _SIZED else [item for item in items if type(item) in _SIZED]
            n_bytes += sum(map(len, sized))  # type: ignore[arg-type]
        if kinds.isdisjoint(_SEVERAL):
            return n_bytes <= _MOST_BYTES
        several = [item for item in items if type(item) in _SEVERAL]
        n_items += sum(map(len, several))  # type: ignore[arg-type]
        if n_bytes > _MOST_BYTES or n_items > _MOST_ITEMS:
            return False
        dicts = [item.values() for item in several if type(item) is dict] if dict in kinds else []
        items = list(itertools.chain(*several, *dicts))  # type: ignore[arg-type]
        kinds = set(map(type, items))
    return False


def _number(n: int) -> bytes:
    return n.to_bytes(8, "little")
