"""jmr.submit, Job, Cluster, and what slots print."""

from __future__ import annotations

import asyncio
import ctypes
import io
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import jmr
from jmr.engines import cluster as engine

SOURCE = {i: i for i in range(20)}


def identity(key: Any, value: Any) -> list[tuple[Any, Any]]:
    return [(key, value)]


def forever(key: Any, value: Any) -> Any:
    while True:
        pass


def run(*arguments: Any, **options: Any) -> jmr.Result:
    return jmr.run(*arguments, **({"workers": 2, "progress": False} | options))


def test_a_job_runs_while_we_go_on() -> None:
    go = threading.Event()

    def source() -> Any:
        go.wait(10)
        yield from SOURCE.items()

    job = jmr.submit(source(), identity, progress=False)
    assert not job.done()
    with pytest.raises(TimeoutError, match=r"<jmr\.Job 'identity': running.* has not ended after 0 s"):
        job.result(timeout=0)
    with pytest.raises(TypeError, match="timeout must be a number of seconds or None, not 'x'"):
        job.result(timeout="x")  # type: ignore[arg-type]
    go.set()
    assert len(job.result(10)) == 20
    assert job.done()
    assert not job.cancel()
    assert "done" in repr(job)


def test_a_cancelled_job_raises_and_leaves_the_slots_usable() -> None:
    job = jmr.submit(SOURCE, forever, workers=2, progress=False)
    assert job.cancel()
    with pytest.raises(jmr.JobCancelled, match="job 'forever' was cancelled"):
        job.result(10)
    assert isinstance(jmr.JobCancelled(), KeyboardInterrupt)
    assert len(run(SOURCE, identity)) == 20


def test_a_job_can_be_awaited() -> None:
    async def wait() -> jmr.Result:
        return await jmr.submit(SOURCE, identity, progress=False)

    assert len(asyncio.run(wait())) == 20


def test_an_awaited_job_that_is_cancelled_does_not_end_the_loop() -> None:
    async def wait() -> list[Any]:
        job = jmr.submit(SOURCE, forever, workers=2, progress=False)
        waiting = asyncio.ensure_future(job)
        await asyncio.sleep(0)
        job.cancel()
        return await asyncio.gather(waiting, return_exceptions=True)

    (outcome,) = asyncio.run(wait())
    assert isinstance(outcome, asyncio.CancelledError)


def test_giving_up_an_await_leaves_the_job_alone() -> None:
    go = threading.Event()

    def source() -> Any:
        go.wait(10)
        yield from SOURCE.items()

    async def wait() -> jmr.Job:
        job = jmr.submit(source(), identity, progress=False)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(job, 0)
        go.set()
        return job

    assert len(asyncio.run(wait()).result(10)) == 20


def test_a_source_whose_exception_has_no_text_ends_the_job() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise ZeroDivisionError

    def source() -> Any:
        yield 1, 1
        raise Odd

    with pytest.raises(Odd):
        jmr.submit(source(), identity, progress=False).result(10)


def test_submit_shows_the_arguments_of_run() -> None:
    import inspect

    assert list(inspect.signature(jmr.submit).parameters) == list(inspect.signature(jmr.run).parameters)


@pytest.mark.parametrize("stage", ["combinefn", "reducefn"])
def test_an_inline_job_is_cancelled_between_groups(stage: str) -> None:
    calls: list[Any] = []
    started, go = threading.Event(), threading.Event()

    def fold(key: Any, values: list[int]) -> int:
        calls.append(key)
        started.set()
        go.wait(10)
        return sum(values)

    job = jmr.submit(SOURCE, identity, engine="inline", progress=False, **{stage: fold})
    assert started.wait(10)
    assert job.cancel()
    go.set()
    with pytest.raises(jmr.JobCancelled):
        job.result(10)
    assert len(calls) == (20 if stage == "combinefn" else 1)


def test_submit_tells_mistakes_at_once() -> None:
    with pytest.raises(TypeError, match="mapfn must be a function"):
        jmr.submit(SOURCE, 5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"jmr\.submit has no option 'n_worker'"):
        jmr.submit(SOURCE, identity, n_worker=2)


def test_a_jobs_error_comes_out_of_result_each_time() -> None:
    job = jmr.submit({1: 0}, lambda key, value: 1 / value, progress=False)
    for _ in range(2):
        with pytest.raises(jmr.MapError, match="ZeroDivisionError"):
            job.result(10)


def test_jobs_at_the_same_time_do_not_mix() -> None:
    jobs = [jmr.submit(dict.fromkeys(range(50), n), identity, workers=2, progress=False) for n in range(8)]
    assert [set(map(tuple, job.result(20).values())) for job in jobs] == [{(n,)} for n in range(8)]


