"""One job on a Dask cluster: its tasks are sent, their futures kept, and what is told of them heard.

    split ──submit──> map_split ──> a future: what it has left, on its worker ──> reduce_parts ──> a future ──gather──>
                          │             └─ large: cut into futures of some partitions each ─┘
                          └─ event ──> Receipt, here

A map task's future is never gathered: reduce tasks depend on it, and Dask's workers fetch what they need from each
other. Splits and functions travel inside the tasks, so that Dask can run again what was lost with a worker; large
splits are scattered, since the scheduler would have to hold them, and are lost with the worker that has them.

Dask cannot stop a function that runs: of a job that was cancelled, the calls that have begun go on to their end there,
and nothing comes of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import queue
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from concurrent.futures import Future as FutureHere
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import dask
from distributed import KilledWorker, wait
from distributed.comm import CommClosedError

from jmr.engines.calls import JobCall, Receipt
from jmr.engines.dask.clients import OwnCluster, given_client, greet, is_near, told_missing
from jmr.engines.dask.tasks import (
    Blobs,
    Told,
    listen,
    listen_no_more,
    map_split,
    part_of,
    receipt_of,
    reduce_parts,
    suspect_of,
    whole_job,
)
from jmr.errors import JmrError, SlotDiedError, WorkerError, describe

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["DaskPool", "n_parts"]

#: Functions, and splits, up to this size travel inside each task. Larger functions are a task of their own.
_INLINE_BYTES = 1 << 16
#: So do larger splits, as long as the scheduler holds no more than this of a job.
_MOST_INLINE_BYTES, _MOST_HELD_BYTES = 1 << 20, 1 << 28
#: What a future costs, in bytes that a worker would fetch from another one in that time.
_FUTURE_BYTES = 200_000
#: Most of the result to fetch at once.
_FETCHED_BYTES = 1 << 24
#: How often to count workers, and to look at all that maps have left; and to send a split again that was lost.
_CENSUS_SECONDS, _MOST_SENDINGS = 1.0, 4
#: Dask starts a worker in place of one that died, unless that one was still starting. Then none ever comes. Nor
#: does a receipt that went with its worker, if the result lies elsewhere: then Dask does not run the task again.
_LOST_SECONDS = 15.0

_TOLD_LOST = "the connection to the Dask scheduler was lost, and with it the job: run it again"


@dataclass(slots=True)
class _Left:
    """Where a map task's output lies: futures of `Blobs`, each from one partition to the next bound."""

    futures: list[Future]
    bounds: Sequence[int]
    lengths: tuple[int, ...]

    def of(self, partitions: Sequence[int]) -> Iterator[tuple[Future, list[int]]]:
        """The futures that hold something of these partitions, and which of their blobs that is."""
        for future, (first, stop) in zip(self.futures, pairwise(self.bounds), strict=True):
            places = [part - first for part in partitions if first <= part < stop and self.lengths[part]]
            if places:
                yield future, places


@dataclass(slots=True)
class _Sent:
    """A map task that is under way."""

    future: Future
    #: Kept if it was scattered: it is lost with the worker that has it.
    split: bytes | None
    worker: str = ""
    n_sendings: int = 1


@dataclass(slots=True)
class _Reduces:
    """Reduce tasks that are sent together."""

    indices: list[int] = field(default_factory=list)
    wanted: list[list[tuple[int, list[int]]]] = field(default_factory=list)
    left: list[list[Future]] = field(default_factory=list)


