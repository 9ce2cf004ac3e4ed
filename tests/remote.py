"""Coordinators and workers on make-believe hosts: scripts whose lines a test waits for.

    h1: script(h1, BODY) ──listens──> h2: worker(h2), h3: worker(h3)
         └─ its lines, with what mapfn printed on h2 and h3 ──> Script.wait_for

What a script starts with is `PRELUDE`: `same` runs a job, compares with the plain loop, and says "same".
"""

from __future__ import annotations

import contextlib
import inspect
import os
import re
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.hosts import Host, Hosts

TOP = Path(__file__).parents[1]
DEADLINE = 30.0
TOKEN = "5a" * 32

PRELUDE = """
import os, signal, socket, sys, threading, time
import jmr
HOME = socket.gethostname()
def say(*words):
    print(*words, flush=True)
def here():
    return socket.gethostname()
def same(source, mapfn, reducefn=None, **options):
    plain = {name: options[name] for name in ("combinefn", "on_error") if name in options}
    expected = jmr.run(source, mapfn, reducefn, engine="inline", progress=False, **plain)
    result = jmr.run(source, mapfn, reducefn, **{"progress": False, **options})
    assert list(result.items()) == list(expected.items()), (dict(result), dict(expected))
    say("same", len(result))
    return result
def await_hosts(cluster, n):
    say("listening")
    while len(cluster.hosts()) != 1 + n:
        time.sleep(0.01)
def await_slots(cluster, n):
    say("listening")
    while [doing for _, doing in cluster.status()] != ["idle"] * n:
        time.sleep(0.01)
def wait(name):
    while not os.path.exists("/tmp/" + name):
        time.sleep(0.01)
def total(key, values):
    return sum(values)
LISTEN = dict(workers=0, listen="10.77.0.11")
"""

#: Leases that end within seconds, at both ends.
QUICK = """
import jmr.coordinator.others, jmr.launch.agent, jmr.links.leases
for module in jmr.coordinator.others, jmr.launch.agent, jmr.links.leases:
    module.BEAT_SECONDS, module.CHECK_SECONDS = 0.2, 0.1
jmr.links.leases._SUSPECT_SECONDS, jmr.links.leases._LOST_SECONDS = 1.0, 3.0
"""

#: Counts words; on each host that is named in STUCK, at that key, until it may go on.
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
#: A job whose workers wait on h2 and on h3 until they are let go; it begins when it is told to.
STUCK_JOB = f"""{WORDS}
STUCK = {{"h2": "any", "h3": "any"}}
with jmr.Cluster(**LISTEN) as cluster:
    say("listening")
    sys.stdin.readline()
    outcomes(same(LINES, words, total))
"""

WORKER = "import sys; from jmr.cli import worker_main; sys.exit(worker_main())"


class Script:
    """A Python program on a host; what it writes, to either stream, can be waited for."""

    def __init__(self, host: Host, body: str, *arguments: str, cwd: Path | str = TOP, **environment: str) -> None:
        command = [sys.executable, "-c", body, *arguments]
        self.process = host.popen(command, cwd=cwd, env={"PYTHONPATH": str(TOP), **environment}, bufsize=0)
        #: All that it has written.
        self.said = ""
        self._n_waited_for = 0
        self._open = [self.process.stdout, self.process.stderr]

    def wait_for(self, pattern: str, timeout: float = DEADLINE) -> re.Match[str]:
        """Wait until it has written this in whole lines, after what was waited for before."""
        deadline = time.monotonic() + timeout
        matcher = re.compile(pattern, re.MULTILINE)
        while not (found := matcher.search(self.said, self._n_waited_for, self.said.rfind("\n") + 1)):
            assert self._read(deadline - time.monotonic()), f"no {pattern!r} in {timeout:g} s, but:\n{self.said}"
        self._n_waited_for = found.end()
        return found

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        self.process.stdin.write(f"{line}\n".encode())

    def end(self, code: int = 0, timeout: float = DEADLINE) -> str:
        """Wait for its end, with this exit code; all that it has written."""
        deadline = time.monotonic() + timeout
        while self._open:
            assert self._read(deadline - time.monotonic()) or not self._open, f"it does not end:\n{self.said}"
        assert self.process.wait(DEADLINE) == code, self.said
        return self.said

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select(self._open, [], [], max(0.0, seconds))
        for stream in ready:
            if part := os.read(stream.fileno(), 1 << 16):
                self.said += part.decode()
            else:
                self._open.remove(stream)
        return bool(ready)


