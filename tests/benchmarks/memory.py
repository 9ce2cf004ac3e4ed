"""Peak memory of a tree of processes.

Counted every 50 ms: what the processes have for themselves, shared pages divided by who shares them (Pss of
/proc/PID/smaps_rollup), and by how much the machine's shared memory has grown, where /dev/shm lies. Sampling takes a
processor's time, so it is done in runs of its own.
"""

from __future__ import annotations

import contextlib
import re
import threading
from pathlib import Path

import psutil

__all__ = ["Sampler"]

_SECONDS = 0.05
_PSS = re.compile(r"Pss_(?:Anon|File):\s+(\d+) kB")


class Sampler:
    """Watches a process and its descendants from `start` to `stop`."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._over = threading.Event()
        self._shared_before = 0
        self._thread = threading.Thread(target=self._watch)
        self.peak_bytes = 0

    def start(self) -> None:
        """Begin."""
        self._shared_before = _shared_bytes()
        self._thread.start()

    def stop(self) -> int:
        """End; returns the peak in bytes."""
        self._over.set()
        self._thread.join()
        return self.peak_bytes

    def _watch(self) -> None:
        while not self._over.wait(_SECONDS):
            tree = [self._process]
            with contextlib.suppress(psutil.Error):
                tree += self._process.children(recursive=True)
            now = sum(_own_bytes(process.pid) for process in tree) + _shared_bytes() - self._shared_before
            self.peak_bytes = max(self.peak_bytes, now)


def _own_bytes(pid: int) -> int:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:  # it has ended
        return 0
    return 1024 * sum(map(int, _PSS.findall(rollup)))


def _shared_bytes() -> int:
    found = re.search(r"^Shmem:\s+(\d+) kB", Path("/proc/meminfo").read_text(encoding="ascii"), re.MULTILINE)
    assert found is not None
    return 1024 * int(found[1])
