"""What becomes of an ssh that ends badly: a program that plays ssh, and has the worker run here."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import jmr
from jmr.engines import recalling
from tests.remote import await_that

pytestmark = pytest.mark.slow


def test_a_child_that_ssh_leaves_behind_keeps_nobody_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text(f"#!/bin/sh\nsleep 1000 <&- >&- &\necho $! >{tmp_path}/pid\necho 'no route to host' >&2\nexit 255\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(jmr.WorkerError, match="there are no slots: no worker on h9: ssh says: no route to host"):
        with pytest.warns(UserWarning, match="no route to host"):
            jmr.Cluster(workers=0, ssh=["h9"])
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


#: Passes on what comes and goes, as ssh does, and ends when the worker ends. The command is its last argument.
SSH = """
import os, subprocess, sys, threading
def note(pid):
    with open(PIDS, "a") as file:
        print(pid, file=file)
def pass_on(reading, writing):
    while part := os.read(reading, 1 << 16):
        os.write(writing, part)
    os.close(writing)
def work():
    worker = subprocess.Popen(["sh", "-c", sys.argv[-1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    note(worker.pid)
    threading.Thread(target=pass_on, args=(0, worker.stdin.fileno()), daemon=True).start()
    pass_on(worker.stdout.fileno(), 1)
    os._exit(worker.wait())
def say(words, code):
    note(os.getpid())
    print(words, file=sys.stderr)
    sys.exit(code)
n_before = len(open(PIDS).readlines())
if not n_before:
    work()
"""


def play_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str) -> Path:
    """Have a program play ssh, that does something else from the second call on; where it notes pids, a line a call."""
    monkeypatch.setattr(recalling, "_SHORTEST_PAUSE", 0.01)
    ssh, pids = tmp_path / "ssh", tmp_path / "pids"
    pids.touch()
    ssh.write_text(f"#!{sys.executable}\nPIDS = {str(pids)!r}{SSH}{then}\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return pids


def loses(pids: Path, number: signal.Signals, stop: Path) -> Callable[[int, int], Iterator[tuple[int, int]]]:
    """A mapfn that ends its worker by this signal, and waits for that."""

    def mapfn(key: int, value: int) -> Iterator[tuple[int, int]]:
        if not stop.exists():
            stop.touch()
            os.kill(int(pids.read_text().split()[0]), number)
            signal.pause()
        yield key % 3, value

    return mapfn


def test_lost_worker_is_called_again_and_the_job_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pids = play_ssh(tmp_path, monkeypatch, "work()")
    mapfn = loses(pids, signal.SIGKILL, tmp_path / "stop")
    source = {i: i * i for i in range(20)}
    with jmr.Cluster(workers=0, ssh=["h9:1"]) as cluster:
        job = jmr.submit(source, mapfn, progress=False)
        result = job.result()
        assert [host.state for host in cluster.hosts()] == ["ready", "ready"]
    assert list(result.items()) == list(jmr.run(source, mapfn, engine="inline", progress=False).items())
    assert len(pids.read_text().split()) == 2
    assert any(note.endswith(", which was lost, is back") for note in job._report.notes)


@pytest.mark.parametrize("exit_code", [1, 127])
def test_host_where_no_worker_can_run_any_more_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exit_code: int
) -> None:
    pids = play_ssh(tmp_path, monkeypatch, f"say('no jmr there', {exit_code})")
    mapfn = loses(pids, signal.SIGKILL, tmp_path / "stop")
    with jmr.Cluster(workers=0, ssh=["h9:1"]) as cluster:
        with pytest.raises(jmr.WorkerError, match="the last, was lost, and given up: ssh says: no jmr there"):
            jmr.run({1: 1}, mapfn, progress=False)
        assert cluster.hosts()[1].state == "lost, given up: ssh says: no jmr there"
        with pytest.raises(jmr.ArgumentValueError, match="workers=0 leaves the work to slots of other hosts"):
            jmr.run({1: 1}, mapfn, progress=False)
    assert len(pids.read_text().split()) == 1 + 3


def test_way_that_is_barred_is_tried_until_it_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pids = play_ssh(tmp_path, monkeypatch, "work() if n_before == 6 else say('no route to host', 255)")
    mapfn = loses(pids, signal.SIGKILL, tmp_path / "stop")
    monkeypatch.setattr(recalling, "_LONGEST_PAUSE", 0.02)
    with jmr.Cluster(workers=0, ssh=["h9:1"]):
        assert jmr.run({1: 1}, mapfn, progress=False) == {1: [1]}
    assert len(pids.read_text().split()) == 7


def test_worker_that_was_told_to_end_is_not_called_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pids = play_ssh(tmp_path, monkeypatch, "work()")
    mapfn = loses(pids, signal.SIGTERM, tmp_path / "stop")
    with jmr.Cluster(workers=0, ssh=["h9:1"]):
        with pytest.raises(jmr.WorkerError, match="the last, was told to end"):
            jmr.run({1: 1}, mapfn, progress=False)
    assert len(pids.read_text().split()) == 1


def test_job_that_waits_for_a_lost_host_can_be_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pids = play_ssh(tmp_path, monkeypatch, "note(os.getpid()); threading.Event().wait()")
    mapfn = loses(pids, signal.SIGKILL, tmp_path / "stop")
    with jmr.Cluster(workers=0, ssh=["h9:1"]) as cluster:
        job = jmr.submit({1: 1}, mapfn, progress=False)
        await_that(lambda: job._report.is_waiting and len(pids.read_text().split()) == 2)
        assert cluster.hosts()[1].state == "lost, called again"
        assert job.cancel()
        with pytest.raises(jmr.JobCancelled):
            job.result(timeout=5)
        later = jmr.submit({1: 1}, mapfn, progress=False)
        await_that(lambda: later._report.is_waiting)
        assert later.cancel()
        began = time.monotonic()
    assert time.monotonic() - began < 1
    with pytest.raises(ProcessLookupError):
        os.kill(int(pids.read_text().split()[1]), 0)
