"""jmr.files: whole files, lines or blocks of bytes, read where they are mapped.

    jmr.files("logs/*.txt", by="line") ──listed──> Files ──sized_splits──> FilesSplit, FilesSplit, ... ──> workers

Many small files make one split; a large one is cut, unless it is compressed, or its encoding does not allow that. Here
files are listed and looked at; only of large ones the first bytes are read.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from jmr.errors import ArgumentTypeError, ArgumentValueError, describe
from jmr.sources.base import Split
from jmr.sources.compression import MAGIC_BYTES, kind_of
from jmr.sources.disk import Disk, Opener
from jmr.sources.listing import listed
from jmr.sources.parts import OPEN_BYTES, By, FilesSplit, How, Part
from jmr.sources.text import Text

if TYPE_CHECKING:
    from jmr.sources.urls import UrlFile

__all__ = ["Files", "files"]

#: Most bytes of a split; and of one whose size nobody has asked for: a part of all, so that a small directory keeps
#: some slots busy.
_MOST_BYTES, _USUAL_MOST_BYTES, _USUAL_LEAST_BYTES, _USUAL_PARTS = 1 << 23, 1 << 21, 1 << 16, 64
#: Fewest bytes of lines that are worth a split: the first tell what a line takes.
_LEAST_LINE_BYTES = 1 << 9
_MOST_BLOCK_BYTES = 1 << 30


@dataclass(frozen=True, repr=False)
class Files:
    """A source of files; made by `jmr.files`."""

    opener: Opener
    how: How
    #: Their paths, and about how large each is.
    found: list[tuple[str, int | None]]
    #: Those of them that lie behind URLs.
    urls: dict[str, UrlFile] = field(default_factory=dict)
    #: Most bytes of a split.
    most_bytes: int = _MOST_BYTES
    n_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_bytes", sum(OPEN_BYTES + (size or 0) for _, size in self.found))

    def __repr__(self) -> str:
        n_files = len(self.found)
        size = sum(size or 0 for _, size in self.found)
        return f"<jmr.files: {n_files:,} file{'' if n_files == 1 else 's'}, {size:,} bytes, by {self.how.by}>"

    def splits(self) -> Iterator[Split]:
        """See `Source`."""
        return self.sized_splits(lambda: None)

    def sized_splits(self, wanted: Callable[[], int | None]) -> Iterator[Split]:
        """See `Source`."""
        packing = _Packing(self, wanted)
        for path, _ in self.found:
            yield from packing.add(path)
        yield from packing.rest()

    def limit(self, wanted: int | None) -> int:
        """How many bytes the next split may have."""
        if wanted is None:  # by a power of two: a file more must not cut all others elsewhere
            part = 1 << (self.n_bytes // _USUAL_PARTS).bit_length()
            wanted = max(_USUAL_LEAST_BYTES, min(_USUAL_MOST_BYTES, part))
        return min(max(wanted, self.least_bytes), self.most_bytes)

    @property
    def least_bytes(self) -> int:
        """Less is not worth a split."""
        least = {"file": 1, "line": _LEAST_LINE_BYTES, "bytes": self.how.block_bytes}[self.how.by]
        return min(least, self.most_bytes)


class _Packing:
    """Puts files, and parts of large ones, into splits."""

    def __init__(self, source: Files, wanted: Callable[[], int | None]) -> None:
        self._source = source
        self._wanted = wanted
        self._parts: list[Part] = []
        #: Bytes that the next split may still have; None before its limit was asked for.
        self._left: int | None = None

    def add(self, path: str) -> Iterator[Split]:
        """Take one more file."""
        part = self._looked_at(path)
        if part.n_bytes > self._room():
            if self._is_cut(part):
                yield from self._add_in_pieces(part)
                return
            if self._parts:
                yield self._taken()
        self._put(part, part.n_bytes)
        if self._is_full():
            yield self._taken()

    def rest(self) -> Iterator[Split]:
        """What is left."""
        if self._parts:
            yield self._taken()

    def _add_in_pieces(self, part: Part) -> Iterator[Split]:
        assert part.identity is not None
        size, at = part.identity[0], 0
        while at < size:
            end = min(size, at + self._step())
            self._put(replace(part, start=at, end=end), end - at)
            at = end
            if self._is_full():
                yield self._taken()

    def _looked_at(self, path: str) -> Part:
        url = self._source.urls.get(path)
        try:
            return Part(path, (url or self._source.opener).look(path), url=url)
        except OSError as error:
            return Part(path, None, error=error)

    def _is_cut(self, part: Part) -> bool:
        """Whether it may be read from the middle; a look at its first bytes may be needed to tell."""
        how = self._source.how
        if how.by == "file" or part.identity is None or (how.by == "line" and not how.text.is_plain):
            return False
        try:
            if part.url is not None and not part.url.has_ranges():
                return False
            if not how.infers:
                return True
            with contextlib.closing((part.url or self._source.opener).open(part.path)) as file:
                return kind_of(file.read(0, MAGIC_BYTES)) is None
        except OSError:  # who reads it will tell
            return False

    def _room(self) -> int:
        if self._left is None:
            self._left = self._source.limit(self._wanted())
        return self._left

    def _step(self) -> int:
        if self._source.how.by == "line":
            return max(1, self._room())
        block = self._source.how.block_bytes
        return max(1, self._room() // block) * block

    def _put(self, part: Part, n_bytes: int) -> None:
        self._left = self._room() - n_bytes
        self._parts.append(part)

    def _is_full(self) -> bool:
        return self._room() < self._source.least_bytes

    def _taken(self) -> Split:
        split = FilesSplit(self._source.opener, self._source.how, tuple(self._parts))
        is_only_here = any(part.url is not None and part.url.is_of_this_process for part in self._parts)
        self._parts, self._left = [], None
        return split.carried() if is_only_here else split


def files(
    paths: Any,
    *,
    by: By = "file",
    encoding: str | None = "utf-8",
    errors: str = "strict",
    newline: str | None = None,
    compression: Literal["infer"] | None = "infer",
    block_bytes: int = 1 << 20,
    storage_options: Mapping[str, Any] | None = None,
) -> Files:
    r"""A source that reads files where they are mapped: whole, line by line, or in blocks of bytes.

    Which files there are is found out at once, and that there is at least one. They are opened by the workers, so what
    is in them never passes through this process, and a large file is read by many of them at the same time. A file that
    is changed while it is read, here or there, is an error: a result must not mix two states of it.

    Parameters
    ----------
    paths
        A pattern ("logs/*.txt", "src/**/*.py", "~/notes"), a path (str or Path), or a list of these. The files of each
        pattern are sorted by name; a directory means all files in it and below it. Patterns and directories leave out
        names that begin with a dot. A path in a list that is not there is told when its turn comes: `on_error="skip"`
        sets it aside. A path may be a URL ("s3://bucket/logs/*.gz", "https://..."): see below.
    by
        "file": a record is (path, all of the file), as `open(path).read()` gives it. "line": ((path, offset), line),
        line by line as `for line in open(path)` gives them, so with the line end; the offset counts the bytes before
        the line. "bytes": ((path, offset), block), blocks of `block_bytes`, the last one shorter.
    encoding, errors, newline
        As for `open`; but the encoding is UTF-8 unless said otherwise. With encoding=None, files and lines are bytes,
        and lines end with b"\n".
    compression
        "infer": files that begin as gzip, bz2, xz or zstd do are decompressed, whatever their names are; offsets count
        the bytes of what they hold. Such a file is read by one worker, into its memory, and so is UTF-16, UTF-32 and
        any other encoding in which a line end may be a part of something else. None: they are read as they are.
    block_bytes
        Of a block, for by="bytes".
    storage_options
        For URLs: what their file system wants to know, such as `{"anon": True}`.

    Returns
    -------
    A source for `jmr.run`, as often as you like. A key has the path as it was given or found.

    Raises
    ------
    ArgumentTypeError, ArgumentValueError
        An option makes no sense.
    SourceError
        At once: a pattern or a path leads to no file. While a job runs: a file is gone, or may not be read, or was
        changed; a byte is no text in this encoding; compressed data are damaged. With `on_error="skip"` that file, or
        that line, is set aside in `result.errors` with phase "read".

    Notes
    -----
    URLs are read through fsspec (pip install "jmr[fs]"), which knows what they mean, patterns and directories too; each
    worker reads its own splits, and needs that as well. Size and version (ETag, time, checksum) of a file are those of
    when this function was called. What a web server cannot send in parts, or does not know the size of, is not cut.
    "memory://" is of this process alone, so its bytes are sent. Keys, like all that is shown, have URLs without
    passwords and signatures.

    A worker on another host that does not see the same file (size, time) by a path is sent its bytes.

    Examples
    --------
    >>> import jmr, tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = pathlib.Path(folder, "a.txt").write_text("the cat\nthe dog\n")
    ...     _ = pathlib.Path(folder, "b.txt").write_text("the end\n")
    ...     def mapfn(place, line):
    ...         for word in line.split():
    ...             yield word, 1
    ...     source = jmr.files(f"{folder}/*.txt", by="line")
    ...     jmr.run(source, mapfn, lambda word, counts: sum(counts), engine="inline")
    {'the': 3, 'cat': 1, 'dog': 1, 'end': 1}
    """
    __tracebackhide__ = True
    if by not in ("file", "line", "bytes"):
        raise ArgumentValueError(f'by must be "file", "line" or "bytes", not {describe(by)}')
    if compression not in ("infer", None):
        raise ArgumentValueError(f'compression must be "infer" or None, not {describe(compression)}')
    if isinstance(block_bytes, bool) or not isinstance(block_bytes, int):
        raise ArgumentTypeError(f"block_bytes must be a whole number, not {describe(block_bytes)}")
    if not 1 <= block_bytes <= _MOST_BLOCK_BYTES:
        raise ArgumentValueError(f"block_bytes must be from 1 to {_MOST_BLOCK_BYTES:,}, not {block_bytes}")
    how = How(by, Text.checked(encoding, errors, newline), compression is not None, block_bytes)
    found, urls = listed(paths, storage_options)
    return Files(Disk(os.getcwd()), how, found, urls)
