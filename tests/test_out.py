"""Jobs that write their results: what lies in the directory, whatever became of the job; what is refused."""

from __future__ import annotations

import errno
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jmr
from jmr.codec.values import dump_columns, load_columns
from jmr.sinks.base import Part
from jmr.sinks.bucket import write_attempt
from jmr.sinks.folder import Folder
from jmr.sinks.output import Output
from jmr.sinks.sink import sink_for
from jmr.sources import outputs
from jmr.tasks.map import MapTask, run_map
from jmr.tasks.partition import place
from jmr.tasks.reduce import ReduceTask, run_reduce
from tests.checkpoints import Calls, note
from tests.namespaces import PATH, check_machine
from tests.outs import manifest, names, rows

NUMBERS = [(number, number) for number in range(2_000)]
ENGINES = pytest.mark.parametrize("engine", ["inline", None], ids=["inline", "cluster"])


def by_name(number: int, value: int) -> Iterator[tuple[str, int]]:
    yield f"key {number % 50}", value


def total(key: Any, values: list[int]) -> int:
    return sum(values)


def emit(key: Any, value: Any) -> list[Any]:
    return [(key, value)]


def first(key: Any, values: list[Any]) -> Any:
    return values[0]


def run(*job: Any, **options: Any) -> Any:
    return jmr.run(*job, **{"progress": False} | options)


@ENGINES
def test_the_files_hold_what_the_dict_would(tmp_path: Path, engine: Any) -> None:
    expected = run(NUMBERS, by_name, total, engine="inline")
    result = run(NUMBERS, by_name, total, engine=engine, out=tmp_path / "sums")
    assert dict(rows(result)) == expected
    assert sum(result.values()) == result.stats.n_keys == len(expected) == 50
    assert list(result) == [str(tmp_path / "sums" / f"part-{n:05}.jsonl") for n in range(len(result))]
    assert names(tmp_path / "sums") == ["_manifest.json", *map(os.path.basename, result)]