class DaskPool:
    """One job on a Dask cluster.

    Parameters
    ----------
    engine
        A `Client`, which is the user's and stays open. "dask": the current client; where there is none, processes on
        this host are started when the job begins, and ended when it ends.
    """

    name = "Dask"
    #: A task and its answer take the scheduler, the worker and this process a few milliseconds.
    least_seconds = 0.02
    round_seconds = 2.0

    def __init__(self, engine: Any) -> None:
        self._client = given_client(engine)
        self._cluster: OwnCluster | None = None
        #: By worker, how many tasks it runs at the same time; when that was asked.
        self._threads: dict[str, int] | None = None
        self._asked = 0.0
        self._had_workers = time.monotonic()
        #: When all that maps have left was looked at.
        self._looked = -math.inf
        #: What is wrong with a worker.
        self._complaint = ""
        self._job: JobCall | None = None
        #: The same, or the future of it: what each task is given.
        self._shared: Any = None
        self._told: queue.SimpleQueue[Told] = queue.SimpleQueue()
        self._held_bytes = 0
        #: Numbers of sendings: under a key that Dask still knows, nothing would run.
        self._sendings = itertools.count(1)
        self._maps: dict[int, _Sent] = {}
        self._left: dict[int, _Left] = {}
        self._waiting = _Reduces()
        self._reduces: dict[int, Future] = {}
        #: Reduce tasks that are done, whose blobs are not here yet; and those of them that are on their way.
        self._ready: dict[int, Receipt] = {}
        self._fetching: tuple[list[int], FutureHere[list[Blobs]]] | None = None
        #: Tasks whose receipts could not be had; and, if Dask holds their results, until when to wait for others.
        self._unread: dict[tuple[str, int], float] = {}

    # What there is.

    @property
    def n_slots(self) -> int:
        """Threads of all workers there are now, or were a moment ago."""
        client = self._running()
        now = time.monotonic()
        if self._threads is None:
            with self._connected():
                self._threads = dict(client.nthreads())
        elif now > self._asked + _CENSUS_SECONDS:
            client.loop.add_callback(self._count)
        else:
            return sum(self._threads.values())
        self._asked = now
        return sum(self._threads.values())

    async def _count(self) -> None:
        """In the client's thread."""
        client = self._client
        with contextlib.suppress(Exception):  # the next one tells
            if client is not None:
                self._threads = dict(await client.nthreads())
                self._complaint = self._complaint or await greet(client, list(self._threads))

    @property
    def window(self) -> int:
        """One that runs, and one that waits."""
        return 2 * max(1, self.n_slots)

    def _running(self) -> Client:
        if self._client is None:
            self._cluster = OwnCluster()
            self._client = self._cluster.client
        return self._client

    # Sending.

    def open(self, job: JobCall) -> None:
        """Listen, and have the functions travel."""
        client = self._running()
        self._job = self._shared = job
        with self._connected():
            self._complaint = client.sync(greet, client, list(self._threads or ()))
            listen(client, job.id, self._told)
            if len(job.functions) > _INLINE_BYTES:
                bare, functions = replace(job, functions=b""), Blobs(job.functions)
                with _large_graphs():
                    self._shared = client.submit(whole_job, bare, functions, key=self._key("functions"), pure=False)

    def start_map(self, index: int, split: bytes) -> None:
        """Submit it."""
        with self._connected():
            self._maps[index] = self._sent(index, split, 1)

    def _sent(self, index: int, split: bytes, n_sendings: int) -> _Sent:
        client = self._running()
        n_bytes = len(split)
        is_inline = n_bytes <= _INLINE_BYTES or (
            n_bytes <= _MOST_INLINE_BYTES and self._held_bytes + n_bytes <= _MOST_HELD_BYTES
        )
        given: Any = Blobs(split)
        worker = "" if is_inline else self._least_loaded()
        if worker:
            try:
                given = client.scatter(
                    given, workers=[worker], hash=False, direct=is_near(client) or None, timeout=_CENSUS_SECONDS
                )
            except OSError:  # the worker has died, or the last one has gone
                is_inline = True
        if is_inline:
            self._held_bytes += n_bytes
        with _large_graphs():
            key = self._key("map", index, next(self._sendings))
            future = client.submit(map_split, self._shared, index, given, key=key, pure=False)
        return _Sent(future, None if is_inline else split, worker, n_sendings)

    def _least_loaded(self) -> str:
        """Who is to have a split, if anybody: Dask runs a task where its input lies, even if others are idle."""
        threads = dict(self._threads or {})
        loads = dict.fromkeys(threads, 0)
        for sent in self._maps.values():
            if sent.split is not None and sent.worker in loads:
                loads[sent.worker] += len(sent.split)
        return min(loads, key=lambda worker: loads[worker] / threads[worker], default="")

    def start_reduce(self, index: int, partitions: Sequence[int], splits: Sequence[int]) -> None:
        """Have it sent together with the others."""
        wanted: list[tuple[int, list[int]]] = []
        left: list[Future] = []
        for split in splits:
            for future, places in self._left[split].of(partitions):
                wanted.append((split, places))
                left.append(future)
        self._waiting.indices.append(index)
        self._waiting.wanted.append(wanted)
        self._waiting.left.append(left)

    def _send_reduces(self) -> None:
        """From now on Dask lets go of what maps have left when no reduce task needs it any more."""
        tasks, self._waiting = self._waiting, _Reduces()
        shared = [self._shared] * len(tasks.indices)
        keys = [self._key("reduce", index) for index in tasks.indices]
        with _large_graphs():
            futures = self._running().map(
                reduce_parts, shared, tasks.indices, tasks.wanted, tasks.left, key=keys, pure=False
            )
        self._reduces |= dict(zip(tasks.indices, futures, strict=True))
        self._left.clear()

    def _key(self, what: str, *numbers: int) -> Any:
        """Of a task; Dask's own pages show what stands before the job's id."""
        return (f"jmr-{what}-{self._job_id}", *numbers)

    @property
    def _job_id(self) -> str:
        assert self._job is not None
        return self._job.id

    # Receiving.

    def finished(self, seconds: float) -> Sequence[tuple[int, Receipt, bytes]]:
        """Hear events; fetch results."""
        with self._connected():
            return self._done(seconds)

    def _done(self, seconds: float) -> Sequence[tuple[int, Receipt, bytes]]:
        if self._waiting.indices:
            self._send_reduces()
        done: list[tuple[int, Receipt, bytes]] = []
        for told in self._heard(0.0 if self._ready or self._fetching else seconds):
            receipt = receipt_of(told, self._running())
            if receipt is None:
                self._unread[told.phase, told.index] = math.inf
                continue
            self._unread.pop((told.phase, told.index), None)
            if told.phase == "map" and told.index in self._maps:
                self._keep(told.index, self._maps.pop(told.index).future, receipt, told.worker)
                done.append((told.index, receipt, b""))
            elif told.phase == "reduce" and told.index in self._reduces:
                self._ready[told.index] = receipt
        done += self._fetched(seconds)
        if not done:
            self._look_after()
        return done

    def _heard(self, seconds: float) -> Iterator[Told]:
        """What was told, or is told before long."""
        try:
            yield self._told.get(timeout=seconds) if seconds else self._told.get_nowait()
            while True:
                yield self._told.get_nowait()
        except queue.Empty:
            return

    def _keep(self, index: int, future: Future, receipt: Receipt, worker: str) -> None:
        """Hold what a map task has left, cut up where that saves more than it costs."""
        n_bytes, n_partitions = sum(receipt.lengths), len(receipt.lengths)
        if not n_bytes:
            return
        n = n_parts(n_bytes, n_partitions, len(self._threads or ()))
        bounds = [round(part * n_partitions / n) for part in range(n + 1)]
        futures = [future]
        if n > 1:
            keys = [self._key("part", index, part) for part in range(n)]
            futures = self._running().map(
                part_of,
                [future] * n,
                bounds[:-1],
                bounds[1:],
                key=keys,
                pure=False,
                workers=[worker],
                allow_other_workers=True,
                priority=1,
            )
        self._left[index] = _Left(futures, bounds, receipt.lengths)

    def _fetched(self, seconds: float) -> list[tuple[int, Receipt, bytes]]:
        """Results of some reduce tasks, which Dask lets go of then."""
        if failed := [index for index, receipt in self._ready.items() if receipt.failed]:
            return [(index, self._ready.pop(index), b"") for index in failed]  # and that is the end
        if self._fetching is None and not self._fetch(seconds):
            return []
        assert self._fetching is not None
        indices, fetching = self._fetching
        try:
            found = fetching.result(seconds)
        except TimeoutError:  # it is large; or it was lost with a worker meanwhile, and Dask makes it again
            return []
        except Exception as error:
            raise self._error_of(error, self._reduces[indices[0]].key) from error
        self._fetching = None
        for index in indices:
            del self._reduces[index]
        blobs = (cast("bytes", of.blobs[0]) for of in found)  # whatever kind of buffer Dask read it into
        return [(index, self._ready.pop(index), blob) for index, blob in zip(indices, blobs, strict=True)]

    def _fetch(self, seconds: float) -> bool:
        """Begin to fetch, in the client's thread, if there is anything to fetch."""
        client = self._running()
        here = self._stored()
        if self._ready and not here:  # it is about to be
            with contextlib.suppress(TimeoutError, CancelledError), client.as_current():
                wait([self._reduces[index] for index in self._ready], timeout=seconds, return_when="FIRST_COMPLETED")
            here = self._stored()
        if here:
            futures = [self._reduces[index] for index in here]

            async def gathered() -> list[Blobs]:
                found: list[Blobs] = await client.gather(futures, direct=is_near(client) or None, asynchronous=True)
                return found

            self._fetching = here, asyncio.run_coroutine_threadsafe(gathered(), client.loop.asyncio_loop)
        return bool(here)

    def _stored(self) -> list[int]:
        """Reduce tasks whose results can be fetched: the first, and others as long as they are small."""
        here = [index for index in self._ready if self._reduces[index].status == "finished"]
        n_bytes = 0
        for position, index in enumerate(here):
            n_bytes += sum(self._ready[index].lengths)
            if position and n_bytes > _FETCHED_BYTES:
                return here[:position]
        return here

    # Trouble.

    def _look_after(self) -> None:
        """Nothing was told for a while: see whether anything was lost, or has failed in Dask's hands."""
        if self._complaint:
            raise WorkerError(self._complaint)
        if self._threads:
            self._had_workers = time.monotonic()
        elif time.monotonic() > self._had_workers + _LOST_SECONDS:
            self._blame_a_task()
        for index, sent in list(self._maps.items()):
            if sent.future.status == "cancelled" and sent.split is not None and self._running().status == "running":
                self._send_again(index, sent.split, sent.n_sendings)
            else:
                self._check(sent.future)
        if time.monotonic() >= self._looked + _CENSUS_SECONDS:
            self._looked = time.monotonic()
            for left in self._left.values():
                for future in left.futures:
                    self._check(future)
        for future in self._reduces.values():
            self._check(future)
        for task in self._unread:
            self._check_unread(task)

    def _check_unread(self, task: tuple[str, int]) -> None:
        """Raise that a receipt went with its worker, if its task's result is elsewhere, so that nothing runs again."""
        future = self._future_of(*task)
        if future is None or future.status != "finished":
            self._unread[task] = math.inf
        elif self._unread[task] == math.inf:
            self._unread[task] = time.monotonic() + _LOST_SECONDS
        elif time.monotonic() >= self._unread[task]:
            raise self._error_of(CancelledError(), future.key)

    def _future_of(self, phase: str, index: int) -> Future | None:
        """Of a task whose receipt is not here."""
        if phase == "reduce":
            return None if index in self._ready else self._reduces.get(index)
        return self._maps[index].future if index in self._maps else None

    def _blame_a_task(self) -> None:
        """There is no worker; that is no accident if they died of this job, and Dask has given up starting others."""
        self._had_workers = time.monotonic()
        suspect = self._running().run_on_scheduler(suspect_of, job=self._job_id)
        if suspect is not None:
            key, n_deaths = suspect
            raise SlotDiedError(_told_killed(_named(key), n_deaths))

    def _send_again(self, index: int, split: bytes, n_sendings: int) -> None:
        """It was lost with the worker that had it, and perhaps it was what ended that worker."""
        if n_sendings >= _MOST_SENDINGS:
            raise SlotDiedError(_told_killed(f"split map-{index}", n_sendings))
        self._maps[index] = self._sent(index, split, n_sendings + 1)

    def _check(self, future: Future) -> None:
        """Raise what has become of it, if it is no good any more. What is merely lost, Dask makes again."""
        if future.status == "error":
            error = future.exception()
            raise self._error_of(error, future.key) from error
        if future.status == "cancelled":
            raise self._error_of(CancelledError(), future.key)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[None]:
        """Say what it means that a call of Dask's fails, each in its own way, when the scheduler has gone."""
        try:
            yield
        except JmrError:
            raise
        except Exception as error:
            if self._running().status == "running" and not isinstance(error, CommClosedError):
                raise
            raise WorkerError(_TOLD_LOST) from error

    def _error_of(self, error: BaseException, key: Any) -> WorkerError | SlotDiedError:
        """In a sentence: what Dask itself raised, or has lost."""
        task = _named(key)
        if self._running().status != "running":
            return WorkerError(_TOLD_LOST)
        if isinstance(error, KilledWorker):
            return SlotDiedError(_told_killed(_named(error.task), error.allowed_failures + 1))
        if isinstance(error, CancelledError):
            return WorkerError(
                f"a Dask worker was lost, and with it what {task} had left there, or was to use; that lies nowhere "
                "else, so the job has to be run again. jmr's own cluster (engine=None) keeps on this host what is "
                "finished"
            )
        if isinstance(error, ModuleNotFoundError) and str(error.name).partition(".")[0] == "jmr":
            return WorkerError(told_missing("the scheduler", error))
        return WorkerError(f"Dask could not run {task}: {describe(error, 1_000)}")

    # The end.

    def cancel(self) -> None:
        """Tasks that wait do not start; those that run go on to their end: Dask cannot stop them."""
        futures = [sent.future for sent in self._maps.values()]
        futures += [future for left in self._left.values() for future in left.futures]
        futures += self._reduces.values()
        if self._client is not None and self._cluster is None and futures:
            with contextlib.suppress(Exception):  # the client may be closed already
                self._client.cancel(futures)

    def close(self) -> None:
        """Let go of all futures; end the cluster that was started for this job."""
        if self._fetching is not None:
            self._fetching[1].cancel()
            self._fetching = None
        if self._job is not None:
            listen_no_more(self._job.id)
        self._shared, self._waiting = None, _Reduces()
        for held in (self._maps, self._left, self._reduces, self._ready, self._unread):
            held.clear()
        if self._cluster is not None:
            self._cluster.close()
            self._cluster = self._client = None


