"""Any concurrent.futures.Executor as an engine: what is special to these; the rest is in the conformance suite."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import jmr
from jmr.engines import executor as executor_engine
from jmr.engines.calls import JobCall
from jmr.engines.executor import ExecutorPool
from jmr.errors import JobCancelled, WorkerError

DOCUMENTS = {f"{number}.txt": f"the cat {number % 7} the dog {number % 31}" for number in range(300)}


def words(name: str, text: str) -> Any:
    for word in text.split():
        yield word, 1


def total(word: str, counts: list[int]) -> int:
    return sum(counts)


class Now(Executor):
    """Runs each call at once, where it is submitted."""

    _max_workers = 2

    def __init__(self) -> None:
        self.n_calls = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.n_calls += 1
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def test_an_executor_gives_what_inline_gives() -> None:
    result = jmr.run(DOCUMENTS, words, total, engine=Now())
    assert list(result.items()) == list(jmr.run(DOCUMENTS, words, total, engine="inline").items())
    assert result.stats.n_slots == 2
    assert {attempt.slot for attempt in result.timeline} == {"executor/1"}


@pytest.mark.parametrize("is_here", [True, False])
def test_what_is_large_lies_in_files_here_and_goes_along_elsewhere(
    monkeypatch: pytest.MonkeyPatch, is_here: bool
) -> None:
    """A worker on another host does not see the directory."""
    inline: list[int] = []
    reduce = executor_engine._reduce

    def looked_at(shared: Any, index: int, ranges: Any, blobs: Any) -> Any:
        inline.append(sum(map(len, blobs)))
        return reduce(shared, index, ranges, blobs)

    monkeypatch.setattr(executor_engine, "_reduce", looked_at)
    if not is_here:
        monkeypatch.setattr(executor_engine.os.path, "isdir", lambda path: False)
    captured = os.urandom(1 << 17)
    source = {number: os.urandom(1 << 17) for number in range(4)}
    result = jmr.run(source, lambda key, value: [(key, (value, captured[:5]))], engine=Now(), n_partitions=2)
    assert result == {key: [(value, captured[:5])] for key, value in source.items()}
    assert (sum(inline) > 4 << 17) == (not is_here)


class Spread(Now):
    """Of every two calls, one is run on another host, where no file of this one is to be seen."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self.n_calls % 2 == 0:
            return super().submit(fn, *args, **kwargs)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os.path, "isdir", lambda path: False)
            patch.setattr(os, "open", self.open)
            return super().submit(fn, *args, **kwargs)

    def open(self, path: str, *args: Any, **kwargs: Any) -> int:
        raise FileNotFoundError(errno.ENOENT, "it lies on another host", path)


def test_what_lies_in_files_here_goes_along_to_a_worker_on_another_host() -> None:
    captured = os.urandom(1 << 17)
    source = {number: os.urandom(1 << 17) for number in range(8)}
    result = jmr.run(source, lambda key, value: [(key, (value, captured[:5]))], engine=Spread(), n_partitions=4)
    assert result == {key: [(value, captured[:5])] for key, value in source.items()}


def test_what_does_not_fit_into_memory_lies_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JMR_MEMORY", "1K")
    result = jmr.run(DOCUMENTS, words, total, engine=Now())
    assert result == jmr.run(DOCUMENTS, words, total, engine="inline")


def test_a_job_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JMR_TMP", str(tmp_path))
    jmr.run(DOCUMENTS, words, total, engine=Now())
    with pytest.raises(jmr.MapError):
        jmr.run(DOCUMENTS, lambda key, value: 1 / 0, engine=Now())
    assert list(tmp_path.iterdir()) == []


def test_an_executor_that_was_shut_down_is_refused_with_a_sentence() -> None:
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    with pytest.raises(WorkerError, match="takes no work: cannot schedule new futures after shutdown"):
        jmr.run(DOCUMENTS, words, total, engine=executor)


def test_what_cannot_be_called_there_is_told() -> None:
    class Elsewhere(Now):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_exception(ModuleNotFoundError("No module named 'jmr'"))
            return future

    with pytest.raises(WorkerError, match=r"No module named 'jmr'\. jmr must be installed where its tasks run"):
        jmr.run(DOCUMENTS, words, total, engine=Elsewhere())


