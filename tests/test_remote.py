"""Jobs on several hosts, which join late, are cut off, freeze and lose power: the answer is the plain loop's."""

from __future__ import annotations

import os
import signal

import pytest

from tests.hosts import Hosts
from tests.remote import (
    await_no_job_files,
    await_nothing,
    files,
    joined_worker,
    script,
    share_token,
    touch,
    worker,
)

pytestmark = pytest.mark.slow

#: Counts words; on each host that is named in STUCK, at that key, and only at the first attempt, until it may go on.
WORDS = """
STUCK = {}
def words(key, line):
    if here() != HOME:
        say(here(), "has", key)
        if STUCK.get(here()) in (key, "any"):
            wait("go")
    for word in line.split():
        yield word, 1
LINES = {i: f"the quick fox {i % 7} jumps over {i}" for i in range(100)}
def outcomes(result):
    say("outcomes", sorted({(one.slot, one.outcome) for one in result.timeline}))
"""


@pytest.fixture
def hosts(netns_hosts: Hosts) -> Hosts:
    share_token(netns_hosts)
    return netns_hosts


def test_word_count_where_one_host_joins_late_and_one_is_powered_off(hosts: Hosts) -> None:
    h1, h2, h3, _ = hosts
    body = """
STUCK = {"h2": 0, "h3": "any"}
with jmr.Cluster(**LISTEN) as cluster:
    say("listening")
    outcomes(same(LINES, words, total))
"""
    coordinator = script(h1, WORDS + body, quick=True)
    coordinator.wait_for("listening")
    second = joined_worker(h2, "--slots", "1", quick=True)
    coordinator.wait_for("h2 has 0$")
    joined_worker(h3, "--slots", "2", quick=True)
    coordinator.wait_for(r"\[h3/\d\] h3 has \d+")
    h3.poweroff()
    touch(h2, "go")
    assert "'h3/1', 'lost'" in coordinator.end()
    second.wait_for("is gone; waiting for the next")


def test_frozen_host_gets_nothing_while_it_is_silent_and_works_again(hosts: Hosts) -> None:
    h1, h2, h3, _ = hosts
    body = """
def state(name):
    return [host.state for host in cluster.hosts() if host.name == name]
def until(name, wanted):
    while state(name) != [wanted]:
        time.sleep(0.01)
jmr.links.leases._LOST_SECONDS = 1000
with jmr.Cluster(**LISTEN) as cluster:
    say("listening")
    sys.stdin.readline()
    say("first", sorted({one.slot for one in same(LINES, words, total).timeline}))
    say("freeze it")
    until("h3", "silent")
    result = same(LINES, words, total)
    assert {one.slot for one in result.timeline} == {"h2/1"}, result.timeline
    say("thaw it")
    until("h3", "here")
    STUCK["h2"] = "any"
    job = jmr.submit(LINES, words, total, progress=False)
    say("freed", job.result() == result)
    outcomes(job.result())
"""
    coordinator = script(h1, WORDS + body, quick=True)
    coordinator.wait_for("listening")
    workers = [joined_worker(host, "--slots", "1", quick=True) for host in (h2, h3)]
    coordinator.tell("go on")
    coordinator.wait_for("freeze it")
    h3.freeze()
    coordinator.wait_for("thaw it")
    h3.thaw()
    coordinator.wait_for(r"\[h3/1\] h3 has \d+")
    touch(h2, "go")
    coordinator.wait_for("freed True")
    assert "('h3/1', 'done')" in coordinator.end()
    for one in workers:
        one.wait_for("is gone; waiting for the next")
        assert one.said.count("joined") == 1


def test_cable_that_is_out_for_a_while_costs_nothing(hosts: Hosts) -> None:
    h1, h2, h3, _ = hosts
    body = """
STUCK = {"h2": "any", "h3": "any"}
with jmr.Cluster(**LISTEN) as cluster:
    say("listening")
    sys.stdin.readline()
    outcomes(same(LINES, words, total))
"""
    coordinator = script(h1, WORDS + body)
    coordinator.wait_for("listening")
    workers = [joined_worker(host, "--slots", "1") for host in (h2, h3)]
    coordinator.tell("go on")
    coordinator.wait_for("h2 has")
    h2.cut()
    h3.hole()
    for host in h2, h3:
        touch(host, "go")
    h2.heal()
    h3.unhole()
    assert "lost" not in coordinator.end()
    for one in workers:
        assert one.said.count("joined") == 1


