"""What is special to Ray; that it answers like every other engine is in the conformance suite."""

from __future__ import annotations

import os
import random
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import jmr
from jmr.engines import ray as ray_engine
from jmr.engines import rayhome
from jmr.errors import JobCancelled, SlotDiedError, WorkerError

CHECKOUT = Path(__file__).parents[2]
DOCUMENTS = {f"{number}.txt": f"the cat {number % 7} the dog {number % 31}" for number in range(300)}


def words(name: str, text: str) -> Any:
    for word in text.split():
        yield word, 1


def total(word: str, counts: list[int]) -> int:
    return sum(counts)


def first(key: int, values: list[int]) -> int:
    return values[0]


# Without Ray.


def test_both_ends_know_from_the_lengths_alone_what_is_in_a_bundle() -> None:
    dice = random.Random(7)
    for _ in range(300):
        lengths = [dice.choice([0, 1, 5_000, 99_999, 100_000, 3_000_000]) for _ in range(dice.randrange(1, 300))]
        most = dice.randrange(1, 130)
        bundles = ray_engine._bundled(lengths, most)
        assert len(bundles) <= most
        assert [part for inside in bundles for part in inside] == [part for part, n in enumerate(lengths) if n]
        assert all(sum(lengths[part] for part in inside) >= 100_000 for inside in bundles[:-1])


def test_nothing_is_left_of_a_task_that_has_failed() -> None:
    assert ray_engine._bundled((), 8) == []


@pytest.mark.parametrize("bundle", [None, {4: b"something"}], ids=["it has failed", "it has given something else"])
def test_a_map_that_leaves_something_else_when_ray_runs_it_again_is_told(bundle: Any) -> None:
    with pytest.raises(RuntimeError, match="mapfn gave something else for split map-7 when Ray had to run it again"):
        ray_engine._reduce(None, 0, [(7, [3])], bundle)  # type: ignore[arg-type]


def test_of_what_is_under_way_at_the_end_only_what_is_ready_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ready:
        """A Ray in which some have failed."""

        def __init__(self) -> None:
            self.asked: list[str] = []

        def wait(self, references: list[str], *, num_returns: int, **options: Any) -> tuple[list[str], list[str]]:
            assert num_returns == len(references) == 5
            return references[3:], references[:3]

        def get(self, reference: str, **options: Any) -> None:
            self.asked.append(reference)
            raise OSError(reference)

    ray = Ready()
    monkeypatch.setattr(ray_engine, "imported", lambda: ray)
    pool = ray_engine.RayPool()
    pool._running = {0: ("receipt", "result"), 1: ("receipt", None)}
    pool._bundles = {1: ["a", "b", "c", "d"]}
    pool.close()
    assert ray.asked == ["c", "d"]


def test_that_ray_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(WorkerError, match=r'^engine="ray" needs Ray: pip install "jmr\[ray\]"$'):
        jmr.run(DOCUMENTS, words, total, engine="ray")


