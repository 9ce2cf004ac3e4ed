"""A map task: a split's records through mapfn, grouped, combined, and cut into one blob a partition.

    split blob ──load──> records ──mapfn──> pairs ──group──> {key: [values]} ──combine──> ──partition──> blobs

Values are grouped at once: pickling grouped values is some 40 times cheaper than pickling pairs. Where there is a
combiner, a key's values are folded whenever there are a few dozen, so that no list grows. A blob of a partition holds
keys, ordinals, positions that failed, and lists of values; an ordinal is the key's place among the split's keys in
order of first appearance, from which the whole job's order is put together later.

`map_records` is the hot loop. `map_records_apart` keeps records apart, so that a bad one contributes nothing; it also
serves to find the record behind a pair that does not pickle, and to tell a supervisor which record a slot is at.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from operator import length_hint
from typing import Any

from jmr.codec.functions import blame
from jmr.codec.values import Buffer, dump_groups, load_columns
from jmr.errors import NotPicklableError, describe
from jmr.tasks.contract import (
    Failures,
    TaskError,
    checked_pair,
    checked_pairs,
    diagnose,
    dumped,
    is_of_user_code,
    outside,
)
from jmr.tasks.folding import FOLDED_AT, NOWHERE, AtGroup, CarefulFolder, Combinefn, Folder
from jmr.tasks.memory import uncollected
from jmr.tasks.partition import TOKENS, Groups, split_by_partition

__all__ = [
    "NOWHERE",
    "MapOutput",
    "MapTask",
    "add_up",
    "dump_part",
    "map_records",
    "map_records_apart",
    "pairs_of",
    "records_of",
    "run_map",
]

Mapfn = Callable[[Any, Any], Any]
#: Tells the index of the record or group that is being worked on; NOWHERE when that is over.
Cursor = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class MapTask:
    """What an attempt at a map task needs to know."""

    mapfn: Mapfn
    combinefn: Combinefn | None
    n_partitions: int
    #: Set bad records aside instead of failing.
    skips: bool
    #: Indices of records, and numbers of groups, to leave out: each killed its slot again and again.
    leave_out: frozenset[int] = frozenset()
    cursor: Cursor | None = None
    #: The same for groups that combinefn is given.
    at_group: AtGroup | None = None


@dataclass(slots=True)
class MapOutput:
    """What a map task leaves: for each partition the pieces of one blob, empty where it has no keys."""

    partitions: list[list[Buffer]]
    n_records: int
    n_pairs: int
    #: What the combiner left of them.
    n_combined_pairs: int
    #: Some key's type cannot be hashed stably, so that all partitions must be reduced as one.
    unstable: bool
    failures: Failures
    seconds: float = 0.0
    #: The part of `seconds` spent on grouping by partition and pickling.
    flush_seconds: float = 0.0


def run_map(task: MapTask, split: Buffer) -> MapOutput:
    """Run one attempt at a map task.

    Raises
    ------
    TaskError
        A user function failed and `task.skips` is False, or something emitted cannot be pickled.
    """
    started = time.perf_counter()
    again = bytearray(split) if task.skips else split  # mapfn may change arrays, which are views of the split
    try:
        with uncollected():
            keys, values = load_columns(split, 2)
    except Exception as error:
        raise outside("load", error) from error
    try:
        output = _map_and_flush(task, keys, values, check=False)
    except NotPicklableError as error:
        keys, values = load_columns(bytearray(again) if task.skips else again, 2)
        output = _map_and_flush(task, keys, values, check=True)
        if not task.skips:  # it went well this time: mapfn does not do the same twice
            raise outside("pickle", error) from error
    if output.failures.first:
        _restore_records(output.failures, again)
    output.seconds = time.perf_counter() - started
    return output


def _restore_records(failures: Failures, split: Buffer) -> None:
    """Have failures carry their records as they were before mapfn, which may have changed them, was given them."""
    keys, values = load_columns(split, 2)
    for position, failure in enumerate(failures.first):
        if failure.index is not None:
            record = dumped((keys[failure.index], values[failure.index]))
            if record is not None:
                failures.first[position] = replace(failure, record=record, is_whole=True)


def records_of(split: Buffer) -> list[tuple[Any, Any]]:
    """The records of a split."""
    return list(zip(*load_columns(split, 2), strict=True))


def _map_and_flush(task: MapTask, keys: list[Any], values: list[Any], *, check: bool) -> MapOutput:
    failures = Failures(task.skips)
    groups, n_pairs, failed = _grouped(task, keys, values, failures, check=check)
    before = time.perf_counter()
    with uncollected():
        partitions, unstable = _partition(groups, failed, task.n_partitions, failures, check=check)
    flush_seconds = time.perf_counter() - before
    n_combined = n_pairs if task.combinefn is None else len(groups)
    return MapOutput(partitions, len(keys), n_pairs, n_combined, unstable, failures, flush_seconds=flush_seconds)


def _grouped(
    task: MapTask, keys: list[Any], values: list[Any], failures: Failures, *, check: bool
) -> tuple[Groups, int, set[int]]:
    """The groups, combined; how many pairs there were; and `id` of the lists of groups that are set aside."""
    groups = Groups()
    folder = _folder(task, failures)
    apart = check or task.skips or task.leave_out or task.cursor is not None
    if folder is not None and folder.is_sum and not apart:
        n_added = add_up(task.mapfn, keys, values, groups)
        if n_added is not None:
            return groups, n_added, set()
    if apart:
        map_records_apart(task, zip(keys, values, strict=True), groups, failures, folder, check=check)
    else:
        _map_numbered(task.mapfn, keys, values, groups, failures, folder=folder)
    if task.cursor:
        task.cursor(NOWHERE)  # whatever happens from here on is no single record's doing
    n_pairs = sum(map(len, groups.values()))
    if folder is None:
        return groups, n_pairs, set()
    folder.fold_all(groups)
    return groups, n_pairs + folder.n_folded, folder.failed


def _folder(task: MapTask, failures: Failures) -> Folder | None:
    if task.combinefn is None:
        return None
    if task.at_group is None:
        return Folder(task.combinefn, failures)
    return CarefulFolder(task.combinefn, failures, task.at_group, task.leave_out)


def _map_numbered(
    mapfn: Mapfn, keys: list[Any], values: list[Any], groups: Groups, failures: Failures, *, folder: Folder | None
) -> None:
    """Call `map_records`, which does not count; how many records it has left tells which one failed."""
    left = iter(keys)
    try:
        map_records(mapfn, zip(left, values, strict=True), groups, failures, folder)
    except TaskError as error:
        if error.failure.phase == "map":
            error.failure = replace(error.failure, index=len(keys) - length_hint(left) - 1)
        raise


def add_up(mapfn: Mapfn, keys: list[Any], values: list[Any], groups: Groups) -> int | None:
    """Like `map_records` with a combinefn that is a sum: one value of each key in `groups`, which are empty before.

    Returns
    -------
    How many pairs there were. None if anything went wrong; `groups` are empty then, and `map_records` will find out
    what it was.
    """
    sums: dict[Any, Any] = {}
    so_far = sums.get
    pair: Any = (None, None)
    n_pairs = 0
    try:
        for key, value in zip(keys, values, strict=True):
            pairs = mapfn(key, value)
            if pairs is None:
                continue
            if type(pairs) is not list and not hasattr(pairs, "__next__"):
                pairs = checked_pairs(pairs)
            for pair in pairs:
                emitted_key, emitted = pair
                sums[emitted_key] = so_far(emitted_key, 0) + emitted
                n_pairs += 1
            if type(pair) is not tuple:
                checked_pair(pair)
        _regroup(sums, groups)
    except BaseException:  # this is a slot's: whatever it is, it is user code's
        groups.clear()
        return None
    return n_pairs


def _regroup(sums: dict[Any, Any], groups: Groups) -> None:
    """A list for each sum, and one for the sums of all NaNs."""
    if not any(TOKENS[kind] for kind in set(map(type, sums))):
        groups.update(zip(sums, map(list, zip(sums.values())), strict=True))
        return
    for key, total in sums.items():
        groups[key].append(total)
    for values in groups.values():
        values[:] = [sum(values)] if len(values) > 1 else values


def map_records(
    mapfn: Mapfn, records: Iterable[tuple[Any, Any]], groups: Groups, failures: Failures, folder: Folder | None = None
) -> None:
    """Call mapfn on every record and group what it emits; the first failure ends it.

    For jobs that skip nothing, since half of a bad record's pairs may be grouped already. Nothing of ours is called per
    record or pair while all is well, but for a look at the last pair of each record: a mapfn that emits what only looks
    like pairs, such as words of two letters, hardly ever ends with a tuple. The loop stands here twice: asking for a
    list's length costs a tenth of it.
    """
    key = value = emitted_key = None
    pair: Any = (None, None)
    try:
        for key, value in records:
            pairs = mapfn(key, value)
            if pairs is None:
                continue
            if type(pairs) is not list and not hasattr(pairs, "__next__"):
                pairs = checked_pairs(pairs)
            if folder is None:
                for pair in pairs:
                    emitted_key, emitted = pair
                    groups[emitted_key].append(emitted)
            else:
                for pair in pairs:
                    emitted_key, emitted = pair
                    values = groups[emitted_key]
                    values.append(emitted)
                    if len(values) >= FOLDED_AT:
                        folder.fold(emitted_key, values)
            if type(pair) is not tuple:
                checked_pair(pair)
    except TaskError:  # it was combinefn
        raise
    except BaseException as error:
        if not is_of_user_code(error):
            raise
        failures.add("map", key, value, diagnose(error, emitted_key, pair))


def map_records_apart(
    task: MapTask,
    records: Iterable[tuple[Any, Any]],
    groups: Groups,
    failures: Failures,
    folder: Folder | None = None,
    *,
    check: bool,
) -> None:
    """Like `map_records`, but each record's pairs are grouped only when all of them are good.

    With `check`, each pair is pickled at once, to find the record that emitted one which cannot be.
    """
    for index, (key, value) in enumerate(records):
        if index in task.leave_out:
            continue
        if task.cursor:
            task.cursor(index)
        try:
            pairs = pairs_of(task.mapfn, key, value, check=check)
            looked_up = _looked_up(groups, pairs)
        except BaseException as error:
            if not is_of_user_code(error):
                raise
            failures.add("map", key, value, error, index)
            continue
        if task.cursor:
            task.cursor(NOWHERE)  # combinefn is not this record's affair
        for (emitted_key, emitted), group in zip(pairs, looked_up, strict=True):
            group.append(emitted)
            if folder is not None and len(group) >= FOLDED_AT:
                folder.fold(emitted_key, group)


def _looked_up(groups: Groups, pairs: list[tuple[Any, Any]]) -> list[list[Any]]:
    """Find each pair's group before any is added to: a key's own `__eq__` may raise."""
    n_before = len(groups)
    try:
        return [groups[key] for key, _ in pairs]
    except BaseException:
        while len(groups) > n_before:  # what this record alone has brought is empty, and the last
            groups.popitem()
        raise


def pairs_of(mapfn: Mapfn, key: Any, value: Any, *, check: bool) -> list[tuple[Any, Any]]:
    """Call mapfn; whatever it returns that cannot be used, or with `check` cannot be pickled, is refused."""
    pairs = mapfn(key, value)
    emitted = [] if pairs is None else [tuple(checked_pair(pair)) for pair in checked_pairs(pairs)]
    trial = Groups()
    for emitted_key, emitted_value in emitted:
        try:
            trial[emitted_key].append(emitted_value)
        except TypeError as error:
            raise diagnose(error, emitted_key) from None
        if check:
            _check_pickles(emitted_key, emitted_value)
    return emitted


def _check_pickles(key: Any, value: Any) -> None:
    for role, obj in (("key", key), ("value", value)):
        if culprit := blame(role, obj):
            of = f" for key {describe(key)}" if role == "value" else ""
            told = culprit.told("Emit what it is made of; for a generator, a list.")
            raise NotPicklableError(f"mapfn emitted a {role}{of} that cannot be sent on: {culprit.path} is {told}")


def _partition(
    groups: Groups, failed: set[int], n_partitions: int, failures: Failures, *, check: bool
) -> tuple[list[list[Buffer]], bool]:
    keys, lists = list(groups), list(groups.values())
    members, unstable = split_by_partition(keys, n_partitions)
    partitions: list[list[Buffer]] = []
    for ordinals in members:
        if not ordinals:
            partitions.append([])
            continue
        try:
            partitions.append(_dump_part(keys, ordinals, lists, failed))
        except Exception as error:  # pickling runs the objects' own code
            if not check:
                raise NotPicklableError(str(error)) from error
            _set_unpicklable_aside(keys, ordinals, lists, failed, failures)
            partitions.append(_dump_part(keys, ordinals, lists, failed))
    return partitions, unstable


def _dump_part(keys: list[Any], ordinals: list[int], lists: list[list[Any]], failed: set[int]) -> list[Buffer]:
    chosen = [lists[i] for i in ordinals]
    dead = [position for position, values in enumerate(chosen) if id(values) in failed] if failed else []
    return dump_part([keys[i] for i in ordinals], ordinals, dead, chosen)


def dump_part(keys: list[Any], ordinals: list[int], dead: list[int], lists: list[list[Any]]) -> list[Buffer]:
    """The pieces of one partition's blob; `dead` are the positions of groups that are set aside."""
    return dump_groups(keys, ordinals, dead, lists=lists)


def _set_unpicklable_aside(
    keys: list[Any], ordinals: list[int], lists: list[list[Any]], failed: set[int], failures: Failures
) -> None:
    """Find the groups that do not pickle although every pair did: combinefn made them so."""
    for ordinal in ordinals:
        if culprit := blame("value", lists[ordinal][0]):
            key = keys[ordinal]
            told = culprit.told("Return what it is made of.")
            error = NotPicklableError(
                f"combinefn returned a value for key {describe(key)} that cannot be sent on: {culprit.path} is {told}"
            )
            failures.add("combine", key, lists[ordinal], error)
            failed.add(id(lists[ordinal]))
            lists[ordinal][:] = [None]
