"""MapReduce over batches: what the peers' tasks do, whoever carries them.

    source ──cut──> batches ──map_batch──> a dict of groups per partition ──reduce_parts──> a part of the answer

A part is a dict {key: values in source order}. `map_to_blobs` and `reduce_blobs` do the same with parts that are
pickled already: bytes that pass through a process are not taken apart there.
"""

from __future__ import annotations

import gc
import pickle
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from itertools import islice

from tests.benchmarks.workloads import Workload

#: Two for each process, so that a large one does not leave the other idle.
N_PARTITIONS = 4


def cut(workload: Workload, source) -> list[list]:
    """The records in batches of one size, as many as the workload wants."""
    records = source.items() if isinstance(source, dict) else source
    size = -(-len(records) // workload.n_batches)
    remaining = iter(records)
    return list(iter(lambda: list(islice(remaining, size)), []))


def map_batch(records: list, mapfn: Callable, combinefn: Callable | None) -> list[dict]:
    """Group what mapfn emits, fold each group, and deal the keys out to the partitions."""
    with no_collector():
        groups: dict = {}
        for key, value in records:
            for k, v in mapfn(key, value):
                if (values := groups.get(k)) is None:
                    groups[k] = [v]
                else:
                    values.append(v)
        parts: list[dict] = [{} for _ in range(N_PARTITIONS)]
        for k, values in groups.items():
            parts[hash(k) % N_PARTITIONS][k] = [combinefn(k, values)] if combinefn else values
        return parts


def reduce_parts(parts: Iterable[dict], reducefn: Callable) -> dict:
    """Join one partition's parts, in the order of their batches, and reduce each key."""
    with no_collector():
        groups: dict = {}
        for part in parts:
            for k, values in part.items():
                if (before := groups.get(k)) is None:
                    groups[k] = values
                else:
                    before += values
        return {k: reducefn(k, values) for k, values in groups.items()}


def map_to_blobs(records: list, mapfn: Callable, combinefn: Callable | None) -> list[bytes]:
    """`map_batch`, each part pickled."""
    return [pickle.dumps(part, 5) for part in map_batch(records, mapfn, combinefn)]


def map_pickled(blob: bytes, mapfn: Callable, combinefn: Callable | None) -> list[bytes]:
    """`map_to_blobs` of a batch that is pickled: for those that walk through a list to see what needs care."""
    return map_to_blobs(pickle.loads(blob), mapfn, combinefn)


def reduce_blobs(blobs: Iterable[bytes], reducefn: Callable) -> dict:
    """`reduce_parts` of such parts."""
    with no_collector():
        return reduce_parts(map(pickle.loads, blobs), reducefn)


@contextmanager
def no_collector():
    """No collection while a million small lists grow: there is no garbage among them."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def joined(parts: Iterable[dict]) -> dict:
    """The partitions' answers as one dict."""
    answer: dict = {}
    for part in parts:
        answer.update(part)
    return answer
