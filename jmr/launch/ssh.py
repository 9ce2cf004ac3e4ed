"""Starts workers on other hosts by ssh, and talks to them through it: nothing listens anywhere.

    start_by_ssh("user@host:4") ──Popen──> ssh ──its stdin and stdout are one end of a socket pair──> jmr-worker there

The user's own ssh configuration applies. ssh cannot ask for anything, since nobody could answer.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import IO

from jmr.errors import ArgumentTypeError, ArgumentValueError, WorkerError, describe
from jmr.launch.local import close_in_forks
from jmr.wire.far import MOST_SLOTS

__all__ = ["END_SECONDS", "MOST_AT_ONCE", "OWN_CODE", "SshTarget", "SshWorker", "parsed_target", "start_by_ssh"]

#: ssh starts at the same time: sshd drops some of more (its MaxStartups).
MOST_AT_ONCE = 8
_SSH = ("ssh", "-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=15")
#: For ssh to end when its connection has.
END_SECONDS = 2.0
#: How ssh ends if it is ssh that has failed; any other exit code is that of what ran there.
OWN_CODE = 255
_WORDS_BYTES = 2000


@dataclass(frozen=True, slots=True)
class SshTarget:
    """A host as ssh knows it, and how many slots it shall have; None: one for each of its CPUs."""

    destination: str
    n_slots: int | None = None


def parsed_target(text: object) -> SshTarget:
    """HOST, USER@HOST, or either with :SLOTS.

    Raises
    ------
    ArgumentTypeError, ArgumentValueError
        It is none of these.

    Examples
    --------
    >>> parsed_target("ann@host2:4")
    SshTarget(destination='ann@host2', n_slots=4)
    """
    if not isinstance(text, str):
        raise ArgumentTypeError(f'ssh must be a list of hosts, such as ["host1", "ann@host2:4"], not {describe(text)}')
    destination, colon, slots = text.partition(":")
    if not destination or destination.startswith("-") or any(c.isspace() for c in destination):
        raise ArgumentValueError(f"ssh: {text!r} is no host: write HOST, USER@HOST or HOST:SLOTS")
    if colon and not (slots.isdecimal() and 1 <= int(slots) <= MOST_SLOTS):
        raise ArgumentValueError(
            f"ssh: {slots!r} in {text!r} is no number of slots; a port goes into ~/.ssh/config, under a name of its own"
        )
    return SshTarget(destination, int(slots) if colon else None)


@dataclass(slots=True)
class SshWorker:
    """A worker on another host, as its launcher sees it."""

    target: SshTarget
    process: subprocess.Popen[bytes]
    connection: socket.socket
    #: What it writes to stderr: a file, since children of ssh may keep a pipe open when it has ended.
    words: IO[bytes]

    def last_words(self, seconds: float = END_SECONDS) -> str:
        """What ssh, or the worker through it, wrote to stderr; waits for its end, for so long."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        with self.words as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _WORDS_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
        return "; ".join(line.strip() for line in lines if line.strip())


def start_by_ssh(target: SshTarget, python: str | None = None) -> SshWorker:
    """Start a worker; returns at once, while ssh connects.

    Parameters
    ----------
    target
        Where.
    python
        The interpreter there, which has jmr installed. Default: the one that runs here, if that host has one at the
        same path; else the `jmr-worker` that its PATH leads to.

    Raises
    ------
    WorkerError
        There is no ssh here.
    """
    ours, theirs = socket.socketpair()
    close_in_forks(ours)
    words = tempfile.TemporaryFile()  # noqa: SIM115 - closed by last_words
    with theirs:
        try:
            process = subprocess.Popen(
                [*_SSH, "--", target.destination, _command(target.n_slots, python)],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=words,
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            words.close()
            raise WorkerError(f"ssh cannot be started: {error.strerror}; install openssh-client") from error
    return SshWorker(target, process, ours, words)


def _command(n_slots: int | None, python: str | None) -> str:
    """What the login shell there is to run, whichever shell that is."""
    options = ["--over-ssh", *([] if n_slots is None else ["--slots", str(n_slots)])]
    by = ["-c", "from jmr.cli import worker_main; raise SystemExit(worker_main())", *options]
    if python is not None:
        return f"exec {shlex.join([python, *by])}"
    here = sys.executable
    script = (
        f"if [ -x {shlex.quote(here)} ]; then exec {shlex.join([here, *by])}; "
        f"else exec {shlex.join(['jmr-worker', *options])}; fi"
    )
    return f"exec sh -c {shlex.quote(script)}"
