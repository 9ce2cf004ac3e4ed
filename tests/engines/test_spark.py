"""What is special to Spark: rows and windows, sessions of the user's and of our own, Spark's failures in a sentence."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import jmr
from jmr.codec.functions import dump_functions
from jmr.engines.answers import decoded
from jmr.engines.calls import JobCall
from jmr.engines.spark import pool as pools
from jmr.engines.spark import rdds
from jmr.engines.spark.failures import CHANGED, error_of
from jmr.engines.spark.frames import _union
from jmr.engines.spark.pool import SparkPool
from jmr.engines.spark.rdds import Rdds
from jmr.engines.spark.rows import (
    RECEIPT,
    Reduces,
    Row,
    map_batches,
    map_rows,
    n_pieces,
    receipt_of,
    reduce_batches,
    reduce_rows,
    rows_of,
    table_of,
)
from jmr.engines.spark.session import OwnSession, is_remote
from jmr.errors import ArgumentValueError, JobCancelled, SlotDiedError, WorkerError
from tests.engines.clusters import CHECKOUT, connect_session, spark_session
from tests.engines.gate import Gate, wait_at

pytestmark = [
    pytest.mark.engines,
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning"),
]
pytest.importorskip("pyspark")
pytest.importorskip("pyarrow")
accumulators = pytest.importorskip("pyspark.accumulators")._accumulatorRegistry


@pytest.fixture(scope="module", params=["classic", "connect"])
def session(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A session of the user's."""
    with (spark_session if request.param == "classic" else connect_session)() as session:
        yield session


def words(_: Any, text: str) -> Iterator[tuple[str, int]]:
    for word in text.split():
        yield word, 1


def total(_: Any, values: list[int]) -> int:
    return sum(values)


def everything(_: Any, values: list[Any]) -> list[Any]:
    return values


TEXTS = {n: f"a{n % 7} b c{n} b" for n in range(300)}


def same(engine: Any, source: Any, mapfn: Any, reducefn: Any, **options: Any) -> None:
    """The answer is that of the plain loop, in its order."""
    ours = jmr.run(source, mapfn, reducefn, engine=engine, progress=False, **options)
    assert list(ours.items()) == list(jmr.run(source, mapfn, reducefn, engine="inline", progress=False).items())


# Rows, without Spark.


def call(mapfn: Any, reducefn: Any, n_partitions: int) -> JobCall:
    functions = b"".join(dump_functions({"mapfn": mapfn, "combinefn": None, "reducefn": reducefn}))
    return JobCall(id=f"test-{id(mapfn)}-{n_partitions}", functions=functions, n_partitions=n_partitions, skips=False)


def splits_of(*splits: dict[Any, Any]) -> list[tuple[int, bytes]]:
    from jmr.codec.values import dump_columns

    return [(n, b"".join(dump_columns(list(split), list(split.values())))) for n, split in enumerate(splits)]


def test_each_split_is_a_batch_of_its_own_and_so_a_task_of_its_own() -> None:
    table = table_of(splits_of({1: "a"}, {2: "b"}, {3: "c"}))
    assert [batch.num_rows for batch in table.to_batches()] == [1, 1, 1]


def test_blobs_in_pieces_and_partitions_in_one_task_give_what_the_loop_gives() -> None:
    """Rows come in any order."""

    def mapfn(key: int, size: int) -> list[tuple[Any, Any]]:
        return [(key, bytes(size)), ("all", size)]

    job = call(mapfn, everything, n_partitions=5)
    parts = [{0: 10, 1: 400_000}, {2: 300_000}, {3: 5}]
    mapped = list(map_batches(job, table_of(splits_of(*parts)).to_batches()))
    rows = [row for batch in mapped for row in rows_of(batch)]
    assert [row.task for row in rows if row.partition == RECEIPT] == [0, 1, 2]
    assert max(row.piece for row in rows) == n_pieces(400_000) - 1
    data = [batch.filter([p != RECEIPT for p in batch.column(1).to_pylist()]) for batch in reversed(mapped)]
    reduces = reduces_of(row for row in rows if row.partition != RECEIPT)
    reduced = list(reduce_batches(job, reduces, 0, data))
    blobs: dict[int, bytes] = {}
    for row in (row for batch in reduced for row in rows_of(batch)):
        if row.partition == RECEIPT:
            assert not receipt_of(row).failed
        else:
            blobs[row.task] = blobs.get(row.task, b"") + bytes(row.blob)
    found = {key: value for blob in blobs.values() for key, value in zip(*_columns(blob), strict=True)}
    source = {key: value for part in parts for key, value in part.items()}
    assert found == jmr.run(source, mapfn, engine="inline", progress=False)


