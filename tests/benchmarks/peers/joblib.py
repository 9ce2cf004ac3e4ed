"""joblib with its loky processes, kept between calls; large arrays go in as memory-mapped files, as joblib does it."""

from __future__ import annotations

from joblib import Parallel, delayed

from tests.benchmarks.peers.batches import cut, joined, map_to_blobs, reduce_blobs
from tests.benchmarks.workloads import Workload


def start() -> None:
    """Two workers; a Parallel used as a context keeps them."""
    global parallel
    parallel = Parallel(n_jobs=2, batch_size=1, pre_dispatch="all")
    parallel.__enter__()


def run(workload: Workload, source) -> dict:
    """Two rounds, bytes through the parent between them."""
    mapfn, combinefn = workload.mapfn, workload.combinefn
    mapped = parallel(delayed(map_to_blobs)(batch, mapfn, combinefn) for batch in cut(workload, source))
    return joined(parallel(delayed(reduce_blobs)(blobs, workload.reducefn) for blobs in zip(*mapped, strict=True)))


def stop() -> None:
    """End them."""
    parallel.__exit__(None, None, None)
