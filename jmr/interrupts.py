"""Ctrl-C and the kernel's stop button, while user code runs in the calling thread.

    SIGINT ──> KeyboardInterrupt in the user's code ── it comes out ──> the job is cancelled
                    └─ swallowed by a bare except: ──> `check` raises it after the record that was being read
                          └─ still not out after half a second: raised again at every line of user code, until it is

Only in the main thread, which is where Python delivers signals. Our own frames are never interrupted by force, and
user code outside of `watched` is never touched.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

__all__ = ["check", "deferred", "watched"]

_PATIENCE_SECONDS = 0.5
_PACKAGE = str(Path(__file__).resolve().parent)


class _Watch:
    """What has happened since `watched` was entered."""

    def __init__(self, before: Callable[[int, FrameType | None], Any]) -> None:
        self.before = before
        self.pending = False
        self.insisted = False
        self._trace_before = sys.gettrace()
        self._timer: threading.Timer | None = None

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        if self.pending and frame is not None:
            self.insisted = True
            _insist(frame)
        self.pending = True
        if self._timer is None:
            self._timer = threading.Timer(_PATIENCE_SECONDS, _interrupt_again)
            self._timer.daemon = True
            self._timer.start()
        self.before(number, frame)

    def end(self) -> None:
        """No more force."""
        if self._timer is not None:
            self._timer.cancel()
        if self.insisted:
            sys.settrace(self._trace_before)


_watch: _Watch | None = None


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
    watch = _watch = _Watch(before)
    signal.signal(signal.SIGINT, watch.interrupt)
    try:
        yield
        check()
    finally:
        watch.end()
        _watch = None
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Let an interrupt wait until this is over: a second Ctrl-C must not leave the clean-up half done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)


def _interrupt_again() -> None:
    main = threading.main_thread().ident
    if _watch is not None and main is not None:
        signal.pthread_kill(main, signal.SIGINT)


def _insist(frame: FrameType | None) -> None:
    """Have every further line of the user code that runs now raise."""
    sys.settrace(_raise)
    while frame is not None and not _is_ours(frame):
        frame.f_trace = _raise
        frame = frame.f_back


def _raise(frame: FrameType, event: str, argument: object) -> Any:
    if _is_ours(frame):
        return None
    if event == "line":
        raise KeyboardInterrupt
    return _raise


def _is_ours(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(_PACKAGE)
