"""What a module is, for whoever imports it.

    the user's ──> its source, and what that imports, and so on
    installed ───> its name, and the version of what was installed
    Python's own ─> its name

A source is taken as its file is now, for so slots import it. Only what is imported by name is found; of a package that
is used as a whole, or by `import *`, all of it counts. Nothing is imported.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeGuard

import jmr
from jmr.checkpoint.bytecode import print_of_source
from jmr.checkpoint.installed import Installed
from jmr.codec.values import is_by_value
from jmr.worker.imports import prefixes
from jmr.worker.modules import file_of, folders_of, is_users, is_users_folder, look_afresh
from jmr.worker.names import PROGRAMS, absolute
from jmr.worker.sources import read_source

__all__ = ["Modules"]

_PYTHONS_OWN = (importlib.machinery.BuiltinImporter, importlib.machinery.FrozenImporter, importlib.machinery.PathFinder)
_NOT_THERE = "not there"
_SUFFIXES = frozenset(importlib.machinery.all_suffixes())
#: Of one folder.
_MOST_ENTRIES = 20_000


@dataclass(frozen=True, slots=True)
class _Found:
    """Where a module is."""

    path: str | None
    #: Where the modules of a package are.
    folders: list[str]


class Modules:
    """Modules as they are now: each is looked up once."""

    def __init__(self) -> None:
        self._prints: dict[tuple[str, bool], str] = {}
        self._found: dict[str, _Found | None] = {}
        self._versions: dict[str, str] = {}
        #: By path, of the user's: when they were changed, before they were read.
        self._stamps: dict[str, str] = {}
        self._installed = Installed()
        self._is_afresh = False

    def print_of(self, name: str, *, is_whole: bool = False) -> str:
        """A text that is another one if the module, or what it imports, is another one.

        Parameters
        ----------
        name
            Perhaps of no module, but of something in one.
        is_whole
            Whether all that is in a package counts, not only what it imports itself.
        """
        if (name, is_whole) not in self._prints:
            told = sorted(self._behind(name, is_whole).items())
            digest = hashlib.sha256(repr(told).encode("utf-8", "surrogatepass"), usedforsecurity=False)
            self._prints[name, is_whole] = f"{name} {digest.hexdigest()}"
        return self._prints[name, is_whole]

    def changed(self) -> str | None:
        """The file of a module that is not as it was when it was printed; None if all are."""
        return next((path for path, stamp in list(self._stamps.items()) if _stamp(path) != stamp), None)

    def is_installed(self, name: str) -> bool:
        """Whether a module came with its version: it is not the user's, and was not made at run time."""
        if is_by_value(name):
            return False
        found = self._find(name)
        return name in sys.stdlib_module_names if found is None else not _is_users_own(found)

    def _behind(self, name: str, is_whole: bool) -> dict[str, str]:
        """By name: all that counts, and what it is."""
        told: dict[str, str] = {}
        left, folders = [name], set[str]()
        if is_whole:
            left.append(f"{name}.*")
        while left:
            dotted = left.pop()
            for prefix in prefixes(dotted.removesuffix(".*")):
                if prefix not in told and not self._tell(prefix, told, left):
                    break
            else:
                if dotted.endswith(".*"):
                    left += self._within(dotted[:-2], folders)
        return told

    def _tell(self, name: str, told: dict[str, str], left: list[str]) -> bool:
        """Say what a module is, and what it imports; True if what is in it may be the user's."""
        root, found = name.partition(".")[0], self._find(name)
        if _is_users_own(found):
            if found.path is not None and found.path not in self._stamps:
                self._stamps[found.path] = _stamp(found.path)
            told[name], imports = _read(found.path, name, bool(found.folders))
            left += imports
            return True
        if found is not None or name == root:
            told[root] = self._version(root) if found is not None or root in sys.stdlib_module_names else _NOT_THERE
        return False

    def _within(self, package: str, seen: set[str]) -> Iterator[str]:
        """The modules of a package of the user's, and its packages with all in them; of folders not seen before."""
        found = self._find(package)
        for folder in found.folders if _is_users_own(found) else ():
            if (real := os.path.realpath(folder)) not in seen:  # links may lead round in circles
                seen.add(real)
                yield from (f"{package}.{name}" for name in _names_in(folder))

    def _find(self, name: str) -> _Found | None:
        if name not in self._found:
            self._found[name] = self._found_now(name)
        return self._found[name]

    def _found_now(self, name: str) -> _Found | None:
        module = sys.modules.get(name)
        path, folders = file_of(module), folders_of(module)
        if path is not None or folders:
            return _Found(path, folders)
        package, _, child = name.rpartition(".")
        within = self._find(package) if package else None
        if not child.isidentifier() or name in PROGRAMS or name in sys.builtin_module_names:
            return None
        if package and (within is None or not within.folders):
            return None
        if not self._is_afresh:
            look_afresh()
            self._is_afresh = True
        return _found_by_finders(child, within.folders if within else None)

    def _version(self, root: str) -> str:
        """What is installed under a name that is imported."""
        if root not in self._versions:
            self._versions[root] = "" if root in sys.stdlib_module_names else self._version_now(root)
        return self._versions[root]

    def _version_now(self, root: str) -> str:
        if root == "jmr":
            return jmr.__version__
        found = self._find(root)
        path = "" if found is None else found.path or ""
        places = [path] if found is None or not found.folders else found.folders
        versions = [self._installed.version(root, os.path.dirname(place)) for place in places]
        return " ".join(filter(None, versions)) or _stamp(path)


