"""A job is cancelled from another thread, as the button does: whatever the thread that runs it is at."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import jmr
from jmr import interrupts
from jmr.coordinator import jobs as coordinator_jobs
from jmr.engines.slots import ClusterEngine
from jmr.plan import Plan
from jmr.progress.report import Report, State
from jmr.session.calling import engine_for
from jmr.session.cancelling import Cancel
from jmr.session.running import run_plan, running_jobs
from tests.shells import ipython

pytestmark = pytest.mark.slow  # half a second passes before user code is interrupted


def identity(key: Any, value: Any) -> list[Any]:
    return [(key, value)]


class Pipe:
    """Something to wait at for ever."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self.reached = threading.Event()

    def wait(self) -> None:
        self.reached.set()
        os.read(self._read, 1)

    def close(self) -> None:
        os.close(self._write)
        os.close(self._read)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


def run_and_cancel(reached: threading.Event, source: Any, mapfn: Any, **options: Any) -> Report:
    """Run a job in this thread; another one cancels it when it has got somewhere."""
    plan = Plan.checked(source, mapfn, progress=False, **options)
    engine, report = engine_for(plan), Report(plan.name)

    def run() -> None:
        with interrupts.watched():
            cancel = Cancel(engine, interrupts.interrupter())
            threading.Thread(target=lambda: (reached.wait(), cancel())).start()
            run_plan(plan, engine, report, cancel)

    with pytest.raises(jmr.JobCancelled, match="was cancelled"):
        run()
    assert report.state is State.CANCELLED
    assert jmr.run({1: 2}, identity, progress=False) == {1: [2]}
    return report


def test_while_slots_work(cluster, tmp_path):
    os.mkfifo(tmp_path / "gate")
    gate = str(tmp_path / "gate")
    reached = threading.Event()

    def source() -> Iterator[Any]:
        yield 1, 1
        reached.set()

    run_and_cancel(reached, source(), lambda key, value: open(gate))


def test_while_the_source_waits_for_its_next_record(pipe):
    def source() -> Iterator[Any]:
        yield 1, 1
        pipe.wait()

    run_and_cancel(pipe.reached, source(), identity)


@pytest.mark.parametrize("engine", [None, "inline"])
def test_while_the_source_is_busy_and_swallows_interrupts(engine):
    reached = threading.Event()

    def source() -> Iterator[Any]:
        yield 1, 1
        while True:
            try:
                reached.set()
                sum(range(1000))
            except KeyboardInterrupt:
                pass

    run_and_cancel(reached, source(), identity, engine=engine)


def test_while_an_inline_mapfn_waits(pipe):
    run_and_cancel(pipe.reached, {1: 1}, lambda key, value: pipe.wait(), engine="inline")


def test_when_the_job_is_over_nothing_is_interrupted():
    plan = Plan.checked({1: 2}, identity, progress=False)
    engine = engine_for(plan)
    with interrupts.watched():
        cancel = Cancel(engine, interrupts.interrupter())
        assert run_plan(plan, engine, Report(plan.name), cancel) == {1: [2]}
        cancel()
    assert not cancel.asked


def test_a_submitted_job_does_not_wait_for_a_source_that_does_not_return(pipe):
    def source() -> Iterator[Any]:
        yield 1, 1
        pipe.wait()

    job = jmr.submit(source(), identity, progress=False, name="stuck")
    pipe.reached.wait()
    assert [report.name for report in running_jobs()] == ["stuck"]
    assert job.cancel()
    with pytest.raises(jmr.JobCancelled, match="job 'stuck' was cancelled"):
        job.result(10)
    assert job.done()
    assert running_jobs() == []
    assert not job.cancel()
    assert jmr.run({1: 2}, identity, progress=False) == {1: [2]}


def test_a_view_does_not_wait_for_it_either(pipe, monkeypatch):
    from jmr.views import painter

    ended = threading.Event()

    class View:
        period = 0.01

        def paint(self, *_: Any) -> None:
            pass

        def end(self, report: Report, now: float) -> None:
            assert report.state is State.CANCELLED
            ended.set()

    view: Callable[..., View] = lambda *_: View()  # noqa: E731
    monkeypatch.setattr(painter._Shown, "_open_view", view)
    monkeypatch.setattr(painter.later, "delay", 0.0)

    def source() -> Iterator[Any]:
        yield 1, 1
        pipe.wait()

    job = jmr.submit(source(), identity, progress=True)
    pipe.reached.wait()
    job.cancel()
    assert ended.wait(10)


def test_an_interrupted_job_is_one_line_in_ipython():
    press = "import jmr, signal\npress = lambda *_: signal.raise_signal(signal.SIGINT)\n"
    with ipython() as shell:
        outcome = shell.run_cell(press + "jmr.run({1: 2}, press, engine='inline', progress=False)")
    assert isinstance(outcome.error_in_exec, KeyboardInterrupt)
    assert outcome.error_in_exec._render_traceback_() == ["KeyboardInterrupt: the job was interrupted"]


