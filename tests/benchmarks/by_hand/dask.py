"""Dask: with `dask.bag`, and with futures, on a cluster of two processes.

Dask looks into plain lists and dicts item by item before it sends them, which takes longer than all the rest; so those
that are large travel pickled, or as a Counter, which it takes as a whole.
"""

from __future__ import annotations

import pickle
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import chain

import dask.bag
from distributed import Client, LocalCluster

from tests.benchmarks.workloads import count_words

N_BATCHES = 8
N_PARTS = 4


def start() -> Client:
    """Two workers of one thread; no dashboard."""
    global cluster, client
    cluster = LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address=None,
        scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
    )
    client = Client(cluster)
    return client


def stop() -> None:
    """End them."""
    client.close()
    cluster.close()


def batches(source: list) -> list:
    """The records, in the workers' memory."""
    size = -(-len(source) // N_BATCHES)
    blobs = [pickle.dumps(source[at : at + size], 5) for at in range(0, len(source), size)]
    return client.scatter(blobs, hash=False)


# Words: with the functions that jmr is given, called record by record; and with a Counter, whose loop is in C.


def count_each(blob: bytes) -> Counter:
    counts: dict[str, int] = {}
    for line, text in pickle.loads(blob):
        for word, n in count_words(line, text):
            counts[word] = counts.get(word, 0) + n
    return Counter(counts)


def count(blob: bytes) -> Counter:
    return Counter(chain.from_iterable(text.split() for _, text in pickle.loads(blob)))


def merged(counters: list[dict]) -> Counter:
    total: Counter = Counter()
    for counter in counters:
        total.update(counter)
    return total


def words_by_futures(source: list, count: Callable[[bytes], dict] = count_each) -> dict:
    counted = client.map(count, batches(source), pure=False)
    return dict(client.submit(merged, counted, pure=False).result())


def words_by_counters(source: list) -> dict:
    return words_by_futures(source, count)


def text_of(record: tuple) -> list[str]:
    return record[1].split()


def words_by_bag(source: list) -> dict:
    return dict(dask.bag.from_sequence(source, npartitions=N_BATCHES).map(text_of).flatten().frequencies().compute())


# Numbers.


def grouped(blob: bytes) -> list[bytes]:
    groups: defaultdict = defaultdict(list)
    for key, value in pickle.loads(blob):
        groups[key].append(value)
    parts: list[dict] = [{} for _ in range(N_PARTS)]
    for key, values in groups.items():
        parts[key % N_PARTS][key] = values
    return [pickle.dumps(part, 5) for part in parts]


def part_of(parts: list[bytes], n: int) -> bytes:
    return parts[n]


def means(parts: list[bytes]) -> bytes:
    groups: defaultdict = defaultdict(list)
    for part in map(pickle.loads, parts):
        for key, values in part.items():
            groups[key] += values
    return pickle.dumps({key: sum(values) / len(values) for key, values in groups.items()}, 5)


def numbers_by_futures(source: list) -> dict:
    mapped = client.map(grouped, batches(source), pure=False)
    reduced = [
        client.submit(means, [client.submit(part_of, parts, n, pure=False) for parts in mapped], pure=False)
        for n in range(N_PARTS)
    ]
    return dict(chain.from_iterable(pickle.loads(part).items() for part in client.gather(reduced)))


def key_of(record: tuple) -> int:
    return record[0]


def add(total: tuple, record: tuple) -> tuple:
    return total[0] + record[1], total[1] + 1


def add_up(total: tuple, other: tuple) -> tuple:
    return total[0] + other[0], total[1] + other[1]


def numbers_by_bag(source: list) -> dict:
    bag = dask.bag.from_sequence(source, npartitions=N_BATCHES)
    sums = bag.foldby(key_of, add, (0.0, 0), add_up, (0.0, 0)).compute()
    return {key: total / n for key, (total, n) in sums}


WAYS = {
    "words": {"futures": words_by_futures, "futures, Counter": words_by_counters, "bag": words_by_bag},
    "numbers": {"futures": numbers_by_futures, "bag": numbers_by_bag},
}
