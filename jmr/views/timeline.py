"""Attempts as geometry: bars in lanes, or how many slots were busy when.

    attempts ──bars()────> kind -> slot -> bars        few slots: a lane for each, a bar for each attempt
             ──shares()──> lanes of several slots      many slots: a lane for a host, or for some of its slots
    seconds  ──ticks()───> where the time axis has marks

Millions of attempts become thousands of bars in one pass: what is narrower than a few pixels is merged with its
neighbour. Nothing is drawn here, and times are seconds since the job began.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

from jmr.result import Attempt

__all__ = ["KINDS", "Bars", "Lane", "Sorted", "bars", "by_kind", "groups", "merged", "shares", "sorted_slots", "ticks"]

T = TypeVar("T")

#: What an attempt was, in the order in which they are drawn: what went wrong must not be hidden.
KINDS = ("map", "reduce", "stopped", "backup", "failed")

#: kind -> slot -> [start, end] in columns, in order of their ends.
Bars = dict[str, dict[str, list[list[int]]]]

#: So few do not make a picture, if each is one lane.
_FEW_HOSTS = 3

_STEPS = (
    *(base * 10**power for power in range(-4, 0) for base in (1, 2, 5)),
    *(1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 10800, 21600, 43200),
)


#: kind -> attempts, in their order; only kinds that occur.
Sorted = dict[str, list[Attempt]]


def by_kind(timeline: Iterable[Attempt]) -> Sorted:
    """Sort attempts by what is to be seen of them: their phase if all went well, else what became of them."""
    well: list[Attempt] = []
    rest: list[Attempt] = []
    for attempt in timeline:
        (well if attempt.outcome == "done" and not attempt.backup else rest).append(attempt)
    found = {
        "map": [attempt for attempt in well if attempt.task[0] == "m"],
        "reduce": [attempt for attempt in well if attempt.task[0] != "m"],
        "stopped": [attempt for attempt in rest if attempt.outcome == "stopped"],
        "backup": [attempt for attempt in rest if attempt.outcome == "done"],
        "failed": [attempt for attempt in rest if attempt.outcome not in {"done", "stopped"}],
    }
    return {kind: attempts for kind, attempts in found.items() if attempts}


def bars(attempts: Sorted, scale: float, least: int) -> Bars:
    """Draw every attempt as a bar in its slot's lane.

    Parameters
    ----------
    attempts
        In order of their ends.
    scale
        Columns a second. A bar is at least one column wide.
    least
        Bars of one kind that touch become one if one of them has fewer columns.

    Examples
    --------
    >>> tasks = [(0.0, 0.4), (0.4, 0.8), (1.0, 9.0), (9.0, 20.0)]
    >>> attempts = [Attempt("local/1", f"map-{i}", 1, *task, "done") for i, task in enumerate(tasks)]
    >>> bars(by_kind(attempts), scale=1.0, least=3)
    {'map': {'local/1': [[0, 9], [9, 20]]}}
    """
    drawn: Bars = {kind: {} for kind in attempts}
    for kind, lanes in drawn.items():
        for attempt in attempts[kind]:
            start, end = int(attempt.started * scale), int(attempt.ended * scale)
            lane = lanes.get(attempt.slot)
            if lane is None:
                lane = lanes[attempt.slot] = []
            elif end < lane[-1][1]:  # drawn already, as most of a million are
                continue
            _add(lane, start, max(end, start + 1), least)
    return drawn


def merged(drawn: Bars, least: int) -> Bars:
    """The same bars, coarser."""
    coarse: Bars = {}
    for kind, lanes in drawn.items():
        for slot, lane in lanes.items():
            kept = coarse.setdefault(kind, {}).setdefault(slot, [])
            for start, end in lane:
                _add(kept, start, end, least)
    return coarse


def _add(lane: list[list[int]], start: int, end: int, least: int) -> None:
    if lane:
        last = lane[-1]
        if start <= last[1] and (end - start < least or last[1] - last[0] < least):
            last[1] = max(last[1], end)
            return
    lane.append([start, end])


@dataclass(frozen=True, slots=True)
class Lane:
    """Some slots, and how many of them were busy in each step of time."""

    first: str
    last: str
    n_slots: int
    #: kind -> slots that were busy with it, a number for each step.
    busy: dict[str, list[float]]

    @property
    def name(self) -> str:
        """Names its slots: "h2", "local/1–8", "h2 – h9"."""
        if self.first == self.last:
            return self.first
        host, _, number = self.last.rpartition("/")
        return f"{self.first}–{number}" if host and host == host_of(self.first) else f"{self.first} – {self.last}"

    def joined(self, other: Lane) -> Lane:
        """Both as one."""
        busy = {kind: [a + b for a, b in zip(self.busy[kind], other.busy[kind], strict=True)] for kind in KINDS}
        return Lane(self.first, other.last, self.n_slots + other.n_slots, busy)

    def coarser(self) -> Lane:
        """With half as many steps; their number must be even."""
        busy = {
            kind: [(a + b) / 2 for a, b in zip(steps[::2], steps[1::2], strict=True)]
            for kind, steps in self.busy.items()
        }
        return Lane(self.first, self.last, self.n_slots, busy)


def shares(attempts: Sorted, lanes: Sequence[Sequence[str]], seconds: float, n_steps: int) -> list[Lane]:
    """Say how many slots of each lane were busy, step by step.

    Parameters
    ----------
    attempts
        In any order.
    lanes
        The slots of each lane.
    seconds, n_steps
        The whole time, and the number of equal steps that it is cut into.
    """
    alone = {host for host, n in Counter(host for slots in lanes for host in {*map(host_of, slots)}).items() if n == 1}
    made = [_empty_lane(slots, alone, n_steps) for slots in lanes]
    scale = n_steps / seconds
    for kind, some in attempts.items():
        steps_of = {slot: lane.busy[kind] for lane, slots in zip(made, lanes, strict=True) for slot in slots}
        for attempt in some:
            _spread(steps_of[attempt.slot], attempt.started * scale, attempt.ended * scale)
    return made


def _empty_lane(slots: Sequence[str], alone: Container[str], n_steps: int) -> Lane:
    """A lane, named after its hosts where it has all their slots: `alone` are those that are in no other."""
    first, last = (host_of(slot) if host_of(slot) in alone else slot for slot in (slots[0], slots[-1]))
    return Lane(first, last, len(slots), {kind: [0.0] * n_steps for kind in KINDS})


def _spread(steps: list[float], start: float, end: float) -> None:
    """Add one slot's time, in steps, to those that it falls into."""
    first, last = int(start), int(end)
    if last == len(steps):  # it ended when everything did
        last -= 1
    if first >= last:
        steps[last] += end - start
        return
    steps[first] += first + 1 - start
    for step in range(first + 1, last):
        steps[step] += 1
    steps[last] += end - last


