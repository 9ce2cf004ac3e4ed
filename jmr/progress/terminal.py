"""Keeps what is printed to a terminal out of the progress lines that are written over there.

view ──appear, vanish──> lines <──aside── whoever prints
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

__all__ = ["Rewritten", "appear", "aside", "vanish"]


class Rewritten(Protocol):
    """A line that is shown, and will be written over."""

    def aside(self) -> AbstractContextManager[None]:
        """Take the line away meanwhile."""


#: Those that are shown now, in the order in which they appeared.
_lines: weakref.WeakKeyDictionary[Rewritten, None] = weakref.WeakKeyDictionary()


def appear(line: Rewritten) -> None:
    """From now on it may be in the way. Harmless if repeated."""
    _lines[line] = None


def vanish(line: Rewritten) -> None:
    """It is in nobody's way any more."""
    _lines.pop(line, None)


@contextlib.contextmanager
def aside() -> Iterator[None]:
    """For whoever prints to the terminal while a job runs: inside, no progress line is in the way."""
    with contextlib.ExitStack() as stack:
        # `keyrefs` copies at once: lines of other jobs come and go, and what changes cannot be iterated over.
        # Whoever prints takes them in the same order, so no two wait for each other.
        for reference in _lines.keyrefs():
            if (line := reference()) is not None:
                stack.enter_context(line.aside())
        yield
