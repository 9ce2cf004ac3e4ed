"""Workers wait for a coordinator, leave it amid a job, are killed, and find the next one."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.hosts import Hosts
from tests.remote import STUCK_JOB, WORDS, Script, await_nothing, joined_worker, processes, script, touch, worker

pytestmark = pytest.mark.slow


def test_worker_waits_for_a_coordinator_and_for_the_next(hosts: Hosts) -> None:
    h1, h2, *_ = hosts
    body = """
with jmr.Cluster(**LISTEN) as cluster:
    say("answer", jmr.run(LINES, words, total, progress=False)["fox"])
    sys.stdin.readline()
"""
    early = worker(h2, "--slots", "2")
    early.wait_for("nobody listens at 10.77.0.11:18273; trying again")
    first = script(h1, WORDS + body)
    first.wait_for("answer 100")
    early.wait_for("joined")
    first.tell("end")
    first.end()
    early.wait_for("is gone; waiting for the next")
    second = script(h1, WORDS + body)
    second.wait_for("answer 100")
    second.tell("end")
    second.end()


def test_worker_of_a_coordinator_that_was_killed_stops_its_attempts_and_joins_the_next(hosts: Hosts) -> None:
    h1, h2, *_ = hosts
    body = """
def sleep(key, value):
    import subprocess
    sleeper = subprocess.Popen(["sleep", "1000"])
    say("pid", os.getpid())
    sleeper.wait()
with jmr.Cluster(**LISTEN) as cluster:
    jmr.run({1: 1}, sleep, progress=False)
"""
    one = worker(h2, "--slots", "1")
    first = script(h1, body)
    first.wait_for("pid")
    assert h2.run(["pgrep", "sleep"]).stdout
    os.kill(first.process.pid, signal.SIGKILL)
    one.wait_for("is gone; waiting for the next")
    second = script(h1, WORDS + "with jmr.Cluster(**LISTEN): same(LINES, words, total)")
    one.wait_for("joined")
    second.wait_for("same")
    assert h2.run(["pgrep", "sleep"]).stdout == ""
    second.end()


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_worker_that_is_told_to_end_amid_a_job(hosts: Hosts, signal_number: int) -> None:
    h1, h2, h3, _ = hosts
    coordinator = script(h1, STUCK_JOB)
    coordinator.wait_for("listening")
    leaving, _ = joined_worker(h2, "--slots", "2"), joined_worker(h3, "--slots", "1")
    coordinator.tell("go on")
    coordinator.wait_for("h2 has")
    os.kill(leaving.process.pid, signal_number)
    touch(h2, "go")
    leaving.end(-signal_number if signal_number == signal.SIGKILL else 0)
    await_nothing(h2)
    touch(h3, "go")
    said = coordinator.end()
    assert signal_number == signal.SIGKILL or "lost" not in said


def test_worker_that_does_not_finish_in_time_hands_back(hosts: Hosts) -> None:
    h1, h2, h3, _ = hosts
    body = """
STUCK = {"h2": "any"}
with jmr.Cluster(**LISTEN) as cluster:
    say("listening")
    same(LINES, words, total)
"""
    coordinator = script(h1, WORDS + body)
    coordinator.wait_for("listening")
    leaving = joined_worker(h2, "--slots", "1", "-v")
    coordinator.wait_for("h2 has")
    os.kill(leaving.process.pid, signal.SIGTERM)
    leaving.wait_for("leaving")
    os.kill(leaving.process.pid, signal.SIGTERM)
    leaving.end()
    joined_worker(h3, "--slots", "1")
    coordinator.wait_for("same")
    coordinator.end()


def test_supervisor_that_is_killed_is_replaced(hosts: Hosts) -> None:
    h1, h2, *_ = hosts
    body = """
STUCK = {"h2": "any"}
with jmr.Cluster(**LISTEN) as cluster:
    outcomes(same(LINES, words, total))
"""
    coordinator = script(h1, WORDS + body)
    one = joined_worker(h2, "--slots", "1")
    coordinator.wait_for("h2 has")
    (supervisor,) = [pid for pid in processes(h2) if pid != one.process.pid and parent(pid) == one.process.pid]
    os.kill(supervisor, signal.SIGKILL)
    one.wait_for("the process that forks slots has ended")
    one.wait_for("joined")
    touch(h2, "go")
    assert "('h2/1', 'lost')" in coordinator.end()


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_task_file_on_another_hosts_slots(hosts: Hosts) -> None:
    h1, h2, *_ = hosts
    task = """
source = {i: f"word{i % 3}" for i in range(30)}
def mapfn(key, line):
    import beside, socket
    print("at", socket.gethostname())
    yield line, beside.FACTOR
def reducefn(key, values):
    return sum(values)
def final(key, value):
    print(key, value)
"""
    h1.run(["sh", "-c", "mkdir /tmp/w; cat >/tmp/w/words.py; echo 'FACTOR = 2' >/tmp/w/beside.py"], input=task)
    command = ["run", "words.py", "--workers", "0", "--listen", h1.address]
    run = Script(h1, "import sys; from jmr.cli import main; sys.exit(main())", *command, cwd="/tmp/w")
    run.wait_for("jmr-worker 10.77.0.11")
    one = joined_worker(h2, "--slots", "2", "--once")
    said = run.end()
    assert "word0 20\nword1 20\nword2 20\n" in said
    one.end()
