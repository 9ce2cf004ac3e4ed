"""Modules of the user's, imported anew when their files have changed.

    an attempt ends ──note──> stamps of the modules that it imported
    a job begins ──forget_changed──> sys.modules without them, if a stamp is no longer true
                 ──forget──────────> sys.modules without them, if its sys.path is another
    a job that began before ──enter(its generation)──> sys.modules with those that it had

A slot lives on, and Python imports a module once: a module beside the notebook that was edited and reloaded there would
stay what it was here, and the answer would be that of yesterday's code. Functions of modules travel by name, so what
counts is which code a slot finds under it.

Within a job it is one and the same module, however often the slot turns to other jobs between: what its functions hold
of a second one would be of another class, and equal keys would be two. So modules that are forgotten stay together, as
a generation, for as long as a job has them.

Modules of Python itself and of installed packages are left alone, and those that the worker had imported before.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

__all__ = [
    "CLOCK_SECONDS",
    "Generation",
    "TakenOut",
    "UserModules",
    "file_of",
    "folders_of",
    "is_users",
    "is_users_folder",
    "look_afresh",
    "put_back",
    "take_out",
]

#: By so much may a file's time lag behind the clock.
CLOCK_SECONDS = 0.02
_LIBRARIES = ("stdlib", "platstdlib", "purelib", "platlib")
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


@functools.cache
def is_users(path: str) -> bool:
    """Whether a file is source code that is neither Python's own, nor installed, nor jmr's."""
    return path.endswith(".py") and not path.startswith(_libraries()) and not any(part in path for part in _INSTALLED)


def is_users_folder(folder: str) -> bool:
    """Whether a module in this folder would be the user's."""
    return is_users(os.path.join(folder, "__init__.py"))


def look_afresh() -> None:
    """Have the user's folders listed again: a file that was made just now may not have changed its folder's time."""
    for folder, finder in list(sys.path_importer_cache.items()):
        if finder is not None and is_users_folder(folder) and hasattr(finder, "invalidate_caches"):
            finder.invalidate_caches()


@dataclass(slots=True)
class TakenOut:
    """Modules that are in `sys.modules` no longer."""

    modules: dict[str, ModuleType] = field(default_factory=dict)
    #: Where packages held them: a package's names, the one name, and the module.
    places: list[tuple[dict[str, Any], str, ModuleType]] = field(default_factory=list)


def take_out(names: Iterable[str]) -> TakenOut:
    """Take modules out of `sys.modules`, and out of their packages, as far as they are there."""
    taken = TakenOut()
    for name in names:
        module = sys.modules.pop(name, None)
        if module is None:
            continue
        taken.modules[name] = module
        parent, _, child = name.rpartition(".")
        attributes = getattr(sys.modules.get(parent), "__dict__", {})
        if attributes.get(child) is module:  # a package may have something else under that name
            del attributes[child]
            taken.places.append((attributes, child, taken.modules[name]))
    return taken


def put_back(taken: TakenOut) -> TakenOut:
    """Undo `take_out`. Returns what had come under these names meanwhile, which is taken out."""
    others = take_out(taken.modules)
    sys.modules.update(taken.modules)
    for attributes, child, module in taken.places:
        attributes[child] = module
    return others


@dataclass(eq=False, slots=True)
class Generation:
    """The user's modules that some jobs share: of each at most one. Goes when the last of these jobs does."""

    #: Of each module: its file, and when that was changed last, and its size.
    stamps: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    #: While another generation is in use.
    taken: TakenOut = field(default_factory=TakenOut)
    #: While another generation is in use: classes that travelled by value, which are made of them.
    classes: dict[str, type] = field(default_factory=dict)
    #: While this one is: somebody else's modules, whose names it has.
    hidden: TakenOut = field(default_factory=TakenOut)


class UserModules:
    """The user's modules of one slot, or those that one task file imports."""

    def __init__(self, counts: Callable[[str], bool] = is_users) -> None:
        #: Whether the module of a file is one of them.
        self._counts = counts
        self._seen = set(sys.modules)
        #: Those that are in `sys.modules`.
        self.generation = Generation()

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
                self.generation.stamps[name] = stamp if stamp[1] < (began - CLOCK_SECONDS) * 1e9 else (path, -1, -1)
        self._seen = set(sys.modules)

    def forget_changed(self) -> None:
        """If any has changed, forget them all: whoever imports one that has changed holds on to what it was."""
        if any(_stamp(stamp[0]) != stamp for stamp in self.generation.stamps.values()):
            self.forget()

    def forget(self) -> None:
        """Let them all be imported anew."""
        self.enter(Generation())
        importlib.invalidate_caches()

    def enter(self, generation: Generation) -> None:
        """Have the modules of this generation in `sys.modules`, in the place of those that are there."""
        if generation is self.generation:
            return
        left = self.generation
        # What has another file by now is somebody else's.
        left.taken = take_out(
            name for name, (path, *_) in left.stamps.items() if file_of(sys.modules.get(name)) == path
        )
        put_back(left.hidden)
        generation.hidden = put_back(generation.taken)
        left.hidden, generation.taken = TakenOut(), TakenOut()
        self.generation = generation
        self._seen = set(sys.modules)


def file_of(module: object) -> str | None:
    """A module's file; without its __getattr__, which may do anything."""
    path = getattr(module, "__dict__", {}).get("__file__")
    return path if isinstance(path, str) else None


def folders_of(module: object) -> list[str]:
    """Where a package's modules lie; empty for a plain module."""
    try:
        return [str(folder) for folder in getattr(module, "__dict__", {}).get("__path__") or ()]
    except Exception:  # whatever somebody has put there
        return []


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
