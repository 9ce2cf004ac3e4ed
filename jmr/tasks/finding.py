"""One group of a reduce task's input, by its index: for an error that names it, in a process that could not hold all.

batches ──all keys──> the key of that index
batches ──its values alone, up to a bound──> (key, values), or (key,)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain, repeat
from typing import Any

from jmr.codec.values import dump_at_most
from jmr.tasks.partition import Groups
from jmr.tasks.places import places
from jmr.tasks.reduce import Inputs, batches_of

__all__ = ["group_at"]


def group_at(
    inputs: Callable[[], Inputs], n_partitions: int, n_parts: int, index: int, most_bytes: int
) -> tuple[Any, ...] | None:
    """The group of that index, as `run_reduce` counts them: key and values, or the key alone.

    Reads the inputs twice, and holds their keys, the group, and one batch at a time.

    Parameters
    ----------
    inputs
        Reads them.
    n_partitions, n_parts
        As for `deal`.
    index
        From 0.
    most_bytes
        Of the values, pickled: if they are more, they are left out.
    """
    known, keys = _keys(inputs(), n_partitions, n_parts)
    if index >= len(keys):
        return None
    wanted = known[keys[index]]
    values: list[Any] = []
    left = most_bytes
    for _, some, _, _, lists in batches_of(inputs()):
        for key, more in zip(some, lists, strict=True):
            if known[key] is not wanted:
                continue
            blob = dump_at_most(more, left)
            if blob is None:
                return (keys[index],)
            left -= len(blob)
            values += more
    return keys[index], values


def _keys(inputs: Inputs, n_partitions: int, n_parts: int) -> tuple[Groups, list[Any]]:
    """Each key's part, in a list of its own; and the keys, part by part, in order of first appearance."""
    known = Groups()
    members: list[list[Any]] = [[] for _ in range(n_parts)]
    for _, keys, _, _, _ in batches_of(inputs):
        for key, part in zip(keys, _parts(keys, n_partitions, n_parts), strict=False):
            seen = known[key]
            if not seen:
                seen.append(part)
                members[part].append(key)
    return known, list(chain.from_iterable(members))


def _parts(keys: list[Any], n_partitions: int, n_parts: int) -> Iterable[int]:
    """Where `deal` puts them."""
    if n_parts == 1:
        return repeat(0)
    return [(where or 0) // n_partitions % n_parts for where in places(keys)]
