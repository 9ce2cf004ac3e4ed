"""What a slot does when its memory is short: it puts on disk what it can.

    supervisor ──SPILL_SIGNAL──> Spiller ──ask──> tasks.spilling ──run──> Runs, on disk ──> malloc_trim

The signal only asks: a slot that is not grouping has nothing to spill.
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
from collections.abc import Iterable, Iterator
from types import FrameType

from jmr.codec.values import Buffer
from jmr.shuffle.files import Room
from jmr.shuffle.runs import Runs
from jmr.tasks.spilling import Spilling
from jmr.worker.signals import SPILL_SIGNAL

__all__ = ["Spiller"]

#: A run that is smaller has not freed enough to look for it in all that malloc has.
_WORTH_BYTES = 4 << 20
_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)


class Spiller:
    """Of one slot."""

    def __init__(self) -> None:
        self._current: Spilling | None = None

    def listen(self) -> None:
        """From now on the slot may be asked."""
        signal.signal(SPILL_SIGNAL, self._ask)
        signal.siginterrupt(SPILL_SIGNAL, False)  # C code of the user's need not know of it

    @contextlib.contextmanager
    def attempt(self, room: Room, name: str, n_partitions: int) -> Iterator[tuple[Spilling, Runs]]:
        """What a map attempt spills with, and what it has spilled; that is removed at the block's end."""
        runs = _GivenBack(room, name, n_partitions)
        self._current = spilling = Spilling(runs)
        try:
            yield spilling, runs
        finally:
            self._current = None
            if spilling.n_runs:
                runs.forget()

    def _ask(self, _signal: int, frame: FrameType | None) -> None:
        if self._current is not None:
            self._current.ask(frame)


class _GivenBack(Runs):
    """Runs whose memory the host gets back, where malloc would keep it for the next."""

    def add(self, partitions: Iterable[list[Buffer]]) -> None:
        before = self.n_bytes
        super().add(partitions)
        if self.n_bytes - before >= _WORTH_BYTES:
            _give_back()


def _give_back() -> None:
    if _trim is not None:
        _trim(0)
