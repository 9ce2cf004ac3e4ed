"""A map attempt that spills, at whatever moment, leaves what it would have left in memory."""

from __future__ import annotations

import itertools
import math
import os
import random
import resource
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jmr
from jmr.codec.values import Buffer, dump_columns, load_columns
from jmr.shuffle.files import Room, SpillError, fetch, room_of
from jmr.shuffle.runs import Runs
from jmr.tasks.contract import TaskError
from jmr.tasks.finding import group_at
from jmr.tasks.map import MapOutput, MapTask, run_map
from jmr.tasks.reduce import ReduceTask, deal, run_reduce
from jmr.tasks.spilling import Spilling
from jmr.worker.signals import SPILL_SIGNAL

Blobs = list[bytearray]


class InMemory:
    """Runs as a list of bytes."""

    def __init__(self) -> None:
        self.runs: list[list[bytes]] = []

    def add(self, partitions: Iterable[list[Buffer]]) -> None:
        self.runs.append([b"".join(pieces) for pieces in partitions])

    def forget(self) -> None:
        self.runs.clear()


class Asking:
    """A mapfn that emits what it is given, and is asked to spill before the pairs of these numbers."""

    def __init__(self, spilling: Spilling, at: Iterable[int] = (), emit: Callable[[Any], Any] = iter) -> None:
        self.spilling = spilling
        self.at = set(at)
        self.n_emitted = 0
        self.emit = emit

    def __call__(self, key: Any, pairs: list[Any]) -> Iterator[Any]:
        for pair in self.emit(pairs):
            if self.n_emitted in self.at:
                self.spilling.ask(sys._getframe())
            self.n_emitted += 1
            yield pair


def split_of(records: list[tuple[Any, Any]]) -> bytearray:
    return bytearray(b"".join(dump_columns([key for key, _ in records], [value for _, value in records])))


def mapped(records: list[tuple[Any, Any]], at: Iterable[int], **options: Any) -> tuple[MapOutput, Blobs, int]:
    """The output, the blob of each partition, and how many runs there were."""
    runs = InMemory()
    spilling = Spilling(runs)
    task = MapTask(
        **({"combinefn": None, "n_partitions": 3, "skips": False} | options),
        mapfn=Asking(spilling, at),
        spilling=spilling,
    )
    output = run_map(task, split_of(records))
    if not spilling.n_runs:
        return output, [bytearray(b"".join(pieces)) for pieces in output.partitions], 0
    assert not output.partitions
    assert spilling.n_runs == len(runs.runs)
    return output, [bytearray(b"".join(blobs)) for blobs in zip(*runs.runs, strict=True)], len(runs.runs)


def reduced(blobs: Blobs, unstable: bool, combinefn: Any = None, split: int = 1) -> list[Any]:
    """Keys, orders and values of each partition."""
    filled = [blob for blob in blobs if blob]
    tasks = [filled] if unstable else [[blob] for blob in filled]
    task = ReduceTask(reducefn=None, combinefn=combinefn, skips=False)
    pieces = [run_reduce(task, [[(split, blob) for blob in inputs]])[0] for inputs in tasks]
    return [load_columns(bytearray(b"".join(piece)), 3) for piece in pieces]


def exactly(reduced: list[Any]) -> str:
    """Of each partition the keys, their types, their places in the split's order, and values."""
    in_order = sorted(order for _, orders, _ in reduced for order in orders)
    assert len(set(in_order)) == len(in_order)
    return repr(
        [(keys, list(map(type, keys)), list(map(in_order.index, orders)), values) for keys, orders, values in reduced]
    )


keys = st.one_of(
    st.integers(-2, 2),
    st.booleans(),
    st.sampled_from([1.0, 0.0, -0.0, math.nan, -math.nan, "a", "b", b"a", None, range(2), (1, math.nan), (1.0, "x")]),
)
records = st.lists(st.lists(st.tuples(keys, st.integers()), max_size=6), max_size=8)


