"""Jobs that take more memory than there is, on real processes: with a limit of their own, and with the kernel's."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import jmr
from jmr.progress.report import Report
from jmr.worker.signals import SPILL_SIGNAL
from tests.conftest import FORBIDDEN
from tests.joiners import Command

pytestmark = pytest.mark.slow

MB = 10**6
#: Where 600 MB are all there is, as a pattern.
STOPPED = r"was stopped at \d\d\d MB: (9[5-9]|1\d\d) % of this host's 600 MB of memory was used"
#: Nobody waits as long as that, but for what never comes.
SECONDS = 60


@pytest.fixture
def small_cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[jmr.Cluster]:
    """Two slots, which may have 600 MB together."""
    monkeypatch.setenv("JMR_MEMORY_LIMIT", "600000000")
    with jmr.Cluster(workers=2) as cluster:
        yield cluster


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def two_that_do_not_fit(folder: Path) -> Callable[[int, int], Any]:
    """A mapfn for records 0 and 1: takes 320 MB, and waits until the other one has too, and is gone, or done."""

    def mapfn(key: int, value: int) -> Any:
        other = folder / f"{1 - key}"
        draft = folder / f"{key}-{os.getpid()}"
        draft.write_text(str(os.getpid()))
        draft.rename(folder / f"{key}")
        taken = b"x" * (320 * MB)
        wait_for(lambda: other.exists() and (other.read_text() == "done" or is_gone(int(other.read_text()))))
        (folder / f"{key}").write_text("done")
        yield "bytes", len(taken) + value

    return mapfn


def test_of_two_that_do_not_fit_side_by_side_one_runs_again_alone(small_cluster, tmp_path):
    (tmp_path / "inline").mkdir()
    for key in (0, 1):
        (tmp_path / f"inline/{key}").write_text("done")
    expected = jmr.run({0: 5, 1: 6}, two_that_do_not_fit(tmp_path / "inline"), sum_up, engine="inline")
    result = jmr.run({0: 5, 1: 6}, two_that_do_not_fit(tmp_path), sum_up, engine=small_cluster, progress=False)
    assert list(result.items()) == list(expected.items()) == [("bytes", 640 * MB + 11)]
    maps = [attempt for attempt in result.timeline if attempt.task.startswith("map")]
    assert [(attempt.number, attempt.outcome) for attempt in maps] == [(1, "stopped"), (1, "done"), (2, "done")]
    assert maps[2].task == maps[0].task
    assert maps[2].started >= maps[1].ended
    assert re.search(
        rf"\({maps[0].task} on {maps[0].slot} {STOPPED}; it ran again with fewer beside it\)",
        str(jmr.last),
    )


def sum_up(_: Any, values: list[int]) -> int:
    return sum(values)


def takes_too_much(key: int, value: Any) -> Any:
    """Of the records, 3 does."""
    if key == 3:
        taken = b"x" * (700 * MB)
        time.sleep(SECONDS)
        yield key, len(taken)
    yield key, value


def test_one_that_alone_takes_more_than_there_is_fails_with_its_record_and_the_cluster_goes_on(small_cluster):
    with pytest.raises(jmr.SlotDiedError) as caught:
        jmr.run({1: 1, 3: 3}, takes_too_much, engine=small_cluster, progress=False)
    assert re.fullmatch(
        r"mapfn ran out of memory, 2 times, at record key=3 \(split map-1, worker local/\d\): its process "
        rf"{STOPPED}, with no other task beside it\.\s"
        r"Have it take less at once, or use a host with more memory; or leave it out with on_error=\"skip\"\.",
        str(caught.value),
    )
    result = jmr.run({1: 1, 3: 3}, lambda key, value: [(key, value)], engine=small_cluster, progress=False)
    assert result == {1: [1], 3: [3]}


def test_one_that_alone_takes_more_than_there_is_can_be_left_out(small_cluster):
    options: dict[str, Any] = {"max_attempts": 1, "on_error": "skip", "progress": False}
    result = jmr.run({1: 1, 3: 3}, takes_too_much, engine=small_cluster, **options)
    assert result == {1: [1]}
    assert [(bad.phase, bad.key, bad.value) for bad in result.errors] == [("map", 3, 3)]


def test_a_slot_on_another_host_is_stopped_for_that_hosts_sake(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    with (
        jmr.Cluster(workers=0, listen="127.0.0.1:0") as cluster,
        Command(cluster.address, "--slots", 1, "--once", env={"JMR_MEMORY_LIMIT": "600000000"}),
    ):
        wait_for(lambda: len(cluster.hosts()) == 2)
        (host,) = [host.name for host in cluster.hosts() if host.name != "local"]
        with pytest.raises(jmr.SlotDiedError, match=f"at record key=3 .* of {host}'s 600 MB of memory was used"):
            jmr.run({1: 1, 3: 3}, takes_too_much, engine=cluster, max_attempts=1, progress=False)
        assert jmr.run({1: 1}, lambda key, value: [(key, value)], engine=cluster, progress=False) == {1: [1]}


def test_a_slot_that_has_more_than_its_share_is_told_and_others_are_not(monkeypatch, tmp_path):
    monkeypatch.setenv("JMR_MEMORY", "0")  # so that a share is 64 MiB

    def mapfn(key: int, value: int) -> Any:
        told: list[int] = []
        before = signal.signal(SPILL_SIGNAL, lambda number, frame: told.append(number))
        taken = b"x" * value
        if key == 1:
            wait_for(lambda: len(told) >= 2)
            (tmp_path / "told").touch()
        else:
            wait_for((tmp_path / "told").exists)
        signal.signal(SPILL_SIGNAL, before)
        yield key, (len(taken), bool(told))

    with jmr.Cluster(workers=2) as cluster:
        result = jmr.run({1: 100 * MB, 2: 10}, mapfn, engine=cluster, progress=False)
    assert result == {1: [(100 * MB, True)], 2: [(10, False)]}


def test_the_live_row_shows_what_a_slot_has_now(cluster):
    def mapfn(key: int, value: int) -> Any:
        taken = b"x" * (200 * MB)
        time.sleep(SECONDS)
        yield key, len(taken)

    job = jmr.submit({1: 1}, mapfn, engine=cluster, progress=False)
    report: Report = job._report
    wait_for(lambda: any(row.memory_bytes > 200 * MB for row in report.slots.values()))
    assert [row.n_tasks for row in report.slots.values()] == [0]
    job.cancel()


def test_the_kernel_is_offered_slots_before_others_when_memory_is_out(cluster):
    def mapfn(key: int, path: str) -> Any:
        yield key, int(Path(path).read_text())

    path = "/proc/self/oom_score_adj"
    expected = max(500, int(Path(path).read_text()))
    assert jmr.run({1: path}, mapfn, engine=cluster, progress=False) == {1: [expected]}


KILLED_BY_THE_KERNEL = """
import os, sys
with open(sys.argv[1] + "/cgroup.procs", "w") as file:
    file.write(str(os.getpid()))
