"""Ray: with tasks that have a return value for each part, on two CPUs.

Ray Data, which makes Arrow tables of rows and sorts them by key, took 60 times as long for a tenth of the words.
"""

from __future__ import annotations

import logging
import os
from collections import Counter, defaultdict
from itertools import chain
from typing import Any

os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"

import ray

from tests.benchmarks.workloads import count_words

N_BATCHES = 8
N_PARTS = 4


def start() -> str:
    """Two CPUs, loopback, no dashboard."""
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    return "ray"


def stop() -> None:
    """End it."""
    ray.shutdown()


def batches(source: list) -> list[list]:
    size = -(-len(source) // N_BATCHES)
    return [source[at : at + size] for at in range(0, len(source), size)]


# Words: with the functions that jmr is given, called record by record; and with a Counter, whose loop is in C.


@ray.remote
def count_each(records: list) -> dict[str, int]:
    counts: dict[str, int] = {}
    for line, text in records:
        for word, n in count_words(line, text):
            counts[word] = counts.get(word, 0) + n
    return counts


@ray.remote
def count(records: list) -> Counter:
    return Counter(chain.from_iterable(text.split() for _, text in records))


@ray.remote
def merged(*counters: dict) -> Counter:
    total: Counter = Counter()
    for counter in counters:
        total.update(counter)
    return total


def words_by_tasks(source: list, count: Any = count_each) -> dict:
    return dict(ray.get(merged.remote(*[count.remote(batch) for batch in batches(source)])))


def words_by_counters(source: list) -> dict:
    return words_by_tasks(source, count)


# Numbers.


@ray.remote(num_returns=N_PARTS)
def grouped(records: list) -> list[dict]:
    groups: defaultdict = defaultdict(list)
    for key, value in records:
        groups[key].append(value)
    parts: list[dict] = [{} for _ in range(N_PARTS)]
    for key, values in groups.items():
        parts[key % N_PARTS][key] = values
    return parts


@ray.remote
def means(*parts: dict) -> dict:
    groups: defaultdict = defaultdict(list)
    for part in parts:
        for key, values in part.items():
            groups[key] += values
    return {key: sum(values) / len(values) for key, values in groups.items()}


def numbers_by_tasks(source: list) -> dict:
    mapped = [grouped.remote(batch) for batch in batches(source)]
    reduced = ray.get([means.remote(*parts) for parts in zip(*mapped, strict=True)])
    return dict(chain.from_iterable(part.items() for part in reduced))


WAYS = {
    "words": {"tasks": words_by_tasks, "counters": words_by_counters},
    "numbers": {"tasks": numbers_by_tasks},
}
