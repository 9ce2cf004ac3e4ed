"""What a job's report tells of its attempts: a row for each slot, the timeline, failures, bytes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

import jmr
from jmr.coordinator.books import Books
from jmr.coordinator.worker import Slot, Stop
from jmr.engines.inline import InlineEngine
from jmr.plan import Plan
from jmr.progress.report import Report, SlotReport, State
from jmr.scheduler.effects import StartAttempt
from jmr.scheduler.jobs import Phase, TaskId
from jmr.session import running
from jmr.session.calling import engine_for
from jmr.session.cancelling import Cancel
from jmr.session.running import run_plan
from jmr.wire.messages import ReduceDone
from tests.joiners import Command

WORDS = dict.fromkeys(range(40), "the cat the dog")


def words(_: int, text: str) -> Any:
    for word in text.split():
        yield word, 1


def total(_: str, counts: list[int]) -> int:
    return sum(counts)


def pick(_: int, values: list[Any]) -> Any:
    return values[0]


def report_of(*functions: Any, **options: Any) -> Report:
    """The report of a job over WORDS; of one that fails, too."""
    plan = Plan.checked(WORDS, *functions, progress=False, **options)
    report = Report(plan.name)
    try:
        engine = engine_for(plan)
        run_plan(plan, engine, report, Cancel(engine, None))
    except jmr.JmrError:
        assert report.error
    return report


def test_rows_add_up_to_the_job(cluster):
    report = report_of(words, total)
    assert set(report.slots) <= {"local/1", "local/2"}
    rows = report.slots.values()
    assert sum(row.n_records for row in rows) == report.n_records == 40
    assert sum(row.n_tasks for row in rows) == report.n_map_tasks_done + report.n_reduce_tasks_done
    assert sum(row.n_tasks for row in rows) == len(report.timeline)
    assert {(row.worker, row.doing, row.n_failures, row.is_gone) for row in rows} == {("local", "", 0, False)}
    assert report.peak_bytes >= max(row.memory_bytes for row in rows) > 1 << 20


def test_every_byte_of_the_shuffle_is_reduced_once(cluster):
    report = report_of(words, total)
    assert report.reduced_bytes == report.shuffled_bytes > 0


@pytest.mark.parametrize("engine", [None, "inline"])
def test_pairs_are_counted_before_and_after_the_combiner(engine):
    plain = report_of(words, total, engine=engine)
    assert (plain.n_pairs, plain.n_combined_pairs) == (160, 160)
    combined = report_of(words, total, combinefn=total, engine=engine, workers=1)
    assert combined.n_pairs == 160
    n_tasks = 1 if engine else combined.n_map_tasks
    assert combined.n_combined_pairs == 3 * n_tasks


@pytest.mark.parametrize("engine", [None, "inline"])
def test_reduce_has_its_beginning_between_those_of_the_job_and_its_end(engine):
    report = report_of(words, total, engine=engine)
    assert report.started <= report.reduce_began <= report.ended


def test_peak_memory_is_that_of_the_job_and_not_of_one_before(cluster):
    big = report_of(lambda key, value: [(key, len(bytearray(300_000_000)))], workers=1)
    small = report_of(words, total, workers=1)
    assert big.peak_bytes > 300_000_000 > small.peak_bytes > 1 << 20


def test_a_death_is_told_with_its_task_slot_and_signal(cluster, tmp_path):
    mark = str(tmp_path / "died")

    def dies_once(key: int, value: str) -> list[Any]:
        if key == 7 and not os.path.exists(mark):
            open(mark, "w").close()
            os.kill(os.getpid(), signal.SIGSEGV)
        return []

    report = report_of(dies_once)
    (died,) = [attempt for attempt in report.timeline if attempt.outcome == "died"]
    assert report.n_failures == 1
    assert (
        report.last_failure
        == f"{died.task} on {died.slot} ended: killed by signal 11 (SIGSEGV; C code touched memory that is not its own)"
    )
    assert report.slots[died.slot].n_failures == 1


@pytest.mark.slow
def test_a_slot_that_was_idle_when_its_host_was_lost_is_gone_too(monkeypatch, tmp_path):
    mark = tmp_path / "both work"

    def mapfn(key: int, value: int) -> list[Any]:
        if key == 1:
            mark.touch()
        while key == 1 or not mark.exists():
            time.sleep(0.005)
        return []

    monkeypatch.setenv("HOME", str(tmp_path))
    with jmr.Cluster(workers=0, listen="127.0.0.1:0") as cluster:
        with Command(cluster.address, "--slots", 2, "--once") as worker:
            until(lambda: [slot.doing for host in cluster.hosts() for slot in host.slots] == ["idle"] * 2)
            job = jmr.submit({0: 0, 1: 1}, mapfn, engine=cluster, progress=False)
            rows = job._report.slots
            until(lambda: sorted((row.n_tasks, bool(row.doing)) for row in rows.values()) == [(0, True), (1, False)])
            worker.process.kill()
            until(lambda: any(row.is_gone for row in rows.values()))
        until(lambda: job._report.is_waiting)
        assert [row.is_gone for row in rows.values()] == [True, True]
        job.cancel()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_what_ended_the_job_is_kept_in_one_line(cluster):
    report = report_of(lambda key, value: 1 / 0)
    assert report.error.startswith("MapError: mapfn raised ZeroDivisionError('division by zero') for record key=")
    assert "\n" not in report.error


def test_attempts_lie_inside_of_the_job(cluster):
    report = report_of(words, total)
    assert report.ended is not None
    assert all(0 <= each.started <= each.ended <= report.ended - report.started for each in report.timeline)


def test_the_plain_loop_has_a_row_and_a_timeline_too():
    report = report_of(words, total, engine="inline")
    assert [(each.slot, each.task, each.outcome) for each in report.timeline] == [
        ("inline", "map-0", "done"),
        ("inline", "reduce-0", "done"),
    ]
    (row,) = report.slots.values()
    assert (row.n_tasks, row.n_records, row.doing) == (2, 40, "")
    failed = report_of(lambda key, value: 1 / 0, engine="inline")
    assert [each.outcome for each in failed.timeline] == ["raised"]
    failed_row = failed.slots["inline"]
    assert failed_row == SlotReport(
        "inline", since=failed_row.since, n_records=1, n_failures=1, map_seconds=failed_row.map_seconds
    )


@pytest.mark.parametrize("engine", [None, "inline"])
def test_a_row_knows_when_its_slot_began_its_last_attempt(cluster, engine):
    report = report_of(words, total, engine=engine)
    for name, row in report.slots.items():
        began = [attempt.started for attempt in report.timeline if attempt.slot == name]
        assert row.since - report.started == pytest.approx(began[-1], abs=1e-6)


def test_the_first_items_of_the_result_are_kept_as_text(cluster):
    report = report_of(words, total)
    assert report.sample == [("'the'", "80"), ("'cat'", "40"), ("'dog'", "40")]
    long = report_of(lambda key, value: [(f"key {key}", value * 1000)])
    assert [key for key, _ in long.sample] == [f"'key {n}'" for n in range(8)]
    assert max(len(value) for _, value in long.sample) == 80


class Loud:
    """Says what it is in its own way."""

    def __repr__(self) -> str:
        raise AssertionError("nobody asked")


@dataclass
class Holder:
    held: Any


def test_the_sample_runs_no_code_of_the_users(cluster):
    values = [Loud(), Holder([Loud()]), b"x" * 10**6, {"b": 1, "a": 2}, {3}, "\udcff\u202e"]
    report = report_of(lambda key, value: [(key, values[key % 6])], pick)
    assert [value for _, value in report.sample[:6]] == [
        "<Loud>",
        "Holder(held=[<Loud>])",
        f"b'{'x' * 75}...",
        "{'b': 1, 'a': 2}",
        "{3}",
        r"'\udcff\u202e'",
    ]


def test_the_last_job_is_the_one_that_ended_last(monkeypatch):
    monkeypatch.setattr(running, "_last", None)
    stuck, after = Report("stuck"), Report("after")
    with running._listed(stuck, Cancel(InlineEngine(), None)):
        stuck.end(State.CANCELLED)
        assert str(jmr.last).startswith("stuck: cancelled")
        with running._listed(after, Cancel(InlineEngine(), None)):
            after.end(State.DONE)
        assert str(jmr.last).startswith("after: ")
    assert str(jmr.last).startswith("after: ")
    assert running.running_jobs() == []


def books_with_a_row() -> tuple[Report, Books, Slot, StartAttempt]:
    report = Report("job")
    books = Books(report, lambda: report.started + 1)
    slot = Slot(7, 1, SimpleNamespace(name="h1"), None)  # type: ignore[arg-type]
    attempt = StartAttempt(7, TaskId(1, Phase.MAP, 3), 1)
    books.began(slot, attempt)
    return report, books, slot, attempt


def test_what_a_slot_has_is_as_measured_last_and_before_that_its_peak():
    report, books, slot, attempt = books_with_a_row()
    row = report.slots["h1/1"]
    books.ended(slot, attempt, "done", ReduceDone(0, peak_bytes=900))
    assert row.memory_bytes == 900
    books.measured({"h1/1": 300, "h1/2": 5})
    books.began(slot, attempt)
    books.ended(slot, attempt, "done", ReduceDone(0, peak_bytes=1000))
    assert (row.memory_bytes, report.peak_bytes) == (300, 1000)
    assert list(report.slots) == ["h1/1"]


def test_stops_for_want_of_memory_are_failures_and_one_note_however_many():
    report, books, slot, attempt = books_with_a_row()
    report.notes.append("without h2, which has no numpy")
    stop = Stop(attempt, "was stopped at 9 GB: it was full", is_blamed=False)
    books.ended(slot, attempt, "stopped", stop=stop)
    assert report.notes[1] == "map-3 on h1/1 was stopped at 9 GB: it was full; it ran again with fewer beside it"
    assert report.last_failure == "map-3 on h1/1 was stopped at 9 GB: it was full"
    for is_blamed in (True, False):
        report.notes.append("said meanwhile")
        books.began(slot, attempt)
        books.ended(slot, attempt, "stopped", stop=Stop(attempt, "was stopped at 8 GB", is_blamed))
    assert report.notes == [
        "without h2, which has no numpy",
        "map-3 on h1/1 was stopped at 9 GB: it was full; it ran again with fewer beside it; the same 2 more times",
        "said meanwhile",
        "said meanwhile",
    ]
    assert report.n_failures == report.slots["h1/1"].n_failures == 3
    assert [each.outcome for each in report.timeline] == ["stopped"] * 3
