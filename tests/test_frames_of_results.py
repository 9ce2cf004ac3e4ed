"""Results as tables: pandas, polars and Arrow, of what came back and of what was written."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import jmr
from jmr.result import Result
from jmr.sinks.tables import columns_of


class Route(NamedTuple):
    origin: str
    number: int


KINDS: dict[str, tuple[str, Callable[[Any], list[dict[str, Any]]]]] = {
    "pandas": ("to_pandas", lambda frame: frame.to_dict("records")),
    "polars": ("to_polars", lambda frame: frame.to_dicts()),
    "pyarrow": ("to_arrow", lambda table: table.to_pylist()),
}


@pytest.fixture(params=KINDS)
def rows(request: pytest.FixtureRequest) -> Callable[[Result], list[dict[str, Any]]]:
    """Makes a result a table, and that rows."""
    pytest.importorskip(request.param)
    method, told = KINDS[request.param]
    return lambda result: told(getattr(result, method)())


def emit(key: Any, value: Any) -> list[Any]:
    return [(key, value)]


def first(key: Any, values: list[Any]) -> Any:
    return values[0]


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ({}, {"key": [], "value": []}),
        ({"a": 1}, {"key": ["a"], "value": [1]}),
        ({"a": {"n": 1, "m": 2}, "b": {"m": 4, "n": 3}}, {"key": ["a", "b"], "n": [1, 3], "m": [2, 4]}),
        ({"a": {"n": 1}, "b": {"m": 4}}, {"key": ["a", "b"], "value": [{"n": 1}, {"m": 4}]}),
        ({"a": {"n": 1}, "b": 2}, {"key": ["a", "b"], "value": [{"n": 1}, 2]}),
        ({"a": {1: 1}}, {"key": ["a"], "value": [{1: 1}]}),
        ({"a": {}}, {"key": ["a"], "value": [{}]}),
        ({"a": {"key": 1}}, {"key": ["a"], "value": [{"key": 1}]}),
        ({("a", 1): 2, ("b", 2): 3}, {"key_0": ["a", "b"], "key_1": [1, 2], "value": [2, 3]}),
        ({("a", 1): 2, ("b",): 3}, {"key": [("a", 1), ("b",)], "value": [2, 3]}),
        ({("a", 1): 2, "b": 3}, {"key": [("a", 1), "b"], "value": [2, 3]}),
        ({(): 2}, {"key": [()], "value": [2]}),
        ({Route("JFK", 1): 2}, {"origin": ["JFK"], "number": [1], "value": [2]}),
        ({Route("JFK", 1): 2, ("EWR", 2): 3}, {"key_0": ["JFK", "EWR"], "key_1": [1, 2], "value": [2, 3]}),
        ({Route("JFK", 1): {"number": 3}}, {"key": [Route("JFK", 1)], "value": [{"number": 3}]}),
    ],
    ids=repr,
)
def test_the_columns_are_keys_and_values_or_their_fields(items: dict[Any, Any], expected: dict[str, Any]) -> None:
    columns = columns_of(items.items())
    assert list(columns.items()) == list(expected.items())


def test_a_row_is_a_key_in_the_order_of_the_result(rows: Any) -> None:
    flights = [("JFK", 5.0), ("EWR", 1.5), ("JFK", 7.0)]
    result = jmr.run(flights, emit, lambda key, delays: {"n": len(delays), "late": max(delays)}, progress=False)
    assert rows(result) == [{"key": "JFK", "n": 2, "late": 7.0}, {"key": "EWR", "n": 1, "late": 1.5}]


@pytest.mark.parametrize(
    "values",
    [
        [1, 2],
        [1.5, 2],
        ["a", "b"],
        [True, False],
        [date(2020, 1, 1), date(2020, 1, 2)],
        [Decimal("1.5"), Decimal("2.5")],
        [[1, 2], []],
        [b"a", b""],
    ],
    ids=repr,
)
def test_values_stay_what_they_are(rows: Any, values: list[Any]) -> None:
    assert rows(Result(enumerate(values))) == [{"key": key, "value": value} for key, value in enumerate(values)]


def test_arrays_are_values_of_one_column(rows: Any) -> None:
    table = rows(Result({"a": np.arange(2), "b": np.arange(2)}))
    assert [list(row["value"]) for row in table] == [[0, 1], [0, 1]]


def test_no_results_are_a_table_without_rows(rows: Any) -> None:
    assert rows(Result()) == []


@pytest.mark.parametrize("method", ["to_polars", "to_arrow"])
def test_values_of_types_that_do_not_go_together_are_refused(method: str) -> None:
    module, title = {"to_polars": ("polars", "polars"), "to_arrow": ("pyarrow", "Arrow")}[method]
    pytest.importorskip(module)
    with pytest.raises(jmr.ArgumentValueError, match=f"column 'value' has no {title} type: "):
        getattr(Result({"a": 1, "b": "x"}), method)()


def test_pandas_takes_values_of_any_types() -> None:
    pytest.importorskip("pandas")
    assert Result({"a": 1, "b": "x"}).to_pandas()["value"].tolist() == [1, "x"]


@pytest.mark.parametrize("suffix", ["", ".parquet"])
def test_what_was_written_is_the_same_table(rows: Any, tmp_path: Path, suffix: str) -> None:
    if suffix:
        pytest.importorskip("pyarrow")
    source = [(("JFK", number), {"n": number, "late": number / 2}) for number in range(20)]
    options: dict[str, Any] = {"engine": "inline", "progress": False}
    result = jmr.run(source, emit, first, **options)
    place = tmp_path / f"flights{suffix}"
    written = jmr.run(source, emit, first, out=place, **options)
    assert rows(written) == rows(jmr.outputs(place)) == rows(result)
    assert list(rows(result)[0]) == ["key_0", "key_1", "n", "late"]


@pytest.mark.parametrize(
    ("module", "method", "said"),
    [
        ("pandas", "to_pandas", "to_pandas() needs pandas: pip install pandas"),
        ("polars", "to_polars", "to_polars() needs polars: pip install polars"),
        ("pyarrow", "to_arrow", 'to_arrow() needs pyarrow: pip install "jmr[arrow]"'),
    ],
)
def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch, module: str, method: str, said: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(jmr.ArgumentValueError) as caught:
        getattr(Result({1: 1}), method)()
    assert str(caught.value) == said