def test_workers_of_others_write_alike(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as threads:
        result = run(NUMBERS, by_name, total, engine=threads, out=tmp_path / "sums")
        assert dict(rows(result)) == run(NUMBERS, by_name, total, engine="inline")
        assert dict(run(result, emit, first, engine=threads)) == dict(rows(result))
        with pytest.raises(jmr.ReduceError, match="which JSON cannot hold") as caught:
            run([("a", 1)], emit, lambda key, values: {2}, engine=threads, out=tmp_path / "sets")
    assert (caught.value.key, caught.value.value) == ("a", [1])
    assert names(tmp_path) == ["sums"]


def test_keys_stand_in_a_file_in_order_of_first_appearance_and_files_by_their_first_keys(tmp_path: Path) -> None:
    places = {key: place for place, key in enumerate(run(NUMBERS, by_name, total, engine="inline"))}
    result = run(NUMBERS, by_name, total, out=tmp_path / "sums", n_partitions=7)
    files = [[places[key] for key, _ in rows([path])] for path in result]
    assert len(files) == 7
    assert all(file == sorted(file) for file in files)
    assert files == sorted(files)


@ENGINES
def test_the_manifest_says_what_there_is(tmp_path: Path, engine: Any) -> None:
    result = run(NUMBERS, by_name, total, engine=engine, out=tmp_path / "sums", name="adding")
    parts = [{"name": Path(p).name, "n_keys": n, "n_bytes": Path(p).stat().st_size} for p, n in result.items()]
    assert manifest(tmp_path / "sums") == {
        "jmr": 1,
        "job": "adding",
        "format": ".jsonl",
        "n_keys": 50,
        "parts": parts,
    }


@ENGINES
def test_a_job_without_results_writes_a_manifest_alone(tmp_path: Path, engine: Any) -> None:
    assert run([], by_name, total, engine=engine, out=tmp_path / "sums") == {}
    assert names(tmp_path / "sums") == ["_manifest.json"]
    assert run(jmr.outputs(tmp_path / "sums"), emit, engine=engine) == {}


@ENGINES
def test_without_a_reducefn_the_lists_are_written(tmp_path: Path, engine: Any) -> None:
    assert rows(run([(1, "a"), (1, "b")], emit, engine=engine, out=tmp_path / "lists")) == [(1, ["a", "b"])]


def test_a_job_says_in_one_line_where_its_results_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(NUMBERS, by_name, total, engine="inline", out="sums")
    assert list(result) == ["sums/part-00000.jsonl"]
    assert "2,000 records -> 50 keys" in str(result.summary)
    assert "1 file, " in str(result.summary)
    assert ", in sums" in str(result.summary)


def test_a_partition_that_is_reduced_part_by_part_has_a_file_for_each() -> None:
    """Where it does not fit into memory; a group's index goes on from part to part."""
    sink = sink_for("nowhere")
    task = MapTask(mapfn=emit, combinefn=None, n_partitions=1, skips=False)
    splits = [bytearray(b"".join(dump_columns(*columns))) for columns in (([1, 2], [1, 2]), ([3, 5], [{4}, 5]))]
    blobs = [bytearray(b"".join(run_map(task, split).partitions[0])) for split in splits]
    reduce = ReduceTask(reducefn=first, combinefn=None, skips=True, out=sink)
    pieces, failures = run_reduce(reduce, [[(0, blobs[0])], [(1, blobs[1])]])
    _, orders, parts = load_columns(bytearray(b"".join(pieces)), 3)
    assert [(part.n_keys, part.content) for part in parts] == [
        (2, b'{"key": 1, "value": 1}\n{"key": 2, "value": 2}\n'),
        (1, b'{"key": 5, "value": 5}\n'),
    ]
    assert orders == [0, 1 << 32 | 1]
    assert [failure.index for failure in failures.first] == [2]


# What it holds.


@ENGINES
def test_a_result_that_does_not_fit_ends_the_job_and_names_its_key(tmp_path: Path, engine: Any) -> None:
    with pytest.raises(jmr.ReduceError) as caught:
        run([("a", 1), ("b", 2)], emit, lambda key, values: {3, 4}, engine=engine, out=tmp_path / "sets")
    said = str(caught.value)
    assert said.startswith(
        "reducefn returned {3, 4} (set), which JSON cannot hold: {3, 4} is a set. Give it text, a number, a list or a "
        "dict with str keys; or leave out out="
    )
    assert f"for group key={caught.value.key!r} (" in said
    assert caught.value.value == [1 if caught.value.key == "a" else 2]
    assert names(tmp_path) == []


@ENGINES
def test_what_does_not_fit_fails_again_when_it_is_replayed(tmp_path: Path, engine: Any) -> None:
    for reducefn in (lambda key, values: {3}, None):
        with pytest.raises(jmr.ReduceError) as caught:
            run([("a", {3})], emit, reducefn, engine=engine, out=tmp_path / "sets")
        with pytest.raises(jmr.ReduceError, match=r"which JSON cannot hold: \{3\} is a set"):
            caught.value.replay()


@ENGINES
def test_a_key_that_does_not_fit_is_named_as_that(tmp_path: Path, engine: Any) -> None:
    with pytest.raises(
        jmr.ReduceError, match=r"the key is b'a' .bytes., .*: b'a' is a bytes. Give it text, a number or"
    ):
        run([(b"a", 1)], emit, first, engine=engine, out=tmp_path / "bytes")


@ENGINES
def test_combinefn_is_named_where_no_reducefn_follows(tmp_path: Path, engine: Any) -> None:
    with pytest.raises(jmr.CombineError, match=r"combinefn folded the values to \[\{1\}\] .list., which") as caught:
        run([("a", {1})], emit, combinefn=first, engine=engine, out=tmp_path / "sets")
    with pytest.raises(jmr.CombineError, match="JSON cannot hold"):
        caught.value.replay()


@ENGINES
def test_what_does_not_fit_is_set_aside_where_bad_records_are(tmp_path: Path, engine: Any) -> None:
    bad = {3: {1}, 11: b"b", 12: {1: 2}}
    values = [(key, bad.get(key, key)) for key in range(20)]
    result = run(values, emit, first, engine=engine, out=tmp_path / "rest", on_error="skip", n_partitions=1)
    assert rows(result) == [(key, key) for key in range(20) if key not in bad]
    assert [(e.phase, e.key, e.value) for e in result.errors] == [("reduce", k, [v]) for k, v in bad.items()]
    assert {type(error.error) for error in result.errors} == {jmr.ReduceError}
    with pytest.raises(jmr.ReduceError, match="b'b' is a bytes"):
        result.errors[1].replay()


def test_a_partition_of_which_nothing_fits_has_no_file(tmp_path: Path) -> None:
    result = run([(1, {1})], emit, first, out=tmp_path / "none", on_error="skip")
    assert (result, len(result.errors), names(tmp_path / "none")) == ({}, 1, ["_manifest.json"])


# Where.


def test_a_place_that_holds_anything_is_refused_at_once(tmp_path: Path) -> None:
    def never() -> Iterator[Any]:
        raise AssertionError("the source was read")
        yield

    (tmp_path / "file").touch()
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "letter.txt").touch()
    run(NUMBERS, by_name, total, engine="inline", out=tmp_path / "done", name="adding")
    run([(1, 1)], emit, first, engine="inline", out=tmp_path / "one", name="one")
    instead = "read it with jmr.outputs({!r}), or remove it to run the job again, or name a new directory"
    for name, why in {
        "file": "is a file: name a directory, which may be a new one",
        "used": "holds 'letter.txt': name a new directory, or an empty one",
        "done": f"holds the output of job 'adding', 50 keys: {instead.format(str(tmp_path / 'done'))}",
        "one": f"holds the output of job 'one', 1 key: {instead.format(str(tmp_path / 'one'))}",
        "nowhere/sums": f"cannot be made: there is no directory {str(tmp_path / 'nowhere')!r}; make it first",
        "file/sums": "cannot be used: Not a directory",
    }.items():
        for call in (jmr.run, jmr.submit):
            with pytest.raises(jmr.ArgumentValueError) as caught:
                call(never(), by_name, total, out=tmp_path / name)
            assert str(caught.value) == f"out={str(tmp_path / name)!r} {why}"
    assert names(tmp_path / "used") == ["letter.txt"]


