"""Ends a job from a thread that does not run it: the button's click, `Job.cancel`.

    Cancel() ──> engine.cancel() ──> the job's thread hears of it, and raises JobCancelled
       └── half a second later, is it still there, in user code? ──> insist

In the main thread user code can be interrupted, as by Ctrl-C; in others it cannot, and `Job` stops waiting for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from jmr.engines.base import Engine
from jmr.progress.later import Later

__all__ = ["Cancel"]

#: A thread that runs no user code hears of it well within that.
PATIENCE_SECONDS = 0.5

_later = Later(PATIENCE_SECONDS)


class Cancel:
    """Called from any thread, it ends the job; harmless when that has ended.

    Parameters
    ----------
    engine
        Runs the job.
    insist
        What else to do if that does not help; quick, and called in another thread.
    """

    def __init__(self, engine: Engine, insist: Callable[[], None] | None) -> None:
        self._engine = engine
        self._insist = insist
        #: Between the job's end and whoever cancels it at that moment.
        self._lock = threading.Lock()
        self._is_over = False
        #: Whether anybody has called it.
        self.asked = False

    def __call__(self) -> None:
        with self._lock:
            if self._is_over:
                return
            self.asked = True
            self._engine.cancel()
            if self._insist is not None:
                _later.at_last(self._insist)

    def close(self) -> None:
        """The job is over."""
        with self._lock:
            self._is_over = True
            if self._insist is not None:
                _later.cancel(self._insist)
