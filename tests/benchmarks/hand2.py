"""The best program for two processes that we could write by hand for each workload: what everything is compared with.

It forks, so its input is inherited for nothing, and equal strings have equal hashes in both processes. The parent works
as much as the child. Each maps half of the records into a dict, keeps the keys that are its own by `hash(key) & 1`, and
gets the other's share of them; the child sends its results.

Tried, and kept where it was faster: marshal (1.3 times as fast as pickle for dicts of lists), folding in the loop
where there is a combiner (1.5), no garbage collection (1.2), a shared mapping for arrays (3). Packing ints in `array`
was slower: on this data marshal takes 10 ns an int.
"""

from __future__ import annotations

import gc
import marshal
import mmap
import os
import socket
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from tests.benchmarks.workloads import Workload

__all__ = ["run"]

Groups = dict[Any, list[Any]]


def run(workload: Workload, source: Any) -> dict[Any, Any]:
    """The answer, by two processes."""
    gc.disable()
    gc.freeze()
    try:
        match workload.name:
            case "cpu" | "skewed":
                return by_turns(workload, source)
            case "arrays_in":
                return without_shuffle(workload, source)
            case "arrays_shuffle":
                return arrays_exchanged(workload, source)
            case _:
                return exchanged(workload, source)
    finally:
        gc.enable()
        gc.unfreeze()


class Twin:
    """Two processes and the socket between them."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.pid = os.fork()
        self.is_child = self.pid == 0
        self.socket = theirs if self.is_child else ours
        (ours if self.is_child else theirs).close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(len(data).to_bytes(8, "little"))
        self.socket.sendall(data)

    def receive(self) -> bytearray:
        data = bytearray(int.from_bytes(self._read(8), "little"))
        self._read_into(data)
        return data

    def swap(self, data: bytes) -> bytearray:
        """Both send at once, so each must read meanwhile."""
        sender = threading.Thread(target=self.send, args=(data,))
        sender.start()
        received = self.receive()
        sender.join()
        return received

    def _read(self, n: int) -> bytearray:
        data = bytearray(n)
        self._read_into(data)
        return data

    def _read_into(self, data: bytearray) -> None:
        view = memoryview(data)
        while view:
            view = view[self.socket.recv_into(view) :]


@contextmanager
def twins() -> Iterator[Twin]:
    """Fork; the child ends at the end of the block, and the parent waits for it."""
    twin = Twin()
    try:
        yield twin
    except BaseException:
        if twin.is_child:
            os._exit(1)
        raise
    if twin.is_child:
        os._exit(0)
    twin.socket.close()
    assert os.waitpid(twin.pid, 0)[1] == 0


def half(source: Any, *, second: bool) -> Iterator[tuple[Any, Any]]:
    records = source.items() if isinstance(source, dict) else source
    middle = len(source) // 2
    return islice(records, middle, None) if second else islice(records, middle)


def exchanged(workload: Workload, source: Any) -> dict[Any, Any]:
    """Map halves, exchange halves of the keys, reduce."""
    with twins() as twin:
        grouped = folded if workload.combinefn else listed
        groups = grouped(workload.mapfn, half(source, second=twin.is_child))
        mine: Groups = {}
        others: Groups = {}
        for key, values in groups.items():
            (mine if hash(key) & 1 == twin.is_child else others)[key] = values
        received = marshal.loads(twin.swap(marshal.dumps(others)))
        early, late = (received, mine) if twin.is_child else (mine, received)
        for key, values in late.items():
            if key in early:
                early[key] += values
            else:
                early[key] = values
        reducefn = workload.reducefn
        result = {key: reducefn(key, values) for key, values in early.items()}
        if twin.is_child:
            twin.send(marshal.dumps(result))
        else:
            result |= marshal.loads(twin.receive())
    return result


def listed(mapfn: Callable[[Any, Any], Any], records: Iterator[tuple[Any, Any]]) -> Groups:
    groups: Groups = defaultdict(list)
    for key, value in records:
        for emitted_key, emitted in mapfn(key, value):
            groups[emitted_key].append(emitted)
    return groups


def folded(mapfn: Callable[[Any, Any], Any], records: Iterator[tuple[Any, Any]]) -> Groups:
    sums: dict[Any, Any] = {}
    so_far = sums.get
    for key, value in records:
        for emitted_key, emitted in mapfn(key, value):
            sums[emitted_key] = so_far(emitted_key, 0) + emitted
    return {key: [value] for key, value in sums.items()}


def by_turns(workload: Workload, source: Any) -> dict[Any, Any]:
    """Take the next record when the last is done; indices lie in a pipe, two bytes each."""
    take, put = os.pipe()
    os.write(put, b"".join(i.to_bytes(2, "little") for i in range(len(source))))
    os.close(put)
    with twins() as twin:
        found = []
        while index := os.read(take, 2):
            i = int.from_bytes(index, "little")
            found.append((i, list(workload.mapfn(*source[i]))))
        if twin.is_child:
            twin.send(marshal.dumps(found))
            return {}
        found += marshal.loads(twin.receive())
        os.close(take)
        groups: Groups = defaultdict(list)
        for _, pairs in sorted(found):
            for key, value in pairs:
                groups[key].append(value)
        return {key: workload.reducefn(key, values) for key, values in groups.items()}


def without_shuffle(workload: Workload, source: Any) -> dict[Any, Any]:
    """No key is in both halves: each reduces its own."""
    import pickle

    with twins() as twin:
        groups = listed(workload.mapfn, half(source, second=twin.is_child))
        result = {key: workload.reducefn(key, values) for key, values in groups.items()}
        if twin.is_child:
            twin.send(pickle.dumps(result, 5))
        else:
            result |= pickle.loads(twin.receive())
    return result


def arrays_exchanged(workload: Workload, source: Any) -> dict[Any, Any]:
    """Arrays for the other are copied into a shared mapping, once."""
    import numpy as np

    n_bytes = sum(array.nbytes for array in source.values())
    shared = np.frombuffer(mmap.mmap(-1, n_bytes), dtype="f8")
    with twins() as twin:
        groups = listed(workload.mapfn, half(source, second=twin.is_child))
        at = shared.size // 2 if twin.is_child else 0
        index = []
        for key, found in groups.items():
            if key & 1 != twin.is_child:
                for array in found:
                    shared[at : at + array.size] = array
                    index.append((key, at, array.size))
                    at += array.size
        received = marshal.loads(twin.swap(marshal.dumps(index)))
        mine = {key: found for key, found in groups.items() if key & 1 == twin.is_child}
        theirs: Groups = defaultdict(list)
        for key, start, size in received:
            theirs[key].append(shared[start : start + size])
        early, late = (theirs, mine) if twin.is_child else (mine, theirs)
        result = {
            key: workload.reducefn(key, [*early.get(key, []), *late.get(key, [])])
            for key in dict.fromkeys([*early, *late])
        }
        if twin.is_child:
            twin.send(marshal.dumps(result))
        else:
            result |= marshal.loads(twin.receive())
    return result
