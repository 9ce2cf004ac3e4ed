"""What a map attempt has grouped, and how that becomes blobs: once at its end, or run by run.

    {key: [values]} ──fold──> ──partition──> a blob a partition      the output
          ^                         └── too much memory: a run ──> Runs.add
          └── begin anew <──────────────────┘

An ordinal is a key's place among the keys of the split in order of first appearance. Those of a later run go on where
the run before has ended, so a key that comes again has a larger one there, and whoever reads the runs in order takes
the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from jmr.codec.functions import blame
from jmr.codec.values import Buffer, dump_groups
from jmr.errors import NotPicklableError, describe
from jmr.tasks.contract import Failures, PassThroughError, TaskError
from jmr.tasks.folding import Folder
from jmr.tasks.memory import uncollected
from jmr.tasks.partition import TOKENS, Groups, split_by_partition
from jmr.tasks.spilling import Spilling

__all__ = ["Grouped", "dump_part", "regroup"]

#: A list for each sum takes as much as the sums themselves, so they are not made for all at once.
_SUMS_AT_ONCE = 100_000


@dataclass(slots=True, kw_only=True)
class Grouped:
    """What one pass over the records of a split has grouped."""

    n_partitions: int
    folder: Folder | None
    failures: Failures
    spilling: Spilling
    #: Whether to find out which of combinefn's results cannot be pickled.
    check: bool
    groups: Groups = field(default_factory=Groups)
    #: Of what was flushed; those that were folded away before that, the folder has counted.
    _n_pairs: int = 0
    #: What the combiner left of them; of a key in several runs, one in each.
    n_combined_pairs: int = 0
    #: Some key's type cannot be hashed stably.
    unstable: bool = False
    #: Keys in runs.
    _n_before: int = 0
    #: Of groups that are set aside: `id` of their list.
    _failed: set[int] = field(init=False)

    def __post_init__(self) -> None:
        self._failed = set() if self.folder is None else self.folder.failed

    @property
    def n_pairs(self) -> int:
        """How many were emitted, once all is flushed."""
        return self._n_pairs + (0 if self.folder is None else self.folder.n_folded)

    def spill(self) -> None:
        """Make a run of what there is, and begin anew.

        Raises
        ------
        TaskError
            combinefn failed, or what it returned cannot be pickled.
        PassThroughError
            With whatever else it was: a NotPicklableError, say, or that the disk is full.
        """
        if self.groups:
            self.fold()
            self._add_run()

    def spill_sums(self, sums: dict[Any, Any]) -> None:
        """The same with sums that were added up outside of groups."""
        items = iter(sums.items())
        while some := dict(islice(items, _SUMS_AT_ONCE)):
            self.take_sums(some)
            self._add_run()
        sums.clear()

    def fold(self) -> None:
        """Leave one value of each key, if there is a combiner."""
        self._n_pairs += sum(map(len, self.groups.values()))
        if self.folder is not None:
            self.folder.fold_all(self.groups)
        self.n_combined_pairs += len(self.groups)

    def take_sums(self, sums: dict[Any, Any]) -> None:
        """Take what was added up outside of groups."""
        regroup(sums, self.groups)
        self.n_combined_pairs += len(self.groups)

    def finish(self) -> list[list[Buffer]]:
        """The output, once all is folded; nothing if there are runs: the rest is the last. Raises as `spill` does."""
        if self.spilling.n_runs:
            self._add_run()
            return []
        with uncollected():
            return list(self._flush())

    def start_over(self) -> None:
        """Forget all, and all runs."""
        self.groups.clear()
        self.spilling.start_over()
        self.n_combined_pairs = self._n_pairs = self._n_before = 0

    def _add_run(self) -> None:
        try:
            with uncollected():
                self.spilling.add(self._flush())
        except TaskError:
            raise
        except Exception as error:  # the record that is being mapped is not to blame
            raise PassThroughError(error) from error

    def _flush(self) -> Iterator[list[Buffer]]:
        """For each partition the pieces of its blob; after the last, begin anew."""
        keys, lists = list(self.groups), list(self.groups.values())
        members, unstable = split_by_partition(keys, self.n_partitions)
        self.unstable |= unstable
        for positions in members:
            yield self._dumped(keys, positions, lists) if positions else []
        self._n_before += len(keys)
        self.groups.clear()
        self._failed.clear()  # the lists are gone, and others will have their ids

    def _dumped(self, keys: list[Any], positions: list[int], lists: list[list[Any]]) -> list[Buffer]:
        try:
            return self._dumped_part(keys, positions, lists)
        except Exception as error:  # pickling runs the objects' own code
            if not self.check:
                raise NotPicklableError(str(error)) from error
            self._set_unpicklable_aside(keys, positions, lists)
            return self._dumped_part(keys, positions, lists)

    def _dumped_part(self, keys: list[Any], positions: list[int], lists: list[list[Any]]) -> list[Buffer]:
        failed, chosen = self._failed, [lists[i] for i in positions]
        dead = [place for place, values in enumerate(chosen) if id(values) in failed] if failed else []
        ordinals = [self._n_before + i for i in positions] if self._n_before else positions
        return dump_part([keys[i] for i in positions], ordinals, dead, chosen)

    def _set_unpicklable_aside(self, keys: list[Any], positions: list[int], lists: list[list[Any]]) -> None:
        """Find the groups that do not pickle although every pair did: combinefn made them so."""
        for position in positions:
            if culprit := blame("value", lists[position][0]):
                key = keys[position]
                told = culprit.told("Return what it is made of.")
                error = NotPicklableError(
                    f"combinefn returned a value for key {describe(key)} that cannot be sent on: "
                    f"{culprit.path} is {told}"
                )
                self.failures.add("combine", key, lists[position], error)
                self._failed.add(id(lists[position]))
                lists[position][:] = [None]


def dump_part(keys: list[Any], ordinals: list[int], dead: list[int], lists: list[list[Any]]) -> list[Buffer]:
    """The pieces of one partition's blob; `dead` are the positions of groups that are set aside."""
    return dump_groups(keys, ordinals, dead, lists=lists)


def regroup(sums: dict[Any, Any], groups: Groups) -> None:
    """A list for each sum, and one for the sums of all NaNs."""
    if not any(TOKENS[kind] for kind in set(map(type, sums))):
        groups.update(zip(sums, map(list, zip(sums.values())), strict=True))
        return
    for key, total in sums.items():
        groups[key].append(total)
    for values in groups.values():
        values[:] = [sum(values)] if len(values) > 1 else values
