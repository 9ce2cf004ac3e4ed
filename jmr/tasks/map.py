"""A map task: a split's records through mapfn, grouped, combined, and cut into one blob a partition.

    split blob ──load, or read──> records ──mapfn──> pairs ──group──> {key: [values]} ──combine──> ──partition──> blobs

Values are grouped at once: pickling grouped values is some 40 times cheaper than pickling pairs. Where there is a
combiner, a key's values are folded whenever there are a few dozen, so that no list grows. A blob of a partition holds
keys, ordinals, positions that failed, and lists of values; an ordinal is the key's place among the split's keys in
order of first appearance, from which the whole job's order is put together later. A blob of a split that had to spill
is several of them in a row.

`map_records` is the hot loop. `map_records_apart` keeps records apart, so that a bad one contributes nothing.
`map_records_closely` serves to find the record behind a pair that does not pickle, and to tell a supervisor which
record a slot is at.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from jmr.codec.functions import blame
from jmr.codec.values import Buffer
from jmr.errors import NotPicklableError, describe
from jmr.sources.base import InColumns, Loaded, NotHereError, Split, final_error, load_records, load_split, read_split
from jmr.tasks.contract import (
    Failures,
    PassThroughError,
    TaskError,
    checked_pair,
    checked_pairs,
    diagnose,
    dumped,
    is_of_user_code,
    outside,
)
from jmr.tasks.folding import FOLDED_AT, NOWHERE, AtGroup, CarefulFolder, Combinefn, Folder
from jmr.tasks.grouped import Grouped
from jmr.tasks.memory import uncollected
from jmr.tasks.partition import Groups
from jmr.tasks.spilling import Spilling, spills_before_any_line

__all__ = [
    "NOWHERE",
    "MapOutput",
    "MapTask",
    "add_up",
    "map_records",
    "map_records_apart",
    "map_records_closely",
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
    #: Takes what does not fit into memory.
    spilling: Spilling | None = None
    #: Whether the kernel can be asked for what this worker does not see: then a NotHereError comes out.
    asks: bool = False


@dataclass(slots=True)
class MapOutput:
    """What a map task leaves."""

    #: For each partition the pieces of one blob, empty where it has no keys; none at all if the output was spilled.
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
        A user function failed and `task.skips` is False, something emitted cannot be pickled, or the split cannot be
        read.
    NotHereError
        This worker does not see what it is to read, and `task.asks`.
    """
    started = time.perf_counter()
    again = bytearray(split) if task.skips else split  # mapfn may change arrays, which are views of the split
    failures = Failures(task.skips)
    records = _loaded(task, split, failures)
    spilling = task.spilling or Spilling()
    try:
        output = _map_and_flush(task, records, failures, spilling, check=False)
    except NotPicklableError as error:
        failures = Failures(task.skips)
        records = _loaded(task, bytearray(again) if task.skips else again, failures)
        spilling.start_over()
        output = _map_and_flush(task, records, failures, spilling, check=True)
        if not task.skips:  # it went well this time: mapfn does not do the same twice
            raise outside("pickle", error) from error
    if failures.first:
        _restore_records(failures, again)
    output.seconds = time.perf_counter() - started
    return output


def _loaded(task: MapTask, blob: Buffer, failures: Failures) -> Loaded:
    """The records of a split, read where they lie if they are not in its blob."""
    try:
        with uncollected():
            loaded = load_split(blob)
    except Exception as error:
        raise outside("load", error) from error
    return loaded if isinstance(loaded, InColumns) else _read(task, loaded, failures)


def _read(task: MapTask, split: Split, failures: Failures) -> Loaded:
    def set_aside(key: Any, error: Exception, n_before: int = 0, /) -> None:
        if isinstance(error, NotHereError) and task.asks:
            raise error
        failures.add("read", key, None, final_error(error), n_before)

    try:
        with uncollected():
            return read_split(split, set_aside)
    except TaskError:
        raise
    except NotHereError as error:
        set_aside(error.path, error)
        return InColumns([], [])
    except Exception as error:  # reading runs the source's own code
        raise outside("read", error) from error


