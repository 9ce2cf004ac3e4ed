"""A split for a worker that does not see what it reads.

blob of a split ──carried──> blob of the same with that inside, read here
                        └──> or of one that says why it cannot be read here, either
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Any

from jmr.codec.failures import Raised, raised_from, rebuild
from jmr.codec.values import Buffer
from jmr.sources.base import Columns, InColumns, Loaded, NotHereError, SetAside, Split, dump_split, load_split

__all__ = ["carried"]


def carried(blob: Buffer) -> list[Buffer]:
    """Read what a split reads, in the kernel, where its blob was made. One of records stays as it is."""
    split = load_split(blob)
    if isinstance(split, InColumns):
        return [blob]
    try:
        return dump_split(_Carried(split.carried()))
    except Exception as error:  # reading runs the source's own code
        path = error.path if isinstance(error, NotHereError) else None
        return dump_split(_Unreadable(path, raised_from(_final(error))))


@dataclass(frozen=True)
class _Carried(Split):
    """Has inside what it reads: that it is not here is the last word."""

    split: Split

    def read(self, set_aside: SetAside, /) -> Columns | Loaded:
        def told(key: Any, error: Exception, n_before: int = 0, /) -> None:
            set_aside(key, _final(error), n_before)

        try:
            return self.split.read(told)
        except NotHereError as error:
            set_aside(error.path, _final(error))
            return [], []


@dataclass(frozen=True)
class _Unreadable(Split):
    """Cannot be read by the kernel."""

    #: None where it is not known what is missing.
    path: Any
    why: Raised

    def read(self, set_aside: SetAside, /) -> Columns:
        error = rebuild(self.why)
        if self.path is None or not isinstance(error, Exception):
            raise error
        set_aside(self.path, error)
        return [], []


def _final(error: Exception) -> Exception:
    """Nobody else can be asked."""
    return FileNotFoundError(errno.ENOENT, error.why, error.path) if isinstance(error, NotHereError) else error
