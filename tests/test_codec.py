"""Objects and exceptions, there and back."""

from __future__ import annotations

import collections
import functools
import os
import sys
import threading
import traceback
import types
from typing import Any, ClassVar

import numpy as np
import pytest

from jmr.codec import values
from jmr.codec.failures import raised_from, rebuild
from jmr.codec.functions import blame, send_by_value
from jmr.codec.values import dump, dump_by_value, dump_columns, dump_groups, is_by_value, load, load_all, load_columns
from jmr.errors import RemoteError, describe


def there_and_back(obj: Any) -> Any:
    return load(bytearray(b"".join(dump(obj))))


def test_buffers_travel_aligned_and_writable() -> None:
    arrays = there_and_back(["x", np.arange(3), np.arange(5, dtype="u1"), np.arange(4.0)])[1:]
    for array in arrays:
        assert array.flags.writeable
        assert array.flags.aligned
    assert [array.tolist() for array in arrays] == [[0, 1, 2], [0, 1, 2, 3, 4], [0.0, 1.0, 2.0, 3.0]]


def test_joined_blobs_load_one_after_another() -> None:
    objects = ["a", np.arange(3.0), {"b": 1}, np.arange(2.0)]
    blob = bytearray(b"".join(b"".join(dump(obj)) for obj in objects))
    loaded = list(load_all(blob))
    assert [repr(obj) for obj in loaded] == [repr(obj) for obj in objects]
    assert all(obj.flags.aligned for obj in loaded if isinstance(obj, np.ndarray))


def test_standard_streams_travel_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert there_and_back(stream) is stream


def test_a_cached_function_that_calls_itself_travels_twice() -> None:
    namespace: dict[str, Any] = {"__name__": "__main__", "functools": functools}
    source = "@functools.lru_cache(maxsize=7)\ndef fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)"
    exec(source, namespace)
    twice = there_and_back(there_and_back(namespace["fib"]))
    assert twice(30) == 832040
    assert twice.cache_parameters()["maxsize"] == 7


@pytest.fixture
def task_module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module as a task file's: in `sys.modules`, and to be sent by value."""
    module = types.ModuleType("__task__")
    monkeypatch.setitem(sys.modules, "__task__", module)
    send_by_value(module)
    exec("import functools\nclass Duck: pass\n@functools.cache\ndef quack(n): return n", vars(module))
    return module