def share_token(hosts: Hosts) -> None:
    """Copy the token file to every host."""
    for host in hosts:
        host.run(["sh", "-c", "umask 077; mkdir -p ~/.config/jmr; cat >~/.config/jmr/token"], input=TOKEN)


def script(host: Host, body: str, *arguments: str, quick: bool = False, **options: str) -> Script:
    """Start a coordinator's script."""
    return Script(host, (QUICK if quick else "") + PRELUDE + body, *arguments, **options)


def worker(host: Host, *options: str, quick: bool = False, **environment: str) -> Script:
    """Start jmr-worker for the coordinator on h1."""
    return Script(host, (QUICK if quick else "") + WORKER, "10.77.0.11", *options, **environment)


def joined_worker(host: Host, *options: str, quick: bool = False, **environment: str) -> Script:
    """The same, and wait until it has joined."""
    started = worker(host, *options, quick=quick, **environment)
    started.wait_for("joined")
    return started


def touch(host: Host, name: str) -> None:
    """Let what `wait`s for it on that host go on."""
    assert host.run(["touch", f"/tmp/{name}"]).returncode == 0


def processes(host: Host) -> dict[int, str]:
    """The command lines of what runs Python in a host, by pid, as they are known outside."""
    found = {}
    inside = os.readlink(f"/proc/{host.pid}/ns/pid")
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if os.readlink(process / "ns/pid") == inside:
                found[int(process.name)] = (process / "cmdline").read_text().replace("\0", " ")
    return {pid: command for pid, command in found.items() if "sshd" not in command and "python" in command}


def kill_all(host: Host) -> None:
    """Kill what runs Python there, and wait for the ends: a cable pulled after it no longer holds back their news."""
    ends = []
    for pid in processes(host):
        with contextlib.suppress(ProcessLookupError):  # it has ended with another
            ends.append(os.pidfd_open(pid))
            os.kill(pid, signal.SIGKILL)
    for end in ends:
        with open(end) as process:
            assert select.select([process], [], [], DEADLINE)[0], "it does not end"


def files(host: Host) -> list[str]:
    """What lies where files of jobs do."""
    folders = [Path(f"/proc/{host.pid}/root{folder}") for folder in ("/dev/shm", "/var/tmp")]
    return sorted(str(path) for folder in folders for path in folder.rglob("*"))


def await_that(holds: Callable[[], object], timeout: float = DEADLINE) -> None:
    """Look again and again, for what tells nobody when it happens."""
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {inspect.getsource(holds).strip()}"
        time.sleep(0.01)


def await_nothing(host: Host, timeout: float = DEADLINE) -> None:
    """Wait until of jmr there are neither processes nor files."""
    await_that(lambda: not processes(host) and not files(host), timeout)


def await_no_job_files(host: Host) -> None:
    """Wait until there are no files of jobs, but for the worker's own folders."""
    await_that(lambda: not any("job-" in file for file in files(host)))


def python_there(hosts: Hosts, *folders: str, quick: bool = False) -> str:
    """An interpreter that knows this very jmr, and these folders, for ssh, which takes no environment along."""
    if quick:
        (hosts.folder / "sitecustomize.py").write_text(QUICK)
        folders = *folders, str(hosts.folder)
    path = hosts.folder / "python"
    path.write_text(f'#!/bin/sh\nPYTHONPATH={":".join([str(TOP), *folders])} exec {sys.executable} "$@"\n')
    path.chmod(0o755)
    return str(path)
