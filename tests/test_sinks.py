"""How results lie in files: what each format holds, how it is read again, and what does not fit and why."""

from __future__ import annotations

import math
import sys
from collections import Counter, OrderedDict
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jmr
from jmr.sinks.base import PartError
from jmr.sinks.lines import Lines
from jmr.sinks.manifest import Listed, Manifest
from jmr.sinks.parquet import Parquet

NOON = datetime(2020, 1, 1, 12)


class Point(NamedTuple):
    x: int
    y: str


class Colour(Enum):
    RED = 1


class Size(IntEnum):
    SMALL = 1


TEXT = st.text(st.characters(codec=None, exclude_categories=()))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=8,
)


@pytest.mark.slow
@given(st.lists(st.tuples(JSON.filter(lambda key: not isinstance(key, (list, dict))), JSON)))
def test_lines_are_read_as_they_were_written(pairs: list[tuple[Any, Any]]) -> None:
    columns = [key for key, _ in pairs], [value for _, value in pairs]
    encoded = Lines().encoded(*columns)
    assert encoded.unfit == {}
    assert encoded.content.count(b"\n") == len(pairs)
    assert repr(Lines().decoded(encoded.content)) == repr(columns)


@pytest.mark.parametrize(
    ("obj", "text"),
    [
        ((1, (2, [3])), "[1, [2, [3]]]"),
        (Point(1, "é\u2028"), '[1, "é\u2028"]'),
        (OrderedDict(b=1, a=Counter("a")), '{"b": 1, "a": {"a": 1}}'),
        (np.int8(-3), "-3"),
        (np.float32(0.25), "0.25"),
        (np.float64(0.1), "0.1"),
        (np.bool_(False), "false"),
        (np.str_("a"), '"a"'),
        (Size.SMALL, "1"),
        ([float("nan"), -math.inf, math.inf], "[NaN, -Infinity, Infinity]"),
        ("half of \ud83d", '"half of \\ud83d"'),
        ("\x00\n\"\\", '"\\u0000\\n\\"\\\\"'),
        (10**30, "1" + "0" * 30),
    ],
)  # fmt: skip
def test_lines_hold(obj: Any, text: str) -> None:
    assert Lines().encoded(["k"], [obj]).content.decode() == f'{{"key": "k", "value": {text}}}\n'
    assert Lines().encoded([obj], [1]).content.decode() == f'{{"key": {text}, "value": 1}}\n'


CYCLE: list[Any] = []
CYCLE.append(CYCLE)
DEEP: list[Any] = []
for _ in range(10 * sys.getrecursionlimit()):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("obj", "why"),
    [
        ({1, 2}, "{1, 2} is a set"),
        ([{"a": b"x"}], "b'x' is a bytes"),
        ({1: 2}, "a dict has the key 1, and only a str can be one"),
        ([({"a": {None: 2}},)], "a dict has the key None, and only a str can be one"),
        (1j, "1j is a complex"),
        (np.complex64(1), "is a complex64"),
        (np.longdouble(1), "is a longdouble"),
        (np.arange(2), "array([0, 1]) is a ndarray"),
        (np.datetime64("2020-01-01"), "is a datetime64"),
        (date(2020, 1, 1), "datetime.date(2020, 1, 1) is a date"),
        (Decimal("1.5"), "Decimal('1.5') is a Decimal"),
        (Colour.RED, "is a Colour"),
        (10**5_000, "Exceeds the limit (4300 digits) for integer string conversion"),
        (CYCLE, "Circular reference detected"),
        (DEEP, "it is too deep"),
    ],
    ids=lambda it: type(it).__name__,
)  # fmt: skip
@pytest.mark.parametrize("is_key", [True, False])
def test_lines_do_not_hold(obj: Any, why: str, is_key: bool) -> None:
    columns = [1, 2, 3], [4, 5, 6]
    columns[not is_key][1] = obj
    encoded = Lines().encoded(*columns)
    assert encoded.content == b'{"key": 1, "value": 4}\n{"key": 3, "value": 6}\n'
    assert list(encoded.unfit) == [1]
    assert encoded.unfit[1][0] is is_key
    assert why in encoded.unfit[1][1]


@pytest.mark.parametrize("content", [b"{", b"[1]\n", b'{"key": 1}\n', b"\xff", b"1\n"])
def test_what_is_no_line_of_ours_is_refused(content: bytes) -> None:
    with pytest.raises(PartError, match="it is not made of lines as jmr writes them"):
        Lines().decoded(content)


