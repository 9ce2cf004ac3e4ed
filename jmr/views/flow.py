"""What a preview shows of a job's first records, as text and cut to what a page has room for.

    records, pairs, groups, results ──flow_of()──> Flow ──> dataflow (a drawing), flowcard (tables, text)

A record of a million pairs, or a million groups, costs no more than what is shown of it: the rest is counted.
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jmr.errors import describe

__all__ = ["Flow", "FlowGroup", "FlowPair", "FlowRecord", "cells", "fit", "flow_of", "listed"]

#: Most pairs to show in all, most records, and fewest pairs of a record that has them.
_MOST_PAIRS, _MOST_RECORDS, _LEAST_PAIRS = 20, 8, 2
#: Most values of a group.
_MOST_VALUES = 8
#: Most characters of one key or value.
_MOST_CHARACTERS = 120


@dataclass(frozen=True, slots=True)
class FlowPair:
    """One pair that mapfn emitted."""

    key: str
    value: str
    #: Where it went: an index into `Flow.groups`.
    group: int


@dataclass(frozen=True, slots=True)
class FlowRecord:
    """One record, and the first pairs that mapfn emitted for it."""

    key: str
    value: str
    pairs: list[FlowPair]
    n_pairs: int


@dataclass(frozen=True, slots=True)
class FlowGroup:
    """One key's values, what combinefn made of them if there is one, and the result."""

    key: str
    values: list[str]
    n_values: int
    combined: str | None
    result: str


@dataclass(frozen=True, slots=True)
class Flow:
    """The first records all the way to their results."""

    records: list[FlowRecord]
    #: Those that a shown pair is in, in order of first appearance.
    groups: list[FlowGroup]
    n_records: int
    n_pairs: int
    n_groups: int
    #: Whether there is a reducefn: without one, the lists are the results.
    reduces: bool = True

    @property
    def has_combined(self) -> bool:
        """Whether there is a combinefn."""
        return any(group.combined is not None for group in self.groups)


def flow_of(
    records: Sequence[tuple[Any, Any]],
    pairs: Sequence[Sequence[tuple[Any, Any]]],
    groups: Mapping[Any, Sequence[Any]],
    combined: Mapping[Any, Any] | None,
    results: Mapping[Any, Any],
    *,
    reduces: bool,
) -> Flow:
    """Choose what is shown, and put it in words.

    Parameters
    ----------
    records
        As the source gave them.
    pairs
        Of each record, those that mapfn emitted.
    groups
        Each key's values, keys in order of first appearance. `groups[key]` finds any emitted key's own list.
    combined, results
        What combinefn, if there is one, and reducefn made of each group, in the order of `groups`.
    reduces
        Whether there is a reducefn.
    """
    shown_records = records[:_MOST_RECORDS]
    shares = _shares([len(emitted) for emitted in pairs[: len(shown_records)]])
    numbers = {id(values): number for number, values in enumerate(groups.values())}
    homes = [
        [numbers[id(groups[key])] for key, _ in emitted[:share]] for emitted, share in zip(pairs, shares, strict=False)
    ]
    shown = sorted(set(itertools.chain.from_iterable(homes)))
    place = {number: position for position, number in enumerate(shown)}
    flow_records = [
        FlowRecord(
            _said(key),
            _said(value),
            [FlowPair(_said(k), _said(v), place[number]) for (k, v), number in zip(emitted, home, strict=False)],
            len(emitted),
        )
        for (key, value), emitted, home in zip(shown_records, pairs, homes, strict=False)
    ]
    return Flow(
        flow_records,
        _flow_groups(set(shown), groups, combined, results),
        n_records=len(records),
        n_pairs=sum(map(len, pairs)),
        n_groups=len(groups),
        reduces=reduces,
    )


def _flow_groups(
    shown: set[int],
    groups: Mapping[Any, Sequence[Any]],
    combined: Mapping[Any, Any] | None,
    results: Mapping[Any, Any],
) -> list[FlowGroup]:
    folded: Iterable[Any] = itertools.repeat(None) if combined is None else combined.values()
    return [
        FlowGroup(
            _said(key),
            [_said(value) for value in values[:_MOST_VALUES]],
            len(values),
            None if combined is None else _said(fold),
            _said(result),
        )
        for number, ((key, values), fold, result) in enumerate(
            zip(groups.items(), folded, results.values(), strict=False)
        )
        if number in shown
    ]


def _shares(counts: list[int]) -> list[int]:
    """How many of its pairs each record may show: equal parts, and what one leaves goes to the others.

    Examples
    --------
    >>> _shares([1, 1000, 3]), _shares([5, 5]), _shares([9] * 8), _shares([3] * 8)
    ([1, 16, 3], [5, 5], [2, 2, 2, 2, 2, 2, 2, 2], [3, 3, 3, 3, 3, 3, 3, 3])
    """
    most = _LEAST_PAIRS
    while sum(min(n, most + 1) for n in counts) <= _MOST_PAIRS and most < max(counts, default=0):
        most += 1
    return [n if n <= most + 1 else most for n in counts]  # to say that there is one more takes as much room as it


def _said(obj: object) -> str:
    """What it is, on one line."""
    return describe(obj, _MOST_CHARACTERS)


def listed(group: FlowGroup, n_cells: int) -> str:
    """A group's values as the list that reducefn gets: one at least, and as many as fit into so many columns.

    Examples
    --------
    >>> group = FlowGroup("'a'", ["1", "2", "3"], 7, None, "9")
    >>> listed(group, 40), listed(group, 16)
    ('[1, 2, 3, … 4 more]', '[1, 2, … 5 more]')
    """
    for n_shown in range(len(group.values), 0, -1):
        n_more = group.n_values - n_shown
        said = f"[{', '.join([*group.values[:n_shown], *([f'… {n_more:,} more'] if n_more else [])])}]"
        if cells(said) <= n_cells:
            break
    return said


def cells(text: str) -> int:
    r"""How many columns of a terminal a text takes.

    Examples
    --------
    >>> cells("duck"), cells("鴨"), cells("a\u0308")
    (4, 2, 1)
    """
    return len(text) if text.isascii() else sum(_width(c) for c in text)


def _width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def fit(text: str, n_cells: int) -> str:
    """Cut a text to so many columns, and show that it was cut.

    Examples
    --------
    >>> fit("mississippi", 6), fit("ohio", 6)
    ('missi…', 'ohio')
    """
    if cells(text) <= n_cells:
        return text
    if text.isascii():
        return text[: max(0, n_cells - 1)] + "…"
    widths = itertools.accumulate(map(_width, text))
    n_kept = sum(1 for width in widths if width < n_cells)
    return text[:n_kept] + "…"
