import datetime as dt
import enum
import os
import pathlib
import pickle
import subprocess
import sys
import textwrap
import threading
import uuid
import zoneinfo
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from itertools import chain
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmr.tasks.partition import Groups, IdentityKeyError, place, split_by_partition

NAN = float("nan")


class Pair(NamedTuple):
    left: object
    right: object


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Level(enum.IntEnum):
    ONE = 1


class Bits(enum.IntFlag):
    ONE = 1
    TWO = 2


class Animal(enum.StrEnum):
    DUCK = "duck"


class Mixed(str, enum.Enum):  # noqa: UP042 - people have them
    DUCK = "duck"


class Half(float, enum.Enum):
    IT = 0.5


class Handled(enum.Enum):
    """An Enum with a hash of its own: its members are equal by identity all the same."""

    A = 1

    def __hash__(self):
        return 1


@dataclass(frozen=True)
class Point:
    x: float
    y: float = 0.0
    note: str = field(default="", compare=False)
    extra: list = field(default_factory=list, hash=False)


@dataclass(frozen=True)
class Point3(Point):
    z: float = 0.0


@dataclass(frozen=True, eq=False)
class ColouredPoint(Point):
    """Equal by the fields of Point alone."""

    colour: int = 0


class NamedPoint(Point):
    """No dataclass itself: has the methods of Point."""


@dataclass(frozen=True, eq=False)
class IdentityRecord:
    x: int


@dataclass(unsafe_hash=True)
class Tagged:
    tag: str


@dataclass(frozen=True)
class OwnHash:
    x: int

    def __hash__(self):
        return 1


@dataclass(frozen=True)
class OwnEq:
    x: int

    def __eq__(self, other):
        return isinstance(other, OwnEq) and self.x % 2 == other.x % 2

    def __hash__(self):
        return self.x % 2


class Text(str):
    __slots__ = ()


class CaseBlind(str):
    __slots__ = ()

    def __eq__(self, other):
        return self.lower() == str(other).lower()

    def __hash__(self):
        return hash(self.lower())


class Plain:
    pass


class HashOnly:
    """Equal by identity, for all its hash."""

    def __hash__(self):
        return 1


class Singleton:
    _it = None

    def __new__(cls):
        cls._it = cls._it or super().__new__(cls)
        return cls._it


def shout(text):
    return text.upper()


def same_place(*keys):
    places = {place(key) for key in keys}
    return len(places) == 1 and None not in places


def regrouped(keys):
    """The groups of these keys as a reduce task finds them: each key unpickled by itself."""
    groups = Groups()
    for position, key in enumerate(keys):
        groups[pickle.loads(pickle.dumps(key))].append(position)
    return list(groups.values())


# Equal keys


def test_equal_numbers_of_all_types_share_a_place():
    assert same_place(1, 1.0, True, 1 + 0j, Decimal(1), Decimal("1.00"), Fraction(1), Level.ONE, Bits.ONE)
    assert same_place(0.5, Decimal("0.5"), Fraction(1, 2), Half.IT)
    assert same_place(0, 0.0, -0.0, False, Decimal("-0"))
    assert same_place(2**100, float(2**100), Decimal(2**100))
    assert same_place(float("inf"), Decimal("Infinity"))


def test_equal_texts_of_all_types_share_a_place():
    assert same_place("duck", Text("duck"), Animal.DUCK, Mixed.DUCK)
    assert place("\ud800") is not None
    assert place("\ud800") != place("\ud801")


def test_tuples_go_by_their_elements_in_order():
    assert same_place((1, "a"), (1.0, Text("a")), Pair(True, "a"))
    assert place((1, 2)) != place((2, 1))
    assert place(()) is not None


def test_frozensets_have_no_order():
    assert same_place(frozenset([8, 0, 16]), frozenset([16, 8.0, False]))
    assert place(frozenset([1])) != place(frozenset([1, 2]))


