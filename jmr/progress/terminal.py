"""Keeps what is printed to a terminal out of the progress lines that are written over there.

view ──live.add──> live <──aside── whoever prints
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

__all__ = ["Rewritten", "aside", "live"]


class Rewritten(Protocol):
    """A line that is shown, and will be written over."""

    def aside(self) -> AbstractContextManager[None]:
        """Take the line away meanwhile."""


#: Those that are shown now.
live: weakref.WeakSet[Rewritten] = weakref.WeakSet()


@contextlib.contextmanager
def aside() -> Iterator[None]:
    """For whoever prints to the terminal while a job runs: inside, no progress line is in the way."""
    with contextlib.ExitStack() as stack:
        for line in tuple(live):
            stack.enter_context(line.aside())
        yield
