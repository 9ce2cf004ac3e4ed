"""jmr.files: what `open` would give, whatever way files are cut, packed and compressed."""

from __future__ import annotations

import bz2
import errno
import gzip
import importlib.util
import lzma
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import jmr
from jmr.codec.values import dump_columns, load
from jmr.sources import NotHereError
from jmr.sources.base import read_pairs
from jmr.sources.disk import Disk
from jmr.sources.files import Files
from jmr.sources.lines import Cut, cut, lines_of
from jmr.sources.parts import FilesSplit
from jmr.sources.text import Text
from tests.checkpoints import Calls, note

NEWLINES = (None, "", "\n", "\r", "\r\n")


def refuse(key: Any, error: Exception, n_before: int = 0, /) -> None:
    raise error


def keeping(found: list[Any]) -> Any:
    def set_aside(key: Any, error: Exception, n_before: int = 0, /) -> None:
        found.append((key, type(error).__name__, n_before))

    return set_aside


def read(source: Files, most_bytes: int | None = None, set_aside: Any = refuse) -> list[Any]:
    """All records, of splits of a size that tests choose."""
    if most_bytes is not None:
        source = replace(source, most_bytes=most_bytes)
    return list(read_pairs(source.splits(), set_aside))


def lines_by_loop(path: Path, **how: Any) -> list[tuple[tuple[str, int], Any]]:
    """The oracle, where lengths in bytes can be had by encoding."""
    with open(path, **how) as file:
        lines = list(file)
    with open(path, **how | ({} if "b" in how.get("mode", "") else {"newline": how.get("newline") or ""})) as file:
        raw = list(file)
    encoding = how.get("encoding")
    sizes = [len(line) if isinstance(line, bytes) else len(line.encode(encoding)) for line in raw]
    return [((str(path), at), line) for at, line in zip(accumulate(sizes, initial=0), lines, strict=False)]


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def first(key: Any, value: Any) -> Iterator[tuple[Any, Any]]:
    yield key, value


def run_both(source: Any, mapfn: Callable[..., Any] = first, **options: Any) -> Any:
    """The result of our slots, which must be that of the inline engine."""
    slots = jmr.run(source, mapfn, **options)
    inline = jmr.run(source, mapfn, engine="inline", **options)
    assert list(slots.items()) == list(inline.items())
    told = [[(bad.phase, bad.key, bad.value, str(bad.error)) for bad in each.errors] for each in (slots, inline)]
    assert told[0] == told[1]
    return slots


# Lines

PIECES = st.sampled_from(
    ["", "a", "word ", "é", "日本", "𝄞", "\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028"]
)
TEXTS = st.lists(PIECES, max_size=30).map("".join)


@given(TEXTS, st.sampled_from(NEWLINES), st.sampled_from(["utf-8", "utf-8-sig"]), st.integers(1, 20))
def test_lines_are_those_of_a_loop_however_a_file_is_cut(text: str, newline: Any, encoding: str, step: int) -> None:
    data = text.encode(encoding)
    how = Text(encoding, "strict", newline)
    found = []
    for start in range(0, len(data), step):
        where = cut(lambda a, b: data[a:b], start, min(len(data), start + step), len(data), newline)
        found += lines_of("path", where, how, refuse).pairs()
    whole = lines_of("path", Cut.whole(data), how, refuse)
    assert list(whole.pairs()) == found
    assert len(whole) == len(found)
    raw = list(_opened(data, encoding, newline or ""))
    mark = len(data) - len(text.encode())
    starts = [at + (mark if at else 0) for at in accumulate((len(line.encode()) for line in raw), initial=0)]
    assert found == [(("path", at), line) for at, line in zip(starts, _opened(data, encoding, newline), strict=False)]


def _opened(data: bytes, encoding: str | None, newline: str | None, errors: str = "strict") -> list[Any]:
    import io

    file = io.BytesIO(data)
    return list(file if encoding is None else io.TextIOWrapper(file, encoding, errors, newline))


