"""Spark, local mode with two cores: with RDDs, the functions called record by record, and with partial sums by hand."""

from __future__ import annotations

import os
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from operator import add
from typing import TYPE_CHECKING

from tests.benchmarks.workloads import count_words

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

N_PARTS = 8


def start() -> SparkSession:
    """Two task threads, each with a Python worker that stays."""
    global session
    os.environ.update(PYSPARK_PYTHON=sys.executable, PYSPARK_DRIVER_PYTHON=sys.executable)
    warnings.filterwarnings("ignore", message="PySpark does not yet fully support pandas", category=FutureWarning)
    from pyspark.sql import SparkSession

    session = (
        SparkSession.builder.master("local[2]")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.memory", "4g")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.log.level", "ERROR")
        .getOrCreate()
    )
    return session


def stop() -> None:
    """End Java and its workers."""
    session.stop()


def count_each(record: tuple) -> Iterator[tuple[str, int]]:
    return count_words(*record)


def count(records: Iterable[tuple]) -> Iterable[tuple[str, int]]:
    counts: Counter = Counter()
    for _, text in records:
        counts.update(text.split())
    return counts.items()


def words(source: list) -> dict:
    return dict(session.sparkContext.parallelize(source).flatMap(count_each).reduceByKey(add).collect())


def words_by_counters(source: list) -> dict:
    return dict(session.sparkContext.parallelize(source).mapPartitions(count).reduceByKey(add).collect())


def mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers)


def numbers(source: list) -> dict:
    return dict(session.sparkContext.parallelize(source).groupByKey(N_PARTS).mapValues(mean).collect())


def totals(records: Iterable[tuple]) -> Iterable[tuple[int, tuple[float, int]]]:
    groups: defaultdict = defaultdict(list)
    for key, value in records:
        groups[key].append(value)
    return ((key, (sum(values), len(values))) for key, values in groups.items())


def added(one: tuple[float, int], other: tuple[float, int]) -> tuple[float, int]:
    return one[0] + other[0], one[1] + other[1]


def quotient(total: tuple[float, int]) -> float:
    return total[0] / total[1]


def numbers_by_sums(source: list) -> dict:
    rdd = session.sparkContext.parallelize(source).mapPartitions(totals).reduceByKey(added)
    return dict(rdd.mapValues(quotient).collect())


WAYS = {
    "words": {"flatMap, reduceByKey": words, "Counter, reduceByKey": words_by_counters},
    "numbers": {"groupByKey": numbers, "partial sums": numbers_by_sums},
}
