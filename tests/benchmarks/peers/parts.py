"""What a user of a pool writes by hand to have MapReduce on it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["N_PARTITIONS", "batches", "map_batch", "map_batch_apart", "merge", "reduce_all", "reduce_parts"]

N_PARTITIONS = 4
Groups = dict[Any, list[Any]]
Functions = tuple[Callable[[Any, Any], Any], Callable[[Any, list[Any]], Any], Callable[[Any, list[Any]], Any] | None]


def batches(source: Any, n: int) -> list[list[tuple[Any, Any]]]:
    """About `n` lists of records."""
    records = list(source.items() if isinstance(source, dict) else source)
    size = -(-len(records) // n)
    return [records[i : i + size] for i in range(0, len(records), size)]


def map_batch(functions: Functions, batch: list[tuple[Any, Any]]) -> Groups:
    """Groups of one batch, combined."""
    mapfn, _, combinefn = functions
    groups: Groups = defaultdict(list)
    for key, value in batch:
        for emitted_key, emitted in mapfn(key, value):
            groups[emitted_key].append(emitted)
    if combinefn is None:
        return dict(groups)
    return {key: [combinefn(key, values)] for key, values in groups.items()}


def map_batch_apart(functions: Functions, batch: list[tuple[Any, Any]]) -> list[Groups]:
    """The same, a dict for each partition; hashes are equal everywhere because PYTHONHASHSEED is set."""
    parts: list[Groups] = [{} for _ in range(N_PARTITIONS)]
    for key, values in map_batch(functions, batch).items():
        parts[hash(key) % N_PARTITIONS][key] = values
    return parts


def merge(parts: Iterable[Groups]) -> Groups:
    """All values of each key, in the order of the parts."""
    merged: Groups = {}
    for part in parts:
        for key, values in part.items():
            if key in merged:
                merged[key] += values
            else:
                merged[key] = values
    return merged


def reduce_parts(functions: Functions, *parts: Groups) -> dict[Any, Any]:
    """One partition's results."""
    return {key: functions[1](key, values) for key, values in merge(parts).items()}


def reduce_all(functions: Functions, parts: Iterable[Groups]) -> dict[Any, Any]:
    """All results: for a pool whose results come to the caller anyway, which is quicker than sending them out again."""
    return reduce_parts(functions, *parts)
