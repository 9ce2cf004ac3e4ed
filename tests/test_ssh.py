"""Workers that ssh starts on other hosts: nothing listens, nobody shows a token, and nothing is left."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.hosts import Host, Hosts
from tests.remote import TOKEN, await_nothing, await_that, files, kill_all, python_there, script, touch

pytestmark = pytest.mark.slow

START = """
import warnings
warnings.simplefilter("always")
warnings.showwarning = lambda message, *_: say("warned:", message)
def squares(key, value):
    if here() != HOME:
        say(here(), "has", key)
    yield key % 3, value * value
SOURCE = {i: i for i in range(60)}
def cluster_of(*hosts, workers=0, python=sys.argv[1]):
    return jmr.Cluster(workers=workers, ssh=hosts, python=python)
def names(cluster):
    return [host.name for host in cluster.hosts()][1:]
"""
#: Lost hosts are called again soon.
AGAIN = """
import jmr.engines.recalling
jmr.engines.recalling._SHORTEST_PAUSE, jmr.engines.recalling._LONGEST_PAUSE = 0.1, 1.0
"""


@pytest.fixture
def python(netns_hosts: Hosts) -> str:
    return python_there(netns_hosts)


def listening(host: Host) -> list[str]:
    return [line.split()[3] for line in host.run(["ss", "-tlnH"]).stdout.splitlines()]


def every_command_line() -> str:
    return "".join(path.read_text(errors="replace") for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists())


@pytest.mark.parametrize("home", ["h1", "nat1"])
def test_hosts_work_without_anything_that_listens(hosts: Hosts, python: str, home: str) -> None:
    body = """
with cluster_of("h2:2", "root@h3:1") as cluster:
    await_slots(cluster, 3)
    result = same(SOURCE, squares, total)
    slots = {one.slot for one in result.timeline}
    assert {slot[:3] for slot in slots} == {"h2/", "h3/"} and "h3/2" not in slots, slots
    say("done")
    sys.stdin.readline()
say("closed")
sys.stdin.readline()
"""
    coordinator = script(hosts[home], START + body, python)
    coordinator.wait_for("done")
    assert {host.name: listening(host) for host in hosts} == {host.name: [f"{host.address}:22"] for host in hosts}
    assert TOKEN not in every_command_line()
    coordinator.tell("close")
    coordinator.wait_for("closed")
    for name in "h2", "h3":
        await_nothing(hosts[name])
    assert hosts[home].run(["pgrep", "-x", "ssh"]).stdout == ""
    coordinator.tell("end")
    coordinator.end()


def test_hosts_where_it_fails_are_named_and_the_others_work(netns_hosts: Hosts, python: str) -> None:
    h1, h2, *_ = netns_hosts
    h2.run(["sh", "-c", "cat >>~/.bashrc"], input="echo Welcome to h2, which is quiet\necho to all >&2\n")
    body = """
with cluster_of("h2:1", "nosuchhost", "localhost") as cluster:
    say("names", names(cluster))
    same(SOURCE, squares, total)
"""
    said = script(h1, START + body, python).end()
    assert "names ['h2']" in said
    assert "warned: no worker on nosuchhost: ssh says: ssh: Could not resolve hostname nosuchhost" in said
    assert (
        "warned: no worker on localhost: ssh says: ssh: connect to host localhost port 22: Connection refused" in said
    )
    assert "on h2" not in said


def test_python_there_that_is_missing_or_lacks_jmr(netns_hosts: Hosts) -> None:
    body = """
with cluster_of("h2", workers=1, python="/no/such/python"):
    same(SOURCE, squares, total)
with cluster_of("h2", workers=1, python="python3"):
    say("-S -c has no jmr")
"""
    h1, h2, *_ = netns_hosts
    h2.run(["sh", "-c", "cat >>~/.bashrc"], input="export PATH=/root/bin:$PATH\n")
    h2.run(
        ["sh", "-c", "mkdir ~/bin; cat >~/bin/python3; chmod +x ~/bin/python3"],
        input=f'#!/bin/sh\nexec {sys.executable} -S "$@"\n',
    )
    said = script(h1, START + body, "").end()
    assert "/no/such/python" in said
    assert "No such file or directory" in said or "not found" in said
    assert "No module named 'jmr'" in said


def test_login_shell_that_says_too_much_is_no_worker(netns_hosts: Hosts, python: str) -> None:
    h1, h2, *_ = netns_hosts
    h2.run(["sh", "-c", "cat >>~/.bashrc"], input="head -c 100000 /dev/zero | tr '\\0' x\n")
    said = script(h1, START + "with cluster_of('h2', workers=1): same(SOURCE, squares, total)", python).end(timeout=5)
    assert "warned: no worker on h2: what answers there is no jmr-worker" in said
    await_nothing(h2, timeout=5)


def test_none_is_reached_and_there_are_no_slots_here(netns_hosts: Hosts, python: str) -> None:
    body = """
try:
    cluster_of("nosuchhost", "localhost")
except jmr.WorkerError as error:
    say("refused:", error)
"""
    said = script(netns_hosts["h1"], START + body, python).end()
    refused = said.partition("refused:")[2]
    assert "no worker on nosuchhost: ssh says: ssh: Could not resolve" in refused
    assert "no worker on localhost: ssh says: " in refused
    assert "Connection refused" in refused


def test_no_more_than_eight_start_at_once(netns_hosts: Hosts) -> None:
    h1 = netns_hosts["h1"]
    fake = """#!/bin/sh
