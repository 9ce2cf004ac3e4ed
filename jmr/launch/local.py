"""Starts the worker on this host.

    start_local(directories) ──Popen──> supervisor process
         └─ its connection: one end of a socket pair, the other end inherited by the supervisor

The supervisor leads a session of its own, so the notebook's stop button and a terminal's Ctrl-C do not reach it; it
ends when the connection does, however this process ended.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import signal
import socket
import subprocess
import sys
import weakref
from dataclasses import dataclass
from pathlib import Path

from jmr.errors import WorkerError

__all__ = ["LocalSupervisor", "close_in_forks", "default_slots", "start_local"]


@dataclass(slots=True)
class LocalSupervisor:
    """A supervisor on this host, as its launcher sees it."""

    process: subprocess.Popen[bytes]
    connection: socket.socket

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it is there; not as Popen does, which waits for it if it is not."""
        if self.process.returncode is None:  # nobody has waited for it, so its number is no other's
            os.kill(self.process.pid, number)

    def end(self) -> str:
        """Kill it and all that its slots had started, as it cannot do that any more; returns its last words."""
        if self.process.returncode is None:
            self.send_signal(signal.SIGKILL)
            for pid in _session(self.process.pid):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
        return self.last_words()

    def last_words(self) -> str:
        """What the supervisor wrote on its way out; waits for its end, which its connection's end has brought about."""
        self.connection.close()
        self.process.send_signal(signal.SIGCONT)  # one that somebody has stopped would not notice
        stderr = self.process.stderr
        assert stderr is not None
        words = b"" if stderr.closed else stderr.read()
        stderr.close()
        self.process.wait()
        return words.decode(errors="replace").strip()


def _session(leader: int) -> list[int]:
    """Processes of a session."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):  # none on macOS
        with contextlib.suppress(OSError):  # it has ended meanwhile
            session = entry.read_text(errors="replace").rpartition(")")[2].split()[3]
            found += [int(entry.parent.name)] if int(session) == leader else []
    return found


#: Connections that a forked child of this process must not keep open: the worker would outlive us.
_connections: weakref.WeakSet[socket.socket] = weakref.WeakSet()


def start_local(directories: list[str], *, for_other_host: bool = False) -> LocalSupervisor:
    """Start a supervisor; returns at once, while it is still importing.

    Parameters
    ----------
    directories
        Where slots put large map outputs. The supervisor removes them when it ends.
    for_other_host
        Import what slots need for a coordinator on another host, before they are forked.

    Raises
    ------
    WorkerError
        The operating system says no.
    """
    with contextlib.ExitStack() as undo:
        try:
            ours, theirs = socket.socketpair()
            undo.callback(ours.close)
            close_in_forks(ours)
            with theirs:
                process = subprocess.Popen(
                    [sys.executable or "python3", "-c", _program(theirs.fileno(), directories, for_other_host)],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                )
        except OSError as error:  # no memory, no descriptor, no interpreter
            raise WorkerError(f"the worker on this host cannot be started: {error}") from error
        undo.pop_all()
    return LocalSupervisor(process, ours)


def _program(descriptor: int, directories: list[str], for_other_host: bool) -> str:
    """Python code that runs the very jmr that this process runs, whatever else lies in the current directory."""
    home = str(Path(__file__).resolve().parents[2])
    return (
        "import sys; path = sys.path[:]; "
        f"sys.path[:] = [{home!r}] + [p for p in path if p]; import jmr; sys.path[:] = [p for p in path if p]; "
        f"{'import jmr.worker.abroad; ' if for_other_host else ''}"
        f"from jmr.worker.supervisor import main; main({descriptor}, {directories!r})"
    )


def close_in_forks(connection: socket.socket) -> None:
    """Have a forked child of this process let go of a connection, so that its end is seen when *we* end."""
    _connections.add(connection)


def default_slots() -> int:
    """CPUs that this process may use: by affinity, and by the quota of its control group."""
    try:
        n_cpus = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        n_cpus = os.cpu_count() or 1
    return max(1, min(n_cpus, _quota() or n_cpus))


@functools.cache
def _quota() -> int | None:
    """CPUs that the control group allows; None if it sets no limit."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").read_text()
            period = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us").read_text()
        except OSError:
            return None
    if not quota.strip().isdigit():
        return None
    return math.ceil(int(quota) / int(period))


def _close_in_child() -> None:
    for connection in list(_connections):
        connection.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)
