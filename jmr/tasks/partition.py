"""Which partition a key belongs to, and the dict that a slot groups its pairs in.

A map task groups first and places afterwards, so that a key costs its place once per task and not once per pair:

    pair --> Groups[key].append(value)       every pair: a plain dict lookup
                 └── a key not seen yet:     refuse identity keys, let NaNs meet
    Groups --> split_by_partition(keys, n)   every distinct key: place(key) % n

A key whose place cannot be told goes to partition 0, and the caller reduces everything in a single partition: slower,
never wrong.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

from jmr.tasks.places import TOKENS, IdentityKeyError, place, places

__all__ = ["TOKENS", "Groups", "IdentityKeyError", "place", "split_by_partition"]


def split_by_partition(keys: Iterable[Hashable], n_partitions: int) -> tuple[list[list[int]], bool]:
    """Deal keys out to partitions, by their positions.

    Parameters
    ----------
    keys
        Distinct keys, such as a `Groups`. Read once.
    n_partitions
        At least 1.

    Returns
    -------
        For each partition the positions of its keys, ascending; and whether any key has no stable place. Such keys
        are put in partition 0, and the job must be reduced as one partition.

    Raises
    ------
    IdentityKeyError, TypeError
        As `place` does.

    Examples
    --------
    >>> split_by_partition(["duck", "goose", "swan", ("duck", 1)], 2)
    ([[1, 2], [0, 3]], False)
    >>> split_by_partition(["duck", range(3)], 2)
    ([[1], [0]], True)
    """
    partitions: list[list[int]] = [[] for _ in range(n_partitions)]
    adders = [positions.append for positions in partitions]
    unstable = False
    for position, where in enumerate(places(list(keys))):
        if where is None:
            unstable = True
            adders[0](position)
        else:
            adders[where % n_partitions](position)
    return partitions, unstable


class Groups(dict[Hashable, list[Any]]):
    """The values of each key, in the order they came; keys in order of first appearance.

    Write and look up with `groups[key]`: a key not seen yet gets an empty list. Of equal keys the object seen first
    stays. All NaNs are one key, of whatever numeric type, also inside tuples, frozensets and dataclasses: to a plain
    dict each unpickled NaN is a key of its own. (`in` and `get` are the plain dict's, and do not know that.)

    Raises
    ------
    IdentityKeyError
        By `groups[key]`, if the key, or something inside it, is equal only to itself.
    TypeError
        By `groups[key]`, if the key is not hashable: Python's own error.

    Examples
    --------
    >>> groups = Groups()
    >>> for key, value in [("a", 1), (float("nan"), 2), ("a", 3), (float("nan"), 4)]:
    ...     groups[key].append(value)
    >>> groups
    {'a': [1, 3], nan: [2, 4]}
    """

    __slots__ = ("_firsts",)

    def __init__(self) -> None:
        super().__init__()
        self._firsts: dict[Hashable, Hashable] = {}

    def clear(self) -> None:
        """Forget all keys, NaNs included."""
        super().clear()
        self._firsts.clear()

    def __missing__(self, key: Hashable) -> list[Any]:
        token_of = TOKENS[type(key)]
        if token_of is not None:
            token = token_of(key)
            if token is not None:
                first = self._firsts.setdefault(token, key)
                if first is not key:
                    return self[first]  # a dict finds the very same object, whatever NaN is in it
        values: list[Any] = []
        self[key] = values
        return values
