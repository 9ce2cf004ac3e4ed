"""A reduce task: one partition's blobs, in split order, merged by key and reduced.

    (split, blob) ... ──merge──> {key: [values, in source order]} ──reducefn──> (keys, orders, values) ──> one blob
                                                              └── a job that writes them: ──> a Part ──┘

A partition that is larger than its slot's share of memory is dealt out first, by further bits of its keys' places, into
parts that are reduced one after another:

    (split, blob) ... ──deal──> (part, split, blob) ... ──> somebody keeps them ──> (split, blob) ... of each part

Merging in split order gives each key its values in source order, its first appearance, and the object seen first.
An order is that first appearance as one number: split << 32 | ordinal within the split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from jmr.codec.functions import blame
from jmr.codec.values import Buffer, dump_columns, load_batches
from jmr.errors import NotPicklableError
from jmr.tasks.contract import Failures, TaskError, checked_fold, is_of_user_code, outside
from jmr.tasks.fitting import Batch, Memory, MemoryFullError, Scales, Watch, told_too_large, told_too_many
from jmr.tasks.folding import Combinefn
from jmr.tasks.grouped import dump_part
from jmr.tasks.map import NOWHERE, Cursor
from jmr.tasks.memory import uncollected
from jmr.tasks.partition import Groups
from jmr.tasks.places import places

if TYPE_CHECKING:
    from jmr.sinks.sink import Sink

__all__ = [
    "Merged",
    "ReduceTask",
    "batches_of",
    "check_result",
    "collected",
    "deal",
    "merge",
    "reduce_groups",
    "run_reduce",
    "written",
]

Reducefn = Callable[[Any, list[Any]], Any]
#: (split number, blob), in split order.
Inputs = Iterable[tuple[int, Buffer]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReduceTask:
    """What an attempt at a reduce task needs to know."""

    reducefn: Reducefn | None
    combinefn: Combinefn | None
    skips: bool
    #: Indices of groups to leave out: each killed its slot again and again.
    leave_out: frozenset[int] = frozenset()
    cursor: Cursor | None = None
    #: Notices groups that do not fit into it; then the inputs of a part are read more than once.
    memory: Memory | None = None
    #: Where results are written, if they are.
    out: Sink | None = None

    @property
    def phase(self) -> str:
        """Whose calls these are: without a reducefn, combinefn folds what the splits have left."""
        return "combine" if self.reducefn is None and self.combinefn is not None else "reduce"


@dataclass(slots=True)
class Merged:
    """A partition's groups."""

    groups: Groups = field(default_factory=Groups)
    #: Each key's first appearance in the job, in the order of `groups`.
    orders: list[int] = field(default_factory=list)
    #: Of groups that combinefn failed on in some split: `id` of their list.
    dead: set[int] = field(default_factory=set)


def run_reduce(task: ReduceTask, parts: Iterable[Inputs]) -> tuple[list[Buffer], Failures]:
    """Run one attempt at a reduce task.

    Parameters
    ----------
    task
        The functions and how to treat failures.
    parts
        Of each part of the partition, usually one: (split number, blob), in split order.

    Returns
    -------
    What `dump_columns` gave of keys, orders and values, for each part in a row; and the groups set aside.

    Raises
    ------
    TaskError
        A user function failed and `task.skips` is False, a result cannot be pickled, or a group is larger than the
        memory.
    """
    pieces: list[Buffer] = []
    failures = Failures(task.skips)
    n_before = 0
    for inputs in parts:
        try:
            merged = _merged(task, inputs, failures)
        except TaskError:
            raise
        except Exception as error:  # a key's own __hash__ or __eq__
            raise outside("group", error) from error
        pieces += _reduced_part(task, merged, failures, n_before)
        n_before += len(merged.groups)
    return pieces, failures


def _merged(task: ReduceTask, inputs: Inputs, failures: Failures) -> Merged:
    """The groups of a part; of those that do not fit into memory, which are set aside, there is only the place."""
    left_out: list[Any] = []
    while True:
        try:
            with uncollected():
                return merge(inputs, None if task.memory is None else Watch(task.memory), left_out)
        except MemoryFullError as full:  # what was merged goes with it
            n_merged, grown_bytes, most_bytes = full.args
        assert task.memory is not None
        task.memory.give_back()
        scales = Scales(left_out)
        groups, fitting_bytes = scales.weigh(scales.without(batches_of(inputs)), n_merged, grown_bytes)
        too_large = [group for group in groups if group.n_bytes > fitting_bytes]
        if not too_large:
            raise outside("spill", told_too_many(groups, most_bytes))
        for group in too_large:
            error = told_too_large(group, most_bytes)
            failures.add(task.phase, group.key, f"{group.n_values:,} values", error, is_whole=False)
            left_out.append(group.key)
        task.memory.give_back()


def _reduced_part(task: ReduceTask, merged: Merged, failures: Failures, n_before: int) -> list[Buffer]:
    reduced = written(task, merged, reduce_groups(task, merged, failures, n_before), failures, n_before)
    try:
        with uncollected():
            return dump_columns(*reduced)
    except Exception:  # pickling runs the objects' own code
        return dump_columns(*_picklable_only(task, merged, reduced, failures, n_before))