def test_a_tilde_is_the_home_directory_for_outputs_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    result = run(NUMBERS, by_name, total, engine="inline", out="~/sums")
    assert dict(result) == dict(jmr.outputs("~/sums")) == {str(tmp_path / "sums" / "part-00000.jsonl"): 50}


@pytest.mark.parametrize("wrong", [5, b"sums", "", "a\0b", True, ["a"]])
def test_out_is_a_path(wrong: Any) -> None:
    with pytest.raises((jmr.ArgumentTypeError, jmr.ArgumentValueError), match="out must be a directory's path, or a U"):
        run({}, by_name, out=wrong)


def test_out_and_final_do_not_go_together(tmp_path: Path) -> None:
    with pytest.raises(jmr.ArgumentValueError, match="final is called with every result in this process, and out="):
        run(NUMBERS, by_name, total, final=print, out=tmp_path / "sums")
    assert names(tmp_path) == []


def test_an_empty_directory_is_used_and_left_empty_by_a_job_that_fails(tmp_path: Path) -> None:
    (tmp_path / "sums").mkdir()
    with pytest.raises(jmr.ReduceError):
        run([(0, 0), (1, 1)], emit, lambda key, values: 1 / values[0], out=tmp_path / "sums")
    assert names(tmp_path) == ["sums"]
    assert names(tmp_path / "sums") == []
    assert sum(run(NUMBERS, by_name, total, out=tmp_path / "sums").values()) == 50


def test_two_jobs_do_not_write_into_one_directory(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path / "sums"))
    folder.open()
    with pytest.raises(jmr.ArgumentValueError, match="sums' is being written by another job: name another one"):
        run(NUMBERS, by_name, total, engine="inline", out=tmp_path / "sums")
    folder.close(keeps=False)
    assert names(tmp_path) == []


def test_a_forked_child_does_not_keep_a_directory_from_others(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path / "sums"))
    folder.open()
    read, write = os.pipe()
    if not (child := os.fork()):
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    folder.close(keeps=False)
    assert run(NUMBERS, by_name, total, engine="inline", out=tmp_path / "sums")
    os.close(write)
    os.waitpid(child, 0)
    os.close(read)


def test_the_working_directory_may_change_before_the_result_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(NUMBERS, by_name, total, out="sums")
    found = jmr.outputs("sums")
    expected = run(result, emit, first)
    monkeypatch.chdir("/")
    assert run(result, emit, first) == run(found, emit, first) == expected


# What is left of jobs that do not end well.


@ENGINES
def test_an_interrupted_job_leaves_nothing(tmp_path: Path, engine: Any) -> None:
    def source() -> Iterator[tuple[int, int]]:
        yield from NUMBERS
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(source(), by_name, total, engine=engine, out=tmp_path / "sums")
    assert names(tmp_path) == []


