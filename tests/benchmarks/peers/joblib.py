"""joblib with loky, its default: large arrays go through memory-mapped files."""

from __future__ import annotations

from typing import Any

from joblib import Parallel, delayed

from tests.benchmarks.peers.parts import batches, map_batch, reduce_all
from tests.benchmarks.workloads import Workload

_parallel: Parallel


def start() -> None:
    global _parallel
    _parallel = Parallel(n_jobs=2, batch_size=1, return_as="generator").__enter__()


def run(workload: Workload, source: Any) -> dict[Any, Any]:
    functions = workload.mapfn, workload.reducefn, workload.combinefn
    parts = _parallel(delayed(map_batch)(functions, batch) for batch in batches(source, workload.n_batches))
    return reduce_all(functions, parts)


def stop() -> None:
    _parallel.__exit__(None, None, None)
