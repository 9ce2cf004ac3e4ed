"""What a job's workers printed, warned and logged: all that they passed on, up to a bound.

    outlet ──add, add_notice──> Log ──text──> job.log(), jmr.last.log()

The bound is one of memory. Its first half holds what came first, and stays; its second half what came last. What lay
between is counted, like what the workers did not pass on. One writer, and readers at any time. Pure.
"""

from __future__ import annotations

import sys
from collections import deque

__all__ = ["Log", "labelled"]

#: What an entry takes besides its text, in bytes: some jobs print millions of short lines, each in its own time.
_ENTRY_BYTES = 113
#: A notice that differs from so many others is kept like any line, however often it comes.
_MOST_DISTINCT = 1_000


class Log:
    r"""Of one job. `call` is how its owner gets at it, for those who are told of it.

    Examples
    --------
    >>> log = Log()
    >>> log.add("local/1", 1, b"from mapfn\n")
    >>> log.add_notice("local/2", "WARNING:root:odd duck"), log.add_notice("local/1", "WARNING:root:odd duck", 7)
    (True, False)
    >>> print(log.text(), end="")
    [local/1] from mapfn
    [local/2] WARNING:root:odd duck (7 more like this)
    """

    def __init__(self, most_bytes: int = 8 << 20) -> None:
        self.call = "jmr.last.log()"
        #: Lines that are not in it.
        self.n_hidden = 0
        self._half_bytes = most_bytes // 2
        self._first: list[_Entry] = []
        self._last: deque[_Entry] = deque()
        self._n_first_bytes = self._n_last_bytes = 0
        #: Lines that lay between.
        self._n_between = 0
        self._notices: dict[str, _Entry] = {}

    def add(self, name: str, stream: int, text: bytes, n_hidden: int = 0) -> None:
        """Keep whole lines of a slot's, such as "local/1"; before them, `n_hidden` were not passed on.

        The stream is 1 or 2, as file descriptors go.
        """
        self._keep(_Entry(name, stream, text, n_hidden))
        self.n_hidden += n_hidden

    def add_notice(self, name: str, text: str, n: int = 1) -> bool:
        """Count a warning or a log record, which came n times; whether it is the first of its kind, and is kept."""
        known = self._notices.get(text)
        if known is not None:
            known.n_more += n
            return False
        entry = _Entry(name, 2, text.encode(errors="backslashreplace") + b"\n", 0)
        entry.n_more = n - 1
        if len(self._notices) < _MOST_DISTINCT:
            self._notices[text] = entry
        self._keep(entry)
        return True

    def text(self) -> str:
        """All that is kept, each line with the name of the slot that it comes from; only one slot's are in order."""
        between = f"... {self._n_between:,} lines are not kept ...\n" if self._n_between else ""
        first, last = list(self._first), list(self._last)  # copied at once: it may be written to meanwhile
        return "".join(map(str, first)) + between + "".join(map(str, last))

    def _keep(self, entry: _Entry) -> None:
        n_bytes = entry.n_bytes
        if not self._last and self._n_first_bytes + n_bytes <= self._half_bytes:
            self._first.append(entry)
            self._n_first_bytes += n_bytes
            return
        self._last.append(entry)
        self._n_last_bytes += n_bytes
        while self._n_last_bytes > self._half_bytes:
            dropped = self._last.popleft()
            self._n_last_bytes -= dropped.n_bytes
            n_lines = dropped.text.count(b"\n")
            self._n_between += n_lines + dropped.n_hidden
            self.n_hidden += n_lines


class _Entry:
    """Lines of one slot's, or a notice."""

    __slots__ = ("n_hidden", "n_more", "name", "stream", "text")

    def __init__(self, name: str, stream: int, text: bytes, n_hidden: int) -> None:
        self.name = sys.intern(name)  # each message has a copy of its own
        self.stream = stream
        self.text = text
        self.n_hidden = n_hidden
        #: Notices like this one.
        self.n_more = 0

    @property
    def n_bytes(self) -> int:
        """What it takes in memory; notices that only repeat it take nothing."""
        return len(self.text) + _ENTRY_BYTES

    def __str__(self) -> str:
        hidden = f"[{self.name}] ... {self.n_hidden:,} more lines ...\n" if self.n_hidden else ""
        shown = labelled(self.name, self.text)
        more = f" ({self.n_more:,} more like this)\n" if self.n_more else "\n"
        return hidden + shown.removesuffix("\n") + more if shown else hidden


def labelled(name: str, text: bytes) -> str:
    r"""Whole lines, each with the name of the slot that printed it.

    Examples
    --------
    >>> labelled("local/1", b"a\nb\xff\n")
    '[local/1] a\n[local/1] b\\xff\n'
    """
    lines = text.decode("utf-8", errors="backslashreplace").split("\n")[:-1]
    return "".join(f"[{name}] {line}\n" for line in lines)
