"""Ray: two CPUs; partitions stay in the object store."""

from __future__ import annotations

from typing import Any

import ray

from tests.benchmarks.peers.parts import N_PARTITIONS, batches, map_batch_apart, reduce_parts
from tests.benchmarks.workloads import Workload

_map: Any
_reduce: Any


def start() -> None:
    global _map, _reduce
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    _map = ray.remote(num_returns=N_PARTITIONS)(map_batch_apart)
    _reduce = ray.remote(reduce_parts)


def run(workload: Workload, source: Any) -> dict[Any, Any]:
    functions = workload.mapfn, workload.reducefn, workload.combinefn
    maps = [_map.remote(functions, batch) for batch in batches(source, workload.n_batches)]
    reduces = [_reduce.remote(functions, *parts) for parts in zip(*maps, strict=True)]
    result: dict[Any, Any] = {}
    for part in ray.get(reduces):
        result |= part
    return result


def stop() -> None:
    ray.shutdown()
