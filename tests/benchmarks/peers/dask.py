"""dask.distributed: two workers; partitions go from worker to worker."""

from __future__ import annotations

from operator import getitem
from typing import Any

from distributed import Client, LocalCluster

from tests.benchmarks.peers.parts import N_PARTITIONS, batches, map_batch_apart, reduce_parts
from tests.benchmarks.workloads import Workload

_client: Client


def start() -> None:
    global _client
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50)
    _client = Client(cluster)
    _client.wait_for_workers(2)


def run(workload: Workload, source: Any) -> dict[Any, Any]:
    functions = workload.mapfn, workload.reducefn, workload.combinefn
    inputs = _client.scatter(batches(source, workload.n_batches), hash=False)
    maps = [_client.submit(map_batch_apart, functions, batch, pure=False) for batch in inputs]
    reduces = [
        _client.submit(
            reduce_parts, functions, *[_client.submit(getitem, parts, p, pure=False) for parts in maps], pure=False
        )
        for p in range(N_PARTITIONS)
    ]
    result: dict[Any, Any] = {}
    for part in _client.gather(reduces):
        result |= part
    return result


def stop() -> None:
    cluster = _client.cluster
    _client.close()
    cluster.close()