@pytest.mark.slow
def test_a_job_that_is_cancelled_when_some_of_it_is_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_put, put = threading.Event(), Folder.put

    def putting(self: Folder, *args: Any) -> str:
        name = put(self, *args)
        has_put.set()
        return name

    monkeypatch.setattr(Folder, "put", putting)
    go_on = tmp_path / "go on"
    os.mkfifo(go_on)

    def reducefn(key: int, values: list[int]) -> int:
        if key == 1:
            go_on.read_text()  # for ever
        return key

    job = jmr.submit([(0, 0), (1, 1)], emit, reducefn, workers=2, out=tmp_path / "sums", progress=False)
    assert has_put.wait(60)
    assert job.cancel()
    with pytest.raises(jmr.JobCancelled):
        job.result()
    assert names(tmp_path) == ["go on"]


def test_a_job_that_is_cancelled_when_all_of_it_is_written_publishes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settling, cancelled, settle = threading.Event(), threading.Event(), Output.settle

    def settled(self: Output) -> None:
        settle(self)
        settling.set()
        assert cancelled.wait(60)

    monkeypatch.setattr(Output, "settle", settled)
    job = jmr.submit(NUMBERS, by_name, total, engine="inline", out=tmp_path / "sums", progress=False)
    assert settling.wait(60)
    assert job.cancel()
    cancelled.set()
    with pytest.raises(jmr.JobCancelled):
        job.result()
    job._thread.join()
    assert names(tmp_path) == []


def test_a_job_that_publishes_cannot_be_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publishing, asked, publish = threading.Event(), threading.Event(), Folder.publish

    def published(self: Folder, *args: Any) -> None:
        publishing.set()
        assert asked.wait(60)
        publish(self, *args)

    monkeypatch.setattr(Folder, "publish", published)
    job = jmr.submit(NUMBERS, by_name, total, engine="inline", out=tmp_path / "sums", progress=False)
    assert publishing.wait(60)
    assert not job.cancel()
    asked.set()
    assert sum(job.result().values()) == 50


class Deadly(dict[str, int]):
    """Kills whoever writes it, the first time."""

    def __init__(self, path: str) -> None:
        super().__init__(a=1)
        self._path = path

    def items(self) -> Any:
        if not os.path.exists(self._path):
            note(self._path, "killed")
            os.kill(os.getpid(), signal.SIGKILL)
        return super().items()


@pytest.mark.slow
def test_a_slot_that_is_killed_while_it_writes_leaves_nothing_of_that(tmp_path: Path, cluster: jmr.Cluster) -> None:
    killed = str(tmp_path / "killed")
    result = run(NUMBERS[:4], emit, lambda k, v: Deadly(killed) if k == 2 else k, out=tmp_path / "out", engine=cluster)
    assert os.path.exists(killed)
    assert sorted(rows(result)) == [(0, 0), (1, 1), (2, {"a": 1}), (3, 3)]
    assert names(tmp_path / "out") == ["_manifest.json", *map(os.path.basename, result)]


KERNEL = """
import os, signal, sys
import jmr
replace, n_left = os.replace, int(sys.argv[1])
def replacing(*paths):
    global n_left
    n_left -= 1
    if not n_left:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*paths)
os.replace = replacing
source = {key: key for key in range(40)}
jmr.run(source, lambda k, v: [(k, v)], lambda k, v: v[0], out="sums", workers=2, n_partitions=4, progress=False)
"""


@pytest.mark.slow
@pytest.mark.parametrize("n_replaced", [1, 3, 5])
def test_what_a_killed_kernel_leaves_is_no_output_and_is_removed(tmp_path: Path, n_replaced: int) -> None:
    """It was about to give the parts their names, or the manifest its own."""
    home = str(Path(jmr.__file__).parent.parent)
    kernel = subprocess.run(
        [sys.executable, "-c", KERNEL, str(n_replaced)], cwd=tmp_path, env={**os.environ, "PYTHONPATH": home}
    )
    assert kernel.returncode == -signal.SIGKILL
    parts = [f"part-{number:05}.jsonl" for number in range(4)]
    left = names(tmp_path / "sums")
    assert [name for name in left if not name.startswith(".jmr-")] == parts[: n_replaced - 1]
    with pytest.raises(jmr.ArgumentValueError, match="there is no _manifest"):
        jmr.outputs(tmp_path / "sums")
    run({1: 1}, emit, first, engine="inline", out=tmp_path / "sums")
    assert names(tmp_path / "sums") == ["_manifest.json", "part-00000.jsonl"]


