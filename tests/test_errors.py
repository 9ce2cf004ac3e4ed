"""Every named mistake ends in a clear error, at once, and the next job runs."""

from __future__ import annotations

import array
import asyncio
import collections
import ctypes
import functools
import inspect
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jmr
from jmr import errors

SOURCE = {i: i for i in range(20)}
LOCK = threading.Lock()
PASSWD = "/etc/passwd"


def run(
    mapfn: Any = lambda key, value: [(key % 3, value)], reducefn: Any = None, source: Any = SOURCE, **options: Any
) -> Any:
    options = {"workers": 2, "progress": False} | options
    return jmr.run(source, mapfn, reducefn, **options)


@pytest.fixture(autouse=True)
def a_job_after_it() -> Iterator[None]:
    yield
    assert jmr.run(
        SOURCE, lambda key, value: [("sum", value)], lambda key, values: sum(values), workers=2, progress=False
    ) == {"sum": 190}


def odd_duck(key: int, value: int) -> Iterator[tuple[int, int]]:
    if key == 7:
        raise ValueError("odd duck")
    yield key, value


def no_key_one(key: int, values: list[int]) -> int:
    if key == 1:
        raise KeyError("one")
    return sum(values)


def no_key_one_yet(key: int, values: list[int]) -> Iterator[int]:
    yield sum(values)


def kill(signal_number: int) -> Callable[[int, int], Any]:
    def mapfn(key: int, value: int) -> Any:
        if key == 5:
            os.kill(os.getpid(), signal_number)
        return [(key, value)]

    return mapfn


