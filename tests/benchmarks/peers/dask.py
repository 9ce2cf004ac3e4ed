"""dask.distributed: futures on two workers, which fetch the parts from each other."""

from __future__ import annotations

import pickle
from operator import itemgetter

from distributed import Client, LocalCluster

from tests.benchmarks.peers.batches import N_PARTITIONS, cut, joined, map_pickled, reduce_blobs
from tests.benchmarks.workloads import Workload


def start() -> None:
    """Scheduler here, two workers of one thread, no dashboard."""
    global cluster, client
    cluster = LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, memory_limit=0, silence_logs=50
    )
    client = Client(cluster)


def run(workload: Workload, source) -> dict:
    """Batches are scattered; a part is a future of its own, so that only the parts that are needed travel."""
    blobs = [pickle.dumps(batch, 5) for batch in cut(workload, source)]  # half a minute faster than lists of tuples
    mapped = client.map(
        map_pickled, client.scatter(blobs, hash=False), mapfn=workload.mapfn, combinefn=workload.combinefn, pure=False
    )
    reduced = [
        client.submit(
            reduce_blobs, client.map(itemgetter(p), mapped, pure=False), reducefn=workload.reducefn, pure=False
        )
        for p in range(N_PARTITIONS)
    ]
    return joined(client.gather(reduced))


def stop() -> None:
    """End them."""
    client.close()
    cluster.close()