def test_worker_waits_for_a_coordinator_and_for_the_next(hosts: Hosts) -> None:
    h1, h2, *_ = hosts
    body = """
with jmr.Cluster(**LISTEN) as cluster:
    say("answer", jmr.run(LINES, words, total, progress=False)["fox"])
    sys.stdin.readline()
"""
    early = worker(h2, "--slots", "2")
    early.wait_for("nobody listens at 10.77.0.11:18273 yet")
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
    say("pid", os.getpid())
    subprocess.run(["sleep", "1000"])
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
    body = """
STUCK = {"h2": "any", "h3": "any"}
with jmr.Cluster(**LISTEN) as cluster:
    say("listening")
    sys.stdin.readline()
    outcomes(same(LINES, words, total))
"""
    coordinator = script(h1, WORDS + body)
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


def test_slot_that_is_killed_on_another_host_is_a_death(hosts: Hosts) -> None:
    h1, h2, *_ = hosts
    body = """
def die(key, value):
    if key == 7 and here() != HOME:
        os.kill(os.getpid(), signal.SIGKILL)
    yield key, value
with jmr.Cluster(**LISTEN) as cluster:
    try:
        jmr.run({i: i for i in range(20)}, die, max_attempts=2, progress=False)
    except jmr.SlotDiedError as error:
        say("died:", error)
    result = jmr.run({i: i for i in range(20)}, die, max_attempts=2, on_error="skip", progress=False)
    say("skipped", sorted({*range(20)} - {*result}), [bad.key for bad in result.errors])
"""
    joined = worker(h2, "--slots", "2")
    coordinator = script(h1, body)
    told = coordinator.wait_for("died: .*$")[0]
    assert "key=7" in told
    assert "h2/" in told
    coordinator.wait_for(r"skipped \[7\] \[7\]")
    coordinator.end()
    joined.wait_for("is gone")


@pytest.mark.parametrize("how", ["cancel", "interrupt"])
def test_endless_job_ends_soon_and_leaves_nothing(hosts: Hosts, how: str) -> None:
    h1, h2, *_ = hosts
    body = """
TABLE = bytearray(os.urandom(3_000_000))
def endless(key, value):
    len(TABLE), say("endless")
    while True: pass
with jmr.Cluster(**LISTEN) as cluster:
    source = {i: bytes(2_000_000) for i in range(8)}
    if sys.argv[1] == "cancel":
        job = jmr.submit(source, endless, progress=False)
        sys.stdin.readline()
        began = time.monotonic()
        job.cancel()
        try:
            job.result()
        except jmr.JobCancelled:
            say("ended", time.monotonic() - began)
    else:
        try:
            jmr.run(source, endless, progress=False)
        except KeyboardInterrupt:
            say("ended", 0)
    sys.stdin.readline()
    same(LINES, words, total)
    sys.stdin.readline()
"""
    one = worker(h2, "--slots", "2")
    coordinator = script(h1, WORDS + body, how)
    coordinator.wait_for("endless")
    coordinator.wait_for("endless")
    assert any("job-" in file for file in files(h2))
    if how == "cancel":
        coordinator.tell("cancel it")
    else:
        os.kill(coordinator.process.pid, signal.SIGINT)
    assert float(coordinator.wait_for(r"ended (.*)$", timeout=3)[1]) < 2
    await_no_job_files(h2)
    coordinator.tell("go on")
    coordinator.wait_for("same")
    await_no_job_files(h2)
    coordinator.tell("end")
    coordinator.end()
    one.wait_for("is gone")
    os.kill(one.process.pid, signal.SIGTERM)
    one.end()
    await_nothing(h2)