def numbers_equal_to(number):
    made = [number, float(number), complex(number), Decimal(number), Fraction(number)]
    return st.sampled_from([m for m in made if m == number] + [bool(number)] * (number in (0, 1)))


texts = st.text(st.characters(), max_size=5)
atoms = st.one_of(
    st.integers(-(2**70), 2**70), st.integers(-2, 2), st.floats(allow_nan=False, allow_infinity=False), texts, st.none()
)
nested = st.recursive(atoms, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=6)


def twin(draw, key):
    """A key equal to this one, of other types where there are such."""
    if isinstance(key, tuple):
        elements = [twin(draw, element) for element in key]
        return Pair(*elements) if draw(st.booleans()) else tuple(elements)
    if isinstance(key, frozenset):
        return frozenset(twin(draw, element) for element in draw(st.permutations(sorted(key, key=repr))))
    if isinstance(key, str):
        return draw(st.sampled_from([key, Text(key), CaseBlind(key) if key == key.lower() else key]))
    if isinstance(key, float):
        return draw(st.sampled_from([key, Fraction(key), Decimal(key)]))
    if isinstance(key, int):
        return draw(st.sampled_from([key]) if abs(key) > 2**60 else numbers_equal_to(key))
    return key


@pytest.mark.slow
@given(st.data(), nested)
def test_what_is_equal_shares_a_place_or_has_none(data, key):
    other = twin(data.draw, key)
    assert key == other
    assert place(key) == place(other) or None in (place(key), place(other))
    assert place(pickle.loads(pickle.dumps(key))) == place(key)


@pytest.mark.slow
@given(st.lists(nested | st.sampled_from([Point(1), Point(1.0, note="x"), Level.ONE, Animal.DUCK, Colour.RED])))
def test_any_two_keys_that_meet_in_a_dict_meet_in_a_partition(keys):
    by_key = {}
    for key in keys:
        assert by_key.setdefault(key, place(key)) == place(key)


def test_a_place_is_64_bits_and_never_negative():
    for key in (-1, 2**200, -0.5, "a", b"a", (), (-1,), frozenset(), None, Colour.RED, Point(1), dt.date.min):
        assert 0 <= place(key) < 2**64


# Types


def test_enum_members_go_by_name_and_flags_by_value():
    assert place(Colour.RED) is not None
    assert place(Colour.RED) != place(Colour.BLUE)
    assert place(Access.READ | Access.WRITE) != place(Access.READ)
    assert same_place(Access.READ | Access.WRITE, Access(3))
    assert place(Handled.A) is not None


def test_dataclasses_go_by_class_and_by_the_fields_they_compare():
    assert same_place(Point(1), Point(1.0, note="x"), Point(True, extra=[1]))
    assert place(Point(1)) != place(Point(2))
    assert place(Point(1)) != place(Point3(1))
    assert same_place(NamedPoint(1), NamedPoint(1, note="x"))
    assert same_place(Tagged("a"), Tagged(Text("a")))


def test_a_subclass_that_adds_fields_without_comparing_them_is_placed_by_what_it_compares():
    one, two = ColouredPoint(1, colour=1), ColouredPoint(1, colour=2)
    assert one == two
    assert same_place(one, two)


def test_dataclasses_with_methods_written_by_hand_have_no_place():
    assert place(OwnHash(1)) is None
    assert place(OwnEq(1)) is None


def test_methods_written_by_hand_in_text_that_was_compiled_are_not_taken_for_generated():
    namespace = {"dataclass": dataclass, "__name__": __name__}
    text = """
        @dataclass
        class Odd:
            x: int
            def __eq__(self, other): return True
            def __hash__(self): return 1
    """
    exec(compile(textwrap.dedent(text), "<string>", "exec"), namespace)
    assert place(namespace["Odd"](1)) is None