def test_only_what_a_job_has_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / f".jmr-{'0' * 32}.tmp").touch()
    (tmp_path / ".jmr-manifest.tmp").write_text("{")
    (tmp_path / "part-00000.jsonl").touch()
    with pytest.raises(jmr.ArgumentValueError, match="holds 'part-00000"):
        run(NUMBERS, by_name, total, engine="inline", out=tmp_path)
    assert len(names(tmp_path)) == 3
    (tmp_path / "part-00000.jsonl").unlink()
    run(NUMBERS, by_name, total, engine="inline", out=tmp_path)
    assert names(tmp_path) == ["_manifest.json", "part-00000.jsonl"]


def test_a_directory_that_cannot_be_written_any_more_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(self: Folder, name: str, content: bytes) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(Folder, "_write", failing)
    with pytest.raises(jmr.WorkerError, match="sums' cannot be written: Disk quota exceeded"):
        run(NUMBERS, by_name, total, out=tmp_path / "sums")
    assert names(tmp_path) == []


#: A disk that holds some of the parts, but not all.
FULL = """
import os
import jmr
source = {key: key for key in range(40)}
try:
    jmr.run(source, lambda k, v: [(k, v)], lambda k, v: "x" * 100_000, out="small/out", workers=2, progress=False)
except jmr.WorkerError as error:
    print(error, os.listdir("small"))
"""


