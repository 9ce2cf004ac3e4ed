r"""What a slot prints, as whole lines, by job, at a rate that everybody can bear; and its notices.

    slot: mark(job) ── user code prints ── notice(...) ── prints ── mark(next job) ...   in band: order says whose it is
    supervisor: bytes from the pipe ──> OutputReader.feed() ──> Printed, Printed, ...

A notice is a warning or a log record: it is taken out of the stream, also in the midst of a line. Of a line that was
written over itself with carriage returns, as progress bars do, the last state counts. A flood is counted rather than
passed on: each stream may always have a little, and all of a host's together a lot for a while. What was passed on and
what was counted make up all the lines that there were. Pure: the clock is the caller's.
"""

from __future__ import annotations

import re
from collections import deque

from jmr.wire.messages import NOTICE, TAIL_BYTES, Printed

__all__ = ["NOTICE_BYTES", "Allowance", "OutputReader", "Tail", "mark", "notice", "read_notice"]

_OWN_BURST, _OWN_BYTES_PER_SECOND = 1 << 16, 1 << 14
_SHARED_BURST, _SHARED_BYTES_PER_SECOND = 1 << 22, 1 << 18
#: What is longer is cut.
_LINE_BYTES = 1 << 16
#: A notice comes in one piece, whoever else writes to the pipe: Linux warrants that for 4,096 bytes.
NOTICE_BYTES = 4000
_MARK = re.compile(rb"\x1ejmr(?::(\d{1,18})|!(\d{1,4}))\x1e\n")
#: What may become one, when more has come.
_HALF_MARK = re.compile(rb"\x1e[jmr:!0-9]*\x1e?\Z")
_MARK_BYTES = 32


def mark(job: int) -> bytes:
    r"""Bytes that say "what follows belongs to this job".

    Examples
    --------
    >>> mark(3)
    b'\x1ejmr:3\x1e\n'
    """
    return b"\x1ejmr:%d\x1e\n" % job


def notice(text: str, path: str = "", line: int = 0, n: int = 1) -> bytes:
    r"""Bytes that bring a warning or a log record.

    Parameters
    ----------
    text
        Cut if it is very long.
    path, line
        Where it was raised, if that is to be shown.
    n
        How many like this there were since the last such notice.

    Examples
    --------
    >>> notice("UserWarning: odd duck", "a.py", 3)
    b'\x1ejmr!30\x1e\n1\x003\x00a.py\x00UserWarning: odd duck'
    """
    body = f"{n}\0{line}\0{path}\0{text}".encode(errors="backslashreplace")
    if len(body) > NOTICE_BYTES:
        body = body[:NOTICE_BYTES] + b" ..."
    return b"\x1ejmr!%d\x1e\n%b" % (len(body), body)


def read_notice(body: bytes) -> tuple[str, str, int, int]:
    r"""What a notice said: text, path, line and n. Whatever cannot be right is taken for text.

    Examples
    --------
    >>> read_notice(b"1\x003\x00a.py\x00UserWarning: odd duck"), read_notice(b"what?")
    (('UserWarning: odd duck', 'a.py', 3, 1), ('what?', '', 0, 1))
    """
    parts = body.decode(errors="backslashreplace").split("\0", 3)
    if len(parts) == 4 and all(part.isdecimal() and len(part) < 16 for part in parts[:2]):
        return parts[3], parts[2], int(parts[1]), int(parts[0])
    return " ".join(parts), "", 0, 1


class Allowance:
    """Bytes that may be passed on: a burst, and then so many a second."""

    def __init__(self, burst: int = _SHARED_BURST, per_second: int = _SHARED_BYTES_PER_SECOND) -> None:
        self._burst = burst
        self._per_second = per_second
        self._left = float(burst)
        self._last = 0.0

    def refill(self, now: float) -> None:
        """Add what time has brought."""
        self._left = min(self._burst, self._left + (now - self._last) * self._per_second)
        self._last = now

    def spend(self, n_bytes: int) -> bool:
        """Whether there is so much; then there is less."""
        if n_bytes > self._left:
            return False
        self._left -= n_bytes
        return True


class Tail:
    r"""The end of what a slot printed, of both streams as it came: one may tell later than the other of a new job.

    Examples
    --------
    >>> tail = Tail()
    >>> for job, lines in ((1, b"swan\n"), (2, b"duck\n" * 1_000), (1, b"swan\n"), (2, b"goose\n")):
    ...     tail.add(job, lines)
    >>> tail.of(2)[-12:], len(tail.of(2)) <= 2000, tail.of(1)
    (b'\nduck\ngoose\n', True, b'swan\n')
    """

    def __init__(self) -> None:
        self._parts: deque[tuple[int, bytes]] = deque()
        self._n_bytes = 0

    def add(self, job: int, lines: bytes) -> None:
        """Take whole lines."""
        part = lines[-TAIL_BYTES:]
        self._parts.append((job, part))
        self._n_bytes += len(part)
        while self._n_bytes - len(self._parts[0][1]) >= TAIL_BYTES:
            self._n_bytes -= len(self._parts.popleft()[1])

    def of(self, job: int) -> bytes:
        """What belongs to a job."""
        return b"".join(part for of, part in self._parts if of == job)[-TAIL_BYTES:]


