"""One plain loop in this process: for a debugger, a tiny job, and as the oracle that every other engine must match.

    records ──mapfn──> groups ──combinefn, twice──> ──reducefn──> one Partition

Nothing is pickled, so nothing needs to be picklable. combinefn runs twice on each group, the second time on its own
result, as it may anywhere else: a combinefn that cannot stand that shows here.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from operator import attrgetter
from typing import Any

from jmr import interrupts
from jmr.engines.base import bad_record, breakpoints_heard, error_from
from jmr.errors import JobCancelled
from jmr.plan import Plan
from jmr.progress.report import Report, SlotReport
from jmr.result import Attempt, Partition
from jmr.sources import Record, SetAside, records
from jmr.sources.base import final_error
from jmr.tasks.contract import Failures, PassThroughError, TaskError
from jmr.tasks.folding import Folder
from jmr.tasks.map import NOWHERE, MapTask, map_records, map_records_apart
from jmr.tasks.partition import Groups
from jmr.tasks.reduce import Merged, ReduceTask, reduce_groups, written

__all__ = ["InlineEngine"]

#: What the timeline calls this process.
_SLOT = "inline"


class InlineEngine:
    """Runs a plan in the calling thread."""

    def __init__(self) -> None:
        self._cancelled = False
        self._name = ""

    def run(self, plan: Plan, report: Report) -> Generator[Partition, None, None]:
        """Yield the one partition."""
        report.n_slots = 1
        self._name = plan.name
        failures = Failures(plan.skips)
        of_source: BaseException | None = None
        try:
            with breakpoints_heard():
                partition = self._run(plan, report, failures)
        except TaskError as error:
            from jmr.engines.replay import held  # few jobs need it

            replay = held(error.failure.phase, plan, error.record)
            told = error_from(error.failure, "inline", error.__cause__, replay)
            raise told from told.__cause__
        except PassThroughError as error:
            of_source = error.original
        if of_source is not None:
            raise of_source  # as a plain loop would, with nothing of ours before it
        report.errors.n_total = report.n_skipped = failures.n_failures
        report.errors += [bad_record(failure, plan, travels=False) for failure in failures.first]
        yield partition

    def cancel(self) -> None:
        """Stop before the next record or group."""
        self._cancelled = True

    def close(self) -> None:
        """Nothing was started."""

    def _run(self, plan: Plan, report: Report, failures: Failures) -> Partition:
        source = records(plan.source, _set_aside(failures) if plan.skips else None)
        report.n_records_total = source.n_records
        merged = Merged()
        report.n_map_tasks = 1
        with _noted(report, "map-0"):
            self._map(plan, self._counted(source.pairs, report), merged.groups, failures)
            if source.splits is not None:
                report.n_records_total = report.n_records
                failures.first.sort(key=attrgetter("place"))  # a split was read before its records were mapped
            report.n_pairs = report.n_combined_pairs = sum(map(len, merged.groups.values()))
            if plan.combinefn is not None:
                self._combine(plan.combinefn, merged, failures)
                report.n_combined_pairs = len(merged.groups)
        report.n_map_tasks_done = 1
        merged.orders = list(range(len(merged.groups)))
        task = ReduceTask(
            reducefn=plan.reducefn, combinefn=plan.combinefn, skips=plan.skips, cursor=self._check, out=plan.out
        )
        report.begin_reduce(1)
        with _noted(report, "reduce-0"):
            keys, orders, values = written(task, merged, reduce_groups(task, merged, failures), failures)
        report.n_reduce_tasks_done = 1
        return Partition(keys, orders, values)

    def _map(self, plan: Plan, pairs: Iterable[Record], groups: Groups, failures: Failures) -> None:
        if plan.skips:
            task = MapTask(mapfn=plan.mapfn, combinefn=None, n_partitions=1, skips=True)
            map_records_apart(task, pairs, groups, failures, check=False)
        else:
            map_records(plan.mapfn, pairs, groups, failures)

    def _combine(self, combinefn: Callable[[Any, list[Any]], Any], merged: Merged, failures: Failures) -> None:
        folder = Folder(combinefn, failures)
        for _ in range(2):
            self._check()
            folder.fold_all(merged.groups)
        merged.dead = folder.failed

    def _counted(self, pairs: Iterable[Record], report: Report) -> Iterator[Record]:
        row = report.slots[_SLOT]
        try:
            for pair in pairs:
                self._check()
                report.n_records += 1
                row.n_records = report.n_records
                yield pair
        except GeneratorExit:  # the job ended before the source did
            raise
        except BaseException as error:
            raise PassThroughError(error) from error

    def _check(self, _: int = NOWHERE) -> None:
        """Whether to go on; also the cursor of the reduce."""
        interrupts.check()
        if self._cancelled:
            raise JobCancelled(f"job {self._name!r} was cancelled")


def _set_aside(failures: Failures) -> SetAside:
    """What becomes of things that cannot be read, in a job that skips."""

    def set_aside(key: Any, error: Exception, n_before: int = 0, /) -> None:
        failures.add("read", key, None, final_error(error), n_before)

    return set_aside


@contextlib.contextmanager
def _noted(report: Report, task: str) -> Iterator[None]:
    """Have the report show what is done inside, as it shows what slots do."""
    row = report.slots.setdefault(_SLOT, SlotReport(_SLOT))
    began = row.since = time.monotonic()
    row.doing = task
    outcome = "stopped"
    try:
        yield
        outcome = "done"
        row.n_tasks += 1
    except JobCancelled:
        raise
    except Exception:
        outcome = "raised"
        row.n_failures += 1
        raise
    finally:
        row.doing = ""
        ended = time.monotonic()
        if task.startswith("map"):
            row.map_seconds = ended - began
        report.timeline.append(Attempt(_SLOT, task, 1, began - report.started, ended - report.started, outcome))
