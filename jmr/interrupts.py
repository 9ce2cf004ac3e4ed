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

import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

__all__ = ["check", "deferred", "interrupter", "watched"]

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
        #: Set by the thread that insists, and by whoever cancels, just before they send a signal of their own.
        self.insisting = False
        self.cancelling = False
        self.has_ended = False
        self._n_insisted = 0
        self._first = 0.0
        #: What the caller was handling already: an `except KeyboardInterrupt` of its own is none of ours.
        self._outer = sys.exception()
        self._trace_before = sys.gettrace()

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The signal handler.

        It never raises into this module, whose books would be left half done, nor into an import of ours, which would
        leave Python's lock on that module behind: such an interrupt waits for `check`, or for the end of the watch.
        """
        if self.insisting:
            self.insisting = False
            if not self.has_ended and not _must_wait(frame):
                self._insist(number, frame)
            return
        if self.cancelling:
            self.cancelling = False
            if self.has_ended or self.is_leaving():
                return
        try:
            self.interrupt(number, frame)
        except KeyboardInterrupt:
            if not _must_wait(frame):
                raise

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """Do what SIGINT did before; remember that it raised."""
        try:
            self.before(number, frame)
        except KeyboardInterrupt:
            if not self.pending:
                self.pending = True
                self._first = time.monotonic()
                _asked.put(self)  # of all ways to tell a thread, the one that may be used in a signal handler
            raise

    def is_leaving(self) -> bool:
        """Whether a KeyboardInterrupt is on its way out already."""
        error = sys.exception()
        return isinstance(error, KeyboardInterrupt) and error is not self._outer

    def end(self) -> None:
        """No more force."""
        with _lock:
            self.has_ended = True
        if self._n_insisted:
            sys.settrace(self._trace_before)

    def _insist(self, number: int, frame: FrameType | None) -> None:
        if frame is None or (self.is_leaving() and time.monotonic() - self._first < _CLEANUP_SECONDS):
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


def interrupter() -> Callable[[], None] | None:
    """What any thread may call to interrupt the user code that this thread runs now, as Ctrl-C would.

    It does nothing once the watch has ended. None outside of a watch, which only the main thread has.
    """
    watch = _watch
    if watch is None or threading.current_thread() is not threading.main_thread():
        return None
    main = threading.get_ident()

    def interrupt() -> None:
        with _lock:
            if not watch.has_ended:
                watch.cancelling = True
                signal.pthread_kill(main, signal.SIGINT)

    return interrupt


class watched:  # noqa: N801 - it is called like a function, and has no frame outside of this module, as a generator would
    """Make sure that a KeyboardInterrupt raised inside comes out."""

    def __init__(self) -> None:
        self._watch: _Watch | None = None

    def __enter__(self) -> None:
        global _watch  # noqa: PLW0603 - a process has one SIGINT
        before = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is not threading.main_thread() or not callable(before) or _watch is not None:
            return
        _start_thread()
        watch = _Watch(before)
        signal.signal(signal.SIGINT, watch.handle)
        self._watch = _watch = watch

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        global _watch  # noqa: PLW0603
        watch = self._watch
        if watch is None:
            return
        watch.end()
        _watch = None
        signal.signal(signal.SIGINT, watch.before)
        if watch.pending and not (kind is not None and issubclass(kind, KeyboardInterrupt)):
            raise KeyboardInterrupt


class deferred:  # noqa: N801 - see `watched`
    """Let an interrupt wait until this is over: what is half done, or half cleaned up, would be left so."""

    def __init__(self) -> None:
        self._came = False
        self._before: Any = None

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._note) or signal.SIG_DFL

    def __exit__(self, *_: object) -> None:
        if self._before is None:
            return
        signal.signal(signal.SIGINT, self._before)
        if not self._came:
            return
        if _watch is None:
            signal.raise_signal(signal.SIGINT)
        elif not _watch.is_leaving():
            _watch.interrupt(signal.SIGINT, sys._getframe())

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came = True


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
    filename = _working_for(frame)
    return filename is None or filename.startswith(_PACKAGE)


def _must_wait(frame: FrameType | None) -> bool:
    """Whether a frame is this module's, or the standard library at work for it, or part of an import of ours."""
    if _working_for(frame) == _must_wait.__code__.co_filename:
        return True
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib") and (_working_for(frame) or "").startswith(
            _PACKAGE
        ):
            return True
        frame = frame.f_back
    return False


def _working_for(frame: FrameType | None) -> str | None:
    """The file of the nearest frame that is not of the standard library."""
    while frame is not None and _is_of_stdlib(frame.f_code.co_filename):
        frame = frame.f_back
    return None if frame is None else frame.f_code.co_filename


def _is_of_stdlib(filename: str) -> bool:
    return filename.startswith((_STDLIB, "<frozen ")) and not any(folder in filename for folder in _SITE)