class OutputReader:
    """One stream of one slot.

    Parameters
    ----------
    name
        The slot's.
    stream
        1 or 2.
    shared
        The allowance of all streams of the host.
    tail
        Gets every line of the slot's job, whether it is passed on or not; of all streams of the slot.
    """

    def __init__(self, name: str, stream: int, shared: Allowance, tail: Tail | None = None) -> None:
        self._name = name
        self._stream = stream
        self._own = Allowance(_OWN_BURST, _OWN_BYTES_PER_SECOND)
        self._shared = shared
        self._tail = Tail() if tail is None else tail
        #: Whose output comes now.
        self.job = 0
        #: A mark, or a notice, that has come in part.
        self._part = b""
        #: The line that has no end yet, and how much of it was cut.
        self._line = b""
        self._n_cut = 0
        #: What is passed on next, how many lines before it are not, and how many after it.
        self._passed: list[bytes] = []
        self._n_hidden_before = self._n_hidden = 0
        self._messages: list[Printed] = []

    def feed(self, data: bytes, now: float) -> list[Printed]:
        """Take bytes; give whole lines, and notices, that may be passed on."""
        self._own.refill(now)
        self._shared.refill(now)
        data, self._part = self._part + data, b""
        start = 0
        while found := _MARK.search(data, start):
            self._read(data[start : found.start()])
            start = found.end() + int(found[2] or 0)
            if start > len(data):
                self._part = data[found.start() :]
                return self._given()
            if found[1]:
                self._end_job()
                self.job = int(found[1])
            else:
                self._notice(data[found.end() : start])
        half = _HALF_MARK.search(data, max(start, len(data) - _MARK_BYTES))
        end = half.start() if half else len(data)
        self._read(data[start:end])
        self._part = data[end:]
        return self._given()

    def flush(self) -> list[Printed]:
        """Give what has no newline yet, and say how many lines were not passed on."""
        self._end_job()
        return self._given()

    def _given(self) -> list[Printed]:
        if self._passed:
            self._tell()
        given, self._messages = self._messages, []
        return given

    def _tell(self) -> None:
        text = b"".join(self._passed)
        self._messages.append(Printed(self.job, self._name, self._stream, self._n_hidden_before, blobs=[text]))
        self._passed = []
        self._n_hidden_before, self._n_hidden = self._n_hidden, 0

    def _end_job(self) -> None:
        part, self._part = self._part, b""
        self._read(part)
        if self._line or self._n_cut:
            self._pass(self._whole_line())
        while self._passed or self._n_hidden_before:
            self._tell()

    def _notice(self, body: bytes) -> None:
        if self._passed:
            self._tell()
        if self._spend(len(body)):
            self._messages.append(Printed(self.job, self._name, NOTICE, blobs=[body]))
        else:
            self._n_hidden_before += 1
        self._tail.add(self.job, read_notice(body)[0].encode(errors="backslashreplace") + b"\n")

    def _read(self, text: bytes) -> None:
        """Pass on the lines that end here, and keep what follows them."""
        first, newline, rest = text.partition(b"\n")
        self._grow(first)
        if newline:
            self._pass(self._whole_line())
            end = rest.rfind(b"\n") + 1
            if end:
                self._pass(_as_seen(rest[:end]))
            self._grow(rest[end:])

    def _grow(self, text: bytes) -> None:
        """Add to the line that has no end yet; what follows a carriage return takes the place of what was there."""
        line = self._line + text
        body = line.rstrip(b"\r")
        end = b"\r" if len(body) < len(line) else b""
        if start := body.rfind(b"\r") + 1:
            body, self._n_cut = body[start:], 0
        self._n_cut += max(0, len(body) - _LINE_BYTES)
        self._line = body[:_LINE_BYTES] + end

    def _whole_line(self) -> bytes:
        line, n_cut = self._line, self._n_cut
        self._line, self._n_cut = b"", 0
        return line.rstrip(b"\r") + _end_of(n_cut)

    def _pass(self, lines: bytes) -> None:
        """Pass on as many lines, from the first, as the allowances let through."""
        self._tail.add(self.job, lines)
        end = len(lines) if self._spend(len(lines)) else 0
        while (after := lines.find(b"\n", end) + 1) and self._spend(after - end):
            end = after
        if end:
            if self._n_hidden:
                self._tell()
            self._passed.append(lines[:end])
        n_hidden = lines.count(b"\n", end)
        if self._passed:
            self._n_hidden += n_hidden
        else:
            self._n_hidden_before += n_hidden

    def _spend(self, n_bytes: int) -> bool:
        return self._own.spend(n_bytes) or self._shared.spend(n_bytes)


def _as_seen(lines: bytes) -> bytes:
    """Lines as they look in the end: nothing that was written over, nothing too long."""
    if b"\r" not in lines and len(lines) <= _LINE_BYTES:
        return lines
    last = [line.rstrip(b"\r").rpartition(b"\r")[2] for line in lines.split(b"\n")[:-1]]
    return b"".join(line[:_LINE_BYTES] + _end_of(len(line) - _LINE_BYTES) for line in last)


def _end_of(n_cut: int) -> bytes:
    return b" ... (%d bytes more)\n" % n_cut if n_cut > 0 else b"\n"
