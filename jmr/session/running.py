"""Runs a plan to its result, with its progress shown.

Plan ──> engine ──> partitions ──in order of first appearance──> Result ──> final, key by key
                                              progress shows the Report meanwhile
Cancel ──> engine
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from jmr import interrupts
from jmr.engines.base import Engine
from jmr.errors import FinalError, JmrError, JobCancelled, Replay, describe, printable, without_ours
from jmr.plan import Plan
from jmr.progress.report import Report, State
from jmr.result import BadRecords, Partition, Result, Stats, in_order
from jmr.session.cancelling import Cancel
from jmr.views.painter import show
from jmr.views.summary import Summary

__all__ = ["cancel_jobs", "last_summary", "run_plan", "running_jobs"]

#: Items of the result that the summary shows, and most characters of a key and of a value.
_N_SAMPLED, _KEY_WIDTH, _VALUE_WIDTH = 8, 60, 80
_ERROR_WIDTH = 300

#: Of jobs whose thread is in `run_plan`, by the report's identity, with what ends each; a job may have ended whose
#: thread is in code of the user's.
_running: dict[int, tuple[Report, Cancel]] = {}
#: Of the job that ended last, among those whose thread has left.
_last: Report | None = None


def running_jobs() -> list[Report]:
    """Reports of all jobs of this process that have not ended, in the order in which they began."""
    return [report for report, _ in list(_running.values()) if report.ended is None]


def cancel_jobs(name: str) -> int:
    """Cancel all running jobs of that name; returns how many there were. They end soon."""
    n_cancelled = 0
    for report, cancel in list(_running.values()):
        if report.name == name and report.ended is None:
            cancel()
            n_cancelled += cancel.asked
    return n_cancelled


def last_summary() -> Summary | None:
    """What `jmr.last` is: of the job that ended last, however it ended; None before the first."""
    last = _later([_last, *(report for report, _ in list(_running.values()))])
    return None if last is None else Summary(last)


def _later(reports: Iterable[Report | None]) -> Report | None:
    """The one that ended last."""
    ended = [report for report in reports if report is not None and report.ended is not None]
    return max(ended, key=lambda report: report.ended or 0.0, default=None)


def run_plan(plan: Plan, engine: Engine, report: Report, cancel: Cancel) -> Result:
    """Run a plan to its result, with progress shown, and call `final`; `cancel` ends it, and is done with then."""
    # What is shown of the end takes a moment, in which nobody can cancel any more.
    with _listed(report, cancel), show(report, plan.progress, cancel=cancel), contextlib.closing(cancel):
        try:
            with contextlib.closing(engine.run(plan, report)) as partitions:  # an error keeps its frames alive
                make = (
                    _collected(partitions, report) if plan.out is None else _written(plan, partitions, report, cancel)
                )
        except KeyboardInterrupt as error:
            report.end(State.CANCELLED)
            if cancel.asked and not isinstance(error, JobCancelled):  # it had to be interrupted in user code
                raise JobCancelled(f"job {plan.name!r} was cancelled") from None
            raise
        except BaseException as error:
            report.error = _in_one_line(error)
            report.end(State.FAILED)
            _remember(plan, error)
            raise
        report.end(State.DONE)
    errors, report.errors = report.errors, BadRecords()  # the last job's report stays, and need not hold records
    result = make(stats=_stats(report), errors=errors, timeline=report.timeline, summary=Summary(report))
    if plan.final is not None:
        _call_final(plan, plan.final, result)
    return result


def _collected(partitions: Iterable[Partition], report: Report) -> Callable[..., Result]:
    """All of the result, as a function of what is known of its job when that has ended."""
    items = list(in_order(partitions))
    report.n_keys = len(items)
    report.sample = [(_told(k, _KEY_WIDTH), _told(v, _VALUE_WIDTH)) for k, v in items[:_N_SAMPLED]]
    return partial(Result, items)


def _written(plan: Plan, partitions: Iterable[Partition], report: Report, cancel: Cancel) -> Callable[..., Result]:
    """The same where it was written."""
    with interrupts.deferred():
        from jmr.session.writing import written  # few jobs need it

    return written(plan, partitions, report, cancel)


@contextlib.contextmanager
def _listed(report: Report, cancel: Cancel) -> Iterator[None]:
    """One of `running_jobs` meanwhile, and perhaps the last job thereafter."""
    global _last  # noqa: PLW0603 - a process has one last job
    _running[id(report)] = report, cancel
    try:
        yield
    finally:
        _last = _later([_last, report])
        del _running[id(report)]


def _told(obj: object, width: int) -> str:
    """What the summary says of a key or a value; the job has not ended yet, so no code of the user's is run."""
    return describe(obj, width, calls_repr=False)


def _in_one_line(error: BaseException) -> str:
    """An error in one line; ours in words, the user's as Python would write it, whatever its `__str__` does."""
    if not isinstance(error, JmrError):
        return describe(error, _ERROR_WIDTH)
    return printable(f"{type(error).__name__}: {error}".partition("\n")[0], _ERROR_WIDTH)


def _stats(report: Report) -> Stats:
    return Stats(
        seconds=report.elapsed(report.started),
        n_slots=report.n_slots,
        n_records=report.n_records,
        n_pairs=report.n_pairs,
        n_keys=report.n_keys,
        n_map_tasks=report.n_map_tasks,
        n_reduce_tasks=report.n_reduce_tasks,
        shuffled_bytes=report.shuffled_bytes,
    )


def _remember(plan: Plan, error: BaseException) -> None:
    """As the last failure; a job that was cancelled has not failed."""
    from jmr.session.replaying import remember  # few jobs need it

    remember(plan.name, error, _in_one_line(error))


def _call_final(plan: Plan, final: Callable[[Any, Any], Any], result: Result) -> None:
    try:
        keys = sorted(result)
    except Exception:  # keys that do not compare may say so in any way they like
        keys = list(result)
    for key in keys:
        try:
            final(key, result[key])
        except Exception as cause:
            frames = without_ours(cause.__traceback__)
            message = f"final raised {describe(cause)} for key={describe(key)}."
            if isinstance(cause, TypeError) and not frames:  # it was the call itself
                message += "\nfinal is called as final(key, value)."
            message += "\nThe job itself had finished: its dict is this exception's .result."
            error = FinalError(message).with_traceback(frames)
            error.result = result
            error.__cause__ = cause.with_traceback(None)
            error.set_replay(_held(plan, key, result[key]))
            _remember(plan, error)
            raise error  # noqa: B904 - it brings its own cause


def _held(plan: Plan, key: Any, value: Any) -> Replay | None:
    from jmr.engines.replay import held  # few jobs need it

    return held("final", plan, (key, value))