def deal(inputs: Inputs, n_partitions: int, n_parts: int) -> Iterator[tuple[int, int, list[Buffer]]]:
    """Deal one partition's keys out to parts: yields part, split number, and the pieces of a blob.

    Holds one blob of `inputs` at a time, or one run of a blob. All keys must have a stable place.
    """
    for split, keys, ordinals, dead, lists in batches_of(inputs):
        members: list[list[int]] = [[] for _ in range(n_parts)]
        try:
            for position, where in enumerate(places(keys)):
                assert where is not None
                members[where // n_partitions % n_parts].append(position)
        except Exception as error:  # a key's own __hash__
            raise outside("group", error) from error
        failed = set(dead)
        for part, positions in enumerate(members):
            if positions:
                yield (
                    part,
                    split,
                    dump_part(
                        [keys[i] for i in positions],
                        [ordinals[i] for i in positions],
                        [i for i, position in enumerate(positions) if position in failed],
                        [lists[i] for i in positions],
                    ),
                )


def merge(inputs: Inputs, watch: Watch | None = None, left_out: Sequence[Any] = ()) -> Merged:
    """Put the outputs of map tasks together, by key; the groups of `left_out` keep their places, and count as dead.

    Raises
    ------
    MemoryFullError
        As `watch` does.
    """
    merged = Merged()
    groups, orders = merged.groups, merged.orders
    batches = batches_of(inputs, watch)
    for split, keys, ordinals, dead, lists in Scales(left_out).without(batches) if left_out else batches:
        first = split << 32
        for key, ordinal, values in zip(keys, ordinals, lists, strict=True):
            group = groups[key]
            if not group:
                orders.append(first | ordinal)
            group += values
        merged.dead.update(id(groups[keys[position]]) for position in dead)
    return merged


def batches_of(inputs: Inputs, watch: Watch | None = None) -> Iterator[Batch]:
    """Of each run of each split: the split, keys, ordinals, positions that failed, and lists of values."""
    for split, blob in inputs:
        if watch is not None:
            watch.begin(len(blob))
        try:
            for keys, ordinals, dead, lists in load_batches(blob, 4):
                yield split, keys, ordinals, dead, lists
                if watch is not None:
                    watch.look(len(blob))
        except MemoryFullError:
            raise
        except Exception as error:
            raise outside("merge", error) from error


def reduce_groups(
    task: ReduceTask, merged: Merged, failures: Failures, n_before: int = 0
) -> tuple[list[Any], list[int], list[Any]]:
    """Call reducefn on every group; returns keys, orders and values of those that succeeded.

    A group's index counts from `n_before`.
    """
    keys: list[Any] = []
    orders: list[int] = []
    results: list[Any] = []
    copies = task.skips and not (task.reducefn is None and task.combinefn is None)
    for index, ((key, values), order) in enumerate(zip(merged.groups.items(), merged.orders, strict=True), n_before):
        if index in task.leave_out or id(values) in merged.dead:
            continue
        if task.cursor:
            task.cursor(index)
        given = values.copy() if copies else values  # reducefn may change it, and a bad group is kept as it was
        try:
            result = _reduced(task, key, given)
        except BaseException as error:
            if not is_of_user_code(error):
                raise
            failures.add(task.phase, key, values, error, index)
        else:
            keys.append(key)
            orders.append(order)
            results.append(result)
    if task.cursor:
        task.cursor(NOWHERE)
    return keys, orders, results


def _reduced(task: ReduceTask, key: Any, values: list[Any]) -> Any:
    if task.reducefn is None:
        # The list must not show how the source was split, so what combinefn left in each split is folded once more.
        return values if task.combinefn is None else [checked_fold(task.combinefn(key, values))]
    return collected(task.reducefn(key, values))


def written(
    task: ReduceTask,
    merged: Merged,
    reduced: tuple[list[Any], list[int], list[Any]],
    failures: Failures,
    n_before: int = 0,
) -> tuple[list[Any], list[int], list[Any]]:
    """The results; or, in a job that writes them, the part that is made of them."""
    if task.out is None:
        return reduced
    from jmr.tasks.writing import Writing  # few jobs need it

    is_called = task.reducefn is not None or task.combinefn is not None
    return Writing(task.out, task.phase, is_called).part(reduced, merged.groups, failures, n_before)


def collected(result: Any) -> Any:
    """What reducefn returned, or the items of a generator."""
    return list(result) if isinstance(result, GeneratorType) else result


def _picklable_only(
    task: ReduceTask,
    merged: Merged,
    reduced: tuple[list[Any], list[int], list[Any]],
    failures: Failures,
    n_before: int,
) -> tuple[list[Any], list[int], list[Any]]:
    """Find the results that do not pickle: the first ends the task, or all are set aside."""
    kept: tuple[list[Any], list[int], list[Any]] = ([], [], [])
    for key, order, result in zip(*reduced, strict=True):
        try:
            check_result(task.phase, result)
        except NotPicklableError as error:
            values = merged.groups[key]
            index = next(i for i, group in enumerate(merged.groups.values(), n_before) if group is values)
            failures.add(task.phase, key, values, error, index)
        else:
            for column, item in zip(kept, (key, order, result), strict=True):
                column.append(item)
    return kept


def check_result(phase: str, result: Any) -> None:
    """Refuse what cannot be pickled, and say what of it."""
    if culprit := blame("result", result):
        told = culprit.told("Return what it is made of.")
        raise NotPicklableError(f"{phase}fn returned a result that cannot be sent back: {culprit.path} is {told}")
