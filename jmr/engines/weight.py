"""Tells the user of functions that capture much: which variable it is, what that costs, and what to do instead.

    functions, their bytes ──remark──────> a note for the job's summary; at first a warning, at the user's line
                           ──told_weight─> what the warning says, for a preview

Loaded for large functions only.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from types import CodeType
from typing import Any

from jmr.codec.functions import children
from jmr.codec.weight import heaviest
from jmr.engines.base import Place
from jmr.progress.words import size

__all__ = ["remark", "told_weight"]

#: Of what they capture, this is worth a name.
_LEAST_BYTES = 1_000_000
_MOST_REMEMBERED = 100
#: So many functions tell jobs apart: those of the job, and the nearest of what they use.
_MOST_COMPARED = 50

Functions = dict[str, Callable[..., Any] | None]

#: Notes on functions that were looked at: it takes as long as pickling them.
_told: dict[object, str] = {}
_lock = threading.Lock()


def remark(functions: Functions, n_bytes: int, place: Place) -> str:
    """A note on functions of this pickled size; warns of the same ones once, at the place where they were called."""
    known = _identity(functions, n_bytes)
    with _lock:
        note = _told.get(known)
    if note is not None:
        return note
    found = heaviest(functions, _LEAST_BYTES)
    note = "; ".join(f"{path}: {size(n)} captured" for path, n in found) or f"functions of {size(n_bytes)}"
    with _lock:
        if len(_told) >= _MOST_REMEMBERED:
            _told.clear()
        _told[known] = note
    filename, line, module = place
    warnings.warn_explicit(_warning(found, n_bytes), UserWarning, filename, line, module)
    return note


def told_weight(functions: Functions, n_bytes: int) -> str:
    """What makes functions of this pickled size large, what that costs, and what to do instead."""
    return _warning(heaviest(functions, _LEAST_BYTES), n_bytes)


def _identity(functions: Functions, n_bytes: int) -> object:
    """The same for functions of a cell that has run again, unless they capture something else by now.

    Wrappers look alike, so it goes on to what they call: partials, decorators, objects with a `__call__`.
    """
    reached: list[object] = list(functions.values())
    seen: set[int] = set()
    parts: list[object] = [n_bytes // _LEAST_BYTES]
    for obj in reached:  # it grows meanwhile
        parts.append(_code(obj))
        for label, child in children(obj):
            parts.append(label)
            if (
                callable(child)
                and not isinstance(child, type)
                and id(child) not in seen
                and len(reached) < _MOST_COMPARED
            ):
                seen.add(id(child))
                reached.append(child)
    return tuple(parts)


def _code(obj: object) -> CodeType | type:
    """What it runs when it is called."""
    codes = (getattr(each, "__code__", None) for each in (obj, type(obj).__call__))
    return next((code for code in codes if isinstance(code, CodeType)), type(obj))


def _warning(found: list[tuple[str, int]], n_bytes: int) -> str:
    what = f"The job's functions take {size(n_bytes)} with what they capture"
    if found:
        what = ", ".join(f"{path} is {size(n)}" for path, n in found)
        what = f"{what}: captured by the job's functions"
    return (
        f"{what}, so it is pickled again for each job, and sent to each other host. Slots of one host share one copy. "
        "Where that takes too long: make it the source, or part of it; or load it inside the function, from a file "
        "that each host has; or keep it in a module that the function imports."
    )
