"""How much memory this process has had at most, since it last forgot.

The kernel keeps that mark for a process's whole life; a warm slot would show what some earlier job took.
"""

from __future__ import annotations

import contextlib
import resource
import sys

__all__ = ["forget_peak_memory", "peak_memory_bytes"]


def peak_memory_bytes() -> int:
    """Most bytes of memory at once since `forget_peak_memory`; on macOS since the process began."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def forget_peak_memory() -> None:
    """Begin anew, at what the process has now."""
    # Not Linux, or a kernel without it, has no such file. What 5 means: proc(5).
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "wb", buffering=0) as file:
        file.write(b"5")
