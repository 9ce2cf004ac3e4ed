"""Processes in Linux namespaces of their own: the machines that tests/hosts.py is made of.

A machine's first process runs a shell script in new network, mount, UTS, IPC and PID namespaces. It says how far it is
on its standard output, and ends at the end of its standard input, which is a pipe from the tests; with it the kernel
ends all else in the PID namespace. So nothing outlives the tests, even if they are killed. No namespace has a name, and
each is gone with the last process in it.

Where this cannot be, tests skip: for want of a command, named with its package, or because the kernel says no, in its
words. It must never skip for anything else.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from subprocess import PIPE
from typing import NoReturn

import pytest

from tests.conftest import FORBIDDEN

#: What is called here, and the package of Debian that has it.
COMMANDS = {
    "ip": "iproute2",
    "tc": "iproute2",
    "iptables": "iptables",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "sshd": "openssh-server",
}

#: Some of the words with which a kernel, or a command on its behalf, says no.
REFUSALS = (
    "unshare failed",
    "not permitted",
    "not supported",
    "permission denied",
    "read-only file system",
    "unknown device type",
    "kind is unknown",
    "insmod",
    "kernel module",
)

#: Where the commands are, also for a user whose PATH lacks the half of them.
PATH = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin"
#: What of `unshare` makes a machine.
NAMESPACES = ["--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"]

#: Seconds for what takes a tenth of one.
DEADLINE = 20.0


class Machine:
    """A process in namespaces of its own, which all that runs in them ends with."""

    def __init__(self, name: str, script: str, *arguments: str) -> None:
        self.name = name
        self._said = ""
        self._outer = subprocess.Popen(
            ["unshare", *NAMESPACES, "sh", "-ec", script, name, *arguments],
            bufsize=0,
            stdin=PIPE,
            stdout=PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PATH": PATH},
            start_new_session=True,  # an interrupt is for the tests, which then tidy up
        )

    @property
    def pid(self) -> int:
        """The machine's first process, as it is known outside."""
        return int(Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text())

    def await_words(self, words: str) -> None:
        """Wait until the script says them; if it ends instead, its last words say why."""
        stdout = self._outer.stdout
        assert stdout is not None
        deadline = time.monotonic() + DEADLINE
        while words not in self._said:
            if not select.select([stdout], [], [], max(0, deadline - time.monotonic()))[0]:
                raise TimeoutError(f"{self.name} said only {self._said!r} in {DEADLINE:g} s, and not {words!r}")
            said = os.read(stdout.fileno(), 65536)
            if not said:
                give_up(f"{self.name} did not start: {self._said.strip()}")
            self._said += said.decode()

    def call(self, command: Sequence[str]) -> None:
        """Run a command in the machine's network, with the files and processes of this one."""
        call(["nsenter", f"--net=/proc/{self.pid}/ns/net", *command])

    def plug(self, port: str, machine: Machine, *card: str) -> None:
        """Lay a cable from a port of this switch to a machine that waits for it."""
        machine.await_words("waiting\n")
        end = ["peer", "name", "eth0", *card, "netns", str(machine.pid)]
        self.call(["ip", "link", "add", port, "type", "veth", *end])
        self.call(["ip", "link", "set", port, "master", "br0", "up"])
        assert machine._outer.stdin is not None
        machine._outer.stdin.write(b"plugged\n")

    def kill(self) -> None:
        """End the machine, and all that is in it."""
        with contextlib.suppress(ValueError, FileNotFoundError, ProcessLookupError):  # it has ended by itself
            os.kill(self.pid, signal.SIGKILL)

    def reap(self) -> None:
        """Wait for the end of it."""
        with contextlib.suppress(BrokenPipeError), self._outer:
            pass


@contextlib.contextmanager
def born_in(pid: int) -> Iterator[None]:
    """What this thread starts meanwhile is in the PID namespace of that process, and our child all the same."""
    libc = ctypes.CDLL(None, use_errno=True)

    def enter(pid: int | str) -> None:
        with open(f"/proc/{pid}/ns/pid") as namespace:
            if libc.setns(namespace.fileno(), 0):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    enter(pid)
    try:
        yield
    finally:
        enter("self")


def call(command: Sequence[str]) -> None:
    """Run one of `COMMANDS`, which has to succeed."""
    env = {**os.environ, "PATH": PATH}
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env)
    if done.returncode:
        give_up(f"{' '.join(command)}: {(done.stdout + done.stderr).strip()}")


def give_up(words: str) -> NoReturn:
    """Skip if it was the kernel that said no."""
    if any(refusal in words.lower() for refusal in REFUSALS):
        pytest.skip(f"{FORBIDDEN} hosts such as these: {words}")
    raise RuntimeError(words)


def check_machine() -> None:
    """Skip where there can be no hosts."""
    if sys.platform != "linux":
        pytest.skip(f"{FORBIDDEN} hosts such as these: {sys.platform} has no namespaces")
    missing = {package for command, package in COMMANDS.items() if shutil.which(command, path=PATH) is None}
    if missing:
        pytest.skip(f"needs {', '.join(sorted(missing))}. On Debian: apt-get install {' '.join(sorted(missing))}")
    call(["unshare", *NAMESPACES, "true"])