def test_datetimes_go_by_their_instant():
    utc, paris = dt.UTC, zoneinfo.ZoneInfo("Europe/Paris")
    assert same_place(dt.datetime(2024, 6, 1, 12, tzinfo=utc), dt.datetime(2024, 6, 1, 14, tzinfo=paris))
    late, early = dt.datetime(2024, 10, 27, 2, 30, tzinfo=paris), dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=paris)
    assert late == early
    assert same_place(late, early)
    for extreme in (dt.datetime.min, dt.datetime.max):
        assert place(extreme) is not None
        assert place(extreme.replace(tzinfo=dt.timezone(dt.timedelta(hours=14)))) is not None
    assert place(dt.datetime(2024, 1, 1)) != place(dt.datetime(2024, 1, 1, 0, 0, 0, 1))


def test_other_times_have_places_and_aware_times_of_day_have_none():
    assert place(dt.date(2024, 1, 1)) != place(dt.date(2024, 1, 2))
    assert same_place(dt.timedelta(hours=24), dt.timedelta(days=1))
    assert same_place(dt.time(1, 2), dt.time(1, 2, fold=1))
    assert place(dt.time(1, 2, tzinfo=dt.UTC)) is None


def test_uuids_and_posix_paths_have_places():
    assert same_place(uuid.UUID(int=7), uuid.UUID(int=7))
    assert same_place(pathlib.PurePosixPath("a/b"), pathlib.PurePosixPath("a//b/."))
    assert place(pathlib.PureWindowsPath("a")) is None
    if os.name == "posix":
        assert pathlib.Path("a") == pathlib.PurePosixPath("a")
        assert same_place(pathlib.Path("a"), pathlib.PurePosixPath("a"))


def test_singletons_classes_and_functions_go_by_name():
    assert len({place(key) for key in (None, ..., NotImplemented, int, Plain, Colour, shout, len, dict.fromkeys)}) == 9


def test_types_with_an_equality_of_their_own_have_no_place_at_any_depth():
    class LaterDate(dt.date):
        pass

    for key in (CaseBlind("A"), range(3), LaterDate(2024, 1, 1), list[int]):
        for nested_key in (key, (1, key), frozenset([key]), Point(key), ((key,), 1)):
            assert place(nested_key) is None


def test_numpy_scalars_share_places_with_the_plain_values_they_equal():
    np = pytest.importorskip("numpy")
    assert same_place(1, np.int8(1), np.uint64(1), np.float32(1), np.longdouble(1), np.complex64(1), np.bool_(True))
    assert same_place(2**63, np.uint64(2**63), np.float64(2**63))
    assert same_place("a", np.str_("a"))
    assert same_place(b"a", np.bytes_(b"a"))
    assert same_place((1, "a"), (np.int64(1), np.str_("a")))
    assert place(np.datetime64("2024")) is None
    assert place(np.timedelta64(1, "s")) is None
    assert place(np.zeros(1, dtype=[("a", int)])[0]) is None


def test_subclasses_of_numpy_scalars_are_trusted_until_they_change_their_equality():
    np = pytest.importorskip("numpy")

    class Metres(np.float64):
        pass

    class Rounded(np.float64):
        def __eq__(self, other):
            return round(self) == round(other)

        def __hash__(self):
            return hash(round(self))

    assert same_place(1.5, Metres(1.5))
    assert place(Rounded(1.5)) is None


def test_a_numpy_array_is_refused_by_python_itself():
    np = pytest.importorskip("numpy")
    with pytest.raises(TypeError, match=r"unhashable type: 'numpy\.ndarray'"):
        Groups()[np.zeros(1)]


