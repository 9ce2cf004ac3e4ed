"""Files behind URLs: found, read by ranges, known again, and told of without secrets."""

from __future__ import annotations

import gzip
import importlib
import pickle
import re
import subprocess
import sys
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

import jmr
from jmr.sources.urls import UrlFile, found
from jmr.urls import is_url, local_path, shown
from tests.web import serving

fsspec = pytest.importorskip("fsspec")
pytest.importorskip("aiohttp")
MemoryFileSystem: Any = pytest.importorskip("fsspec.implementations.memory").MemoryFileSystem
infer_storage_options = pytest.importorskip("fsspec.utils").infer_storage_options

TEXT = b"".join(b"line %d\n" % i for i in range(1000))


@pytest.fixture(scope="module", autouse=True)
def reading_thread() -> None:
    """The one thread by which fsspec reads; it stays, so it is there before any test counts threads."""
    pytest.importorskip("fsspec.asyn").get_loop()


@pytest.fixture
def memory() -> Iterator[str]:
    """A folder in fsspec's memory."""
    folder = f"memory://{uuid.uuid4().hex}"
    yield folder
    fsspec.filesystem("memory").rm(folder, recursive=True)


def put(url: str, data: bytes = TEXT) -> None:
    fsspec.filesystem("memory").pipe_file(url, data)


@pytest.mark.parametrize(
    "text", ["s3://b/k", "https://h/x?a=1", "memory://a", "zip://*.csv::s3://b/a.zip", "S3A://b/k"]
)
def test_what_has_a_scheme_is_a_url(text: str) -> None:
    assert is_url(text)


@pytest.mark.parametrize(
    "text", ["a/b.txt", "/a/b", "C:/x", "C:\\x", "*.txt", "a::b", "run::1", "~/x", "", "//host/share", "://"]
)
def test_what_has_none_is_a_path(text: str) -> None:
    assert not is_url(text)


def test_a_url_of_a_file_here_is_a_path_and_needs_no_fsspec() -> None:
    assert local_path("file:///tmp/a%20b.txt") == "/tmp/a%20b.txt"
    assert local_path("file://localhost/tmp/x") == "/tmp/x"
    assert local_path("local:///tmp/x") == "/tmp/x"
    assert local_path("s3://tmp/x") is None


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://ann:pa55@host/x", "https://host/x"),
        ("https://ann@host/x", "https://host/x"),
        ("https://ann:p@55@host/x", "https://host/x"),
        ("ftp://ann:p@ss@host/x", "ftp://host/x"),
        ("zip://a::https://ann:pa55@host/x.zip", "zip://a::https://host/x.zip"),
        ("https://h/x?v=2&X-Amz-Credential=AK%2F1&X-Amz-Signature=0a", "https://h/x?v=2&X-Amz-Credential=***&X-Amz-Signature=***"),
        ("https://h/x?sig=a%2Bb%3D&sv=1", "https://h/x?sig=***&sv=1"),
        ("https://h/x?access_token=t0ken#top", "https://h/x?access_token=***#top"),
        ("https://h/x?api_key=1&design=2", "https://h/x?api_key=***&design=2"),
        ("https://h/a@b/c?page=1", "https://h/a@b/c?page=1"),
        ("GET 'https://ann:pa55@h/x?Signature=0a' failed", "GET 'https://h/x?Signature=***' failed"),
        ("s3://bucket/key.txt", "s3://bucket/key.txt"),
    ],
)  # fmt: skip
def test_passwords_and_signatures_are_not_told(url: str, told: str) -> None:
    assert shown(url) == told


def test_a_pattern_a_directory_and_a_name_are_found_in_order(memory: str) -> None:
    for name in ("b.txt", "a.txt", "deep/c.txt", "d.csv"):
        put(f"{memory}/{name}")
    names = [f"{memory}/{name}" for name in ("a.txt", "b.txt", "d.csv", "deep/c.txt")]
    assert [file.name for file in found(f"{memory}/*.txt")] == names[:2]
    assert [file.name for file in found(f"{memory}/**/*.txt")] == [names[0], names[1], names[3]]
    assert [file.name for file in found(memory)] == names
    assert [(file.name, file.n_bytes) for file in found(names[0])] == [(names[0], len(TEXT))]


