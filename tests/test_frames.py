"""pandas, polars and Arrow frames as a source: their rows are those that the library itself gives, on a worker too."""

from __future__ import annotations

import datetime
import decimal
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import jmr
from jmr.codec.values import byte_length, load_columns
from jmr.engines import splitting
from jmr.sources import records
from tests.checkpoints import Calls, note

np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
pa = pytest.importorskip("pyarrow")

#: So few rows travel as lists, so many as columns.
FEW, MANY = 3, 1_500
UTC = datetime.UTC


def as_they_come(source: Any, **options: Any) -> list[tuple[Any, Any]]:
    """All records of a source, as mapfn got them."""
    result = jmr.run(source, lambda key, value: [(None, (key, value))], progress=False, **options)
    return result.get(None, [])


def told(found: Iterable[Any]) -> list[str]:
    """What tells NaN from NaN, and numpy's numbers from Python's."""
    return [f"{record!r} {kinds(record)}" for record in found]


def kinds(value: Any) -> Any:
    if isinstance(value, dict):
        return [(kinds(key), kinds(item)) for key, item in value.items()]
    return [kinds(item) for item in value] if isinstance(value, (list, tuple)) else type(value).__name__


def assert_rows(source: Callable[[], Any], expected: Iterable[Any]) -> None:
    oracle = told(expected)
    assert told(as_they_come(source(), engine="inline")) == oracle
    assert told(as_they_come(source(), workers=2)) == oracle


def repeated(values: list[Any], n: int) -> list[Any]:
    return (values * (n // len(values) + 1))[:n]


def objects(values: list[Any]) -> Callable[[int], Any]:
    return lambda n: pd.Series(repeated(values, n), dtype=object)


PANDAS = {
    "int64": lambda n: range(n),
    "uint8": lambda n: np.arange(n).astype("u1"),
    "float32": lambda n: (np.arange(n) / 3).astype("f4"),
    "float16": lambda n: (np.arange(n) % 7 / 2).astype("f2"),
    "float with NaN": lambda n: repeated([0.5, None, -0.0], n),
    "complex": lambda n: np.arange(n) * 1j,
    "bool": lambda n: np.arange(n) % 2 == 0,
    "text": lambda n: repeated(["a", "ü" * 9, ""], n),
    "text with missing": lambda n: repeated(["a", None, "b"], n),
    "string of pandas 2": lambda n: pd.array(repeated(["a", None], n), dtype="string"),
    "nullable int": lambda n: pd.array(repeated([1, None, 3], n), dtype="Int64"),
    "nullable bool": lambda n: pd.array(repeated([True, None], n), dtype="boolean"),
    "category": lambda n: pd.Categorical(repeated(["x", "y", None], n)),
    "category of numbers": lambda n: pd.Categorical(repeated([1, 2], n)),
    "times": lambda n: pd.to_datetime(repeated(["2020-01-01", None, "2020-02-01 12:30"], n), format="mixed"),
    "times in a zone": lambda n: pd.date_range("2020-03-28", periods=n, freq="h", tz="Europe/Berlin"),
    "durations": lambda n: pd.to_timedelta(range(n), unit="s"),
    "periods": lambda n: pd.period_range("2020-01", periods=n, freq="D"),
    "intervals": lambda n: pd.interval_range(0, n),
    "Arrow's integers": lambda n: pd.array(repeated([1, None], n), dtype=pd.ArrowDtype(pa.int64())),
    "objects": objects([1, "a", None, 2.5, [1, 2]]),
    "objects of numpy": objects([np.int64(3), np.float32(0.5), np.bool_(True), "a"]),
    "arrays": objects([(np.arange(2), 1), (np.arange(3), 2)]),
    "dates": objects([datetime.date(2020, 1, 1), decimal.Decimal("1.10"), None]),
}


@pytest.mark.parametrize("n", [FEW, MANY])
@pytest.mark.parametrize("column", PANDAS.values(), ids=PANDAS)
def test_rows_of_pandas_are_those_of_to_dict(column: Callable[[int], Any], n: int) -> None:
    frame = pd.DataFrame({"n": range(n), "column": column(n)})
    assert_rows(lambda: frame, zip(range(n), frame.to_dict("records"), strict=True))


@pytest.mark.parametrize("n", [FEW, MANY])
@pytest.mark.parametrize("column", PANDAS.values(), ids=PANDAS)
def test_a_series_gives_its_labels_and_values(column: Callable[[int], Any], n: int) -> None:
    series = pd.Series(column(n))
    assert_rows(lambda: series, zip(range(n), series.tolist(), strict=True))


INDEXES = {
    "given numbers": lambda n: pd.Index(range(n, 0, -1)),
    "a range by steps": lambda n: pd.RangeIndex(10, 10 + 3 * n, 3),
    "numbers like a range": lambda n: pd.Index(np.arange(n)),
    "text": lambda n: pd.Index(repeated(["a", "b", None], n)),
    "labels twice": lambda n: pd.Index(repeated([1, 1, 2], n)),
    "times": lambda n: pd.date_range("2020", periods=n, freq="D"),
    "categories": lambda n: pd.CategoricalIndex(repeated(["x", "y"], n)),
    "objects": lambda n: pd.Index(repeated([(1, 2), "a", np.int64(1)], n), dtype=object, tupleize_cols=False),
    "levels": lambda n: pd.MultiIndex.from_arrays([range(n), repeated(["a", "b"], n)], names=["n", "word"]),
}


@pytest.mark.parametrize("n", [FEW, MANY])
@pytest.mark.parametrize("index", INDEXES.values(), ids=INDEXES)
def test_keys_are_the_labels_of_the_index(index: Callable[[int], Any], n: int) -> None:
    frame = pd.DataFrame({"n": np.arange(n)}, index=index(n))
    assert_rows(lambda: frame, zip(frame.index.tolist(), frame.to_dict("records"), strict=True))


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame(np.arange(3.0 * MANY).reshape(MANY, 3)),
        pd.DataFrame({"a": range(2 * MANY), "b": range(2 * MANY)})[::2],
        pd.DataFrame({"a": range(MANY), "b": ["x"] * MANY})[::-1],
        pd.DataFrame({("a", 1): range(MANY), ("a", 2): range(MANY)}),
        pd.DataFrame(index=range(5)),
        pd.DataFrame({"a": []}),
        pd.DataFrame({f"c{i}": range(FEW) for i in range(100)}),
        pd.DataFrame({"a": np.arange(MANY).astype(">i4")}),
    ],
    ids=[
        "one block",
        "every other row",
        "backwards",
        "two levels",
        "no columns",
        "no rows",
        "wide",
        "other byte order",
    ],
)
def test_any_shape_of_a_pandas_frame_gives_its_rows(frame: Any) -> None:
    rows = frame.to_dict("records") if len(frame.columns) else [{}] * len(frame)
    assert_rows(lambda: frame, zip(frame.index.tolist(), rows, strict=True))


