r"""Bytes of a file to its lines, exactly as `open` would give them, with the place of each.

    a range ──cut──> Cut: the bytes of the lines that begin in it ──lines_of──> Loaded: ((path, offset), line) ...

A line belongs to the range that its first byte lies in; so ranges that cover a file give each line once, however long
lines are. Lines end as for `open`: newline=None means "\n", "\r" or "\r\n", all of which become "\n"; "" the same, left
as they are; or one of these alone. Where bytes stay bytes, lines end with "\n".

What can be done in C is: no Python of ours runs for a single line. Lines are made some hundred at a time, on the way to
who takes them: so they are in the processor's cache, and a split takes little more memory than its bytes. Pure.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, repeat
from typing import Any, AnyStr

from jmr.errors import SourceError
from jmr.sources.base import InColumns, Loaded, SetAside
from jmr.sources.text import Text, encoding_at, translated

__all__ = ["Cut", "Joined", "cut", "lines_of"]

#: Lines are made of so many bytes at a time.
_AT_ONCE_BYTES = 1 << 16
#: What is read at first beyond a range, to find the end of its last line; more if that is not enough.
_TAIL_BYTES = 1 << 12
_ANY_END = re.compile(rb"\r\n|\r|\n")
#: What `str.splitlines` takes for line ends, and `open` does not: in plain encodings, and once decoded.
_OTHER_ENDS, _OTHER_WIDE_ENDS = (b"\x0b", b"\x0c", b"\x1c", b"\x1d", b"\x1e"), "\x85\u2028\u2029"
_ANY_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")


@dataclass(frozen=True, slots=True)
class Cut:
    """Some bytes of a file."""

    data: bytes
    #: What of them is meant.
    first: int
    stop: int
    #: Where `data` begin in the file.
    base: int = 0

    @classmethod
    def whole(cls, data: bytes, base: int = 0) -> Cut:
        """All of these."""
        return cls(data, 0, len(data), base)

    @property
    def offset(self) -> int:
        """Where that begins in the file."""
        return self.base + self.first

    @property
    def content(self) -> bytes:
        """That, and nothing else."""
        return self.data if self.first == 0 and self.stop == len(self.data) else self.data[self.first : self.stop]


def cut(read: Callable[[int, int], bytes], start: int, end: int, size: int, newline: str | None) -> Cut:
    """Read the lines that begin in a range.

    Parameters
    ----------
    read
        Gives the bytes from one offset to another, or fewer if the file is shorter by now.
    start, end
        The range.
    size
        Of the file.
    newline
        As for `open`; for bytes, a single line feed.
    """
    ending = _ANY_END if not newline else re.compile(re.escape(newline.encode()))
    width = len(newline) if newline else 1
    base = max(0, start - width)
    data = read(base, min(size, end + _TAIL_BYTES))
    first = 0 if not start else _line_start(ending, data, 0, start - base)
    if first is None or base + first >= end:
        return Cut(b"", 0, 0, end)
    n_more = _TAIL_BYTES
    while True:
        stop = _line_start(ending, data, max(0, end - base - width), end - base)
        at = base + len(data)
        is_sure = stop is not None and not (stop == len(data) and data.endswith(b"\r"))  # a line feed may follow
        if is_sure or at >= size:
            break
        n_more = max(2 * n_more, len(data))
        more = read(at, min(size, at + n_more))
        if not more:
            break
        data += more
    return Cut(data, first, len(data) if stop is None else stop, base)


def _line_start(ending: re.Pattern[bytes], data: bytes, at: int, least: int) -> int | None:
    """Where the first line begins at `least` or behind it; None if that is not in the data."""
    for found in ending.finditer(data, at):
        if found.end() >= least:
            return found.end()
    return None


@dataclass(frozen=True, slots=True)
class Joined:
    """Several as one."""

    parts: Sequence[Loaded]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def pairs(self) -> Iterator[tuple[Any, Any]]:
        """See `Loaded`."""
        return chain.from_iterable(part.pairs() for part in self.parts)


def lines_of(path: str, where: Cut, text: Text, set_aside: SetAside) -> Loaded:
    """Lines, each with (path, offset).

    Parameters
    ----------
    path
        For the keys.
    where
        What `cut` gave; or a whole file, where the encoding is not plain.
    text
        How to decode them.
    set_aside
        Given the key of a line that cannot be decoded; of a file, the path, where the encoding is not plain.
    """
    if where.first == where.stop:
        return InColumns([], [])
    if text.encoding is not None and not text.is_plain:
        return _lines_of_text(path, where, text, set_aside)
    if text.encoding is None or (text.newline in (None, "", "\n") and _is_valid(where, text)):
        return _Lines(path, where, text)
    return _lines_apart(path, where, text, set_aside)


def _is_valid(where: Cut, text: Text) -> bool:
    """Whether all of it can be decoded, strictly, to something."""
    assert text.encoding is not None
    if where.data.isascii():
        return True
    try:
        return bool(str(memoryview(where.data)[where.first : where.stop], encoding_at(text.encoding, where.offset)))
    except UnicodeError:
        return False


class _Lines:
    """Lines that can be decoded, made when they are wanted."""

    def __init__(self, path: str, where: Cut, text: Text) -> None:
        self._path = path
        self._where = where
        self._text = text
        #: Whether `splitlines` would find lines that are none.
        self._has_others = text.encoding is not None and any(end in where.data for end in _OTHER_ENDS)
        #: Known when they have all been made: to count them apart takes a fifth as long.
        self._n_lines: int | None = None

    def __len__(self) -> int:
        if self._n_lines is None:
            self._n_lines = self._counted()
        return self._n_lines

    def _counted(self) -> int:
        data, place = self._where.data, (self._where.first, self._where.stop)
        n_lines, last = data.count(b"\n", *place), data[self._where.stop - 1]
        is_universal = self._text.encoding is not None and self._text.newline != "\n"
        if not is_universal or data.find(b"\r", *place) < 0:
            return n_lines + (last not in b"\n")
        return n_lines + data.count(b"\r", *place) - data.count(b"\r\n", *place) + (last not in b"\r\n")

    def pairs(self) -> Iterator[tuple[Any, Any]]:
        """See `Loaded`."""
        return chain.from_iterable(self._runs())

    def _runs(self) -> Iterator[Iterator[tuple[Any, Any]]]:
        data, at, stop, base = self._where.data, self._where.first, self._where.stop, self._where.base
        n_lines = 0
        while at < stop:
            end = data.find(b"\n", min(at + _AT_ONCE_BYTES, stop), stop) + 1 or stop
            lines, lengths = self._made(data[at:end], base + at)
            # The last of these offsets is that of the next run: `repeat` ends before it.
            keys = zip(repeat(self._path, len(lines)), accumulate(lengths, initial=base + at), strict=False)
            yield zip(keys, lines, strict=False)
            n_lines += len(lines)
            at = end
        self._n_lines = n_lines

    def _made(self, run: bytes, offset: int) -> tuple[Sequence[Any], Iterable[int]]:
        """Lines, and how long they are in the file."""
        encoding, newline = self._text.encoding, self._text.newline
        has_returns = b"\r" in run
        if encoding is None:
            lines = _kept(run, b"\n") if has_returns else run.splitlines(keepends=True)
            return lines, map(len, lines)
        text = run.decode(encoding_at(encoding, offset))
        if not has_returns:
            made = self._split(text)
            return made, map(len, made if run.isascii() else run.splitlines(keepends=True))
        if newline == "\n":
            return _kept(text, "\n"), map(len, _kept(run, b"\n"))
        made = self._split(translated(text)) if newline is None else _ANY_LINE.findall(text)
        return made, map(len, run.splitlines(keepends=True))

    def _split(self, text: str) -> list[str]:
        if self._has_others or (not text.isascii() and any(end in text for end in _OTHER_WIDE_ENDS)):
            return _kept(text, "\n")
        return text.splitlines(keepends=True)


def _kept(text: AnyStr, end: AnyStr) -> list[AnyStr]:
    """Lines with this end, and perhaps one without."""
    parts = text.split(end)
    kept: list[AnyStr] = [part + end for part in parts[:-1]]
    return kept + parts[-1:] if parts[-1] else kept


def _raw_lines(data: bytes, newline: str | None) -> list[bytes]:
    return _kept(data, newline.encode()) if newline else data.splitlines(keepends=True)


def _lines_apart(path: str, where: Cut, text: Text, set_aside: SetAside) -> Loaded:
    """One by one: some cannot be decoded, or not strictly."""
    keys: list[Any] = []
    values: list[Any] = []
    at = where.offset
    for raw in _raw_lines(where.content, text.newline):
        try:
            line = text.decoded(raw, at)
        except SourceError as error:
            set_aside((path, at), error, len(keys))
        else:
            if line:  # else nothing was left of the last one
                keys.append((path, at))
                values.append(translated(line) if text.newline is None else line)
        at += len(raw)
    return InColumns(keys, values)


def _lines_of_text(path: str, where: Cut, text: Text, set_aside: SetAside) -> Loaded:
    """Of a whole file that can only be decoded as one; how long its lines are there, encoding them tells."""
    try:
        whole = text.decoded(where.content)
    except SourceError as error:
        set_aside(path, error)
        return InColumns([], [])
    lines = _kept(whole, text.newline) if text.newline else _ANY_LINE.findall(whole)
    lengths = accumulate(_lengths(where.content, lines, text), initial=0)
    keys: list[Any] = list(zip(repeat(path, len(lines)), lengths, strict=False))
    return InColumns(keys, [translated(line) for line in lines] if text.newline is None else lines)


def _lengths(data: bytes, lines: list[str], text: Text) -> Iterator[int]:
    """In bytes; a mark at the beginning is part of the first line."""
    assert text.encoding is not None
    name, mark = text.encoding, 0
    if name in ("utf-16", "utf-32"):
        wide = name == "utf-32"
        little, big = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE) if wide else (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        native = codecs.BOM_UTF32 if wide else codecs.BOM_UTF16
        is_big = data.startswith(big) or (not data.startswith(little) and native == big)
        mark = len(little) if data.startswith((little, big)) else 0
        name += "-be" if is_big else "-le"
    errors = text.errors if text.errors.startswith("surrogate") else "replace"
    encoder = codecs.getincrementalencoder(name)(errors)
    for line in lines:
        yield mark + len(encoder.encode(line))
        mark = 0
