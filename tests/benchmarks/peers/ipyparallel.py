"""ipyparallel: two engines behind a load-balanced view; all goes through the client, so as bytes."""

from __future__ import annotations

import pickle

import ipyparallel

from tests.benchmarks.peers.batches import cut, joined, map_to_blobs, reduce_blobs
from tests.benchmarks.workloads import Workload


def start() -> None:
    """A controller and two engines on loopback."""
    global cluster, view
    cluster = ipyparallel.Cluster(n=2, controller_ip="127.0.0.1", log_level=40)
    view = cluster.start_and_connect_sync(activate=False).load_balanced_view()


def map_pickled(blob: bytes) -> list[bytes]:
    """A map task: else ipyparallel walks through the list of records to look for what needs care."""
    return map_to_blobs(*pickle.loads(blob))


def run(workload: Workload, source) -> dict:
    """Two rounds."""
    tasks = (pickle.dumps((batch, workload.mapfn, workload.combinefn), 5) for batch in cut(workload, source))
    mapped = [view.apply_async(map_pickled, task) for task in tasks]
    parts = zip(*(result.get() for result in mapped), strict=True)
    return joined([r.get() for r in [view.apply_async(reduce_blobs, list(p), workload.reducefn) for p in parts]])


def stop() -> None:
    """End them."""
    cluster.stop_cluster_sync()
