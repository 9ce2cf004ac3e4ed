"""Ray: a task for each batch with a return value for each partition; the driver sees none of them."""

from __future__ import annotations

import os

import ray

from tests.benchmarks.peers.batches import N_PARTITIONS, cut, joined, map_batch, reduce_parts
from tests.benchmarks.workloads import Workload


def start() -> None:
    """Two CPUs, loopback, no dashboard."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False)


@ray.remote(num_returns=N_PARTITIONS)
def map_remotely(records, mapfn, combinefn):
    """A map task."""
    return map_batch(records, mapfn, combinefn)


@ray.remote
def reduce_remotely(reducefn, *parts):
    """A reduce task: its parts are fetched before it starts."""
    return reduce_parts(parts, reducefn)


def run(workload: Workload, source) -> dict:
    """All is submitted at once; a reduce task waits for its parts."""
    mapped = [
        map_remotely.remote(ray.put(batch), workload.mapfn, workload.combinefn) for batch in cut(workload, source)
    ]
    return joined(ray.get([reduce_remotely.remote(workload.reducefn, *parts) for parts in zip(*mapped, strict=True)]))


def stop() -> None:
    """End it all."""
    ray.shutdown()
