"""Carries a job's first records all the way, in this process, and writes everything down.

    source ──cut──> split ──run_map──> pairs ──run_map──> folded ──run_reduce──> results
                    Recorded(mapfn)            Timed(combinefn)    Timed(reducefn)

These are the tasks that a slot runs, on the blobs that a slot gets: what cannot travel shows here, an error is the one
that the job would end with, and user code works on copies. Like the inline engine, it calls combinefn twice on each
group, the second time on its own result; and on parts of the group, as slots may.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import GeneratorType
from typing import Any

from jmr import interrupts
from jmr.codec.functions import dump_functions
from jmr.codec.values import Buffer, byte_length, dump_columns, load_columns
from jmr.engines.base import error_from
from jmr.engines.splitting import cut
from jmr.plan import Plan
from jmr.sources import Record, records
from jmr.tasks.contract import TaskError, checked_pair, checked_pairs
from jmr.tasks.grouped import dump_part
from jmr.tasks.map import MapOutput, MapTask, records_of, run_map
from jmr.tasks.partition import Groups
from jmr.tasks.reduce import ReduceTask, run_reduce

__all__ = ["Rehearsal", "rehearse"]

Clock = Callable[[], float]
#: What combinefn left of each group, in their order: at once, called again on that, and first on two parts of it.
Folded = tuple[list[Any], list[Any], list[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """What became of the first records."""

    #: Length of the source, if it is known.
    n_records: int | None
    records: list[Record]
    #: Of each record.
    pairs: list[list[tuple[Any, Any]]]
    groups: Groups
    #: None without a combinefn.
    folded: Folded | None
    results: dict[Any, Any]
    #: Whether there is a reducefn.
    reduces: bool
    #: Of the records, pickled.
    record_bytes: int
    #: What mapfn emitted, and what would travel of it; the same without a combinefn.
    pair_bytes: int
    shuffled_bytes: int
    function_bytes: int
    #: Seconds of each call.
    map_seconds: list[float]
    combine_seconds: list[float]
    reduce_seconds: list[float]

    @property
    def n_pairs(self) -> int:
        """Of all these records."""
        return sum(map(len, self.pairs))

    @property
    def combined(self) -> dict[Any, Any] | None:
        """What combinefn left for each key."""
        return None if self.folded is None else dict(zip(self.groups, self.folded[1], strict=True))


def rehearse(plan: Plan, n: int, clock: Clock) -> Rehearsal:
    """Run the first `n` records.

    Raises
    ------
    JmrError
        What `jmr.run` would raise. What the source itself raises comes out unchanged.
    """
    functions = dump_functions(plan.functions)
    source = records(plan.source)
    split = _first(source, n)
    try:
        return _rehearsed(plan, source.n_records, split, byte_length(functions), clock)
    except TaskError as error:
        from jmr.engines.replay import held  # few previews need it

        told = error_from(error.failure, "preview", error.__cause__, held(error.failure.phase, plan, error.record))
        raise told from told.__cause__


def _first(source: Any, n: int) -> bytes:
    """The blob of the first records: `cut` may stop early."""
    split = b""
    n_read = 0
    while n_read < n:
        pieces, n_more = cut(source, n - n_read)
        if not n_more:
            break
        split += b"".join(pieces)
        n_read += n_more
    return split


def _rehearsed(plan: Plan, n_records: int | None, split: bytes, function_bytes: int, clock: Clock) -> Rehearsal:
    mapfn = _Recorded(plan.mapfn, clock)
    emitted = _mapped(mapfn, None, split)
    combinefn = None if plan.combinefn is None else _Timed(plan.combinefn, clock)
    blob, folded, combine_seconds = (emitted, None, []) if combinefn is None else _folded(combinefn, emitted)
    reducefn = None if plan.reducefn is None else _Timed(plan.reducefn, clock)
    return Rehearsal(
        n_records=n_records,
        records=records_of(bytearray(split)),
        pairs=mapfn.pairs,
        groups=_grouped(mapfn.pairs),
        folded=folded,
        results=_reduced(reducefn, combinefn, blob),
        reduces=reducefn is not None,
        record_bytes=_net(split, dump_columns([], [])),
        pair_bytes=_net(emitted, dump_part([], [], [], [])),
        shuffled_bytes=_net(blob, dump_part([], [], [], [])),
        function_bytes=function_bytes,
        map_seconds=mapfn.seconds,
        combine_seconds=combine_seconds,
        reduce_seconds=[] if reducefn is None else reducefn.seconds,
    )


def _net(blob: bytes, empty: list[Buffer]) -> int:
    """What a blob would weigh among many: its own frame, large for a few records, is left out."""
    return max(0, len(blob) - byte_length(empty))


def _mapped(mapfn: Callable[[Any, Any], Any], combinefn: _Timed | None, split: bytes) -> bytes:
    """What one map task leaves for one reduce task."""
    task = MapTask(mapfn=mapfn, combinefn=combinefn, n_partitions=1, skips=False)
    output: MapOutput = run_map(task, bytearray(split))
    return b"".join(output.partitions[0])


def _folded(combinefn: _Timed, emitted: bytes) -> tuple[bytes, Folded, list[float]]:
    """What travels, what there is to compare, and how long the calls took that a job would make."""
    once = _combined(combinefn, *_groups_in(emitted))
    seconds = combinefn.seconds.copy()
    twice = _combined(combinefn, *_groups_in(once))
    return twice, (_values_in(once), _values_in(twice), _values_in(_combined_in_parts(combinefn, emitted))), seconds


def _combined(combinefn: _Timed, keys: list[Any], lists: list[list[Any]]) -> bytes:
    """A map task whose records are groups."""
    return _mapped(_spread, combinefn, b"".join(dump_columns(keys, lists)))


def _combined_in_parts(combinefn: _Timed, blob: bytes) -> bytes:
    """As if two map tasks had each emitted a part of every group."""
    keys, lists = _groups_in(blob)
    halves = [(len(values) + 1) // 2 for values in lists]
    former = [values[:half] for values, half in zip(lists, halves, strict=True)]
    latter = [values[half:] for values, half in zip(lists, halves, strict=True)]
    of_former, of_latter = (_values_in(_combined(combinefn, keys, part)) for part in (former, latter))
    rest = iter(of_latter)  # of one value there is no latter half
    both = [[one, next(rest)] if values else [one] for one, values in zip(of_former, latter, strict=True)]
    return _combined(combinefn, keys, both)


def _groups_in(blob: bytes) -> tuple[list[Any], list[list[Any]]]:
    """Fresh copies of the keys and of their values."""
    if not blob:
        return [], []
    keys, _, _, lists = load_columns(bytearray(blob), 4)
    return keys, lists


def _spread(key: Any, values: list[Any]) -> Iterator[tuple[Any, Any]]:
    for value in values:
        yield key, value


def _values_in(blob: bytes) -> list[Any]:
    """The one value that combinefn left of each group."""
    return [values[0] for values in _groups_in(blob)[1]]


def _reduced(reducefn: _Timed | None, combinefn: _Timed | None, blob: bytes) -> dict[Any, Any]:
    if not blob:
        return {}
    task = ReduceTask(reducefn=reducefn, combinefn=combinefn, skips=False)
    pieces, _ = run_reduce(task, [[(0, bytearray(blob))]])
    keys, _, values = load_columns(bytearray(b"".join(pieces)), 3)
    return dict(zip(keys, values, strict=True))


def _grouped(pairs: list[list[tuple[Any, Any]]]) -> Groups:
    groups = Groups()
    for emitted in pairs:
        for key, value in emitted:
            groups[key].append(value)
    return groups


class _Timed:
    """A user function, and how long each call of it took."""

    def __init__(self, function: Callable[[Any, Any], Any], clock: Clock) -> None:
        self._function = function
        self._clock = clock
        self.seconds: list[float] = []

    def __call__(self, key: Any, values: Any) -> Any:
        interrupts.check()
        started = self._clock()
        returned = self._function(key, values)
        self.seconds.append(self._clock() - started)
        return self._to_the_end(returned) if type(returned) is GeneratorType else returned

    def _to_the_end(self, generator: Iterable[Any]) -> Iterator[Any]:
        started = self._clock()
        yield from generator
        self.seconds[-1] += self._clock() - started


class _Recorded(_Timed):
    """A mapfn, and what it emitted for each record."""

    def __init__(self, mapfn: Callable[[Any, Any], Any], clock: Clock) -> None:
        super().__init__(mapfn, clock)
        self.pairs: list[list[tuple[Any, Any]]] = []

    def __call__(self, key: Any, value: Any) -> Any:
        emitted: list[tuple[Any, Any]] = []
        self.pairs.append(emitted)
        returned = super().__call__(key, value)
        return None if returned is None else self._written_down(checked_pairs(returned), emitted)

    def _written_down(self, pairs: Iterable[Any], emitted: list[tuple[Any, Any]]) -> Iterator[Any]:
        for pair in pairs:
            whole = pair if type(pair) is tuple else tuple(checked_pair(pair))
            emitted.append(whole)
            yield whole
