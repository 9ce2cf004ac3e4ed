"""Modules of the user's, imported anew when their files have changed.

    an attempt ends ──note──> stamps of the modules that it imported
    a job begins ──forget_changed──> sys.modules without them, if a stamp is no longer true
                 ──forget──────────> sys.modules without them, if its sys.path is another

A slot lives on, and Python imports a module once: a module beside the notebook that was edited and reloaded there would
stay what it was here, and the answer would be that of yesterday's code. Functions of modules travel by name, so what
counts is which code a slot finds under it.

Modules of Python itself and of installed packages are left alone, and those that the worker had imported before.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Callable

__all__ = ["CLOCK_SECONDS", "UserModules", "file_of", "is_users"]

#: By so much may a file's time lag behind the clock.
CLOCK_SECONDS = 0.02
_LIBRARIES = ("stdlib", "platstdlib", "purelib", "platlib")
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


@functools.cache
def is_users(path: str) -> bool:
    """Whether a file is source code that is neither Python's own, nor installed, nor jmr's."""
    return path.endswith(".py") and not path.startswith(_libraries()) and not any(part in path for part in _INSTALLED)


class UserModules:
    """The user's modules of one slot, or those that one task file imports."""

    def __init__(self, counts: Callable[[str], bool] = is_users) -> None:
        #: Whether the module of a file is one of them.
        self._counts = counts
        self._seen = set(sys.modules)
        #: Of each module: its file, and when that was changed last, and its size.
        self._stamps: dict[str, tuple[str, int, int]] = {}

    def skip(self) -> None:
        """Whatever was imported until now is somebody else's."""
        self._seen = set(sys.modules)

    def note(self, began: float) -> None:
        """Remember what has been imported since `began`, seconds since the epoch.

        Called after every attempt, so it is quick when nothing was imported. A file that was changed meanwhile may or
        may not be what was imported: it counts as changed, whatever it will be.
        """
        if len(sys.modules) == len(self._seen):
            return
        for name in sys.modules.keys() - self._seen:
            path = file_of(sys.modules.get(name))
            if path is not None and self._counts(path) and (stamp := _stamp(path)):
                self._stamps[name] = stamp if stamp[1] < (began - CLOCK_SECONDS) * 1e9 else (path, -1, -1)
        self._seen = set(sys.modules)

    def forget_changed(self) -> None:
        """If any has changed, forget them all: whoever imports one that has changed holds on to what it was."""
        if any(_stamp(stamp[0]) != stamp for stamp in self._stamps.values()):
            self.forget()

    def forget(self) -> None:
        """Let them all be imported anew."""
        for name, (path, *_) in self._stamps.items():
            if file_of(sys.modules.get(name)) != path:  # it is somebody else's by now
                continue
            del sys.modules[name]
            parent, _, child = name.rpartition(".")
            if parent in sys.modules:  # a folder without an __init__.py has no file, and holds on to what is in it
                vars(sys.modules[parent]).pop(child, None)
        self._stamps.clear()
        self._seen = set(sys.modules)
        importlib.invalidate_caches()


def file_of(module: object) -> str | None:
    """A module's file; without its __getattr__, which may do anything."""
    path = getattr(module, "__dict__", {}).get("__file__")
    return path if isinstance(path, str) else None


@functools.cache
def _libraries() -> tuple[str, ...]:
    import sysconfig

    paths = sysconfig.get_paths()
    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return tuple(path + os.sep for path in (*map(paths.get, _LIBRARIES), os.path.dirname(os.__file__), ours) if path)


def _stamp(path: str) -> tuple[str, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return path, found.st_mtime_ns, found.st_size
