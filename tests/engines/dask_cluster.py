"""A Dask cluster of two processes; says its address, and ends with its standard input."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs="ERROR") as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