@pytest.mark.slow
def test_places_do_not_depend_on_the_process_or_its_hash_seed():
    script = """
        import datetime, enum, pathlib, sys, uuid, zoneinfo
        from dataclasses import dataclass
        from decimal import Decimal
        from jmr.tasks.partition import place
        class Colour(enum.Enum):
            RED = 1
        @dataclass(frozen=True)
        class Point:
            x: float
        frozen = frozenset(["a", "b", ("c", None)])
        keys = [1, -1, 0.1, 2**99, 1j, Decimal("0.1"), float("nan"), "duck", "né", b"duck", None, ..., ()]
        keys += [("a", 1), frozen, ((("a",), frozen), Point(frozen)), Colour.RED, Point("a"), Colour, len]
        keys += [datetime.datetime(2024, 1, 1, tzinfo=zoneinfo.ZoneInfo("UTC")), datetime.datetime(2024, 1, 1)]
        keys += [datetime.time(1), datetime.timedelta(1), datetime.date(2024, 1, 1)]
        keys += [uuid.UUID(int=5), pathlib.PurePosixPath("a/b")]
        print([place(key) for key in keys])
    """
    answers = {
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(answers) == 1
    assert "None" not in answers.pop()


@pytest.mark.slow
def test_placing_plain_keys_imports_no_library_of_other_types():
    script = "import sys, jmr.tasks.partition as p; p.place(1), p.place('a'), p.Groups()['a', 1.5]; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"decimal", "fractions", "datetime", "uuid", "pathlib", "numpy", "dataclasses"} & set(out)


# Identity keys


class Shy:
    def __repr__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "key",
    [
        Plain(),
        object(),
        HashOnly(),
        IdentityRecord(1),
        Shy(),
        threading.Lock(),
        lambda: 1,
        "abc".upper,
        Shy().__repr__,
        Plain().__init__,
        (1, Plain()),
        (NAN, Plain()),
        frozenset([Plain()]),
        Point(Plain()),
    ],
    ids=lambda key: type(key).__name__,
)
def test_keys_with_identity_are_refused_at_their_first_pair_and_when_placed(key):
    with pytest.raises(IdentityKeyError, match=r"cannot be a key: .* Emit a str, a tuple of its values, or"):
        Groups()[key].append(1)
    with pytest.raises(IdentityKeyError):
        place(key)


def test_the_refusal_names_type_and_key_and_survives_pickling():
    with pytest.raises(IdentityKeyError) as caught:
        place(Plain())
    error = pickle.loads(pickle.dumps(caught.value))
    assert type(error) is IdentityKeyError
    assert str(error) == str(caught.value)
    assert isinstance(error, TypeError)
    assert f"a {__name__}.Plain cannot be a key: <" in str(error)


def test_a_refused_key_leaves_no_group_behind():
    groups = Groups()
    with pytest.raises(IdentityKeyError):
        groups[Plain()]
    assert groups == {}


@pytest.mark.parametrize("module", ["__main__", "__task__"])
def test_a_function_that_travels_by_value_is_refused_since_each_process_gets_a_copy(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, sys.modules[__name__])
    monkeypatch.setattr(shout, "__module__", module)
    with pytest.raises(IdentityKeyError):
        place(shout)


def test_objects_that_unpickle_as_themselves_are_keys_without_a_place():
    for key in (zoneinfo.ZoneInfo("UTC"), Singleton()):
        assert place(key) is None
        assert regrouped([key, key]) == [[0, 1]]


def test_unhashable_keys_get_pythons_own_error():
    for key in ([1], {}, Pair([1], 2), Point([1])):
        for use in (place, Groups().__getitem__):
            with pytest.raises(TypeError, match=r"unhashable type: '(list|dict)'"):
                use(key)


# NaN


@dataclass(frozen=True)
class Wrapped:
    value: object


def test_nans_of_all_types_are_one_group_and_one_place():
    np = pytest.importorskip("numpy")
    nans = [NAN, -NAN, complex(1, NAN), Decimal("nan"), np.float64("nan"), np.float32("nan"), np.complex64(NAN)]
    assert regrouped(nans) == [list(range(7))]
    assert same_place(*nans)


@pytest.mark.parametrize(
    "keys",
    [
        [(1, NAN), Pair(1.0, Decimal("nan"))],
        [((NAN, "a"), 1), ((NAN, Text("a")), True)],
        [frozenset([NAN, 1]), frozenset([1.0, NAN])],
        [Wrapped(NAN), Wrapped(float("nan"))],
        [(Wrapped((NAN,)), frozenset([(NAN, 2)])), (Wrapped((float("nan"),)), frozenset([(-NAN, 2)]))],
    ],
    ids=["tuple", "nested", "frozenset", "dataclass", "all"],
)
def test_nested_nans_meet_after_pickling(keys):
    assert regrouped([*keys, *keys]) == [[0, 1, 2, 3]]
    assert same_place(*keys)