@pytest.mark.slow
def test_a_full_disk_ends_the_job_and_leaves_nothing(tmp_path: Path) -> None:
    check_machine()
    (tmp_path / "small").mkdir()
    mount = 'mount -t tmpfs -o size=2M,mode=700 tmpfs small && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", mount, "sh", sys.executable, "-c", FULL],
        cwd=tmp_path,
        env={**os.environ, "PATH": PATH, "PYTHONPATH": str(Path(jmr.__file__).parent.parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "out='small/out' cannot be written: No space left on device []\n"


# With a checkpoint.


class Counting:
    """Runs a job that notes which groups it reduces, and which sums may be had."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.calls = Calls(path / "calls")

    def __call__(self, out: str | None, *, fails: bool = False) -> list[str]:
        """Returns the keys that were reduced; `fails` is whether one in the last partition cannot be."""
        calls, flag = self.calls.path, str(self.path / "fails")
        Path(flag).touch() if fails else Path(flag).unlink(missing_ok=True)

        def reducefn(key: int, values: list[int]) -> int:
            if key == LAST and os.path.exists(flag):
                raise ValueError(key)
            note(calls, key)
            return sum(values)

        where = None if out is None else out if "://" in out else self.path / out
        job = NUMBERS[:40], emit, reducefn
        options = {"checkpoint": self.path / "kept", "n_partitions": 4, "workers": 1}
        if fails:
            with pytest.raises(jmr.ReduceError):
                run(*job, out=where, **options)
        else:
            self.result = run(*job, out=where, **options)
        return sorted(self.calls.take(), key=int)


ALL = [str(key) for key in range(40)]
LAST = next(key for key in range(40) if place(key) % 4 == 3)


@pytest.fixture
def counting(tmp_path: Path) -> Counting:
    return Counting(tmp_path)


@pytest.mark.slow
def test_a_reduce_that_was_kept_is_not_run_again_to_be_written(counting: Counting) -> None:
    before = counting("sums", fails=True)
    assert not (counting.path / "sums").exists()
    after = counting("sums")
    kept = set(ALL) - set(after)
    assert kept, before
    assert kept <= set(before)
    assert sorted(rows(counting.result)) == NUMBERS[:40]
    assert counting("again") == []  # the place is no part of what was kept
    assert sorted(rows(counting.result)) == NUMBERS[:40]


@pytest.mark.slow
def test_what_was_kept_for_one_format_is_not_taken_for_another(counting: Counting) -> None:
    pytest.importorskip("pyarrow")
    assert [counting(out) for out in ("sums", "sums.parquet", None, "new")] == [ALL, ALL, ALL, ALL]
    assert counting("newer") == []


# As a source.


@pytest.mark.slow
@ENGINES
@pytest.mark.parametrize("suffix", ["", ".parquet"])
def test_a_result_that_was_written_is_a_source(tmp_path: Path, engine: Any, suffix: str) -> None:
    if suffix:
        pytest.importorskip("pyarrow")
    source = [((f"key {number % 50}", number % 2), number) for number in range(2_000)]
    expected = run(source, emit, total, engine="inline")
    result = run(source, emit, total, engine=engine, out=tmp_path / f"sums{suffix}")
    for again in (result, pickle.loads(pickle.dumps(result)), jmr.outputs(tmp_path / f"sums{suffix}")):
        read = run(again, emit, first, engine=engine)
        assert dict(read) == expected
        assert list(read) == list(run(again, emit, first, engine="inline"))
        assert {type(key) for key in read} == {tuple}


def test_a_dict_of_results_is_a_source_as_it_was(tmp_path: Path) -> None:
    assert run(run(NUMBERS, by_name, total), emit, first) == run(NUMBERS, by_name, total)


def test_long_files_are_cut_between_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [(number, "ä\n" * (number % 7)) for number in range(60)]
    result = run(texts, emit, first, engine="inline", out=tmp_path / "texts")
    for n_bytes in (1, 7, 100, 1 << 20):
        monkeypatch.setattr(outputs, "_SPLIT_BYTES", n_bytes)
        monkeypatch.setattr(outputs, "_LINE_BYTES", max(1, n_bytes // 3))
        read = [split.read(pytest.fail) for split in result.splits()]
        assert [pair for keys, values in read for pair in zip(keys, values, strict=True)] == texts
        assert len(read) == -(-Path(next(iter(result))).stat().st_size // n_bytes)


def test_whoever_reads_an_output_says_how_much_of_it_comes_next(tmp_path: Path) -> None:
    result = run(NUMBERS, emit, first, engine="inline", out=tmp_path / "numbers")
    splits = list(result.sized_splits(iter([100, 200, None]).__next__))
    assert [split.n_bytes for split in splits] == [100, 200, result.n_bytes - 300]
    assert [key for split in splits for key in split.read(pytest.fail)[0]] == [key for key, _ in NUMBERS]


def test_a_split_that_carries_its_rows_needs_no_file(tmp_path: Path) -> None:
    result = run(NUMBERS[:10], emit, first, engine="inline", out=tmp_path / "sums")
    split = next(result.splits())
    carried = pickle.loads(pickle.dumps(split.carried()))
    before = split.read(pytest.fail)
    (tmp_path / "sums" / "part-00000.jsonl").unlink()
    assert carried.read(pytest.fail) == before == ([*range(10)], [*range(10)])


@ENGINES
def test_a_file_that_is_gone_or_changed_is_named(tmp_path: Path, engine: Any) -> None:
    result = run(NUMBERS, by_name, total, engine="inline", out=tmp_path / "sums")
    path = tmp_path / "sums" / "part-00000.jsonl"
    whole = path.read_bytes()
    for content, why in ((whole[:-1], "not as it was written"), (b"?" * len(whole), "not made of lines as jmr writes")):
        path.write_bytes(content)
        with pytest.raises(jmr.SourceError, match=f"part-00000.jsonl.*{why}"):
            run(result, emit, engine=engine)
    path.unlink()
    with pytest.raises(jmr.SourceError, match=r"part-00000.jsonl.* cannot be read: "):
        run(result, emit, engine=engine)


def test_outputs_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "_manifest.json").write_text('{"jmr": 2}')
    for name, why in {
        "file": "is a file: name the directory that a job's out= named",
        "nowhere": "holds no output of a job: there is no _manifest.json, which is written when one has ended",
        "odd": "_manifest.json in .* cannot be read: .*it is of version 2, not 1",
    }.items():
        with pytest.raises(jmr.ArgumentValueError, match=why):
            jmr.outputs(tmp_path / name)
    with pytest.raises(jmr.ArgumentTypeError, match="place must be what a job's out= named"):
        jmr.outputs(5)  # type: ignore[arg-type]


# At a URL. "simplecache::file://" is a store that all processes here have.


@pytest.fixture
def fsspec(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("TMPDIR", str(tmp_path_factory.mktemp("caches")))  # slots leave theirs there
    fsspec = pytest.importorskip("fsspec")
    yield fsspec
    fsspec.filesystem("memory").store.clear()


def at(fsspec: Any, url: str) -> list[str]:
    files, path = fsspec.core.url_to_fs(url)
    return sorted(name.rpartition("/")[2] for name in files.ls(path, detail=False)) if files.exists(path) else []


@pytest.mark.parametrize("suffix", ["", ".parquet"])
def test_a_url_gets_files_and_a_manifest(fsspec: Any, suffix: str) -> None:
    if suffix:
        pytest.importorskip("pyarrow")
    url = f"memory://bucket/sums{suffix}"
    result = run(NUMBERS, by_name, total, engine="inline", out=url)
    (path,) = result
    assert path.startswith(f"{url}/part-")
    assert at(fsspec, url) == ["_manifest.json", path.rpartition("/")[2]]
    expected = run(NUMBERS, by_name, total, engine="inline")
    assert run(jmr.outputs(url), emit, first, engine="inline") == expected
    with pytest.raises(jmr.ArgumentValueError, match=rf"^out='{url}' holds .* with jmr.outputs\('{url}'\), or"):
        run(NUMBERS, by_name, total, engine="inline", out=url)


@pytest.mark.parametrize("url", ["memory://", "memory:///"])
def test_the_top_of_a_file_system_is_a_place(
    fsspec: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.chdir(tmp_path)
    run({"a": 1}, emit, first, engine="inline", out=url)
    assert len(at(fsspec, "memory://")) == 2
    assert run(jmr.outputs(url), emit, first, engine="inline") == {"a": 1}
    assert names(tmp_path) == []


def test_a_url_of_a_directory_here_is_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    result = run({"a": 1}, emit, first, engine="inline", out=f"file://{tmp_path}/sums/")
    assert list(result) == list(jmr.outputs(f"file://{tmp_path}/sums/")) == [f"{tmp_path}/sums/part-00000.jsonl"]


def test_two_colons_make_no_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run({"a": 1}, emit, first, engine="inline", out="run::1")
    assert names(tmp_path / "run::1") == ["_manifest.json", "part-00000.jsonl"]


def test_slots_write_to_a_url_by_themselves(fsspec: Any, tmp_path: Path) -> None:
    result = run(NUMBERS, by_name, total, out=f"simplecache::file://{tmp_path}/deep/sums/")
    assert sum(result.values()) == 50
    assert names(tmp_path / "deep" / "sums") == ["_manifest.json", *sorted(p.rpartition("/")[2] for p in result)]
    assert dict(run(result, emit, first)) == run(NUMBERS, by_name, total, engine="inline")
    assert dict(run(jmr.outputs(tmp_path / "deep" / "sums"), emit, first)) == dict(run(result, emit, first))


def test_a_place_that_this_process_sees_otherwise_than_the_workers_is_found_out(fsspec: Any) -> None:
    with pytest.raises(jmr.WorkerError, match=r"has written part-.* there, and it is not there for this process"):
        run(NUMBERS, by_name, total, out="memory://sums")
    assert at(fsspec, "memory://sums") == []


def begun(url: str) -> Output:
    """A job that has written its one part."""
    output = Output(sink_for(url), keeps=False)
    output.open()
    content = b'{"key": "a", "value": 1}\n'
    output.add(0, Part(1, len(content), content))
    return output


def test_a_job_that_came_too_late_leaves_what_another_has_published(fsspec: Any) -> None:
    url = "memory://sums"
    one, other = begun(url), begun(url)
    one.commit("one")
    with pytest.raises(jmr.WorkerError, match="another job has written its output there meanwhile"):
        other.commit("other")
    other.close()
    assert run(jmr.outputs(url), emit, first, engine="inline") == {"a": 1}
    assert len(at(fsspec, url)) == 2


def test_a_job_whose_parts_another_has_removed_publishes_nothing(fsspec: Any) -> None:
    url = "memory://sums"
    one, other = begun(url), begun(url)
    other.close()
    with pytest.raises(jmr.WorkerError, match=r"part-.* is gone. Does another job write there, too\?"):
        one.commit("one")
    one.close()
    assert at(fsspec, url) == []


def test_a_part_is_found_by_a_process_that_has_listed_the_place_before(
    fsspec: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As file systems do that keep listings, and ask nobody for what is in none."""
    url = "memory://sums"
    files = fsspec.filesystem("memory")
    files.pipe_file(f"{url}/part-{'0' * 32}.jsonl", b"")
    listed: set[str] = set(files.store)
    monkeypatch.setattr(type(files), "invalidate_cache", lambda self, path=None: listed.update(self.store))

    def size(self: Any, path: str) -> int:
        if path not in listed:
            raise FileNotFoundError(path)
        return len(self.store[path].getvalue())

    monkeypatch.setattr(type(files), "size", size)
    output = Output(sink_for(url), keeps=False)
    output.open()
    content = b'{"key": "a", "value": 1}\n'
    output.add(0, Part(1, len(content), b"", write_attempt(url, content, ".jsonl")))
    output.commit("one")
    assert run(jmr.outputs(url), emit, first, engine="inline") == {"a": 1}


@pytest.mark.slow
def test_what_other_attempts_have_left_at_a_url_is_removed_in_the_end(fsspec: Any, tmp_path: Path) -> None:
    left = tmp_path / f"part-{'0' * 32}.jsonl"
    left.touch()
    result = run(NUMBERS, by_name, total, out=f"simplecache::file://{tmp_path}")
    assert names(tmp_path) == ["_manifest.json", *sorted(p.rpartition("/")[2] for p in result)]


def test_a_url_that_holds_anything_else_is_refused(fsspec: Any, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").touch()
    with pytest.raises(jmr.ArgumentValueError, match=r"holds 'letter.txt': name a new place, or an empty one"):
        run(NUMBERS, by_name, total, out=f"simplecache::file://{tmp_path}")
    with pytest.raises(jmr.ArgumentValueError, match="nosuch://here cannot be used: Protocol not known: nosuch"):
        run(NUMBERS, by_name, total, out="nosuch://here")


@ENGINES
def test_a_job_that_fails_leaves_nothing_at_a_url(fsspec: Any, tmp_path: Path, engine: Any) -> None:
    with pytest.raises(jmr.ReduceError):
        run(
            [(0, 0), (1, 1)],
            emit,
            lambda key, values: 1 / values[0],
            engine=engine,
            out=f"simplecache::file://{tmp_path}",
        )
    assert names(tmp_path) == []


def test_a_url_that_cannot_be_used_is_named_without_its_password(fsspec: Any) -> None:
    with socket.socket() as nobody:  # who listens
        nobody.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{nobody.getsockname()[1]}/sums"
        with pytest.raises(jmr.ArgumentValueError, match=f"^ftp://{where} cannot be used: .*refused") as caught:
            run(NUMBERS, by_name, total, engine="inline", out=f"ftp://me:secret@{where}")
    assert "secret" not in str(caught.value)


@pytest.mark.slow
def test_parts_at_a_url_that_a_checkpoint_knows_stay_and_are_taken(fsspec: Any, counting: Counting) -> None:
    url = f"simplecache::file://{counting.path}/sums"
    counting(url, fails=True)
    parts = names(counting.path / "sums")
    assert parts
    after = counting(url)
    assert set(ALL) - set(after)
    assert {name.rpartition("/")[2] for name in counting.result} >= set(parts)


@pytest.mark.slow
def test_a_part_that_is_gone_from_its_url_is_made_again(fsspec: Any, counting: Counting) -> None:
    url = f"simplecache::file://{counting.path}/sums"
    assert counting(url) == ALL
    for name in names(counting.path / "sums"):
        (counting.path / "sums" / name).unlink()
    assert counting(url) == ALL


@pytest.mark.parametrize(("module", "out", "said"), [
    ("fsspec", "s3://bucket/sums", 'a URL needs fsspec: pip install "jmr[fs]"'),
    ("pyarrow.parquet", "sums.parquet", 'Parquet needs pyarrow: pip install "jmr[arrow]"'),
])  # fmt: skip
def test_a_missing_package_is_told_at_once(monkeypatch: pytest.MonkeyPatch, module: str, out: str, said: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(jmr.ArgumentValueError) as caught:
        run({}, emit, out=out)
    assert str(caught.value) == said


def test_numpys_numbers_are_written_as_numbers(tmp_path: Path) -> None:
    values = [np.int64(1), np.float32(0.5), np.bool_(True), [np.uint8(3)], np.float64("nan")]
    result = run(enumerate(values), emit, first, engine="inline", out=tmp_path / "numbers")
    assert str([value for _, value in rows(result)]) == "[1, 0.5, True, [3], nan]"