def host_of(slot: str) -> str:
    """Name the worker of a slot: "h2" of "h2/13"."""
    return slot.rpartition("/")[0] or slot


def sorted_slots(slots: Iterable[str]) -> list[str]:
    """Slots as a reader expects them: this host's first, and 2 before 10.

    Examples
    --------
    >>> sorted_slots(["h10/1", "h2/1", "local/10", "local/9"])
    ['local/9', 'local/10', 'h2/1', 'h10/1']
    """
    return sorted(slots, key=lambda slot: (host_of(slot) != "local", _natural(slot)))


def _natural(name: str) -> list[tuple[bool, int, str]]:
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", name)]


def groups(slots: Sequence[str], most: int) -> list[list[str]]:
    """Put slots, sorted, into about as many lanes as there may be: a host or several in each, or some of its slots.

    Examples
    --------
    >>> groups(["a/1", "a/2", "b/1", "c/1", "c/2", "d/1"], most=2)
    [['a/1', 'a/2', 'b/1'], ['c/1', 'c/2', 'd/1']]
    >>> groups(["a/1", "a/2", "a/3", "a/4", "b/1", "b/2"], most=3)
    [['a/1', 'a/2'], ['a/3', 'a/4'], ['b/1', 'b/2']]
    """
    hosts = [list(group) for _, group in groupby(slots, host_of)]
    if len(hosts) < _FEW_HOSTS:
        size = -(-len(slots) // most)
        return [part for host in hosts for part in _cut(host, size)]
    return [[slot for host in part for slot in host] for part in _cut(hosts, -(-len(hosts) // most))]


def _cut(things: list[T], size: int) -> list[list[T]]:
    return [things[at : at + size] for at in range(0, len(things), size)]


def ticks(seconds: float, most: int = 8) -> list[tuple[float, str]]:
    """Marks of a time axis from 0 to `seconds`, at round times: where, and what it says there.

    Examples
    --------
    >>> ticks(0.005), ticks(9.3, most=4), ticks(90, most=3)  # doctest: +NORMALIZE_WHITESPACE
    ([(0.0, '0'), (0.001, '1 ms'), (0.002, '2 ms'), (0.003, '3 ms'), (0.004, '4 ms'), (0.005, '5 ms')],
     [(0, '0'), (5, '5 s')],
     [(0, '0'), (30, '30 s'), (60, '1 min'), (90, '1 min 30')])
    """
    step = next((step for step in _STEPS if seconds / step <= most), _STEPS[-1])
    while seconds / step > most:  # days
        step *= 2
    n = int(seconds / step * (1 + 1e-9))
    return [(i * step, _said(i * step, step)) for i in range(n + 1)]


def _said(seconds: float, step: float) -> str:
    if not seconds:
        return "0"
    if step < 1:
        return f"{seconds * 1000:g} ms" if step < 0.1 else f"{seconds:.1f} s"
    hours, rest = divmod(round(seconds), 3600)
    minutes, left = divmod(rest, 60)
    if hours:
        return f"{hours} h {minutes}" if minutes else f"{hours} h"
    if minutes:
        return f"{minutes} min {left}" if left else f"{minutes} min"
    return f"{left} s"
