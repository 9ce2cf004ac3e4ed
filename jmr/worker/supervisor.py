"""The supervisor: one process a host, one thread, no user code.

    coordinator ──ForkSlot + socket──> fork ──> slot
    slot's fds 1, 2 ──pipe──> lines ──Printed──> coordinator
    slot exits ──SIGCHLD──> SlotExited (signal, cursor, peak memory, last lines) ──> coordinator
    slot is stopped ──SIGCHLD──> a minute later it is killed ──> SlotExited
    coordinator ──Watch──> every second: what the host and the slots have ──Measured──> coordinator
    coordinator gone (end of file) ──> every slot and its children are killed, its directories are removed

It imports what slots need once, then forks, so a slot costs a few milliseconds. Being single-threaded it may fork
safely, its answers do not depend on what user code does to the interpreter, and a slot's PDEATHSIG follows it alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import os
import re
import resource
import select
import selectors
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from jmr.wire.frames import Receiver, encode
from jmr.wire.messages import (
    CANNOT_START,
    Drain,
    Drained,
    ForkSlot,
    KillSlot,
    Message,
    Printed,
    SlotExited,
    Watch,
    WorkerReady,
)
from jmr.worker.output import Allowance, OutputReader, Tail
from jmr.worker.signals import SPILL_SIGNAL
from jmr.worker.slot import Slot
from jmr.worker.spot import Spot
from jmr.worker.stops import Stops

if TYPE_CHECKING:
    from jmr.worker.memory import Gauge, OomKills

__all__ = ["Supervisor", "main"]

_PR_SET_PDEATHSIG = 1
#: As if a slot had half of the host's memory besides its own; see proc(5).
_OOM_SCORE = 500
#: After the start, until what measures memory is imported: small jobs do not wait for that.
_PREPARE_SECONDS = 0.3
_READ_BYTES = 1 << 16
#: Stands for a descriptor that got lost.
_NONE = -1
_CRASH_FRAME = re.compile(r'File "(.+)", line (\d+) in (.+)')
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_libc = ctypes.CDLL(None, use_errno=True)


def main(descriptor: int, directories: list[str]) -> NoReturn:
    """Serve the coordinator at the other end of `descriptor` until it hangs up; then leave nothing behind."""
    supervisor = Supervisor(socket.socket(fileno=descriptor))
    status = 0
    try:
        supervisor.run()
    except BaseException:
        traceback.print_exc()
        status = 1
    supervisor.kill_all()
    if status == 0:  # else another supervisor goes on with the finished work that lies there
        for directory in directories:
            shutil.rmtree(directory, ignore_errors=True)
    os._exit(status)


@dataclass(slots=True)
class _Child:
    """A slot's process, seen from outside."""

    number: int
    name: str
    pid: int
    spot: Spot
    #: Where its faulthandler writes.
    crash_file: int
    #: Read ends of its fds 1 and 2.
    pipes: dict[int, int]
    readers: dict[int, OutputReader] = field(default_factory=dict)
    #: The coordinator wants it gone.
    is_unwanted: bool = False
    #: It was stopped for so long that we have killed it.
    was_stopped: bool = False
    #: Of what it printed.
    tail: Tail = field(default_factory=Tail)


