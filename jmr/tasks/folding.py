"""Folds the values of a key with the user's combinefn, a few dozen at a time.

    values of a key ──32 are there──> Folder.fold ──> one value

Where combinefn is nothing but a sum, the most common one, the loop that calls mapfn adds up by itself: a dict of sums
takes two thirds of the time of a dict of lists.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from types import FunctionType
from typing import Any

from jmr.tasks.contract import Failures, checked_fold, is_of_user_code
from jmr.tasks.partition import Groups, place

__all__ = ["FOLDED_AT", "NOWHERE", "AtGroup", "CarefulFolder", "Combinefn", "Folder", "is_group"]

Combinefn = Callable[[Any, list[Any]], Any]
#: Tells that combinefn is given a group: its number, key and values. NOWHERE when that is over, with None and nothing.
AtGroup = Callable[[int, Any, list[Any]], None]
#: At no record and no group.
NOWHERE = -1
#: A list of this many values is folded: long enough to make the calls cheap, short enough to stay in the cache.
FOLDED_AT = 32
#: Of a key's place: what every message can carry.
_60_BITS = (1 << 60) - 1


def _is_sum(combinefn: Combinefn) -> bool:
    """Whether a function does `return sum(values)`, by its bytecode, and nothing else.

    Examples
    --------
    >>> _is_sum(lambda word, counts: sum(counts)), _is_sum(lambda word, counts: sum(counts) + 1)
    (True, False)
    """
    if type(combinefn) is not FunctionType:
        return False
    code = combinefn.__code__
    return (
        code.co_code == _sum.__code__.co_code
        and code.co_names == ("sum",)
        and (code.co_argcount, code.co_kwonlyargcount, code.co_nlocals) == (2, 0, 2)
        and combinefn.__globals__.get("sum", builtins.sum) is builtins.sum
    )


def _sum(_key: Any, values: Any) -> Any:
    return sum(values)


class Folder:
    """Folds the values of a key into one, in place, with the user's combinefn."""

    def __init__(self, combinefn: Combinefn, failures: Failures) -> None:
        self._combinefn = combinefn
        self.is_sum = _is_sum(combinefn)
        self._failures = failures
        #: Values that were folded away by `fold`.
        self.n_folded = 0
        #: Of groups that are set aside: `id` of their list.
        self.failed: set[int] = set()

    def fold(self, key: Any, values: list[Any]) -> None:
        """Leave one value; of a group that is set aside, None."""
        # A list of its own: combinefn may return, keep, or empty the one that it is given.
        taken = values.copy()
        folded = None
        if id(values) not in self.failed:
            try:
                folded = checked_fold(self._combinefn(key, taken))
            except BaseException as error:
                if not is_of_user_code(error):
                    raise
                self._failures.add("combine", key, values, error)
                self.failed.add(id(values))
        self.n_folded += len(values) - 1
        values[:] = [folded]

    def fold_all(self, groups: Groups) -> None:
        """Leave one value of each group; counts nothing."""
        n_folded = self.n_folded
        for key, values in groups.items():
            self.fold(key, values)
        self.n_folded = n_folded


class CarefulFolder(Folder):
    """Tells which group combinefn is given, in case that it ends the process; leaves out groups that did."""

    def __init__(
        self, combinefn: Combinefn, failures: Failures, at_group: AtGroup, leave_out: AbstractSet[int]
    ) -> None:
        super().__init__(combinefn, failures)
        self._at_group = at_group
        self._leave_out = leave_out

    def fold(self, key: Any, values: list[Any]) -> None:
        """As a Folder does."""
        number = _number_of(key)
        if number in self._leave_out:
            self.failed.add(id(values))
        if number == NOWHERE or id(values) in self.failed:
            super().fold(key, values)
            return
        self._at_group(number, key, values)
        super().fold(key, values)
        self._at_group(NOWHERE, None, [])


def _number_of(key: Any) -> int:
    """The same for the same key, whatever the records before it were; below NOWHERE, as records have the numbers above.

    NOWHERE where equal keys may have different places.
    """
    where = place(key)
    return NOWHERE if where is None else NOWHERE - 1 - (where & _60_BITS)


def is_group(index: int) -> bool:
    """Whether this is the number of a group that combinefn was given in a map task.

    Examples
    --------
    >>> is_group(_number_of("duck")), is_group(5), is_group(NOWHERE)
    (True, False, False)
    """
    return index < NOWHERE
