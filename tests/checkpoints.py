"""Jobs with checkpoints: records that are splits of their own, and calls of functions that are counted on disk."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from jmr.checkpoint.journal import Entry, read_journal

__all__ = ["Calls", "alone", "entries", "note", "value_of"]

#: A record that takes so many bytes, of an iterator that may overwrite it, is a split of its own.
_ALONE_BYTES = 1 << 20


def alone(records: Iterable[tuple[Any, int]]) -> Iterator[tuple[Any, bytearray]]:
    """Records, each of which becomes a split of its own: their values stand at the start of large ones."""
    for key, value in records:
        yield key, bytearray(value.to_bytes(8, "little").ljust(_ALONE_BYTES, b"\0"))


def value_of(large: bytearray) -> int:
    """The value that a record of `alone` was made of."""
    return int.from_bytes(large[:8], "little")


def note(path: str, what: object) -> None:
    """Add a line to a file, from any process."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, f"{what}\n".encode())
    os.close(descriptor)


class Calls:
    """What `note` wrote to a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def take(self) -> Counter[str]:
        """The lines since the last time, and how often each was there."""
        path = Path(self.path)
        found = Counter(path.read_text().split("\n")[:-1]) if path.exists() else Counter()
        path.unlink(missing_ok=True)
        return found


def entries(path: Path, kind: type[Entry]) -> list[Any]:
    """What the journal of a checkpoint has of one kind."""
    journal = path / "journal"
    found = read_journal(journal.read_bytes())[0] if journal.exists() else []
    return [entry for entry in found if isinstance(entry, kind)]
