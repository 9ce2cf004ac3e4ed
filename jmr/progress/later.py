"""Does something for a job that turns out to be long, and costs a job that does not next to nothing.

    job starts ─> at_last(action) ── 0.3 s, still there ──> one thread for all jobs calls it
    job ends   ─> cancel(action)  ── before that ──────────> it is never called

A thread a job would cost a short job a tenth of its time. This one looks at the clock ten times a second, is started by
the first job, and goes when there has been none for a while.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Later"]


class Later:
    """Actions that wait for their time. `delay` may be changed; it holds for the actions that follow."""

    def __init__(self, delay: float, look_every: float = 0.1, stay: float = 1.0) -> None:
        self.delay = delay
        self._look_every = look_every
        self._stay = stay
        #: Held while an action is called: who cancels one knows whether it has been done.
        self._lock = threading.Lock()
        self._due: dict[Callable[[], None], float] = {}
        self._last_use = 0.0
        self._thread: threading.Thread | None = None

    def at_last(self, action: Callable[[], None]) -> None:
        """Call it once after the delay, unless it is cancelled. It must be quick, and must not raise."""
        with self._lock:
            self._last_use = time.monotonic()
            self._due.setdefault(action, self._last_use + self.delay)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="jmr-later", daemon=True)
                self._thread.start()

    def cancel(self, action: Callable[[], None]) -> bool:
        """Whether it was in time: the action has not been called, and will not be."""
        with self._lock:
            return self._due.pop(action, None) is not None

    def _run(self) -> None:
        pause = threading.Event()
        while self._look():
            pause.wait(self._look_every)

    def _look(self) -> bool:
        """Call what is due; whether there is a reason to stay."""
        with self._lock:
            now = time.monotonic()
            for action in [action for action, when in self._due.items() if when <= now]:
                del self._due[action]
                action()
            stays = bool(self._due) or now - self._last_use < self._stay
            if not stays:
                self._thread = None
            return stays