class Picky(Exception):
    """Pickles, and cannot be unpickled."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first)


class Unpicklable(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


def raising(error: BaseException) -> Callable[[Any, Any], Any]:
    def mapfn(key: Any, value: Any) -> Any:
        raise error

    return mapfn


def raises_picky(key: Any, value: Any) -> Any:
    raise Picky("first", "second")


def raises_unpicklable(key: Any, value: Any) -> Any:
    raise Unpicklable("locked")


def deeper(key: Any, value: Any) -> Any:
    return deeper(key, value)


def lock_at_first(key: int, value: int, calls: list[int] = []) -> Any:  # noqa: B006 - that it remembers is the point
    calls.append(key)
    return [(key, value if calls.count(key) > 1 else threading.Lock())]


class Incomparable:
    def __init__(self, number: int) -> None:
        self.number = number

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no comparison")


async def async_mapfn(key: Any, value: Any) -> Any:
    return []


class Identity:
    pass


class Stop(BaseException):
    pass


MISTAKES: dict[str, tuple[dict[str, Any], type[BaseException], list[str]]] = {
    "mapfn raises": (
        {"mapfn": odd_duck},
        errors.MapError,
        [
            "mapfn raised ValueError('odd duck')",
            "record key=7",
            "split map-",
            "attempt 1",
            "worker local/",
            "call its replay()",
        ],
    ),
    "reducefn raises": (
        {"reducefn": no_key_one},
        errors.ReduceError,
        ["reducefn raised KeyError('one')", "group key=1", "reduce-"],
    ),
    "combinefn raises": (
        {"combinefn": no_key_one},
        errors.CombineError,
        ["combinefn raised KeyError('one')", "group key=1"],
    ),
    "final raises": (
        {"final": no_key_one, "reducefn": lambda k, v: v},
        errors.FinalError,
        ["final raised KeyError('one')", "key=1"],
    ),
    "returns an int": (
        {"mapfn": lambda k, v: 5},
        errors.MapError,
        ["mapfn returned 5 (int), which is no iterable", "record key="],
    ),
    "returns a str": ({"mapfn": lambda k, v: "ab"}, errors.MapError, ["mapfn returned 'ab' (str)"]),
    "returns a dict": ({"mapfn": lambda k, v: {1: 2}}, errors.MapError, ["{1: 2} (dict)", "did you mean .items()?"]),
    "returns a mapping": (
        {"mapfn": lambda k, v: collections.UserDict(ab=1)},
        errors.MapError,
        ["(UserDict)", "did you mean .items()?"],
    ),
    "emits what does not unpickle": (
        {"mapfn": lambda k, v: [(k, Picky("first", "second"))]},
        errors.NotPicklableError,
        ["mapfn or combinefn gave was pickled, and cannot be unpickled (reduce-", "missing 1 required"],
    ),
    "emits no pairs": (
        {"mapfn": lambda k, v: [1, 2]},
        errors.MapError,
        ["mapfn emitted 1 (int), which is no (key, value) pair"],
    ),
    "emits strs of two": ({"mapfn": lambda k, v: ["ab"]}, errors.MapError, ["mapfn emitted 'ab' (str)"]),
    "emits triples": ({"mapfn": lambda k, v: [(1, 2, 3)]}, errors.MapError, ["mapfn emitted (1, 2, 3) (tuple)"]),
    "StopIteration escapes": (
        {"mapfn": lambda k, v: next(iter([]))},
        errors.MapError,
        ["mapfn raised StopIteration()"],
    ),
    "unhashable key": ({"mapfn": lambda k, v: [([k], v)]}, errors.MapError, ["emitted the key [", "not hashable"]),
    "identity key": (
        {"mapfn": lambda k, v: [(Identity(), v)]},
        errors.MapError,
        ["equal only to itself", "frozen dataclass"],
    ),
    "combinefn yields": (
        {"combinefn": no_key_one_yet, "reducefn": lambda k, v: v},
        errors.CombineError,
        ["combinefn returned a generator, and has to return one value", "group key="],
    ),
    "final takes one argument": (
        {"final": lambda key: None},
        errors.FinalError,
        ["final is called as final(key, value)."],
    ),
    "captures a lock in a partial": (
        {"mapfn": functools.partial(lambda lock, k, v: [], LOCK)},
        errors.NotPicklableError,
        ["mapfn -> argument 0 cannot be sent to the workers"],
    ),
    "captures a lock": (
        {"mapfn": lambda k, v: [(k, LOCK)]},
        errors.NotPicklableError,
        [
            "mapfn -> LOCK cannot be sent to the workers: it is <unlocked _thread.lock object",
            "cannot pickle '_thread.lock'",
            "Create it inside mapfn",
        ],
    ),
    "emits a lock": (
        {"mapfn": lambda k, v: [(k, threading.Lock())]},
        errors.NotPicklableError,
        ["mapfn emitted a value for key", "lock", "record key="],
    ),
    "returns a lock": (
        {"reducefn": lambda k, v: threading.Lock()},
        errors.NotPicklableError,
        ["reducefn returned a result that cannot be sent back", "group key="],
    ),
    "emits a lock, once": (
        {"mapfn": lock_at_first},
        errors.NotPicklableError,
        ["what mapfn emitted could not be pickled (split map-", "mapfn does not do the same twice"],
    ),
    "keys that do not compare": (
        {"mapfn": lambda k, v: [(Incomparable(k), v)], "n_partitions": 1},
        errors.MapError,
        ["RuntimeError('no comparison')"],
    ),
    "reads a lock": (
        {"source": [(1, threading.Lock())]},
        errors.NotPicklableError,
        ["the source's record key=1 cannot be sent"],
    ),
    "exception that does not unpickle": ({"mapfn": raises_picky}, errors.MapError, ["mapfn raised Picky('first')"]),
    "exception that does not pickle": (
        {"mapfn": raises_unpicklable},
        errors.MapError,
        ["mapfn raised Unpicklable('locked')"],
    ),
    "emits an open file": (
        {"mapfn": lambda k, v: [(k, open(PASSWD))]},
        errors.NotPicklableError,
        ["value is an open file ('/etc/passwd'). Ship its path, and open it there.\nSeen for record key="],
    ),
    "returns an open file": (
        {"reducefn": lambda k, v: open(PASSWD)},
        errors.NotPicklableError,
        ["open file ('/etc/passwd')"],
    ),
    "sys.exit": ({"mapfn": lambda k, v: sys.exit(3)}, errors.MapError, ["mapfn raised SystemExit(3)"]),
    "os._exit": (
        {"mapfn": lambda k, v: os._exit(3) if k == 5 else []},
        errors.SlotDiedError,
        [
            "mapfn ended its process 4 times, at record key=5",
            "exited with code 3; peak memory ",
            " MB.\nTo look into it: jmr.replay() calls mapfn on that record again, in a process of its own, and",
        ],
    ),
    "os._exit, one attempt": (
        {"mapfn": lambda k, v: os._exit(3) if k == 5 else [], "max_attempts": 1},
        errors.SlotDiedError,
        ["once, at record key=5"],
    ),
    "os._exit in reducefn": (
        {"reducefn": lambda k, v: os._exit(4) if k == 1 else v},
        errors.SlotDiedError,
        ["reducefn ended its process 4 times, at group key=1", "code 4"],
    ),
    "segfault": (
        {"mapfn": lambda k, v: ctypes.string_at(0) if k == 5 else []},
        errors.SlotDiedError,
        ["record key=5", "signal 11 (SIGSEGV; C code touched memory", "in string_at (", "test_errors.py"],
    ),
    "kill -9": (
        {"mapfn": kill(signal.SIGKILL)},
        errors.SlotDiedError,
        ["record key=5", "signal 9 (SIGKILL", "out of memory"],
    ),
    "endless recursion": ({"mapfn": deeper}, errors.MapError, ["mapfn raised RecursionError("]),
    "KeyboardInterrupt of its own": (
        {"mapfn": raising(KeyboardInterrupt())},
        errors.MapError,
        ["mapfn raised KeyboardInterrupt() for record key="],
    ),
    "an exception that is no Exception": (
        {"mapfn": raising(asyncio.CancelledError())},
        errors.MapError,
        ["mapfn raised CancelledError() for record key="],
    ),
    "combinefn raises where there is no reducefn": (
        {"combinefn": lambda k, v: 1 / 0 if v[0] == "combined" else "combined"},
        errors.CombineError,
        ["combinefn raised ZeroDivisionError", "reduce-"],
    ),
    "breakpoint": (
        {"mapfn": lambda k, v: breakpoint()},
        errors.MapError,
        ["breakpoint() in a slot", 'engine="inline"'],
    ),
    "run in a slot": (
        {"mapfn": lambda k, v: jmr.run({}, print)},
        errors.MapError,
        ["NestedRunError('jmr.run was called inside a slot"],
    ),
    "wrong number of arguments": (
        {"mapfn": lambda k: []},
        errors.MapError,
        ["takes 1 positional argument but 2 were given"],
    ),
    "source is an int": ({"source": 5}, errors.SourceError, ["source is 5 (int), which cannot be iterated"]),
    "source is a str": ({"source": "abc"}, errors.SourceError, ["source is 'abc' (str)", "enumerate"]),
    "source yields no pairs": ({"source": [1, 2]}, errors.SourceError, ["source yielded 1 (int) as record number 0"]),
    "source yields triples": (
        {"source": [(1, 2, 3)]},
        errors.SourceError,
        ["source yielded (1, 2, 3) (tuple) as record number 0", "number the rows: enumerate(rows)"],
    ),
    "mapfn is no function": ({"mapfn": 5}, TypeError, ["mapfn must be a function of (key, value)", "got 5 (int)"]),
    "reducefn is no function": (
        {"reducefn": "sum"},
        TypeError,
        ["reducefn must be a function of (key, values), or be left out"],
    ),
    "no workers": ({"workers": 0}, ValueError, ["workers=0 leaves the work to slots of other hosts", "%jmr listen"]),
    "workers is a str": ({"workers": "2"}, TypeError, ["workers must be a whole number, not '2'"]),
    "workers is True": ({"workers": True}, TypeError, ["workers must be a whole number"]),
    "n_partitions": ({"n_partitions": -1}, ValueError, ["n_partitions must be from 1"]),
    "max_attempts": ({"max_attempts": 0}, ValueError, ["max_attempts must be from 1"]),
    "on_error is an array": ({"on_error": array.array("i", [1])}, ValueError, ["on_error must be"]),
    "workers is an array": ({"workers": np.zeros(3)}, TypeError, ["workers must be a whole number"]),
    "speculate is a number": ({"speculate": 0}, TypeError, ["speculate must be True, False or None, not 0"]),
    "progress is a number": ({"progress": 1}, TypeError, ["progress must be True, False or None, not 1"]),
    "on_error": ({"on_error": "ignore"}, ValueError, ["on_error must be 'raise' or 'skip', not 'ignore'"]),
    "engine": ({"engine": "spork"}, TypeError, ['engine must be None, "inline", a jmr.Cluster']),
    "name": ({"name": 5}, TypeError, ["name must be a str"]),
    "async mapfn": ({"mapfn": async_mapfn}, TypeError, ["mapfn is an async function"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_and_the_next_job_runs(mistake: str) -> None:
    options, kind, words = MISTAKES[mistake]
    with pytest.raises(kind) as caught:
        run(**options)
    for word in words:
        assert word in str(caught.value)


class InSlotsOnly:
    """Unpickles everywhere but in the process that makes it."""

    def __init__(self, home: int) -> None:
        self.home = home

    def __reduce__(self) -> Any:
        return arrived, (self.home,)


def arrived(home: int) -> InSlotsOnly:
    if os.getpid() == home:
        raise TypeError("not at home")
    return InSlotsOnly(home)


def test_a_result_that_does_not_unpickle_here_is_told() -> None:
    home = os.getpid()
    with pytest.raises(errors.NotPicklableError, match="cannot be unpickled here: TypeError: not at home"):
        run(reducefn=lambda key, values: InSlotsOnly(home))


def test_a_bad_record_that_does_not_unpickle_here_costs_only_itself() -> None:
    def mapfn(key: int, value: Any) -> Any:
        if key == 1:
            raise ValueError("odd")
        return [(key, 0)]

    result = run(mapfn=mapfn, source=[(0, 0), (1, InSlotsOnly(os.getpid())), (2, 0)], on_error="skip")
    assert result == {0: [0], 2: [0]}
    assert [(bad.key, bad.value, str(bad.error)) for bad in result.errors] == [("1", None, "odd")]


@pytest.mark.parametrize("engine", [None, "inline"])
def test_what_is_refused_is_set_aside_with_the_error_that_would_end_the_job(engine: Any) -> None:
    result = run(mapfn=lambda key, value: key, source={1: 2}, engine=engine, on_error="skip")
    (bad,) = result.errors
    with pytest.raises(errors.MapError) as caught:
        run(mapfn=lambda key, value: key, source={1: 2}, engine=engine)
    assert type(bad.error) is errors.MapError
    assert str(bad.error) == str(caught.value).partition("\n")[0]
    assert bad.traceback == f"jmr.errors.MapError: {bad.error}\n"


@pytest.mark.parametrize("engine", [None, "inline"])
def test_a_generator_is_no_combined_value_without_a_reducefn_either(engine: Any) -> None:
    with pytest.raises(errors.CombineError, match="write return, not yield"):
        run(combinefn=no_key_one_yet, engine=engine)


def test_the_way_into_a_debugger_is_told_where_there_is_one() -> None:
    with pytest.raises(errors.MapError) as caught:
        run(mapfn=odd_duck)
    told = "\nTo step through it: catch this error, and call its replay(), under python -m pdb."
    assert str(caught.value).endswith(told)
    with pytest.raises(errors.MapError) as caught:
        run(mapfn=odd_duck, engine="inline")
    assert str(caught.value).endswith("(inline).\nTo step through it: python -m pdb.")
    with pytest.raises(errors.MapError) as caught:
        run(mapfn=lambda key, value: jmr.run({}, print))
    assert "step through" not in str(caught.value), "inline, it works"


def test_a_captured_file_is_refused_by_name() -> None:
    with open(PASSWD) as file, pytest.raises(errors.NotPicklableError, match=r"mapfn -> file cannot be sent"):
        run(mapfn=lambda key, value: [(key, file)])


def test_the_path_to_what_cannot_travel_goes_through_helpers() -> None:
    lock = threading.Lock()

    def helper() -> Any:
        return {"a": [lock]}

    with pytest.raises(errors.NotPicklableError, match=r"^mapfn -> helper -> lock cannot"):
        run(mapfn=lambda key, value: helper())


@pytest.mark.parametrize("engine", [None, "inline"])
def test_the_sources_own_exception_comes_out(engine: Any) -> None:
    def half() -> Iterator[tuple[int, int]]:
        yield 1, 2
        raise OSError("the tape broke")

    with pytest.raises(OSError, match=r"^the tape broke$") as caught:
        run(source=half(), engine=engine)
    assert [frame.name for frame in traceback.extract_tb(caught.tb)][-1] == "half"


def test_a_lazy_mappings_stop_iteration_loses_no_records() -> None:
    class Lazy:
        def __iter__(self) -> Iterator[int]:
            return iter([1, 2, 3])

        def __getitem__(self, key: int) -> int:
            return next(iter([]))

    with pytest.raises(errors.SourceError, match=r"source\[1\] raised StopIteration"):
        run(source=Lazy())


@pytest.mark.parametrize("engine", [None, "inline"])
def test_the_traceback_ends_in_the_users_frames(engine: Any) -> None:
    def helper(value: int) -> float:
        return 1 / value

    with pytest.raises(errors.MapError) as caught:
        run(mapfn=lambda key, value: [(key, helper(value))], source={"zero": 0}, engine=engine)
    frames = traceback.extract_tb(caught.tb)
    assert [frame.name for frame in frames][-2:] == ["<lambda>", "helper"]
    assert frames[-1].line == "return 1 / value"
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    ours = [frame for frame in frames if Path(jmr.__file__).parent in Path(frame.filename).parents]
    assert {frame.name for frame in ours} <= {"run", "run_with_notes"}


def test_a_chain_of_exceptions_is_kept() -> None:
    def mapfn(key: int, value: int) -> Any:
        try:
            return {}[key]
        except KeyError as error:
            raise ValueError("no such thing") from error

    with pytest.raises(errors.MapError) as caught:
        run(mapfn=mapfn, source={1: 1})
    cause = caught.value.__cause__
    assert isinstance(cause, ValueError)
    assert isinstance(cause.__cause__, KeyError)


@pytest.mark.parametrize("engine", [None, "inline"])
def test_skip_sets_bad_records_aside_whole(engine: Any) -> None:
    def mapfn(key: int, value: int) -> Iterator[tuple[str, int]]:
        yield "all", value
        if key in (3, 7):
            raise ValueError(f"odd {key}")

    result = run(mapfn=mapfn, reducefn=lambda key, values: values, on_error="skip", engine=engine)
    assert result == {"all": [i for i in range(20) if i not in (3, 7)]}
    assert [(bad.phase, bad.key, bad.value, str(bad.error)) for bad in result.errors] == [
        ("map", 3, 3, "odd 3"),
        ("map", 7, 7, "odd 7"),
    ]
    assert result.errors.n_total == 2
    assert 'raise ValueError(f"odd {key}")' in result.errors[0].traceback


def test_skip_sets_records_aside_whose_keys_do_not_compare() -> None:
    def mapfn(key: int, value: int) -> Any:
        return [("all", value), (f"of {key}", value), (Incomparable(key) if key < 2 else key, value)]

    result = run(mapfn=mapfn, on_error="skip", engine="inline", source={0: 0, 1: 1, 5: 5})
    assert list(result.values()) == [[0, 5], [0], [0], [5], [5]], "nothing of record 1, nor a group for it"
    assert [(bad.key, str(bad.error)) for bad in result.errors] == [(1, "no comparison")]


@pytest.mark.parametrize("engine", [None, "inline"])
def test_skip_sets_aside_what_raised_no_exception_but_something_else(engine: Any) -> None:
    def mapfn(key: int, value: int) -> Any:
        if key == 3:
            raise Stop
        return [(key, value)]

    result = run(mapfn=mapfn, on_error="skip", engine=engine)
    assert list(result) == [i for i in range(20) if i != 3]
    assert [type(bad.error) for bad in result.errors] == [Stop]


@pytest.mark.parametrize("engine", [None, "inline"])
def test_skip_leaves_a_failing_group_out(engine: Any) -> None:
    result = run(reducefn=no_key_one, on_error="skip", engine=engine)
    assert list(result) == [0, 2]
    assert [(bad.phase, bad.key, bad.value) for bad in result.errors] == [("reduce", 1, [1, 4, 7, 10, 13, 16, 19])]
    combined = run(combinefn=no_key_one, reducefn=lambda key, values: sum(values), on_error="skip", engine=engine)
    assert combined == {0: 63, 2: 57}
    assert {(bad.phase, bad.key) for bad in combined.errors} == {("combine", 1)}


def test_skip_keeps_the_first_thousand_and_counts_the_rest() -> None:
    def mapfn(key: int, value: int) -> Any:
        raise ValueError("no")

    result = run(mapfn=mapfn, source=((i, i) for i in range(1500)), on_error="skip")
    assert result == {}
    assert len(result.errors) == 1000
    assert result.errors.n_total == 1500
    assert [bad.key for bad in result.errors] == list(range(1000))


def test_skip_sets_a_record_aside_that_kills_its_slot() -> None:
    result = run(mapfn=lambda key, value: os._exit(3) if key == 5 else [(key, value)], on_error="skip")
    assert list(result) == [i for i in range(20) if i != 5]
    assert [(bad.phase, bad.key, type(bad.error)) for bad in result.errors] == [("map", 5, errors.SlotDiedError)]


def test_skip_sets_a_record_aside_that_emits_what_does_not_pickle() -> None:
    result = run(mapfn=lambda key, value: [(key, LOCK_MAKER() if key == 3 else value)], on_error="skip")
    assert list(result) == [i for i in range(20) if i != 3]
    assert [bad.key for bad in result.errors] == [3]


def LOCK_MAKER() -> Any:
    return threading.Lock()


@pytest.mark.parametrize(
    "kind", [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, BaseException)]
)
def test_every_exception_survives_pickling(kind: type[BaseException]) -> None:
    error = pickle.loads(pickle.dumps(kind("what, where, what to do")))
    assert type(error) is kind
    assert str(error) == "what, where, what to do"


def test_a_combined_value_that_does_not_pickle_is_set_aside() -> None:
    def combinefn(key: int, values: list[int]) -> Any:
        return threading.Lock() if key == 1 else sum(values)

    options = {"combinefn": combinefn, "reducefn": lambda key, values: sum(values)}
    result = run(on_error="skip", **options)
    assert result == {0: 63, 2: 57}
    assert {(bad.phase, bad.key) for bad in result.errors} == {("combine", 1)}
    with pytest.raises(
        errors.NotPicklableError,
        match="returned a value for key 1 that cannot be sent on: value is <unlocked",
    ):
        run(**options)


def test_an_exception_with_odd_notes_is_told() -> None:
    def mapfn(key: int, value: int) -> Any:
        error = ValueError("hm")
        error.__notes__ = None  # type: ignore[assignment]
        raise error

    with pytest.raises(errors.MapError, match=r"mapfn raised ValueError\('hm'\)"):
        run(mapfn=mapfn)


def test_a_call_that_cannot_be_is_explained() -> None:
    with pytest.raises(errors.ReduceError, match=r"reducefn is called as reducefn\(key, values\)"):
        run(reducefn=sum)


def test_a_failing_final_keeps_the_result() -> None:
    with pytest.raises(errors.FinalError, match=r"its dict is this exception's \.result") as caught:
        run(reducefn=lambda key, values: sum(values), final=no_key_one)
    assert caught.value.result == {0: 63, 1: 70, 2: 57}