def reduces_of(rows: Iterable[Row]) -> Reduces:
    """One for each partition."""
    splits: dict[int, set[int]] = {}
    for row in rows:
        splits.setdefault(row.partition, set()).add(row.task)
    return Reduces({partition: partition for partition in splits}, {part: len(some) for part, some in splits.items()})


def mapped_rows(job: JobCall) -> list[Row]:
    """Two splits, of which each leaves two pieces."""
    mapped = map_rows(job, splits_of({1: "a"}, {2: "b"}))
    return [row for row in mapped if row.partition != RECEIPT]


CHANGES: dict[str, Callable[[list[Row]], list[Row]]] = {
    "a split is missing, which has failed": lambda rows: [row for row in rows if row.task != 0],
    "a split is there twice, which was not seen before": lambda rows: rows + [row for row in rows if row.task == 0],
    "a piece is missing": lambda rows: rows[1:],
    "a partition is new": lambda rows: [*rows, rows[0]._replace(partition=7)],
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_rows_that_no_receipt_has_told_of_are_refused(change: str) -> None:
    job = call(lambda key, value: [("key", bytes(150_000))], everything, n_partitions=1)
    rows = mapped_rows(job)
    assert [(row.task, row.piece) for row in rows] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    keyed = [(row.partition, row) for row in CHANGES[change](rows)]
    with pytest.raises(RuntimeError, match="gave something else"):
        list(reduce_rows(job, reduces_of(rows), 0, keyed))


def _columns(blob: bytes) -> tuple[list[Any], list[Any]]:
    partition = decoded(blob)
    return partition.keys, partition.values


def test_a_union_of_many_is_made_by_halves() -> None:
    class Frame(int):
        def unionAll(self, other: Frame) -> Frame:
            return Frame(1 + max(self, other))

    assert _union([Frame(0)] * 1000) == 10


# Failures.

FROM_JAVA = """An error occurred while calling o85.collectToPython.
: org.apache.spark.SparkException: Job aborted due to stage failure: Task 0 in stage 1.0 failed 1 times, most recently:
Lost task 0.0 in stage 1.0 (TID 1): org.apache.spark.api.python.PythonException: Traceback (most recent call last):
  File "/usr/lib/python3/pyspark/worker.py", line 1962, in main
    process()
{}

\tat org.apache.spark.api.python.BasePythonRunner.handlePythonException(PythonRunner.scala:581)
\tat java.base/java.lang.Thread.run(Thread.java:840)
"""


@pytest.mark.parametrize(
    ("said", "kind", "sentence"),
    [
        (FROM_JAVA.format("ModuleNotFoundError: No module named 'jmr'"), WorkerError, "jmr cannot be imported"),
        (FROM_JAVA.format("PySparkRuntimeError: [PYTHON_VERSION_MISMATCH] ..."), WorkerError, "same minor version"),
        (FROM_JAVA.format("OSError: [Errno 28] No space left"), WorkerError, "OSError: [Errno 28] No space left"),
        ("x\nCaused by: java.lang.OutOfMemoryError: Java heap space\n\tat y", WorkerError, "more"),
        ("org.apache.spark.SparkException: Python worker exited unexpectedly (crashed)", SlotDiedError, "has ended"),
        ("ExecutorLostFailure (executor 3 exited)", WorkerError, "lost an executor"),
        (FROM_JAVA.format(f"RuntimeError: {CHANGED}"), WorkerError, "lost an executor: run the job again"),
        ("z" * 1000, WorkerError, "z..."),
    ],
)  # fmt: skip
def test_what_spark_says_becomes_a_sentence(said: str, kind: type[Exception], sentence: str) -> None:
    error = error_of(RuntimeError(said))
    assert type(error) is kind
    assert sentence in str(error)
    assert len(str(error)) < 400
    assert "\tat " not in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyspark", None)
    with pytest.raises(ArgumentValueError, match=r'pip install "jmr\[spark\]"'):
        jmr.run({1: 1}, words, engine="spark", progress=False)


def test_a_missing_java_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    own = OwnSession()
    with contextlib.closing(own), pytest.raises(WorkerError, match="needs Java 17 or 21"):
        own.start()


# On sessions of the user's.


@pytest.mark.slow
def test_the_answer_is_that_of_the_loop_however_it_comes(session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    same(session, TEXTS, words, total)
    monkeypatch.setattr(pools, "_WHOLE_BYTES", 0)  # nothing comes along with the receipts
    monkeypatch.setattr(pools, "_WINDOW_BYTES", 1 << 18)  # and a result takes several windows, or a window several
    monkeypatch.setattr(pools, "_CHUNKS_A_SIZE", 1)
    monkeypatch.setattr(rdds, "_MOST_HELD_BYTES", 0)  # and Spark forgets how it was made
    same(session, {n: n for n in range(8)}, lambda key, n: [(key, bytes(100_000 * n)), ("n", n)], everything)


def n_persisted(session: Any) -> int:
    return 0 if is_remote(session) else int(session.sparkContext._jsc.getPersistentRDDs().size())


@pytest.mark.slow
def test_a_job_leaves_nothing_in_the_session(session: Any) -> None:
    settings = dict(session.conf.getAll)
    before = set(accumulators)
    same(session, TEXTS, words, total, n_partitions=3)
    assert session.getTags() == set()
    assert settings == dict(session.conf.getAll)
    assert not any(told.value for number, told in accumulators.items() if number not in before)
    assert n_persisted(session) == 0


@pytest.mark.slow
def test_large_functions_are_sent_and_leave_no_files(session: Any) -> None:
    table = bytes(range(1, 256)) * (1 << 13)
    files = [] if is_remote(session) else os.listdir(session.sparkContext._temp_dir)
    same(session, TEXTS, lambda key, text: [(table[key], text)], everything)
    assert is_remote(session) or os.listdir(session.sparkContext._temp_dir) == files


@pytest.mark.slow
def test_a_function_that_ends_its_process_ends_the_job_and_not_the_session(session: Any) -> None:
    with pytest.raises(SlotDiedError, match="has ended in the middle of a task"):
        jmr.run({1: 1}, lambda key, value: os._exit(3), engine=session, progress=False)
    assert n_persisted(session) == 0
    same(session, TEXTS, words, total)


@pytest.mark.slow
@pytest.mark.parametrize("session", ["classic"], indirect=True)
def test_a_map_task_that_leaves_nothing_when_it_runs_again_ends_the_job(session: Any, tmp_path: Path) -> None:
    """What an executor held is gone; only a classic session maps it once more."""
    was_here = str(tmp_path / "was-here")

    def mapfn(key: int, value: str) -> list[tuple[str, int]]:
        if key == 1:
            open(was_here, "x").close()
        return [("key", key)]

    job = call(mapfn, everything, n_partitions=1)
    rows = Rdds(session, job)
    assert not any(receipt_of(row).failed for row in rows.map(splits_of({1: "a"}, {2: "b"})))
    rows._chunks[0].unpersist(blocking=True)
    with pytest.raises(Exception, match=CHANGED) as raised:
        rows.reduce(Reduces({0: 0}, {0: 2}), 1, 0)
    rows.forget()
    assert "run the job again" in str(error_of(raised.value))


@pytest.mark.slow
def test_cancel_ends_the_job_there_and_nothing_else(session: Any) -> None:
    gate = Gate()
    port = gate.port
    job = jmr.submit({1: 1}, lambda key, value: wait_at(port), engine=session, progress=False)
    assert gate.reached.wait(120)
    job.cancel()
    with pytest.raises(JobCancelled):
        job.result()
    gate.open()
    assert session.range(3).count() == 3
    same(session, TEXTS, words, total)


@pytest.mark.slow
def test_cancel_ends_a_task_that_waits_for_ever(session: Any) -> None:
    gate = Gate()
    port = gate.port
    pool = SparkPool(session)
    with contextlib.closing(pool):
        assert pool.n_slots
        pool.open(call(lambda key, value: wait_at(port), everything, n_partitions=1))
        pool.start_map(0, splits_of({1: 1})[0][1])
        assert pool.finished(0.01) == ()
        assert gate.reached.wait(120)
        pool.cancel()
        try:
            with pytest.raises(WorkerError):
                pool.finished(60)
        finally:
            gate.open()
    assert n_persisted(session) == 0


@pytest.mark.slow
def test_keys_without_a_stable_hash_are_reduced_as_one(session: Any) -> None:
    def mapfn(n: int, _: Any) -> list[tuple[Any, int]]:
        return [(range(n % 3), n), (n % 5, n)]

    same(session, {n: n for n in range(40)}, mapfn, everything)


@pytest.mark.slow
def test_slots_are_as_many_as_tasks_run_at_once(session: Any) -> None:
    assert SparkPool(session).n_slots == 2


@pytest.mark.slow
def test_a_stopped_session_is_refused() -> None:
    with connect_session() as session:
        session.stop()
        with pytest.raises(WorkerError, match="is stopped"):
            jmr.run({1: 1}, words, engine=session, progress=False)


# A session of our own.


class InterruptedOnce(threading.Thread):
    """Ctrl-C comes while it is waited for."""

    was_waited_for = False

    def join(self, timeout: float | None = None) -> None:
        if not self.was_waited_for:
            self.was_waited_for = True
            raise KeyboardInterrupt
        super().join(timeout)


def test_a_session_that_starts_when_ctrl_c_comes_is_stopped_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    has_come, stopped = threading.Event(), []

    class Session:
        def stop(self) -> None:
            stopped.append(True)

    def start(own: OwnSession) -> None:
        has_come.wait(10)
        own._session = Session()

    monkeypatch.setattr(OwnSession, "_start", start)
    monkeypatch.setattr("jmr.engines.spark.session.threading.Thread", InterruptedOnce)
    own = OwnSession()
    with pytest.raises(KeyboardInterrupt):
        own.start()
    has_come.set()
    own.close()
    assert stopped == [True]


OWN = """
    import subprocess, jmr
    from beside import shout

    def children():
        return subprocess.run(["ps", "--ppid", str(__import__("os").getpid()), "-o", "comm="],
                              capture_output=True, text=True).stdout.split()

    result = jmr.run({1: "a", 2: "b"}, lambda key, text: [(shout(text), key)], engine="spark", progress=False)
    print(dict(result))
    print("java" in children())
    from pyspark import SparkContext
    print(SparkContext._gateway, SparkContext._active_spark_context)
"""


@pytest.mark.slow
def test_by_name_a_session_starts_quietly_and_ends_with_the_job(tmp_path: Path) -> None:
    """It sees the modules that lie beside the program."""
    (tmp_path / "beside.py").write_text("def shout(text):\n    return text.upper()\n")
    (tmp_path / "program.py").write_text(textwrap.dedent(OWN))
    path = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("{'A': [1], 'B': [2]}\nFalse\nNone None\n", "")


def test_what_spark_cannot_do_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentValueError, match=r"checkpoint= is for jmr's own clusters"):
        jmr.run({1: 1}, words, engine="spark", checkpoint=tmp_path, progress=False)