def total(key: Any, values: list[int]) -> int:
    return sum(values)


def largest(key: Any, values: list[int]) -> int:
    return max(values)


def careful(_: int) -> None:
    """A cursor."""


@pytest.mark.parametrize("options", [{}, {"skips": True}, {"cursor": careful}], ids=["plain", "skipping", "careful"])
@pytest.mark.parametrize("combinefn", [None, total, largest], ids=["uncombined", "sum", "max"])
@given(emitted=records, at=st.sets(st.integers(0, 40)))
@settings(max_examples=60, deadline=None)
def test_whenever_it_spills_it_leaves_the_same(
    combinefn: Any, options: dict[str, Any], emitted: list[Any], at: set[int]
) -> None:
    source = list(enumerate(emitted))
    whole, whole_blobs, _ = mapped(source, (), combinefn=combinefn, **options)
    spilled, blobs, n_runs = mapped(source, at, combinefn=combinefn, **options)
    assert exactly(reduced(blobs, spilled.unstable, combinefn)) == exactly(
        reduced(whole_blobs, whole.unstable, combinefn)
    )
    assert (spilled.n_pairs, spilled.n_records) == (whole.n_pairs, whole.n_records)
    assert whole.n_combined_pairs <= spilled.n_combined_pairs <= spilled.n_pairs
    assert combinefn or spilled.n_combined_pairs == spilled.n_pairs
    assert n_runs or not any(0 < number < whole.n_pairs for number in at)


@pytest.mark.parametrize("combinefn", [None, total, largest], ids=["uncombined", "sum", "max"])
def test_it_spills_before_each_of_its_pairs(combinefn: Any) -> None:
    pairs = [(i % 7, i) for i in range(300)]
    _, blobs, n_runs = mapped([(0, pairs)], range(300), combinefn=combinefn)
    assert n_runs == 300
    _, whole, _ = mapped([(0, pairs)], (), combinefn=combinefn)
    assert exactly(reduced(blobs, False, combinefn)) == exactly(reduced(whole, False, combinefn))


def test_many_sums_are_spilled_in_several_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jmr.tasks.grouped._SUMS_AT_ONCE", 3)
    pairs: list[tuple[Any, int]] = [(key, 1) for key in (1, math.nan, 2, -math.nan, 3, 1.0, 4, 5)]
    output, blobs, n_runs = mapped([(0, pairs)], [7], combinefn=total, n_partitions=1)
    _, whole, _ = mapped([(0, pairs)], (), combinefn=total, n_partitions=1)
    assert n_runs == 2 + 1
    assert exactly(reduced(blobs, False, total)) == exactly(reduced(whole, False, total))
    assert output.n_pairs == 8


class Ticklish(int):
    """Asks to spill while it is added, hashed or compared: in the midst of a line."""

    ask: Callable[[str], None] = staticmethod(lambda where: None)

    def __add__(self, other: int) -> int:
        self.ask("add")
        return int(self) + int(other)

    __radd__ = __add__

    def __hash__(self) -> int:
        self.ask("hash")
        return int(self) % 2

    def __eq__(self, other: object) -> bool:
        self.ask("compare")
        return int(self) == int(other)  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize("where", ["add", "hash", "compare"])
