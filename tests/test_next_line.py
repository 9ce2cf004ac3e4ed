"""A loop spills before its next line, and what it calls until then runs as if nobody waited for that."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jmr.shuffle.files import room_of
from jmr.tasks import spilling as tasks_spilling
from jmr.tasks.contract import TaskError
from jmr.tasks.map import MapTask, map_records, run_map
from jmr.tasks.spilling import Spilling
from jmr.worker.spilling import Spiller
from tests import test_spilling
from tests.test_spilling import InMemory, largest, mapped, split_of, total


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with Python 3.11, or where others have the places that there are."""
    monkeypatch.setattr(tasks_spilling, "_TOOLS", ())


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("combinefn", [None, total, largest], ids=["uncombined", "sum", "max"])
def test_it_spills_before_each_of_its_pairs_where_it_is_traced(combinefn: Any) -> None:
    test_spilling.test_it_spills_before_each_of_its_pairs(combinefn)


def needs_monitoring(test: Any) -> Any:
    """No test at all before Python 3.12, which has brought sys.monitoring."""
    return test if hasattr(sys, "monitoring") else None


@needs_monitoring
def test_what_mapfn_calls_is_not_traced_until_the_next_pair() -> None:
    runs = InMemory()
    spilling = Spilling(runs)
    before = sys.gettrace()
    traces: list[Any] = []

    def mapfn(key: int, value: int) -> Iterator[tuple[int, int]]:
        yield 1, 1
        spilling.ask(sys._getframe())
        spilling.ask(sys._getframe())
        traces.append(sys.gettrace())
        yield 2, 2

    run_map(MapTask(mapfn=mapfn, combinefn=None, n_partitions=1, skips=False, spilling=spilling), split_of([(1, 1)]))
    assert (len(runs.runs), traces) == (2, [before])


@needs_monitoring
@pytest.mark.parametrize("fails", [False, True])
def test_a_call_that_is_the_last_leaves_nothing_that_waits(fails: bool, tmp_path: Path) -> None:
    monitoring: Any = getattr(sys, "monitoring", None)
    spiller = Spiller()
    tools: list[Any] = []

    def mapfn(key: int, value: int) -> Iterator[tuple[int, int]]:
        yield 1, 1
        spiller._ask(0, sys._getframe())
        tools.append(monitoring.get_tool(3))
        if fails:
            raise ValueError

    with (
        contextlib.suppress(TaskError),
        spiller.attempt(room_of(1, str(tmp_path), None, 0), "map-1-1", 1) as (spilling, _),
    ):
        task = MapTask(mapfn=mapfn, combinefn=None, n_partitions=1, skips=False, spilling=spilling)
        run_map(task, split_of([(1, 1)]))
    assert tools == ["jmr"]
    assert (monitoring.get_tool(3), monitoring.get_local_events(3, map_records.__code__)) == (None, 0)


@pytest.mark.usefixtures("traced")
def test_a_debugger_of_the_users_is_put_back() -> None:
    seen: list[str] = []

    def traces(frame: Any, event: str, argument: Any) -> Any:
        seen.append(event)
        return None

    before = sys.gettrace()
    sys.settrace(traces)
    try:
        _, _, n_runs = mapped([(0, [(1, 2)] * 5)], [2])
        after = sys.gettrace()
    finally:
        sys.settrace(before)
    assert (after, n_runs) == (traces, 2)
    assert seen


@pytest.mark.usefixtures("traced")
def test_asked_once_more_after_user_code_has_ended_the_tracing_it_spills() -> None:
    runs = InMemory()
    spilling = Spilling(runs)

    def mapfn(key: int, value: int) -> Iterator[tuple[int, int]]:
        yield 1, 1
        spilling.ask(sys._getframe())
        before = sys.gettrace()
        sys.settrace(None)
        spilling.ask(sys._getframe())
        assert sys.gettrace() is before
        yield 2, 2
        assert sys.gettrace() is not before

    run_map(MapTask(mapfn=mapfn, combinefn=None, n_partitions=1, skips=False, spilling=spilling), split_of([(1, 1)]))
    assert len(runs.runs) == 2


@pytest.mark.usefixtures("traced")
def test_a_trace_that_user_code_begins_meanwhile_goes_on() -> None:
    runs = InMemory()
    spilling = Spilling(runs)
    goes_on: list[bool] = []

    def traces(frame: Any, event: str, argument: Any) -> Any:
        return None

    def mapfn(key: int, value: int) -> Iterator[tuple[int, int]]:
        before = sys.gettrace()
        yield 1, 1
        spilling.ask(sys._getframe())
        sys.settrace(traces)
        yield 2, 2
        goes_on.append(sys.gettrace() is traces)
        sys.settrace(before)

    run_map(MapTask(mapfn=mapfn, combinefn=None, n_partitions=1, skips=False, spilling=spilling), split_of([(1, 1)]))
    assert (len(runs.runs), goes_on) == (2, [True])
