"""jmr.run: the call is checked, an engine found, and the plan run.

    arguments ──> Plan ──> engine (its worker starts) ──> running.run_plan ──> Result

Whatever is not needed before a worker can be started is imported after that: the worker imports its own part meanwhile.
Frames of ours are cut out of every traceback that leaves here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from jmr import interrupts
from jmr.codec import process
from jmr.errors import (
    NestedRunError,
    hide_ours,
    show_in_one_line,
)
from jmr.plan import Plan

if TYPE_CHECKING:
    import os

    from jmr.engines.base import Engine
    from jmr.engines.cluster import Cluster
    from jmr.result import Result

__all__ = ["engine_for", "run", "run_with_notes"]


def run(
    source: Any,
    mapfn: Callable[[Any, Any], Any],
    reducefn: Callable[[Any, list[Any]], Any] | None = None,
    *,
    combinefn: Callable[[Any, list[Any]], Any] | None = None,
    final: Callable[[Any, Any], Any] | None = None,
    engine: Any = None,
    workers: int | None = None,
    n_partitions: int | None = None,
    max_attempts: int = 4,
    on_error: Literal["raise", "skip"] = "raise",
    speculate: bool | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
    name: str | None = None,
) -> Result:
    """Run a MapReduce job and return the dict that a plain loop would have given.

    Parameters
    ----------
    source
        A mapping, whose items are the records; an object with only `__iter__` and `__getitem__` that is no sequence,
        likewise; or an iterable of (key, value) pairs. Read once, lazily, in this thread. It may be longer than memory.
        Or a data frame of pandas, polars or Arrow; or what the workers read by themselves: `jmr.files(...)`,
        `jmr.table(...)`, `jmr.outputs(...)`, the result of a job with `out=`, or a `jmr.Source` of your own.
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
        this process, for a debugger. Others run the same job, with the same answer: a Dask `Client`, or "dask"; "ray";
        a `SparkSession`, or "spark"; any `concurrent.futures.Executor`. jmr must be installed on their workers. What is
        there is used and stays; by name, what is not there is started, and ended with the job.
    workers
        Most processes (slots) of this host to use; the warm cluster grows to it. Those of other hosts come on top; 0
        leaves all work to them. Default: as many as the cluster was made with, or one for each CPU that this process
        may use.
    n_partitions
        How many parts the keys are reduced in; never changes the answer. Default: 4 for each slot, at least 8.
    max_attempts
        How often a record or a group may end its process (by a signal, or os._exit) before the job fails; and how often
        a piece of work may, at no single one of them. Which it was is not known the first time, which counts for none.
    on_error
        "raise": the first exception of a user function ends the job. "skip": a bad record contributes nothing, a
        failing group is left out; both are set aside in `result.errors`. `final` always raises. To contribute nothing,
        what a record emits is held until mapfn is done with it: with "skip", one record's pairs must fit into memory.
    speculate
        Whether work that takes long while slots are idle is begun once more elsewhere, and the first to finish is
        taken: near the end, after 10 s at least and twice what is usual. Default: where the engine can, which is on
        jmr's own clusters. What a function does besides returning, such as writing a file, may then happen twice, and
        where a process ends or a host is lost as well; its results never count twice.
    checkpoint
        A directory, which may be a new one: what is finished is kept there. The same job, run again after it failed or
        its kernel died, goes on from there; when it was finished, it gives its result at once. What a change touches is
        done again, and nothing else: of a record, its split (or, where one is inserted, also those after it); of
        mapfn, combinefn or what they use, all; of reducefn, the reduce. One job at a time may use it.
    out
        A directory, new or empty, or a URL (by fsspec: pip install "jmr[fs]"): the results are written there, a file
        for each partition, and not brought back. It takes memory for one partition at a time. JSON lines,
        `{"key": ..., "value": ...}`, hold str, numbers, bool, None, lists, tuples (as lists) and dicts with str keys;
        NaN as Python's json has it. If the name ends in ".parquet", Parquet with the columns key and value (pip install
        "jmr[arrow]"); there, keys are of one type, and so are values. A result that does not fit is a failure of
        reducefn. A job that fails leaves nothing there, and one whose kernel died nothing with a manifest,
        `_manifest.json`. Does not go with `final`.
    progress
        False: be silent. True: show it also where nobody seems to look. Default: a bar in a notebook, a line in a
        terminal, and elsewhere nothing, unless records were skipped.
    name
        Shown with the progress. Default: mapfn's own name; "job" if that says nothing ("mapfn", or a lambda).

    Returns
    -------
    A dict with keys in order of first appearance; of equal keys, the object seen first. With `out`, a dict of the path
    of each file and how many keys it holds: a source for the next job, as is what `jmr.outputs` finds there later.

    Raises
    ------
    ArgumentTypeError, ArgumentValueError, NotPicklableError
        At once: something in the call cannot be right, or cannot travel to a slot.
    SourceError
        The source cannot be iterated, or yields something that is no pair; or a worker cannot read some of it. What it
        raises itself in this thread comes out unchanged.
    MapError, CombineError, ReduceError, FinalError
        A user function failed; `__cause__` is its exception, or a RemoteError in place of one that cannot be pickled.
    SlotDiedError
        User functions ended their process `max_attempts` times at one record or group, or at none of them.
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
        speculate=speculate,
        checkpoint=checkpoint,
        out=out,
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
            engine = engine_for(plan)
            with interrupts.deferred():
                from jmr.progress.report import Report
                from jmr.session.cancelling import Cancel
                from jmr.session.running import run_plan

            report = Report(plan.name, notes=list(notes))
            return run_plan(plan, engine, report, Cancel(engine, interrupts.interrupter()))
    except BaseException as error:
        hide_ours(error)
        if isinstance(error, KeyboardInterrupt):
            show_in_one_line(error, "the job was interrupted")
        raise


def engine_for(plan: Plan) -> Engine:
    """The engine that a plan asks for, ready to run it; a place that cannot be written to is told before it starts."""
    from jmr.engines.cluster import Cluster, current_cluster

    if process.runs_task():
        raise NestedRunError(
            "jmr.run was called inside a slot, by a mapfn or reducefn: slots cannot run jobs of their own, which would "
            "wait for each other. Run the jobs one after another, or emit the records for a second job."
        )
    if plan.out is not None:
        with interrupts.deferred():
            from jmr.sinks.output import check_place  # few jobs need it

        check_place(plan.out)
    match plan.engine:
        case None:
            return _on_slots(current_cluster(plan.workers))
        case Cluster():
            return _on_slots(plan.engine)
        case _:
            with interrupts.deferred():
                from jmr.engines.choice import engine_of

            return engine_of(plan)


def _on_slots(cluster: Cluster) -> Engine:
    """Ours; imported when its worker is already starting."""
    with interrupts.deferred():
        from jmr.engines.slots import ClusterEngine

    return ClusterEngine(cluster)
