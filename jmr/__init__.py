"""jmr: MapReduce from a notebook.

    jmr.run(source, mapfn, reducefn)       waits, and returns a dict: exactly the one that a plain loop would give
    jmr.submit(source, mapfn, reducefn)    returns a Job at once: .result(), .cancel(), .done(), await
    jmr.preview(source, mapfn, reducefn)   shows what becomes of the first records, here and now
    jmr.run_file("triangular.py")          runs a file that defines source, mapfn and reducefn
    jmr.files("logs/*.txt", by="line")     a source that the workers read by themselves: files, lines or blocks
    jmr.replay()                           runs the record that the last job failed at again, here: for %debug
    jmr.outputs("counts")                  finds what a job with out="counts" has written: a source, or a table
    jmr.table("flights/*.parquet")         a table in files, which the workers read: Parquet, CSV, Arrow
    jmr.Cluster(workers=4)                 processes of your own, here or on other hosts: the default inside its `with`
    jmr.last                               the card of the job that ended last

    %load_ext jmr                          brings the magics to IPython:
    %%mapreduce counts                     a cell that defines source, mapfn and reducefn
    %mapreduce source mapfn reducefn       the same as an expression; both take --preview and --debug
    %jmr                                   what the slots do; %jmr jobs, cancel, workers, listen, stop

    $ jmr run triangular.py                a task file without a notebook
    $ jmr checkpoint ls kept               what a job with checkpoint="kept" has finished; rm removes it
    $ jmr-worker 10.0.0.5                  lends this host's cores to a notebook that listens there

`jmr.run?` has the arguments. Every exception is a `jmr.JmrError`.

A record's way through the package, room by room; a module imports only from rooms above it:

    tracebacks   how IPython shows an exception of ours
    errors       every exception, as one tree
    codec        objects <-> bytes: the only caller of pickle
    urls         what a URL is, and what of it may be shown
    sinks        where results are written, for a job that does not bring them back
    plan         what the user asked for, checked and frozen
    sources      where records come from; splits that workers read
    tasks        one attempt: map, group, combine, partition; merge, group, reduce
    result       the dict that comes back, and what is known of its job
    progress     what a job has done so far, in numbers and words; what its workers print
    scheduler    who runs what: events in, effects out
    wire         messages <-> bytes, and the handshake, without I/O
    links        connections on an event loop: to a process here, to another host
    shuffle      where map outputs lie: inline, in files in memory, or on disk
    worker       the far end: a supervisor process, and the slots it forks
    checkpoint   what a job leaves behind, so that the same job, run again, does only what is left
    launch       starts workers
    coordinator  the near end: an event loop around scheduler, wire and shuffle
    interrupts   Ctrl-C, while user code runs in the calling thread
    engines      what runs a plan: inline, or our own cluster
    views        how a job is shown: before, while and after it runs
    session      the calling thread: from the call to the result
    notebook     the magics
    cli          the command line

Names are loaded when they are first used: a worker imports this package too, and must start fast.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jmr.engines.cluster import Cluster
    from jmr.errors import (
        ArgumentTypeError,
        ArgumentValueError,
        CombineError,
        FinalError,
        FunctionError,
        JmrError,
        JobCancelled,
        MapError,
        NestedRunError,
        NotPicklableError,
        ReduceError,
        RemoteError,
        ReplayError,
        SlotDiedError,
        SourceError,
        TaskFileError,
        TokenError,
        WorkerError,
    )
    from jmr.notebook.magics import load_ipython_extension, unload_ipython_extension
    from jmr.result import Result
    from jmr.session.calling import run
    from jmr.session.job import Job, submit
    from jmr.session.outputs import outputs
    from jmr.session.preview import preview
    from jmr.session.replaying import replay
    from jmr.session.taskfile import run_file
    from jmr.sources.base import Source, Split
    from jmr.sources.files import files
    from jmr.sources.tables.table import table
    from jmr.views.summary import Summary

    #: The summary of the job that ended last, in whatever way; None before.
    last: Summary | None

__version__ = "0.1.0"

__all__ = [
    "ArgumentTypeError",
    "ArgumentValueError",
    "Cluster",
    "CombineError",
    "FinalError",
    "FunctionError",
    "JmrError",
    "Job",
    "JobCancelled",
    "MapError",
    "NestedRunError",
    "NotPicklableError",
    "ReduceError",
    "RemoteError",
    "ReplayError",
    "Result",
    "SlotDiedError",
    "Source",
    "SourceError",
    "Split",
    "TaskFileError",
    "TokenError",
    "WorkerError",
    "files",
    "load_ipython_extension",
    "outputs",
    "preview",
    "replay",
    "run",
    "run_file",
    "submit",
    "table",
    "unload_ipython_extension",
]

_HOMES = {
    "Cluster": "jmr.engines.cluster",
    "Job": "jmr.session.job",
    "Result": "jmr.result",
    "Source": "jmr.sources.base",
    "Split": "jmr.sources.base",
    "files": "jmr.sources.files",
    "load_ipython_extension": "jmr.notebook.magics",
    "outputs": "jmr.session.outputs",
    "preview": "jmr.session.preview",
    "replay": "jmr.session.replaying",
    "run": "jmr.session.calling",
    "run_file": "jmr.session.taskfile",
    "submit": "jmr.session.job",
    "table": "jmr.sources.tables.table",
    "unload_ipython_extension": "jmr.notebook.magics",
}


def __getattr__(name: str) -> Any:
    if name == "last":
        return _last()
    if name not in __all__:
        raise AttributeError(f"module 'jmr' has no attribute {name!r}")
    from jmr.interrupts import deferred

    with deferred():  # Python does not recover from an interrupted import: the next one finds half a module, or waits
        value = getattr(importlib.import_module(_HOMES.get(name, "jmr.errors")), name)
    globals()[name] = value
    return value


def _last() -> Summary | None:
    """Asked for anew each time. Where no job has run, nothing need be imported to say so."""
    running = sys.modules.get("jmr.session.running")
    return None if running is None else running.last_summary()


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, "last"])
