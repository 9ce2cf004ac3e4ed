"""Dask runs a plan: on the cluster of a `Client`, or on processes that are started for one job.

    split ──submit──> call_map ──> a future: what it has left, on its worker ──> call_reduce ──> a future ──gather──>
                          │             └─ large: cut into futures of some partitions each ─┘
                          └─ event ──> Receipt, here

A map task's future is never gathered: reduce tasks depend on it, and Dask's workers fetch what they need from each
other. How a task went is told by an event, as soon as that is known, and needs neither a thread of a worker nor another
task. Splits and functions travel inside the tasks, so that Dask can run again what was lost with a worker; large splits
are scattered, since the scheduler would have to hold them, and are lost with the worker that has them.

Dask cannot stop a function that runs: of a job that was cancelled, the calls that have begun go on to their end there,
and nothing comes of them.
"""

from __future__ import annotations

import contextlib
import math
import pickle
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from jmr.codec.values import Buffer
from jmr.engines.calls import JobCall, Receipt, call_map, call_reduce
from jmr.errors import ArgumentValueError, SlotDiedError, WorkerError, describe

if TYPE_CHECKING:
    from distributed import Client, Future, LocalCluster

__all__ = ["Blobs", "DaskPool", "dask_pool", "n_parts"]

#: Functions, and splits, up to this size travel inside each task. Larger functions are a task of their own.
_INLINE_BYTES = 1 << 16
#: So do larger splits, as long as the scheduler holds no more than this of a job.
_MOST_INLINE_BYTES, _MOST_HELD_BYTES = 1 << 20, 1 << 28
#: What a future costs, in bytes that a worker would fetch from another one in that time.
_FUTURE_BYTES = 200_000
#: Smaller blobs are not worth a frame of their own.
_FRAME_BYTES = 1 << 12
#: A larger receipt is fetched from the worker, since the scheduler keeps events.
_EVENT_BYTES = 1 << 14
#: Of all jobs' events, so that the scheduler keeps no topic for each job that ever ran.
_TOPIC = "jmr"
#: Most of the result to fetch at once.
_FETCHED_BYTES = 1 << 24
#: How often to ask how many workers there are, and to send a split again that was lost.
_CENSUS_SECONDS, _MOST_SENDINGS = 1.0, 4

_INSTALL = 'engine="dask" needs Dask: pip install "jmr[dask]"'


def dask_pool(engine: Any) -> DaskPool:
    """The pool for a `Client`, or for "dask": the current client's cluster, or one for this job.

    Raises
    ------
    WorkerError
        Dask is not installed, or the client is closed.
    ArgumentValueError
        The client is an asynchronous one.
    """
    try:
        from distributed import default_client
    except ImportError as error:
        raise WorkerError(_INSTALL) from error
    client = engine
    if isinstance(engine, str):
        try:
            client = default_client()
        except ValueError:  # there is none
            return DaskPool(None)
    if client.asynchronous:
        raise ArgumentValueError(
            "engine= is an asynchronous Dask Client, whose calls must be awaited: pass Client(address), without "
            "asynchronous=True; to await the job, await jmr.submit(...)"
        )
    if client.status != "running":
        raise WorkerError(f"the Dask Client is {client.status}: make a new one")
    return DaskPool(client)


class Blobs:
    """Some blobs, which Dask sends and spills as they lie in memory."""

    __slots__ = ("blobs",)

    def __init__(self, *blobs: Buffer) -> None:
        self.blobs = blobs

    def __reduce_ex__(self, protocol: Any) -> tuple[type[Blobs], tuple[Any, ...]]:
        def carried(blob: Buffer) -> Any:
            return bytes(blob) if len(blob) < _FRAME_BYTES or protocol < 5 else pickle.PickleBuffer(blob)

        return Blobs, tuple(map(carried, self.blobs))

    def __sizeof__(self) -> int:
        return object.__sizeof__(self) + sum(map(len, self.blobs))


@dataclass(slots=True)
class _Left:
    """Where a map task's output lies: futures of `Blobs`, each from one partition to the next bound."""

    futures: list[Future]
    bounds: Sequence[int]
    lengths: tuple[int, ...]

    def of(self, partitions: Sequence[int]) -> Iterator[tuple[Future, list[int]]]:
        """The futures that hold something of these partitions, and which of their blobs that is."""
        for future, (start, stop) in zip(self.futures, pairwise(self.bounds), strict=True):
            places = [part - start for part in partitions if start <= part < stop and self.lengths[part]]
            if places:
                yield future, places


