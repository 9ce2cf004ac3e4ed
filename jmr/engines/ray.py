"""Ray runs a plan: in the Ray that this process is connected to, or in one of its own.

    split ──put──> call_map ──> receipt ──────────────────────────────> calling thread
                          └──> bundles of partitions ──> call_reduce ──> receipt, result
                               (they stay in Ray's object store)

A map task has `num_returns=`: its receipt first, then bundles. A bundle is a partition, or several that are small: an
object costs Ray more than its first 100 KB, and smaller ones than that are kept in this process. Receipts tell lengths,
from which both ends know which partition lies where; a reduce task is given the bundles it needs as its arguments.

A Ray that was there before is never shut down. Calls that wait for Ray can be interrupted: what is done comes in a
queue.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import queue
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

from jmr import interrupts
from jmr.codec.values import Buffer, uncopied
from jmr.engines.calls import JobCall, Receipt, call_map, call_reduce
from jmr.engines.rayhome import OwnRay, error_of, imported

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["RayPool"]

#: Smaller objects than this do not lie in Ray's object store.
_SMALL_BYTES = 100_000
#: Of a map task: each costs some 10 us, filled or not.
_MOST_BUNDLES = 128
#: Tasks under way for each slot: to start the next one takes Ray a millisecond.
_TASKS_PER_SLOT = 3
#: CPUs come and go; to ask for their number takes a fraction of a millisecond.
_COUNT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Shared:
    """What all tasks of a job are given; lies in Ray's object store."""

    job: JobCall
    #: Where this process finds modules. Ray's workers know the working directory, but not what was added to sys.path.
    path: tuple[str, ...]

    def call(self) -> JobCall:
        """On the worker."""
        known = set(sys.path)
        sys.path += [entry for entry in self.path if entry not in known and os.path.exists(entry)]
        return self.job


class RayPool:
    """One job on Ray.

    Raises
    ------
    WorkerError
        Ray is not installed.
    """

    name = "ray"
    least_seconds = 0.01
    round_seconds = 0.0

    def __init__(self) -> None:
        self._ray = imported()
        #: Where this job has started it.
        self._own: OwnRay | None = None
        self._is_open = False
        self._counted_at, self._n_slots = -_COUNT_SECONDS, 0
        self._shared: Any = None
        self._n_attempts = 1
        self._n_bundles = 1
        #: What is under way: the reference to its receipt, and of a reduce task also the one to its result.
        self._running: dict[int, tuple[Any, Any]] = {}
        self._is_reducing = False
        #: By split: its bundles, and the partitions in each. Cleared when the reduce tasks hold them.
        self._left: dict[int, list[tuple[list[int], Any]]] = {}
        #: References to the bundles of map tasks that are under way.
        self._bundles: dict[int, list[Any]] = {}
        self._done: queue.SimpleQueue[tuple[int, Future[Any]]] = queue.SimpleQueue()

    @property
    def n_slots(self) -> int:
        """Its CPUs; 0 while there are none, as in a cluster that is scaled down."""
        self._connect()
        if time.monotonic() - self._counted_at >= _COUNT_SECONDS:
            self._n_slots = int(self._asked(self._ray.cluster_resources).get("CPU", 0))
            self._counted_at = time.monotonic()
        return self._n_slots

    @property
    def window(self) -> int:
        """Some more than run."""
        return _TASKS_PER_SLOT * self.n_slots

    def open(self, job: JobCall) -> None:
        """Put what all tasks are given into the object store."""
        self._connect()
        functions = uncopied(job.functions)  # a worker sees them where they lie
        path = tuple(os.path.abspath(entry) for entry in sys.path)
        self._shared = self._asked(self._ray.put, _Shared(replace(job, functions=functions), path))
        self._n_attempts = job.max_attempts
        self._n_bundles = min(job.n_partitions, _MOST_BUNDLES)

    def start_map(self, index: int, split: bytes) -> None:
        """Send the split, and have it mapped."""
        argument = uncopied(split)
        if len(split) >= _SMALL_BYTES:
            argument = self._asked(self._ray.put, argument)
        receipt, *self._bundles[index] = self._start(
            _map, 1 + self._n_bundles, self._shared, index, argument, self._n_bundles
        )
        self._watch(index, receipt, None)

    def start_reduce(self, index: int, partitions: Sequence[int], splits: Sequence[int]) -> None:
        """Have bundles reduced, all of which the worker has before it begins."""
        self._is_reducing = True
        wanted: list[tuple[int, list[int]]] = []
        bundles: list[Any] = []
        for split in splits:
            for inside, bundle in self._left[split]:
                if which := [partition for partition in inside if partition in partitions]:
                    wanted.append((split, which))
                    bundles.append(bundle)
        receipt, result = self._start(_reduce, 2, self._shared, index, wanted, *bundles)
        self._watch(index, receipt, result)

    def finished(self, seconds: float) -> Sequence[tuple[int, Receipt, Buffer]]:
        """Take what is in the queue."""
        if self._is_reducing:  # Ray keeps what is the argument of a task
            self._left.clear()
        found = []
        with contextlib.suppress(queue.Empty):
            found.append(self._done.get(timeout=seconds) if seconds else self._done.get_nowait())
            while True:
                found.append(self._done.get_nowait())
        return [self._taken(index, future) for index, future in found]

    def cancel(self) -> None:
        """End the processes that run tasks: Ray starts others. What waits does not start."""
        for receipt, _ in list(self._running.values()):
            with contextlib.suppress(Exception):  # that it is done, or Ray itself has ended
                self._ray.cancel(receipt, force=True)

    def close(self) -> None:
        """Let go of all objects; shut down the Ray that this started."""
        self._hear_errors()
        self._running.clear()
        self._bundles.clear()
        self._left.clear()
        self._shared = None
        if self._own is not None:
            own, self._own = self._own, None
            own.shut_down()

    def _hear_errors(self) -> None:
        """Ask for what nobody needs of tasks that have failed: Ray prints errors that nobody has asked for."""
        unheard = [result for _, result in self._running.values() if result is not None]
        unheard += itertools.chain(*self._bundles.values())
        ready: list[Any] = []
        with contextlib.suppress(Exception):  # there may be none, or Ray has ended
            ready, _ = self._ray.wait(unheard, num_returns=len(unheard), timeout=0, fetch_local=False)
        for reference in ready:
            with contextlib.suppress(Exception):
                self._ray.get(reference, timeout=0)

    def _connect(self) -> None:
        """To the Ray that this process knows, else to one that it is told of by RAY_ADDRESS, else to one of its own."""
        if self._is_open:
            return
        if not self._ray.is_initialized():
            with interrupts.deferred():  # half a Ray would stay
                self._own = OwnRay(self._ray)
        self._is_open = True

    def _start(self, function: Any, n_returns: int, *arguments: Any) -> list[Any]:
        remote = _remote(self._ray, function).options(num_returns=n_returns, max_retries=self._n_attempts - 1)
        references: list[Any] = self._asked(remote.remote, *arguments)
        return references

    def _watch(self, index: int, receipt: Any, result: Any) -> None:
        self._running[index] = receipt, result
        receipt.future().add_done_callback(lambda future: self._done.put((index, future)))

    def _taken(self, index: int, future: Future[Any]) -> tuple[int, Receipt, Buffer]:
        try:
            receipt: Receipt = future.result()
            _, result = self._running.pop(index)
            if result is None:
                inside = _bundled(receipt.lengths, self._n_bundles)
                self._left[index] = list(zip(inside, self._bundles.pop(index), strict=False))
                return index, receipt, b""
            return index, receipt, bytearray(self._ray.get(result))  # Ray takes its own memory back
        except self._ray.exceptions.RayError as error:
            raise error_of(error, self._n_attempts) from error

    def _asked(self, function: Any, *arguments: Any) -> Any:
        """Call Ray, which may be at its end."""
        try:
            return function(*arguments)
        except self._ray.exceptions.RayError as error:
            raise error_of(error, self._n_attempts) from error


