"""Modules that lie beside a task file: importable while it runs, as they are beside a script.

    enter ──> its directory is the first of sys.path; modules of the same names from elsewhere are out of the way
    leave ──> all as it was; what was imported from there stays until another directory's task file runs

The same file again finds its modules as it left them, unless one was edited: then they are imported anew. Those that
the notebook imported from there itself are its own, to reload or not: its classes and the job's must be the same.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Iterator
from types import ModuleType

import jmr
from jmr.worker.modules import UserModules, file_of, is_users

__all__ = ["Neighbours"]

_PACKAGE = os.path.dirname(os.path.abspath(jmr.__file__)) + os.sep


class Neighbours:
    """The modules in one directory, and below it."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._modules = UserModules(self._counts)
        self._hidden: dict[str, ModuleType] = {}
        self._began = 0.0

    def enter(self) -> None:
        """Make them importable."""
        for other in _known.values():
            if other is not self:
                other._modules.forget()
        self._modules.skip()
        self._modules.forget_changed()
        self._hide_others()
        self._began = time.time()
        sys.path.insert(0, self._directory)
        importlib.invalidate_caches()  # Python would not look again at a directory that seems to be unchanged

    def leave(self) -> None:
        """Put everything back."""
        if self._directory in sys.path:
            sys.path.remove(self._directory)
        self._modules.note(self._began)
        for name in {name.partition(".")[0] for name in self._hidden}:
            _taken_out(name)
        sys.modules.update(self._hidden)
        self._hidden.clear()

    def _counts(self, path: str) -> bool:
        return is_users(path) and path.startswith(os.path.join(self._directory, "")) and not path.startswith(_PACKAGE)

    def _hide_others(self) -> None:
        """A helper.py of the notebook's is not the helper.py beside the task file; slots look there first, too."""
        for name, path in self._found():
            known = file_of(sys.modules.get(name))
            if known is None or not is_users(known) or known.startswith(_PACKAGE):
                continue
            if os.path.realpath(known) != os.path.realpath(path):
                self._hidden |= _taken_out(name)

    def _found(self) -> Iterator[tuple[str, str]]:
        """What can be imported from the directory: names, and the files that Python would take."""
        try:
            entries = os.listdir(self._directory)
        except OSError:  # it may be entered, but not listed
            return
        for entry in entries:
            path = os.path.join(self._directory, entry)
            if entry.endswith(".py"):
                yield entry.removesuffix(".py"), path
            elif os.path.exists(package := os.path.join(path, "__init__.py")):
                yield entry, package


def _taken_out(name: str) -> dict[str, ModuleType]:
    """A module and those inside it, no longer in `sys.modules`."""
    inside = [each for each in sys.modules if each.partition(".")[0] == name]
    return {each: sys.modules.pop(each) for each in inside}


def neighbours_in(directory: str) -> Neighbours:
    """Those of a directory, with what is remembered of them."""
    return _known.setdefault(directory, Neighbours(directory))


_known: dict[str, Neighbours] = {}
