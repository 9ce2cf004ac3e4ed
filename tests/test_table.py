"""jmr.table: files of many formats give the rows, or batches, that Arrow reads from them, however they are cut."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import jmr
from jmr.sources import NotHereError, dump_split, load_records
from jmr.sources.tables import parts
from jmr.sources.tables import table as tables
from tests.checkpoints import Calls, note

pa = pytest.importorskip("pyarrow")
csv = pytest.importorskip("pyarrow.csv")
dataset = pytest.importorskip("pyarrow.dataset")
feather = pytest.importorskip("pyarrow.feather")
parquet = pytest.importorskip("pyarrow.parquet")

N = 1_000


def numbers(n: int = N, start: int = 0) -> Any:
    """A table whose rows can be told apart."""
    found = range(start, start + n)
    return pa.table({"n": list(found), "word": [f"w{i % 7}" for i in found], "half": [i / 2 for i in found]})


def write_json(table: Any, path: str) -> None:
    import json

    Path(path).write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))


WRITERS: dict[str, Callable[[Any, str], None]] = {
    "parquet": lambda table, path: parquet.write_table(table, path, row_group_size=300),
    "feather": lambda table, path: feather.write_feather(table, path, chunksize=300, compression="uncompressed"),
    "csv": csv.write_csv,
    "csv.gz": lambda table, path: csv.write_csv(table, pa.CompressedOutputStream(path, "gzip")),
    "json": write_json,
}


@pytest.fixture
def looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are cut however small they are."""
    monkeypatch.setattr(tables, "_SMALL_BYTES", 0)


