"""Dask as an engine: what is special to it; the rest is in the conformance suite."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import jmr
from jmr.engines.calls import JobCall, Receipt, here
from jmr.engines.splitting import cut
from jmr.errors import ArgumentValueError, JobCancelled, SlotDiedError, WorkerError
from jmr.session.running import running_jobs
from jmr.sources import records

distributed = pytest.importorskip("distributed")

from jmr.codec.functions import dump_functions  # noqa: E402
from jmr.engines.dask import DaskPool  # noqa: E402
from jmr.engines.dask.pool import _Left, _named  # noqa: E402
from jmr.engines.dask.tasks import Blobs  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.engines]

CHECKOUT = Path(__file__).parents[2]
DOCUMENTS = {f"{number}.txt": f"the cat {number % 7} the dog {number % 31}" for number in range(300)}


def words(name: str, text: str) -> Any:
    for word in text.split():
        yield word, 1


def total(word: str, counts: list[int]) -> int:
    return sum(counts)


def local_cluster(**options: Any) -> Any:
    """Processes on this host, at no port that others may want."""
    usual = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    quiet = {"scheduler_kwargs": {"dashboard_address": "127.0.0.1:0"}, "silence_logs": 60}
    return distributed.LocalCluster(**{**usual, **quiet, **options})


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with local_cluster() as cluster, distributed.Client(cluster, set_as_default=False) as client:
        client.sync(distributed.utils.offload, pow, 2, 3)  # its thread for large messages stays
        yield client


@pytest.fixture
def mortal(client: Any) -> Iterator[Any]:
    """A client of workers that a test may kill; another one was there before, and has started what stays."""
    with local_cluster() as cluster, distributed.Client(cluster, set_as_default=False) as another:
        yield another


def prefixes(client: Any) -> set[str]:
    """Of the tasks that the scheduler has seen."""
    return set(client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.task_prefixes)))


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline


def open_pool(client: Any, **functions: Any) -> DaskPool:
    pool = DaskPool(client)
    blob = b"".join(dump_functions({"mapfn": words, "combinefn": None, "reducefn": total} | functions))
    assert pool.n_slots in (0, 2)
    pool.open(JobCall(id=os.urandom(8).hex(), functions=blob, n_partitions=4, skips=False))
    return pool


# Data.


def test_blobs_travel_as_they_lie_in_memory() -> None:
    large, small = bytes(10_000), b"small"
    frames: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(Blobs(large, small), 5, buffer_callback=frames.append)
    assert [frame.raw().obj is large for frame in frames] == [True]
    back = pickle.loads(pickled, buffers=[frame.raw() for frame in frames])
    assert [bytes(blob) for blob in back.blobs] == [large, small]
    assert [bytes(blob) for blob in pickle.loads(pickle.dumps(Blobs(large, small), 4)).blobs] == [large, small]
    assert sys.getsizeof(back) > 10_000


def test_a_client_gives_what_inline_gives_and_stays_open(client: Any) -> None:
    result = jmr.run(DOCUMENTS, words, total, engine=client)
    assert list(result.items()) == list(jmr.run(DOCUMENTS, words, total, engine="inline").items())
    assert result.stats.n_slots == 2
    assert {attempt.slot.partition("/")[0] for attempt in result.timeline} == {"Dask"}
    assert client.submit(pow, 2, 3).result() == 8


def test_nothing_is_left_on_the_cluster(client: Any) -> None:
    jmr.run(DOCUMENTS, words, total, engine=client)
    until(lambda: client.run_on_scheduler(lambda dask_scheduler: not dask_scheduler.tasks))
    until(lambda: client.run_on_scheduler(lambda dask_scheduler: not dask_scheduler._broker._topics["jmr"].subscribers))


def test_only_results_are_fetched(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[Any] = []

    def gather(self: Any, futures: Any, **options: Any) -> Any:
        fetched.extend(future.key[0].rpartition("-")[0] for future in futures)
        return original(self, futures, **options)

    original = distributed.Client.gather
    monkeypatch.setattr(distributed.Client, "gather", gather)
    jmr.run(DOCUMENTS, words, total, engine=client)
    assert set(fetched) == {"jmr-reduce"}


def test_large_splits_are_scattered_and_large_outputs_cut(client: Any) -> None:
    def halves(key: int, blob: bytes) -> Any:
        yield key % 8, blob[: len(blob) // 2]
        yield -key % 8, blob[len(blob) // 2 :]

    def lengths(key: int, blobs: list[bytes]) -> list[int]:
        return list(map(len, blobs))

    blobs = [(number, bytes(8_000_000 + number)) for number in range(8)]
    result = jmr.run(blobs, halves, lengths, engine=client)
    assert list(result.items()) == list(jmr.run(blobs, halves, lengths, engine="inline").items())
    assert {"Blobs", "jmr-part"} <= prefixes(client)


def test_a_large_split_goes_to_the_worker_that_has_least_to_do(client: Any) -> None:
    pool = open_pool(client)
    for index, n_bytes in enumerate((8_000_000, 4_000_000, 3_000_000, 2_000_000)):
        pieces, _ = cut(records([("a", "x" * n_bytes)]), 1)
        pool.start_map(index, b"".join(pieces))
    one, other, *rest = (pool._maps[index].worker for index in range(4))
    assert {one, other} == set(client.nthreads())
    assert rest == [other, other]  # 8 against 4, then against 7 million bytes
    pool.cancel()
    pool.close()


def test_functions_that_capture_much_are_a_task_of_their_own(client: Any) -> None:
    table = bytes(range(256)) * 1_000
    assert jmr.run({1: 2, 3: 4}, lambda key, value: [(table[key], value)], engine=client) == {1: [2], 3: [4]}
    assert "jmr-functions" in prefixes(client)


def test_what_was_set_aside_may_be_large(client: Any) -> None:
    def picky(key: int, value: str) -> Any:
        return [(key, len(value) // (key % 2))]

    result = jmr.run([(number, "x" * 50_000) for number in range(4)], picky, engine=client, on_error="skip")
    assert result == {1: [50_000], 3: [50_000]}
    assert [bad.value for bad in result.errors] == ["x" * 50_000] * 2


def test_a_split_that_is_sent_again_is_mapped_again_though_dask_still_knows_the_first(client: Any) -> None:
    pool = open_pool(client)
    pieces, _ = cut(records([("a", "cat")]), 1)
    futures = []
    for _ in range(2):
        pool.start_map(0, b"".join(pieces))
        futures.append(pool._maps[0].future)
        done: list[Any] = []
        until(lambda done=done: bool(done.extend(pool.finished(1.0)) or done))
    assert len({future.key for future in futures}) == 2
    pool.close()


# Clients.


def test_dask_by_name_is_the_current_client(client: Any) -> None:
    with client.as_current():
        result = jmr.run(DOCUMENTS, lambda name, text: [(os.getpid(), 1)], total, engine="dask")
    assert set(result) <= set(client.run(os.getpid).values())


def test_a_client_works_where_an_event_loop_runs(client: Any) -> None:
    async def cell() -> Any:
        return jmr.run(DOCUMENTS, words, total, engine=client)

    assert asyncio.run(cell()) == jmr.run(DOCUMENTS, words, total, engine="inline")


def test_threads_run_functions_in_this_process() -> None:
    with (
        local_cluster(processes=False, n_workers=1, threads_per_worker=2) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        result = jmr.run(DOCUMENTS, lambda name, text: [(os.getpid(), 1)], total, engine=client)
        assert result == {os.getpid(): len(DOCUMENTS)}
        assert result.stats.n_slots == 2


def test_a_closed_client_is_refused(client: Any) -> None:
    closed = distributed.Client(client.scheduler.address, set_as_default=False)
    closed.close()
    with pytest.raises(WorkerError, match="the Dask Client is closed: make a new one"):
        jmr.run(DOCUMENTS, words, total, engine=closed)


def test_an_asynchronous_client_is_refused() -> None:
    async def refused() -> None:
        async with (
            local_cluster(processes=False, asynchronous=True) as cluster,
            distributed.Client(cluster, asynchronous=True, set_as_default=False) as client,
        ):
            with pytest.raises(ArgumentValueError, match="make one without asynchronous=True"):
                jmr.run(DOCUMENTS, words, total, engine=client)

    asyncio.run(refused())


def test_options_of_our_own_clusters_are_refused(client: Any, tmp_path: Path) -> None:
    for options in ({"workers": 2}, {"checkpoint": tmp_path}, {"speculate": True}):
        with pytest.raises(ArgumentValueError, match=f"{next(iter(options))}= is for jmr's own clusters"):
            jmr.run(DOCUMENTS, words, total, engine=client, **options)


# Workers come and go.


def test_a_job_without_workers_waits_for_some() -> None:
    with (
        local_cluster(n_workers=0) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        job = jmr.submit(DOCUMENTS, words, total, engine=client)
        until(lambda: any(report.is_waiting and report.n_map_tasks for report in running_jobs()))
        cluster.scale(1)
        assert job.result() == jmr.run(DOCUMENTS, words, total, engine="inline")


@pytest.mark.parametrize(("n_bytes", "last"), [(10, 5), (3_000_000, 0)], ids=["small", "large and not done"])
def test_a_worker_that_dies_costs_no_record(mortal: Any, tmp_path: Path, n_bytes: int, last: int) -> None:
    mark = tmp_path / "died"

    def once(key: int, value: bytes) -> Any:
        if key == last and not mark.exists():
            mark.touch()
            os._exit(1)
        return [(key % 3, len(value))]

    blobs = [(number, bytes(n_bytes)) for number in range(12)]
    result = jmr.run(blobs, once, engine=mortal)
    assert list(result.items()) == [(key, [n_bytes] * 4) for key in range(3)]


def test_what_ends_its_process_again_and_again_is_named(mortal: Any) -> None:
    def deadly(key: int, value: int) -> Any:
        return os._exit(1) if key == 3 else [(key, value)]

    with pytest.raises(SlotDiedError, match=r"the Dask workers that ran split map-\d+ have died, 4 one after another"):
        jmr.run({number: number for number in range(6)}, deadly, engine=mortal)
    assert mortal.submit(pow, 2, 3).result() == 8


def test_where_deaths_have_left_no_worker_the_task_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with local_cluster(n_workers=0) as cluster, distributed.Client(cluster, set_as_default=False) as client:
        pool = open_pool(client)
        pool.start_map(0, b"a split")
        until(lambda: bool(cluster.scheduler.tasks))
        monkeypatch.setattr("jmr.engines.dask.pool._LOST_SECONDS", 0.0)
        assert pool.finished(0.0) == []  # there may be workers yet
        for task in cluster.scheduler.tasks.values():
            task.suspicious = 3
        with pytest.raises(SlotDiedError, match="that ran split map-0 have died, 3 one after another"):
            pool.finished(0.0)
        pool.cancel()
        pool.close()


def test_a_large_split_that_was_lost_after_its_task_is_told(mortal: Any) -> None:
    pool = open_pool(mortal)
    pieces, _ = cut(records([("a", "cat " * 500_000)]), 1)
    pool.start_map(0, b"".join(pieces))
    done: list[Any] = []
    until(lambda: bool(done.extend(pool.finished(1.0)) or done))
    os.kill(done[0][1].worker[1], signal.SIGKILL)
    with pytest.raises(WorkerError, match="a Dask worker was lost, and with it what split map-0 had left there"):
        until(lambda: bool(pool.finished(0.1)))
    pool.cancel()
    pool.close()


def test_a_receipt_that_was_lost_though_the_result_is_there_is_told(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jmr.engines.dask.pool.receipt_of", lambda told, client: None)
    monkeypatch.setattr("jmr.engines.dask.pool._LOST_SECONDS", 0.0)
    pool = open_pool(client)
    pool.start_map(0, b"a split")
    with pytest.raises(WorkerError, match="a Dask worker was lost, and with it what split map-0 had left there"):
        until(lambda: bool(pool.finished(0.1)))
    pool.close()


@pytest.mark.parametrize("call", ["n_slots", "open", "start_map", "finished"])
def test_what_dask_raises_when_its_scheduler_has_gone_is_told_in_a_sentence(call: str) -> None:
    with local_cluster(n_workers=0) as cluster, distributed.Client(cluster, set_as_default=False) as client:
        pool = DaskPool(client) if call in ("n_slots", "open") else open_pool(client)
        job = JobCall(id=os.urandom(8).hex(), functions=b"", n_partitions=4, skips=False)
        if call == "finished":
            pool.start_reduce(0, [0], [])  # which is sent then
        client.close()
        with pytest.raises(WorkerError, match="the connection to the Dask scheduler was lost, and with it the job"):
            {
                "n_slots": lambda: pool.n_slots,
                "open": lambda: pool.open(job),
                "start_map": lambda: pool.start_map(0, b"a split"),
                "finished": lambda: pool.finished(0.0),
            }[call]()


def test_that_a_future_is_cancelled_while_it_is_waited_for_is_told(client: Any) -> None:
    pool = open_pool(client)
    pool._reduces[0] = client.submit(pow, 2, 3, key=pool._key("reduce", 0), workers=["tcp://127.0.0.1:1"])
    pool._ready[0] = Receipt(worker=here())
    pool._reduces[0].cancel()
    with pytest.raises(WorkerError, match="a Dask worker was lost, and with it what reduce-0 had left there"):
        pool.finished(20)
    pool.close()


def test_functions_that_travel_by_themselves_are_named_when_they_end_workers() -> None:
    assert _named(("jmr-functions-0a1b",)) == "the job's functions"


def test_what_maps_have_left_is_looked_at_only_now_and_then(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = open_pool(client)
    looked_at: list[Any] = []
    pool._left[0] = _Left([client.submit(pow, 2, 3)], [0, 4], (1, 1, 1, 1))
    monkeypatch.setattr(pool, "_check", looked_at.append)
    monkeypatch.setattr("jmr.engines.dask.pool._CENSUS_SECONDS", 1e9)
    for _ in range(5):
        assert pool.finished(0.0) == []
    assert looked_at == pool._left[0].futures
    pool.close()


def test_workers_without_jmr_are_told_apart(mortal: Any) -> None:
    def forget() -> None:
        sys.modules["jmr"] = None  # type: ignore[assignment]

    mortal.run(forget)
    with pytest.raises(WorkerError, match="jmr is not installed on the Dask cluster: the worker tcp"):
        jmr.run(DOCUMENTS, words, total, engine=mortal)


# Ends.


def test_cancelling_leaves_the_client_of_use(client: Any, tmp_path: Path) -> None:
    go_on, began = tmp_path / "go on", tmp_path / "began"

    def waiting(key: int, value: int) -> Any:
        began.touch()
        while not go_on.exists():
            pass
        return [(key, value)]

    job = jmr.submit({number: number for number in range(100)}, waiting, engine=client)
    until(began.exists)
    job.cancel()
    with pytest.raises(JobCancelled):
        job.result()
    go_on.touch()  # what had begun goes on to its end
    assert jmr.run(DOCUMENTS, words, total, engine=client) == jmr.run(DOCUMENTS, words, total, engine="inline")


SCRIPT = """
import os, signal, sys, threading, jmr

def square(key, value):
    return [(key % 3, value * value)]

def forever(key, value):
    os.kill(kernel, signal.SIGINT)
    while True: pass

kernel = os.getpid()
print(jmr.run({number: number for number in range(9)}, square, lambda key, values: sum(values), engine="dask"))
try:
    jmr.run({1: 1}, forever, engine="dask")
except KeyboardInterrupt:
    print("interrupted")
try:
    jmr.run({0: 1}, lambda key, value: [(1 / key, 1)], engine="dask")
except jmr.MapError as error:
    print(repr(error.__cause__), error.key)
print(threading.active_count() < 10, __file__ == sys.argv[0])
"""


def test_dask_by_name_starts_processes_and_ends_them_without_a_word(tmp_path: Path) -> None:
    script = tmp_path / "script.py"  # without `if __name__ == "__main__"`, as with our own clusters
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, "-W", "error", str(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    told = ["{0: 45, 1: 66, 2: 93}", "interrupted", "ZeroDivisionError('division by zero') 0", "True True"]
    assert (done.stdout.splitlines(), done.returncode) == (told, 0), done.stderr
    assert not done.stderr