@pytest.mark.parametrize("combinefn", [None, total, largest], ids=["uncombined", "sum", "max"])
def test_it_may_be_asked_in_the_midst_of_a_line(combinefn: Any, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = InMemory()
    spilling = Spilling(runs)
    asks = itertools.count()

    def ask(here: str) -> None:
        if here == where and next(asks) % 7 == 6:
            spilling.ask(sys._getframe())

    monkeypatch.setattr(Ticklish, "ask", staticmethod(ask))

    def mapfn(key: int, n: int) -> Iterator[tuple[int, int]]:
        for i in range(n):
            yield Ticklish(i % 5), Ticklish(i)

    task = MapTask(mapfn=mapfn, combinefn=combinefn, n_partitions=1, skips=False, spilling=spilling)
    output = run_map(task, split_of([(1, 200)]))
    blobs = [bytearray(blob) for (blob,) in runs.runs] or [bytearray(b"".join(output.partitions[0]))]
    assert len(blobs) > 5 or (where == "add" and combinefn is not total)
    values: dict[int, list[int]] = {}
    for blob in blobs:
        found, _, _, lists = load_columns(blob, 4)
        for key, some in zip(map(int, found), lists, strict=True):
            values.setdefault(key, []).extend(map(int, some))
    fold = combinefn or (lambda key, some: some)
    assert {key: fold(key, some) for key, some in values.items()} == {
        key: fold(key, list(range(key, 200, 5))) for key in range(5)
    }


def test_asking_while_it_spills_does_not_count() -> None:
    class Asks(InMemory):
        def add(self, partitions: Iterable[list[Buffer]]) -> None:
            super().add(partitions)
            spilling.ask(sys._getframe())

    runs = Asks()
    spilling = Spilling(runs)
    mapfn = Asking(spilling, {5})
    task = MapTask(mapfn=mapfn, combinefn=None, n_partitions=1, skips=False, spilling=spilling)
    run_map(task, split_of([(0, [(1, 2)] * 10)]))
    assert [load_columns(bytearray(blob), 4)[3] for (blob,) in runs.runs] == [[[2] * 5], [[2] * 5]]


def test_what_is_not_grouping_does_not_spill() -> None:
    runs = InMemory()
    spilling = Spilling(runs)
    spilling.ask(sys._getframe())
    assert not spilling.is_asked
    task = MapTask(mapfn=lambda key, value: [(key, value)], combinefn=None, n_partitions=1, skips=False)
    run_map(task, split_of([(1, 1)]))
    spilling.answer()
    assert not runs.runs


def test_a_sum_that_fails_after_a_spill_is_folded_from_the_start() -> None:
    pairs = [("a", 1), ("b", 2), ("a", 3), ("c", [4])]
    with pytest.raises(TaskError) as caught:
        mapped([(0, pairs)], [1, 3], combinefn=total)
    assert caught.value.failure.phase == "combine"


def test_a_sum_that_fails_once_counts_nothing_twice() -> None:
    runs = InMemory()
    spilling = Spilling(runs)
    fails = [False, True]

    def mapfn(key: int, n: int) -> Iterator[tuple[int, int]]:
        for i in range(n):
            if i == 20:
                spilling.ask(sys._getframe())
            yield i % 5, 1
        if fails.pop():
            raise ValueError("the first time")

    task = MapTask(mapfn=mapfn, combinefn=total, n_partitions=1, skips=False, spilling=spilling)
    output = run_map(task, split_of([(1, 30)]))
    assert (output.n_pairs, output.n_combined_pairs, len(runs.runs)) == (30, 10, 2)
    ((found, _, values),) = reduced([bytearray(b"".join(blob for (blob,) in runs.runs))], False, total)
    assert (found, values) == ([0, 1, 2, 3, 4], [[6]] * 5)


class Stubborn:
    def __reduce__(self) -> Any:
        raise ValueError("not me")


def test_the_record_behind_what_cannot_be_spilled_is_found() -> None:
    with pytest.raises(TaskError) as caught:
        mapped_lazily([(1, 5), (2, Stubborn), (3, 6), (4, 7)], at={3})
    failure = caught.value.failure
    assert (failure.phase, failure.key_text, failure.raised.type_name) == ("map", "2", "NotPicklableError")


def test_a_record_that_cannot_be_spilled_is_set_aside_and_the_others_are_there_once() -> None:
    output, blobs = mapped_lazily([(1, 5), (2, Stubborn), (3, 6), (4, 7)], at={1, 3}, skips=True)
    assert output.failures.n_failures == 1
    ((found, _, values),) = reduced(blobs, unstable=False)
    assert dict(zip(found, values, strict=True)) == {1: [5], 3: [6], 4: [7]}


def mapped_lazily(records: list[tuple[Any, Any]], at: set[int], skips: bool = False) -> tuple[MapOutput, Blobs]:
    """A class is called for the value that it emits."""
    runs = InMemory()
    spilling = Spilling(runs)

    def mapfn(key: int, value: Any) -> Iterator[tuple[int, Any]]:
        if key in at:
            spilling.ask(sys._getframe())
        yield key, value() if isinstance(value, type) else value

    task = MapTask(mapfn=mapfn, combinefn=None, n_partitions=1, skips=skips, spilling=spilling)
    output = run_map(task, split_of(records))
    return output, [bytearray(b"".join(blobs)) for blobs in zip(*runs.runs, strict=True)]


def test_a_group_that_combinefn_failed_on_in_one_run_is_dead_in_all() -> None:
    def refuses_three(key: str, values: list[int]) -> int:
        if 3 in values:
            raise ValueError("three")
        return max(values)

    records = [(i, [(key, i)]) for i, key in enumerate("abcabcabc")]
    output, blobs, n_runs = mapped(records, [2, 6], combinefn=refuses_three, skips=True, n_partitions=1)
    assert n_runs == 3
    assert [failure.key_text for failure in output.failures.first] == ["'a'"]
    ((found, _, values),) = reduced(blobs, unstable=False, combinefn=largest)
    assert dict(zip(found, values, strict=True)) == {"b": [7], "c": [8]}


def test_runs_are_dealt_out_and_counted_one_by_one() -> None:
    pairs = [(i % 10, i) for i in range(100)]
    _, (blob,), n_runs = mapped([(0, pairs)], range(0, 100, 9), n_partitions=1)
    _, (whole,), _ = mapped([(0, pairs)], (), n_partitions=1)

    def dealt(blob: bytearray) -> list[Any]:
        pieces = list(deal([(3, blob)], 1, 4))
        parts = [[(split, bytearray(b"".join(some))) for of, split, some in pieces if of == part] for part in range(4)]
        task = ReduceTask(reducefn=None, combinefn=None, skips=False)
        return load_columns(bytearray(b"".join(run_reduce(task, parts)[0])), 3)

    assert n_runs == 12
    assert dealt(blob) == dealt(whole)
    assert [group_at(lambda: [(3, blob)], 1, 4, i, 1_000) for i in range(11)] == [
        group_at(lambda: [(3, whole)], 1, 4, i, 1_000) for i in range(11)
    ]


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return room_of(1, str(tmp_path), None, 0)


def test_runs_in_a_file_become_an_output_like_any_other(room: Room) -> None:
    runs = Runs(room, "map-1-1", 3)
    runs.add(iter([[b"ab", b"c"], [], [b"d"]]))
    runs.add(iter([[b"e"], [], [bytes(100_000)]]))
    stored = runs.join(room.directory)
    runs.forget()
    assert stored.path is not None
    assert os.listdir(room.directory) == ["map-1-1"]
    assert stored.lengths == [4, 0, 100_001]
    offset = 0
    blobs = []
    for length, crc in zip(stored.lengths, stored.crcs, strict=True):
        blobs.append(bytes(fetch((stored.path, offset, length, crc))))
        offset += length
    assert blobs == [b"abce", b"", b"d" + bytes(100_000)]


def test_runs_that_are_forgotten_begin_anew(room: Room) -> None:
    runs = Runs(room, "map-1-1", 1)
    runs.add([[b"one"]])
    runs.forget()
    runs.forget()
    runs.add([[b"two"]])
    assert [bytes(blob) for blob in runs.blobs(0)] == [b"two"]


def test_a_damaged_run_is_noticed(room: Room) -> None:
    runs = Runs(room, "map-1-1", 1)
    runs.add([[b"one"]])
    Path(room.directory, "map-1-1-runs").write_bytes(b"two")
    with pytest.raises(SpillError, match="damaged"):
        runs.join(room.directory)
    assert os.listdir(room.directory) == ["map-1-1-runs"]


def hungry(key: int, n: int) -> Iterator[tuple[Any, Any]]:
    """Asks its own slot to spill every 1,000 pairs; in the kernel, that is ignored."""
    for i in range(n):
        if i % 1_000 == 999:
            os.kill(os.getpid(), SPILL_SIGNAL)
        yield (f"{i * 7919 % 2_503}", key % 2 == 0), i


def shape(key: Any, values: list[int]) -> Any:
    return len(values), values[0], values[-1], sum(values)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"on_error": "skip"}, {"max_attempts": 1}], ids=["plain", "skip", "careful"])
