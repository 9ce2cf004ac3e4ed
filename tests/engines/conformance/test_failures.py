"""What goes wrong in user code comes out as the same error on every engine, and the next job runs."""

from __future__ import annotations

import functools
import re
import threading
import traceback
from collections.abc import Iterator
from typing import Any

import pytest

import jmr
from tests.engines.trial import ELSEWHERE, Trial, on

LOCK = threading.Lock()
SOURCE = {n: n for n in range(20)}


@pytest.fixture(autouse=True)
def the_next_job_runs(engine: Trial) -> Iterator[None]:
    yield
    assert engine.run(SOURCE, lambda key, value: [("sum", value)], lambda key, values: sum(values)) == {"sum": 190}


class OddDuck(Exception):
    pass


class Unpicklable(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class Picky(Exception):
    """Pickles, and cannot be unpickled."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first)


def identity(key: int, value: int) -> list[tuple[int, int]]:
    return [(key, value)]


def in_threes(key: int, value: int) -> list[tuple[int, int]]:
    return [(key % 3, value)]


def raises_in_map(key: int, value: int) -> Iterator[tuple[int, int]]:
    if key == 7:
        raise OddDuck("seven")
    yield key, value


def raises_in_group(key: int, values: list[int]) -> int:
    if key == 1:
        raise OddDuck("one")
    return sum(values)


FUNCTIONS: dict[str, tuple[type[jmr.FunctionError], int, dict[str, Any]]] = {
    "mapfn": (jmr.MapError, 7, {"mapfn": raises_in_map}),
    "combinefn": (jmr.CombineError, 1, {"mapfn": in_threes, "combinefn": raises_in_group}),
    "reducefn": (jmr.ReduceError, 1, {"mapfn": in_threes, "reducefn": raises_in_group}),
}


@pytest.mark.parametrize("role", FUNCTIONS)
def test_an_exception_names_its_record_and_shows_the_users_line(engine: Trial, role: str) -> None:
    kind, key, functions = FUNCTIONS[role]
    with pytest.raises(kind) as caught:
        engine.run(SOURCE, **functions)
    error = caught.value
    assert type(error) is kind
    assert f"{role} raised OddDuck(" in str(error)
    assert f"key={key} (" in str(error)
    assert type(error.__cause__) is OddDuck
    assert error.__cause__.args in [("seven",), ("one",)]
    shown = "".join(traceback.format_exception(error))
    assert 'raise OddDuck("' in shown, "the source line, wherever it ran"
    assert "test_failures.py" in shown
    last = traceback.extract_tb(error.__traceback__)[-1]
    assert last.name == functions[role].__name__, "a debugger stops in the user's code"


@pytest.mark.parametrize("role", FUNCTIONS)
def test_a_failed_record_can_be_replayed_here(engine: Trial, role: str) -> None:
    kind, key, functions = FUNCTIONS[role]
    with pytest.raises(kind) as caught:
        engine.run(SOURCE, **functions)
    assert caught.value.key == key
    if role == "mapfn":
        assert caught.value.value == 7
    elif role == "reducefn":
        assert caught.value.value == [n for n in SOURCE if n % 3 == 1]
    with pytest.raises(OddDuck):
        caught.value.replay()
    with pytest.raises(OddDuck):
        jmr.replay()


def test_a_replay_gets_the_record_as_it_was(engine: Trial) -> None:
    def mapfn(key: int, value: list[int]) -> Any:
        value.append(key)
        raise OddDuck(len(value))

    with pytest.raises(jmr.MapError, match=r"OddDuck\(1\)") as caught:
        engine.run({5: []}, mapfn)
    if engine.name != "inline":  # where there is but the one object
        assert caught.value.value == []


def test_the_cause_of_a_cause_is_told(engine: Trial) -> None:
    def mapfn(key: int, value: int) -> Any:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise OddDuck("outer") from error

    with pytest.raises(jmr.MapError) as caught:
        engine.run({1: 1}, mapfn)
    assert caught.value.__cause__ is not None
    assert type(caught.value.__cause__.__cause__) is KeyError


@pytest.mark.parametrize("kind", [Unpicklable, Picky])
def test_an_exception_whose_attributes_cannot_be_pickled_comes_without_them(
    engine: Trial, kind: type[Exception]
) -> None:
    def mapfn(key: int, value: int) -> Any:
        raise kind(*["first", "second"][: kind.__init__.__code__.co_argcount - 1])

    with pytest.raises(jmr.MapError, match=rf"mapfn raised {kind.__name__}\('first'\)") as caught:
        engine.run({1: 1}, mapfn)
    assert type(caught.value.__cause__) is kind
    assert caught.value.__cause__.args == ("first",)


def test_an_exception_whose_class_cannot_be_pickled_is_told_in_words(engine: Trial) -> None:
    def mapfn(key: int, value: int) -> Any:
        class Local(Exception):
            lock = threading.Lock()

        raise Local("odd")

    with pytest.raises(jmr.MapError, match=r"mapfn raised Local\('odd'\)") as caught:
        engine.run({1: 1}, mapfn)
    assert type(caught.value.__cause__).__name__ == ("Local" if engine.name == "inline" else "RemoteError")
    assert 'raise Local("odd")' in "".join(traceback.format_exception(caught.value))


class ItsOwn(BaseException):
    pass


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), ItsOwn("x"), StopIteration(), RecursionError()], ids=repr
)
def test_what_is_no_usual_exception_ends_the_job_like_any(engine: Trial, error: BaseException) -> None:
    if engine.name == "inline" and isinstance(error, KeyboardInterrupt):
        return  # there it is the user's

    def mapfn(key: int, value: int) -> Any:
        raise error

    with pytest.raises(jmr.MapError, match=rf"mapfn raised {type(error).__name__}\(.* for record key=1 "):
        engine.run({1: 1}, mapfn)


class Identity:
    pass


#: What user code gives, and jmr refuses: with these words.
RUBBISH: dict[str, tuple[dict[str, Any], type[jmr.JmrError], str]] = {
    "an int": ({"mapfn": lambda k, v: 5}, jmr.MapError, r"mapfn returned 5 \(int\), which is no iterable"),
    "a str": ({"mapfn": lambda k, v: "ab"}, jmr.MapError, r"mapfn returned 'ab' \(str\)"),
    "a dict": ({"mapfn": lambda k, v: {1: 2}}, jmr.MapError, r"\{1: 2\} \(dict\).*did you mean \.items\(\)\?"),
    "no pairs": (
        {"mapfn": lambda k, v: [1]},
        jmr.MapError,
        r"mapfn emitted 1 \(int\), which is no \(key, value\) pair",
    ),
    "triples": ({"mapfn": lambda k, v: [(1, 2, 3)]}, jmr.MapError, r"mapfn emitted \(1, 2, 3\) \(tuple\)"),
    "strs of two": ({"mapfn": lambda k, v: ["ab"]}, jmr.MapError, r"mapfn emitted 'ab' \(str\)"),
    "an unhashable key": (
        {"mapfn": lambda k, v: [([1], 2)]},
        jmr.MapError,
        r"mapfn emitted the key \[1\].*not hashable",
    ),
    "an identity key": ({"mapfn": lambda k, v: [(Identity(), v)]}, jmr.MapError, "equal only to itself"),
    "a generator of combinefn": (
        {"mapfn": in_threes, "combinefn": lambda k, v: iter(()) if not v else (x for x in v)},
        jmr.CombineError,
        "combinefn returned a generator, and has to return one value",
    ),
    "too many arguments": ({"mapfn": lambda k: []}, jmr.MapError, r"takes 1 positional argument but 2 were given"),
}


def without_place(message: str) -> str:
    """The same for every engine: where objects are, and tasks, and how to look into it, is left out."""
    return re.sub(r" at 0x\w+|\((split|reduce|inline)[^)]*\)|\nTo step through it.*", "", message)


@pytest.mark.parametrize("what", RUBBISH)
def test_rubbish_is_refused_alike(engine: Trial, what: str) -> None:
    functions, kind, words = RUBBISH[what]
    with pytest.raises(kind, match=f"(?s){words}") as caught:
        engine.run({1: 1}, **functions)
    with pytest.raises(kind) as inline:
        engine.run({1: 1}, **functions, engine="inline")
    told, of_inline = (without_place(str(error.value)) for error in (caught, inline))
    assert told == of_inline


UNPICKLABLE: dict[str, tuple[dict[str, Any], str]] = {
    "a captured lock": (
        {"mapfn": functools.partial(lambda lock, k, v: [], LOCK)},
        "cannot be sent to the workers",
    ),
    "an emitted lock": ({"mapfn": lambda k, v: [(k, threading.Lock())]}, "mapfn emitted a value for key"),
    "a returned lock": (
        {"mapfn": in_threes, "reducefn": lambda k, v: threading.Lock()},
        "reducefn returned a result that cannot be sent back",
    ),
    "a lock in the source": (
        {"source": [(1, threading.Lock())], "mapfn": identity},
        "the source's record key=1 cannot be sent",
    ),
}


@on("cluster", *ELSEWHERE)
@pytest.mark.parametrize("what", UNPICKLABLE)
def test_what_cannot_travel_is_told(engine: Trial, what: str) -> None:
    options, words = UNPICKLABLE[what]
    with pytest.raises(jmr.NotPicklableError, match=words):
        engine.run(**({"source": SOURCE} | options))


def test_final_raises_here_and_the_result_is_kept(engine: Trial) -> None:
    def final(key: int, value: int) -> None:
        raise OddDuck(key)

    with pytest.raises(jmr.FinalError, match="key=0") as caught:
        engine.run(SOURCE, in_threes, lambda key, values: sum(values), final=final)
    assert caught.value.result == {0: 63, 1: 70, 2: 57}


def test_a_job_of_jobs_is_refused(engine: Trial) -> None:
    def mapfn(key: int, value: int) -> Any:
        return jmr.run({key: value}, lambda key, value: [(key, value)], progress=False).items()

    if engine.name == "inline":  # a plain loop may well call another
        assert engine.run({1: 2}, mapfn) == {1: [[2]]}
        return
    with pytest.raises(jmr.MapError, match="NestedRunError") as caught:
        engine.run({1: 2}, mapfn)
    assert type(caught.value.__cause__) is jmr.NestedRunError
