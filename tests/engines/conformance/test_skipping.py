"""on_error="skip" sets the same records aside on every engine."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterator
from typing import Any

import pytest

import jmr
from tests.engines.trial import Trial

SOURCE = {n: n for n in range(300)}


class OddDuck(Exception):
    pass


def picky(key: int, value: int) -> Iterator[tuple[int, int]]:
    yield value % 10, key
    if key % 7 == 3:
        raise OddDuck(key)


def no_five(key: int, values: list[int]) -> int:
    if key == 5:
        raise KeyError("five")
    return sum(values)


def told(result: jmr.Result) -> list[Any]:
    return [(bad.phase, bad.key, bad.value, type(bad.error), bad.error.args) for bad in result.errors]


@pytest.mark.parametrize("reducefn", [None, no_five], ids=["mapped", "reduced"])
def test_the_same_is_set_aside_in_the_same_order(engine: Trial, reducefn: Any) -> None:
    result = engine.check(SOURCE, picky, reducefn, on_error="skip")
    expected = jmr.run(SOURCE, picky, reducefn, on_error="skip", engine="inline")
    assert told(result) == told(expected)
    assert result.errors.n_total == expected.errors.n_total == (43 if reducefn is None else 44)


def test_a_group_that_combinefn_fails_on_costs_its_key_alone(engine: Trial) -> None:
    result = engine.run(SOURCE, lambda key, value: [(value % 10, key)], no_five, combinefn=no_five, on_error="skip")
    expected = {n: sum(range(n, 300, 10)) for n in range(10) if n != 5}
    assert list(result.items()) == list(expected.items())
    assert {(bad.phase, bad.key, type(bad.error)) for bad in result.errors} == {("combine", 5, KeyError)}


def test_what_is_set_aside_shows_the_users_line_and_can_be_replayed(engine: Trial) -> None:
    bad = engine.run(SOURCE, picky, on_error="skip").errors[1]
    assert bad.key == 10
    assert "raise OddDuck(key)" in bad.traceback
    assert traceback.extract_tb(bad.error.__traceback__)[-1].name == "picky"
    with pytest.raises(OddDuck):
        bad.replay()


@pytest.mark.slow
def test_a_thousand_are_kept_and_all_are_counted(engine: Trial) -> None:
    result = engine.check(
        {n: n for n in range(1_100)}, lambda key, value: 1 // (key % 2), on_error="skip", n_partitions=3
    )
    assert result.errors.n_total == 1_100, "1 is no iterable"
    assert [bad.key for bad in result.errors] == list(range(1_000))
    assert {type(bad.error) for bad in result.errors[::2]} == {ZeroDivisionError}
    assert {type(bad.error) for bad in result.errors[1::2]} == {jmr.MapError}


def test_rubbish_is_set_aside_too(engine: Trial) -> None:
    kinds: dict[int, Any] = {0: "ab", 1: {1: 2}, 2: [([1], 2)], 3: [1], 4: [(4, 4)]}
    result = engine.check(kinds, lambda key, value: value, on_error="skip")
    assert list(result) == [4]
    expected = jmr.run(kinds, lambda key, value: value, on_error="skip", engine="inline")
    assert [(bad.key, type(bad.error), str(bad.error)) for bad in result.errors] == [
        (bad.key, type(bad.error), str(bad.error)) for bad in expected.errors
    ]


def test_a_value_that_cannot_be_pickled_costs_its_record_alone(engine: Trial) -> None:
    if engine.name == "inline":  # where nothing is pickled
        return
    result = engine.run(
        {n: n for n in range(6)}, lambda key, value: [(key, threading.Lock() if key == 3 else key)], on_error="skip"
    )
    assert list(result) == [0, 1, 2, 4, 5]
    assert [(bad.phase, bad.key, type(bad.error)) for bad in result.errors] == [("map", 3, jmr.NotPicklableError)]


def test_an_exception_whose_class_cannot_be_pickled_is_set_aside_in_words(engine: Trial) -> None:
    def mapfn(key: int, value: int) -> Any:
        class Local(Exception):
            lock = threading.Lock()

        raise Local("odd")

    (bad,) = engine.run({1: 2}, mapfn, on_error="skip").errors
    assert type(bad.error) is jmr.RemoteError
    assert "odd" in str(bad.error)
    assert 'raise Local("odd")' in bad.traceback