def test_what_is_shown_of_the_end_cannot_be_cancelled(monkeypatch):
    """A click while the last picture was painted came out as a KeyboardInterrupt, and the result was lost."""
    asked = []

    @contextlib.contextmanager
    def show(report: Report, wanted: bool | None, *, cancel: Cancel) -> Iterator[None]:
        yield
        cancel()
        asked.append(cancel.asked)

    monkeypatch.setattr("jmr.session.running.show", show)
    assert jmr.run({1: 2}, identity) == {1: [2]}
    assert jmr.submit({1: 2}, identity).result() == {1: [2]}
    assert asked == [False, False]


def test_a_job_that_calls_final_is_not_cancelled():
    answers = []
    job = jmr.submit({1: 2}, identity, final=lambda key, value: answers.append(job.cancel()), progress=False)
    assert job.result() == {1: [2]}
    assert answers == [False]


def test_cancelling_again_and_again_puts_nothing_off(pipe):
    def source() -> Iterator[Any]:
        yield 1, 1
        pipe.wait()

    job = jmr.submit(source(), identity, progress=False)
    pipe.reached.wait()
    began = time.monotonic()
    while not job.done():
        job.cancel()
    assert time.monotonic() - began < 5


class Signpost:
    """Where code in a slot says that it is there."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "reached")
        os.mkfifo(self.path)
        self.reached = threading.Event()
        self.said = ""
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        self.said = Path(self.path).read_text()
        self.reached.set()

    def close(self) -> None:
        with contextlib.suppress(OSError):  # nobody waits there any more
            os.close(os.open(self.path, os.O_WRONLY | os.O_NONBLOCK))
        self._thread.join()


@pytest.fixture
def signpost(tmp_path: Path) -> Iterator[Signpost]:
    signpost = Signpost(tmp_path)
    yield signpost
    signpost.close()


def test_while_a_slot_is_stopped(cluster, signpost):
    def stop(key: Any, value: Any) -> None:
        Path(signpost_path).write_text("x")
        os.kill(os.getpid(), signal.SIGSTOP)

    signpost_path = signpost.path
    run_and_cancel(signpost.reached, {1: 1}, stop)


def test_while_a_slot_lets_no_signal_and_no_thread_in(cluster, signpost):
    def sleep(key: Any, value: Any) -> None:
        import ctypes

        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        Path(signpost_path).write_text("x")
        ctypes.PyDLL(None).sleep(1000)  # with the GIL

    signpost_path = signpost.path
    run_and_cancel(signpost.reached, {1: 1}, sleep)


def test_what_mapfn_has_forked_ends_too(cluster, signpost):
    def fork(key: Any, value: Any) -> None:
        if not os.fork():
            Path(signpost_path).write_text(str(os.getpid()))
        signal.pause()

    signpost_path = signpost.path
    run_and_cancel(signpost.reached, {1: 1}, fork)
    with contextlib.suppress(ProcessLookupError), open(os.pidfd_open(int(signpost.said))) as child:
        assert select.select([child], [], [], 10)[0]


def test_what_mapfn_has_forked_ends_with_the_supervisor_too(cluster, signpost, tmp_path):
    def fork(key: Any, value: Any) -> list[Any]:
        if Path(again).exists():
            return [(key, value)]
        Path(again).touch()
        if not os.fork():
            Path(signpost_path).write_text(str(os.getpid()))
        signal.pause()
        return []

    signpost_path, again = signpost.path, str(tmp_path / "again")
    job = jmr.submit({1: 2}, fork, engine=cluster, progress=False)
    assert signpost.reached.wait(20)
    with open(os.pidfd_open(int(signpost.said))) as child:
        os.kill(cluster._coordinator._desk.local._supervisor.process.pid, signal.SIGKILL)
        assert select.select([child], [], [], 10)[0]
    assert job.result(20) == {1: [2]}


class Slow:
    """Waits for ever when it is unpickled where the job was started."""

    def __reduce__(self) -> Any:
        return _wait_here, ()


_waiting: list[Pipe] = []


def _wait_here() -> None:
    if _waiting:
        _waiting[0].wait()


def test_while_a_result_is_unpickled(cluster, pipe):
    _waiting.append(pipe)
    try:
        run_and_cancel(pipe.reached, {1: 1}, identity, reducefn=lambda key, values: Slow())
    finally:
        _waiting.clear()


@pytest.mark.parametrize("state", ["before", "after"])
def test_while_reduce_tasks_are_counted(cluster, monkeypatch, state):
    reached = threading.Event()
    plan_reduce = coordinator_jobs.Job.plan_reduce

    def planned(job: coordinator_jobs.Job) -> int:
        if state == "before":
            await_cancel()
        n_tasks = plan_reduce(job)
        if state == "after":
            await_cancel()
        return n_tasks

    def await_cancel() -> None:
        reached.set()
        cancelled.wait(10)

    cancelled = threading.Event()
    cancel = ClusterEngine.cancel

    def cancelling(engine: ClusterEngine) -> None:
        cancel(engine)
        cancelled.set()

    monkeypatch.setattr(coordinator_jobs.Job, "plan_reduce", planned)
    monkeypatch.setattr(ClusterEngine, "cancel", cancelling)
    run_and_cancel(reached, {1: 1, 2: 2}, identity)
