"""The print of a split: the same for the same values, another one for others, in whichever process."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import enum
import gc
import math
import struct
import sys
import threading
import uuid
import weakref
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jmr.checkpoint import printing
from jmr.checkpoint.fingerprints import Met, RecordsPrint, print_of_records
from jmr.codec.values import dump, load
from jmr.errors import NotPicklableError


class Color(enum.Enum):
    RED = 1
    BLUE = 2


@dataclasses.dataclass
class Point:
    x: Any
    y: Any = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    x: Any


class Text(str):
    """A str of its own."""


class Number(int):
    """An int of its own."""


class Bag(set):
    """A set with a name."""

    def __init__(self, items=(), name=""):
        super().__init__(items)
        self.name = name


class Node:
    """A part of a list, a tree, a graph."""

    def __init__(self, name=None):
        self.name, self.others = name, []


class Pair(NamedTuple):
    """A tuple by name."""

    a: Any
    b: Any


class Other(NamedTuple):
    """Another one."""

    a: Any
    b: Any


CLASSES = Met()


def print_of(*values):
    records = RecordsPrint(CLASSES)
    records.add([0] * len(values), list(values))
    return records.hexdigest()


def carried(value):
    return load(bytearray(b"".join(dump(value))))


def nan(payload):
    return struct.unpack("<d", struct.pack("<Q", 0x7FF8_0000_0000_0000 + payload))[0]


def shared(times):
    text = "".join(["du", "ck"])
    return [text] * times if times else ["duck", "".join(["d", "uck"])]


def linked(length, end):
    node = end
    for _ in range(length):
        node = [node, Place(1)]
    return node


def family(name="child"):
    parent, child = Node("parent"), Node(name)
    parent.others.append(child)
    child.others.append(parent)
    return parent


def frame(**columns):
    return pd.DataFrame(columns or {"a": [1, 2], "b": ["x", None]})


SAME = {
    "text that is one object, or two": (["duck", "duck"], shared(2)),
    "text that is interned, or not": ("duck", shared(0)[1]),
    "a list that is in it twice, or two lists": ([[1], [1]], [[1]] * 2),
    "an object that is in it twice, or two objects": ([Place(1), Place(1)], [Place(1)] * 2),
    "an array that is in it twice, or two arrays": ([np.ones(3), np.ones(3)], [np.ones(3)] * 2),
    "a set that grew in another order": ({8, 16, 0}, {0, 16, 8}),
    "a frozenset of mixed kinds": (frozenset(["a", 1, None, (2, "b")]), frozenset([(2, "b"), None, 1, "a"])),
    "a set of objects": ({Place(1), Place("a")}, {Place("a"), Place(1)}),
    "a kind of set that grew in another order": (Bag([8, 16, 0], "x"), Bag([0, 16, 8], "x")),
    "an array in Fortran's order": (np.arange(6).reshape(2, 3), np.asfortranarray(np.arange(6).reshape(2, 3))),
    "an array that is a part of another": (np.arange(0, 10, 2), np.array([0, 2, 4, 6, 8])),
    "a large array in Fortran's order": (np.ones((1500, 1000)), np.ones((1500, 1000), order="F")),
    "an array of objects": (np.array(["a", None, 2], object), np.array(["".join("a"), None, 2], object)),
    "NaN with the same payload": (nan(7), nan(7)),
    "a frame and its copy": (frame(), frame().copy()),
    "a cycle and its copy": (family(), family()),
    "a dict whose key was deleted and came back": ({"a": 1, "b": 2}, {"x": 0, "a": 1, "b": 2, "c": 3}),
}
SAME["a dict whose key was deleted and came back"][1].pop("x")
SAME["a dict whose key was deleted and came back"][1].pop("c")

#: Each of them prints as no other one does.
DIFFERENT = {
    "numbers": [1, 1.0, True, 1 + 0j, Decimal(1), Fraction(1), Number(1), np.int64(1), np.int32(1), np.float64(1)],
    "zeros": [0, 0.0, -0.0, False, None, complex(0.0, 0.0), complex(0.0, -0.0), Decimal("-0"), Decimal("0.0")],
    "numbers that look alike as bytes": [2**31, -(2**31), 2**31 - 1, 2**63, 2**64, -1, 2**15, 255, 256],
    "NaNs": [math.nan, nan(1), nan(2), -math.nan, np.float32("nan"), Decimal("nan")],
    "text": ["", "a", "ab", "\ud800", "\udfff", "ä", "a\u0308", "\0", b"", b"a", bytearray(b"a"), Text("a"), "None"],
    "containers": [(), [], {}, set(), frozenset(), [[]], [()], ((),), deque(), OrderedDict(), Counter(), Bag()],
    "nesting": [[1, 2, 3], [[1], 2, 3], [[1, 2], 3], [1, [2, 3]], [[1, 2, 3]], [1, 2, [3]], [1, 2], [1, 2, 3, 3]],
    "dicts": [{"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 2, "b": 1}, {"a": 1}, {"a": "b"}, [("a", 1), ("b", 2)]],
    "sets": [{1, 2}, {1}, {"1", "2"}, {1.0, 2.0}, {(1, 2)}, [1, 2], frozenset({1, 2}), {1, 2, None}, Bag([1, 2])],
    "kinds of sets": [Bag([1], "a"), Bag([1], "b"), Bag([2], "a")],
    "tuples by name": [Pair(1, 2), Other(1, 2), (1, 2), Pair(2, 1)],
    "objects": [Point(1), Point(1.0), Point(1, 1), Place(1), Place(2), Node(1), Point(Place(1)), Point([1]), {"x": 1}],
    "enums": [Color.RED, Color.BLUE, 1, Color],
    "sharing that leads back": [family(), family("other"), Node("parent")],
    "deques": [deque([1]), deque([1], 2), deque([1], 3), deque([2]), deque([1, 1])],
    "dicts with defaults": [defaultdict(list), defaultdict(set), defaultdict(), defaultdict(list, a=[])],
    "times": [
        datetime.date(2026, 1, 1),
        datetime.datetime(2026, 1, 1),
        datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
        datetime.datetime(2026, 1, 1, fold=1),
        datetime.timedelta(1),
        np.datetime64("2026-01-01"),
        np.datetime64("2026-01-01", "s"),
        pd.Timestamp("2026-01-01"),
    ],
    "arrays": [
        np.array([1, 0]),
        np.array([1, 0], np.int32),
        np.array([1, 0], ">i8"),
        np.array([0, 1]),
        np.array([[1, 0]]),
        np.array([[1], [0]]),
        np.array([1, 0], object),
        np.array([True, False]),
        np.array(["1", "0"]),
        np.array([(1, 0)], [("a", int), ("b", int)]),
        np.array([(1, 0)], [("b", int), ("a", int)]),
        np.array(1),
        np.zeros(0),
        np.zeros((0, 2)),
        np.zeros((2, 0)),
        np.ma.array([1, 0], mask=[True, False]),
        np.rec.array([(1, 0)], [("a", int), ("b", int)]),
        [1, 0],
    ],
    "arrays' order": [np.arange(6).reshape(2, 3), np.arange(6).reshape(3, 2), np.arange(6).reshape(2, 3).T],
    "frames": [
        frame(),
        frame(a=[1, 3], b=["x", None]),
        frame(a=[1.0, 2.0], b=["x", None]),
        frame(b=["x", None], a=[1, 2]),
        frame(a=[1, 2], c=["x", None]),
        frame().set_index("a"),
        frame()["a"],
        frame()["a"].astype("category"),
    ],
    "functions and classes": [len, sum, str.upper, "a".upper, "b".upper, math.sin, np.add, np.multiply, int, Point],
    "others": [range(3), range(4), slice(3), ..., NotImplemented, PurePosixPath("a"), PurePosixPath("b")],
    "ids": [uuid.UUID(int=1), uuid.UUID(int=2)],
    "large text": ["a" * (5 << 20), "a" * (5 << 20) + "b", b"a" * (5 << 20), bytearray(b"a" * (5 << 20))],
}


@pytest.mark.parametrize(("a", "b"), SAME.values(), ids=SAME)
def test_equal_values_have_the_same_print(a, b):
    assert print_of(a) == print_of(b)


@pytest.mark.parametrize("values", DIFFERENT.values(), ids=DIFFERENT)
def test_different_values_have_different_prints(values):
    assert len({print_of(value) for value in values}) == len(values)
    assert len({print_of_records([value], [0]) for value in values}) == len(values), "as keys"
    assert len({print_of([None, value]) for value in values}) == len(values), "inside of something"


def kind_of(value):
    return type(value).__name__


@pytest.mark.parametrize("value", [value for values in DIFFERENT.values() for value in values[:5]], ids=kind_of)
def test_a_copy_has_the_print_of_what_it_was_copied_from(value):
    assert print_of(copy.deepcopy(value)) == print_of(value)
    if not isinstance(value, np.ma.MaskedArray):  # it comes back with a fill value
        assert print_of(carried(value)) == print_of(value)


def test_keys_and_values_do_not_change_places():
    prints = {
        print_of_records([1, 2], [3, 4]),
        print_of_records([3, 4], [1, 2]),
        print_of_records([1, 3], [2, 4]),
        print_of_records([2, 1], [4, 3]),
        print_of_records([1, 2], [4, 3]),
        print_of_records([1], [3]),
        print_of_records([], []),
    }
    assert len(prints) == 7


def test_a_field_s_gaps_do_not_count():
    apart = np.dtype({"names": ["a", "b"], "formats": ["i1", "i8"], "offsets": [0, 8]})
    memories = bytearray(16), bytearray(b"gap!" * 4)
    one, other = (np.frombuffer(memory, apart) for memory in memories)
    for array in (one, other):
        array["a"], array["b"] = 1, 2
    assert memories[0] != memories[1]
    assert print_of(one) == print_of(other)


ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    st.text(st.characters(), max_size=6),
    st.binary(max_size=6),
    st.decimals(),
    st.datetimes(),
    st.sampled_from([Color.RED, Place(1), range(3), np.float64(2), np.arange(3), Text("t"), Pair(1, "b")]),
)
VALUES = st.recursive(
    ATOMS,
    lambda parts: st.one_of(
        st.lists(parts, max_size=4),
        st.lists(parts, max_size=4).map(tuple),
        st.dictionaries(st.one_of(st.integers(), st.text(max_size=3)), parts, max_size=4),
        st.builds(Point, parts, parts),
        st.sets(st.one_of(st.integers(), st.text(max_size=3), st.none()), max_size=5),
    ),
    max_leaves=12,
)
COLUMNS = st.lists(VALUES, max_size=8)


@pytest.mark.slow
@settings(deadline=None)
@given(VALUES)
def test_any_value_prints_as_its_copies_do(value):
    assert print_of(value) == print_of(copy.deepcopy(value)) == print_of(carried(value))


@pytest.mark.slow
@settings(deadline=None)
@given(COLUMNS, st.data())
def test_batches_do_not_matter(values, data):
    records = RecordsPrint(CLASSES)
    left = list(enumerate(values))
    while left:
        n = data.draw(st.integers(1, len(left)))
        some, left = left[:n], left[n:]
        records.add([key for key, _ in some], [value for _, value in some])
    whole = RecordsPrint(CLASSES)
    whole.add(list(range(len(values))), values)
    assert records.hexdigest() == whole.hexdigest()


@pytest.mark.slow
@settings(deadline=None)
@given(COLUMNS)
def test_known_types_do_not_matter(values):
    records = RecordsPrint(CLASSES)
    records.add([0] * len(values), values, ({int}, {*map(type, values), str, list}))
    assert records.hexdigest() == print_of(*values)


@pytest.mark.slow
@settings(deadline=None)
@given(COLUMNS)
def test_what_is_simple_is_written_as_what_is_not(values):
    """Items are written together or one by one, and objects at once or in a visit: that must not be seen."""
    expected = print_of(*values)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(printing.Printer, "_as_leaf", lambda *_: None)
        assert print_of(*values) == expected
        patch.setattr(printing, "_AT_ONCE", 1)
        assert print_of(*values) == expected
        patch.setattr(printing, "_MOST_KNOWN", 0)
        assert print_of(*values) == expected


def told(value: Any) -> Any:
    """All that counts of a value, as something that can be compared."""
    match value:
        case float():
            return type(value), struct.pack("<d", value)
        case Point():
            return Point, told(value.x), told(value.y)
        case np.ndarray():
            return np.ndarray, value.tolist()
        case Pair():
            return Pair, *value
        case list() | tuple():
            return type(value), [told(item) for item in value]
        case dict():
            return dict, [(told(key), told(item)) for key, item in value.items()]
        case set():
            return set, sorted(map(repr, value))
        case _:
            return type(value), repr(value)


@pytest.mark.slow
@settings(deadline=None)
@given(st.lists(VALUES, min_size=2, max_size=6))
def test_two_values_have_the_same_print_only_if_they_are_the_same(values):
    prints, all_told = [print_of(value) for value in values], [told(value) for value in values]
    for a in range(len(values)):
        for b in range(a):
            assert (prints[a] == prints[b]) == (all_told[a] == all_told[b])


def test_a_value_that_was_changed_between_two_batches_is_looked_at_again():
    buffer = [Place(1), [0]]
    twice = RecordsPrint()
    for number in (1, 2):
        buffer[0], buffer[1][0] = Place(number), number
        twice.add([0], [buffer])
    assert twice.hexdigest() == print_of([Place(1), [1]], [Place(2), [2]])


def test_what_is_added_later_counts():
    records = RecordsPrint()
    records.add([0], [1])
    before = records.hexdigest()
    assert before == records.hexdigest() == print_of(1)
    records.add([0], [2])
    assert records.hexdigest() == print_of(1, 2)


def test_one_object_in_a_thousand_records_is_looked_at_once():
    looked = []

    class Watched:
        def __reduce__(self):
            looked.append(1)
            return list, ()

    print_of(*[Watched()] * 3000)
    assert len(looked) == 1


@pytest.mark.slow
def test_a_list_that_is_linked_more_often_than_python_calls_itself_has_a_print():
    depth = 4 * sys.getrecursionlimit()
    assert print_of(linked(depth, 1)) == print_of(linked(depth, 1)) != print_of(linked(depth, 2))


@pytest.mark.slow
def test_what_is_shared_at_each_of_sixty_levels_has_a_print():
    """As a tree it would have 2**60 leaves."""
    plain, objects = [1], Point(1)
    for _ in range(60):
        plain, objects = [plain, plain], Point(objects, objects)
    assert print_of(plain) != print_of(objects) == print_of(copy.deepcopy(objects))


def test_a_graph_in_which_all_lead_to_all_has_a_print():
    def graph(name):
        nodes = [Node(number) for number in range(60)]
        for node in nodes:
            node.others = nodes[:]
        nodes[30].name = name
        return nodes[0]

    assert print_of(graph("a")) == print_of(graph("a")) != print_of(graph("b"))


def test_to_which_of_two_a_node_leads_back_counts():
    """Both have a child of the same look, and a third leads to one of these."""

    def tree(chosen):
        root = Node("root")
        for name in ("left", "right"):
            parent, child = Node(name), Node("child")
            parent.others, child.others = [child, root], [parent]
            root.others.append(parent)
        last = Node("last")
        last.others = [root.others[chosen].others[0], root]
        root.others.append(last)
        return root

    assert print_of(tree(0)) == print_of(tree(0)) != print_of(tree(1)) == print_of(copy.deepcopy(tree(1)))


def test_a_list_that_holds_itself_has_a_print():
    inner, outer = [], []
    inner.append(inner)
    outer.append([outer])
    assert len({print_of(inner), print_of(outer), print_of([])}) == 3
    assert print_of(inner) == print_of(copy.deepcopy(inner))


def test_records_with_a_cycle_print_alike_in_one_batch_and_in_two():
    parent = family()
    values = [parent, parent.others[0], [parent, parent.others[0]]]
    apart = RecordsPrint()
    for value in values:
        apart.add([0], [value])
    assert apart.hexdigest() == print_of(*values)


def test_a_method_of_a_record_s_class_counts():
    """Mapfn may call it, and does not name it."""

    def shape(factor):
        namespace = {"__name__": "__main__"}
        exec(f"class Shape:\n    def area(self): return {factor}", namespace)
        return namespace["Shape"]()

    assert print_of(shape(2)) == print_of(shape(2)) != print_of(shape(3))


def test_what_has_no_print_is_named_with_its_record():
    with pytest.raises(NotPicklableError, match=r"record key='b' -> \[1\] -> \[0\]") as caught:
        print_of_records(["a", "b"], [[1], [threading.Lock()]])
    assert "lock" in str(caught.value)


def test_functions_of_records_are_not_held_for_ever(monkeypatch):
    monkeypatch.setattr("jmr.checkpoint.fingerprints._MOST_FUNCTIONS", 10)

    class Shared:
        pass

    def made(number):
        def function():
            return Shared, number

        return function

    met = Met()
    functions = [made(number) for number in range(30)]
    held = weakref.ref(functions[0])
    prints = set()
    for function in functions:
        records = RecordsPrint(met)
        records.add([1], [function])
        prints.add(records.hexdigest())
    assert len(prints) == 30
    del functions, function, records
    gc.collect()
    assert held() is None
    assert met.classes == [Shared]