@given(st.lists(st.sampled_from([b"a", b"bc\xff", b"\n", b"\r", b"\r\n", b"\x00"]), max_size=30).map(b"".join))
def test_lines_of_bytes_end_with_a_line_feed(data: bytes) -> None:
    found = list(lines_of("path", Cut.whole(data), Text(None), refuse).pairs())
    assert [line for _, line in found] == _opened(data, None, None)
    assert [data[at : at + len(line)] for (_, at), line in found] == [line for _, line in found]


@given(
    st.lists(st.sampled_from([b"a", "é".encode(), b"\xff", b"\xe2\x80", b"\n", b"\r\n"]), max_size=30).map(b"".join),
    st.sampled_from(["ignore", "replace", "surrogateescape", "backslashreplace"]),
)
def test_errors_are_handled_as_open_handles_them(data: bytes, errors: str) -> None:
    found = list(lines_of("path", Cut.whole(data), Text("utf-8", errors), refuse).pairs())
    assert [line for _, line in found] == _opened(data, "utf-8", None, errors)


@pytest.mark.parametrize(
    "encoding",
    [
        "utf-16",
        "utf-16-le",
        "utf-16-be",
        "utf-32",
        "latin-1",
        "cp1252",
        "cp037",
        "gbk",
        "shift_jis",
        "iso2022_jp",
        "utf-7",
    ],
)
@pytest.mark.parametrize("newline", [None, "", "\n", "\r\n"])
def test_lines_of_other_encodings_are_those_of_a_loop(tmp_path: Path, encoding: str, newline: Any) -> None:
    text = "one\ntwo and more\r\nthree\r" * 3 + "four"
    path = written(tmp_path / "a.txt", text.encode(encoding))
    found = read(jmr.files(path, by="line", encoding=encoding, newline=newline), most_bytes=8)
    with open(path, encoding=encoding, newline=newline) as file:
        assert [line for _, line in found] == list(file)
    raw = path.read_bytes()
    for (_, at), line in found:
        rest = raw[at:] if at or encoding not in ("utf-16", "utf-32") else raw[len(codecs_mark(encoding)) :]
        assert rest.decode(encoding).replace("\r\n", "\n").startswith(line.replace("\r\n", "\n").rstrip("\r\n"))


def codecs_mark(encoding: str) -> bytes:
    return "".encode(encoding)