@functools.cache
def _remote(ray: ModuleType, function: Any) -> Any:
    """A new one for each job would be sent to the workers for each job."""
    return ray.remote(function)


# On Ray's workers.

#: What Ray may carry from one task to another: by partition, what a map task has left.
_Bundle = dict[int, Any]


def _map(shared: _Shared, index: int, split: Any, n_bundles: int) -> list[Receipt | _Bundle | None]:
    """Run a map task; returns its receipt, and its bundles."""
    receipt, blobs = call_map(shared.call(), index, memoryview(split))
    bundles: list[_Bundle | None] = [
        {partition: uncopied(blobs[partition]) for partition in inside}
        for inside in _bundled(receipt.lengths, n_bundles)
    ]
    return [receipt, *bundles, *[None] * (n_bundles - len(bundles))]


def _reduce(
    shared: _Shared, index: int, wanted: list[tuple[int, list[int]]], *bundles: _Bundle | None
) -> tuple[Receipt, Any]:
    """Run a reduce task on what is wanted of each bundle: its split, and the partitions."""
    inputs = []
    for (split, partitions), bundle in zip(wanted, bundles, strict=True):
        if bundle is None or not bundle.keys() >= set(partitions):  # Ray has lost it, and has run the map task again
            raise RuntimeError(f"mapfn gave something else for split map-{split} when Ray had to run it again")
        inputs += [(split, memoryview(bundle[partition])) for partition in partitions]
    receipt, result = call_reduce(shared.call(), index, inputs)
    return receipt, uncopied(result)


# Pure.


def _bundled(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Partitions that travel together, each with something in it: neighbours, until they are large enough.

    Examples
    --------
    >>> _bundled([10, 0, 200_000, 60_000, 60_000, 5], most=4)
    [[0, 2], [3, 4], [5]]
    >>> _bundled([10, 0, 200_000, 60_000, 60_000, 5], most=2)
    [[0, 2], [3, 4, 5]]
    """
    enough = max(_SMALL_BYTES, -(-sum(lengths) // most))
    bundles: list[list[int]] = []
    n_bytes = enough
    for partition, length in enumerate(lengths):
        if not length:
            continue
        if n_bytes >= enough:
            bundles.append([])
            n_bytes = 0
        bundles[-1].append(partition)
        n_bytes += length
    return bundles