def test_a_name_with_signs_of_a_pattern_is_found_if_it_is_there(memory: str) -> None:
    put(f"{memory}/a[1].txt")
    put(f"{memory}/a1.txt")
    assert [file.name for file in found(f"{memory}/a[1].txt")] == [f"{memory}/a[1].txt"]


def test_names_that_begin_with_a_dot_are_left_out_unless_they_are_named(memory: str) -> None:
    for name in ("a.txt", ".b.txt", ".git/c.txt", "deep/.d.txt"):
        put(f"{memory}/{name}")

    def names(what: str) -> list[str]:
        return [file.name.removeprefix(f"{memory}/") for file in found(memory + what)]

    assert names("") == names("/**") == names("/*.txt") == ["a.txt"]
    assert names("/.*.txt") == [".b.txt"]
    assert names("/.git/*") == names("/.git") == [".git/c.txt"]


@pytest.mark.parametrize("what", ["/nothing/*.txt", "/nothing.txt"])
def test_what_fits_no_file_is_named(memory: str, what: str) -> None:
    put(f"{memory}/a.txt")
    with pytest.raises(jmr.SourceError, match=f"{memory}{what}".replace("*", r"\*")):
        found(memory + what)


def test_parts_are_read_by_one_request_each() -> None:
    with serving({"/a.txt": TEXT}) as web:
        [file] = found(f"{web.url}/a.txt")
        assert (file.n_bytes, file.has_ranges()) == (len(TEXT), True)
        web.asked.clear()
        opened = file.open()
        assert opened.read(100, 150) == TEXT[100:150]
        assert opened.read(len(TEXT) - 10, len(TEXT) + 40) == TEXT[-10:]
        assert opened.read(len(TEXT), len(TEXT) + 50) == b""
        assert opened.read(0, None) == TEXT
        assert [part for _, _, part in web.asked] == ["bytes=100-149", f"bytes={len(TEXT) - 10}-{len(TEXT) - 1}", None]


def test_a_server_without_ranges_is_found_out_and_a_wrong_part_is_no_part() -> None:
    with serving({"/a.txt": TEXT}, ranges=False) as web:
        [file] = found(f"{web.url}/a.txt")
        assert not file.has_ranges()
        assert file.open().read() == TEXT
        with pytest.raises(OSError, match="8,890 bytes came where 10 were to come"):
            file.open().read(5, 15)


def test_a_server_that_tells_no_length_is_read_as_a_whole() -> None:
    with serving({"/a.txt": TEXT}, lengths=False) as web:
        [file] = found(f"{web.url}/a.txt")
        assert (file.n_bytes, file.has_ranges(), file.open().read()) == (None, False, TEXT)
        assert file.open().identity() == file.look()


@pytest.mark.parametrize("etags", [True, False])
def test_a_page_that_has_changed_is_not_the_same(etags: bool) -> None:
    with serving({"/a.txt": TEXT}, etags=etags) as web:
        [file] = found(f"{web.url}/a.txt")
        assert file.open().identity() == file.look()
        web.pages["/a.txt"] = TEXT.replace(b"line 7\n", b"line !\n") if etags else TEXT + b"more"
        assert file.open().identity() != file.look()
        del web.pages["/a.txt"]
        with pytest.raises(FileNotFoundError, match="the server says 404 Not found"):
            file.open().identity()


def test_links_of_a_page_are_found_by_a_pattern() -> None:
    with serving({"/d/a.txt": TEXT, "/d/b.txt": b"b", "/d/c.csv": b"c"}) as web:
        files = found(f"{web.url}/d/*.txt")
        assert [(file.name, file.n_bytes) for file in files] == [
            (f"{web.url}/d/a.txt", len(TEXT)),
            (f"{web.url}/d/b.txt", 1),
        ]
        assert [file.open().read() for file in files] == [TEXT, b"b"]


