"""multiprocessing.Pool."""

from __future__ import annotations

import multiprocessing
import multiprocessing.pool
from functools import partial
from typing import Any

from tests.benchmarks.peers.parts import batches, map_batch, reduce_all
from tests.benchmarks.workloads import Workload

_pool: multiprocessing.pool.Pool


def start() -> None:
    global _pool
    _pool = multiprocessing.Pool(2)


def run(workload: Workload, source: Any) -> dict[Any, Any]:
    functions = workload.mapfn, workload.reducefn, workload.combinefn
    parts = _pool.imap(partial(map_batch, functions), batches(source, workload.n_batches))
    return reduce_all(functions, parts)


def stop() -> None:
    _pool.terminate()
    _pool.join()