class HalfRay:
    """A Ray that gives up when it has started some processes, as it does on a busy machine."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    def is_initialized(self) -> bool:
        return False

    def init(self, address: str, **options: Any) -> None:
        Node(self)

    def shutdown(self) -> None:
        self.ended.append("Ray")


class Node:
    """What such a Ray forgets."""

    def __init__(self, ray: HalfRay) -> None:
        self.ray = ray
        raise Exception("The current node timed out during startup.")  # noqa: TRY002 - Ray does that

    def kill_all_processes(self, *, check_alive: bool, allow_graceful: bool, wait: bool) -> None:
        self.ray.ended.append("its processes")


def test_a_ray_that_does_not_start_is_tried_once_more_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    half = HalfRay()
    monkeypatch.setattr(ray_engine, "imported", lambda: half)
    with pytest.raises(WorkerError, match=r"^Ray does not start: .*timed out during startup"):
        jmr.run(DOCUMENTS, words, total, engine="ray")
    assert half.ended == 2 * ["its processes", "Ray"]


# What Ray says.


@pytest.fixture(scope="module")
def exceptions() -> Any:
    return pytest.importorskip("ray.exceptions") if rayhome.imported() else None


@pytest.mark.slow
@pytest.mark.engines
@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda e: e.WorkerCrashedError(), SlotDiedError, "has tried it 3 times"),
        (lambda e: e.OutOfMemoryError("used 95%"), SlotDiedError, "short of memory.*OutOfMemoryError: used 95%"),
        (lambda e: e.RuntimeEnvSetupError("no pip"), WorkerError, "runtime_env.*no pip"),
        (lambda e: e.TaskCancelledError(), WorkerError, "somebody has cancelled a task"),
        (lambda e: e.ObjectLostError("ab" * 28, ("", ""), ""), WorkerError, "with the node where it lay"),
        (lambda e: e.RaySystemError("no raylet"), WorkerError, "^Ray cannot go on: RaySystemError: .*no raylet"),
        (
            lambda e: e.RayTaskError("_map", "a page of text", ModuleNotFoundError("No module named 'jmr'")),
            WorkerError,
            "No module named 'jmr'. jmr must be installed there",
        ),
    ],
)
def test_what_ends_ray_is_told_in_a_sentence(exceptions: Any, make: Any, kind: type[Exception], words: str) -> None:
    error = rayhome.error_of(make(exceptions), 3)
    assert type(error) is kind
    with pytest.raises(kind, match=words):
        raise error
    assert "\n" not in str(error)
    assert len(str(error)) < 600


# On a real one.


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """A Ray with two CPUs, whose workers import from this checkout; or the one that RAY_ADDRESS names."""
    ray = rayhome.imported()
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(CHECKOUT)
    try:
        options: dict[str, Any] = {"address": "local", "num_cpus": 2, "include_dashboard": False}
        ray.init(log_to_driver=False, logging_level="ERROR", **({} if "RAY_ADDRESS" in os.environ else options))
        yield ray
    finally:
        ray.shutdown()
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def spread(number: int, size: int) -> Any:
    """Something for each of 16 partitions."""
    for key in range(64):
        yield key, bytes([number]) * size


def lengths(key: int, values: list[bytes]) -> list[tuple[int, int]]:
    return [(value[0], len(value)) for value in values]


@pytest.mark.slow
@pytest.mark.engines
def test_what_maps_leave_stays_in_rays_object_store(ray: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []

    def get(reference: Any, **options: Any) -> Any:
        fetched.append(original(reference, **options))
        return fetched[-1]

    original = ray.get
    monkeypatch.setattr(ray, "get", get)
    source = [(number, 1_000 if number % 2 else 30_000) for number in range(12)]
    result = jmr.run(source, spread, lengths, engine="ray", n_partitions=16)
    monkeypatch.undo()
    assert list(result.items()) == list(jmr.run(source, spread, lengths, engine="inline").items())
    assert result.stats.shuffled_bytes > 11_000_000
    assert 0 < sum(len(memoryview(blob)) for blob in fetched) < 100_000


@pytest.mark.slow
@pytest.mark.engines
def test_more_partitions_than_a_task_may_leave_objects_give_the_same(ray: Any) -> None:
    result = jmr.run(DOCUMENTS, words, total, engine="ray", n_partitions=1_000)
    assert list(result.items()) == list(jmr.run(DOCUMENTS, words, total, engine="inline").items())


@pytest.mark.slow
@pytest.mark.engines
def test_large_functions_are_put_into_the_object_store_once(ray: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    put = []
    original = ray.put
    monkeypatch.setattr(ray, "put", lambda value: put.append(value) or original(value))
    table = os.urandom(3_000_000)
    result = jmr.run(DOCUMENTS, lambda name, text: [(len(text), table[len(text)])], first, engine="ray")
    assert sum(isinstance(value, ray_engine._Shared) for value in put) == 1
    assert result == jmr.run(DOCUMENTS, lambda name, text: [(len(text), table[len(text)])], first, engine="inline")


@pytest.mark.slow
@pytest.mark.engines
def test_modules_of_a_folder_that_was_added_after_ray_had_started_are_found(
    ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "added_for_ray.py").write_text("def doubled(key, value):\n    yield key, 2 * value\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    from added_for_ray import doubled  # type: ignore[import-not-found]

    assert jmr.run({1: 2}, doubled, engine="ray") == {1: [4]}
    del sys.modules["added_for_ray"]


@pytest.mark.slow
@pytest.mark.engines
def test_a_worker_that_dies_is_tried_as_often_as_asked_and_ray_goes_on(ray: Any, tmp_path: Path) -> None:
    log = tmp_path / "attempts"

    def die(key: int, value: int) -> Any:
        with log.open("a") as file:
            file.write("x")
        os._exit(3)

    with pytest.raises(SlotDiedError, match="has tried it 2 times"):
        jmr.run({1: 1}, die, engine="ray", max_attempts=2)
    assert log.read_text() == "xx"
    assert ray.is_initialized()
    assert jmr.run({"a": "b c"}, words, total, engine="ray") == {"b": 1, "c": 1}


@pytest.mark.slow
@pytest.mark.engines
def test_a_cancelled_job_ends_the_process_that_runs_its_task(ray: Any, tmp_path: Path) -> None:
    pipe = str(tmp_path / "pipe")
    os.mkfifo(pipe)

    def stuck(key: int, value: int) -> Any:
        with open(pipe, "w") as file:
            file.write(str(os.getpid()))
        while True:
            sum(range(10**9))  # no exception gets in

    job = jmr.submit({1: 1}, stuck, engine="ray", progress=False)
    with open(pipe) as file:
        process = os.pidfd_open(int(file.read()))
    try:
        job.cancel()
        with pytest.raises(JobCancelled):
            job.result()
        assert select.select([process], [], [], 30)[0], "it goes on"
    finally:
        os.close(process)
    assert ray.is_initialized()
    assert jmr.run({"a": "b c"}, words, total, engine="ray") == {"b": 1, "c": 1}


@pytest.mark.slow
@pytest.mark.engines
def test_no_reference_is_left_when_a_job_has_ended(ray: Any) -> None:
    pool = ray_engine.RayPool()
    from jmr.engines.driver import DrivenEngine
    from jmr.plan import Plan
    from jmr.progress.report import Report

    plan = Plan.checked({0: 30_000, 1: 1_000}, spread, lengths, n_partitions=4)
    assert len(list(DrivenEngine(pool).run(plan, Report("job")))) == 4
    assert not pool._running
    assert not pool._bundles
    assert not pool._left
    assert pool._shared is None


ALONE = """
import os, signal, sys, warnings
warnings.simplefilter("error")
import jmr

def words(name, text):
    print("mapping", name)
    return [(word, 1) for word in text.split()]

def bad(name, text):
    raise ValueError(name)

handler = signal.getsignal(signal.SIGTERM)
environment = os.environ.get("PYTHONPATH")
if sys.argv[1] == "good":
    print(dict(jmr.run({"a": "x y x"}, words, lambda word, counts: sum(counts), engine="ray", progress=False)))
else:
    try:
        jmr.run({"a": "x y x"}, bad, engine="ray", progress=False)
    except jmr.MapError as error:
        print(type(error.__cause__).__name__, error.key)
import ray
assert not ray.is_initialized()
assert signal.getsignal(signal.SIGTERM) is handler
assert os.environ.get("PYTHONPATH") == environment
"""


@pytest.mark.slow
@pytest.mark.engines
@pytest.mark.parametrize(
    ("how", "said"), [("good", ["[ray/1] mapping a", "{'x': 2, 'y': 1}"]), ("bad", ["ValueError a"])]
)
def test_a_ray_of_the_jobs_own_says_nothing_and_ends_with_the_job(how: str, said: list[str]) -> None:
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(
        [sys.executable, "-c", ALONE, how], env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == said