@pytest.mark.slow
def test_a_cluster_is_the_default_inside_with(cluster: jmr.Cluster) -> None:
    assert engine.current_cluster() is cluster
    assert run(SOURCE, identity, workers=None).stats.n_slots == 2
    with jmr.Cluster(workers=1) as inner:
        assert engine.current_cluster() is inner
        assert run(SOURCE, identity, workers=None).stats.n_slots == 1
    assert engine.current_cluster() is cluster
    assert repr(inner) == "<jmr.Cluster closed>"
    with pytest.raises(jmr.WorkerError, match=r"this jmr\.Cluster is closed"):
        jmr.run(SOURCE, identity, engine=inner)


@pytest.mark.slow
def test_a_cluster_grows_and_shrinks(cluster: jmr.Cluster, tmp_path: Path) -> None:
    def meet(key: int, n: int) -> list[tuple[int, int]]:
        """Wait until as many slots work at the same time."""
        (tmp_path / f"{n}-{key}").touch()
        while len(list(tmp_path.glob(f"{n}-*"))) < n:
            pass
        return [(os.getpid(), key)]

    assert len(run(dict.fromkeys(range(3), 3), meet, workers=3)) == 3
    assert cluster.n_slots == 3
    cluster.resize(1)
    assert cluster.n_slots == 1
    run(SOURCE, identity, workers=None)
    assert len(run(SOURCE, lambda key, value: [(os.getpid(), key)], workers=None)) == 1
    assert [name for name, _ in cluster.status()] == ["local/1"]
    with pytest.raises(ValueError, match="workers must be from 0"):
        cluster.resize(-1)
    cluster.resize(0)
    with pytest.raises(ValueError, match="workers=0 leaves the work to slots of other hosts"):
        run(SOURCE, identity, workers=None)


def test_a_job_that_runs_uses_the_slots_that_are_added(tmp_path: Path) -> None:
    def meet(key: int, n: int) -> list[tuple[int, int]]:
        """Wait until as many slots work at the same time."""
        (tmp_path / str(key)).touch()
        while len(list(tmp_path.iterdir())) < n:
            pass
        return [(key, os.getpid())]

    with jmr.Cluster(workers=1) as cluster:
        job = jmr.submit(dict.fromkeys(range(2), 2), meet, progress=False)
        while not list(tmp_path.iterdir()):
            threading.Event().wait(0.01)
        cluster.resize(2)
        assert len({pid for (pid,) in job.result(20).values()}) == 2


def test_a_job_that_nobody_is_left_for_fails(tmp_path: Path) -> None:
    def wait(key: int, value: int) -> None:
        (tmp_path / "begun").touch()
        threading.Event().wait()

    with jmr.Cluster(workers=1) as cluster:
        job = jmr.submit(SOURCE, wait, progress=False)
        while not list(tmp_path.iterdir()):
            threading.Event().wait(0.01)
        cluster.resize(0)
        with pytest.raises(jmr.WorkerError, match="no worker is left: this host was told to have none"):
            job.result(20)
        cluster.resize(1)
        assert run(SOURCE, identity, workers=None) == run(SOURCE, identity, engine="inline")


def test_a_slot_says_which_job_by_its_name_whatever_that_is(tmp_path: Path) -> None:
    def wait(key: int, value: int) -> None:
        (tmp_path / "begun").touch()
        threading.Event().wait()

    with jmr.Cluster(workers=1) as cluster:
        job = jmr.submit({1: 1}, wait, name="idle", progress=False)
        while not list(tmp_path.iterdir()):
            threading.Event().wait(0.01)
        assert cluster.status() == [("local/1", "idle: map-0")]
        assert repr(cluster) == "<jmr.Cluster of 1 slot on this host, 1 busy>"
        assert "<td style='text-align:left'>1 busy</td>" in cluster._repr_html_()
        assert job.cancel()


def test_no_user_code_sees_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JMR_TOKEN", "5e" * 32)
    seen = run({1: 1}, lambda key, value: [(key, os.environ.get("JMR_TOKEN"))])
    assert seen == {1: [None]}


def test_a_cluster_that_was_entered_twice_is_left_from_within(cluster: jmr.Cluster) -> None:
    with jmr.Cluster(workers=1) as other:
        with cluster:
            assert engine.current_cluster() is cluster
        assert engine.current_cluster() is other


def test_a_cluster_may_be_left_in_another_thread_than_it_was_entered_in() -> None:
    cluster = jmr.Cluster(workers=1)
    cluster.__enter__()
    thread = threading.Thread(target=lambda: cluster.__exit__(None, None, None))
    thread.start()
    thread.join()
    assert not cluster.is_open
    assert engine.current_cluster() is not cluster