def _restore_records(failures: Failures, split: Buffer) -> None:
    """Have failures carry their records as they were before mapfn, which may have changed them, was given them."""
    changed = {
        failure.index: position
        for position, failure in enumerate(failures.first)
        if failure.phase == "map" and failure.index is not None
    }
    if not changed:
        return
    try:
        records = load_records(split, _pass_over)
    except NotHereError:
        return
    for index, pair in enumerate(records.pairs()):
        if index in changed and (record := dumped(pair)) is not None:
            position = changed[index]
            failures.first[position] = replace(failures.first[position], record=record, is_whole=True)


def _pass_over(_key: Any, error: Exception, _n_before: int = 0, /) -> None:
    """What cannot be read was set aside the first time; what has gone or changed since would shift what follows it."""
    if isinstance(error, NotHereError) and (error.__cause__ is None or isinstance(error.__cause__, FileNotFoundError)):
        raise error


def records_of(split: Buffer) -> list[tuple[Any, Any]]:
    """The records of a split; without those that cannot be read.

    Raises
    ------
    NotHereError
        What they were read from is not as it was.
    """
    return list(load_records(split, _pass_over).pairs())


def _map_and_flush(task: MapTask, records: Loaded, failures: Failures, spilling: Spilling, *, check: bool) -> MapOutput:
    folder = _folder(task, failures)
    grouped = Grouped(n_partitions=task.n_partitions, folder=folder, failures=failures, spilling=spilling, check=check)
    try:
        n_added = _group(task, records, grouped)
        before = time.perf_counter()
        partitions = grouped.finish()
    except PassThroughError as passed:
        raise passed.original from None
    n_pairs = grouped.n_pairs if n_added is None else n_added
    return MapOutput(
        partitions=partitions,
        n_records=len(records),
        n_pairs=n_pairs,
        n_combined_pairs=n_pairs if folder is None else grouped.n_combined_pairs,
        unstable=grouped.unstable,
        failures=failures,
        flush_seconds=time.perf_counter() - before,
    )


def _group(task: MapTask, records: Loaded, grouped: Grouped) -> int | None:
    """Group what mapfn emits. Where it was added up instead: how many pairs there were."""
    groups, failures, folder, spilling = grouped.groups, grouped.failures, grouped.folder, grouped.spilling
    closely = grouped.check or task.leave_out or task.cursor is not None
    if folder is not None and folder.is_sum and not closely and not task.skips:
        n_added = add_up(task.mapfn, records.pairs(), grouped)
        if n_added is not None:
            return n_added
        grouped.start_over()
    spilling.begin(grouped.spill)
    if task.skips:
        map_records_apart(
            task, records.pairs(), groups, failures, folder=folder, spilling=spilling, check=grouped.check
        )
    elif closely:
        map_records_closely(task, records.pairs(), grouped)
    else:
        _map_numbered(task.mapfn, records, grouped)
    spilling.end()
    if task.cursor:
        task.cursor(NOWHERE)  # whatever happens from here on is no single record's doing
    grouped.fold()
    return None


def _folder(task: MapTask, failures: Failures) -> Folder | None:
    if task.combinefn is None:
        return None
    if task.at_group is None:
        return Folder(task.combinefn, failures)
    return CarefulFolder(task.combinefn, failures, task.at_group, task.leave_out)


def _map_numbered(mapfn: Mapfn, records: Loaded, grouped: Grouped) -> None:
    """Call `map_records`, which does not count; how many records it has left tells which one failed."""
    left = records.pairs()
    try:
        map_records(mapfn, left, grouped.groups, grouped.failures, grouped.folder)
    except TaskError as error:
        if error.failure.phase == "map":
            error.failure = replace(error.failure, index=len(records) - sum(1 for _ in left) - 1)
        raise


