"""Some files, or ranges of large ones, as a split that is read on a worker.

    Part: (path, identity, range) ──Opener.open──> bytes ──decompressed──> ──decoded──> records
                                     └── not what the kernel saw: NotHereError; carried() has the bytes inside

What is wrong with one file is set aside with its path, and the other files are read.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from jmr.errors import SourceError
from jmr.sources.base import InColumns, Loaded, NotHereError, SetAside, Split, final_error
from jmr.sources.compression import MAGIC_BYTES, decompressed, kind_of
from jmr.sources.disk import Identity, Opener, OpenFile
from jmr.sources.lines import Cut, Joined, cut, lines_of
from jmr.sources.text import Text

if TYPE_CHECKING:
    from jmr.sources.urls import UrlFile

__all__ = ["OPEN_BYTES", "By", "FilesSplit", "How", "Part"]

By = Literal["file", "line", "bytes"]
#: What opening a file costs, in bytes of it.
OPEN_BYTES = 1 << 10
#: Files behind URLs that are read at the same time: each is waited for.
_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class How:
    """What becomes of a file's bytes."""

    by: By
    text: Text
    #: Whether to decompress what is compressed.
    infers: bool
    block_bytes: int

    @property
    def newline(self) -> str | None:
        """What ends a line."""
        return "\n" if self.text.encoding is None else self.text.newline


@dataclass(frozen=True, slots=True)
class Part:
    """A file, or the lines or blocks that begin in a range of one."""

    path: str
    #: None where the kernel could not look at it; then it has an error.
    identity: Identity | None
    start: int = 0
    #: None: all of it.
    end: int | None = None
    error: OSError | None = None
    #: Where the path is a URL: what opens that.
    url: UrlFile | None = None

    @property
    def n_bytes(self) -> int:
        """What it weighs, with the opening."""
        size = 0 if self.identity is None else self.identity[0]
        return OPEN_BYTES + (size if self.end is None else self.end - self.start)


@dataclass(frozen=True, slots=True)
class FilesSplit(Split):
    """Some files, or a part of one."""

    opener: Opener
    how: How
    parts: tuple[Part, ...]
    #: Of each part what was read of it, or why it could not be; None: it is to be opened.
    contents: tuple[Cut | Exception, ...] | None = None

    @property
    def n_bytes(self) -> int:  # type: ignore[override]
        """See `Split`."""
        return sum(part.n_bytes for part in self.parts)

    def read(self, set_aside: SetAside, /) -> Loaded:
        """See `Split`. What is wrong with one file is no matter of the others."""
        fetched = self._fetched()
        return fetched._whole_files(set_aside) if self.how.by == "file" else fetched._in_order(set_aside)

    def _in_order(self, set_aside: SetAside) -> Loaded:
        loaded: list[Loaded] = []

        def counted(key: Any, error: Exception, n_before: int = 0, /) -> None:
            set_aside(key, error, sum(map(len, loaded)) + n_before)  # to count lines takes time, and few are bad

        for index, part in enumerate(self.parts):
            try:
                where = self._decompressed(index)
            except (OSError, NotHereError, SourceError) as error:
                counted(part.path, error)
                continue
            if self.how.by == "line":
                loaded.append(lines_of(part.path, where, self.how.text, counted))
            else:
                loaded.append(_blocks(part.path, where, self.how.block_bytes))
        return loaded[0] if len(loaded) == 1 else Joined(loaded)

    def _whole_files(self, set_aside: SetAside) -> Loaded:
        found = InColumns([], [])
        for index, part in enumerate(self.parts):
            try:
                content = self.how.text.whole(self._decompressed(index).content)
            except (OSError, NotHereError, SourceError) as error:
                set_aside(part.path, error, len(found))
            else:
                found.keys.append(part.path)
                found.values.append(content)
        return found

    def carried(self) -> Split:
        """See `Split`."""
        fetched = self._fetched()
        return replace(self, contents=tuple(map(fetched._carried, range(len(self.parts)))))

    def _fetched(self) -> FilesSplit:
        """With what lies behind URLs inside, if there are several."""
        if self.contents is not None or len(self.parts) < 2 or all(part.url is None for part in self.parts):
            return self
        from concurrent.futures import ThreadPoolExecutor  # few jobs need it

        threads = ThreadPoolExecutor(min(_AT_ONCE, len(self.parts)), "jmr-urls")
        try:
            return replace(self, contents=tuple(threads.map(self._tried, range(len(self.parts)))))
        finally:
            threads.shutdown(cancel_futures=True)

    def _tried(self, index: int) -> Cut | Exception:
        try:
            return self._content(index)
        except (OSError, NotHereError) as error:
            return error

    def _carried(self, index: int) -> Cut | Exception:
        try:
            where = self._content(index)
        except (OSError, NotHereError) as error:
            final = final_error(error)
            return SourceError(str(final)) if isinstance(final, NotHereError) else final
        return Cut.whole(where.content, where.offset)

    def fingerprint(self) -> str:
        """See `Split`."""
        if any(part.error is not None for part in self.parts):
            return ""
        paths = [part.path if part.url is not None else self.opener.whole(part.path) for part in self.parts]
        told = repr((paths, self.how, self.parts))
        return hashlib.blake2b(told.encode(errors="surrogateescape"), digest_size=16).hexdigest()

    def _content(self, index: int) -> Cut:
        if self.contents is not None:
            content = self.contents[index]
            if isinstance(content, Exception):
                raise content.with_traceback(None)  # it is kept: not with the frames of each time
            return content
        part = self.parts[index]
        if part.error is not None:
            raise part.error.with_traceback(None)
        try:
            with contextlib.closing((part.url or self.opener).open(part.path)) as file:
                where = self._cut(file, part)
                identity = file.identity()  # now: it may have been changed while it was read
        except OSError as error:
            raise NotHereError(part.path, error.strerror or str(error)) from error
        if identity != part.identity:
            raise NotHereError(part.path, _told_change(part.identity, identity))
        return where

    def _cut(self, file: OpenFile, part: Part) -> Cut:
        if part.end is None:
            return Cut.whole(file.read(0, None))
        if self.how.by == "line":
            assert part.identity is not None
            return cut(file.read, part.start, part.end, part.identity[0], self.how.newline)
        return Cut.whole(file.read(part.start, part.end), part.start)

    def _decompressed(self, index: int) -> Cut:
        where = self._content(index)
        if self.parts[index].end is not None or not self.how.infers:
            return where
        kind = kind_of(where.data[:MAGIC_BYTES])
        return where if kind is None else Cut.whole(decompressed(where.content, kind))


def _blocks(path: str, where: Cut, n_bytes: int) -> Loaded:
    content = where.content
    places = range(0, len(content), n_bytes)
    return InColumns([(path, where.offset + at) for at in places], [content[at : at + n_bytes] for at in places])


def _told_change(before: Identity | None, now: Identity) -> str:
    assert before is not None
    if before[0] == now[0]:
        return "it was written to since the job listed it"
    return f"it is not as it was when the job listed it: {now[0]:,} bytes instead of {before[0]:,}"
