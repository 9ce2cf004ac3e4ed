"""Jobs on several hosts, which join late, are cut off, freeze and lose power: the answer is the plain loop's."""

from __future__ import annotations

import os
import signal

import pytest

from tests.hosts import Hosts
from tests.remote import (
    STUCK_JOB,
    WORDS,
    await_no_job_files,
    await_nothing,
    files,
    joined_worker,
    script,
    touch,
    worker,
)

pytestmark = pytest.mark.slow


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
    until("h3", "ready")
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


def test_host_that_was_frozen_for_too_long_joins_again(hosts: Hosts) -> None:
    h1, h2, h3, _ = hosts
    body = """
STUCK = {"h3": "any"}
with jmr.Cluster(**LISTEN) as cluster:
    await_slots(cluster, 2)
    outcomes(same(LINES, words, total))
    say("frozen")
    STUCK.clear()
    await_slots(cluster, 2)
    outcomes(same(LINES, words, total))
"""
    coordinator = script(h1, WORDS + body, quick=True)
    coordinator.wait_for("listening")
    joined_worker(h2, "--slots", "1", quick=True)
    frozen = joined_worker(h3, "--slots", "1", quick=True)
    coordinator.wait_for("h3 has")
    h3.freeze()
    assert "('h3/1', 'lost')" in coordinator.wait_for("outcomes .*$")[0]
    coordinator.wait_for("frozen")
    h3.thaw()
    frozen.wait_for("joined")
    assert "('h3/1', 'done')" in coordinator.wait_for("outcomes .*$")[0]
    coordinator.end()


def test_cable_that_is_out_for_a_while_costs_nothing(hosts: Hosts) -> None:
    h1, h2, h3, _ = hosts
    coordinator = script(h1, STUCK_JOB)
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


def test_slot_that_is_killed_on_another_host_is_a_death(hosts: Hosts) -> None:
    h1, h2, *_ = hosts
    body = """
def die(key, value):
    print("at", key, flush=True)
    if key == 7 and here() != HOME:
        os.kill(os.getpid(), signal.SIGKILL)
    yield key, value
with jmr.Cluster(**LISTEN) as cluster:
    try:
        jmr.run({i: i for i in range(20)}, die, max_attempts=2, progress=False)
    except jmr.SlotDiedError as error:
        say("died:", repr(str(error)))
    result = jmr.run({i: i for i in range(20)}, die, max_attempts=2, on_error="skip", progress=False)
    say("skipped", sorted({*range(20)} - {*result}), [bad.key for bad in result.errors])
"""
    joined = worker(h2, "--slots", "2")
    coordinator = script(h1, body)
    told = coordinator.wait_for("died: .*$")[0]
    assert "key=7" in told
    assert "h2/" in told
    assert "had printed last:\\n" in told
    assert "    at 7\\nTo look into it" in told
    coordinator.wait_for(r"skipped \[7\] \[7\]")
    coordinator.end()
    joined.wait_for("is gone")


def test_what_failed_on_another_host_is_replayed_here(hosts: Hosts) -> None:
    h1, h2, *_ = hosts
    body = """
def fails(key, values):
    values.append(here())
    if key == 7:
        raise ValueError(values)
    return []
def fold(key, values):
    return fails(key, values) or 0
def replayed(replay):
    try:
        replay()
    except ValueError as live:
        return live
source = {i: [i] for i in range(20)}
with jmr.Cluster(**LISTEN) as cluster:
    for functions in {"mapfn": fails}, {"reducefn": fold}, {"combinefn": fold, "reducefn": fold}:
        functions = {"mapfn": lambda key, value: [(key, value)], **functions}
        try:
            jmr.run(source, **functions, progress=False)
        except jmr.FunctionError as error:
            say(type(error).__name__, error.__cause__, error.key, error.value, replayed(error.replay))
        (bad,) = jmr.run(source, **functions, progress=False, on_error="skip").errors
        say("bad", bad.error, bad.key, bad.value, replayed(bad.replay))
"""
    joined = worker(h2, "--slots", "2")
    coordinator = script(h1, body)
    coordinator.wait_for(r"MapError \[7, 'h2'\] 7 \[7\] \[7, 'h1'\]$")
    coordinator.wait_for(r"bad \[7, 'h2'\] 7 \[7\] \[7, 'h1'\]$")
    for kind in "ReduceError", "CombineError":
        coordinator.wait_for(kind + r" \[\[7\], 'h2'\] 7 \[\[7\]\] \[\[7\], 'h1'\]$")
        coordinator.wait_for(r"bad \[\[7\], 'h2'\] 7 \[\[7\]\] \[\[7\], 'h1'\]$")
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


def test_listening_that_begins_amid_a_job(hosts: Hosts) -> None:
    h1, h2, *_ = hosts
    body = """
def mapfn(key, value):
    if here() == HOME and key == 0 and engine != "inline":
        wait("go")
    say(here(), "has", key)
    yield key % 3, value
engine = "inline"
SOURCE = {i: i for i in range(20)}
expected = jmr.run(SOURCE, mapfn, total, engine="inline")
engine = None
with jmr.Cluster(workers=1) as cluster:
    job = jmr.submit(SOURCE, mapfn, total, progress=False)
    cluster.listen("10.77.0.11")
    say("listening")
    assert list(job.result().items()) == list(expected.items())
    outcomes(job.result())
"""
    coordinator = script(h1, WORDS + body)
    coordinator.wait_for("listening")
    joined_worker(h2, "--slots", "1")
    coordinator.wait_for("h2 has")
    touch(h1, "go")
    said = coordinator.end()
    assert "('h2/1', 'done')" in said
