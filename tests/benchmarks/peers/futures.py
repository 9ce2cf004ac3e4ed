"""concurrent.futures.ProcessPoolExecutor, with bytes through the parent."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from itertools import repeat

from tests.benchmarks.peers.batches import cut, joined, map_to_blobs, reduce_blobs
from tests.benchmarks.workloads import Workload


def start() -> None:
    """Two workers."""
    global executor
    executor = ProcessPoolExecutor(2)


def run(workload: Workload, source) -> dict:
    """Two rounds; a task is taken by whoever is idle."""
    mapped = executor.map(map_to_blobs, cut(workload, source), repeat(workload.mapfn), repeat(workload.combinefn))
    return joined(executor.map(reduce_blobs, zip(*mapped, strict=True), repeat(workload.reducefn)))


def stop() -> None:
    """End them."""
    executor.shutdown()