POLARS = {
    "Int64": lambda n: pl.Series(range(n)),
    "Int64 with null": lambda n: pl.Series(repeated([1, None], n)),
    "Float32": lambda n: pl.Series(range(n), dtype=pl.Float32),
    "Boolean": lambda n: pl.Series(repeated([True, False, None], n)),
    "String": lambda n: pl.Series(repeated(["a", None, "ü" * 20], n)),
    "Binary": lambda n: pl.Series(repeated([b"a", None], n)),
    "Date": lambda n: pl.Series(repeated([datetime.date(2020, 1, 1), None], n)),
    "Datetime": lambda n: pl.Series(repeated([datetime.datetime(2020, 1, 1, 2), None], n)),
    "Datetime in ns": lambda n: pl.Series(repeated([datetime.datetime(2020, 1, 1)], n), dtype=pl.Datetime("ns")),
    "Datetime in a zone": lambda n: pl.Series(repeated([datetime.datetime(2020, 1, 1, tzinfo=UTC)], n)),
    "Duration": lambda n: pl.Series(repeated([datetime.timedelta(1)], n)),
    "Time": lambda n: pl.Series(repeated([datetime.time(1, 2)], n)),
    "Decimal": lambda n: pl.Series(repeated([decimal.Decimal("1.10"), None], n)),
    "Categorical": lambda n: pl.Series(repeated(["a", "b", None], n), dtype=pl.Categorical),
    "List": lambda n: pl.Series(repeated([[1, 2], None, []], n)),
    "Struct": lambda n: pl.Series(repeated([{"a": 1}, {"a": None}], n)),
    "Null": lambda n: pl.Series([None] * n),
}


@pytest.mark.parametrize("n", [FEW, MANY])
@pytest.mark.parametrize("column", POLARS.values(), ids=POLARS)
def test_rows_of_polars_are_those_of_to_dicts(column: Callable[[int], Any], n: int) -> None:
    frame = pl.DataFrame({"n": range(n), "column": column(n)})
    assert_rows(lambda: frame, enumerate(frame.to_dicts()))