# Parquet.


@pytest.fixture
def pq() -> Any:
    return pytest.importorskip("pyarrow.parquet")


def through(values: list[Any]) -> list[Any]:
    """Values as they are read again."""
    encoded = Parquet().encoded(list(range(len(values))), values)
    assert encoded.unfit == {}
    keys, read = Parquet().decoded(encoded.content)
    assert keys == list(range(len(values)))
    return read


@pytest.mark.parametrize(
    "values",
    [
        [1, None, 3],
        [1.5, math.inf],
        ["é", "\n", ""],
        [b"a", b"\0"],
        [True, False],
        [None, None],
        [date(2020, 1, 1)],
        [datetime(2020, 1, 1, 12, 30, 0, 123)],
        [Decimal("1.50"), Decimal("-3.25")],
        [{"a": 1, "b": ["x"]}, {"a": None, "b": []}],
        [[1, 2], [], None],
        [("a", 1, None), ("b", 2, 3.5)],
        [(1, (2, [3]))],
        [("a", 1), None],
        [{"a": {"b": [{"c": 1}]}}],
        [None, {"a": None}, {"a": [None, NOON, NOON]}],
        [[], [{"day": NOON.date(), "bytes": b"a"}, None], None],
    ],
    ids=repr,
)
def test_parquet_gives_back_what_it_was_given(pq: Any, values: list[Any]) -> None:
    assert repr(through(values)) == repr(values)


def test_numbers_of_a_column_become_of_one_type(pq: Any) -> None:
    assert repr(through([1, 2.5, np.float32(0.5), np.int8(3)])) == "[1.0, 2.5, 0.5, 3.0]"
    assert repr(through([(1, 1), (2.5, 2)])) == "[(1.0, 1), (2.5, 2)]"


def test_dicts_of_a_column_get_all_of_their_fields(pq: Any) -> None:
    assert through([{"a": 1}, {"b": "x"}]) == [{"a": 1, "b": None}, {"a": None, "b": "x"}]


@pytest.mark.parametrize(
    ("values", "unfit"),
    [
        ([1, "a", 2, None, b"b"], {1: "it is string, and those before are int64", 4: "it is binary, and those"}),
        (["a", b"b", "c"], {1: "it is binary, and those before are string"}),
        ([b"a", "b"], {1: "it is string, and those before are binary"}),
        ([True, 1], {1: "it is int64, and those before are bool"}),
        ([None, 1, {2: 3}], {2: "Expected dict key of type str or bytes, got 'int'"}),
        ([1, 2**70, 3.5], {1: "Python int too large to convert to C long"}),
        ([2**53 + 1, 0.5], {0: "outside of the range exactly representable"}),
        ([(1,), (1, 2), [1]], {1: "and those before are struct<0: int64>", 2: "and those before are struct<0"}),
        ([[1], ["a"]], {1: "it is list<item: string>, and those before are list<item: int64>"}),
        ([NotImplementedError(), 1], {0: "did not recognize Python value type"}),
        ([NOON.date(), NOON], {1: "it is timestamp[us], and those before are date32[day]"}),
        ([NOON, NOON.date()], {1: "it is date32[day], and those before are timestamp[us]"}),
        ([NOON, NOON.replace(tzinfo=UTC)], {1: "it is timestamp[us, tz=UTC], and those before are timestamp"}),
        ([(1, NOON.date()), (1, NOON)], {1: "and those before are struct<0: int64, 1: date32[day]>"}),
        ([{"t": NOON.date()}, {"t": NOON}], {1: "and those before are struct<t: date32[day]>"}),
        ([[None, {"t": NOON}, {"t": NOON.replace(tzinfo=UTC)}]], {0: "times with a zone and without"}),
        ([None, {"a": [b"a", "a"]}], {1: "text and bytes"}),
        ([{"a": b"a"}, {"a": "a"}], {1: "it is struct<a: string>, and those before are struct<a: binary>"}),
        ([{"0": 5, "1": 7}], {0: "a dict with the keys '0', '1', ... would be read as a tuple"}),
        ([(5, 7), {"0": 5, "1": 7}], {1: "a dict with the keys '0', '1', ... would be read as a tuple"}),
        ([{}, {}], {0: "no child field", 1: "no child field"}),
    ],
    ids=repr,
)
def test_a_column_does_not_hold(pq: Any, values: list[Any], unfit: dict[int, str]) -> None:
    encoded = Parquet().encoded([f"key {index}" for index in range(len(values))], values)
    assert list(encoded.unfit) == list(unfit)
    for index, why in unfit.items():
        is_key, said = encoded.unfit[index]
        assert (is_key, why in said) == (False, True), said
    rest = [f"key {index}" for index in range(len(values)) if index not in unfit]
    assert (Parquet().decoded(encoded.content)[0] if rest else []) == rest