def test_a_password_opens_the_page_and_is_never_told() -> None:
    with serving({"/a.txt": TEXT}, login="ann:pa55word") as web:
        url = web.url.replace("://", "://ann:pa55word@")
        [file] = found(f"{url}/a.txt")
        assert (file.name, file.open().read()) == (f"{web.url}/a.txt", TEXT)
        assert "pa55word" not in repr(file) + repr(file.look())
        web.login = "ann:other"
        for fails in (file.open().read, lambda: found(f"{url}/a.txt")):
            with pytest.raises((OSError, jmr.SourceError), match="the server says 403 Keep out") as caught:
                fails()
            assert _all_of(caught.value).count("pa55word") == 0


def test_a_signature_opens_the_page_and_is_never_told() -> None:
    with serving({"/a.txt": TEXT}, query="sig=s3cret") as web:
        [file] = found(f"{web.url}/a.txt?sig=s3cret&v=1")
        assert (file.name, file.open().read()) == (f"{web.url}/a.txt?sig=***&v=1", TEXT)
        web.query = "sig=another"
        with pytest.raises(PermissionError) as caught:
            file.open().read(0, 10)
        assert _all_of(caught.value).count("s3cret") == 0


def _all_of(error: BaseException | None) -> str:
    """Whatever anybody may print of an exception, and of all that led to it."""
    told = ""
    while error is not None:
        told += f"{error!r} {error.args}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return told


def test_nobody_there_is_told_with_the_url() -> None:
    with serving({}) as web:
        url = web.url
    with pytest.raises(jmr.SourceError, match=f"'{url}/a.txt' cannot be read: ClientConnectorError"):
        found(f"{url}/a.txt")


def test_an_unknown_scheme_and_wrong_options_are_refused() -> None:
    with pytest.raises(jmr.SourceError, match="'gopher://h/x' cannot be read: ValueError: Protocol not known: gopher"):
        found("gopher://h/x")
    with pytest.raises(jmr.ArgumentTypeError, match="storage_options must be a dict, not list"):
        found("memory://x", [("key", 1)])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("module", "url", "why"),
    [
        ("fsspec.core", "s3://b/k", 'needs fsspec: pip install "jmr[fs]"'),
        ("s3fs", "s3://b/k", "cannot be read: Install s3fs to access S3. Install that here and on the workers"),
    ],
)
def test_a_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch, module: str, url: str, why: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(importlib.import_module("fsspec.registry")._registry, "s3", raising=False)
    with pytest.raises(jmr.SourceError, match=re.escape(f"'{url}' {why}") + "$"):
        found(url)


def test_storage_options_reach_the_file_system_and_travel_with_the_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("in/a.txt", TEXT)
        archive.writestr("in/b.txt", b"b")
    files = found(f"zip://in/*.txt::file://{tmp_path}/a.zip", {"file": {"auto_mkdir": False}})
    assert [file.name for file in files] == [f"zip://in/{name}.txt::file://{tmp_path}/a.zip" for name in "ab"]
    again: list[UrlFile] = pickle.loads(pickle.dumps(files))
    assert [file.open().read() for file in again] == [TEXT, b"b"]
    assert again[0].system is again[1].system
    assert again[0].open().identity() == files[0].look()


def test_memory_is_of_this_process_alone(memory: str) -> None:
    put(f"{memory}/a.txt")
    with serving({"/a.txt": TEXT}) as web:
        assert [found(url)[0].is_of_this_process for url in (f"{memory}/a.txt", f"{web.url}/a.txt")] == [True, False]


# As a source


def words(place: Any, text: str) -> Iterator[tuple[str, int]]:
    for word in text.split():
        yield word, 1


def total(word: str, counts: list[int]) -> int:
    return sum(counts)


def placed(key: Any, value: Any) -> list[Any]:
    return [(key, value)]


def read_by(source: Any, engine: Any = None, **options: Any) -> dict[Any, Any]:
    """Its records; the same by slots as in this process, with their types."""
    here = jmr.run(source, placed, first, engine="inline", **options)
    there = jmr.run(source, placed, first, progress=False, **options)
    assert list(here.items()) == list(there.items())
    assert list(map(type, here.values())) == list(map(type, there.values()))
    return dict(here)


