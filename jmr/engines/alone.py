"""Runs one call of a function of the user's as a job of its own: in a slot, which may end by it.

    function, (key, value) ──> Plan of one record ──> slots ──> what the function gave

The kernel would not survive the call, and a slot tells how it ended: its prints, its signal, its peak memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from jmr import interrupts
from jmr.engines.cluster import current_cluster
from jmr.engines.slots import ClusterEngine
from jmr.plan import Plan
from jmr.progress.report import Report
from jmr.tasks.contract import checked_fold
from jmr.tasks.map import pairs_of

__all__ = ["run_alone"]


def run_alone(phase: str, function: Callable[[Any, Any], Any], record: tuple[Any, Any]) -> Any:
    """Call the function once, on this record or group.

    Raises
    ------
    SlotDiedError
        It ended its process.
    JmrError
        As a job of that record would.
    """
    with interrupts.watched():
        plan = _plan(phase, function, record)
        report = Report(plan.name)
        partitions = list(ClusterEngine(current_cluster()).run(plan, report))
    (given,) = [value for partition in partitions for value in partition.values]
    return given if phase == "reduce" else given[0].value if phase == "combine" else given[0]


def _plan(phase: str, function: Callable[[Any, Any], Any], record: tuple[Any, Any]) -> Plan:
    """A job in which the function is called in its own role, so that messages name it."""
    options: dict[str, Any] = {"max_attempts": 1, "n_partitions": 1, "progress": False, "name": f"{phase}fn alone"}
    match phase:
        case "map":
            return Plan.checked([record], _Together(function), **options)
        case "combine":
            return Plan.checked([record], _whole, combinefn=_Once(function), **options)
        case _:
            return Plan.checked([record], _each, function, **options)


class _Together:
    """A mapfn whose pairs are one value."""

    def __init__(self, mapfn: Callable[[Any, Any], Any]) -> None:
        self._mapfn = mapfn

    def __call__(self, key: Any, value: Any) -> Iterable[tuple[str, list[tuple[Any, Any]]]]:
        return [("pairs", pairs_of(self._mapfn, key, value, check=False))]


@dataclass(frozen=True, slots=True)
class _Folded:
    """What combinefn gave."""

    value: Any


class _Once:
    """A combinefn that is given all values at once, and what it gives no more; jobs call it as often as they like."""

    def __init__(self, combinefn: Callable[[Any, Any], Any]) -> None:
        self._combinefn = combinefn

    def __call__(self, key: Any, values: list[Any]) -> _Folded:
        (given,) = values
        return given if isinstance(given, _Folded) else _Folded(checked_fold(self._combinefn(key, given)))


def _whole(key: Any, values: list[Any]) -> Iterable[tuple[Any, Any]]:
    return [(key, values)]


def _each(key: Any, values: list[Any]) -> Iterable[tuple[Any, Any]]:
    return [(key, value) for value in values]
