"""The answer is that of a plain loop, on every engine: items, order and types."""

from __future__ import annotations

import dataclasses
import enum
import math
import operator
import os
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import jmr
from tests.engines.trial import PROCESSES, Trial, on

TEXT = ("the cat saw the dog and the dog saw the cat " * 40).split()
LINES = {f"line {n}": " ".join(TEXT[n : n + 9]) for n in range(0, 400, 5)}


def words(name: str, text: str) -> Iterator[tuple[str, int]]:
    for word in text.split():
        yield word, 1


def total(key: Any, values: list[int]) -> int:
    return sum(values)


def identity(key: Any, value: Any) -> list[tuple[Any, Any]]:
    return [(key, value)]


def by_value(key: Any, value: Any) -> list[tuple[Any, Any]]:
    return [(value, key)]


def thousand() -> Iterator[tuple[int, int]]:
    return ((n, n * 7919 % 1009) for n in range(1_000))


def test_words_are_counted(engine: Trial) -> None:
    assert list(engine.check(LINES, words, total)) == ["the", "cat", "saw", "dog", "and"]


def test_without_a_reducefn_a_keys_values_are_a_list(engine: Trial) -> None:
    result = engine.check(thousand, lambda key, value: [(value % 10, key)])
    assert all(type(values) is list for values in result.values())


def test_a_combinefn_changes_no_sum(engine: Trial) -> None:
    result = engine.check(LINES, words, total, combinefn=total)
    assert result == engine.run(LINES, words, total)
    assert result.stats.n_pairs == sum(len(text.split()) for text in LINES.values())


def test_a_combinefn_without_a_reducefn_leaves_one_value(engine: Trial) -> None:
    assert engine.check(LINES, words, combinefn=total)["the"] == [engine.run(LINES, words, total)["the"]]


def test_values_come_in_the_order_of_the_source(engine: Trial) -> None:
    def mapfn(key: int, value: int) -> Iterator[tuple[int, tuple[int, int]]]:
        yield value % 3, (key, 0)
        yield value % 3, (key, 1)

    def reducefn(key: int, values: list[tuple[int, int]]) -> tuple[bool, str]:
        return values == sorted(values), "".join(str(n + i) for n, i in values)

    assert all(is_sorted for is_sorted, _ in engine.check(thousand, mapfn, reducefn).values())


def test_a_reducefn_may_give_anything(engine: Trial) -> None:
    def reducefn(key: int, values: list[int]) -> Any:
        return [None, (), [key], {key: values}, {key}, b"x", -0.0, "\ud800", 1 << 80][key]

    engine.check(thousand, lambda key, value: [(value % 9, key)], reducefn)


def test_a_generator_reducefn_gives_a_list(engine: Trial) -> None:
    def reducefn(key: int, values: list[int]) -> Iterator[int]:
        yield from values[:3]

    engine.check(thousand, lambda key, value: [(value % 9, key)], reducefn)


@pytest.mark.parametrize("source", [{}, [], iter(())], ids=["dict", "list", "iterator"])
def test_an_empty_source_gives_an_empty_dict(engine: Trial, source: Any) -> None:
    result = engine.run(source, identity, total, final=lambda key, value: pytest.fail("there is no key"))
    assert result == {}
    assert result.stats.n_records == 0


def test_a_mapfn_that_emits_nothing_gives_an_empty_dict(engine: Trial) -> None:
    result = engine.run(LINES, lambda key, value: None, total)
    assert result == {}
    assert (result.stats.n_records, result.stats.n_pairs) == (len(LINES), 0)


def test_one_record_is_enough(engine: Trial) -> None:
    engine.check({"a": 1}, identity, total)


@pytest.mark.parametrize("n_partitions", [1, 64])
def test_the_number_of_partitions_changes_nothing(engine: Trial, n_partitions: int) -> None:
    engine.check(LINES, words, total, n_partitions=n_partitions)


class Lazy:
    """octo.py's kind of source: `__iter__` and `__getitem__`, and no more."""

    def __iter__(self) -> Iterator[int]:
        return iter(range(100))

    def __getitem__(self, key: int) -> int:
        return key % 7


