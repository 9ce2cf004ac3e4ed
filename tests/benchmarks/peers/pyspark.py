"""PySpark on local[2]: mapPartitions, partitionBy, mapPartitions."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

from pyspark.sql import SparkSession

from tests.benchmarks.peers.parts import N_PARTITIONS, Functions, Groups, batches, map_batch_apart, reduce_parts
from tests.benchmarks.workloads import Workload

_session: SparkSession


def start() -> None:
    global _session
    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    builder = builder.config("spark.driver.memory", "6g").config("spark.driver.maxResultSize", "0")
    _session = builder.config("spark.driver.host", "127.0.0.1").getOrCreate()
    _session.sparkContext.setLogLevel("OFF")


def parts_of(functions: Functions, numbered: tuple[int, list[Any]]) -> list[tuple[int, tuple[int, Groups]]]:
    number, batch = numbered
    return [(p, (number, part)) for p, part in enumerate(map_batch_apart(functions, batch))]


def reduced(functions: Functions, found: Iterator[tuple[int, tuple[int, Groups]]]) -> Iterator[dict[Any, Any]]:
    numbered = sorted((part for _, part in found), key=lambda part: part[0])
    yield reduce_parts(functions, *[part for _, part in numbered])


def run(workload: Workload, source: Any) -> dict[Any, Any]:
    functions = workload.mapfn, workload.reducefn, workload.combinefn
    inputs = list(enumerate(batches(source, workload.n_batches)))
    maps = _session.sparkContext.parallelize(inputs, len(inputs)).flatMap(partial(parts_of, functions))
    reduces = maps.partitionBy(N_PARTITIONS, lambda p: p).mapPartitions(partial(reduced, functions))
    result: dict[Any, Any] = {}
    for part in reduces.collect():
        result |= part
    return result


def stop() -> None:
    _session.stop()
