"""What a slot does when its memory is short: it puts on disk what it can, and tells what fits nowhere.

    supervisor ──SPILL_SIGNAL──> Spiller ──ask──> tasks.spilling ──run──> Runs, on disk ──> malloc_trim
    a reduce task that grows ──> SlotMemory: what there is, and what there could be at most

The signal only asks: a slot that is not grouping has nothing to spill. What a slot has on disk is its own: a process
that user code has forked ends before it touches that.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Iterable, Iterator
from types import FrameType

from jmr.codec.values import Buffer
from jmr.errors import ArgumentValueError
from jmr.shuffle.files import Room
from jmr.shuffle.runs import Runs
from jmr.tasks.spilling import Spilling
from jmr.wire.messages import CANNOT_ANSWER
from jmr.worker.signals import SPILL_SIGNAL

__all__ = ["SlotMemory", "Spiller", "end_copy"]

#: Part of a host that a slot may fill alone: when more is used, slots are stopped.
_OF_HOST = 0.9
#: A run that is smaller has not freed enough to look for it in all that malloc has.
_WORTH_BYTES = 4 << 20
_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)


class Spiller:
    """Of one slot."""

    def __init__(self) -> None:
        self._current: Spilling | None = None

    def listen(self) -> None:
        """From now on the slot may be asked; again, after user code that may have listened in its place."""
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
            spilling.end()  # also of a loop that has failed
            if spilling.n_runs:
                runs.forget()

    def _ask(self, _signal: int, frame: FrameType | None) -> None:
        if self._current is not None:
            self._current.ask(frame)


def end_copy(pid: int) -> None:
    """End this process, if it is not `pid`: user code has forked it, and comes back out of the function that did."""
    if os.getpid() != pid:
        os._exit(CANNOT_ANSWER)


class _GivenBack(Runs):
    """Runs whose memory the host gets back, where malloc would keep it for the next."""

    def __init__(self, room: Room, name: str, n_partitions: int) -> None:
        super().__init__(room, name, n_partitions)
        self._pid = os.getpid()

    def add(self, partitions: Iterable[list[Buffer]]) -> None:
        end_copy(self._pid)
        before = self.n_bytes
        super().add(partitions)
        if self.n_bytes - before >= _WORTH_BYTES:
            _give_back()

    def forget(self) -> None:
        end_copy(self._pid)
        super().forget()


class SlotMemory:
    """What a slot has, and could have: see `tasks.fitting.Memory`. What measures it is imported by who has to know."""

    def used_bytes(self) -> int:
        """With the processes that user code has started."""
        from jmr.worker.memory import slot_bytes

        return slot_bytes(os.getpid())

    def most_bytes(self) -> int | None:
        """If the other slots of this host had nothing; None where the system does not tell."""
        from jmr.shuffle.budget import said_bytes
        from jmr.shuffle.memory import memory_levels

        slots = _slots_bytes()
        most = [_OF_HOST * level.limit_bytes - max(0, level.used_bytes - slots) for level in memory_levels()]
        with contextlib.suppress(ArgumentValueError):  # the kernel has been told so
            if most and (said := said_bytes("JMR_MEMORY_LIMIT")):
                most.append(_OF_HOST * said)
        return int(min(most)) if most else None

    def give_back(self) -> None:
        """What malloc keeps goes back to the kernel."""
        _give_back()


def _slots_bytes() -> int:
    """What all slots of this supervisor have."""
    from jmr.worker.memory import slot_bytes

    supervisor = os.getppid()
    try:
        with open(f"/proc/{supervisor}/task/{supervisor}/children", encoding="ascii") as file:
            pids = file.read().split()
    except OSError:  # a kernel that does not tell, or the supervisor is gone
        pids = [str(os.getpid())]
    return sum(slot_bytes(int(pid)) for pid in pids)


def _give_back() -> None:
    if _trim is not None:
        _trim(0)