def test_a_line_longer_than_many_splits_is_one_record(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt", b"short\n" + b"x" * 100_000 + b"\nend")
    found = read(jmr.files(path, by="line"), most_bytes=1_000)
    assert found == lines_by_loop(path, encoding="utf-8")
    assert len(found) == 3


def test_a_bad_byte_is_told_by_its_place_and_only_its_line_is_set_aside(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt", "é\n".encode() * 10 + b"ab\xff\n" + "ü\n".encode() * 10)
    with pytest.raises(jmr.SourceError, match=r"byte 32 \(0xff\) is no utf-8: invalid start byte.*errors='replace'"):
        read(jmr.files(path, by="line"))
    for engine in (None, "inline"):
        with pytest.raises(jmr.SourceError, match=rf"^\('{path}', 30\) cannot be read: byte 32 \(0xff\) is no utf-8"):
            jmr.run(jmr.files(path, by="line"), first, engine=engine)
    result = run_both(jmr.files(path, by="line"), on_error="skip")
    assert len(result) == 20
    assert [(bad.phase, bad.key) for bad in result.errors] == [("read", (str(path), 30))]
    assert [at for _, at in result][9:11] == [27, 34]


# Whole files, and blocks


@pytest.mark.parametrize("newline", NEWLINES)
@pytest.mark.parametrize("content", [b"", b"a\r\nb\rc\n", "\ufeffé\r\n".encode()])
def test_a_whole_file_is_what_read_gives(tmp_path: Path, newline: Any, content: bytes) -> None:
    path = written(tmp_path / "a.txt", content)
    for encoding in ("utf-8", "utf-8-sig"):
        with open(path, encoding=encoding, newline=newline) as file:
            assert read(jmr.files(path, encoding=encoding, newline=newline)) == [(str(path), file.read())]
    assert read(jmr.files(path, encoding=None)) == [(str(path), content)]


def test_blocks_of_bytes_have_their_places(tmp_path: Path) -> None:
    content = bytes(range(250)) * 5
    a, b = written(tmp_path / "a", content), written(tmp_path / "b", content[:100])
    expected = [((str(a), at), content[at : at + 100]) for at in range(0, 1250, 100)] + [((str(b), 0), content[:100])]
    for most_bytes in (1, 100, 350, None):
        assert read(jmr.files([a, b], by="bytes", block_bytes=100), most_bytes) == expected
    assert read(jmr.files(written(tmp_path / "c", b""), by="bytes")) == []


def test_many_small_files_make_one_split_and_a_large_one_many(tmp_path: Path) -> None:
    for number in range(50):
        written(tmp_path / f"s{number:02}", b"line\n" * 10)
    written(tmp_path / "z", b"line\n" * 100_000)
    source = jmr.files(tmp_path, by="line")
    splits = list(source.sized_splits(lambda: 100_000))
    assert [len(split.parts) for split in splits[:3]] == [51, 1, 1]  # type: ignore[attr-defined]
    assert 5 <= len(splits) <= 8
    assert repr(source) == "<jmr.files: 51 files, 502,500 bytes, by line>"
    assert len(list(jmr.files(tmp_path).sized_splits(lambda: 1))) == 51


def test_slots_and_one_loop_read_the_same(tmp_path: Path) -> None:
    for number in range(30):
        text = "".join(f"the cat and line {line}\n" for line in range(number * 40))
        written(tmp_path / f"{number:02}.txt", text.encode())

    def words(place: Any, text: str) -> Iterator[tuple[str, int]]:
        for word in text.split():
            yield word, 1

    by_line = run_both(jmr.files(f"{tmp_path}/*.txt", by="line"), words)
    by_file = run_both(jmr.files(f"{tmp_path}/*.txt"), words)
    of_dict = jmr.run({path.name: path.read_text() for path in sorted(tmp_path.iterdir())}, words)
    assert list(by_line.items()) == list(by_file.items()) == list(of_dict.items())
    assert by_line.stats.n_records == sum(number * 40 for number in range(30))


# Compression

ZSTD = importlib.util.find_spec("backports.zstd") if importlib.util.find_spec("backports") else None
COMPRESS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


def compressors() -> Iterator[Any]:
    yield from COMPRESS.items()
    if sys.version_info >= (3, 14):
        yield "zstd", importlib.import_module("compression.zstd").compress
    elif ZSTD is not None:
        yield "zstd", importlib.import_module("backports.zstd").compress
    elif importlib.util.find_spec("zstandard"):
        yield "zstd", lambda data: importlib.import_module("zstandard").ZstdCompressor().compress(data)


@pytest.mark.parametrize(("kind", "compress"), list(compressors()))
def test_what_is_compressed_is_known_whatever_its_name_is(tmp_path: Path, kind: str, compress: Any) -> None:
    content = b"".join(b"line %d\n" % number for number in range(1_000))
    path = written(tmp_path / "plain.txt", compress(content[:5000]) + compress(content[5000:]))
    expected = lines_by_loop(written(tmp_path / "x", content), encoding="utf-8")
    found = read(jmr.files(path, by="line"), most_bytes=100)
    assert [(at, line) for (_, at), line in found] == [(at, line) for (_, at), line in expected]
    assert read(jmr.files(path, encoding=None)) == [(str(path), content)]
    assert read(jmr.files(path, encoding=None, compression=None)) == [(str(path), path.read_bytes())]
    half = written(tmp_path / "half", compress(content)[:-20])
    with pytest.raises(jmr.SourceError, match=f"its {kind} data are damaged, or end too early"):
        read(jmr.files(half))
    result = run_both(jmr.files([half, path]), on_error="skip")
    assert list(result) == [str(path)]
    assert [(bad.phase, bad.key, type(bad.error)) for bad in result.errors] == [("read", str(half), jmr.SourceError)]


@pytest.mark.parametrize(("kind", "compress"), list(compressors()))
def test_a_damaged_second_stream_is_no_end(tmp_path: Path, kind: str, compress: Any) -> None:
    """As pbzip2 and other tools that use many cores write them."""
    second = bytearray(compress(b"".join(b"line %d\n" % number for number in range(1_000))))
    second[4:] = bytes(255 - byte for byte in second[4:])
    for rest in (bytes(second), b"what is this?"):
        with pytest.raises(jmr.SourceError, match=f"its {kind} data are damaged, or end too early"):
            read(jmr.files(written(tmp_path / "two", compress(b"first\n") + rest)))


def test_zeros_between_streams_of_xz_are_no_data(tmp_path: Path) -> None:
    path = written(tmp_path / "two.xz", lzma.compress(b"a") + bytes(4) + lzma.compress(b"b") + bytes(8))
    assert read(jmr.files(path)) == [(str(path), "ab")]


def test_zstd_may_begin_with_a_frame_to_skip(tmp_path: Path) -> None:
    """That of pzstd does: it tells how long the next frame is."""
    compress = dict(compressors()).get("zstd") or pytest.skip("nothing here can write zstd")
    skipped = b"\x50\x2a\x4d\x18\x04\x00\x00\x00size"
    path = written(tmp_path / "two.zst", skipped + compress(b"a") + skipped + compress(b"b"))
    assert read(jmr.files(path)) == [(str(path), "ab")]


def test_where_nothing_can_read_zstd_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("compression.zstd", "backports.zstd", "zstandard"):
        monkeypatch.setitem(sys.modules, name, None)
    path = written(tmp_path / "a.zst", b"\x28\xb5\x2f\xfd rest")
    with pytest.raises(jmr.SourceError, match=r"which this Python cannot read: pip install backports.zstd"):
        read(jmr.files(path))


def test_text_that_begins_like_a_compressed_file_is_text(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt", b"BZh9 is no magic\n")
    assert read(jmr.files(path)) == [(str(path), "BZh9 is no magic\n")]


# Which files


def test_patterns_directories_and_lists_lead_to_files_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.txt", "a.txt", "c.log", ".hidden", "sub/d.txt", "sub/.git/e.txt", "[x].txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))

    def found(paths: Any) -> list[str]:
        return [path for path, _ in read(jmr.files(paths))]

    assert found("*.txt") == ["[x].txt", "a.txt", "b.txt"]
    assert found("**/*.txt") == ["[x].txt", "a.txt", "b.txt", "sub/d.txt"]
    assert found("**/**/*.txt") == ["[x].txt", "a.txt", "b.txt", "sub/d.txt"]
    assert found("[x].txt") == ["[x].txt"]
    assert found("~/a.txt") == [str(tmp_path / "a.txt")]
    assert found(["c.log", "a*", Path("sub")]) == ["c.log", "a.txt", "sub/d.txt"]
    assert found(tmp_path) == [str(tmp_path / name) for name in ("[x].txt", "a.txt", "b.txt", "c.log", "sub/d.txt")]
    monkeypatch.chdir("/")
    assert found(tmp_path / "*.log") == [str(tmp_path / "c.log")]


def test_relative_paths_are_those_of_the_directory_in_which_files_was_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "a.txt", b"here")
    monkeypatch.chdir(tmp_path)
    source = jmr.files("a.txt")
    monkeypatch.chdir("/")
    assert dict(run_both(source)) == {"a.txt": ["here"]}


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        ("no-such.txt", "there is no file 'no-such.txt'"),
        ("*.nothing", r"the pattern '\*.nothing' matches nothing"),
        (["a.txt", "*.nothing"], r"the pattern '\*.nothing' matches nothing"),
        ("su*", "matches only directories"),
        ("sub", "the directory 'sub' holds no files"),
        ("/dev/null", "is no file that could be read twice"),
    ],
)
def test_what_leads_to_no_file_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, paths: Any, said: str
) -> None:
    written(tmp_path / "a.txt", b"")
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(jmr.SourceError, match=said):
        jmr.files(paths)


