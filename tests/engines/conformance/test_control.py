"""A job while it runs, and what is known of it afterwards."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

import jmr
from jmr.progress.report import State
from jmr.session.running import running_jobs
from tests.engines.gate import Gate, wait_at
from tests.engines.trial import Trial

SOURCE = {n: n for n in range(200)}


def in_tens(key: int, value: int) -> list[tuple[int, int]]:
    return [(value % 10, key)]


def total(key: int, values: list[int]) -> int:
    return sum(values)


def waiting(gate: Gate) -> Callable[[int, int], list[tuple[int, int]]]:
    """A mapfn that waits at each record."""
    port = gate.port

    def mapfn(key: int, value: int) -> list[tuple[int, int]]:
        wait_at(port)
        return [(key, value)]

    return mapfn


def test_a_job_is_cancelled_and_the_next_one_runs(engine: Trial, gate: Gate) -> None:
    job = engine.submit(SOURCE, waiting(gate), name="stuck")
    assert gate.reached.wait(60)
    assert job.cancel()
    with pytest.raises(jmr.JobCancelled, match="job 'stuck' was cancelled"):
        job.result(20)
    assert job.done()
    assert running_jobs() == []
    gate.open()
    engine.check(SOURCE, in_tens, total)


def test_a_job_is_cancelled_while_it_reduces(engine: Trial, gate: Gate) -> None:
    port = gate.port
    job = engine.submit(SOURCE, in_tens, lambda key, values: wait_at(port))
    assert gate.reached.wait(60)
    assert job.cancel()
    with pytest.raises(jmr.JobCancelled):
        job.result(20)
    gate.open()
    engine.check(SOURCE, in_tens, total)


def test_an_interrupt_ends_the_job_and_the_next_one_runs(engine: Trial, gate: Gate) -> None:
    me = threading.main_thread().ident
    assert me is not None
    pressing = threading.Thread(target=lambda: gate.reached.wait(60) and signal.pthread_kill(me, signal.SIGINT))
    pressing.start()
    with pytest.raises(KeyboardInterrupt) as caught:
        engine.run(SOURCE, waiting(gate))
    pressing.join()
    assert not isinstance(caught.value, jmr.JobCancelled)
    assert running_jobs() == []
    gate.open()
    engine.check(SOURCE, in_tens, total)


def test_a_cancelled_source_does_not_wait_for_ever(engine: Trial, gate: Gate) -> None:
    def source() -> Any:
        yield 1, 1
        wait_at(gate.port)

    job = engine.submit(source(), in_tens)
    assert gate.reached.wait(60)
    assert job.cancel()
    with pytest.raises(jmr.JobCancelled):
        job.result(20)
    gate.open()
    engine.check(SOURCE, in_tens, total)


def test_submit_gives_what_run_gives(engine: Trial) -> None:
    job = engine.submit(SOURCE, in_tens, total)
    assert list(job.result(60).items()) == list(engine.run(SOURCE, in_tens, total).items())
    assert job.done()
    assert not job.cancel()
    failing = engine.submit(SOURCE, lambda key, value: 1 / 0)
    for _ in range(2):
        with pytest.raises(jmr.MapError, match="ZeroDivisionError"):
            failing.result(60)


def test_two_jobs_at_the_same_time_do_not_mix(engine: Trial) -> None:
    jobs = [engine.submit(SOURCE, lambda key, value, n=n: [(n, key)], total) for n in range(2)]
    assert [job.result(60) for job in jobs] == [{0: 19_900}, {1: 19_900}]


def test_one_job_fails_and_the_other_one_does_not(engine: Trial) -> None:
    good = engine.submit(SOURCE, in_tens, total)
    bad = engine.submit(SOURCE, lambda key, value: 1 / 0)
    with pytest.raises(jmr.MapError):
        bad.result(60)
    assert len(good.result(60)) == 10


def test_the_result_knows_its_job(engine: Trial) -> None:
    result = engine.run(SOURCE, in_tens, total, name="tens")
    stats = result.stats
    assert (stats.n_records, stats.n_pairs, stats.n_keys) == (200, 200, 10)
    assert stats.n_slots == (1 if engine.name == "inline" else 2)
    assert stats.n_map_tasks >= 1
    assert 1 <= stats.n_reduce_tasks <= 10
    assert engine.name == "inline" or stats.shuffled_bytes > 0
    assert stats.seconds > 0
    assert result.errors == []
    assert result.errors.n_total == 0
    tasks = [f"map-{n}" for n in range(stats.n_map_tasks)] + [f"reduce-{n}" for n in range(stats.n_reduce_tasks)]
    assert sorted(attempt.task for attempt in result.timeline) == sorted(tasks)
    for attempt in result.timeline:
        assert (attempt.outcome, attempt.number, attempt.backup) == ("done", 1, False)
        assert 0 <= attempt.started <= attempt.ended <= stats.seconds
        assert attempt.slot
    assert repr(result) == repr(dict(result))
    assert repr(result.summary).startswith("tens: 200 records -> 10 keys in ")
    assert jmr.last is not None
    assert repr(jmr.last) == repr(result.summary)


def test_a_result_is_pickled_with_all_it_knows(engine: Trial) -> None:
    result = engine.run(SOURCE, lambda key, value: 1 / value and [(value % 10, key)], total, on_error="skip")
    again = pickle.loads(pickle.dumps(result))
    assert again == result
    assert again.stats == result.stats
    assert again.timeline == result.timeline
    assert [bad.key for bad in again.errors] == [0]


def test_the_report_moves(engine: Trial, gate: Gate) -> None:
    """While a task of it waits, the job says where it stands; and in the end all is counted."""
    port = gate.port

    def mapfn(key: int, value: int) -> list[tuple[int, int]]:
        if key == 199:
            wait_at(port)
        return [(value % 10, key)]

    job = engine.submit(SOURCE, mapfn, total, name="moving")
    assert gate.reached.wait(60)
    (report,) = running_jobs()
    assert (report.name, report.state) == ("moving", State.RUNNING)
    assert report.n_records_total == 200
    assert engine.name == "inline" or report.n_map_tasks > report.n_map_tasks_done
    gate.open()
    assert job.result(60).stats.n_records == 200
    assert report.state is State.DONE
    assert (report.n_records, report.n_map_tasks_done) == (200, report.n_map_tasks)
    assert report.n_reduce_tasks_done == report.n_reduce_tasks > 0
    assert sum(row.n_records for row in report.slots.values()) == 200


def test_progress_is_shown_where_it_is_asked_for(engine: Trial, capsys: pytest.CaptureFixture[str]) -> None:
    engine.run(SOURCE, in_tens, total, progress=True, name="tens")
    captured = capsys.readouterr()
    assert "tens: 200 records -> 10 keys in " in captured.out + captured.err


def test_silence_is_kept(engine: Trial, capfd: pytest.CaptureFixture[str]) -> None:
    """No line of the engine's own comes into the cell."""
    engine.run(SOURCE, in_tens, total)
    with pytest.raises(jmr.MapError):
        engine.run(SOURCE, lambda key, value: 1 / 0)
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_where_it_ran_is_told(engine: Trial) -> None:
    if engine.name == "inline":
        return
    with pytest.raises(jmr.MapError, match=r"\(split map-0, (attempt 1, )?worker [\w.-]+/[12]\)"):
        engine.run({1: 1}, lambda key, value: 1 / 0)


def test_functions_that_change_their_surroundings_do_not_change_ours(engine: Trial) -> None:
    seen: list[int] = []
    engine.run(SOURCE, lambda key, value: seen.append(key) or [(key, os.getpid())])
    assert seen == (list(SOURCE) if engine.name == "inline" else [])