def test_keys_of_two_types_do_not_go_into_one_column(pq: Any) -> None:
    encoded = Parquet().encoded([1, "a", ("b",)], [1, 2, 3])
    assert {index: is_key for index, (is_key, _) in encoded.unfit.items()} == {1: True, 2: True}


def test_tuples_in_keys_are_keys_again(pq: Any) -> None:
    for keys in ([(1, ("a", 2)), (2, ("c", 3))], [(1, (("a", 1), ("b", 2)))], [None, (1, None), None]):
        assert Parquet().decoded(Parquet().encoded(keys, keys).content)[0] == keys


def test_what_is_no_parquet_is_refused(pq: Any) -> None:
    with pytest.raises(PartError, match="it is no Parquet as jmr writes it"):
        Parquet().decoded(b"PAR1")


def emit(key: Any, value: Any) -> list[Any]:
    return [(key, value)]


def first(key: Any, values: list[Any]) -> Any:
    return values[0]


def written(source: Any, place: Path, **options: Any) -> Any:
    return jmr.run(source, emit, first, out=place, n_partitions=8, progress=False, **options)


@pytest.mark.slow
def test_files_whose_types_differ_are_turned_to_those_of_all(pq: Any, tmp_path: Path) -> None:
    """Each has been written without knowing the others, and readers of whole directories want one schema."""
    values = [1, 2.5, None, 3, 4, 5, 6, 7]
    result = written(enumerate(values), tmp_path / "mixed.parquet")
    assert len(result) > 2
    assert {str(pq.read_schema(path).field("value").type) for path in result} == {"double"}
    table = pq.read_table(tmp_path / "mixed.parquet")
    assert sorted(table.to_pylist(), key=lambda row: row["key"]) == [
        {"key": key, "value": None if value is None else float(value)} for key, value in enumerate(values)
    ]
    sizes = {
        part.name: part.n_bytes
        for part in Manifest.read((tmp_path / "mixed.parquet/_manifest.json").read_bytes()).parts
    }
    assert sizes == {Path(path).name: Path(path).stat().st_size for path in result}
    assert sorted(path.name for path in (tmp_path / "mixed.parquet").iterdir()) == ["_manifest.json", *sizes]


def test_files_at_a_url_are_turned_too(pq: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fsspec")
    (tmp_path / "caches").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "caches"))  # slots leave theirs there
    result = written([(0, 1), (1, 2.5), (2, 3)], f"simplecache::file://{tmp_path}/mixed.parquet")
    assert dict(jmr.run(result, emit, first, progress=False)) == {0: 1.0, 1: 2.5, 2: 3.0}
    left = sorted(path.name for path in (tmp_path / "mixed.parquet").iterdir())
    assert left == ["_manifest.json", *sorted(path.rpartition("/")[2] for path in result)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("one", "other"),
    [("a", 1), ((1,), (1, 2)), ([1], {"a": 1}), (b"a", "a"), ([{"a": b"a"}], [{"a": "a"}]), (2**53 + 1, 0.5)],
)
def test_files_whose_types_have_nothing_in_common_end_the_job(pq: Any, tmp_path: Path, one: Any, other: Any) -> None:
    source = [(key, other if key == 11 else one) for key in range(12)]
    with pytest.raises(jmr.ReduceError, match=r"column.*(cannot hold|in the file that begins with key=\d+)"):
        written(source, tmp_path / "mixed.parquet")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b'{"jmr": 1}', b'{"jmr": 3}', b'{"jmr": 1, "parts": [1]}'])
def test_what_is_no_manifest_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"no manifest|version|Expecting"):
        Manifest.read(content)


@given(st.text(), st.lists(st.tuples(st.text(), st.integers(0), st.integers(0))))
def test_a_manifest_is_read_as_it_was_written(job: str, parts: list[tuple[str, int, int]]) -> None:
    manifest = Manifest(job, ".jsonl", tuple(Listed(*part) for part in parts))
    assert Manifest.read(manifest.written()) == manifest