import jmr
from jmr.coordinator.watching import Watching
Watching.tick = lambda self, *, has_jobs: None  # the kernel shall be faster
def mapfn(key, value):
    yield key, len(b"x" * value)
try:
    jmr.run({1: 10, 2: 1_000_000_000}, mapfn, workers=1, max_attempts=2, progress=False)
except jmr.SlotDiedError as error:
    print(error)
print(jmr.run({1: 10}, mapfn, workers=1, progress=False))
"""


def test_whom_the_kernel_killed_for_want_of_memory_is_told():
    with control_group(400 * MB) as group:
        said = subprocess.run(
            [sys.executable, "-c", KILLED_BY_THE_KERNEL, str(group)], capture_output=True, text=True, check=False
        )
    assert said.returncode == 0, said.stderr
    error, *_, result = said.stdout.splitlines()
    assert re.match(
        r"mapfn ran out of memory, 2 times, at record key=2 \(split map-1, worker local/\d\): its process "
        r"was ended at \d\d\d MB by the system, which had no memory left, with no other task beside it\.",
        error,
    )
    assert result == "{1: [10]}"


@contextlib.contextmanager
def control_group(limit_bytes: int) -> Iterator[Path]:
    """One below ours, with a limit, for a process to enter."""
    lines = Path("/proc/self/cgroup").read_text()
    old, new = re.search(r"^\d+:memory:/(.*)$", lines, re.MULTILINE), re.search(r"^0::/(.*)$", lines, re.MULTILINE)
    if old is not None:
        home, limit = Path("/sys/fs/cgroup/memory") / old[1], "memory.limit_in_bytes"
    elif new is not None:
        home, limit = Path("/sys/fs/cgroup") / new[1], "memory.max"
    else:
        pytest.skip(f"{FORBIDDEN} control groups: there are none")
    group = home / f"jmr-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"{FORBIDDEN} a control group: {error}")
    try:
        try:
            (group / limit).write_text(str(limit_bytes))
        except OSError as error:
            pytest.skip(f"{FORBIDDEN} a limit in a control group: {error}")
        yield group
    finally:
        wait_for(lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()


def test_what_one_job_does_with_the_signal_ends_with_it() -> None:
    def keep(key: int, value: int) -> list[tuple[str, bool]]:
        before = signal.signal(SPILL_SIGNAL, signal.SIG_IGN)
        return [("is heard", callable(before))]

    with jmr.Cluster(workers=1):
        assert jmr.run({1: 1}, keep, progress=False) == {"is heard": [True]}
        assert jmr.run({1: 1}, keep, progress=False) == {"is heard": [True]}
