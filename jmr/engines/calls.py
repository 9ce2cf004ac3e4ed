"""What an engine that is not ours calls on its workers; jmr has to be installed there.

    JobCall, split ──call_map──> Receipt, a blob for each partition
    JobCall, (split, blob) ... ──call_reduce──> Receipt, the partition's result

Pure functions of bytes, like the tasks that they run. What user code raises is a value here, in the receipt: engines
wrap exceptions, try failed calls again, and lose frames, each in its own way.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import Any

from jmr.codec import process
from jmr.codec.failures import raised_from
from jmr.codec.values import Buffer, byte_length, dump, dump_at_most, load
from jmr.engines.prints import Prints, kept_prints
from jmr.sources.base import NotHereError
from jmr.tasks.contract import Failure, Failures, TaskError
from jmr.tasks.finding import group_at
from jmr.tasks.map import MapTask, records_of, run_map
from jmr.tasks.reduce import ReduceTask, run_reduce
from jmr.worker.peak import peak_memory_bytes

__all__ = ["JobCall", "Receipt", "call_map", "call_reduce", "here", "writable"]

#: Jobs whose functions a process holds, and how much in all, besides those of the latest job.
_MOST_JOBS, _MOST_FUNCTION_BYTES = 4, 1 << 26
#: Most of a record that failed that is sent along.
_MOST_RECORD_BYTES = 1 << 26

#: By job, the latest last: its functions, and the length of their blob.
_functions: OrderedDict[str, tuple[dict[str, Any], int]] = OrderedDict()
_lock = threading.Lock()


def _unlock() -> None:
    """In a forked child there is no thread that would release the lock."""
    global _lock  # noqa: PLW0603 - a lock is released by nobody else
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCall:
    """What all calls of a job have in common."""

    #: No other job has it.
    id: str
    #: A blob of the functions, by name.
    functions: bytes
    n_partitions: int
    skips: bool
    #: How often to try a call whose worker dies, for engines that do that themselves.
    max_attempts: int = 4
    #: Host and process of the kernel, where prints need no help to be seen.
    kernel: tuple[str, int] = ("", 0)
    #: The kernel's Python, such as (3, 13): what another one has pickled cannot be read.
    python: tuple[int, int] = sys.version_info[:2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """How a call went: small, so that it may go to the kernel, where what the call has left stays."""

    #: Where it ran: name of the host, process, thread.
    worker: tuple[str, int, int]
    seconds: float = 0.0
    flush_seconds: float = 0.0
    n_records: int = 0
    n_pairs: int = 0
    n_combined_pairs: int = 0
    #: Some key has no stable hash, so that all partitions must be reduced as one.
    is_unstable: bool = False
    #: Bytes of what it has left, for each partition; 0 where that has no keys.
    lengths: tuple[int, ...] = ()
    #: What was set aside: how much, and a blob of Failures.
    n_failures: int = 0
    failures: bytes = b""
    #: The blob of the Failure that ends the job; empty if all went well.
    failed: bytes = b""
    #: The split reads what this worker does not see, and nothing was done.
    is_not_here: bool = False
    peak_bytes: int = 0
    #: What user code has printed; see `Prints.told`.
    printed: tuple[tuple[int, bytes, int], ...] = ()


def call_map(job: JobCall, index: int, split: Buffer) -> tuple[Receipt, list[bytes]]:
    """Run one map task.

    Parameters
    ----------
    job
        What it shares with all others.
    index
        Of the split.
    split
        The blob of its records; left as it is.

    Returns
    -------
    The receipt; and for each partition its blob, empty where it has no keys. No blobs if it failed, or has to be called
    again, with what the split reads inside.
    """
    with _in_task(job) as prints:
        receipt, blobs = _mapped(job, split)
    return replace(receipt, printed=prints.told()), blobs


def _mapped(job: JobCall, split: Buffer) -> tuple[Receipt, list[bytes]]:
    began = perf_counter()
    try:
        functions = _functions_of(job)
        task = MapTask(
            mapfn=functions["mapfn"],
            combinefn=functions["combinefn"],
            n_partitions=job.n_partitions,
            skips=job.skips,
            asks=True,
        )
        output = run_map(task, bytearray(split))  # what user code receives is writable
    except TaskError as error:
        return _failed(_with_record(error, partial(_record_at, split)), began), []
    except NotHereError:
        return Receipt(worker=here(), seconds=perf_counter() - began, is_not_here=True), []
    except Exception as error:  # a mistake of ours, or no memory
        return _failed(Failure("task", "", None, raised_from(error), refused=False), began), []
    blobs = [b"".join(pieces) for pieces in output.partitions]
    receipt = Receipt(
        worker=here(),
        seconds=perf_counter() - began,
        flush_seconds=output.flush_seconds,
        n_records=output.n_records,
        n_pairs=output.n_pairs,
        n_combined_pairs=output.n_combined_pairs,
        is_unstable=output.unstable,
        lengths=tuple(map(len, blobs)),
        n_failures=output.failures.n_failures,
        failures=_blob_of(output.failures),
        peak_bytes=peak_memory_bytes(),
    )
    return receipt, blobs


def call_reduce(job: JobCall, index: int, inputs: Sequence[tuple[int, Buffer]]) -> tuple[Receipt, bytes]:
    """Run one reduce task.

    Parameters
    ----------
    job
        What it shares with all others.
    index
        Of the task.
    inputs
        The number of each split and the blob that it has left, in the order of the splits. Where there are several
        blobs of a split, as when all partitions are reduced as one, they stand together.

    Returns
    -------
    The receipt, and the blob of keys, orders and values; empty if it failed.
    """
    with _in_task(job) as prints:
        receipt, blob = _reduced(job, inputs)
    return replace(receipt, printed=prints.told()), blob


def _reduced(job: JobCall, inputs: Sequence[tuple[int, Buffer]]) -> tuple[Receipt, bytes]:
    began = perf_counter()
    try:
        functions = _functions_of(job)
        task = ReduceTask(
            reducefn=functions["reducefn"],
            combinefn=functions["combinefn"],
            skips=job.skips,
            out=functions.get("out"),
        )
        pieces, failures = run_reduce(task, [_all_writable(inputs)])
    except TaskError as error:
        return _failed(_with_record(error, partial(_group_at, inputs, job.n_partitions)), began), b""
    except Exception as error:
        return _failed(Failure("task", "", None, raised_from(error), refused=False), began), b""
    receipt = Receipt(
        worker=here(),
        seconds=perf_counter() - began,
        lengths=(byte_length(pieces),),
        n_failures=failures.n_failures,
        failures=_blob_of(failures),
        peak_bytes=peak_memory_bytes(),
    )
    return receipt, b"".join(pieces)


def here() -> tuple[str, int, int]:
    """Where it is called: host, process, thread."""
    return platform.node(), os.getpid(), threading.get_ident()


@contextlib.contextmanager
def _in_task(job: JobCall) -> Iterator[Prints]:
    process.task.is_running = True
    try:
        with contextlib.nullcontext(Prints()) if here()[:2] == job.kernel else kept_prints() as prints:
            yield prints
    finally:
        process.task.is_running = False


def _functions_of(job: JobCall) -> dict[str, Any]:
    """Unpickled once in a process, whichever thread comes first."""
    if sys.version_info[:2] != job.python:
        kernel, own = (".".join(map(str, version)) for version in (job.python, sys.version_info[:2]))
        error = RuntimeError(f"the kernel runs Python {kernel}, and this worker Python {own}: they must be the same")
        raise TaskError(Failure("functions", "", None, raised_from(error), refused=False))
    with _lock:
        if job.id not in _functions:
            blob = bytearray(job.functions)
            try:
                _functions[job.id] = load(blob), len(blob)
            except Exception as error:
                raise TaskError(Failure("functions", "", None, raised_from(error), refused=False)) from error
            while len(_functions) > 1 and _is_much():
                _functions.popitem(last=False)
        _functions.move_to_end(job.id)
        return _functions[job.id][0]


def _is_much() -> bool:
    return len(_functions) > _MOST_JOBS or sum(length for _, length in _functions.values()) > _MOST_FUNCTION_BYTES


def writable(blob: Buffer) -> Buffer:
    """The blob, or a copy of it, so that arrays in it can be written to."""
    is_writable = isinstance(blob, bytearray) or (isinstance(blob, memoryview) and not blob.readonly)
    return blob if is_writable else bytearray(blob)


def _all_writable(inputs: Sequence[tuple[int, Buffer]]) -> Iterator[tuple[int, Buffer]]:
    for split, blob in inputs:
        yield split, writable(blob)


def _failed(failure: Failure, began: float) -> Receipt:
    return Receipt(worker=here(), seconds=perf_counter() - began, failed=b"".join(dump(failure)))


def _with_record(error: TaskError, again: Any) -> Failure:
    """With the record or group: as it was before user code was given it, if it is in the input."""
    failure = error.failure
    if failure.phase == "read" or (failure.index is None and error.record is None):
        return failure
    try:
        record = error.record if failure.index is None else again(failure.index)
        blob = None if record is None or len(record) < 2 else dump_at_most(record, _MOST_RECORD_BYTES)
    except Exception:  # unpickling runs the objects' own code
        blob = None
    return replace(failure, index=None) if blob is None else replace(failure, record=blob, is_whole=True)


def _record_at(split: Buffer, index: int) -> tuple[Any, Any]:
    return records_of(bytearray(split))[index]


def _group_at(inputs: Sequence[tuple[int, Buffer]], n_partitions: int, index: int) -> tuple[Any, ...] | None:
    return group_at(lambda: _all_writable(inputs), n_partitions, 1, index, _MOST_RECORD_BYTES)


def _blob_of(failures: Failures) -> bytes:
    return b"".join(dump(failures)) if failures.n_failures else b""