def test_keys_that_differ_next_to_a_nan_stay_apart():
    two = frozenset([float("nan"), float("nan")])
    keys = [
        NAN,
        (NAN,),
        (NAN, 1),
        (1, NAN),
        (NAN, NAN),
        frozenset([NAN]),
        two,
        Wrapped(NAN),
        Point(NAN),
        (Wrapped(NAN),),
    ]
    assert regrouped([*keys, *keys]) == [[position, position + len(keys)] for position in range(len(keys))]


def test_a_nan_found_again_is_the_first_object_seen():
    first, second = (1, float("nan")), (1, float("nan"))
    groups = Groups()
    groups[first].append("a")
    groups[second].append("b")
    groups[first].append("c")
    assert groups == {first: ["a", "b", "c"]}
    assert next(iter(groups)) is first


def test_not_a_time_is_one_group_per_type():
    np = pytest.importorskip("numpy")
    keys = [np.datetime64("NaT", "s"), np.timedelta64("NaT", "s"), NAN]
    assert regrouped([*keys, *keys]) == [[0, 3], [1, 4], [2, 5]]


@given(st.lists(st.recursive(st.floats() | st.integers(0, 1), lambda inner: st.tuples(inner, inner), max_leaves=3)))
@pytest.mark.slow
def test_groups_are_what_a_dict_gives_where_nan_equals_itself(keys):
    expected = {}
    for position, key in enumerate(keys):
        expected.setdefault(eval(repr(key), {"nan": "NaN", "inf": float("inf")}), []).append(position)
    assert regrouped(keys) == list(expected.values())


# Groups and partitions


def test_groups_keep_the_order_of_first_appearance_and_the_first_of_equal_keys():
    groups = Groups()
    for value, key in enumerate(["b", 1, "a", 1.0, True, Text("b")]):
        groups[key].append(value)
    assert list(groups.items()) == [("b", [0, 5]), (1, [1, 3, 4]), ("a", [2])]
    assert [type(key) for key in groups] == [str, int, str]


def test_split_deals_every_position_once_in_ascending_order():
    keys = [*range(50), *map(str, range(50))]
    partitions, unstable = split_by_partition(iter(keys), 7)
    assert not unstable
    assert sorted(chain(*partitions)) == list(range(100))
    assert all(positions == sorted(positions) for positions in partitions)
    for number, positions in enumerate(partitions):
        assert {place(keys[position]) % 7 for position in positions} <= {number}


def test_unstable_keys_go_to_partition_0_and_are_reported():
    partitions, unstable = split_by_partition([range(1), range(2)], 4)
    assert partitions == [[0, 1], [], [], []]
    assert unstable


@pytest.mark.parametrize("n_partitions", [8, 12, 16, 100])
@pytest.mark.parametrize(
    "make",
    [
        lambda i: i,
        lambda i: 8 * i,
        lambda i: i << 40,
        lambda i: i / 1024,
        lambda i: float(i),
        lambda i: f"word{i}",
        lambda i: f"{8 * i:08d}",
        lambda i: b"%d" % i,
        lambda i: (i % 100, i // 100),
        lambda i: (8 * i, "a"),
        lambda i: frozenset([i, -i]),
        lambda i: dt.date.min + dt.timedelta(7 * i),
    ],
    ids="i 8i i<<40 i/1024 float word stride bytes pair tuple frozenset weeks".split(),
)
def test_no_partition_has_twice_its_share(make, n_partitions):
    partitions, _ = split_by_partition(map(make, range(10_000)), n_partitions)
    assert max(map(len, partitions)) < 2 * 10_000 / n_partitions