@pytest.mark.parametrize("combinefn", [None, total, largest], ids=["uncombined", "sum", "max"])
def test_slots_that_are_told_to_spill_give_the_plain_loops_answer(
    combinefn: Any, options: dict[str, Any], cluster: jmr.Cluster
) -> None:
    source = dict.fromkeys(range(4), 6000)
    reducefn = combinefn or shape
    result = jmr.run(source, hungry, reducefn, combinefn=combinefn, progress=False, **options)
    serial = jmr.run(source, hungry, reducefn, combinefn=combinefn, progress=False, engine="inline")
    assert list(result.items()) == list(serial.items())
    assert result.stats.n_pairs == serial.stats.n_pairs
    assert {attempt.outcome for attempt in result.timeline} == {"done"}
    assert jmr.run(source, n_files_of_runs(cluster), progress=False)[True] == [0] * 4


@pytest.mark.slow
@pytest.mark.parametrize("max_attempts", [1, 4], ids=["careful", "plain"])
def test_one_call_may_emit_more_than_there_is_memory_for(max_attempts: int) -> None:
    def emits(key: int, n: int) -> Iterator[tuple[Any, Any]]:
        for i in range(n):
            if i % 50_000 == 49_999:
                os.kill(os.getpid(), SPILL_SIGNAL)
            yield i % 1_000, f"{i} of some values, each of which takes more than a hundred bytes of memory, all in all"
        yield "peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    with jmr.Cluster(workers=1):
        result = jmr.run({1: 1_000_000}, emits, progress=False, max_attempts=max_attempts)
    assert [len(result[key]) for key in range(1_000)] == [1_000] * 1_000
    assert [value.partition(" ")[0] for value in result[7]] == [str(i) for i in range(7, 1_000_000, 1_000)]
    assert result["peak"][0] < 120_000_000, "a sixth of what it emits"
    assert result.stats.shuffled_bytes > 80_000_000


@pytest.mark.slow
def test_a_disk_that_is_full_ends_the_job_with_a_sentence_and_nothing_else(cluster: jmr.Cluster) -> None:
    def limited(key: int, value: int) -> Iterator[tuple[int, bytes]]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
        try:
            for i in range(40):
                yield i, random.randbytes(100_000)
            os.kill(os.getpid(), SPILL_SIGNAL)
            yield 1, b""
            yield 2, b""
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    with pytest.raises(jmr.WorkerError, match=r"a map output of .* bytes cannot be written to .*free some space there"):
        jmr.run({1: 1}, limited, progress=False)
    assert jmr.run({1: 1}, lambda key, value: [(key, value)], progress=False) == {1: [1]}


def n_files_of_runs(cluster: jmr.Cluster) -> Callable[[int, int], list[tuple[bool, int]]]:
    """A mapfn that counts them."""
    roots = cluster._running()._directories.paths

    def count(key: int, value: int) -> list[tuple[bool, int]]:
        names = [name for root in roots for _, _, names in os.walk(root) for name in names]
        return [(True, sum("runs" in name for name in names))]

    return count