def test_a_polars_frame_in_pieces_gives_its_rows() -> None:
    frame = pl.concat([pl.DataFrame({"a": range(n), "b": ["x"] * n}) for n in (MANY, 0, FEW, MANY)], rechunk=False)
    assert_rows(lambda: frame, enumerate(frame.to_dicts()))


def test_a_lazy_frame_is_refused_with_the_way_to_rows() -> None:
    with pytest.raises(jmr.SourceError, match=r"lazy_frame\.collect\(\)"):
        as_they_come(pl.DataFrame({"a": [1]}).lazy(), engine="inline")


ARROW = {
    "int8": ([1, None, 3], pa.int8()),
    "uint64": ([2**64 - 1, 0], pa.uint64()),
    "float16": ([0.5, None], pa.float16()),
    "float64": ([0.5, None, float("nan")], pa.float64()),
    "bool": ([True, None], pa.bool_()),
    "string": (["a", None, "ü"], pa.string()),
    "large_string": (["a", None], pa.large_string()),
    "string_view": (["a", None], pa.string_view()),
    "binary": ([b"a", None], pa.binary()),
    "date32": ([datetime.date(2020, 1, 1), None], pa.date32()),
    "date64": ([datetime.date(2020, 1, 1), None], pa.date64()),
    "seconds": ([datetime.datetime(2020, 1, 1), None], pa.timestamp("s")),
    "milliseconds": ([datetime.datetime(1, 1, 1), None], pa.timestamp("ms")),
    "microseconds": ([datetime.datetime(2020, 1, 1, 1, 2, 3, 4), None], pa.timestamp("us")),
    "nanoseconds": ([datetime.datetime(2020, 1, 1)], pa.timestamp("ns")),
    "in a zone": ([datetime.datetime(2020, 1, 1, tzinfo=UTC)], pa.timestamp("us", "Europe/Berlin")),
    "duration": ([datetime.timedelta(1), None], pa.duration("us")),
    "decimal": ([decimal.Decimal("1.10"), None], pa.decimal128(5, 2)),
    "dictionary": (["a", "b", None], pa.dictionary(pa.int8(), pa.string())),
    "list": ([[1], None, []], pa.list_(pa.int64())),
    "struct": ([{"a": 1}, None], pa.struct([("a", pa.int64())])),
    "null": ([None], pa.null()),
}


@pytest.mark.parametrize("n", [FEW, MANY])
@pytest.mark.parametrize(("values", "kind"), ARROW.values(), ids=ARROW)
def test_rows_of_arrow_are_those_of_to_pylist(values: list[Any], kind: Any, n: int) -> None:
    pieces = [pa.array(repeated(values, m), type=kind) for m in (n, 2)]
    table = pa.table({"n": list(range(n + 2)), "column": pa.chunked_array(pieces)})
    assert_rows(lambda: table, enumerate(table.to_pylist()))


def test_what_python_cannot_hold_is_refused_as_arrow_refuses_it() -> None:
    table = pa.table({"a": pa.array([2**62], type=pa.int64()).cast(pa.timestamp("us"))})
    with pytest.raises((OverflowError, ValueError)) as of_arrow:
        table.to_pylist()
    with pytest.raises(of_arrow.type):
        as_they_come(table, engine="inline")


def in_batches() -> Any:
    schema = pa.schema([("a", pa.int64()), ("b", pa.string())])
    return pa.concat_tables([pa.table([list(range(n)), ["x"] * n], schema=schema) for n in (MANY, 0, FEW)])


@pytest.mark.parametrize(
    "made",
    [
        in_batches,
        lambda: in_batches().to_batches()[0],
        lambda: in_batches().to_batches()[0].slice(7, MANY - 100),
        lambda: in_batches().slice(MANY - 1, 3),
    ],
    ids=["table", "batch", "part of a batch", "part of a table"],
)
def test_tables_and_batches_of_arrow_give_their_rows(made: Callable[[], Any]) -> None:
    assert_rows(made, enumerate(made().to_pylist()))


def test_a_reader_is_read_as_rows_are_needed() -> None:
    table = in_batches()
    n_read = 0

    def batches() -> Iterator[Any]:
        nonlocal n_read
        for batch in table.to_batches():
            n_read += 1
            yield batch

    assert_rows(lambda: pa.RecordBatchReader.from_batches(table.schema, batches()), enumerate(table.to_pylist()))
    n_read = 0
    source = records(pa.RecordBatchReader.from_batches(table.schema, batches()))
    assert (source.n_records, n_read) == (None, 0)
    assert next(source.pairs) == (0, {"a": 0, "b": "x"})
    assert n_read == 1


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame([[1, 2]], columns=["same", "same"]),
        pa.table([[1], [2]], names=["same", "same"]),
    ],
    ids=["pandas", "Arrow"],
)
def test_two_columns_of_one_name_are_refused_by_it(frame: Any) -> None:
    with pytest.raises(jmr.SourceError, match="'same' for the name of more than one column"):
        as_they_come(frame, engine="inline")


