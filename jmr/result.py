"""The dict that comes back, and what is known of the job that made it.

partitions (keys, orders, values) ──in_order()──> items in order of first appearance ──> Result
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from jmr.errors import ReplayError, brief, describe, hide_ours

if TYPE_CHECKING:
    from jmr.sinks.manifest import Manifest
    from jmr.sources.base import Split

__all__ = ["Attempt", "BadRecord", "BadRecords", "Partition", "Result", "Stats", "Written", "in_order"]

#: As many items of a result IPython shows, and as much of each key and value.
_MAX_ITEMS, _MAX_TEXT = 30, 200
#: As many bad records, and as much of each key.
_MAX_BAD, _MAX_KEY = 20, 60


@dataclass(frozen=True, slots=True)
class Partition:
    """Reduced groups, as three columns."""

    keys: Sequence[Any]
    #: Where each key appeared first, as a number that compares over the whole job.
    orders: Sequence[int]
    values: Sequence[Any]


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record or group that `on_error="skip"` set aside."""

    #: "map", "combine" or "reduce"; or "read", of what a worker could not read, such as a file.
    phase: str
    key: Any
    #: The record's value, or the group's list of values; None of a large group that has ended its process, and of what
    #: could not be read: its key is the path.
    value: Any
    #: The user's exception, with the user's frames; or one of jmr's, if what the function gave cannot be used.
    error: BaseException
    #: The same, as Python prints it.
    traceback: str
    #: A jmr.engines.replay.Replay: a room below this one.
    _replay: Any = field(default=None, repr=False, compare=False)

    def replay(self) -> Any:
        """Call the job's function on this key and value again, here, so that `%debug` and `breakpoint()` work.

        It is given copies of them. Returns what it gives (of mapfn the list of its pairs), and prints that it has not
        failed this time. A function that ended its process is called in another one.

        Raises
        ------
        Exception
            The function's own.
        ReplayError
            The functions are not here, since the result was pickled elsewhere; or the record could not be kept whole.
        """
        __tracebackhide__ = True
        if self.phase == "read":
            raise ReplayError(f"{describe(self.key)} could not be read, so no function was called on it")
        if self._replay is None:
            raise ReplayError("no job has made this BadRecord, so there is no function to call")
        try:
            return self._replay.run_again_on(self.key, self.value)
        except BaseException as error:
            hide_ours(error)
            raise

    def __repr__(self) -> str:
        """In one line; the traceback has many, and is there to be printed."""
        key, value = describe(self.key), describe(self.value)
        return f"BadRecord(phase={self.phase!r}, key={key}, value={value}, error={brief(self.error)})"


class BadRecords(list[BadRecord]):
    """The first thousand bad records; `n_total` counts them all."""

    def __init__(self, kept: Iterable[BadRecord] = (), n_total: int = 0) -> None:
        super().__init__(kept)
        self.n_total = max(n_total, len(self))

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """What IPython shows: a line for each of the first twenty, with where it was raised."""
        lines = [_told(bad) for bad in self[:_MAX_BAD]] or ["[]"]
        if n_left := max(self.n_total, len(self)) - min(len(self), _MAX_BAD):
            lines.append(f"... {n_left:,} more; .n_total counts all")
        with printer.group():
            for number, line in enumerate(lines):
                if number:
                    printer.break_()
                printer.text(line)


