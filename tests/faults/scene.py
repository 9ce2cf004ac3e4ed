"""Hosts with a job to which something happens.

    h1: the coordinator, and perhaps slots of its own
    h2: the worker to which it happens     its map call waits until `let_go`
    h3: a worker that goes on

    scene.begin() ──h2 has a record──> the fault ──> scene.let_go() ──> scene.end()

The job has three records: so two thirds are done when the last waits, and no backup attempt hides what is measured.
"""

from __future__ import annotations

import contextlib
import re
import time
from pathlib import Path

from tests.hosts import Host, Hosts
from tests.remote import Script, joined_worker, processes, script, touch

__all__ = ["HERE", "THERE", "Scene", "known_inside", "last", "slots", "supervisor"]

#: A job whose map call on h2 waits there.
THERE = """
SOURCE = {i: f"the quick fox {i} jumps" for i in range(3)}
def words(key, line):
    if here() != HOME:
        say(here(), "has", key)
        if here() == "h2":
            wait("go")
    for word in line.split():
        yield word, 1
def outcomes(result):
    say("outcomes", sorted({(one.slot, one.outcome) for one in result.timeline}))
def heard(cluster):
    "What slots do whose hosts are heard."
    return [slot.doing for host in cluster.hosts() if host.state == "ready" for slot in host.slots]
with jmr.Cluster(**LISTEN) as cluster:
    await_slots(cluster, 2)
    outcomes(same(SOURCE, words, total))
    while n_slots := int(sys.stdin.readline()):
        while heard(cluster) != ["idle"] * n_slots:
            time.sleep(0.01)
        say("back")
        outcomes(same(SOURCE, words, total))
"""

#: A job on the coordinator's host alone, one call of which waits in map, and one in reduce.
HERE = """
SOURCE = {i: f"the quick fox {i % 7} jumps" for i in range(40)}
KERNEL = os.getpid()
def words(key, line):
    if key == 0 and os.getpid() != KERNEL:
        say("map has", os.getpid())
        wait("map")
    for word in line.split():
        yield word, 1
def count(key, values):
    if key == "fox" and os.getpid() != KERNEL:
        say("reduce has", os.getpid())
        wait("reduce")
    return sum(values)
with jmr.Cluster(workers=2) as cluster:
    result = same(SOURCE, words, count)
    say("outcomes", sorted({(one.slot, one.outcome) for one in result.timeline}))
"""


class Scene:
    """What happens in a row, and to whom."""

    def __init__(self, hosts: Hosts) -> None:
        self.h1, self.h2, self.h3, _ = hosts
        #: The same for all hosts, and for the tests.
        self.folder = hosts.folder
        self.workers: dict[str, Script] = {}
        self.coordinator: Script

    def begin(self, body: str = THERE, *, has: str = "h2 has", environment: dict[str, str] | None = None) -> None:
        """Start the coordinator and a worker on h2 and on h3, and wait until the job is where it waits."""
        environment = environment or {}
        self.coordinator = script(self.h1, body, **environment)
        if "LISTEN" in body:
            self.coordinator.wait_for("listening")
            self.workers = {host.name: self.join(host, **environment) for host in (self.h2, self.h3)}
        if has:
            self.coordinator.wait_for(has)

    def join(self, host: Host, **environment: str) -> Script:
        """Start a worker of one slot."""
        return joined_worker(host, "--slots", "1", **environment)

    def let_go(self, *names: str, host: Host | None = None) -> None:
        """Have calls that wait go on."""
        for name in names or ("go",):
            touch(host or (self.h2 if name == "go" else self.h1), name)

    def ended(self, timeout: float = 90) -> str:
        """Wait until the job has ended, with the plain loop's items; how its attempts have ended."""
        self.coordinator.wait_for("^same", timeout)
        return self.coordinator.wait_for("^outcomes .*$")[0]

    def back(self, n_slots: int = 2, timeout: float = 60) -> float:
        """Have one more job run when there are so many slots again; how many seconds it took until then."""
        began = time.monotonic()
        self.coordinator.tell(str(n_slots))
        self.coordinator.wait_for("^back", timeout)
        seconds = time.monotonic() - began
        self.ended()
        return seconds

    def told(self, words: str, n: int, timeout: float = 90) -> None:
        """Wait until these words were said so often."""
        while self.coordinator.said.count(words) < n:
            self.coordinator.wait_for(words, timeout)

    def close(self) -> str:
        """Wait for the coordinator's end; all that it has said."""
        with contextlib.suppress(BrokenPipeError):  # some jobs do not wait to be told
            self.coordinator.tell("0")
        return self.coordinator.end()

    def n_joined(self, name: str) -> int:
        """How often a worker has joined, after `close`."""
        self.workers[name].wait_for("is gone; waiting for the next")
        return self.workers[name].said.count("joined")


def last(seconds: float) -> None:
    """What was done lasts so long."""
    time.sleep(seconds)


def supervisor(host: Host) -> int:
    """The process that forks slots there."""
    (pid,) = [pid for pid in _supervisors(host) if _parent(pid) not in _supervisors(host)]
    return pid


def slots(host: Host) -> list[int]:
    """The slots there."""
    return sorted(pid for pid in _supervisors(host) if _parent(pid) in _supervisors(host))


def known_inside(host: Host, number: int) -> int:
    """The slot that has this number in its own host."""
    (pid,) = [pid for pid in slots(host) if _number_inside(pid) == number]
    return pid


def _number_inside(pid: int) -> int:
    (numbers,) = re.findall(r"^NSpid:(.*)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(numbers.split()[-1])


def _supervisors(host: Host) -> list[int]:
    """Supervisors, and the slots that they have forked."""
    return [pid for pid, command in processes(host).items() if "jmr.worker.supervisor" in command]


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
