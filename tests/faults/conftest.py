"""The fault table: a stopwatch for each row, and all of them as one table when the tests have ended.

@pytest.mark.faults(fault, expected, within=65) ──> watch.start() ... watch.stop() ──> a row
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.faults.scene import Scene
from tests.hosts import Hosts

_ROW = ("fault", "expected", "measured")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes minutes runs only where faults are asked for."""
    if "faults" in config.option.markexpr:
        return
    late = [item for item in items if item.get_closest_marker("minutes")]
    config.hook.pytest_deselected(items=late)
    items[:] = [item for item in items if item not in late]


class Stopwatch:
    """Measures how long the cluster takes to get over a row's fault."""

    def __init__(self, within: float) -> None:
        self._within = within
        self._began = 0.0
        self._since = ""
        #: What is told in the table.
        self.measured = ""

    def start(self, since: str = "") -> None:
        """It happens now; or something else does, since when the time counts."""
        self._began = time.monotonic()
        self._since = since and f" after {since}"

    def stop(self) -> None:
        """The cluster has got over it."""
        seconds = time.monotonic() - self._began
        self.measured = f"{seconds:.1f} s{self._since}"
        assert seconds <= self._within, f"it took {self.measured}, and at most {self._within:g} s were expected"

    def also(self, what: str, seconds: float) -> None:
        """Tell of something else that was measured."""
        self.measured += f"; {what} {seconds:.1f} s"


@pytest.fixture
def watch(request: pytest.FixtureRequest) -> Iterator[Stopwatch]:
    """The row's stopwatch, which has to be stopped."""
    mark = request.node.get_closest_marker("faults")
    assert mark is not None, "a row says what happens"
    watch = Stopwatch(**mark.kwargs)
    began = time.monotonic()
    yield watch
    parameters = getattr(request.node, "callspec", None)
    fault, expected = (text.format(**parameters.params if parameters else {}) for text in mark.args)
    request.node.user_properties += zip(_ROW, (fault, expected, watch.measured), strict=True)
    assert watch.measured, f"nothing was measured in {time.monotonic() - began:g} s"


@pytest.fixture
def scene(hosts: Hosts) -> Scene:
    """Hosts, and jobs to which something may happen there."""
    return Scene(hosts)


#: What was told of each test that is a row, by where it is.
_told: dict[tuple[str, int, str], dict[str, str]] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note how a row has ended, which its last report tells."""
    row = _told.setdefault((report.location[0], report.location[1] or 0, report.nodeid), {})
    if not report.passed:
        row["outcome"] = report.outcome.upper()
    row.update((name, text) for name, text in report.user_properties if name in _ROW)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Tell the table, where it was asked for: lines that are Markdown."""
    if "faults" not in config.option.markexpr:
        return
    ended = [row for _, row in sorted(_told.items()) if "fault" in row]
    rows = [(row["fault"], row["expected"], row.get("outcome", row["measured"])) for row in ended]
    widths = [max(map(len, column)) for column in zip(_ROW, *rows, strict=True)]
    terminalreporter.section("faults, and how the cluster gets over them")
    for row in [_ROW, ["-" * width for width in widths], *rows]:
        terminalreporter.write_line(f"| {' | '.join(map(str.ljust, row, widths))} |")