def test_what_may_not_be_looked_into_is_not_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But named; who runs tests may be allowed to look everywhere."""
    secret = tmp_path / "secret"
    secret.mkdir()
    for path in (secret / "a.txt", tmp_path / "b.txt"):
        written(path, b"")

    def refusing(function: Callable[..., Any]) -> Callable[..., Any]:
        def called(path: Any = ".", *args: Any, **options: Any) -> Any:
            if str(path).startswith(str(secret)):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return function(path, *args, **options)

        return called

    monkeypatch.setattr(os, "scandir", refusing(os.scandir))
    with pytest.raises(jmr.SourceError, match=f"'{secret}' cannot be read: Permission denied"):
        jmr.files(tmp_path)
    monkeypatch.setattr(os, "stat", refusing(os.stat))
    with pytest.raises(jmr.SourceError, match=f"'{secret}/a.txt' cannot be read: Permission denied"):
        jmr.files(secret / "a.txt")
    later = [f"{secret}/a.txt", f"{tmp_path}/b.txt"]
    assert [path for path, _ in jmr.files(later).found] == later


def test_a_url_of_a_file_here_may_be_quoted(tmp_path: Path) -> None:
    path = written(tmp_path / "a b%20c.txt", b"text")
    assert read(jmr.files(path.as_uri())) == read(jmr.files(f"file://{path}")) == [(str(path), "text")]


def test_a_frame_is_no_list_of_paths() -> None:
    pandas = pytest.importorskip("pandas")
    said = "jmr.files reads files, and this is a DataFrame: pass it to jmr.run as the source, as it is"
    with pytest.raises(jmr.ArgumentTypeError, match=said):
        jmr.files(pandas.DataFrame({"carrier": ["AA"]}))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"paths": 5}, "takes a pattern, a path, or a list of these"),
        ({"paths": [b"a"]}, "takes paths, and b'a'"),
        ({"paths": ""}, "takes paths, and ''"),
        ({"by": "word"}, 'by must be "file", "line" or "bytes"'),
        ({"encoding": "utf-9"}, "unknown encoding: utf-9"),
        ({"encoding": "hex"}, "is not for text"),
        ({"encoding": 8}, "encoding must be a str"),
        ({"errors": "shrug"}, "unknown error handler name 'shrug'"),
        ({"newline": "x"}, "newline must be None"),
        ({"encoding": None, "newline": "\n"}, "newline is for text"),
        ({"compression": "rar"}, 'compression must be "infer" or None'),
        ({"block_bytes": 0}, "block_bytes must be from 1"),
        ({"block_bytes": 1.5}, "block_bytes must be a whole number"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises((jmr.ArgumentTypeError, jmr.ArgumentValueError), match=said):
        jmr.files(**{"paths": __file__} | options)


# Files that cannot be read


def test_a_listed_file_that_is_not_there_is_told_in_its_turn(tmp_path: Path) -> None:
    a, gone = written(tmp_path / "a", b"1"), tmp_path / "gone"
    for engine in (None, "inline"):
        with pytest.raises(jmr.SourceError, match=rf"^'{gone}' cannot be read: No such file or directory") as caught:
            jmr.run(jmr.files([a, gone]), first, engine=engine)
        assert isinstance(caught.value.__cause__, FileNotFoundError)
    result = run_both(jmr.files([a, gone, a]), on_error="skip")
    assert dict(result) == {str(a): ["1", "1"]}
    assert [(bad.phase, bad.key, type(bad.error)) for bad in result.errors] == [("read", str(gone), FileNotFoundError)]


def test_a_file_that_was_changed_is_not_read(tmp_path: Path) -> None:
    a, b, c = (written(tmp_path / name, b"1\n") for name in "abc")
    (split,) = jmr.files([a, b, c]).splits()
    b.write_bytes(b"12\n")
    c.unlink()
    found: list[Any] = []
    assert list(split.read(keeping(found)).pairs()) == [(str(a), "1\n")]  # type: ignore[union-attr]
    assert found == [(str(b), "NotHereError", 1), (str(c), "NotHereError", 1)]
    with pytest.raises(NotHereError, match="it is not as it was when the job listed it: 3 bytes instead of 2"):
        split.read(refuse)


def test_a_file_of_the_same_size_is_another_one_by_its_time(tmp_path: Path) -> None:
    a = written(tmp_path / "a", b"1\n")
    (split,) = jmr.files(a).splits()
    os.utime(a, ns=(1, 1))
    with pytest.raises(NotHereError, match="it was written to since the job listed it"):
        split.read(refuse)


@pytest.mark.parametrize("engine", [None, "inline"])
def test_a_file_that_is_changed_while_it_is_read_ends_the_job(tmp_path: Path, engine: Any) -> None:
    path = written(tmp_path / "a.txt", b"line\n" * 1_000)

    def mapfn(place: Any, line: str, path: str = str(path)) -> None:
        with open(path, "a") as file:
            file.write("more\n")

    source = replace(jmr.files(path, by="line"), most_bytes=100)
    with pytest.raises(jmr.SourceError, match=r"/a.txt' cannot be read: it is not as it was when the job listed it"):
        jmr.run(source, mapfn, engine=engine)


@pytest.mark.skipif(os.geteuid() == 0, reason="kernel forbids nothing to root")
def test_a_file_that_may_not_be_read_is_told_so(tmp_path: Path) -> None:
    a = written(tmp_path / "a", b"1\n")
    a.chmod(0)
    with pytest.raises(jmr.SourceError, match="Permission denied"):
        jmr.run(jmr.files(a), first)


def test_a_file_of_no_told_size_is_read_to_its_end() -> None:
    with open("/proc/cpuinfo") as file:
        n_lines = len(list(file))
    assert len(read(jmr.files("/proc/cpuinfo", by="line"))) == n_lines


# Carried, kept, run again


@pytest.mark.parametrize("by", ["file", "line", "bytes"])
def test_a_carried_split_reads_the_same_without_the_files(tmp_path: Path, by: Any) -> None:
    content = b"".join(b"line %d\n" % number for number in range(1_000))
    paths = [written(tmp_path / "a", content), written(tmp_path / "b.gz", gzip.compress(content))]
    source = jmr.files([*paths, tmp_path / "gone"], by=by, block_bytes=500)
    splits = list(source.sized_splits(lambda: 2_000))
    expected: list[Any] = []
    records = list(read_pairs(iter(splits), keeping(expected)))
    carried = [load(bytearray(b"".join(dump_columns([split.carried()], [0])))) for split in splits]
    for path in paths:
        path.unlink()
    found: list[Any] = []
    assert list(read_pairs((split for (split,), _ in carried), keeping(found))) == records
    assert found == expected == [(str(tmp_path / "gone"), "FileNotFoundError", len(records))]


def test_what_had_changed_before_it_was_carried_is_no_riddle_for_the_worker(tmp_path: Path) -> None:
    a = written(tmp_path / "a", b"1")
    (split,) = jmr.files(a).splits()
    a.write_bytes(b"22")
    found: list[Any] = []
    split.carried().read(keeping(found))
    assert found == [(str(a), "SourceError", 0)]


def test_a_fingerprint_is_of_what_is_read(tmp_path: Path) -> None:
    a = written(tmp_path / "a", b"1\n" * 5_000)

    def prints(**options: Any) -> list[str]:
        return [split.fingerprint() for split in jmr.files(a, **options).sized_splits(lambda: 4_000)]

    first = prints(by="line")
    assert len(set(first)) == len(first) == 3
    assert prints(by="line") == first
    assert not set(first) & {*prints(by="bytes"), *prints(), *prints(by="line", encoding="latin-1")}
    os.utime(a, ns=(1, 1))
    assert not set(first) & set(prints(by="line"))
    assert FilesSplit(Disk("/"), jmr.files(a).how, ()).fingerprint()


def test_a_fingerprint_knows_a_file_from_everywhere_and_not_another_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        written(tmp_path / name / "a", b"1\n")
        os.utime(tmp_path / name / "a", ns=(1, 1))
    whole, relative = [], []
    for name in ("here", "there"):
        monkeypatch.chdir(tmp_path / name)
        whole += [split.fingerprint() for split in jmr.files(tmp_path / "here" / "a").splits()]
        relative += [split.fingerprint() for split in jmr.files("a").splits()]
    assert (len(set(whole)), len(set(relative))) == (1, 2)


def test_a_checkpoint_reads_again_only_what_has_changed(tmp_path: Path) -> None:
    calls = Calls(tmp_path / "calls")
    folder = tmp_path / "in"
    folder.mkdir()
    for name in "abc":
        written(folder / name, name.encode() * 70_000)

    def mapfn(path: str, text: str, log: str = calls.path) -> Iterator[tuple[str, int]]:
        note(log, os.path.basename(path))
        yield text[:1], len(text)

    def run() -> Any:
        return jmr.run(jmr.files(folder), mapfn, checkpoint=tmp_path / "kept")

    result = run()
    assert calls.take() == {"a": 1, "b": 1, "c": 1}
    assert run() == result
    assert calls.take() == {}
    written(folder / "b", b"x")
    assert dict(run()) == {"a": [70_000], "x": [1], "c": [70_000]}
    assert calls.take()["a"] == 0


def test_a_failing_line_can_be_replayed_and_is_skipped(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt", b"1\n2\nx\n4\n")

    def mapfn(place: Any, line: str) -> Iterator[tuple[str, int]]:
        yield "sum", int(line)

    with pytest.raises(jmr.MapError) as caught:
        jmr.run(jmr.files(path, by="line"), mapfn)
    assert (caught.value.key, caught.value.value) == ((str(path), 4), "x\n")
    with pytest.raises(ValueError, match="invalid literal"):
        jmr.replay()
    result = run_both(jmr.files(path, by="line"), mapfn, on_error="skip")
    assert dict(result) == {"sum": [1, 2, 4]}
    assert [(bad.key, bad.value) for bad in result.errors] == [((str(path), 4), "x\n")]


@pytest.mark.slow
def test_a_line_that_ends_its_slot_is_found_and_left_out(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt", b"1\n2\nx\n4\n")

    def mapfn(place: Any, line: str) -> Iterator[tuple[str, int]]:
        if line == "x\n":
            os._exit(3)
        yield "sum", int(line)

    with pytest.raises(jmr.SlotDiedError) as caught:
        jmr.run(jmr.files(path, by="line"), mapfn, max_attempts=2)
    assert (caught.value.key, caught.value.value) == ((str(path), 4), "x\n")
    result = jmr.run(jmr.files(path, by="line"), mapfn, max_attempts=2, on_error="skip")
    assert dict(result) == {"sum": [1, 2, 4]}
    assert [(bad.phase, bad.key) for bad in result.errors] == [("map", (str(path), 4))]


def test_a_preview_shows_the_first_lines(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt", b"one\ntwo\nthree\n")
    seen = jmr.preview(jmr.files(path, by="line"), first, n=2)
    assert seen.records == [((str(path), 0), "one\n"), ((str(path), 4), "two\n")]
