"""Jobs that take turns in one slot, here or on another host: each has the user's modules once, and as they were."""

from __future__ import annotations

import os
import secrets
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

import jmr
from tests.joiners import Command

pytestmark = pytest.mark.slow

HELPER = """
import dataclasses
WORD = "old"
@dataclasses.dataclass(frozen=True)
class Point:
    x: int
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The user's directory, on sys.path."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.syspath_prepend(str(home))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (home / "helper.py").write_text(HELPER)
    yield home
    for name in ("helper", "late"):
        sys.modules.pop(name, None)


@pytest.fixture(params=["here", "elsewhere"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[jmr.Cluster]:
    """It has one slot, and has been entered."""
    if request.param == "here":
        with jmr.Cluster(workers=1) as cluster:
            yield cluster
        return
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("JMR_TOKEN", secrets.token_hex(32))
    with jmr.Cluster(workers=0, listen="127.0.0.1:0") as cluster:
        with Command(cluster.address, "--slots", "1", cwd="/") as command:
            while "joined" not in command.line():
                pass
            yield cluster


class Turns:
    """A job of which one record is mapped, then another job's turn comes, then the others are."""

    def __init__(self, folder: Path, cell: str) -> None:
        self._mapped = folder / "mapped"
        os.mkfifo(self._mapped)
        self._go_on = threading.Event()
        self._job = jmr.submit(self._source(), self._functions(cell).mapfn, total, progress=False)
        self._mapped.read_bytes()  # until it is written to

    def _functions(self, cell: str) -> types.SimpleNamespace:
        return in_a_cell(f"MAPPED = {str(self._mapped)!r}\n{cell}")

    def _source(self) -> Iterator[tuple[int, int]]:
        yield 0, 0
        self._go_on.wait()
        yield from ((i, i) for i in range(1, 30))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._go_on.set()

    def result(self) -> jmr.Result:
        """Of all its records."""
        self._go_on.set()
        return self._job.result()


def in_a_cell(source: str) -> types.SimpleNamespace:
    """What a notebook's cell defines."""
    cell: dict[str, Any] = {"__name__": "__main__"}
    exec(source, cell)
    return types.SimpleNamespace(**cell)


def total(key: Any, values: list[int]) -> int:
    return sum(values)


total.__module__ = "__main__"  # as if it were of the cell, too

TELL = """
def tell(key):
    if key == 0:
        with open(MAPPED, "w"):
            pass
"""
POINTS = f"""
import helper
{TELL}
def mapfn(key, value):
    yield helper.Point(key % 3), 1
    tell(key)
"""
WORDS = """
def mapfn(key, value):
    import helper
    yield key, helper.WORD
"""


def run(cell: str) -> Any:
    return dict(jmr.run({1: 1}, in_a_cell(cell).mapfn, progress=False))


def points(result: jmr.Result) -> list[tuple[str, int, bool]]:
    own = sys.modules["helper"].Point
    return [(repr(key), n, type(key) is own) for key, n in result.items()]


THREE_POINTS = [(f"Point(x={i})", 10, True) for i in range(3)]


def test_equal_keys_meet_though_another_jobs_turn_came_between(cluster: jmr.Cluster, home: Path) -> None:
    with Turns(home, POINTS) as turns:
        assert run(WORDS) == {1: ["old"]}
        assert points(turns.result()) == THREE_POINTS


def test_equal_keys_meet_though_the_module_was_edited_for_another_job(cluster: jmr.Cluster, home: Path) -> None:
    with Turns(home, POINTS) as turns:
        (home / "helper.py").write_text(HELPER.replace("old", "brand new"))
        assert run(WORDS) == {1: ["brand new"]}
        assert points(turns.result()) == THREE_POINTS
    assert run(WORDS) == {1: ["brand new"]}


def test_equal_keys_meet_though_another_jobs_modules_lie_elsewhere(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "helper.py").write_text(HELPER.replace("old", "another"))
    with jmr.Cluster(workers=1), Turns(home, POINTS) as turns:
        with monkeypatch.context() as patch:
            patch.syspath_prepend(str(other))
            assert run(WORDS) == {1: ["another"]}
        assert points(turns.result()) == THREE_POINTS


INHERITED = f"""
import helper
{TELL}
class Mine(helper.Point):
    pass
def mapfn(key, value):
    tell(key)
    import helper
    yield isinstance(Mine(1), helper.Point) and issubclass(Mine, helper.Point), 1
"""


def test_class_of_a_cell_inherits_from_the_jobs_own_module(cluster: jmr.Cluster, home: Path) -> None:
    cell = in_a_cell(f"MAPPED = None\n{INHERITED}".replace("tell(key)\n", "pass\n"))
    with Turns(home, INHERITED) as turns:
        for word in ("old", "brand new"):
            (home / "helper.py").write_text(HELPER.replace("old", word))
            for _ in range(2):
                assert jmr.run({1: 1}, cell.mapfn, total, progress=False) == {True: 1}
        assert turns.result() == {True: 30}