@dataclass(slots=True)
class _Sent:
    """A map task that is under way."""

    future: Future
    #: Kept if it was scattered: it is lost with a worker.
    split: bytes | None
    n_sendings: int = 1


@dataclass(slots=True)
class _Reduces:
    """Reduce tasks that are sent together."""

    indices: list[int] = field(default_factory=list)
    wanted: list[list[tuple[int, list[int]]]] = field(default_factory=list)
    left: list[list[Future]] = field(default_factory=list)


class DaskPool:
    """One job on a Dask cluster: the client's, which is the user's, or one of its own."""

    name = "Dask"

    def __init__(self, client: Client | None) -> None:
        self._given = client
        self._client: Client | None = client
        self._cluster: LocalCluster | None = None
        #: By worker, how many tasks it runs at the same time; when that was asked.
        self._threads: dict[str, int] | None = None
        self._asked = 0.0
        self._job: JobCall | None = None
        #: The same, or the future of it: what each task is given.
        self._shared: Any = None
        self._told: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._held_bytes = 0
        self._maps: dict[int, _Sent] = {}
        self._left: dict[int, _Left] = {}
        self._waiting = _Reduces()
        self._reduces: dict[int, Future] = {}
        #: Reduce tasks that are done, whose blobs are not here yet.
        self._ready: dict[int, Receipt] = {}

    # What there is.

    @property
    def n_slots(self) -> int:
        """Threads of all workers there are now, or were a moment ago."""
        client = self._running()
        now = time.monotonic()
        if self._threads is None:
            self._threads = dict(client.nthreads())
        elif now > self._asked + _CENSUS_SECONDS:
            client.loop.add_callback(self._count)
        else:
            return sum(self._threads.values())
        self._asked = now
        return sum(self._threads.values())

    async def _count(self) -> None:
        with contextlib.suppress(Exception):  # the next one tells
            assert self._client is not None
            self._threads = dict(await self._client.nthreads())

    @property
    def window(self) -> int:
        """One that runs, and one that waits."""
        return 2 * max(1, self.n_slots)

    def _running(self) -> Client:
        if self._client is None:
            self._cluster, self._client = _started()
        return self._client

    @property
    def _is_near(self) -> bool:
        """Whether workers are reached from here; others may see the scheduler only."""
        from distributed import LocalCluster

        return isinstance(self._running().cluster, LocalCluster)

    # Sending.

    def open(self, job: JobCall) -> None:
        """Listen, and have the functions travel."""
        client = self._running()
        self._job = self._shared = job
        _listen(client, job.id, self._told)
        if len(job.functions) > _INLINE_BYTES:
            bare, functions = replace(job, functions=b""), Blobs(job.functions)
            with _large_graphs():
                self._shared = client.submit(_with_functions, bare, functions, key=self._key("functions"), pure=False)

    def start_map(self, index: int, split: bytes) -> None:
        """Submit it."""
        self._maps[index] = self._sent(index, split, 1)

    def _sent(self, index: int, split: bytes, n_sendings: int) -> _Sent:
        client = self._running()
        n_bytes = len(split)
        is_inline = n_bytes <= _INLINE_BYTES or (
            n_bytes <= _MOST_INLINE_BYTES and self._held_bytes + n_bytes <= _MOST_HELD_BYTES
        )
        given: Any = Blobs(split)
        if is_inline:
            self._held_bytes += n_bytes
        elif self.n_slots:
            given = client.scatter(given, hash=False, direct=self._is_near or None)
        with _large_graphs():
            future = client.submit(
                _map, self._shared, index, given, key=self._key("map", index, n_sendings), pure=False
            )
        return _Sent(future, None if is_inline else split, n_sendings)

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
                _reduce, shared, tasks.indices, tasks.wanted, tasks.left, key=keys, pure=False
            )
        self._reduces |= dict(zip(tasks.indices, futures, strict=True))
        self._left.clear()

    def _key(self, what: str, *numbers: int) -> Any:
        """Of a task; Dask's own pages show what stands before the job's id."""
        assert self._job is not None
        return (f"jmr-{what}-{self._job.id}", *numbers)

    # Receiving.

    def finished(self, seconds: float) -> Sequence[tuple[int, Receipt, bytes]]:
        """Hear events; fetch results."""
        if self._waiting.indices:
            self._send_reduces()
        done: list[tuple[int, Receipt, bytes]] = []
        for told in self._heard(0.0 if self._ready else seconds):
            receipt = self._receipt(told)
            index = told["index"]
            if receipt is None:
                continue
            if told["phase"] == "map" and index in self._maps:
                self._keep(index, self._maps.pop(index).future, receipt, told["worker"])
                done.append((index, receipt, b""))
            elif told["phase"] == "reduce" and index in self._reduces:
                self._ready[index] = receipt
        done += self._fetched(seconds) if self._ready else []
        if not done:
            self._look_after()
        return done

    def _heard(self, seconds: float) -> Iterator[dict[str, Any]]:
        """What was told, or is told before long."""
        try:
            yield self._told.get(timeout=seconds) if seconds else self._told.get_nowait()
            while True:
                yield self._told.get_nowait()
        except queue.Empty:
            return

    def _receipt(self, told: dict[str, Any]) -> Receipt | None:
        """None if its worker died meanwhile: Dask runs the task again."""
        blob = told["receipt"]
        if blob is None:
            key = told["job"], told["phase"], told["index"]
            found = self._running().run(_taken, key, workers=[told["worker"]], on_error="ignore")
            blob = found.get(told["worker"])
        return None if blob is None else pickle.loads(blob)

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
                _part,
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
        from distributed import wait

        client = self._running()
        if failed := [index for index, receipt in self._ready.items() if receipt.failed]:
            return [(index, self._ready.pop(index), b"") for index in failed]
        here = self._stored()
        if not here:  # it is about to be
            with contextlib.suppress(TimeoutError), client.as_current():
                wait([self._reduces[index] for index in self._ready], timeout=seconds, return_when="FIRST_COMPLETED")
            here = self._stored()
        if not here:
            return []
        try:
            fetched = client.gather([self._reduces[index] for index in here], direct=self._is_near or None)
        except Exception as error:
            raise self._error_of(error, "a reduce task") from error
        for index in here:
            del self._reduces[index]
        return [(index, self._ready.pop(index), of.blobs[0]) for index, of in zip(here, fetched, strict=True)]

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
        for index, sent in list(self._maps.items()):
            if sent.future.status in ("cancelled", "lost") and sent.split is not None and self._is_connected:
                if sent.n_sendings >= _MOST_SENDINGS:
                    raise SlotDiedError(_told_killed(f"split map-{index}", sent.n_sendings))
                self._maps[index] = self._sent(index, sent.split, sent.n_sendings + 1)
            else:
                self._check(sent.future, f"split map-{index}")
        for index, left in self._left.items():
            for future in left.futures:
                self._check(future, f"split map-{index}")
        for index, future in self._reduces.items():
            self._check(future, f"reduce-{index}")

    @property
    def _is_connected(self) -> bool:
        return bool(self._running().status == "running")

    def _check(self, future: Future, task: str) -> None:
        """Raise what has become of it, if it is no good any more."""
        match future.status:
            case "error":
                error = future.exception()
                raise self._error_of(error, task) from error
            case "cancelled" | "lost" if not self._is_connected:
                raise WorkerError("the connection to the Dask scheduler was lost, and the job with it: run it again")
            case "cancelled" | "lost":
                raise WorkerError(
                    f"a Dask worker has died, or was closed, and with it what {task} had left there; its records lie "
                    "nowhere else any more, so the job has to be run again. jmr's own cluster (engine=None) keeps what "
                    "is finished on this host"
                )

    def _error_of(self, error: BaseException, task: str) -> WorkerError | SlotDiedError:
        """What the engine itself raised, in a sentence."""
        from distributed import KilledWorker

        if isinstance(error, KilledWorker):
            return SlotDiedError(_told_killed(task, error.allowed_failures + 1))
        if isinstance(error, ModuleNotFoundError) and str(error.name).partition(".")[0] == "jmr":
            return WorkerError(
                "jmr is not installed on the Dask cluster: install it, in the same version as here, where the "
                "scheduler and the workers run"
            )
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
        if self._job is not None:
            _listen_no_more(self._job.id)
        self._shared = None
        for held in (self._maps, self._left, self._reduces, self._ready):
            held.clear()
        self._waiting = _Reduces()
        client, cluster = self._client, self._cluster
        self._client, self._cluster = self._given, None
        if cluster is not None:
            _end(client, cluster)


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