def test_what_a_registered_module_defines_travels_by_value(
    task_module: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = b"".join(dump([task_module.Duck(), task_module.quack]))
    monkeypatch.delitem(sys.modules, "__task__")
    duck, quack = load(blob)
    assert type(duck) is task_module.Duck
    assert quack(3) == 3
    assert is_by_value("__task__")
    assert not is_by_value("json")


def test_what_does_not_name_a_registered_module_is_pickled_plainly(
    task_module: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(obj: object) -> Any:
        raise AssertionError(f"{obj} goes the slow way")

    monkeypatch.setattr(values, "dump_by_value", refuse)
    assert there_and_back([1, "a", types.SimpleNamespace]) == [1, "a", types.SimpleNamespace]
    with pytest.raises(AssertionError, match="Duck"):
        dump(task_module.Duck())


def test_functions_by_value_keep_the_name_of_their_file() -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile("def outer():\n    return lambda: 1", "Cell In[3]", "exec"), namespace)
    outer = load(b"".join(dump_by_value(namespace["outer"])))
    assert outer.__code__.co_filename == outer().__code__.co_filename == "Cell In[3]"


def test_blame_finds_the_way_into_containers_and_instances() -> None:
    class Holder:
        def __init__(self) -> None:
            self.things = [1, {"lock": threading.Lock()}]

    culprit = blame("value", Holder())
    assert culprit is not None
    assert culprit.path == "value -> .things -> [1] -> ['lock']"
    assert blame("value", {"fine": 1}) is None


def failing(value: int) -> float:
    # The caret of the next line must point at the division, umlauts or not.
    return len("äöü") + (value / 0)


def test_a_traceback_is_rebuilt_to_the_caret() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        failing(1)
    error = caught.value
    error.add_note("a note")
    again = rebuild(there_and_back(raised_from(error)))
    assert type(again) is ZeroDivisionError
    assert traceback.format_exception(again) == traceback.format_exception(error)


def test_an_exception_that_cannot_travel_keeps_its_type_text_and_notes() -> None:
    class Local(Exception):
        def __init__(self, text: str) -> None:
            super().__init__(text, threading.Lock())

    error = Local("locked")
    error.add_note("a note")
    again = rebuild(there_and_back(raised_from(error)))
    assert type(again) is RemoteError
    assert str(again).startswith("Local('locked', <unlocked")
    assert again.__notes__ == ["a note"]


def test_a_deep_recursion_ships_its_ends() -> None:
    def deeper() -> None:
        deeper()

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(3_000)
    try:
        with pytest.raises(RecursionError) as caught:
            deeper()
    finally:
        sys.setrecursionlimit(limit)
    raised = raised_from(caught.value)
    assert len(raised.frames) == 2_000
    assert len(b"".join(dump(raised))) < 20_000


class Odd(Exception):
    """Tells what its pickle could have held."""

    seen: ClassVar[list[Any]] = []

    def __reduce__(self) -> Any:
        self.seen += [self.__traceback__, self.__cause__, self.__context__]
        return Odd, self.args


def test_no_exception_pickles_its_own_frames_and_chain_which_travel_beside_it() -> None:
    try:
        try:
            raise KeyError("first")
        except KeyError as cause:
            raise Odd("duck") from cause
    except Odd as caught:
        error = caught
    frames, cause = error.__traceback__, error.__cause__
    raised = raised_from(error)
    assert Odd.seen
    assert set(Odd.seen) == {None}
    assert (error.__traceback__, error.__cause__, error.__context__) == (frames, cause, cause)
    assert error.__suppress_context__
    back = rebuild(raised)
    assert isinstance(back, Odd)
    assert repr(back.__cause__) == "KeyError('first')"


class Loud:
    def __repr__(self) -> str:
        raise AssertionError("walked through")


class List(list[Any]):
    pass


@pytest.mark.parametrize("container", [list, tuple, List, dict, collections.Counter, collections.OrderedDict])
def test_describe_is_short_and_does_not_walk_through_containers(container: Any) -> None:
    items = [(i, i) for i in range(1000)] + [(10**6, Loud())]
    obj = container(dict(items)) if hasattr(container, "keys") else container(items)
    assert len(describe(obj)) <= 200
    assert describe(obj)


def test_describe_cuts_a_long_str() -> None:
    assert len(describe("x" * 10**6)) <= 200


def test_describe_survives_a_bad_repr() -> None:
    class Bad:
        def __repr__(self) -> str:
            raise ValueError("no")

    assert describe(Bad()).startswith("<Bad ")


COLUMNS: list[list[Any]] = [
    list(range(-50, 150)),
    [f"word{i}" for i in range(100)],
    ["same", "other"] * 100,
    [1, 1.0, True, None, "x", b"y", "\ud800"] * 20,
    [10**30, -(10**30), float("inf"), -0.0] * 30,
    [[i] for i in range(100)],
    [(i, "x") for i in range(100)],
    [b"x" * 100_000, b"y"] * 40,
    [np.arange(3), "x"] * 40,
    [collections.Counter("ab")] * 80,
]


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: repr(column[:2])[:20])
def test_columns_come_back_as_they_were(column: list[Any]) -> None:
    for n in (0, 5, len(column)):
        blob = bytearray(b"".join(dump_columns(column[:n], list(range(n)))))
        assert repr(load_columns(blob, 2)) == repr([column[:n], list(range(n))])
        lists = [column[i : i + 3] for i in range(0, n, 3)]
        blob = bytearray(b"".join(dump_groups(list(range(len(lists))), lists=lists)))
        assert repr(load_columns(blob, 2)) == repr([list(range(len(lists))), lists])


def test_columns_dumped_in_a_row_are_joined() -> None:
    pieces = dump_columns([1, 2], ["a", "b"]) + dump_columns(list(range(100)), list("x" * 100)) + dump_columns([], [])
    assert load_columns(bytearray(b"".join(pieces)), 2) == [[1, 2, *range(100)], ["a", "b", *"x" * 100]]


def test_what_a_value_shares_with_itself_is_shared_there() -> None:
    inner: list[int] = []
    pair = [inner, inner]
    ((loaded, *_),) = load_columns(bytearray(b"".join(dump_columns([pair] * 100))), 1)
    assert loaded[0] is loaded[1]
    text = "a word that is one object"
    (loaded,) = load_columns(bytearray(b"".join(dump_columns([text] * 100))), 1)
    assert len(set(map(id, loaded))) == 1, "what repeats itself is sent once"


def test_large_bytes_are_not_copied() -> None:
    large = bytes(1 << 20)
    assert any(piece is large for piece in dump([large, 1]))
    assert any(piece is large for piece in dump_columns([large] + [b"small"] * 100))
