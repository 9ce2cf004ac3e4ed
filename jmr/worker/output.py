"""What a slot prints, as whole lines, by job, at a rate that a notebook can bear.

    slot: mark(job) ── user code prints ── mark(next job) ...   in band, so that order tells whose line it is
    supervisor: bytes from the pipe ──> OutputReader.feed() ──> [(job, text)]

Lines are passed on up to a burst and then a rate; the rest are counted, and their number is told. Pure: the clock is
the caller's.
"""

from __future__ import annotations

import re

__all__ = ["OutputReader", "mark"]

_BURST_BYTES = 1 << 16
_BYTES_PER_SECOND = 1 << 14
#: A longer line, or a longer wait for its end, is cut.
_LINE_BYTES = 4096
_MARK = re.compile(rb"\x1ejmr:(\d+)\x1e\n")
_MARK_BYTES = 32


def mark(job: int) -> bytes:
    r"""Bytes that say "what follows belongs to this job".

    Examples
    --------
    >>> mark(3)
    b'\x1ejmr:3\x1e\n'
    """
    return b"\x1ejmr:%d\x1e\n" % job


class OutputReader:
    """One stream of one slot."""

    def __init__(self) -> None:
        #: Whose output comes now.
        self.job = 0
        self._waiting = b""
        self._allowance = float(_BURST_BYTES)
        self._last = 0.0
        self._n_dropped = 0

    def feed(self, data: bytes, now: float) -> list[tuple[int, bytes]]:
        """Take bytes; give whole lines, by job, that may be shown."""
        self._allowance = min(_BURST_BYTES, self._allowance + (now - self._last) * _BYTES_PER_SECOND)
        self._last = now
        shown: list[tuple[int, bytes]] = []
        data, self._waiting = self._waiting + data, b""
        while found := _MARK.search(data):
            shown += self._lines(data[: found.start()]) + self.flush()
            self.job = int(found[1])
            data = data[found.end() :]
        end = data.rfind(b"\n") + 1
        if end < len(data) - _LINE_BYTES:
            end = len(data) - _MARK_BYTES  # a mark may have come in half
        self._waiting = data[end:]
        return shown + self._lines(data[:end])

    def flush(self) -> list[tuple[int, bytes]]:
        """Give what has no newline yet, and tell how much was dropped."""
        shown = self._lines(self._waiting)
        self._waiting = b""
        if self._n_dropped:
            shown.append((self.job, b"... %s more lines not shown\n" % f"{self._n_dropped:,}".encode()))
            self._n_dropped = 0
        return shown

    def _lines(self, text: bytes) -> list[tuple[int, bytes]]:
        kept = []
        for line in text.splitlines():
            cut = line if len(line) <= _LINE_BYTES else line[:_LINE_BYTES] + b" ..."
            if self._allowance < len(cut):
                self._n_dropped += 1
            else:
                self._allowance -= len(cut) + 1
                kept.append(cut + b"\n")
        return [(self.job, b"".join(kept))] if kept else []
