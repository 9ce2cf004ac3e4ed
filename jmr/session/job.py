"""jmr.submit: the same run in a thread of its own, and the handle on it.

submit ──> Job ── result(), done(), cancel(), log(), await ──> Result
            └─ thread: reads the source, decodes, calls final
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import numbers
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future, InvalidStateError, wait
from functools import partial
from types import TracebackType
from typing import Any

from jmr.engines.base import Engine
from jmr.errors import ArgumentTypeError, JmrError, JobCancelled, describe, hide_ours, show_in_one_line
from jmr.plan import Plan
from jmr.progress.report import Report, State
from jmr.progress.routing import current_parent, routed_to
from jmr.result import Result
from jmr.session.calling import engine_for, run
from jmr.session.cancelling import Cancel
from jmr.session.running import run_plan

__all__ = ["Job", "submit"]


_TURN_SECONDS = 0.2


class _AwaitCancelled(asyncio.CancelledError):
    """What `await` raises for JobCancelled: a KeyboardInterrupt in a task would end the event loop, and the kernel."""

    _render_traceback_ = JobCancelled._render_traceback_


class Job:
    """A job that runs while you go on; made by `jmr.submit`.

    In a notebook, `await job` waits for it and leaves the kernel free meanwhile.
    """

    def __init__(self, plan: Plan, engine: Engine) -> None:
        self._engine = engine
        self._report = Report(plan.name)
        self._cancel = Cancel(engine, self._give_up)
        self._report.log.call = "job.log()"
        self._future: Future[Result] = Future()
        #: How it failed, and the frames of that: asyncio, and whoever raises it once more, would add their own.
        self._error: BaseException | None = None
        self._frames: TracebackType | None = None
        self._future.set_running_or_notify_cancel()  # who gives up waiting for it does not cancel it
        self._parent = current_parent()
        run = partial(contextvars.copy_context().run, self._run, plan)
        self._thread = threading.Thread(target=run, name=f"jmr-{plan.name}", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        report = self._report
        waits = report.is_waiting and report.state is State.RUNNING
        state = "waiting for a worker to join" if waits else report.state.value
        return f"<jmr.Job {report.name!r}: {state}, {report.n_records:,} records mapped>"

    def __await__(self) -> Generator[Any, None, Result]:
        """Wait for the result; raises what `result` would, but asyncio.CancelledError after `cancel`."""
        __tracebackhide__ = True
        try:
            return (yield from self._awaited().__await__())
        except KeyboardInterrupt as error:
            raise _AwaitCancelled(str(error)) from None
        except asyncio.CancelledError as error:
            self._explain_interrupt(error)
            raise
        except BaseException as error:
            if error is self._error:
                raise error.with_traceback(self._frames) from error.__cause__
            raise

    def result(self, timeout: float | None = None) -> Result:
        """Wait for the result.

        Parameters
        ----------
        timeout
            Seconds to wait; None for as long as it takes. An interrupt ends the waiting, not the job.

        Raises
        ------
        TimeoutError
            The job still runs.
        JmrError
            Whatever `jmr.run` would have raised; JobCancelled after `cancel`.
        """
        __tracebackhide__ = True
        if timeout is not None and not isinstance(timeout, numbers.Real):
            raise ArgumentTypeError(f"timeout must be a number of seconds or None, not {describe(timeout)}")
        try:
            if not wait([self._future], timeout).done:
                raise TimeoutError(f"{self!r} has not ended after {timeout:g} s; job.cancel() would stop it")
        except BaseException as error:
            hide_ours(error)
            if isinstance(error, KeyboardInterrupt):
                self._explain_interrupt(error)
            raise
        failure = self._future.exception()
        if failure is None:
            return self._future.result()
        raise failure.with_traceback(self._frames if failure is self._error else None)

    def done(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self._future.done()

    def cancel(self) -> bool:
        """Stop it; its slots stay usable. False if it had ended before, or calls `final` already.

        Code of yours that runs in this process, such as a source that waits for its next record, is not waited for.
        """
        if self._future.done():
            return False
        self._cancel()
        return self._cancel.asked

    def log(self) -> str:
        """What its workers have printed so far, warned of and logged; each line with its worker's name.

        The cell shows only the first of a flood, and this up to 8 MB of it: the first and the last, and how many lines
        are missing where. A flood that is too fast for a worker to pass on loses lines there already. Lines of one slot
        are in order. Of warnings and log records each is there once, with how
        often it came again. With engine="inline", user code prints into the cell itself, and this is empty.
        """
        return self._report.log.text()

    async def _awaited(self) -> Result:
        """The result; the event loop has a turn now and then, as the kernel's interrupt alone does not wake it."""
        waiting = asyncio.wrap_future(self._future)
        try:
            while not waiting.done():
                await asyncio.wait([waiting], timeout=_TURN_SECONDS)
            return waiting.result()
        finally:
            waiting.cancel()

    def _explain_interrupt(self, error: BaseException) -> None:
        show_in_one_line(error, f"job {self._report.name!r} goes on; .cancel() ends it")

    def _run(self, plan: Plan) -> None:
        with routed_to(self._parent), contextlib.suppress(InvalidStateError):  # it was given up
            try:
                result = run_plan(plan, self._engine, self._report, self._cancel)
            except BaseException as error:
                _explain_threads(error)
                hide_ours(error)
                self._error, self._frames = error, error.__traceback__
                self._future.set_exception(error)
            else:
                self._future.set_result(result)

    def _give_up(self) -> None:
        """Wait no longer for user code that does not return, such as a source that waits for its next record."""
        self._report.end(State.CANCELLED)
        with contextlib.suppress(InvalidStateError):  # it ends at this very moment
            self._future.set_exception(JobCancelled(f"job {self._report.name!r} was cancelled"))


def _explain_threads(error: BaseException) -> None:
    """Tell what to do about a source that only works in the thread that made it, such as a database cursor."""
    if "thread" in describe(error) and not isinstance(error, JmrError):
        error.add_note(
            "jmr.submit reads the source in a thread of its own; jmr.run reads it in the thread that calls it."
        )


def submit(
    source: Any,
    mapfn: Callable[[Any, Any], Any],
    reducefn: Callable[[Any, list[Any]], Any] | None = None,
    **options: Any,
) -> Job:
    """Start a job and return at once; takes the arguments of `jmr.run`.

    The source is read, results are unpickled and `final` is called in the job's own thread.

    Raises
    ------
    ArgumentTypeError, ArgumentValueError
        At once. Everything else comes out of `Job.result`.

    Examples
    --------
    >>> import jmr
    >>> job = jmr.submit({"a": 1}, lambda key, value: [(key, value + 1)], engine="inline")
    >>> job.result()
    {'a': [2]}
    """
    __tracebackhide__ = True
    plan = Plan.checked(source, mapfn, reducefn, **options)
    return Job(plan, engine_for(plan))


#: Shown by help and completed by editors: whatever run takes.
submit.__signature__ = inspect.signature(run).replace(return_annotation="Job")  # type: ignore[attr-defined]