SOURCES: dict[str, Any] = {
    "dict": {n: n % 7 for n in range(100)},
    "list of pairs": [(n, n % 7) for n in range(100)],
    "list of lists": [[n, n % 7] for n in range(100)],
    "generator": lambda: ((n, n % 7) for n in range(100)),
    "zip": lambda: zip(range(100), [n % 7 for n in range(100)], strict=True),
    "lazy": Lazy(),
    "array": np.array([[n, n % 7] for n in range(100)]),
    "result": jmr.Result({n: n % 7 for n in range(100)}),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_kind_of_source_gives_its_records(engine: Trial, kind: str) -> None:
    assert len(engine.check(SOURCES[kind], by_value)) == 7


def test_a_generator_may_refill_one_buffer(engine: Trial) -> None:
    def refilled() -> Iterator[tuple[int, Any]]:
        buffer = np.zeros(10, int)
        for n in range(100):
            buffer[:] = n
            yield n, buffer

    assert engine.run(refilled(), lambda key, block: [(key, int(block.sum()))], total) == {
        n: 10 * n for n in range(100)
    }


class Colour(enum.Enum):
    RED = 1
    BLUE = "blue"


class Level(enum.IntEnum):
    ONE = 1


@dataclasses.dataclass(frozen=True)
class Point:
    x: float
    y: Any = ()


class Name(str):
    __slots__ = ()


KEYS: dict[str, list[Any]] = {
    "numbers": [1, 1.0, True, Decimal(1), Fraction(1), Level.ONE, 1 + 0j, 0, -0.0, False, 2.5, 1 << 70, float(1 << 70)],
    "numbers of numpy": [np.int8(1), 1, np.float64(1), np.bool_(True), np.float32(0.1), np.float32(0.1).item()],
    "not a number": [math.nan, float("nan"), Decimal("nan"), (1, math.nan), (1, float("nan")), Point(math.nan)],
    "texts": ["", "a", b"a", Name("a"), "ä", "\ud800", b"", "None"],
    "nothing": [None, (), frozenset(), ((),), (None,)],
    "tuples": [(1, "a"), (1.0, "a"), ("a", 1), (True, Name("a")), ((1,), ("a",))],
    "sets": [frozenset({1, 2}), frozenset({2, 1.0}), frozenset("ab"), frozenset({"b", "a"})],
    "enums": [Colour.RED, Colour.BLUE, Level.ONE, 1, "blue"],
    "dataclasses": [Point(1, 2), Point(1.0, 2), Point(True, "2"), (1, 2)],
    "without a stable hash": [range(3), range(0, 3, 1), range(3, 3), range(4, 4), "a", 1],
}


@pytest.mark.parametrize("kind", KEYS)
def test_equal_keys_meet_and_the_first_one_stays(engine: Trial, kind: str) -> None:
    keys = KEYS[kind]
    records = [(n, keys[n % len(keys)]) for n in range(20 * len(keys))]
    engine.check(records, by_value, n_partitions=5)


def test_strings_meet_though_every_process_salts_their_hashes(engine: Trial) -> None:
    def mapfn(key: int, value: int) -> Iterator[tuple[Any, int]]:
        word = f"word {value % 31}"
        yield word, key
        yield (word, 1), key
        yield frozenset({word, "and"}), key

    engine.check(thousand, mapfn, lambda key, values: (len(values), values[-1]), n_partitions=7)


@on("cluster", "executor")
def test_the_processes_of_this_suite_do_salt(engine: Trial) -> None:
    """Or the test before would show nothing. Spark's workers all have the same salt, which is not ours."""
    assert not os.environ.get("PYTHONHASHSEED", "random").isdigit()
    found = engine.run({1: 1}, lambda key, value: [(hash("salt"), 1)])
    assert hash("salt") not in found


@pytest.mark.parametrize(
    "value",
    [None, math.nan, "", {"a": [1, {2}]}, Point(1), Colour.BLUE, np.float32(0.1), Ellipsis, range(3), operator.add],
    ids=repr,
)
def test_values_arrive_as_they_were(engine: Trial, value: Any) -> None:
    engine.check(dict.fromkeys(range(5), value), lambda key, value: [(key % 2, value)])


def test_arrays_may_be_written_and_come_back(engine: Trial) -> None:
    source = {n: np.full((100, 50), n, dtype=np.float32) for n in range(8)}

    def mapfn(key: int, block: Any) -> list[Any]:
        block += 1
        return [(key % 2, block)]

    def reducefn(key: int, blocks: list[Any]) -> Any:
        first = blocks[0]
        for block in blocks[1:]:
            first += block
        return first

    result = engine.run(source, mapfn, reducefn)
    assert result[0].dtype == np.float32
    assert result[0].tolist() == np.full((100, 50), 1 + 3 + 5 + 7).tolist()
    assert result[1].tolist() == np.full((100, 50), 2 + 4 + 6 + 8).tolist()
    result[0][0] = 5
    if engine.name != "inline":
        assert [float(block[0, 0]) for block in source.values()] == list(range(8)), "those here are left alone"


@pytest.mark.slow
def test_a_record_of_fifty_megabytes_goes_there_and_back(engine: Trial) -> None:
    size = 50 << 20

    def mapfn(key: str, value: bytes) -> Iterator[tuple[str, Any]]:
        yield "there", (len(value), value[:1], value[-1:])
        yield "and back", np.frombuffer(value, np.uint8)

    large = b"a" + bytes(size - 2) + b"z"
    result = engine.run({"large": large}, mapfn, lambda key, values: values[0])
    assert result["there"] == (size, b"a", b"z")
    assert result["and back"].tobytes() == large


@pytest.mark.slow
def test_many_pairs_of_a_record_are_no_matter(engine: Trial) -> None:
    def mapfn(key: int, value: int) -> Iterator[tuple[int, int]]:
        for n in range(value):
            yield n % 1_000, n

    engine.check({1: 100_000, 2: 10}, mapfn, total)


def test_lambdas_and_closures_travel(engine: Trial) -> None:
    table = {n: str(n) for n in range(100)}

    def outer(step: int) -> Any:
        return lambda key, value: [(table[value % 10], key + step)]

    engine.check(thousand, outer(3), lambda key, values: (table[len(values) % 100], max(values)))


def test_large_captured_data_travels(engine: Trial) -> None:
    table = np.arange(1_000_000)
    engine.check(thousand, lambda key, value: [(value % 10, int(table[key * 1_000]))], total)


def test_functions_may_be_methods_and_callables(engine: Trial) -> None:
    class Scaled:
        def __init__(self, factor: int) -> None:
            self.factor = factor

        def __call__(self, key: int, value: int) -> list[tuple[int, int]]:
            return [(value % 10, key * self.factor)]

        def reduce(self, key: int, values: list[int]) -> int:
            return sum(values) // self.factor

    engine.check(thousand, Scaled(3), Scaled(3).reduce)


MAIN = """
import dataclasses, enum, functools

class Mood(enum.Enum):
    GOOD = 1
    BAD = 2

@dataclasses.dataclass(frozen=True)
class Word:
    text: str
    mood: Mood = Mood.GOOD

class Total:
    def __init__(self, n): self.n = n
    def __repr__(self): return f"Total({self.n})"

@functools.lru_cache(maxsize=None)
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)

def mapfn(key, value):
    yield Word(f"w{value % 3}", Mood(value % 2 + 1)), fib(value % 20)

def reducefn(word, values):
    return word, Total(sum(values))
"""


def test_classes_of_a_notebook_travel_both_ways(engine: Trial) -> None:
    cell: dict[str, Any] = {"__name__": "__main__"}
    exec(MAIN, cell)
    result = engine.check(thousand, cell["mapfn"], cell["reducefn"])
    assert all(type(key) is cell["Word"] and key.mood in cell["Mood"] for key in result)
    assert all(type(total) is cell["Total"] for _, total in result.values())


def test_classes_of_a_function_travel_both_ways(engine: Trial) -> None:
    @dataclasses.dataclass(frozen=True)
    class Here:
        n: int

    result = engine.check(thousand, lambda key, value: [(Here(value % 10), Here(key))])
    assert all(type(key) is Here for key in result)


def test_final_is_called_here_in_sorted_order(engine: Trial) -> None:
    seen: list[Any] = []
    result = engine.run(
        thousand(),
        lambda key, value: [(value, 1)],
        total,
        final=lambda key, value: seen.append((os.getpid(), key, value)),
    )
    assert seen == [(os.getpid(), key, result[key]) for key in sorted(result)]


def test_what_is_printed_harms_nothing(engine: Trial, capfd: pytest.CaptureFixture[str]) -> None:
    def mapfn(key: int, value: int) -> list[tuple[int, int]]:
        print("mapped", key)
        return [(value % 3, key)]

    engine.check(thousand, mapfn, total)


@on(*PROCESSES)
def test_user_code_does_not_run_in_this_process(engine: Trial) -> None:
    found = engine.run({n: n for n in range(8)}, lambda key, value: [(os.getpid(), "map")], lambda pid, _: os.getpid())
    assert os.getpid() not in {*found, *found.values()}
