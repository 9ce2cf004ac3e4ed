"""Work that stands still on a real slot is done on another, and counts once."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jmr
from jmr.coordinator import desk
from jmr.scheduler import jobs, lengths
from tests.joiners import Command
from tests.test_books import until

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs for 50 ms takes too long, and one task may be all of them."""
    monkeypatch.setattr(lengths, "LEAST_PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(jobs, "_MOSTLY_DONE", 0.0)
    monkeypatch.setattr(desk, "_TICK_SECONDS", 0.02)


def stands_still_once(path: Path) -> Callable[[], None]:
    """A function for slots: the first that calls it never returns."""

    def wait() -> None:
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        while True:
            threading.Event().wait()

    return wait


def total(_: Any, values: list[Any]) -> Any:
    return sum(values)


def check_attempts(result: jmr.Result, phase: str) -> None:
    """One of two attempts was the first to finish, the other was stopped, and each task was done once."""
    done = {attempt.task: attempt for attempt in result.timeline if attempt.outcome == "done"}
    assert sum(attempt.outcome == "done" for attempt in result.timeline) == len(done)
    stopped = [attempt for attempt in result.timeline if attempt.outcome == "stopped"]
    twice = [(attempt, done[attempt.task]) for attempt in stopped if attempt.task.startswith(phase)]
    assert any(loser.backup or winner.backup for loser, winner in twice), "the backup may be the one that stands still"
    told = r"(map|reduce)-\d+ took long, and was begun once more, on local/\d(; the same \d more times?)?"
    assert any(re.fullmatch(told, note) for note in result.summary._report.notes)
    rows = result.summary._report.slots.values()
    assert sum(row.n_records for row in rows) == result.stats.n_records, "nothing counts twice"


def test_a_map_task_that_stands_still_is_done_elsewhere(cluster: jmr.Cluster, tmp_path: Path) -> None:
    wait = stands_still_once(tmp_path / "began")

    def mapfn(key: int, value: int) -> Any:
        if key == 0:
            wait()
        yield value % 3, value

    source = {i: i for i in range(50)}
    result = jmr.run(source, mapfn, total, engine=cluster, progress=False)
    assert list(result.items()) == list(jmr.run(source, mapfn, total, engine="inline").items())
    check_attempts(result, "map")
    assert jmr.run({1: 1}, lambda key, value: [(key, value)], engine=cluster, progress=False) == {1: [1]}, "all is well"


def test_a_reduce_task_that_stands_still_is_done_elsewhere(cluster: jmr.Cluster, tmp_path: Path) -> None:
    wait = stands_still_once(tmp_path / "began")

    def reducefn(key: int, values: list[int]) -> int:
        if key == 5:
            wait()
        return sum(values)

    source = {i: i for i in range(50)}
    result = jmr.run(source, lambda key, value: [(value % 7, value)], reducefn, engine=cluster, progress=False)
    assert result == {key: sum(range(key, 50, 7)) for key in range(7)}
    check_attempts(result, "reduce")


def test_a_split_in_a_file_is_there_for_both(cluster: jmr.Cluster, tmp_path: Path) -> None:
    wait = stands_still_once(tmp_path / "began")

    def mapfn(key: int, value: Any) -> Any:
        if key == 0:
            wait()
        yield key % 2, float(value.sum())

    source = [(i, np.full(100_000, i)) for i in range(6)]
    result = jmr.run(source, mapfn, engine=cluster, progress=False)
    assert result == {0: [0.0, 2e5, 4e5], 1: [1e5, 3e5, 5e5]}
    check_attempts(result, "map")


def test_a_task_that_ended_its_slot_and_stands_still_is_done_elsewhere(cluster: jmr.Cluster, tmp_path: Path) -> None:
    wait = stands_still_once(tmp_path / "began")

    def mapfn(key: int, value: int) -> Any:
        try:
            os.close(os.open(tmp_path / "died", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            wait()
            return [(key, value)]
        os._exit(3)

    result = jmr.run({1: 1}, mapfn, engine=cluster, progress=False)
    assert result == {1: [1]}
    check_attempts(result, "map")


@pytest.mark.parametrize("stands", ["local", "elsewhere"])
def test_a_backup_runs_on_another_worker_if_one_has_a_slot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stands: str
) -> None:
    began = tmp_path / "began"

    def mapfn(key: int, value: int) -> Any:
        is_local = os.environ.get("ELSEWHERE") is None
        while is_local == (stands == "local"):
            began.touch()
            threading.Event().wait()
        while not began.exists():
            threading.Event().wait(0.005)
        yield key, is_local

    monkeypatch.setenv("HOME", str(tmp_path))
    with (
        jmr.Cluster(workers=2, listen="127.0.0.1:0") as cluster,
        Command(cluster.address, "--slots", 2, "--once", env={"ELSEWHERE": "1"}),
    ):
        until(lambda: sum(slot.doing == "idle" for host in cluster.hosts() for slot in host.slots) == 4)
        if stands == "local":
            result = jmr.run({1: 1}, mapfn, engine=cluster, progress=False)
        else:
            result = jmr.run({1: 1, 2: 2, 3: 3}, mapfn, engine=cluster, progress=False)
        assert set(map(tuple, result.values())) == {(stands != "local",)}
        backups = [attempt for attempt in result.timeline if attempt.backup and attempt.outcome == "done"]
        assert backups
        assert all(attempt.slot.startswith("local") == (stands != "local") for attempt in backups)
        assert jmr.run({1: 1}, lambda key, value: [(key, value)], engine=cluster, progress=False) == {1: [1]}
