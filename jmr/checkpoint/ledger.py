"""What a journal says: where splits end, and what was kept of map and reduce tasks.

    entries ──take──> Ledger ──> next_cut(position), maps, results, run

Pure: no file is looked at. Whether what was kept is still there, and whole, is for others to find out.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable

from jmr.checkpoint.journal import Cut, Ended, Entry, Header, KeptClass, KeptMap, KeptResult, Run

__all__ = ["Ledger", "key_of"]

_DIGEST_BYTES = 16


def key_of(*parts: str) -> str:
    """One key for all that something depends on, in order.

    Examples
    --------
    >>> key_of("ab", "c") == key_of("a", "bc")
    False
    """
    told = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.blake2b(told.encode(), digest_size=_DIGEST_BYTES).hexdigest()


class Ledger:
    """All that is known of a checkpoint.

    Examples
    --------
    >>> run = Run(1, "words", began=0.0, n_partitions=8, mapping="m")
    >>> ledger = Ledger([run, Cut(10), Cut(30), Cut(60), run, Cut(10), Cut(25), run])
    >>> ledger.next_cut(0), ledger.next_cut(10), ledger.next_cut(25), ledger.next_cut(60)
    (10, 25, 30, None)
    """

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.header: Header | None = None
        #: The last one.
        self.run: Run | None = None
        #: Whether it has given its result.
        self.has_ended = False
        #: By identity.
        self.classes: dict[str, KeptClass] = {}
        #: By key.
        self.maps: dict[str, KeptMap] = {}
        #: By key, and then by the partitions that they come from.
        self.results: dict[str, dict[tuple[int, ...], KeptResult]] = {}
        #: Where splits end: of this run, and of those before it that had the same map tasks; these by `Run.mapping`.
        self._cuts: list[int] = []
        self._older_cuts: dict[str, list[int]] = {}
        for entry in entries:
            self.take(entry)

    def take(self, entry: Entry) -> None:
        """Learn one thing more."""
        match entry:
            case Header():
                self.header = entry
            case Run():
                if self.run is not None:
                    self._older_cuts[self.run.mapping] = self._all_cuts(self.run.mapping)
                self.run = entry
                self.has_ended = False
                self._cuts = []
            case KeptClass():
                self.classes[entry.identity] = entry
            case Cut(end):
                self._cuts.append(end)
            case KeptMap():
                self.maps[entry.key] = entry
            case KeptResult():
                self.results.setdefault(entry.key, {})[entry.partitions] = entry
            case Ended():
                self.has_ended = True

    def _all_cuts(self, mapping: str) -> list[int]:
        """As this run has cut, and beyond the point that it has reached, as those before it did."""
        older = self._older_cuts.get(mapping, [])
        reached = self._cuts[-1] if self._cuts else 0
        return self._cuts + older[bisect_right(older, reached) :]

    def has_mapped(self, mapping: str) -> bool:
        """Whether an earlier run had the map tasks of `Run.mapping`."""
        return mapping in self._older_cuts or (self.run is not None and self.run.mapping == mapping)

    def next_cut(self, position: int) -> int | None:
        """Where a split ended that began with the source's record of this number, or before it.

        None if there was none, in earlier runs with the same map tasks as this one's.
        """
        older = [] if self.run is None else self._older_cuts.get(self.run.mapping, [])
        index = bisect_right(older, position)
        return older[index] if index < len(older) else None
