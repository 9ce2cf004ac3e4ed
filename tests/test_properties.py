"""The answer is the serial loop's answer: random records, keys, slots, partitions and splits, against a plain loop."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jmr
from jmr.codec.values import dump_columns, load_columns
from jmr.engines import slots as cluster_engine
from jmr.result import Partition, in_order
from jmr.tasks.map import MapTask, run_map
from jmr.tasks.reduce import ReduceTask, deal, run_reduce

numbers = st.one_of(
    st.integers(-3, 3),
    st.booleans(),
    st.sampled_from([0.0, -0.0, 1.0, 2.5, 1e300, math.inf]),
    st.sampled_from([Decimal(1), Decimal("2.5"), Fraction(1), Fraction(5, 2), complex(1, 0)]),
)
atoms = st.one_of(
    numbers,
    st.sampled_from(["", "a", "b", "\ud800", "ä"]),
    st.sampled_from([b"", b"a"]),
    st.none(),
    st.sampled_from([datetime.date(2026, 1, 1), datetime.datetime(2026, 1, 1), range(3), range(3, 3)]),
)
keys = st.one_of(atoms, st.tuples(atoms, atoms), st.frozensets(numbers, max_size=2))
pairs = st.lists(st.tuples(keys, st.integers()), max_size=6)
sources = st.lists(st.tuples(st.integers(), pairs), max_size=25)


def mapfn(_: Any, emitted: list[tuple[Any, int]]) -> Iterator[tuple[Any, int]]:
    yield from emitted


def reducefn(key: Any, values: list[int]) -> Any:
    return (repr(key), values)


def plain_loop(source: list[tuple[int, Any]]) -> dict[Any, Any]:
    """MapReduce as a newcomer would write it."""
    groups: dict[Any, list[Any]] = {}
    for key, value in source:
        for emitted, number in mapfn(key, value):
            groups.setdefault(emitted, []).append(number)
    return {key: reducefn(key, values) for key, values in groups.items()}


def exactly(result: dict[Any, Any]) -> list[tuple[str, str]]:
    """Items, order and types: 1, 1.0 and True are equal, but not here."""
    return [(f"{type(key).__name__} {key!r}", repr(value)) for key, value in result.items()]


def cut_into(records: list[Any], sizes: list[int]) -> list[list[Any]]:
    splits, at = [], 0
    while at < len(records):
        size = sizes[len(splits) % len(sizes)]
        splits.append(records[at : at + size])
        at += size
    return splits


def by_tasks(
    source: list[Any], n_partitions: int, sizes: list[int], fold: Any, combinefn: Any = None, *, n_parts: int = 1
) -> dict[Any, Any]:
    """What the tasks make of a source that is split like this, where each partition is dealt out to so many parts."""
    task = MapTask(mapfn=mapfn, combinefn=combinefn, n_partitions=n_partitions, skips=False)
    splits = [dump_columns(*map(list, zip(*split, strict=True))) for split in cut_into(source, sizes)]
    outputs = [run_map(task, bytearray(b"".join(split))) for split in splits]
    groups = [[p] for p in range(n_partitions)]
    if any(output.unstable for output in outputs):
        groups, n_parts = [list(range(n_partitions))], 1
    partitions = []
    for members in groups:
        inputs = [
            (number, bytearray(b"".join(output.partitions[p])))
            for number, output in enumerate(outputs)
            for p in members
            if output.partitions[p]
        ]
        parts = [inputs] if n_parts == 1 else dealt_out(inputs, n_partitions, n_parts)
        blob, _ = run_reduce(ReduceTask(reducefn=fold, combinefn=combinefn, skips=False), parts)
        partitions.append(Partition(*load_columns(bytearray(b"".join(blob)), 3)))
    return dict(in_order(partitions))


def dealt_out(inputs: list[tuple[int, Any]], n_partitions: int, n_parts: int) -> list[list[tuple[int, Any]]]:
    parts: list[list[tuple[int, Any]]] = [[] for _ in range(n_parts)]
    for part, split, pieces in deal(inputs, n_partitions, n_parts):
        parts[part].append((split, bytearray(b"".join(pieces))))
    return parts


@pytest.mark.slow
@given(sources, st.integers(1, 9), st.lists(st.integers(1, 7), min_size=1, max_size=5), st.integers(1, 3))
@settings(max_examples=300, deadline=None)
def test_tasks_give_the_plain_loops_answer_however_the_source_is_split(
    source: list[Any], n_partitions: int, sizes: list[int], n_parts: int
) -> None:
    found = by_tasks(source, n_partitions, sizes, reducefn, n_parts=n_parts)
    assert exactly(found) == exactly(plain_loop(source))


@pytest.mark.slow
@given(sources, st.integers(1, 5), st.integers(1, 3), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_the_cluster_gives_the_plain_loops_answer(
    source: list[Any], n_partitions: int, workers: int, size: int
) -> None:
    class FixedSizer(cluster_engine.SplitSizer):
        def next_size(self) -> int:
            return size

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster_engine, "SplitSizer", FixedSizer)
        result = jmr.run(source, mapfn, reducefn, n_partitions=n_partitions, workers=workers, progress=False)
    assert exactly(result) == exactly(plain_loop(source))


@pytest.mark.slow
@given(sources)
@settings(max_examples=100, deadline=None)
def test_inline_gives_the_plain_loops_answer(source: list[Any]) -> None:
    assert exactly(jmr.run(source, mapfn, reducefn, engine="inline")) == exactly(plain_loop(source))


@pytest.mark.slow
@given(sources, st.integers(1, 5), st.lists(st.integers(1, 7), min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_a_combiner_changes_no_sum(source: list[Any], n_partitions: int, sizes: list[int]) -> None:
    def total(key: Any, values: list[int]) -> int:
        return sum(values)

    expected = exactly(jmr.run(source, mapfn, total, engine="inline"))
    assert exactly(jmr.run(source, mapfn, total, combinefn=total, engine="inline")) == expected
    assert exactly(by_tasks(source, n_partitions, sizes, total, total)) == expected


@pytest.mark.parametrize("engine", [None, "inline"])
def test_all_nans_are_one_key(engine: Any) -> None:
    def nans(key: int, _: Any) -> list[tuple[Any, int]]:
        return [(float("nan"), key), (("x", math.nan), key), ("x", key)]

    result = jmr.run(dict.fromkeys(range(30)), nans, engine=engine, workers=2, n_partitions=3, progress=False)
    assert [repr(key) for key in result] == ["nan", "('x', nan)", "'x'"]
    assert list(result.values()) == [list(range(30))] * 3


def test_unstable_keys_meet_their_equals_in_one_partition() -> None:
    records = [(i, [range(0), (), "a", range(2, 2)][i % 4]) for i in range(40)]
    result = jmr.run(records, lambda key, value: [(value, key)], n_partitions=7, workers=2, progress=False)
    assert [repr(key) for key in result] == ["range(0, 0)", "()", "'a'"]
    assert result[range(0)] == [i for i in range(40) if i % 4 in (0, 3)]
