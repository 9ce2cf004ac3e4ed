"""What makes a job's functions large: the captured variables that most of their bytes come from.

    functions ──heaviest──> ("mapfn -> helper -> table", 52 MB), ...

Everything is pickled once more for that, so whoever asks has reason to: `dump_functions` gave a lot of bytes.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator

from jmr.codec.functions import children
from jmr.codec.values import byte_length, dump

__all__ = ["heaviest"]

#: What may hold data and other functions; everything else is data.
_FUNCTIONS = (types.FunctionType, types.MethodType, functools.partial)
#: How many functions deep a path may be: beyond, a helper counts as a whole.
_DEEPEST = 8


def heaviest(named: dict[str, Callable[..., object] | None], least_bytes: int, most: int = 3) -> list[tuple[str, int]]:
    """The largest of the objects that functions capture, each once: the path to it, and its pickled size in bytes.

    Parameters
    ----------
    named
        The functions, by the names that paths begin with.
    least_bytes
        What is smaller is left out.
    most
        So many at most.

    Examples
    --------
    >>> table = "x" * 1_000_000
    >>> def mapfn(key, value, table=table):
    ...     return [(key, table)]
    >>> [path for path, _ in heaviest({"mapfn": mapfn, "reducefn": len}, 1_000)]
    ['mapfn -> a default argument']
    """
    seen: set[int] = set()
    found = [item for name, function in named.items() for item in _data(name, function, least_bytes, seen)]
    return sorted(found, key=lambda item: -item[1])[:most]


def _data(path: str, obj: object, least_bytes: int, seen: set[int], depth: int = 0) -> Iterator[tuple[str, int]]:
    """What is not itself a function, in or below a function; nothing of one that travels by its name."""
    if id(obj) in seen or isinstance(obj, types.ModuleType | type):
        return
    seen.add(id(obj))
    n_bytes = _size(obj)
    if n_bytes < least_bytes:
        return
    if not isinstance(obj, _FUNCTIONS) or depth >= _DEEPEST:
        yield path, n_bytes
        return
    for label, child in children(obj):
        yield from _data(f"{path} -> {label}", child, least_bytes, seen, depth + 1)


def _size(obj: object) -> int:
    try:
        return byte_length(dump(obj))
    except Exception:  # it could be pickled with the others, and cannot alone
        return 0