echo begin >>/tmp/log
while [ $(wc -l </tmp/log) -lt 8 ]; do sleep 0.01; done
echo end >>/tmp/log
exit 1
"""
    h1.run(["sh", "-c", "mkdir ~/bin; cat >~/bin/ssh; chmod +x ~/bin/ssh"], input=fake)
    body = """
os.environ["PATH"] = os.path.expanduser("~/bin:") + os.environ["PATH"]
with cluster_of(*["h2"] * 20, workers=1):
    pass
"""
    assert script(h1, START + body, "").end().count("warned") == 20
    n_now, n_most = 0, 0
    for line in h1.run(["cat", "/tmp/log"]).stdout.split():
        n_now += 1 if line == "begin" else -1
        n_most = max(n_most, n_now)
    assert n_most == 8


def test_interrupt_while_a_host_does_not_answer(netns_hosts: Hosts, python: str) -> None:
    h1, h2, h3, _ = netns_hosts
    h3.hole()
    body = """
began = time.monotonic()
say("begin")
try:
    cluster_of("h2", *["h3"] * 10)
except KeyboardInterrupt:
    say("interrupted after", time.monotonic() - began)
sys.stdin.readline()
"""
    coordinator = script(h1, START + body, python)
    coordinator.wait_for("begin")
    await_that(lambda: h1.run(["pgrep", "-cx", "ssh"]).stdout == "9\n" and files(h2))
    os.kill(coordinator.process.pid, signal.SIGINT)
    assert float(coordinator.wait_for("after (.*)$", timeout=4)[1]) < 4
    assert h1.run(["pgrep", "-x", "ssh"]).stdout == "", "none is left to be waited for either"
    await_nothing(h2)
    coordinator.tell("end")
    assert coordinator.end(timeout=2).count("\n") == 2


@pytest.mark.parametrize("how", ["power", "kill"])
def test_job_whose_last_host_is_lost_waits_until_it_is_back(netns_hosts: Hosts, how: str) -> None:
    h1, h2, *_ = netns_hosts
    python = python_there(netns_hosts, quick=True)
    body = """
def stuck(key, value):
    if here() != HOME and key == 7:
        say("stuck")
        wait("go")
    yield key % 3, value * value
with cluster_of("h2:1") as cluster:
    job = jmr.submit(SOURCE, stuck, total, name="squares", progress=False)
    while not job._report.is_waiting:
        time.sleep(0.01)
    say("waits", job, cluster.hosts()[1].state)
    result = job.result()
    say("same", list(result.items()) == list(jmr.run(SOURCE, stuck, total, engine="inline", progress=False).items()))
    say("notes", job._report.notes)
    say("hosts", [(host.name, host.state, len(host.slots)) for host in cluster.hosts()[1:]])
"""
    coordinator = script(h1, AGAIN + START + body, python, quick=True)
    coordinator.wait_for("stuck")
    if how == "power":
        h2.poweroff()
    else:
        kill_all(h2)
    coordinator.wait_for("waits .*waiting for a worker to join.* lost, called again$")
    if how == "power":
        h2.boot()
    coordinator.wait_for("stuck")
    touch(h2, "go")
    said = coordinator.end()
    assert "same True" in said
    assert "'h2 was lost, and its work done again', 'h2, which was lost, is back'" in said
    assert "hosts [('h2', 'ready', 1)]" in said
    await_that(lambda: h1.run(["pgrep", "-x", "ssh"]).stdout == "")


def test_interrupt_and_close_while_a_call_to_a_lost_host_hangs(netns_hosts: Hosts) -> None:
    h1, h2, *_ = netns_hosts
    python = python_there(netns_hosts, quick=True)
    body = """
def stuck(key, value):
    say("stuck")
    wait("go")
try:
    with cluster_of("h2:1") as cluster:
        try:
            jmr.run(SOURCE, stuck, progress=False)
        except KeyboardInterrupt:
            say("interrupted")
        sys.stdin.readline()
        began = time.monotonic()
finally:
    say("closed after", time.monotonic() - began)
say("threads", [thread.name for thread in threading.enumerate() if thread.name != "jmr-interrupts"])
sys.stdin.readline()
"""
    coordinator = script(h1, AGAIN + START + body, python, quick=True)
    coordinator.wait_for("stuck")
    first = h1.run(["pgrep", "-x", "ssh"]).stdout.split()
    h2.hole()
    await_that(lambda: h1.run(["pgrep", "-x", "ssh"]).stdout.split() not in ([], first))
    os.kill(coordinator.process.pid, signal.SIGINT)
    coordinator.wait_for("interrupted", timeout=2)
    coordinator.tell("close")
    assert float(coordinator.wait_for("closed after (.*)$")[1]) < 1
    coordinator.wait_for(r"threads \['MainThread'\]$")
    assert h1.run(["pgrep", "-x", "ssh"]).stdout == "", "none is left to be waited for either"
    coordinator.tell("end")
    coordinator.end()


def test_kernel_that_is_killed_leaves_nothing(netns_hosts: Hosts, python: str) -> None:
    h1, h2, h3, _ = netns_hosts
    body = """
def stuck(key, value):
    say(here(), "is stuck")
    wait("go")
with cluster_of("h2", "h3"):
    jmr.run(SOURCE, stuck, progress=False)
"""
    coordinator = script(h1, START + body, python)
    coordinator.wait_for("is stuck")
    os.kill(coordinator.process.pid, signal.SIGKILL)
    for host in h2, h3:
        await_nothing(host)
    await_that(lambda: h1.run(["pgrep", "-x", "ssh"]).stdout == "")
