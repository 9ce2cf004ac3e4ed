"""jmr.run: from the call to the result.

    arguments ──> Plan ──> engine ──> partitions ──in order of first appearance──> Result ──> final, key by key
                                                                    progress shows the Report meanwhile

Frames of ours are cut out of every traceback that leaves here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from jmr import interrupts
from jmr.codec import values
from jmr.engines.base import Engine
from jmr.errors import ArgumentTypeError, FinalError, NestedRunError, describe, hide_ours, without_ours
from jmr.plan import Plan
from jmr.progress.painter import show
from jmr.progress.report import Report, State
from jmr.result import Result, Stats, in_order

if TYPE_CHECKING:
    from jmr.engines.cluster import Cluster

__all__ = ["engine_for", "run", "run_plan", "run_with_notes"]


def run(
    source: Any,
    mapfn: Callable[[Any, Any], Any],
    reducefn: Callable[[Any, list[Any]], Any] | None = None,
    *,
    combinefn: Callable[[Any, list[Any]], Any] | None = None,
    final: Callable[[Any, Any], Any] | None = None,
    engine: Cluster | Literal["inline"] | None = None,
    workers: int | None = None,
    n_partitions: int | None = None,
    max_attempts: int = 4,
    on_error: Literal["raise", "skip"] = "raise",
    progress: bool | None = None,
    name: str | None = None,
) -> Result:
    """Run a MapReduce job and return the dict that a plain loop would have given.

    Parameters
    ----------
    source
        A mapping, whose items are the records; an object with only `__iter__` and `__getitem__` that is no sequence,
        likewise; or an iterable of (key, value) pairs. Read once, lazily, in this thread. It may be longer than memory.
    mapfn
        Called as `mapfn(key, value)` for every record. Returns or yields (key, value) pairs, or returns None for
        nothing. Keys must be hashable and compare by value; all NaNs are one key.
    reducefn
        Called as `reducefn(key, values)` for every key, with a list of the key's values in source order. What it
        returns is the key's value in the result; a generator's items become a list. Left out: the list itself.
    combinefn
        Called as `combinefn(key, values)`, any number of times and on its own results too; folds values into one
        before they travel.
    final
        Called as `final(key, value)` in this process for every key of the result, in sorted order, or in the result's
        order where keys do not compare. What it returns is ignored.
    engine
        None: the innermost `with jmr.Cluster`, or this process's own slots. A `Cluster`. "inline": one plain loop in
        this process, for a debugger.
    workers
        Most processes (slots) to use; the warm cluster grows to it. Default: as many as the cluster was made with, or
        one for each CPU that this process may use.
    n_partitions
        How many parts the keys are reduced in; never changes the answer. Default: 4 for each slot, at least 8.
    max_attempts
        How often a piece of work may end its process (by a signal, or os._exit) before the job fails.
    on_error
        "raise": the first exception of a user function ends the job. "skip": a bad record contributes nothing, a
        failing group is left out; both are set aside in `result.errors`. `final` always raises.
    progress
        False: be silent. True: show it also where nobody seems to look. Default: a bar in a notebook, a line in a
        terminal, and elsewhere nothing, unless records were skipped.
    name
        Shown with the progress. Default: mapfn's own name; "job" if that says nothing ("mapfn", or a lambda).

    Returns
    -------
    A dict with keys in order of first appearance; of equal keys, the object seen first.

    Raises
    ------
    ArgumentTypeError, ArgumentValueError, NotPicklableError
        At once: something in the call cannot be right, or cannot travel to a slot.
    SourceError
        The source cannot be iterated, or yields something that is no pair. What it raises itself comes out unchanged.
    MapError, CombineError, ReduceError, FinalError
        A user function failed; `__cause__` is its exception, or a RemoteError in place of one that cannot be pickled.
    SlotDiedError
        A user function ended its process `max_attempts` times.
    KeyboardInterrupt
        After Ctrl-C or the kernel's interrupt; the slots stay usable.

    References
    ----------
    Dean and Ghemawat, "MapReduce: Simplified Data Processing on Large Clusters", OSDI 2004.

    Examples
    --------
    >>> import jmr
    >>> documents = {"a.txt": "the cat the dog", "b.txt": "the end"}
    >>> def mapfn(name, text):
    ...     for word in text.split():
    ...         yield word, 1
    >>> jmr.run(documents, mapfn, lambda word, counts: sum(counts), engine="inline")
    {'the': 3, 'cat': 1, 'dog': 1, 'end': 1}
    """
    __tracebackhide__ = True
    return run_with_notes(
        (),
        source,
        mapfn,
        reducefn,
        combinefn=combinefn,
        final=final,
        engine=engine,
        workers=workers,
        n_partitions=n_partitions,
        max_attempts=max_attempts,
        on_error=on_error,
        progress=progress,
        name=name,
    )


def run_with_notes(
    notes: Sequence[str],
    source: Any,
    mapfn: Callable[[Any, Any], Any],
    reducefn: Callable[[Any, list[Any]], Any] | None = None,
    **options: Any,
) -> Result:
    """Like `run`; `notes` are said at the end of the summary line."""
    __tracebackhide__ = True
    try:
        with interrupts.watched():
            plan = Plan.checked(source, mapfn, reducefn, **options)
            return run_plan(plan, engine_for(plan), Report(plan.name, notes=list(notes)))
    except BaseException as error:
        hide_ours(error)
        raise


def engine_for(plan: Plan) -> Engine:
    """The engine that a plan asks for, ready to run it."""
    from jmr.engines.cluster import Cluster, ClusterEngine, current_cluster
    from jmr.engines.inline import InlineEngine

    if values.in_slot:
        raise NestedRunError(
            "jmr.run was called inside a slot, by a mapfn or reducefn: slots cannot run jobs of their own, which would "
            "wait for each other. Run the jobs one after another, or emit the records for a second job."
        )
    match plan.engine:
        case None:
            return ClusterEngine(current_cluster(plan.workers))
        case "inline":
            return InlineEngine()
        case Cluster():
            return ClusterEngine(plan.engine)
        case _:
            raise ArgumentTypeError(
                f'engine must be None, "inline" or a jmr.Cluster, not {describe(plan.engine)} '
                f"({type(plan.engine).__name__})"
            )


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