def first(key: Any, values: list[Any]) -> Any:
    [value] = values
    return value


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("by", ["file", "line", "bytes"])
def test_pages_give_the_records_that_files_would(tmp_path: Path, by: Any, ranges: bool) -> None:
    pages = {"/d/a.txt": TEXT, "/d/b.txt": b"", "/d/c.txt": "drei\r\nvier\n\u00fcnf".encode()}
    for name, page in pages.items():
        (tmp_path / name.rpartition("/")[2]).write_bytes(page)
    with serving(pages, ranges=ranges) as web:
        options: Any = {"by": by, "block_bytes": 1000}
        found = read_by(jmr.files(f"{web.url}/d/*.txt", **options))
        expected = read_by(jmr.files(tmp_path, **options))
    assert [_moved(key, str(tmp_path), f"{web.url}/d") for key in expected] == list(found)
    assert list(found.values()) == list(expected.values())


def _moved(key: Any, old: str, new: str) -> Any:
    return key.replace(old, new) if isinstance(key, str) else (key[0].replace(old, new), *key[1:])


def test_a_large_page_is_cut_on_lines_and_read_by_one_request_for_each_part() -> None:
    page = b"".join(b"%07d\n" % i for i in range(50_000))
    with serving({"/a.txt": page}) as web:
        source = jmr.files(f"{web.url}/a.txt", by="line")
        web.asked.clear()
        result = jmr.run(source, words, total, progress=False)
        assert (len(result), result.stats.n_records) == (50_000, 50_000)
        parts = [part for method, _, part in web.asked if method == "GET" and part]
        n_tasks = sum(one.task.startswith("map") for one in result.timeline)
        assert n_tasks > 3
        assert len(parts) == n_tasks + 2  # and whether it can be cut, and whether it is compressed


def test_a_large_page_of_a_server_without_ranges_is_one_split() -> None:
    page = b"".join(b"%07d\n" % i for i in range(50_000))
    with serving({"/a.txt": page}, ranges=False) as web:
        result = jmr.run(jmr.files(f"{web.url}/a.txt", by="line"), words, total, progress=False)
    assert (len(result), [one.task for one in result.timeline].count("map-0")) == (50_000, 1)
    assert not any(one.task == "map-1" for one in result.timeline)


def test_compressed_pages_and_those_of_unknown_length_are_read_whole() -> None:
    pages = {"/d/a.gz": gzip.compress(TEXT), "/d/b.txt": TEXT}
    with serving(pages, lengths=False) as web:
        found = read_by(jmr.files([f"{web.url}/d/a.gz", f"{web.url}/d/b.txt"], by="file"))
    assert list(found.values()) == [TEXT.decode(), TEXT.decode()]


def test_memory_of_this_process_is_read_by_other_processes(memory: str) -> None:
    put(f"{memory}/a.txt", b"one two\n")
    put(f"{memory}/b.txt", b"two\n")
    assert read_by(jmr.files(memory)) == {f"{memory}/a.txt": "one two\n", f"{memory}/b.txt": "two\n"}


@pytest.mark.parametrize("suffix", ["", ".parquet"])
def test_an_output_in_memory_is_read_by_other_processes(memory: str, suffix: str) -> None:
    if suffix:
        pytest.importorskip("pyarrow")
    url = f"{memory}/sums{suffix}"
    jmr.run({"a": 1, "b": 2}, placed, first, engine="inline", out=url)
    splits = list(jmr.outputs(url).splits())
    fsspec.filesystem("memory").rm(url, recursive=True)
    put(f"{memory}/here")
    assert [pickle.loads(pickle.dumps(split)).read(pytest.fail) for split in splits] == [(["a", "b"], [1, 2])]


@pytest.mark.parametrize("ranges", [True, False])
def test_an_output_at_a_web_server_is_read_once(tmp_path: Path, ranges: bool) -> None:
    numbers = {number: number for number in range(100)}
    jmr.run(numbers, placed, first, engine="inline", out=tmp_path)
    with serving({f"/o/{path.name}": path.read_bytes() for path in tmp_path.iterdir()}, ranges=ranges) as web:
        splits = list(jmr.outputs(f"{web.url}/o").sized_splits(lambda: 300))
        read = [split.read(pytest.fail) for split in splits]
    assert len(read) > 3
    assert [key for keys, _ in read for key in keys] == list(numbers)


