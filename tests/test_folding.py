"""Combiners: values are folded as they come, and what goes wrong is told as if they were folded at the end."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import pytest

import jmr
from jmr.codec.values import dump_columns, load_columns
from jmr.tasks.contract import Failures, TaskError
from jmr.tasks.folding import FOLDED_AT, Folder
from jmr.tasks.grouped import Grouped
from jmr.tasks.map import MapOutput, MapTask, add_up, map_records, run_map
from jmr.tasks.partition import Groups
from jmr.tasks.spilling import Spilling


def adds(key: Any, values: list[Any]) -> Any:
    return sum(values)


def identity(key: Any, value: Any) -> Any:
    yield key, value


def mapped(mapfn: Any, combinefn: Any, records: list[tuple[Any, Any]], **options: Any) -> MapOutput:
    task = MapTask(mapfn=mapfn, combinefn=combinefn, n_partitions=1, **({"skips": False} | options))
    keys, values = [key for key, _ in records], [value for _, value in records]
    return run_map(task, bytearray(b"".join(dump_columns(keys, values))))


def groups_of(output: MapOutput) -> dict[Any, list[Any]]:
    keys, _, _, lists = load_columns(bytearray(b"".join(output.partitions[0])), 4)
    return dict(zip(keys, lists, strict=True))


@pytest.mark.parametrize("skips", [False, True])
def test_no_list_grows_longer_than_a_few_dozen(skips: bool) -> None:
    lengths = []

    def largest(key: int, values: list[int]) -> int:
        lengths.append(len(values))
        return max(values)

    output = mapped(identity, largest, [(i % 3, i) for i in range(1_000)], skips=skips)
    assert groups_of(output) == {0: [999], 1: [997], 2: [998]}
    assert max(lengths) == FOLDED_AT
    assert output.n_pairs == 1_000


@pytest.mark.parametrize(
    "spoil",
    [
        lambda values: values.clear() or 1,
        lambda values: values,
        lambda values: values.append(1) or 1,
    ],
)
def test_a_combinefn_may_do_what_it_likes_with_its_list(spoil: Callable[[list[Any]], Any]) -> None:
    output = mapped(identity, lambda key, values: spoil(values), [(1, i) for i in range(100)])
    assert [len(values) for values in groups_of(output).values()] == [1]


SUMS = [
    [(i % 5, i) for i in range(500)],
    [(f"word{i % 7}", 1) for i in range(500)],
    [((i % 3, "x"), 0.5) for i in range(300)],
    [(float(i % 3), i) for i in range(300)],
    [(i % 2, True) for i in range(3)],
    [(1, 2), (1.0, 3), (True, 4)],
    [(i, i) for i in range(10)],
]


@pytest.mark.parametrize("records", SUMS)
def test_a_sum_is_added_up_to_what_folding_gives(records: list[tuple[Any, Any]]) -> None:
    def also_adds(key: Any, values: list[Any]) -> Any:
        return sum(values) + 0

    by_adding, by_folding = (mapped(identity, combinefn, records) for combinefn in (adds, also_adds))
    for output in (by_adding, by_folding):
        assert output.n_pairs == len(records)
    assert repr(groups_of(by_adding)) == repr(groups_of(by_folding))


def test_a_mapfn_that_emits_nothing_is_called_once_a_record() -> None:
    called = []
    assert mapped(lambda key, value: called.append(key), adds, [(i, i) for i in range(5)]).n_pairs == 0
    assert called == [0, 1, 2, 3, 4]


def test_nans_are_one_key_of_a_sum() -> None:
    records = [(float("nan"), 1), (2.0, 10), (float("nan"), 2), ((1, float("nan")), 5), ((1, float("nan")), 6)]
    found = groups_of(mapped(identity, adds, records))
    assert list(found.values()) == [[3], [10], [11]]


def test_only_a_plain_sum_is_one() -> None:
    def shadowed(key: Any, values: list[Any]) -> Any:
        return sum(values)

    def sum_of_more(key: Any, values: list[Any], more: int = 0) -> Any:
        return sum(values)

    shadowed = type(shadowed)(shadowed.__code__, {"sum": max})
    failures = Failures(skips=False)
    functions = [adds, lambda word, ones: sum(ones), shadowed, sum_of_more, lambda key, values: sum(key), max]
    assert [Folder(function, failures).is_sum for function in functions] == [True, True, False, False, False, False]


def breaks(key: Any, value: Any) -> Any:
    yield "good", 1
    if value == 7:
        raise ValueError("seven")


def leaves(key: Any, value: Any) -> Any:
    raise SystemExit(3)


class Alone:
    """Equal only to itself."""


@pytest.mark.parametrize(
    ("mapfn", "phase", "said"),
    [
        (breaks, "map", "ValueError"),
        (leaves, "map", "SystemExit"),
        (lambda key, value: [(1, 2), (1, 2, 3)], "map", "ContractError"),
        (lambda key, value: ["ab"], "map", "ContractError"),
        (lambda key, value: [([], 1)], "map", "ContractError"),
        (lambda key, value: [(Alone(), 1)], "map", "IdentityKeyError"),
        (lambda key, value: [("a", "b")], "combine", "TypeError"),
        (lambda key, value: 5, "map", "ContractError"),
    ],
)
def test_a_mistake_in_a_sum_is_told_like_any_other(mapfn: Any, phase: str, said: str, in_a_slot: None) -> None:
    failures = Failures(skips=False)
    grouped = Grouped(
        n_partitions=1, folder=Folder(adds, failures), failures=failures, spilling=Spilling(), check=False
    )
    assert add_up(mapfn, zip(range(40), range(40), strict=True), grouped) is None
    assert not grouped.groups
    with pytest.raises(TaskError) as caught:
        mapped(mapfn, adds, [(i, i) for i in range(40)])
    assert (caught.value.failure.phase, caught.value.failure.raised.type_name) == (phase, said)


@pytest.fixture
def in_a_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jmr.codec.process.is_slot", True)


def test_what_only_looks_like_a_pair_is_noticed_at_a_records_end() -> None:
    def emits(key: int, value: str) -> Any:
        yield from value.split()

    with pytest.raises(TaskError) as caught:
        map_records(emits, [(1, "to be or to be")], Groups(), Failures(skips=False))
    assert "mapfn emitted 'be' (str), which is no (key, value) pair" in str(caught.value.failure.raised)


@pytest.mark.slow
def test_a_death_in_the_midst_of_folding_is_blamed_on_the_group() -> None:
    def dies(key: int, values: list[int]) -> int:
        return os._exit(7) if len(values) == FOLDED_AT else sum(values)

    with pytest.raises(jmr.SlotDiedError, match=r"combinefn .* at group key=1 .*exited with code 7") as caught:
        jmr.run(
            {1: 1}, lambda key, value: [(1, 1)] * 100, adds, combinefn=dies, workers=1, max_attempts=2, progress=False
        )
    assert caught.value.value == [1] * FOLDED_AT


def test_a_sum_of_floats_is_right_to_the_last_digits() -> None:
    result = jmr.run(dict.fromkeys(range(1000), 0.1), lambda k, v: [(1, v)], adds, combinefn=adds, progress=False)
    assert math.isclose(result[1], 100.0, rel_tol=1e-12)
