"""Ctrl-C and the kernel's stop button, while user code runs in the calling thread.

    SIGINT ──> KeyboardInterrupt in the user's code ── it comes out ──> the job is cancelled
                    └─ swallowed by a bare except: ──> `check` raises it after the record that was being read
                          └─ still not out after half a second: raised again and again, at the next line of user code
                             and out of the call it waits in, until it is

Only in the main thread, which is where Python delivers signals, and only where SIGINT raises KeyboardInterrupt: a
handler of the user's that does something else is left to it. Frames of ours, and those of the standard library that we
call, are never interrupted by force, and user code outside of `watched` is never touched. What user code does on its
way out of a KeyboardInterrupt has a few seconds.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

__all__ = ["check", "deferred", "watched"]

_PATIENCE_SECONDS = 0.5
_INSIST_EVERY_SECONDS = 0.05
#: For user code that is on its way out: in an `except` or `finally` that the interrupt led to.
_CLEANUP_SECONDS = 5.0
_PACKAGE = str(Path(__file__).resolve().parent) + os.sep
_STDLIB = str(Path(os.__file__).resolve().parent) + os.sep
_SITE = ("site-packages" + os.sep, "dist-packages" + os.sep)


class _Watch:
    """What has happened since `watched` was entered."""

    def __init__(self, before: Callable[[int, FrameType | None], Any]) -> None:
        self.before = before
        self.pending = False
        #: Set by the thread that insists, just before it sends a signal of its own.
        self.insisting = False
        self.has_ended = False
        self._n_insisted = 0
        self._first = 0.0
        self._is_handling = False
        self._trace_before = sys.gettrace()

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The signal handler. A signal that arrives while it runs says nothing new."""
        if self._is_handling:
            return
        self._is_handling = True
        try:
            if self.insisting:
                self.insisting = False
                if not self.has_ended:
                    self._insist(number, frame)
            else:
                self._interrupt(number, frame)
        finally:
            self._is_handling = False

    def end(self) -> None:
        """No more force."""
        with _lock:
            self.has_ended = True
        if self._n_insisted:
            sys.settrace(self._trace_before)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        try:
            self.before(number, frame)
        except KeyboardInterrupt:
            if not self.pending:
                self.pending = True
                self._first = time.monotonic()
                _asked.put(self)  # of all ways to tell a thread, the one that may be used in a signal handler
            raise

    def _insist(self, number: int, frame: FrameType | None) -> None:
        leaving = isinstance(sys.exception(), KeyboardInterrupt)
        if frame is None or (leaving and time.monotonic() - self._first < _CLEANUP_SECONDS):
            return
        self._n_insisted += 1
        sys.settrace(_raise)
        while frame is not None and not _is_ours(frame):
            frame.f_trace = _raise
            frame = frame.f_back
        if self._n_insisted % 2 == 0:  # a tracer waits for the next line, which may be long in coming
            self.before(number, frame)


_watch: _Watch | None = None
#: Watches that were interrupted, for the thread that insists.
_asked: queue.SimpleQueue[_Watch] = queue.SimpleQueue()
_thread: threading.Thread | None = None
#: Between the end of a watch and the signals that are sent for it; never taken by a signal handler.
_lock = threading.Lock()


def check() -> None:
    """Raise the KeyboardInterrupt that user code swallowed, if it did."""
    if _watch is not None and _watch.pending and threading.current_thread() is threading.main_thread():
        raise KeyboardInterrupt


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Make sure that a KeyboardInterrupt raised inside comes out."""
    global _watch  # noqa: PLW0603 - a process has one SIGINT
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before) or _watch is not None:
        yield
        return
    _start_thread()
    watch = _watch = _Watch(before)
    signal.signal(signal.SIGINT, watch.handle)
    try:
        yield
        check()
    finally:
        watch.end()
        _watch = None
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Let an interrupt wait until this is over: what is half done, or half cleaned up, would be left so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)
        if came and not isinstance(sys.exception(), KeyboardInterrupt):  # else one is on its way already
            signal.raise_signal(signal.SIGINT)


def _start_thread() -> None:
    """One thread for the process; a forked child has none, and gets its own."""
    global _thread  # noqa: PLW0603
    if _thread is None or not _thread.is_alive():
        _thread = threading.Thread(target=_insist_for_ever, name="jmr-interrupts", daemon=True)
        _thread.start()


def _insist_for_ever() -> None:
    main = threading.main_thread().ident
    assert main is not None
    pause = threading.Event()
    while True:
        watch = _asked.get()
        pause.wait(_PATIENCE_SECONDS)
        while _sent(watch, main):
            pause.wait(_INSIST_EVERY_SECONDS)


def _sent(watch: _Watch, main: int) -> bool:
    """Send a signal, unless the watch has ended: then it would hit whatever runs now."""
    with _lock:
        if not watch.has_ended:
            watch.insisting = True
            signal.pthread_kill(main, signal.SIGINT)
        return not watch.has_ended


def _raise(frame: FrameType, event: str, argument: object) -> Any:
    """A tracer that interrupts the user's next line; Python takes it away when it does."""
    if _is_ours(frame):
        return None
    if event == "line":
        raise KeyboardInterrupt
    return _raise


def _is_ours(frame: FrameType | None) -> bool:
    """Whether a frame is ours, or the standard library at work for us."""
    while frame is not None and _is_of_stdlib(frame.f_code.co_filename):
        frame = frame.f_back
    return frame is None or frame.f_code.co_filename.startswith(_PACKAGE)


def _is_of_stdlib(filename: str) -> bool:
    return filename.startswith((_STDLIB, "<frozen ")) and not any(folder in filename for folder in _SITE)
