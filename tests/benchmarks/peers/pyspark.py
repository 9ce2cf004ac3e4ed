"""PySpark, local mode: RDDs of batches, parts as bytes, so that Java moves few large values and not many small ones."""

from __future__ import annotations

import os
import sys

from tests.benchmarks.peers.batches import N_PARTITIONS, cut, joined, map_to_blobs, reduce_blobs
from tests.benchmarks.workloads import Workload


def start() -> None:
    """Two task threads, each with a Python worker that stays."""
    global session
    os.environ.update(PYSPARK_PYTHON=sys.executable, PYSPARK_DRIVER_PYTHON=sys.executable)
    from pyspark.sql import SparkSession

    session = (
        SparkSession.builder.master("local[2]")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.memory", "6g")
        .config("spark.driver.maxResultSize", "0")
        .config("spark.local.dir", os.environ.get("TMPDIR", "/tmp"))
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.log.level", "ERROR")
        .getOrCreate()
    )


def run(workload: Workload, source) -> dict:
    """Map each batch, shuffle (partition, (batch, blob)), reduce each partition, collect."""
    mapfn, combinefn, reducefn = workload.mapfn, workload.combinefn, workload.reducefn

    def mapped(numbered):
        number, records = numbered
        return ((p, (number, blob)) for p, blob in enumerate(map_to_blobs(records, mapfn, combinefn)))

    def reduced(pairs):
        blobs = [blob for _, blob in sorted(numbered for _, numbered in pairs)]
        yield reduce_blobs(blobs, reducefn)

    batches = list(enumerate(cut(workload, source)))
    rdd = session.sparkContext.parallelize(batches, len(batches))
    return joined(rdd.flatMap(mapped).partitionBy(N_PARTITIONS, int).mapPartitions(reduced).collect())


def stop() -> None:
    """End Java and its workers."""
    session.stop()