@pytest.fixture(params=["looked into", "sent", "whole"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How files become splits: cut, or read by a worker each; text is read here; or files as they are."""
    if request.param != "whole":
        monkeypatch.setattr(tables, "_SMALL_BYTES", 0)
    if request.param == "sent":
        monkeypatch.setattr(tables, "_MOST_TEXT_BYTES", 0)
        monkeypatch.setattr(tables, "_MOST_COMPRESSED_BYTES", 0)
    return str(request.param)


def emit(key: Any, value: Any) -> Iterator[Any]:
    yield key, value


def as_they_come(source: Any, **options: Any) -> list[tuple[Any, Any]]:
    result = jmr.run(source, emit, progress=False, **options)
    return [(key, value) for key, values in result.items() for value in values]


def rows_of(blob: bytearray) -> list[Any]:
    """The values of its records."""
    return [row for _, row in load_records(blob).pairs()]


def read_with(source: tables.Table, most_bytes: int) -> list[tuple[Any, Any]]:
    """Its records, in splits of about so many bytes, as workers get them."""
    found: list[tuple[Any, Any]] = []
    for split in source.sized_splits(lambda: most_bytes):
        found += load_records(bytearray(b"".join(dump_split(split)))).pairs()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("ending", WRITERS)
def test_rows_are_those_that_arrow_reads(ending: str, way: str, tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{name}.{ending}") for name in "ab"]
    for path, start in zip(paths, (0, 5_000), strict=True):
        WRITERS[ending](numbers(start=start), path)
    source = jmr.table(str(tmp_path))
    expected = [
        ((path, i), row)
        for path, start in zip(paths, (0, 5_000), strict=True)
        for i, row in enumerate(numbers(start=start).to_pylist())
    ]
    assert as_they_come(source, engine="inline") == expected
    assert as_they_come(source, workers=2) == expected


@pytest.mark.slow
@pytest.mark.parametrize("most_bytes", [1, 100, 5_000, 1 << 30])
@pytest.mark.parametrize("ending", ["parquet", "feather", "csv"])
def test_any_size_of_splits_gives_the_same_rows(ending: str, most_bytes: int, tmp_path: Path, way: str) -> None:
    path = str(tmp_path / f"a.{ending}")
    WRITERS[ending](numbers(), path)
    expected = [((path, i), row) for i, row in enumerate(numbers().to_pylist())]
    assert read_with(jmr.table(path), most_bytes) == expected


@pytest.mark.parametrize("ending", ["parquet", "feather", "csv"])
def test_batches_are_the_same_in_splits_of_any_size(ending: str, tmp_path: Path, way: str) -> None:
    path = str(tmp_path / f"a.{ending}")
    WRITERS[ending](numbers(), path)
    source = jmr.table(path, by="batch", batch_rows=128, columns=["half", "n"])
    found = read_with(source, 1)
    assert found == read_with(source, 1 << 30) == as_they_come(source, workers=2)
    assert pa.Table.from_batches([batch for _, batch in found]).equals(numbers().select(["half", "n"]))
    assert [key for key, _ in found] == [(path, batch.column("n")[0].as_py()) for _, batch in found]
    if ending != "csv":
        assert {batch.num_rows for _, batch in found} == {128, 44, 100}


def test_splits_are_as_large_as_they_are_asked_to_be(looked_into: None, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    WRITERS["parquet"](numbers(), str(path))
    source = jmr.table(path)
    assert source.n_bytes == path.stat().st_size
    wanted = iter([1, 1_000, 2_000] + [10_000] * 100)
    splits = source.sized_splits(lambda: next(wanted))
    sizes = [split.n_bytes for split, _ in zip(splits, range(3), strict=False)]
    assert 0 <= sizes[0] < 100
    assert sizes[1:] == pytest.approx([1_000, 2_000], rel=0.1)
    assert len(list(source.splits())) == 1


def test_parts_that_come_in_order_decode_a_row_group_once(
    looked_into: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet.write_table(numbers(), tmp_path / "a.parquet")
    n_begun = 0
    scanned = parts._scanned

    def counted(*arguments: Any) -> Iterator[Any]:
        nonlocal n_begun
        n_begun += 1
        return scanned(*arguments)

    monkeypatch.setattr(parts, "_scanned", counted)
    monkeypatch.setattr(parts, "_AT_ONCE", 64)
    source = jmr.table(tmp_path / "a.parquet")
    blobs = [bytearray(b"".join(dump_split(split))) for split in source.sized_splits(lambda: 500)]
    read = [rows_of(blob) for blob in blobs]
    assert len(blobs) > 10
    assert [row for rows in read for row in rows] == numbers().to_pylist()
    assert n_begun == 1
    assert [rows_of(blob) for blob in reversed(blobs)] == read[::-1]  # as another attempt may
    assert n_begun > 1


def test_small_files_are_read_together(tmp_path: Path) -> None:
    for i in range(30):
        parquet.write_table(numbers(2, i), tmp_path / f"{i:02}.parquet")
    (split,) = jmr.table(tmp_path).splits()
    assert len(split.items) == 30
    assert len(b"".join(dump_split(split))) < 30_000
    assert [row["n"] for _, row in as_they_come(jmr.table(tmp_path), workers=2)] == [
        i + j for i in range(30) for j in (0, 1)
    ]


@pytest.mark.parametrize("ending", ["parquet", "feather", "csv"])
def test_names_of_directories_tell_columns(ending: str, way: str, tmp_path: Path) -> None:
    for year in (2012, 2013):
        (tmp_path / f"year={year}").mkdir()
        WRITERS[ending](numbers(400), str(tmp_path / f"year={year}" / f"a.{ending}"))
    source = jmr.table(tmp_path, columns=["year", "n"])
    assert repr(source).endswith(": year, n")
    expected = [{"year": year, "n": n} for year in (2012, 2013) for n in range(400)]
    assert [row for _, row in as_they_come(source, workers=2)] == expected


@pytest.mark.parametrize("ending", ["parquet", "feather", "csv"])
def test_a_filter_leaves_out_rows_and_keeps_their_numbers(ending: str, way: str, tmp_path: Path) -> None:
    for year in (2012, 2013):
        (tmp_path / f"year={year}").mkdir()
        WRITERS[ending](numbers(), str(tmp_path / f"year={year}" / f"a.{ending}"))
    wanted = (dataset.field("half") > 300) & (dataset.field("word") == "w3") & (dataset.field("year") > 2012)
    source = jmr.table(tmp_path, filter=wanted, columns=["n"])
    assert len(source.sized_splits(lambda: None).__next__().items) >= 1
    path = str(tmp_path / "year=2013" / f"a.{ending}")
    assert as_they_come(source, workers=2) == [((path, n), {"n": n}) for n in range(601, N) if n % 7 == 3]


def test_a_filter_spares_row_groups_and_files_that_cannot_have_its_rows(looked_into: None, tmp_path: Path) -> None:
    parquet.write_table(numbers(), tmp_path / "a.parquet", row_group_size=100)
    (split,) = jmr.table(tmp_path / "a.parquet", filter=dataset.field("n") == 250).splits()
    assert [part.group for part in split.items] == [2]


def test_a_column_that_a_later_file_lacks_is_none(way: str, tmp_path: Path) -> None:
    for ending in ("parquet", "feather"):
        WRITERS[ending](numbers(3), str(tmp_path / f"a.{ending}"))
        WRITERS[ending](numbers(3).select(["n"]), str(tmp_path / f"b.{ending}"))
        rows = [row for _, row in as_they_come(jmr.table(f"{tmp_path}/*.{ending}"), workers=2)]
        assert rows[3:] == [{"n": n, "word": None, "half": None} for n in range(3)]


def test_columns_and_types_can_be_said(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("n;code\n1;007\n")
    semicolons = dataset.CsvFileFormat(parse_options=csv.ParseOptions(delimiter=";"))
    schema = pa.schema([("code", pa.string()), ("n", pa.float64())])
    assert as_they_come(jmr.table(path, format=semicolons, schema=schema), engine="inline") == [
        ((str(path), 0), {"code": "007", "n": 1.0})
    ]


@pytest.mark.slow
def test_newlines_in_a_csv_are_a_matter_of_its_format(way: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("n,text\n" + "".join(f'{i},"one\ntwo, ""three"""\n' for i in range(300)))
    format = dataset.CsvFileFormat(parse_options=csv.ParseOptions(newlines_in_values=True))
    rows = [row for _, row in as_they_come(jmr.table(path, format=format), workers=2)]
    assert rows == [{"n": i, "text": 'one\ntwo, "three"'} for i in range(300)]


def test_a_csv_has_the_encoding_of_its_format(way: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("n\n\u00e9\n".encode("latin1"))
    format = dataset.CsvFileFormat(read_options=csv.ReadOptions(encoding="latin1"))
    rows = [row for _, row in as_they_come(jmr.table(tmp_path / "a.csv", format=format), workers=2)]
    assert rows == [{"n": "\u00e9"}]


def test_patterns_of_a_store_are_those_of_files_here(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv", "!.csv"):
        (tmp_path / name).write_text("n\n1\n")
    inside = pa.fs.SubTreeFileSystem(str(tmp_path), pa.fs.LocalFileSystem())
    for pattern, names in {"[!b].csv": ["!.csv", "a.csv"], "[b!].csv": ["!.csv", "b.csv"]}.items():
        found = as_they_come(jmr.table(pattern, filesystem=inside), engine="inline")
        assert [path for (path, _), _ in found] == names


def test_a_directory_that_may_not_be_looked_into_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refusing(path: Any) -> Any:
        if str(path) == str(tmp_path / "secret"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scandir(path)

    (tmp_path / "secret").mkdir()
    parquet.write_table(numbers(3), tmp_path / "a.parquet")
    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(jmr.SourceError, match="secret' cannot be read: Permission denied"):
        jmr.table(tmp_path)


def test_a_path_may_be_given_in_many_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.parquet", "a.parquet", "deep/c.parquet", "_hidden.parquet", ".too.parquet"):
        parquet.write_table(numbers(1), tmp_path / name)
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / "README.md").write_text("no table")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))

    def names(what: Any) -> list[str]:
        return [
            os.path.relpath(os.path.expanduser(path), tmp_path)
            for (path, _), _ in as_they_come(jmr.table(what), engine="inline")
        ]

    everything = ["a.parquet", "b.parquet", "deep/c.parquet"]
    assert names(tmp_path) == names(str(tmp_path)) == names(".") == names("~") == everything
    assert names("[ab].parquet") == everything[:2]
    assert names("**/c.parquet") == names("**/**/c.parquet") == ["deep/c.parquet"]
    assert names([f"file://{tmp_path}/b.parquet", "a.parquet"]) == ["b.parquet", "a.parquet"]
    assert names(["b.parquet", Path("a.parquet")]) == ["b.parquet", "a.parquet"]
    assert names(dataset.dataset(["b.parquet"])) == ["b.parquet"]


def test_a_format_is_known_by_how_a_file_begins(tmp_path: Path) -> None:
    for ending in ("parquet", "feather"):
        WRITERS[ending](numbers(3), str(tmp_path / ending))
        assert len(as_they_come(jmr.table(tmp_path / ending), engine="inline")) == 3
    (tmp_path / "text").write_text("n\n1\n")
    with pytest.raises(jmr.SourceError, match='format="csv"'):
        jmr.table(tmp_path / "text")
    assert len(as_they_come(jmr.table(tmp_path / "text", format="csv"), engine="inline")) == 1


@pytest.mark.slow
def test_files_of_another_filesystem_are_read_through_it(way: str, tmp_path: Path) -> None:
    for ending in ("parquet", "feather", "csv"):
        (tmp_path / ending).mkdir()
        WRITERS[ending](numbers(), str(tmp_path / ending / f"a.{ending}"))
    inside = pa.fs.SubTreeFileSystem(str(tmp_path), pa.fs.LocalFileSystem())
    for what in ("parquet", "feather/*.feather", "**/a.csv"):
        (path,) = {path for (path, _), _ in as_they_come(jmr.table(what, filesystem=inside), engine="inline")}
        rows = [row for _, row in as_they_come(jmr.table(what, filesystem=inside), workers=2)]
        assert path in ("parquet/a.parquet", "feather/a.feather", "csv/a.csv")
        assert rows == numbers().to_pylist()


@pytest.mark.parametrize(
    ("arguments", "error", "told"),
    [
        ({"what": "nowhere.parquet"}, jmr.SourceError, r"there is no file 'nowhere.parquet' \(in /"),
        ({"what": "no*.parquet"}, jmr.SourceError, r"no files of a table in 'no\*.parquet'"),
        ({"what": []}, jmr.SourceError, "no files of a table"),
        (
            {"what": ["s3://b/a.parquet", "s3://b/b.parquet"]},
            jmr.ArgumentTypeError,
            "takes one URL, not a list: name a",
        ),
        ({"what": pa.table({"n": [1]})}, jmr.ArgumentTypeError, "reads files, and this is a Table: pass it to jmr.run"),
        ({"what": 3}, jmr.ArgumentTypeError, "what must be a path"),
        ({"columns": ["n", "m"]}, jmr.SourceError, "no column 'm'; the columns are n, word, half"),
        ({"columns": ["n", "n"]}, jmr.SourceError, "two columns 'n'"),
        ({"columns": "n"}, jmr.ArgumentTypeError, r"\['n'\]"),
        ({"filter": "n > 3"}, jmr.ArgumentTypeError, "filter must be an expression"),
        ({"by": "rows"}, jmr.ArgumentValueError, 'by must be "row" or "batch"'),
        ({"batch_rows": 0}, jmr.ArgumentValueError, "batch_rows"),
        ({"format": "xlsx"}, jmr.ArgumentValueError, "format must be one of parquet, csv"),
    ],
    ids=lambda given: next(iter(given)) if isinstance(given, dict) else "",
)
def test_a_wrong_argument_is_refused_at_once(
    arguments: dict[str, Any], error: type[Exception], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    parquet.write_table(numbers(3), "a.parquet")
    with pytest.raises(error, match=told):
        jmr.table(**{"what": "a.parquet", **arguments})


def test_a_filter_of_a_column_that_is_not_there_is_refused_at_once(tmp_path: Path) -> None:
    parquet.write_table(numbers(3), tmp_path / "a.parquet")
    with pytest.raises(jmr.SourceError, match=r"No match for FieldRef.Name\(m\); the columns are n, word, half"):
        jmr.table(tmp_path, filter=dataset.field("m") > 3)


def test_a_directory_of_two_formats_is_refused(tmp_path: Path) -> None:
    for ending in ("parquet", "csv"):
        WRITERS[ending](numbers(3), str(tmp_path / f"a.{ending}"))
    with pytest.raises(jmr.SourceError, match="has files of csv and parquet"):
        jmr.table(tmp_path)


def test_arrow_that_is_not_here_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(jmr.SourceError, match=r'pip install "jmr\[arrow\]"'):
        jmr.table("a.parquet")


@pytest.mark.slow
@pytest.mark.parametrize("first", [True, False], ids=["the first", "another"])
@pytest.mark.parametrize("ending", ["parquet", "feather", "csv"])
def test_a_corrupt_file_is_named_and_set_aside(ending: str, first: bool, way: str, tmp_path: Path) -> None:
    good, bad = (str(tmp_path / f"{name}.{ending}") for name in ("ba" if first else "ab"))
    WRITERS[ending](numbers(), good)
    Path(bad).write_bytes(b"n,word,half\n1,2\n" if ending == "csv" else Path(good).read_bytes()[:-9])
    source = jmr.table(tmp_path)
    for options in ({"engine": "inline"}, {"workers": 2}):
        with pytest.raises(jmr.SourceError, match=f"{bad}' cannot be read"):
            as_they_come(source, **options)
        result = jmr.run(source, emit, on_error="skip", progress=False, **options)
        assert [(wrong.phase, wrong.key) for wrong in result.errors] == [("read", bad)]
        assert list(result) == [(good, n) for n in range(N)]


@pytest.mark.slow
def test_a_value_that_its_column_cannot_hold_names_the_file(way: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("n\n" + "1\n" * 600_000 + "word\n")  # past the megabyte that types are guessed from
    with pytest.raises(jmr.SourceError, match=r"a.csv' cannot be read.*word"):
        jmr.run(jmr.table(path), lambda key, row: None, workers=2)


def test_a_file_that_has_changed_is_read_no_more(tmp_path: Path) -> None:
    path = str(tmp_path / "a.parquet")
    parquet.write_table(numbers(3), path)
    source = jmr.table(path)
    parquet.write_table(numbers(4), path)
    (split,) = source.splits()
    with pytest.raises(NotHereError):
        split.read(_raised)
    with pytest.raises(jmr.SourceError, match="has changed since the job began"):
        split.carried().read(_raised)
    with pytest.raises(jmr.JmrError, match=r"a\.parquet"):
        as_they_come(source, engine="inline")
    os.unlink(path)
    with pytest.raises(NotHereError, match="no such file"):
        split.read(_raised)


def _raised(key: Any, error: Exception, _: int = 0, /) -> None:
    raise error


@pytest.mark.parametrize("by", ["row", "batch"])
@pytest.mark.parametrize("ending", ["parquet", "feather", "csv"])
def test_a_carried_split_needs_no_file(ending: str, by: str, way: str, tmp_path: Path) -> None:
    WRITERS[ending](numbers(), str(tmp_path / f"a.{ending}"))
    source = jmr.table(tmp_path / f"a.{ending}", by=by, filter=dataset.field("word") == "w2" if by == "row" else None)
    expected = read_with(source, 5_000)
    carried = [split.carried() for split in source.sized_splits(lambda: 5_000)]
    shutil.rmtree(tmp_path)
    found = [load_records(bytearray(b"".join(dump_split(split)))).pairs() for split in carried]
    assert list(itertools.chain.from_iterable(found)) == expected


def test_a_checkpoint_knows_files_by_size_and_time(looked_into: None, tmp_path: Path) -> None:
    calls = Calls(tmp_path / "calls")
    noted = calls.path
    path = tmp_path / "a.parquet"
    parquet.write_table(numbers(20), path, row_group_size=5)

    def mapfn(key: tuple[str, int], row: dict[str, Any]) -> Iterator[tuple[str, int]]:
        note(noted, key[1])
        yield row["word"], row["n"]

    def run(**options: Any) -> Any:
        return jmr.run(jmr.table(path, **options), mapfn, workers=2, checkpoint=tmp_path / "kept", n_partitions=8)

    first = run()
    assert sum(calls.take().values()) == 20
    assert list(run().items()) == list(first.items())
    assert not calls.take()
    run(columns=["word", "n"])
    assert sum(calls.take().values()) == 20
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    run(columns=["word", "n"])
    assert sum(calls.take().values()) == 20


def test_a_failing_row_is_named_by_file_and_number(looked_into: None, tmp_path: Path) -> None:
    path = str(tmp_path / "a.parquet")
    WRITERS["parquet"](numbers(), path)

    def mapfn(key: Any, row: dict[str, Any]) -> Iterator[tuple[str, float]]:
        yield row["word"], 1 / (row["n"] - 777)

    with pytest.raises(jmr.MapError, match=r"a.parquet', 777\)"):
        jmr.run(jmr.table(path), mapfn, workers=2)
    (bad,) = jmr.run(jmr.table(path), mapfn, workers=2, on_error="skip").errors
    assert (bad.key, bad.value) == ((path, 777), {"n": 777, "word": "w0", "half": 388.5})
