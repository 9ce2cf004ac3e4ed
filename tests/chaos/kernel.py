"""The process whose cluster and jobs it is: does what its standard input says, and tells what becomes of it.

    "run a words 7 40" ──> {"job": "a", "ended": "answer", "faults": []}   compared with the plain loop's, and its
                                                                           report checked
    "cancel a"         ──> {"job": "a", "ended": "cancelled", ...}
    "rest 4"           ──> {"rests": true, "faults": []}        all slots are idle, four of other workers among them
    "end"

One JSON object a line. SIGUSR1: what all threads are at, on standard error.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import jmr
from jmr.result import Result
from tests.chaos.jobs import Task, task_of

_REST_SECONDS = 30.0


def main(n_local: int, port: int) -> None:
    """Listen, and do what is asked until there is nothing more."""
    faulthandler.register(signal.SIGUSR1)
    with jmr.Cluster(workers=n_local, listen=f"127.0.0.1:{port}") as cluster:
        assert cluster._coordinator is not None
        _tell(listens=cluster.address, folders=cluster._coordinator._directories.paths)
        kernel = Kernel(cluster)
        for line in sys.stdin:
            match line.split():
                case ["run", name, kind, seed, seconds]:
                    kernel.run(name, task_of(kind, int(seed), float(seconds)))
                case ["cancel", name]:
                    kernel.cancel(name)
                case ["rest", n_others]:
                    kernel.rest(int(n_others))
                case ["end"]:
                    break


class Kernel:
    """Its jobs."""

    def __init__(self, cluster: jmr.Cluster) -> None:
        self._cluster = cluster
        self._jobs: dict[str, jmr.Job] = {}

    def run(self, name: str, task: Task) -> None:
        """Run a job; its end is told by another thread."""
        plain = {name: value for name, value in task.options.items() if name != "n_partitions"}
        expected = jmr.run(task.source(), task.mapfn, task.reducefn, engine="inline", progress=False, **plain)
        options: dict[str, Any] = {"progress": False, "engine": self._cluster}
        job = jmr.submit(task.source(), task.mapfn, task.reducefn, name=name, **task.options, **options)
        self._jobs[name] = job
        threading.Thread(target=self._tell_end, args=(name, job, expected)).start()
        _tell(runs=True)

    def cancel(self, name: str) -> None:
        """Cancel one."""
        self._jobs[name].cancel()

    def rest(self, n_others: int) -> None:
        """Wait until no slot does anything, and so many of other workers are there."""
        end = time.monotonic() + _REST_SECONDS
        while not self._rests(n_others):
            if time.monotonic() > end:
                _tell(rests=False, status=self._cluster.status())
                return
            time.sleep(0.01)
        _tell(rests=True, faults=self._left())

    def _rests(self, n_others: int) -> bool:
        status = self._cluster.status()
        return len(status) == self._cluster.n_slots + n_others and all(doing == "idle" for _, doing in status)

    def _tell_end(self, name: str, job: jmr.Job, expected: Result) -> None:
        n_attempts, faults = 0, []
        try:
            result = job.result()
        except jmr.JobCancelled:
            ended = "cancelled"
        except BaseException as error:
            ended, faults = "error", [f"{type(error).__name__}: {error}"]
        else:
            ended, n_attempts = "answer", len(result.timeline)
            faults = [*_differences(result, expected), *_miscounts(job._report, result)]
        _tell(job=name, ended=ended, faults=faults, attempts=n_attempts)

    def _left(self) -> list[str]:
        """Files of jobs that are over."""
        assert self._cluster._coordinator is not None
        folders = map(Path, self._cluster._coordinator._directories.paths)
        return [f"left behind: {path}" for folder in folders for path in folder.rglob("*")]


def _differences(result: Result, expected: Result) -> list[str]:
    """What is not as in the plain loop's result."""
    faults = []
    if [_typed(item) for item in result.items()] != [_typed(item) for item in expected.items()]:
        faults.append(f"the result differs: {dict(result)!r:.500} instead of {dict(expected)!r:.500}")
    if [_told(bad) for bad in result.errors] != [_told(bad) for bad in expected.errors]:
        faults.append(f"other records were set aside: {result.errors!r:.500} instead of {expected.errors!r:.500}")
    for count in ("n_records", "n_pairs", "n_keys"):
        if getattr(result.stats, count) != getattr(expected.stats, count):
            faults.append(f"{count} is {getattr(result.stats, count)}, not {getattr(expected.stats, count)}")
    return faults


def _typed(thing: Any) -> Any:
    """A value that equals another only if their types are the same, all the way down."""
    if isinstance(thing, dict):
        return dict, [_typed(item) for item in thing.items()]
    return type(thing), [_typed(part) for part in thing] if isinstance(thing, (list, tuple)) else thing


def _told(bad: Any) -> tuple[Any, ...]:
    return bad.phase, _typed(bad.key), _typed(bad.value), repr(bad.error)


def _miscounts(report: Any, result: Result) -> list[str]:
    """What does not add up in a job's report: each task is done once, no more and no less."""
    faults = []
    for phase in ("map", "reduce"):
        n_tasks, n_done = getattr(report, f"n_{phase}_tasks"), getattr(report, f"n_{phase}_tasks_done")
        if n_tasks != n_done:
            faults.append(f"{n_done} {phase} tasks of {n_tasks} are done")
    done = Counter(attempt.task for attempt in result.timeline if attempt.outcome == "done")
    tasks = {f"map-{i}" for i in range(report.n_map_tasks)} | {f"reduce-{i}" for i in range(report.n_reduce_tasks)}
    if done != Counter(tasks):
        faults.append(f"tasks that were not done once: {sorted((done - Counter(tasks)) + (Counter(tasks) - done))}")
    attempts = Counter((attempt.task, attempt.number) for attempt in result.timeline)
    if again := [attempt for attempt, n in attempts.items() if n > 1]:
        faults.append(f"attempts that ended twice: {again}")
    if busy := [name for name, slot in report.slots.items() if slot.doing]:
        faults.append(f"slots that are still said to work: {busy}")
    return faults


def _tell(**words: Any) -> None:
    os.write(1, f"{json.dumps(words)}\n".encode())