def test_a_list_may_have_paths_and_urls(tmp_path: Path, memory: str) -> None:
    put(f"{memory}/a.txt", b"one")
    (tmp_path / "b.txt").write_text("two")
    (tmp_path / "c.txt").write_text("three")
    paths = [tmp_path / "b.txt", f"{memory}/a.txt", f"file://{tmp_path}/c.txt"]
    assert list(read_by(jmr.files(paths)).items()) == [
        (f"{tmp_path}/b.txt", "two"),
        (f"{memory}/a.txt", "one"),
        (f"{tmp_path}/c.txt", "three"),
    ]


def test_urls_that_differ_by_what_is_not_shown_have_keys_that_differ() -> None:
    with serving({"/a.txt": b"page"}) as web:
        names = [f"{web.url}/a.txt?token={n}" for n in (1, 2)]
        found = read_by(jmr.files([*names, names[0]][:2]))
    assert list(found) == [f"{web.url}/a.txt?token=***", f"{web.url}/a.txt?token=***#2"]


class Host(MemoryFileSystem):
    """As FTP: which host it is stands in the URL, and in no path."""

    protocol = "host"
    stores: ClassVar[dict[str, dict[str, Any]]] = {}

    def __init__(self, host: str = "", **options: Any) -> None:
        super().__init__(**options)
        self.store = self.stores.setdefault(host, {})

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + str(infer_storage_options(path)["path"]).strip("/")

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, Any]:
        return {"host": infer_storage_options(path).get("host", "")}


@pytest.mark.parametrize("what", ["logs/*.txt", "logs/", "logs/a.txt"])
def test_files_of_one_path_on_two_hosts_are_two(what: str) -> None:
    fsspec.register_implementation("host", Host, clobber=True)
    for host in ("logs", "other"):
        fsspec.filesystem("host", host=host).pipe_file("/logs/a.txt", host.encode())
    (split,) = jmr.files([f"host://me:pa55@logs/{what}", f"host://other/{what}"]).splits()
    assert list(split.read(pytest.fail).pairs()) == [
        ("host://logs/logs/a.txt", "logs"),
        ("host://other/logs/a.txt", "other"),
    ]


def test_pages_that_are_gone_or_were_changed_are_named_and_set_aside() -> None:
    pages = {f"/d/{name}.txt": name.encode() for name in "abc"}
    with serving(pages) as web:
        source = jmr.files([f"{web.url}/d/*.txt", f"{web.url}/d/none.txt"])
        del web.pages["/d/a.txt"]
        web.pages["/d/c.txt"] = b"!"
        with pytest.raises(jmr.SourceError, match=f"'{web.url}/d/a.txt' cannot be read: there is no such file"):
            jmr.run(source, words, total, progress=False)
        result = jmr.run(source, words, total, on_error="skip", progress=False)
        assert dict(result) == {"b": 1}
        assert [(bad.phase, bad.key, bad.value) for bad in result.errors] == [
            ("read", f"{web.url}/d/{name}.txt", None) for name in ("a", "c", "none")
        ]
        assert "it was written to since the job listed it" in str(result.errors[1].error)
        here = jmr.run(source, words, total, on_error="skip", engine="inline")
        assert [bad.key for bad in here.errors] == [bad.key for bad in result.errors]