def _found_by_finders(name: str, folders: list[str] | None) -> _Found | None:
    """Where an import would find a module, by the last part of its name, in a package's folders or outside of all."""
    finders: list[Any] = [importlib.machinery.PathFinder]
    if folders is None:
        finders += [finder for finder in sys.meta_path if finder not in _PYTHONS_OWN]
    for finder in finders:
        try:
            spec = finder.find_spec(name, folders)
            if spec is not None:
                return _Found(None if spec.loader is None else spec.origin, list(spec.submodule_search_locations or ()))
        except Exception:  # of somebody else's finder
            continue
    return None


def _is_users_own(found: _Found | None) -> TypeGuard[_Found]:
    if found is None:
        return False
    if found.path is None:
        return any(map(is_users_folder, found.folders))
    return is_users(os.path.splitext(found.path)[0] + ".py")  # or what was compiled, beside it


def _names_in(folder: str) -> Iterator[str]:
    try:
        entries = list(islice(os.scandir(folder), _MOST_ENTRIES))
    except OSError:  # removed, or not to be read
        return
    for entry in entries:
        stem, dot, suffix = entry.name.partition(".")
        if dot + suffix in _SUFFIXES and stem.isidentifier():
            yield stem
        elif stem.isidentifier() and stem != "__pycache__" and not dot and entry.is_dir():
            yield f"{stem}.*"


def _read(path: str | None, name: str, is_package: bool) -> tuple[str, list[str]]:
    """What the user's module is, and what it imports: nothing that could be seen if it is a folder, or compiled."""
    if path is None:
        return "folder", []
    source = read_source(path) if path.endswith(".py") else None
    if source is None:
        return _stamp(path), []
    package = name if is_package else name.rpartition(".")[0]
    imported = [absolute(target, package) for targets in source.imports() for target in targets]
    return print_of_source(source.content), [target for target in imported if target]


def _stamp(path: str) -> str:
    """When a file, or the archive that it is in, was changed."""
    while path:
        try:
            found = os.stat(path)
        except OSError:
            path = os.path.dirname(path) if os.path.dirname(path) != path else ""
            continue
        return f"{found.st_mtime_ns} {found.st_size}"
    return _NOT_THERE
