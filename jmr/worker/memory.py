"""What a supervisor measures: memory of its host, and of its slots; and whom the kernel has killed for want of it.

    host, slots ──Gauge.measure──> Measured ──> coordinator, which decides who begins nothing more, and who is stopped
                       └──a slot has more than its share──> SPILL_SIGNAL ──> that slot
    SIGKILL that nobody here has sent ──OomKills.claim──> the kernel's, or not

A share is what each slot may have so that all of them together stay below the mark at which nothing new begins here.

Linux only: macOS does not tell what is free in a way that this could be read off, and compresses and swaps instead.
"""

from __future__ import annotations

import contextlib
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from jmr.errors import ArgumentValueError
from jmr.shuffle.budget import said_bytes
from jmr.shuffle.memory import HostMemory, count_oom_kills, memory_levels, tightest
from jmr.wire.messages import Measured

__all__ = ["Gauge", "OomKills", "slot_bytes"]

#: Part of the host that slots share, with whoever else is there.
_SHARED = 0.8
#: For an interpreter and what it has imported, which nobody can put on disk.
_LEAST_SHARE_BYTES = 64 << 20
#: Between two measurements: usually, and while a slot is above half of its share.
_SECONDS, _FAST_SECONDS = 1.0, 0.25
#: Between two signals to one slot.
_SIGNAL_SECONDS = 1.0
#: A process that was told to die may take so long, with all of its memory.
_DYING_SECONDS = 30.0
_ROOT = Path("/")


class Gauge:
    """Of one supervisor.

    Parameters
    ----------
    root
        Where /proc and /sys are.
    """

    def __init__(self, root: Path = _ROOT) -> None:
        self._root = root
        #: What all slots may have together, and what of that is for what they could put on disk.
        self._most_bytes, self._budget_bytes = _said("JMR_MEMORY_LIMIT"), _said("JMR_MEMORY")
        self._share = 0
        self._sizes: dict[int, int] = {}
        self._signalled: dict[int, float] = {}

    def measure(self, pids: Mapping[int, int]) -> Measured | None:
        """Measure the host, and slots by number; None where the host cannot be measured."""
        self._sizes = sizes = {slot: slot_bytes(pid, self._root) for slot, pid in pids.items()}
        ours = sum(sizes.values())
        levels = memory_levels(self._root)
        if levels and self._most_bytes:
            levels.append(HostMemory(ours, self._most_bytes))
        host = tightest(levels)
        if host is None:
            return None
        self._share = share_of(host, ours, len(sizes), self._budget_bytes)
        return Measured(host.used_bytes, host.limit_bytes, sorted(sizes.items()))

    @property
    def seconds(self) -> float:
        """Until one should measure again."""
        is_filling = any(size > self._share / 2 for size in self._sizes.values())
        return _FAST_SECONDS if is_filling else _SECONDS

    def to_signal(self, now: float) -> list[int]:
        """Slots that have more than their share, and were not told so just now."""
        told = {slot: at for slot, at in self._signalled.items() if slot in self._sizes and now - at < _SIGNAL_SECONDS}
        slots = [slot for slot, size in self._sizes.items() if size > self._share and slot not in told]
        self._signalled = told | dict.fromkeys(slots, now)
        return slots


def share_of(host: HostMemory, ours: int, n_slots: int, budget_bytes: int | None) -> int:
    """What each slot may have, if `ours` is what all have, and `budget_bytes` is what JMR_MEMORY says, if it does.

    Examples
    --------
    >>> share_of(HostMemory(used_bytes=6 << 30, limit_bytes=10 << 30), ours=2 << 30, n_slots=2, budget_bytes=None) >> 20
    2048
    """
    others = max(0, host.used_bytes - ours)
    share = max(_LEAST_SHARE_BYTES, int(_SHARED * host.limit_bytes - others) // max(1, n_slots))
    if budget_bytes is None:
        return share
    return min(share, _LEAST_SHARE_BYTES + budget_bytes // max(1, n_slots))


class OomKills:
    """Tells a SIGKILL of the kernel's from others.

    Parameters
    ----------
    count
        How many processes the kernel has killed so far.
    """

    def __init__(self, count: Callable[[], int | None] = count_oom_kills) -> None:
        self._count = count
        self._n_seen = count()
        #: When those were seen whose death was not explained by them yet.
        self._unclaimed: deque[float] = deque()

    def look(self, now: float) -> None:
        """See whether there are more; those of long ago explain nothing any more."""
        n = self._count()
        if n is None or self._n_seen is None:
            return
        self._unclaimed.extend([now] * (n - self._n_seen))
        self._n_seen = n
        while self._unclaimed and now - self._unclaimed[0] > _DYING_SECONDS:
            self._unclaimed.popleft()

    def claim(self, now: float) -> bool:
        """Whether one explains a death that nobody else has caused, and no other."""
        self.look(now)
        if not self._unclaimed:
            return False
        self._unclaimed.popleft()
        return True


def slot_bytes(pid: int, root: Path = _ROOT) -> int:
    """Memory that a process and its children have, without what lies in files.

    Children that were forked share pages with their parent: where there are any, shared pages are divided among those
    who have them, which takes the kernel longer to count.
    """
    family = list(_family(pid, root))
    if len(family) > 1:
        return sum(_proportional(each) or _resident(each) for each in family)
    return sum(map(_resident, family))


def _family(pid: int, root: Path) -> Iterator[Path]:
    """Of a process and all that it has started."""
    home = root / "proc" / str(pid)
    yield home
    with contextlib.suppress(OSError):  # it has ended
        for task in (home / "task").iterdir():
            for child in (task / "children").read_text().split():
                yield from _family(int(child), root)


def _resident(home: Path) -> int:
    return _kilobytes(home / "status", rb"^Rss(?:Anon|Shmem):\s+(\d+) kB")


def _proportional(home: Path) -> int:
    return _kilobytes(home / "smaps_rollup", rb"^Pss_(?:Anon|Shmem):\s+(\d+) kB")


def _kilobytes(path: Path, pattern: bytes) -> int:
    try:
        told = path.read_bytes()
    except OSError:  # it has ended, or is not ours to look at
        return 0
    return sum(map(int, re.findall(pattern, told, re.MULTILINE))) * 1024


def _said(variable: str) -> int | None:
    with contextlib.suppress(ArgumentValueError):  # the kernel, whose environment this is, has been told so
        return said_bytes(variable)
    return None
