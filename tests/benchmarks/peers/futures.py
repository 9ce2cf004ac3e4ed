"""concurrent.futures.ProcessPoolExecutor."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

from tests.benchmarks.peers.parts import batches, map_batch, reduce_all
from tests.benchmarks.workloads import Workload

_executor: ProcessPoolExecutor


def start() -> None:
    global _executor
    _executor = ProcessPoolExecutor(2)


def run(workload: Workload, source: Any) -> dict[Any, Any]:
    functions = workload.mapfn, workload.reducefn, workload.combinefn
    parts = _executor.map(partial(map_batch, functions), batches(source, workload.n_batches))
    return reduce_all(functions, parts)


def stop() -> None:
    _executor.shutdown()
