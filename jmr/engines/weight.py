"""Tells the user of functions that capture much: which variable it is, and what to do instead.

    functions, their bytes ──remark──> a note for the job's summary; at first a warning, at the user's line

Loaded for large functions only.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Callable
from types import CodeType
from typing import Any

from jmr.codec.weight import heaviest

__all__ = ["remark"]

#: Of what they capture, this is worth a name.
_LEAST_BYTES = 1_000_000
_MOST_REMEMBERED = 100
_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_IPYTHON = f"{os.sep}IPython{os.sep}core{os.sep}"

Functions = dict[str, Callable[..., Any] | None]

#: Notes on functions that were looked at: it takes as long as pickling them.
_told: dict[object, str] = {}
_lock = threading.Lock()


def remark(functions: Functions, n_bytes: int) -> str:
    """A note on functions of this pickled size; warns of the same ones once."""
    known = _identity(functions, n_bytes)
    with _lock:
        note = _told.get(known)
    if note is not None:
        return note
    found = heaviest(functions, _LEAST_BYTES)
    note = "; ".join(f"{path}: {_megabytes(size)} captured" for path, size in found)
    note = note or f"functions of {_megabytes(n_bytes)}"
    with _lock:
        if len(_told) >= _MOST_REMEMBERED:
            _told.clear()
        _told[known] = note
    warnings.warn(_warning(found, n_bytes), stacklevel=_users_level())
    return note


def _identity(functions: Functions, n_bytes: int) -> object:
    """The same for functions of a cell that has run again, unless they capture something else by now."""
    codes: list[CodeType | type] = [getattr(each, "__code__", type(each)) for each in functions.values()]
    return (*codes, n_bytes // _LEAST_BYTES)


def _warning(found: list[tuple[str, int]], n_bytes: int) -> str:
    what = f"The job's functions take {_megabytes(n_bytes)} with what they capture"
    if found:
        what = ", ".join(f"{path} is {_megabytes(size)}" for path, size in found)
        what = f"{what}: captured by the job's functions"
    return (
        f"{what}, so it is pickled again for each job, and sent to each other host. Slots of one host share one copy. "
        "Where that takes too long: make it the source, or part of it; or load it inside the function, from a file "
        "that each host has; or keep it in a module that the function imports."
    )


def _megabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.0f} MB"


def _users_level() -> int:
    """How far up the first frame is that is neither ours nor IPython's, as `warnings.warn` in the caller counts."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and _is_inside(frame.f_code.co_filename):
        level, frame = level + 1, frame.f_back
    return level


def _is_inside(filename: str) -> bool:
    return filename.startswith(_OURS) or _IPYTHON in filename
