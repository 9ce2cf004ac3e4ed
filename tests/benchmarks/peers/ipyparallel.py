"""ipyparallel: two engines behind a load-balanced view; all goes through the client, so as bytes."""

from __future__ import annotations

import pickle

import ipyparallel

from tests.benchmarks.peers.batches import cut, joined, map_pickled, reduce_blobs
from tests.benchmarks.workloads import Workload


def start() -> None:
    """A controller and two engines on loopback."""
    global cluster, view
    cluster = ipyparallel.Cluster(n=2, controller_ip="127.0.0.1", log_level=40)
    view = cluster.start_and_connect_sync(activate=False).load_balanced_view()


def run(workload: Workload, source) -> dict:
    """Two rounds."""
    blobs = [pickle.dumps(batch, 5) for batch in cut(workload, source)]
    mapped = [view.apply_async(map_pickled, blob, workload.mapfn, workload.combinefn) for blob in blobs]
    parts = zip(*(result.get() for result in mapped), strict=True)
    return joined([r.get() for r in [view.apply_async(reduce_blobs, list(p), workload.reducefn) for p in parts]])


def stop() -> None:
    """End them."""
    cluster.stop_cluster_sync()
