"""Groups that are larger than all the memory of a host: noticed before they are whole, named, and left out.

    batches ──merge, watched──> the memory is full: let go of all
    batches ──weighed, one after another──> what each group would take ──too much──> told; set aside, or the end
    batches ──merge without those──> groups

How much pickled values will take cannot be told from their bytes. So nothing is guessed: what the process has is
measured while it grows, and what it had grown by when it was full says what the rest would take.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import repeat
from sys import getsizeof
from typing import Any, NamedTuple, Protocol, TypeAlias

from jmr.errors import describe
from jmr.tasks.contract import ContractError
from jmr.tasks.partition import Groups

__all__ = [
    "Batch",
    "Memory",
    "MemoryFullError",
    "Scales",
    "Watch",
    "Weighed",
    "told_too_large",
    "told_too_many",
]

#: A look at the memory takes as long as some ten thousand bytes take to be merged.
_BYTES_PER_LOOK = 1 << 22
#: A group is too large if it takes more than this part of what was there when the memory was full.
_FITS = 0.9
#: What a list needs for a value, and an object for which nobody knows.
_POINTER_BYTES, _UNKNOWN_BYTES = 8, 64

#: Of one run of one split: the split, keys, ordinals, positions that failed, lists of values.
Batch: TypeAlias = tuple[int, list[Any], list[int], list[int], list[list[Any]]]


class Memory(Protocol):
    """Of this process, and of its host."""

    def used_bytes(self) -> int:
        """What this process has."""

    def most_bytes(self) -> int | None:
        """What it could have if it were the only one of ours; None where nobody knows."""

    def give_back(self) -> None:
        """Let the host have what this process does not need any more."""


class MemoryFullError(Exception):
    """There is more to merge than the memory holds: so many batches have grown to so many bytes, of at most so many."""

    def __init__(self, n_batches: int, grown_bytes: int, most_bytes: int) -> None:
        super().__init__(n_batches, grown_bytes, most_bytes)


class Watch:
    """Looks at the memory every few megabytes, so never where a task is small."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._n_batches = 0
        self._n_unseen = 0
        self._before = -1
        self._most: int | None = None

    def begin(self, n_bytes: int) -> None:
        """A blob of so many bytes is to be merged."""
        if self._before < 0 and self._n_unseen + n_bytes >= _BYTES_PER_LOOK:
            self._before, self._most = self._memory.used_bytes(), self._memory.most_bytes()

    def look(self, n_bytes: int) -> None:
        """A batch of that blob is merged.

        Raises
        ------
        MemoryFullError
            It has become too much; most of it by what was merged.
        """
        self._n_batches += 1
        self._n_unseen += n_bytes
        if self._n_unseen < _BYTES_PER_LOOK or self._most is None:
            return
        self._n_unseen = 0
        used = self._memory.used_bytes()
        grown = used - self._before
        if used > self._most and grown > self._most // 2:
            raise MemoryFullError(self._n_batches, grown, self._most)


class Weighed(NamedTuple):
    """A group, as large as it would be."""

    key: Any
    n_values: int
    n_bytes: float


class Scales:
    """Weighs groups without holding any; `left_out` are the keys of those that need not be whole."""

    def __init__(self, left_out: Iterable[Any] = ()) -> None:
        #: Of each key how many values it has, and what they weigh.
        self._known = Groups()
        self._left_out = {id(self._known[key]) for key in left_out}

    def without(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Pass on batches; groups that are left out keep their places in them, and count as failed."""
        for split, keys, ordinals, dead, lists in batches:
            out = [place for place, key in enumerate(keys) if id(self._known[key]) in self._left_out]
            for place in out:
                lists[place] = [None]
            yield split, keys, ordinals, [*dead, *out], lists

    def weigh(self, batches: Iterable[Batch], n_merged: int, grown_bytes: int) -> tuple[list[Weighed], float]:
        """Say what groups take, the largest first, when the first `n_merged` batches take that many bytes.

        Also how many bytes a group may have: somewhat less than those.
        """
        total = merged = 0
        for n_batches, (_, keys, _, _, lists) in enumerate(batches, 1):
            for key, values in zip(keys, lists, strict=True):
                weight = sum(map(getsizeof, values, repeat(_UNKNOWN_BYTES))) + _POINTER_BYTES * len(values)
                known = self._known[key] or self._begun(key)
                known[0] += len(values)
                known[1] += weight
                total += weight
            if n_batches == n_merged:
                merged = total
        per_weight = grown_bytes / (merged or total or 1)
        groups = [Weighed(key, known[0], known[1] * per_weight) for key, known in self._known.items() if known]
        return sorted(groups, key=lambda group: -group.n_bytes), _FITS * grown_bytes

    def _begun(self, key: Any) -> list[int]:
        known = self._known[key]
        known += [0, 0]
        return known


def told_too_large(group: Weighed, most_bytes: int) -> ContractError:
    """Say that a group does not fit, and what to do."""
    return ContractError(
        f"the group of key={describe(group.key)} has {group.n_values:,} values, {_size(group.n_bytes)}, and "
        f"a slot of this host can have {_size(most_bytes)}: fold them with a combinefn, or make the key finer"
    )


def told_too_many(groups: list[Weighed], most_bytes: int) -> ContractError:
    """Say that groups that have to be reduced by one slot do not fit together, and what to do."""
    largest = groups[0]
    all_bytes = sum(group.n_bytes for group in groups)
    return ContractError(
        f"{len(groups):,} groups that have to be in memory at once take {_size(all_bytes)}, "
        f"and a slot of this host can have {_size(most_bytes)}; the largest is that of key={describe(largest.key)}, "
        f"with {largest.n_values:,} values, {_size(largest.n_bytes)}: fold them with a combinefn, or use keys of "
        "Python's own types, such as str, int or tuples of them, whose groups can be reduced apart"
    )


def _size(n_bytes: float) -> str:
    return f"about {n_bytes / 1e9:.3g} GB"
