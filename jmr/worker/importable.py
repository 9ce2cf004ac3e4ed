"""The names of all modules that the kernel could import, so that another host knows what it lacks.

    sys.path ──> each folder's entries ──┐
    sys.modules, built-in modules ───────┼──> names, without their packages' parts
    names in code ──> other finders ─────┘

On another host an import has failed: did it because that host lacks something, so that the attempt must run elsewhere,
or would it have failed here as well, and is a bad record? Which names are asked for, only the data may know. So what
travels is every name that would be found. Nothing is imported.
"""

from __future__ import annotations

import importlib.machinery
import os
import sys
import time
from collections.abc import Iterable
from itertools import islice

from jmr.worker.modules import CLOCK_SECONDS

__all__ = ["importable"]

_SUFFIXES = frozenset(importlib.machinery.all_suffixes())
_PYTHONS_OWN = (importlib.machinery.BuiltinImporter, importlib.machinery.FrozenImporter, importlib.machinery.PathFinder)
#: Of one folder.
_MOST_ENTRIES = 20_000


def importable(candidates: Iterable[str]) -> frozenset[str]:
    """Names of modules and packages that may be imported here, as far as they are no part of a package.

    Parameters
    ----------
    candidates
        What is also asked for where names cannot be listed: archives, and finders that some packages bring along.

    Returns
    -------
    Some hundreds of names. A folder's are listed again once its time has changed.
    """
    names = set(sys.builtin_module_names)
    names.update(name.partition(".")[0] for name in list(sys.modules))
    for entry in sys.path:
        names |= _names_in(entry or os.curdir)
    names.update(name for name in set(candidates) - names if _is_found_otherwise(name))
    return frozenset(names)


#: By path: a folder's time, and what can be imported from it.
_listed: dict[str, tuple[int, frozenset[str]]] = {}


def _names_in(folder: str) -> frozenset[str]:
    path = os.path.abspath(folder)
    try:
        stamp = os.stat(path).st_mtime_ns
        if path in _listed and _listed[path][0] == stamp:
            return _listed[path][1]
        with os.scandir(path) as entries:
            names = frozenset(_name_of(entry) for entry in islice(entries, _MOST_ENTRIES)) - {""}
    except (OSError, ValueError):  # it is gone, or an archive
        return frozenset()
    # Of what changes right now, the time may stay what it is.
    _listed[path] = (stamp if stamp < (time.time() - CLOCK_SECONDS) * 1e9 else -1), names
    return names


def _name_of(entry: os.DirEntry[str]) -> str:
    """What a file or a folder, with or without an __init__.py, is imported as; empty if it is not."""
    stem, dot, suffix = entry.name.partition(".")
    is_module = dot + suffix in _SUFFIXES if dot else entry.is_dir()
    return stem if is_module and stem.isidentifier() else ""


def _is_found_otherwise(name: str) -> bool:
    archives = [entry for entry in sys.path if os.path.isfile(entry)]
    try:
        if archives and importlib.machinery.PathFinder.find_spec(name, archives) is not None:
            return True
        return any(finder.find_spec(name, None) is not None for finder in sys.meta_path if finder not in _PYTHONS_OWN)
    except Exception:  # of somebody else's finder
        return False