def test_tasks_that_wait_do_not_start_after_a_cancel() -> None:
    entered, go_on = threading.Event(), threading.Event()
    called: list[str] = []

    def mapfn(key: str, value: str) -> Any:
        called.append(key)
        entered.set()
        assert go_on.wait(20)
        return [(key, 1)]

    with ThreadPoolExecutor(1) as executor:
        hooks.update(mapfn=mapfn)
        job = jmr.submit({"a": "", "b": "", "c": ""}, hooked, engine=executor)
        assert entered.wait(20)
        assert job.cancel()
        with pytest.raises(JobCancelled):
            job.result(20)
        go_on.set()
        assert jmr.run({"d": 1}, lambda key, value: [(key, value)], engine=executor) == {"d": [1]}
    assert called == ["a"]


#: What travels by name, so that a thread's copy of a function finds the test's own objects.
hooks: dict[str, Any] = {}


def hooked(key: str, value: str) -> Any:
    return hooks["mapfn"](key, value)


BROKEN = """
import os, signal
from concurrent.futures import ProcessPoolExecutor
import jmr

def kill(key, value):
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    with ProcessPoolExecutor(2) as executor:
        print(jmr.run({"a": 1}, lambda key, value: [(key, value + 1)], engine=executor))
        for mapfn in kill, lambda key, value: [(key, value)]:
            try:
                jmr.run({number: "" for number in range(300)}, mapfn, engine=executor)
            except jmr.WorkerError as error:
                print(error)
"""


@pytest.mark.slow
def test_a_process_that_ends_breaks_the_executor_and_the_job_says_so(tmp_path: Path) -> None:
    """In a program of its own: multiprocessing leaves a process of its own until the end."""
    program = tmp_path / "broken.py"
    program.write_text(BROKEN)
    environment = os.environ | {"PYTHONPATH": str(Path(jmr.__file__).parents[1])}
    told = subprocess.run(
        [sys.executable, "-W", "ignore", program], capture_output=True, text=True, timeout=100, env=environment
    )
    first, *rest = told.stdout.splitlines()
    assert first == "{'a': [2]}", told.stderr
    assert len(rest) == 2
    assert all("it takes no more work: make a new one" in line for line in rest)


def test_an_executor_that_does_not_say_how_many_it_runs_is_taken_for_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor_engine, "default_slots", lambda: 7)
    assert ExecutorPool(Executor()).n_slots == 7


def test_large_functions_travel_once() -> None:
    seen: list[int] = []

    class Weighing(Now):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            seen.extend(len(arg.job.functions) for arg in args if hasattr(arg, "job") and isinstance(arg.job, JobCall))
            return super().submit(fn, *args, **kwargs)

    captured = list(range(100_000))
    jmr.run(DOCUMENTS, lambda key, value: [(captured[5], 1)], total, engine=Weighing())
    assert set(seen) == {0}


def open_with_large_functions(executor: Executor) -> ExecutorPool:
    pool = ExecutorPool(executor)
    try:
        pool.open(JobCall(id="large", functions=bytes(1 << 17), n_partitions=2, skips=False))
    finally:
        pool.close()
    return pool


def test_an_executor_that_is_busy_is_not_waited_for_when_a_job_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor_engine, "_PROBE_SECONDS", 0.0)
    go_on = threading.Event()
    with ThreadPoolExecutor(1) as executor:
        executor.submit(go_on.wait, 20)
        try:
            pool = open_with_large_functions(executor)
        finally:
            go_on.set()
    assert pool._shared is not None
    assert len(pool._shared.job.functions) == 1 << 17  # with each task


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (BrokenExecutor("odd"), "the executor cannot go on"),
        (CancelledError(), "the executor cannot go on"),
        (ValueError("odd"), "the executor could not run a task: ValueError: odd"),
    ],
)
def test_what_ends_an_executor_when_a_job_begins_is_told_in_a_sentence(raised: Exception, said: str) -> None:
    class Ended(Now):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_exception(raised)
            return future

    with pytest.raises(WorkerError, match=said):
        open_with_large_functions(Ended())