# On the workers.

#: Receipts that the kernel is about to fetch.
_receipts: OrderedDict[tuple[str, str, int], bytes] = OrderedDict()
_MOST_RECEIPTS = 100


def _with_functions(job: JobCall, functions: Blobs) -> JobCall:
    return replace(job, functions=bytes(functions.blobs[0]))


def _map(job: JobCall, index: int, split: Blobs) -> Blobs:
    receipt, blobs = call_map(job, index, split.blobs[0])
    _tell(job, "map", index, receipt)
    return Blobs(*blobs)


def _part(left: Blobs, start: int, stop: int) -> Blobs:
    return Blobs(*left.blobs[start:stop])


def _reduce(job: JobCall, index: int, wanted: list[tuple[int, list[int]]], left: list[Blobs]) -> Blobs:
    inputs = [
        (split, blobs.blobs[place]) for (split, places), blobs in zip(wanted, left, strict=True) for place in places
    ]
    receipt, blob = call_reduce(job, index, inputs)
    _tell(job, "reduce", index, receipt)
    return Blobs(blob)


def _tell(job: JobCall, phase: str, index: int, receipt: Receipt) -> None:
    """Have the kernel know how it went."""
    from distributed import get_worker

    worker = get_worker()
    blob: bytes | None = pickle.dumps(receipt, 5)
    if blob is not None and len(blob) > _EVENT_BYTES:
        _receipts[job.id, phase, index] = blob
        while len(_receipts) > _MOST_RECEIPTS:
            _receipts.popitem(last=False)
        blob = None
    told = {"job": job.id, "phase": phase, "index": index, "receipt": blob, "worker": worker.address}
    worker.log_event(_TOPIC, told)