def _told(bad: BadRecord) -> str:
    from jmr import tracebacks

    where = tracebacks.place(bad.error)
    return f"{bad.phase} key={describe(bad.key, _MAX_KEY)}: {brief(bad.error)}{where and f' ({where})'}"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a task, for the timeline; seconds since the job began."""

    slot: str
    #: "map-3", "reduce-0".
    task: str
    number: int
    started: float
    ended: float
    #: "done", "raised", "died", "lost" (with its worker), "refused" (by its worker) or "stopped".
    outcome: str
    #: Whether another attempt at the task was running already.
    backup: bool = False


@dataclass(frozen=True, slots=True)
class Stats:
    """A job in numbers."""

    seconds: float = 0.0
    n_slots: int = 0
    n_records: int = 0
    n_pairs: int = 0
    n_keys: int = 0
    n_map_tasks: int = 0
    n_reduce_tasks: int = 0
    shuffled_bytes: int = 0


class Result(dict[Any, Any]):
    """A dict of what reducefn returned, keys in order of first appearance; made by `jmr.run`.

    It prints as a dict. IPython shows the first thirty items of a longer one, and long values cut.

    Attributes
    ----------
    stats
        seconds, n_slots, n_records, n_pairs, n_keys, n_map_tasks, n_reduce_tasks, shuffled_bytes.
    errors
        A list of what `on_error="skip"` set aside, in source order: phase ("read", "map", "combine" or "reduce"), key,
        value, error and traceback of each. The first thousand are kept; `errors.n_total` counts all. IPython shows
        twenty.
        `errors[3].replay()` runs the function on that record again, here, for a debugger.
    timeline
        A list of attempts in the order in which they ended: slot, task, number, started and ended (seconds since the
        job began), outcome, and backup: whether another attempt at the task ran already.
    summary
        The job as a picture in a notebook, and as lines in a terminal; None if no job made this result. A result is
        pickled with all of this but the summary's log.

    Examples
    --------
    >>> import jmr
    >>> result = jmr.run({"a": 1, "b": "?"}, lambda k, v: [(k, 1 / v)], on_error="skip", engine="inline")
    >>> result, result.stats.n_records, [bad.key for bad in result.errors]
    ({'a': [1.0]}, 2, ['b'])
    """

    def __init__(
        self,
        items: Any = (),
        *,
        stats: Stats | None = None,
        errors: BadRecords | None = None,
        timeline: list[Attempt] | None = None,
        summary: Any = None,
    ) -> None:
        super().__init__(items)
        self.stats = stats or Stats()
        self.errors = errors if errors is not None else BadRecords()
        self.timeline = timeline if timeline is not None else []
        #: A jmr.views.summary.Summary: a room below this one.
        self.summary = summary

    def to_pandas(self) -> Any:
        """The result as a `pandas.DataFrame`: a row for each key, in the result's order; of `out=`, file by file.

        The columns are "key" and "value". Keys that are all tuples of one length become a column for each item:
        "key_0", "key_1" and so on, or the names that a namedtuple has; values that are all dicts with the same str
        keys become a column for each of these. `to_polars` and `to_arrow` have the same columns.

        Raises
        ------
        ArgumentValueError
            pandas is missing.

        Examples
        --------
        >>> import jmr
        >>> flights = [("JFK", 5.0), ("EWR", 1.5), ("JFK", 7.0)]
        >>> mean = lambda airport, delays: {"n": len(delays), "mean": sum(delays) / len(delays)}
        >>> jmr.run(flights, lambda k, v: [(k, v)], mean, engine="inline").to_pandas()
           key  n  mean
        0  JFK  2   6.0
        1  EWR  1   1.5
        """
        from jmr.sinks.tables import to_pandas

        return to_pandas(self._rows())

    def to_polars(self) -> Any:
        """The result as a `polars.DataFrame`, with the columns of `to_pandas`.

        Raises
        ------
        ArgumentValueError
            polars is missing, or a column's values are of types that do not go into one column.

        Examples
        --------
        >>> import jmr
        >>> jmr.run({"a": 1}, lambda k, v: [((k, v), v)], lambda k, v: sum(v), engine="inline").to_polars().to_dicts()
        [{'key_0': 'a', 'key_1': 1, 'value': 1}]
        """
        from jmr.sinks.tables import to_polars

        return to_polars(self._rows())

    def to_arrow(self) -> Any:
        """The result as a `pyarrow.Table`, with the columns of `to_pandas`.

        Raises
        ------
        ArgumentValueError
            pyarrow is missing, or a column's values are of types that do not go into one column.

        Examples
        --------
        >>> import jmr
        >>> jmr.run({"a": 1}, lambda k, v: [(k, v)], lambda k, v: sum(v), engine="inline").to_arrow().to_pylist()
        [{'key': 'a', 'value': 1}]
        """
        from jmr.sinks.tables import to_arrow

        return to_arrow(self._rows())

    def _rows(self) -> Iterable[tuple[Any, Any]]:
        """Keys and values."""
        return self.items()

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """What IPython shows: the dict as it shows any, unless that would flood the cell; then an item a line, cut."""
        is_small = self._is_small()
        with printer.group(1, "{", "}"):
            for number, (key, value) in enumerate(islice(self.items(), _MAX_ITEMS)):
                if number:
                    printer.text(",")
                    printer.breakable() if is_small else printer.break_()
                if is_small:
                    printer.pretty(key)
                    printer.text(": ")
                    printer.pretty(value)
                else:
                    printer.text(f"{_brief(key)}: {_brief(value)}")
            if n_left := max(len(self) - _MAX_ITEMS, 0):
                printer.text(",")
                printer.break_()
                printer.text(f"... {n_left:,} more {'key' if n_left == 1 else 'keys'}")

    def _is_small(self) -> bool:
        """Whether all of it can be shown; what has "..." of its own, such as a cycle, may be taken for a long value."""
        return len(self) <= _MAX_ITEMS and not any("..." in _brief(thing) for item in self.items() for thing in item)


class Written(Result):
    """What a job with `out` has written: a dict of each file's path and how many keys it holds.

    It is a source for the next job, whose records are the keys and values in the files, read on the workers; and
    `to_pandas` and the others make a table of them all.

    Parameters
    ----------
    place
        Where the files are, whatever the working directory is.
    manifest
        Which they are.
    items, known
        As for `Result`.
    """

    def __init__(self, place: str, manifest: Manifest, items: Any = (), **known: Any) -> None:
        super().__init__(items, **known)
        self._place = place
        self._manifest = manifest

    @property
    def n_bytes(self) -> int:
        """Of all files."""
        return sum(part.n_bytes for part in self._manifest.parts)

    def splits(self) -> Iterator[Split]:
        """The files, as a source of records."""
        return self.sized_splits(lambda: None)

    def sized_splits(self, wanted: Callable[[], int | None]) -> Iterator[Split]:
        """The same; `wanted` tells how much each should read. See `jmr.sources.base.Source`."""
        from jmr.sources.outputs import splits_of

        return splits_of(self._place, self._manifest, wanted)

    def _rows(self) -> Iterable[tuple[Any, Any]]:
        from jmr.sources.base import read_pairs

        return read_pairs(self.splits())


def _brief(thing: object) -> str:
    return describe(thing, _MAX_TEXT, n_items=_MAX_TEXT // 3)


def in_order(partitions: Iterable[Partition]) -> Iterator[tuple[Any, Any]]:
    """Yield the items of all partitions by first appearance.

    Examples
    --------
    >>> list(in_order([Partition("ac", [0, 2], [1, 3]), Partition("b", [1], [2])]))
    [('a', 1), ('b', 2), ('c', 3)]
    """
    items: list[tuple[int, Any, Any]] = []
    for partition in partitions:
        items += zip(partition.orders, partition.keys, partition.values, strict=True)
    items.sort(key=itemgetter(0))
    return map(itemgetter(1, 2), items)