def n_parts(n_bytes: int, n_partitions: int, n_workers: int) -> int:
    """Into how many futures to cut what a map task has left: as many as cost least to make and to fetch.

    A future goes as a whole to each worker that needs a partition in it.

    Examples
    --------
    >>> n_parts(10_000, 8, 2), n_parts(10_000_000, 8, 2), n_parts(10_000_000, 800, 50)
    (1, 8, 200)
    """

    def cost(n: int) -> float:
        return n * _FUTURE_BYTES + n_bytes * min(n_workers, n_partitions / n)

    best = min(n_partitions, max(1, round(math.sqrt(n_bytes * n_partitions / _FUTURE_BYTES))))
    return best if cost(best) < cost(1) else 1


def _told_killed(task: str, n_deaths: int) -> str:
    return (
        f"the Dask workers that ran {task} have died, {n_deaths} one after another: a function of yours has ended its "
        "process, or the system has for want of memory; Dask's logs may say more. jmr's own cluster (engine=None) "
        "finds the record at which it happens"
    )


def _named(key: Any) -> str:
    """A task, by its key."""
    what = key[0].split("-")[1]
    if what == "functions":
        return "the job's functions"
    return f"{what}-{key[1]}" if what == "reduce" else f"split map-{key[1]}"


def _large_graphs() -> contextlib.AbstractContextManager[object]:
    """Dask warns of tasks that carry much; these are as large as they have to be."""
    known: contextlib.AbstractContextManager[object] = dask.config.set(
        {"distributed.admin.large-graph-warning-threshold": "1 TiB"}
    )
    return known
