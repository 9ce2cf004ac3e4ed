"""What a job has written, as the source of another: its keys and values are the records, read on the workers.

    manifest ──splits_of──> a split for each file; of a long file of lines, one for each stretch that begins a line

A stretch reads from the first line that begins in it to the end of the last one that does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from jmr.errors import SourceError
from jmr.sinks.base import PartError
from jmr.sinks.manifest import Manifest
from jmr.sinks.reading import read_file, seen_at
from jmr.sinks.sink import format_of
from jmr.sources.base import Columns, NotHereError, SetAside, Split
from jmr.urls import is_url, shown

__all__ = ["splits_of"]

#: Of a file of lines, a split reads about so much, if nobody wants another size.
_SPLIT_BYTES = 1 << 23
#: Longest stretch that is read at once to find where a line ends.
_LINE_BYTES = 1 << 16


def splits_of(place: str, manifest: Manifest, wanted: Callable[[], int | None]) -> Iterator[Split]:
    """The splits of an output, in the order of its files; `wanted` tells how long the next stretch should be.

    Raises
    ------
    SourceError
        The output has a format that this version does not know.
    """
    try:
        format_of(manifest.suffix)
    except ValueError as error:
        raise SourceError(f"{shown(place)!r} cannot be read: {error}") from None
    for part in manifest.parts:
        start, seen = 0, (part.n_bytes, seen_at(place, part.name)[1])
        while start < part.n_bytes:
            n_bytes = part.n_bytes if manifest.suffix != ".jsonl" else wanted() or _SPLIT_BYTES
            end = min(start + n_bytes, part.n_bytes)
            stretch = _Stretch(place, part.name, manifest.suffix, seen, start, end, n_bytes=end - start)
            yield _with_rows(stretch) if "memory://" in place else stretch
            start = end


def _with_rows(stretch: _Stretch) -> _Stretch:
    """What is in fsspec's memory is of this process alone, so its rows go along."""
    try:
        return stretch.carried()
    except Exception:  # who reads it will tell
        return stretch


@dataclass(frozen=True, slots=True)
class _Stretch(Split):
    """The rows of a file that begin at or after `start`, and before `end`."""

    #: May hold credentials.
    place: str = field(repr=False)
    name: str
    suffix: str
    #: The whole file's size, as it was written, and when it was changed, as the kernel sees it.
    seen: tuple[int, int]
    start: int
    end: int
    #: The rows themselves, for a worker that does not see the file.
    content: bytes | None = field(default=None, repr=False)
    n_bytes: int | None = None

    def read(self, set_aside: SetAside, /) -> Columns:
        """The rows: their keys and their values."""
        path = f"{shown(self.place)}/{self.name}"
        try:
            content = self._content() if self.content is None else self.content
            return format_of(self.suffix).decoded(content)
        except NotHereError:
            raise
        except PartError as error:
            set_aside(path, SourceError(str(error)))
        except Exception as error:  # each file system has errors of its own
            set_aside(path, error)
        return [], []

    def carried(self) -> _Stretch:
        """With its rows inside."""
        return self if self.content is not None else replace(self, content=self._content())

    def fingerprint(self) -> str:
        """Of where the rows lie, and when the file was changed: an output of that name may be another one by now."""
        return repr((self.place, self.name, self.seen, self.start, self.end))

    def _content(self) -> bytes:
        if not is_url(self.place) and seen_at(self.place, self.name) != self.seen:
            raise NotHereError(f"{self.place}/{self.name}", "the file is not there, or not as it was written")
        if self.suffix != ".jsonl":
            return read_file(self.place, self.name)
        start = 0 if not self.start else self._line_end(self.start - 1)
        return read_file(self.place, self.name, start, self._line_end(self.end - 1)) if start < self.end else b""

    def _line_end(self, at: int) -> int:
        """Where the line ends that the byte at `at` is of, its newline included."""
        while at < self.seen[0]:
            stretch = read_file(self.place, self.name, at, min(at + _LINE_BYTES, self.seen[0]))
            if (position := stretch.find(b"\n")) >= 0:
                return at + position + 1
            at += len(stretch) or self.seen[0]
        return self.seen[0]