def test_no_secret_is_in_what_is_shown_of_a_job() -> None:
    def fails(key: Any, text: str) -> None:
        raise ValueError("odd")

    with serving({"/a.txt": b"one", "/b.txt": b"two"}, login="ann:pa55word", query="sig=s3cret") as web:
        url = web.url.replace("://", "://ann:pa55word@")
        source = jmr.files([f"{url}/a.txt?sig=s3cret", f"{url}/b.txt?sig=s3cret"])
        seen = repr(source) + repr(list(source.splits()))
        with pytest.raises(jmr.MapError) as failed:
            jmr.run(source, fails, progress=False)
        seen += _all_of(failed.value) + repr(failed.value.key) + repr(jmr.last)
        del web.pages["/b.txt"]
        result = jmr.run(source, words, total, on_error="skip", progress=False)
        seen += (
            repr(result.errors) + result.errors[0].traceback + repr(result.summary) + _all_of(result.errors[0].error)
        )
        with pytest.raises(jmr.SourceError) as lost:
            jmr.run(source, words, total, progress=False)
        seen += _all_of(lost.value)
    assert f"{web.url}/a.txt?sig=***" in seen
    assert "pa55word" not in seen
    assert "s3cret" not in seen


def test_a_checkpoint_goes_by_the_version_of_a_page(tmp_path: Path) -> None:
    with serving({"/d/a.txt": b"one", "/d/b.txt": b"two"}) as web:

        def counted() -> tuple[dict[str, int], int]:
            source = jmr.files([f"{web.url}/d/a.txt", f"{web.url}/d/b.txt"])
            web.asked.clear()
            result = jmr.run(source, words, total, checkpoint=tmp_path / "kept", progress=False)
            return dict(result), len(web.asked)

        assert counted() == ({"one": 1, "two": 1}, 4)  # each page, and whether it is still the same
        assert counted() == ({"one": 1, "two": 1}, 0)
        web.pages["/d/b.txt"] = b"six"
        assert counted() == ({"one": 1, "six": 1}, 4)


def test_options_for_urls_are_refused_where_there_are_none(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    with pytest.raises(jmr.ArgumentValueError, match="storage_options are for URLs, and there is none"):
        jmr.files(tmp_path / "a.txt", storage_options={"anon": True})


def test_files_here_need_no_fsspec(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    program = f"""
import sys, jmr
assert jmr.run(jmr.files(["{tmp_path}/a.txt", "file://{tmp_path}/a.txt"]), lambda k, v: [(v, 1)], engine="inline")
assert "fsspec" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


# Tables


def a_table(n: int = 3) -> bytes:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.table({"x": list(range(n))}), sink)
    return bytes(sink.getvalue().to_pybytes())


@pytest.mark.slow
def test_a_table_is_read_by_its_url_in_memory_and_from_a_web_server(memory: str) -> None:
    put(f"{memory}/a.parquet", a_table())
    assert list(read_by(jmr.table(f"{memory}/*.parquet")).values()) == [{"x": 0}, {"x": 1}, {"x": 2}]
    with serving({"/a.parquet": a_table()}) as web:
        found = read_by(jmr.table(f"{web.url}/a.parquet"))
    assert found == {(f"{web.url}/a.parquet", number): {"x": number} for number in range(3)}


class Locked(MemoryFileSystem):
    """As S3, where nobody has said who asks."""

    protocol = "locked"

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        raise RuntimeError("Unable to locate credentials")


def test_a_table_in_a_store_that_lets_nobody_in_is_named() -> None:
    pytest.importorskip("pyarrow")
    fsspec.register_implementation("locked", Locked, clobber=True)
    said = (
        "'locked://b/a.parquet' cannot be read: RuntimeError: Unable to locate credentials. Pass what the file system "
    )
    with pytest.raises(jmr.SourceError, match=said):
        jmr.table("locked://b/a.parquet")


def test_a_table_at_a_local_url_is_one_of_this_host(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(a_table(1))
    found = jmr.run(jmr.table(f"file://{tmp_path}/a.parquet"), placed, first, engine="inline")
    assert dict(found) == {(f"{tmp_path}/a.parquet", 0): {"x": 0}}


def test_a_table_whose_url_holds_a_secret_is_refused_without_telling_it(tmp_path: Path) -> None:
    a_table()
    with pytest.raises(jmr.SourceError, match=r"'https://h/a.parquet\?sig=\*\*\*' has a password or a signature"):
        jmr.table("https://ann:pa55@h/a.parquet?sig=s3cret")
    with pytest.raises(jmr.ArgumentValueError, match="storage_options are for a URL, and there is none"):
        jmr.table(tmp_path, storage_options={"anon": True})
