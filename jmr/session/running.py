"""Runs a plan to its result, with its progress shown.

Plan ──> engine ──> partitions ──in order of first appearance──> Result ──> final, key by key
                                              progress shows the Report meanwhile
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from jmr.engines.base import Engine
from jmr.errors import FinalError, describe, without_ours
from jmr.plan import Plan
from jmr.progress.painter import show
from jmr.progress.report import Report, State
from jmr.result import Result, Stats, in_order

__all__ = ["run_plan"]


def run_plan(plan: Plan, engine: Engine, report: Report) -> Result:
    """Run a plan to its result, with progress shown, and call `final`."""
    with show(report, plan.progress):
        try:
            with contextlib.closing(engine.run(plan, report)) as partitions:  # an error keeps its frames alive
                items = list(in_order(partitions))
            report.n_keys = len(items)
        except KeyboardInterrupt:
            report.end(State.CANCELLED)
            raise
        except BaseException:
            report.end(State.FAILED)
            raise
        report.end(State.DONE)
    result = Result(items, stats=_stats(report), errors=report.errors, timeline=report.timeline)
    if plan.final is not None:
        _call_final(plan.final, result)
    return result


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


def _call_final(final: Callable[[Any, Any], Any], result: Result) -> None:
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
            raise error  # noqa: B904 - it brings its own cause