@pytest.mark.slow
def test_each_thread_is_in_the_cluster_that_it_entered(cluster: jmr.Cluster) -> None:
    """`cluster` was entered here; a thread that enters none is in it too, and one that does is not."""
    entered, found = threading.Event(), {}

    def enter() -> None:
        found["entered none"] = engine.current_cluster()
        with jmr.Cluster(workers=1) as other:
            found["entered one"] = engine.current_cluster() is other
            with other:
                pass
            found["after its inner with"] = engine.current_cluster() is other
            entered.set()
            leave.wait(10)

    leave = threading.Event()
    thread = threading.Thread(target=enter)
    thread.start()
    assert entered.wait(10)
    assert engine.current_cluster() is cluster
    leave.set()
    thread.join()
    assert found["entered none"] is cluster
    assert found["entered one"]
    assert found["after its inner with"]


def test_a_job_keeps_to_its_workers(cluster: jmr.Cluster) -> None:
    result = run(dict.fromkeys(range(50)), lambda key, value: [(os.getpid(), key)], workers=1)
    assert len(result) == 1


def test_what_slots_print_arrives_labelled_before_run_returns(capfd: pytest.CaptureFixture[str]) -> None:
    def mapfn(key: Any, value: Any) -> Any:
        print("from python")
        print("no newline", end="")
        print("to stderr", file=sys.stderr)
        ctypes.CDLL(None).printf(b"from C\n")
        os.system("echo from a child")
        os.write(1, b"\xff raw\n")
        return []

    run({1: 1}, mapfn)
    out, err = capfd.readouterr()
    lines = [line.split("] ", 1)[1] for line in out.splitlines()]
    assert lines[0] == "from python"
    assert {"from a child", "from C"} <= set(lines[1:])
    assert "\\xff raw" in lines[1:]
    assert any("no newline" in line for line in lines[1:])
    assert all(line.startswith("[local/") for line in (out + err).splitlines())
    assert "to stderr" in err


@pytest.mark.parametrize("harm", ["close", "turn", "close python's", "replace python's"])
def test_what_a_job_does_to_the_streams_is_undone_for_the_next(
    harm: str, cluster: jmr.Cluster, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"

    def mapfn(key: Any, value: Any) -> Any:
        match harm:
            case "close":
                os.closerange(1, 3)
            case "turn":
                os.dup2(os.open(elsewhere, os.O_WRONLY | os.O_CREAT), 1)
            case "close python's":
                sys.stdout.close()
            case _:
                sys.stdout = io.StringIO()
        return [(key, value)]

    assert len(run(SOURCE, mapfn, workers=1)) == 20
    assert len(run(SOURCE, lambda key, value: print("here") or [(key, value)], workers=1)) == 20
    assert "] here\n" in capfd.readouterr().out
    assert harm != "turn" or elsewhere.read_text() == ""


def test_a_slot_that_cannot_answer_is_told_and_replaced() -> None:
    with pytest.raises(jmr.SlotDiedError, match=r"could not send its answer, 4 times .* closed a file descriptor"):
        run({1: 1}, lambda key, value: os.closerange(3, 200))
    assert len(run(SOURCE, identity)) == 20


def test_a_slot_that_closed_its_connection_and_goes_on_is_ended(tmp_path: Path) -> None:
    mine = tmp_path / "mine"

    def mapfn(key: Any, value: Any) -> Any:
        os.closerange(3, 64)
        files = [open(mine, "a") for _ in range(20)]
        if value == "goes on":
            while files:
                pass
        return [(key, value)]

    with pytest.raises(jmr.SlotDiedError, match="could not send its answer, once"):
        run({1: "answers"}, mapfn, max_attempts=1)
    assert mine.read_bytes() == b"", "no answer is written to whatever has the connection's number"
    with pytest.raises(jmr.SlotDiedError, match="could not send its answer, once"):
        run({1: "goes on"}, mapfn, max_attempts=1)
    assert len(run(SOURCE, identity)) == 20


def test_what_cannot_be_shown_here_ends_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        encoding = "ascii"

        def write(self, text: str) -> None:
            assert "\\xe9" in text
            raise BrokenPipeError

    for stdout in (None, Closed()):
        monkeypatch.setattr(sys, "stdout", stdout)
        assert len(run(SOURCE, lambda key, value: print("caf\xe9") or [(key, value)])) == 20


def test_what_a_dying_slot_printed_last_arrives(capfd: pytest.CaptureFixture[str]) -> None:
    def mapfn(key: Any, value: Any) -> Any:
        print("last words")
        os._exit(1)

    with pytest.raises(jmr.SlotDiedError):
        run({1: 1}, mapfn, max_attempts=1)
    assert "] last words\n" in capfd.readouterr().out
