"""What user code prints in a process of somebody else's, kept for the kernel.

    mapfn ──print──> sys.stdout, of a task's thread ──> Prints ──receipt──> the cell
                                └─ of any other ──> where it went before

Only what goes through sys.stdout and sys.stderr: descriptors 1 and 2 belong to the engine's own workers, which may run
several tasks at once.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

__all__ = ["Prints", "kept_prints"]

#: Kept of what one task prints to a stream; further lines are counted.
_MOST_BYTES = 1 << 16

_here = threading.local()
_lock = threading.Lock()


def _unlock() -> None:
    """In a forked child there is no thread that would release the lock."""
    global _lock  # noqa: PLW0603 - a lock is released by nobody else
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)


class Prints:
    """Of one task, by stream: 1 or 2, as descriptors go."""

    def __init__(self) -> None:
        self._texts = {1: "", 2: ""}
        self._n_hidden = {1: 0, 2: 0}

    def add(self, stream: int, text: str) -> None:
        """Keep it, if there is room."""
        if len(self._texts[stream]) + len(text) <= _MOST_BYTES:
            self._texts[stream] += text
        else:
            self._n_hidden[stream] += text.count("\n")

    def told(self) -> tuple[tuple[int, bytes, int], ...]:
        """Of each stream that has something: which, whole lines, and how many more there were."""
        found = []
        for stream, text in self._texts.items():
            if text or self._n_hidden[stream]:
                lines = text if text.endswith("\n") or not text else text + "\n"
                found.append((stream, lines.encode(errors="backslashreplace"), self._n_hidden[stream]))
        return tuple(found)


class _Stream:
    """Stands in for sys.stdout or sys.stderr; whatever is not written goes to what was there before."""

    def __init__(self, original: Any, number: int) -> None:
        self._original = original
        self._number = number

    def write(self, text: str) -> int:
        prints = getattr(_here, "prints", None)
        if prints is None:
            return int(self._original.write(text) or 0)
        prints.add(self._number, text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


@contextlib.contextmanager
def kept_prints() -> Iterator[Prints]:
    """Keep what this thread prints inside of the block; for good, this process's streams are ones that can."""
    with _lock:
        for name, number in (("stdout", 1), ("stderr", 2)):
            if not isinstance(getattr(sys, name), _Stream):
                setattr(sys, name, _Stream(getattr(sys, name), number))
    prints = _here.prints = Prints()
    try:
        yield prints
    finally:
        _here.prints = None