class Supervisor:
    """Forks slots and watches them."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._receiver = Receiver()
        self._descriptors: deque[int] = deque()
        self._children: dict[int, _Child] = {}
        self._selector = selectors.DefaultSelector()
        self._wakeup, self._wakeup_end = socket.socketpair()
        #: For what all slots print.
        self._allowance = Allowance()
        self._gauge: Gauge | None = None
        self._oom_kills: OomKills | None = None
        self._is_watching = False
        #: When to measure memory next, if at all.
        self._measure_at: float | None = None
        self._stops = Stops()

    def run(self) -> None:
        """Answer until the coordinator hangs up."""
        self._allow_many_files()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for end in (self._wakeup, self._wakeup_end):
            end.setblocking(False)
        signal.set_wakeup_fd(self._wakeup_end.fileno(), warn_on_full_buffer=False)
        self._selector.register(self._connection, selectors.EVENT_READ)
        self._selector.register(self._wakeup, selectors.EVENT_READ)
        self._measure_at = time.monotonic() + _PREPARE_SECONDS
        with contextlib.suppress(ConnectionError):  # also of a coordinator that was killed while we started
            self._send(WorkerReady(os.getpid()))
            while self._step():
                pass

    def _allow_many_files(self) -> None:
        """Each slot takes three descriptors here; the slots themselves get the limit that the kernel has."""
        self._file_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.suppress(OSError, ValueError):  # macOS has a lower limit than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (self._file_limit[1], self._file_limit[1]))

    def kill_all(self) -> None:
        """Kill every slot and whatever it started."""
        for child in self._children.values():
            _kill_group(child.pid)

    def _step(self) -> bool:
        """Wait for one round of events; False once the coordinator is gone."""
        for key, _ in self._selector.select(self._do_what_is_due(time.monotonic())):
            if key.fileobj is self._connection:
                if not self._read_connection():
                    return False
            elif key.fileobj is self._wakeup:
                with contextlib.suppress(BlockingIOError):
                    while self._wakeup.recv(_READ_BYTES):
                        pass
                self._reap()
            else:
                child, stream = key.data
                if child.number in self._children:
                    self._read_pipe(child, stream)
        return True

    def _do_what_is_due(self, now: float) -> float | None:
        """Do what is to be done at its time; returns in how many seconds there is more of it, if there is."""
        if self._measure_at is not None and now >= self._measure_at:
            self._measure(now)
        if self._stops.check_at is not None and now >= self._stops.check_at:
            self._end_stopped(now)
        times = [at for at in (self._measure_at, self._stops.check_at) if at is not None]
        return max(0.0, min(times) - now) if times else None

    def _read_connection(self) -> bool:
        space = self._receiver.buffer()
        data, descriptors, flags, _ = socket.recv_fds(self._connection, min(len(space), _READ_BYTES), 16)
        # One at most comes at once, as each was sent; it is lost where this process may have no more.
        self._descriptors.extend([_NONE] if flags & socket.MSG_CTRUNC and not descriptors else descriptors)
        for message in self._receiver.feed(data):
            self._handle(message)
        return bool(data)

    def _handle(self, message: Message) -> None:
        match message:
            case ForkSlot(slot, name):
                self._fork(slot, name, self._descriptors.popleft())
            case KillSlot(slot):
                if slot in self._children:
                    self._children[slot].is_unwanted = True
                    _kill_group(self._children[slot].pid)
            case Drain(token):
                for child in self._children.values():
                    self._drain(child, token)
                self._send(Drained(token))
            case Watch(is_on):
                self._is_watching = is_on
                self._measure_at = time.monotonic()
            case _:
                raise AssertionError(f"a supervisor does not answer {message}")

    def _fork(self, number: int, name: str, descriptor: int) -> None:
        """Fork a slot, or say why it cannot be: no more descriptors, processes, memory."""
        try:
            child = self._forked(number, name, descriptor)
        except OSError as error:
            self._send(SlotExited(number, CANNOT_START, None, 0, blobs=[str(error).encode(), b""]))
            return
        for stream, pipe in child.pipes.items():
            os.set_blocking(pipe, False)
            child.readers[stream] = OutputReader(name, stream, self._allowance, child.tail)
            self._selector.register(pipe, selectors.EVENT_READ, (child, stream))
        self._children[number] = child

    def _forked(self, number: int, name: str, descriptor: int) -> _Child:
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            if descriptor == _NONE:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            theirs.callback(os.close, descriptor)
            spot, reads, writes = Spot(), {}, {}
            for stream in (1, 2):
                reads[stream], writes[stream] = os.pipe()
                ours.callback(os.close, reads[stream])
                theirs.callback(os.close, writes[stream])
            crash_file = _anonymous_file()
            ours.callback(os.close, crash_file)
            parent = os.getpid()
            pid = os.fork()
            if pid == 0:
                self._become_slot(number, descriptor, spot, crash_file, writes, parent)
            ours.pop_all()
        with contextlib.suppress(OSError):  # the child does the same; whoever comes first
            os.setpgid(pid, pid)
        return _Child(number, name, pid, spot, crash_file, reads)

    def _become_slot(  # noqa: PLR0917 - all that a child is given
        self,
        number: int,
        descriptor: int,
        spot: Spot,
        crash_file: int,
        pipes: dict[int, int],
        parent: int,
    ) -> NoReturn:
        """The child's side of the fork; never returns."""
        try:
            os.setpgid(0, 0)
            if sys.platform == "linux":
                _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
                _offer_to_oom_killer()
            if os.getppid() != parent:  # it died before we asked to follow it
                os._exit(1)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._close_in_child()
            resource.setrlimit(resource.RLIMIT_NOFILE, self._file_limit)
            for stream, pipe in pipes.items():
                os.dup2(pipe, stream)
                os.close(pipe)
            gc.enable()
            Slot(number, socket.socket(fileno=descriptor), spot, crash_file).run()
        finally:
            os._exit(1)

    def _close_in_child(self) -> None:
        """Let go of everything that is the supervisor's: its end of file must be seen when *it* dies."""
        self._selector.close()
        for end in (self._connection, self._wakeup, self._wakeup_end):
            end.close()
        for child in self._children.values():
            for pipe in child.pipes.values():
                os.close(pipe)
            os.close(child.crash_file)

    def _read_pipe(self, child: _Child, stream: int) -> bool:
        """Pass on what one read brings; False when there is nothing more for now."""
        try:
            data = os.read(child.pipes[stream], _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            with contextlib.suppress(KeyError):
                self._selector.unregister(child.pipes[stream])
            return False
        self._pass_on(child.readers[stream].feed(data, time.monotonic()))
        return True

    def _pass_on(self, printed: list[Printed]) -> None:
        for message in printed:
            self._send(message)

    def _drain(self, child: _Child, job: int | None = None) -> None:
        """Read what is in the pipes now; a child's child may keep them open for ever.

        Half lines are passed on if they are the job's, or if no job is named.
        """
        for stream, reader in child.readers.items():
            for _ in range(64):
                if not self._read_pipe(child, stream):
                    break
            if job is None or reader.job == job:
                self._pass_on(reader.flush())

    def _measure(self, now: float) -> None:
        """Tell the coordinator what the host and the slots have, and the slots that have more than their share."""
        if self._gauge is None or self._oom_kills is None:
            from jmr.worker.memory import Gauge, OomKills  # when nobody waits for us any more

            self._gauge, self._oom_kills = Gauge(), OomKills()
        if not self._is_watching:
            self._measure_at = None
            return
        measured = self._gauge.measure({child.number: child.pid for child in self._children.values()})
        for slot in self._gauge.to_signal(now):
            os.kill(self._children[slot].pid, SPILL_SIGNAL)  # it may have ended, and is not buried yet
        self._oom_kills.look(now)
        if measured is None:
            self._measure_at = None
        else:
            self._measure_at = now + self._gauge.seconds
            if self._may_send():  # a coordinator that is stopped, say, needs no pile of old measurements
                self._send(measured)

    def _may_send(self) -> bool:
        """Whether the coordinator reads, so that we would not wait."""
        writable = select.poll()
        writable.register(self._connection, select.POLLOUT)
        return bool(writable.poll(0))

    def _reap(self) -> None:
        for child in list(self._children.values()):
            pid, status, usage = os.wait4(child.pid, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            if not pid:
                continue
            if os.WIFSTOPPED(status):
                self._stops.stopped(child.number, time.monotonic())
                continue
            self._stops.went_on(child.number)
            if not os.WIFCONTINUED(status):
                self._bury(child, status, usage)

    def _end_stopped(self, now: float) -> None:
        """Kill slots that somebody has stopped, and does not let go on."""
        self._reap()  # one that goes on again is left alone, though we may not have been told yet
        for number in self._stops.too_long(now):
            child = self._children[number]
            child.is_unwanted = child.was_stopped = True
            _kill_group(child.pid)

    def _bury(self, child: _Child, status: int, usage: resource.struct_rusage) -> None:
        del self._children[child.number]
        _kill_group(child.pid)
        self._drain(child)
        for pipe in child.pipes.values():
            with contextlib.suppress(KeyError):
                self._selector.unregister(pipe)
            os.close(pipe)
        at, group = child.spot.index, child.spot.group
        child.spot.close()
        peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        stack = _stack(child.crash_file)
        last = [child.tail.of(child.readers[1].job), group]
        code = os.waitstatus_to_exitcode(status)
        is_oom = self._was_oom(child, code)
        self._send(SlotExited(child.number, code, at, peak, stack, is_oom, child.was_stopped, blobs=last))

    def _was_oom(self, child: _Child, code: int) -> bool:
        """Whether it was the kernel that killed it, for want of memory."""
        if code != -signal.SIGKILL or child.is_unwanted or self._oom_kills is None:
            return False
        return self._oom_kills.claim(time.monotonic())

    def _send(self, message: Message) -> None:
        for piece in encode(message):
            self._connection.sendall(piece)


def _anonymous_file() -> int:
    if sys.platform == "linux":
        return os.memfd_create("jmr-crash")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _stack(crash_file: int) -> list[str]:
    """What faulthandler wrote, innermost frame first, without our own frames; closes the file."""
    with open(crash_file, "rb") as file:
        file.seek(0)
        frames = _CRASH_FRAME.findall(file.read().decode(errors="replace"))
    ours = (_PACKAGE, "<string>", "<frozen ")  # the first frame of this process is of `python -c`
    return [f"{name} ({path}:{line})" for path, line, name in frames if not path.startswith(ours)]


def _offer_to_oom_killer() -> None:
    """Have the kernel, when memory is out, end a slot, which is replaced, rather than a notebook, which is not."""
    with contextlib.suppress(OSError, ValueError), open("/proc/self/oom_score_adj", "r+", encoding="ascii") as file:
        if int(file.read()) < _OOM_SCORE:
            file.seek(0)
            file.write(str(_OOM_SCORE))


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
