"""A job whose results are written where `out` says: parts are taken one at a time, and published at the end.

Partition, of one Part ──Output.add──> ... ──settle, commit──> Written: {path: number of keys}
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from jmr import interrupts
from jmr.errors import JobCancelled
from jmr.plan import Plan
from jmr.progress.report import Report
from jmr.progress.words import plural, size
from jmr.result import Partition, Result, Written
from jmr.session.cancelling import Cancel
from jmr.sinks.output import Output
from jmr.sinks.reading import whole_path

__all__ = ["written"]


def written(plan: Plan, partitions: Iterable[Partition], report: Report, cancel: Cancel) -> Callable[..., Result]:
    """Take what the engine gives to where it belongs. From when on it is published, the job cannot be cancelled.

    Returns
    -------
    The result, as a function of what is known of its job when that has ended.

    Raises
    ------
    ArgumentValueError
        The place cannot be used, before the engine is asked for anything.
    WorkerError, ReduceError
        A part cannot be written, or its types are not those of the others.
    """
    assert plan.out is not None
    place = whole_path(plan.out.place)
    output = Output(plan.out, keeps=plan.checkpoint is not None)
    try:
        with interrupts.deferred():
            output.open()
        for partition in partitions:
            for order, part in zip(partition.orders, partition.values, strict=True):
                output.add(order, part)
        output.settle()
        with interrupts.deferred():  # what was begun to be published is published
            cancel.close()
            if cancel.asked:
                raise JobCancelled(f"job {plan.name!r} was cancelled")
            manifest, items = output.commit(plan.name)
    finally:
        with interrupts.deferred():
            output.close()
    report.n_keys = manifest.n_keys
    n_bytes = sum(part.n_bytes for part in manifest.parts)
    report.notes.append(f"{plural(len(items), 'file')}, {size(n_bytes)}, in {plan.out.title}")
    return partial(Written, place, manifest, items)