def test_a_cell_that_cannot_travel_is_named_by_its_row() -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": [1, open(__file__)]}, index=["x", "y"])
    try:
        with pytest.raises(jmr.NotPicklableError, match="record key='y' cannot be sent to the workers"):
            as_they_come(frame, workers=2)
    finally:
        frame["b"].iloc[1].close()


def test_a_failing_row_is_named_by_its_label_and_set_aside() -> None:
    frame = pd.DataFrame({"a": [1, 0, 2]}, index=["x", "y", "z"])

    def mapfn(label: str, row: dict[str, int]) -> Iterator[tuple[str, float]]:
        yield label, 1 / row["a"]

    with pytest.raises(jmr.MapError, match="key='y'"):
        jmr.run(frame, mapfn, workers=2)
    result = jmr.run(frame, mapfn, workers=2, on_error="skip")
    assert [(bad.key, bad.value) for bad in result.errors] == [("y", {"a": 0})]
    assert list(result) == ["x", "z"]


@pytest.mark.slow
def test_a_worker_imports_nothing_for_numbers(cluster: jmr.Cluster) -> None:
    frame = pd.DataFrame({"a": range(10_000), "b": np.arange(10_000) / 2})

    def mapfn(_: int, row: dict[str, Any]) -> Iterator[tuple[Any, int]]:
        yield tuple(sorted({"numpy", "pandas", "pyarrow"} & set(sys.modules))), len(row)

    assert list(jmr.run(frame, mapfn, engine=cluster)) == [()]


@pytest.mark.slow
def test_large_rows_are_cut_into_blobs_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splitting, "_MOST_BYTES", 100_000)
    frame = pd.DataFrame({"a": [bytes(1_000 * (i % 50)) for i in range(200)]})
    source = records(frame)
    found: list[Any] = []
    while True:
        pieces, n = splitting.cut(source, 1_000)
        if not n:
            break
        assert byte_length(pieces) < 200_000
        keys, rows = load_columns(bytearray(b"".join(pieces)), 2)
        assert len(keys) == n
        found += zip(keys, rows, strict=True)
    assert found == list(enumerate(frame.to_dict("records")))


def in_other_pieces(frame: Any) -> Any:
    """The same rows, otherwise laid out in memory."""
    if isinstance(frame, pa.Table):
        return pa.concat_tables([frame.slice(0, 7), frame.slice(7)])
    if isinstance(frame, pl.DataFrame):
        return pl.concat([frame[:7], frame[7:]], rechunk=False)
    return pd.concat([frame[[name]] for name in frame], axis=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("made", "changed"),
    [
        (lambda: pd.DataFrame({"a": range(40), "b": ["x"] * 40}), lambda frame: frame.replace({"a": {39: 0}})),
        (lambda: pl.DataFrame({"a": range(40), "b": ["x"] * 40}), lambda frame: frame.with_columns(pl.lit("y"))),
        (
            lambda: pa.table({"a": pa.chunked_array([list(range(40))]), "b": ["x"] * 40}),
            lambda table: table.rename_columns(["a", "c"]),
        ),
    ],
    ids=["pandas", "polars", "Arrow"],
)
def test_a_checkpoint_knows_rows_by_their_values(made: Any, changed: Any, tmp_path: Path) -> None:
    calls = Calls(tmp_path / "calls")
    path = calls.path

    def mapfn(key: int, row: dict[str, Any]) -> Iterator[tuple[int, Any]]:
        note(path, key)
        yield key % 3, tuple(row.items())

    def run(frame: Any) -> Any:
        return jmr.run(frame, mapfn, workers=2, checkpoint=tmp_path / "kept", n_partitions=8)

    first = run(made())
    assert sum(calls.take().values()) == 40
    assert list(run(in_other_pieces(made())).items()) == list(first.items())
    assert not calls.take()
    run(changed(made()))
    assert calls.take()


def test_a_preview_shows_rows() -> None:
    seen = jmr.preview(pl.DataFrame({"a": [1, 2, 3]}), lambda key, row: [(row["a"], key)], n=2)
    assert seen.records == [(0, {"a": 1}), (1, {"a": 2})]
    assert seen.n_records == 3
