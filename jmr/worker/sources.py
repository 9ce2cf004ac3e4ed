"""Source files of the user's, each read once in a state and taken apart once.

    path ──time and size as before?──> Source: content, and what it imports

They are kept for the life of the process, and read again once a file's time or size has changed.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from jmr.worker.modules import CLOCK_SECONDS
from jmr.worker.names import names_in_source

__all__ = ["Source", "read_source"]


@dataclass(slots=True)
class Source:
    """A file as it was read."""

    stamp: tuple[int, int]
    content: bytes
    names: list[list[str]] | None = None

    def imports(self) -> list[list[str]]:
        """What it imports, found out once."""
        if self.names is None:
            self.names = names_in_source(self.content)
        return self.names


#: By path, for the life of the process.
_sources: dict[str, Source] = {}


def read_source(path: str) -> Source | None:
    """A file as it is now, from memory if it has not changed; None if it cannot be read."""
    try:
        found = os.stat(path)
        stamp = found.st_mtime_ns, found.st_size
        known = _sources.get(path)
        if known is not None and known.stamp == stamp:
            return known
        with open(path, "rb") as file:
            source = Source(stamp, file.read())
    except (OSError, ValueError):
        return None
    if stamp[0] > (time.time() - CLOCK_SECONDS) * 1e9:  # edited once more right now, it might keep its time
        source.stamp = -1, -1
    _sources[path] = source
    return source