def _taken(key: tuple[str, str, int]) -> bytes | None:
    return _receipts.pop(key, None)


# In the kernel.

#: By job: its client, and where that one's thread puts what it hears of the job.
_listening: dict[str, tuple[Client, queue.SimpleQueue[dict[str, Any]]]] = {}
_lock = threading.Lock()


def _listen(client: Client, job: str, told: queue.SimpleQueue[dict[str, Any]]) -> None:
    with _lock:
        _listening[job] = client, told
        client.subscribe_topic(_TOPIC, _hear)


def _hear(event: tuple[float, dict[str, Any]]) -> None:
    """Of other kernels' jobs, too, which are nobody's here."""
    _, told = event
    if (listener := _listening.get(told["job"])) is not None:
        listener[1].put(told)


def _listen_no_more(job: str) -> None:
    """The scheduler would go on sending to a client that is there no more."""
    with _lock:
        client, _ = _listening.pop(job, (None, None))
        if client is not None and all(client is not other for other, _ in _listening.values()):
            with contextlib.suppress(Exception):  # the client may be closed already
                client.unsubscribe_topic(_TOPIC)


def _large_graphs() -> contextlib.AbstractContextManager[object]:
    """Dask warns of tasks that carry much; these are as large as they have to be."""
    import dask

    known: Callable[..., contextlib.AbstractContextManager[object]] = dask.config.set
    return known({"distributed.admin.large-graph-warning-threshold": "1 TiB"})


def _started() -> tuple[LocalCluster, Client]:
    """A cluster of processes on this host, and its client, which is nobody's default."""
    import logging

    from distributed import Client, LocalCluster

    from jmr import interrupts
    from jmr.launch.local import default_slots

    with interrupts.deferred():
        cluster = LocalCluster(
            n_workers=default_slots(),
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
        )
        try:
            return cluster, Client(cluster, set_as_default=False)
        except BaseException:
            cluster.close()
            raise


def _end(client: Client | None, cluster: LocalCluster) -> None:
    """End both."""
    try:
        if client is not None:
            client.close()
    finally:
        cluster.close()
