"""ipyparallel: two engines, balanced."""

from __future__ import annotations

from functools import partial
from typing import Any

import ipyparallel

from tests.benchmarks.peers.parts import batches, map_batch, reduce_all
from tests.benchmarks.workloads import Workload

_cluster: Any
_view: Any


def start() -> None:
    global _cluster, _view
    _cluster = ipyparallel.Cluster(n=2, log_level=50)
    client = _cluster.start_and_connect_sync()
    _view = client.load_balanced_view()


def run(workload: Workload, source: Any) -> dict[Any, Any]:
    functions = workload.mapfn, workload.reducefn, workload.combinefn
    parts = _view.map_async(partial(map_batch, functions), batches(source, workload.n_batches), ordered=True)
    return reduce_all(functions, parts)


def stop() -> None:
    _cluster.stop_cluster_sync()