@spills_before_any_line
def add_up(mapfn: Mapfn, records: Iterable[tuple[Any, Any]], grouped: Grouped) -> int | None:
    """Like `map_records` with a combinefn that is a sum: one value of each key in the groups, which are empty before.

    Returns
    -------
    How many pairs there were. None if anything went wrong; the groups are empty then, and `map_records` will find out
    what it was.
    """
    sums: dict[Any, Any] = {}
    so_far = sums.get
    pair: Any = (None, None)
    n_pairs = 0
    grouped.spilling.begin(partial(grouped.spill_sums, sums))
    try:
        for key, value in records:
            pairs = mapfn(key, value)
            if pairs is None:
                continue
            if type(pairs) is not list and not hasattr(pairs, "__next__"):
                pairs = checked_pairs(pairs)
            n_of_record = 0  # a small int costs less to make than that of all pairs
            for pair in pairs:
                n_of_record += 1
                emitted_key, emitted = pair
                sums[emitted_key] = so_far(emitted_key, 0) + emitted
            n_pairs += n_of_record
            if type(pair) is not tuple:
                checked_pair(pair)
        grouped.spilling.end()
        grouped.take_sums(sums)
    except PassThroughError:
        raise
    except BaseException:  # this is a slot's: whatever it is, it is user code's
        grouped.spilling.end()
        grouped.groups.clear()
        return None
    return n_pairs


@spills_before_any_line
def map_records(
    mapfn: Mapfn, records: Iterable[tuple[Any, Any]], groups: Groups, failures: Failures, folder: Folder | None = None
) -> None:
    """Call mapfn on every record and group what it emits; the first failure ends it.

    For jobs that skip nothing, since half of a bad record's pairs may be grouped already. Nothing of ours is called per
    record or pair while all is well, but for a look at the last pair of each record: a mapfn that emits what only looks
    like pairs, such as words of two letters, hardly ever ends with a tuple. The loop stands here twice: asking for a
    list's length costs a tenth of it. A list is looked up and added to in one line; see `spills_before_any_line`.
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
                    (values := groups[emitted_key]).append(emitted)
                    if len(values) >= FOLDED_AT:
                        folder.fold(emitted_key, values)
            if type(pair) is not tuple:
                checked_pair(pair)
    except (TaskError, PassThroughError):  # it was combinefn, or no function of the user's
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
    *,
    folder: Folder | None = None,
    spilling: Spilling | None = None,
    check: bool,
) -> None:
    """Like `map_records`, but each record's pairs are grouped only when all of them are good, and spilled after that.

    With `check`, each pair is pickled at once, to find the record that emitted one which cannot be.
    """
    tell = task.cursor or _tell_nobody
    for index, (key, value) in enumerate(records):
        if index in task.leave_out:
            continue
        tell(index)
        try:
            pairs = pairs_of(task.mapfn, key, value, check=check)
            looked_up = _looked_up(groups, pairs)
        except BaseException as error:
            if not is_of_user_code(error):
                raise
            failures.add("map", key, value, error, index)
            continue
        tell(NOWHERE)  # combinefn is not this record's affair
        for (emitted_key, emitted), group in zip(pairs, looked_up, strict=True):
            group.append(emitted)
            if folder is not None and len(group) >= FOLDED_AT:
                folder.fold(emitted_key, group)
        if spilling is not None and spilling.is_asked:
            del pairs, looked_up
            spilling.answer()


def map_records_closely(task: MapTask, records: Iterable[tuple[Any, Any]], grouped: Grouped) -> None:
    """Like `map_records`, and tells each record; with `grouped.check`, each pair is pickled at once."""
    tell = task.cursor or _tell_nobody
    groups, folder, spilling = grouped.groups, grouped.folder, grouped.spilling
    for index, (key, value) in enumerate(records):
        if index in task.leave_out:
            continue
        tell(index)
        emitted_key = None
        try:
            pairs = task.mapfn(key, value)
            for pair in () if pairs is None else checked_pairs(pairs):
                emitted_key, emitted = checked_pair(pair)
                if grouped.check:
                    _check_pickles(emitted_key, emitted)
                (group := groups[emitted_key]).append(emitted)
                due = folder is not None and len(group) >= FOLDED_AT
                if due or spilling.is_asked:
                    tell(NOWHERE)  # neither is this record's affair
                    _make_room(folder if due else None, emitted_key, group, spilling)
                    tell(index)
        except (TaskError, PassThroughError):
            raise
        except BaseException as error:
            if not is_of_user_code(error):
                raise
            grouped.failures.add("map", key, value, diagnose(error, emitted_key), index)


def _make_room(folder: Folder | None, key: Any, group: list[Any], spilling: Spilling) -> None:
    if folder is not None:
        folder.fold(key, group)
    spilling.answer()


def _tell_nobody(_: int) -> None:
    """For whoever has no cursor."""


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
