r"""The journal of a checkpoint: a file of lines, each with a checksum, that only grows.

    entries ──line_of──> "1c291ca3 {...}\n" ──append──> the file ──read_journal──> entries, and what was wrong

The first line is the header. A line is written at once, by one system call, so a kernel that is killed leaves a torn
line at most. Each line stands for itself: one that is damaged costs what it tells, and no other is doubted. Nothing
waits for the disk: what a process has written outlives it, in the system's memory; a power cut may cost the last
seconds, and checksums tell.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

__all__ = [
    "FORMAT",
    "Blob",
    "Cut",
    "Ended",
    "Entry",
    "Header",
    "Journal",
    "KeptClass",
    "KeptMap",
    "KeptResult",
    "Run",
    "line_of",
    "read_journal",
    "write_journal",
]

#: Of the directory and all in it. Another one is not read, and what it kept is done again.
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Blob:
    """A file of the checkpoint with one thing in it."""

    #: Below the checkpoint's directory.
    path: str
    n_bytes: int
    crc: int


@dataclass(frozen=True, slots=True)
class Header:
    """The first line."""

    KIND: ClassVar[str] = "jmr checkpoint"
    format: int
    #: "3.13": what one minor version has pickled is not given to another.
    python: str


@dataclass(frozen=True, slots=True)
class Run:
    """A job has begun here; what follows is its own, up to the next one."""

    KIND: ClassVar[str] = "run"
    number: int
    name: str
    #: In seconds since the epoch.
    began: float
    n_partitions: int
    #: Of all that its map tasks depend on beside their splits.
    mapping: str

    @property
    def directory(self) -> str:
        """Where its files lie, below the checkpoint's directory."""
        return f"run-{self.number}"


@dataclass(frozen=True, slots=True)
class KeptClass:
    """A class that travels by value, and the identity by which it is known in what was kept."""

    KIND: ClassVar[str] = "class"
    module: str
    qualname: str
    #: A fingerprint of what it is.
    digest: str
    identity: str


@dataclass(frozen=True, slots=True)
class Cut:
    """The run's next split ends with the source's record of this number, counted from 1."""

    KIND: ClassVar[str] = "cut"
    end: int


@dataclass(frozen=True, slots=True)
class KeptMap:
    """What a map task has left."""

    KIND: ClassVar[str] = "map"
    #: Of all that it depends on.
    key: str
    #: Its output's file, below the checkpoint's directory.
    path: str
    #: The fields of the slot's answer, but for its path and blobs.
    done: dict[str, Any]
    #: What it set aside.
    failures: Blob | None = None
    #: Identities of classes, of which there may be instances in it: see `KeptClass`.
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KeptResult:
    """What a reduce task has given."""

    KIND: ClassVar[str] = "result"
    key: str
    #: Those that it has reduced.
    partitions: tuple[int, ...]
    blob: Blob
    failures: Blob | None = None
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ended:
    """The run has given its result, and what only earlier ones had kept was removed."""

    KIND: ClassVar[str] = "ended"


Entry = Header | Run | KeptClass | Cut | KeptMap | KeptResult | Ended
_KINDS: dict[str, type[Entry]] = {kind.KIND: kind for kind in (Header, Run, KeptClass, Cut, KeptMap, KeptResult, Ended)}


def line_of(entry: Entry) -> bytes:
    r"""An entry as a line.

    Examples
    --------
    >>> line_of(Cut(7))
    b'3e14cda7 {"kind":"cut","end":7}\n'
    """
    text = json.dumps({"kind": entry.KIND} | asdict(entry), separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def read_journal(content: bytes) -> tuple[list[Entry], int]:
    r"""The entries of a journal, and how many lines could not be believed.

    Examples
    --------
    >>> read_journal(line_of(Cut(7)) + line_of(Cut(9)).replace(b"9", b"8") + line_of(Ended())[:-5])
    ([Cut(end=7)], 2)
    """
    lines = [line for line in content.splitlines(keepends=True) if line != b"\n"]
    entries = [entry for line in lines if (entry := _entry_of(line)) is not None]
    return entries, len(lines) - len(entries)


def _entry_of(line: bytes) -> Entry | None:
    crc, _, text = line[:-1].partition(b" ")
    if not line.endswith(b"\n") or crc != b"%08x" % zlib.crc32(text):
        return None
    try:
        fields = json.loads(text)
        kind = _KINDS[fields.pop("kind")]
        for name in ("blob", "failures"):
            if fields.get(name) is not None:
                fields[name] = Blob(**fields[name])
        for name in fields.keys() & {"partitions", "classes"}:
            fields[name] = tuple(fields[name])
        return kind(**fields)
    except (ValueError, KeyError, TypeError, AttributeError):  # another format's
        return None


def write_journal(path: str, entries: Iterable[Entry]) -> None:
    """Put a whole journal in the place of another, if there is one. Raises OSError, and leaves that as it is."""
    new = f"{path}.new"
    try:
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.writelines(map(line_of, entries))
            file.flush()
            os.fsync(file.fileno())  # else a power cut might leave the new name and nothing in it
        os.replace(new, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise


class Journal:
    """A journal to write behind; for several threads."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._lock = threading.Lock()
        self._is_torn = False

    def append(self, entry: Entry) -> None:
        """Put an entry behind the others. Raises OSError where the disk is full, say."""
        line = line_of(entry)
        with self._lock:
            rest = b"\n" + line if self._is_torn else line  # what was torn must not spoil this one
            self._is_torn = True
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            self._is_torn = False

    def close(self) -> None:
        """Write no more; harmless the second time."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1
