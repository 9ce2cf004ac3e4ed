"""What Dask's workers run, and how the kernel hears of it.

    Blobs ──map_split──> what it has left for each partition ──part_of──> ... ──reduce_parts──> a partition's result
                └─ event on a topic ─> scheduler ─> the client's thread ─> queue of the job ─ Receipt ─┘

Dask is told of results when a task has ended, but gives them only to whoever fetches them; and a task that fetched a
receipt would wait until a thread is free. An event is there at once. It is kept by the scheduler for a while, so that
it must be small: a large receipt waits on its worker until it is asked for.

Importable wherever jmr is installed: the scheduler reads tasks too.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from distributed import Client, get_worker

from jmr.codec.values import Buffer, dump, load, uncopied
from jmr.engines.calls import JobCall, Receipt, call_map, call_reduce

__all__ = [
    "Blobs",
    "Told",
    "listen",
    "listen_no_more",
    "map_split",
    "part_of",
    "receipt_of",
    "reduce_parts",
    "suspect_of",
    "whole_job",
]

#: Of the events of all jobs, so that the scheduler need not keep one for each job that ever ran.
_TOPIC = "jmr"
#: A larger receipt is no event.
_EVENT_BYTES = 1 << 14
#: Most of them to keep, for kernels that may have gone.
_MOST_RECEIPTS = 100
#: Smaller blobs are not worth a frame of their own.
_FRAME_BYTES = 1 << 12


class Blobs:
    """Some blobs, which Dask sends and spills as they lie in memory."""

    __slots__ = ("blobs",)

    def __init__(self, *blobs: Buffer) -> None:
        self.blobs = blobs

    def __reduce_ex__(self, protocol: Any) -> tuple[type[Blobs], tuple[Any, ...]]:
        def carried(blob: Buffer) -> Any:
            return bytes(blob) if len(blob) < _FRAME_BYTES or protocol < 5 else uncopied(blob)

        return Blobs, tuple(map(carried, self.blobs))

    def __sizeof__(self) -> int:
        return object.__sizeof__(self) + sum(map(len, self.blobs))


# On the workers.


def whole_job(job: JobCall, functions: Blobs) -> JobCall:
    """With its functions, which are large."""
    return replace(job, functions=bytes(functions.blobs[0]))


def map_split(job: JobCall, index: int, split: Blobs) -> Blobs:
    """Run a map task: a blob for each partition, or none at all if it failed."""
    receipt, blobs = call_map(job, index, split.blobs[0])
    _tell(job, "map", index, receipt)
    return Blobs(*blobs)


def part_of(left: Blobs, start: int, stop: int) -> Blobs:
    """Some partitions of what a map task has left."""
    return Blobs(*left.blobs[start:stop])


def reduce_parts(job: JobCall, index: int, wanted: Sequence[tuple[int, list[int]]], left: Sequence[Blobs]) -> Blobs:
    """Run a reduce task on what maps have left: of each, the number of its split, and which blobs are wanted."""
    inputs = [(split, of.blobs[place]) for (split, places), of in zip(wanted, left, strict=True) for place in places]
    receipt, blob = call_reduce(job, index, inputs)
    _tell(job, "reduce", index, receipt)
    return Blobs(blob)


@dataclass(frozen=True, slots=True)
class Told:
    """What the kernel hears of a task."""

    job: str
    #: "map" or "reduce".
    phase: str
    index: int
    #: The worker's address.
    worker: str
    #: Pickled; None if it is too large for an event.
    receipt: bytes | None


_receipts: OrderedDict[tuple[str, str, int], bytes] = OrderedDict()


def _tell(job: JobCall, phase: str, index: int, receipt: Receipt) -> None:
    worker = get_worker()
    blob: bytes | None = b"".join(dump(receipt))
    if blob is not None and len(blob) > _EVENT_BYTES:
        _receipts[job.id, phase, index] = blob
        while len(_receipts) > _MOST_RECEIPTS:
            _receipts.popitem(last=False)
        blob = None
    worker.log_event(_TOPIC, [job.id, phase, index, worker.address, blob])


def _taken(job: str, phase: str, index: int) -> bytes | None:
    return _receipts.pop((job, phase, index), None)


# On the scheduler.


def suspect_of(job: str, dask_scheduler: Any) -> tuple[Any, int] | None:
    """The key of the job's task at which most workers have died, and how many; None if none has."""
    tasks = (task for task in dask_scheduler.tasks.values() if task.suspicious and job in str(task.key))
    worst = max(tasks, key=lambda task: task.suspicious, default=None)
    return None if worst is None else (worst.key, worst.suspicious)


# In the kernel.

#: By job: its client, and where that one's thread puts what it hears of the job.
_listening: dict[str, tuple[Client, queue.SimpleQueue[Told]]] = {}
_lock = threading.Lock()


def listen(client: Client, job: str, heard: queue.SimpleQueue[Told]) -> None:
    """Have events of a job's tasks put into a queue."""
    with _lock:
        _listening[job] = client, heard
        client.subscribe_topic(_TOPIC, _hear)


def listen_no_more(job: str) -> None:
    """The scheduler would go on sending to a client that is there no more."""
    with _lock:
        client, _ = _listening.pop(job, (None, None))
        if client is not None and all(client is not other for other, _ in _listening.values()):
            with contextlib.suppress(Exception):  # the client may be closed already
                client.unsubscribe_topic(_TOPIC)


def _hear(event: tuple[float, Sequence[Any]]) -> None:
    """Of other kernels' jobs, too, which are nobody's here."""
    told = Told(*event[1])
    if (listener := _listening.get(told.job)) is not None:
        listener[1].put(told)


def receipt_of(told: Told, client: Client) -> Receipt | None:
    """None if its worker died meanwhile: then Dask runs the task again."""
    blob = told.receipt
    if blob is None:
        found = client.run(_taken, told.job, told.phase, told.index, workers=[told.worker], on_error="ignore")
        blob = found.get(told.worker)
    receipt: Receipt | None = None if blob is None else load(bytearray(blob))
    return receipt
