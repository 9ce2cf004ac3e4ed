"""multiprocessing.Pool, with bytes through the parent: it has no other way between two workers."""

from __future__ import annotations

from multiprocessing import Pool

from tests.benchmarks.peers.batches import cut, joined, map_to_blobs, reduce_blobs
from tests.benchmarks.workloads import Workload


def start() -> None:
    """Two workers."""
    global pool
    pool = Pool(2)


def run(workload: Workload, source) -> dict:
    """Two rounds; a task is taken by whoever is idle."""
    tasks = [(batch, workload.mapfn, workload.combinefn) for batch in cut(workload, source)]
    mapped = pool.starmap(map_to_blobs, tasks, chunksize=1)
    return joined(pool.starmap(reduce_blobs, [(p, workload.reducefn) for p in zip(*mapped, strict=True)], chunksize=1))


def stop() -> None:
    """End them."""
    pool.terminate()
    pool.join()
