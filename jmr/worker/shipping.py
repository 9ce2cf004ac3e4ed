"""What other hosts need of the user's own modules: found, and read, at the kernel.

    sys.modules ──> those that are the user's ─────────────┐
    mapfn, reducefn ... ──code──> names that it may import ─┼──> Shipment: ShippedModule (name, source, path) ...
                                        └── a source ──> what it imports, and so on
                                                            and the names of all that is to be had here

A module travels as its file is now, also if the kernel has imported an earlier state of it: so it is for local slots.
A package travels whole, for what it will import of itself is its own affair, unless it has compiled parts: then not at
all, and it must be installed on the other hosts.

Names lead to too much rather than too little: `row.data` takes a `data.py` along that lies beside the notebook. But
only names lead anywhere: folders are not searched for what nobody mentions. Nothing is imported.

Must never ship what is installed, jmr itself, or a program (`__main__`, `__task__`): a program's own code is for the
kernel, and its functions travel by value.
"""

from __future__ import annotations

import importlib.machinery
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

from jmr.worker.importable import importable
from jmr.worker.imports import Shipment, ShippedModule, prefixes
from jmr.worker.modules import file_of, folders_of, is_users, is_users_folder, look_afresh
from jmr.worker.names import PROGRAMS, absolute, names_in_functions
from jmr.worker.sources import Source, read_source

__all__ = ["shipment_for"]

_COMPILED = tuple(importlib.machinery.EXTENSION_SUFFIXES)
#: Files and folders that one package may have; what lies deeper is left out.
_MOST_ENTRIES = 20_000


def shipment_for(functions: Iterable[Callable[..., Any] | None]) -> Shipment:
    """Find the modules of the user's that the functions, or other modules of theirs, may import.

    Parameters
    ----------
    functions
        The job's; None is passed over.

    Returns
    -------
    They, and the names that can be imported here. Sources are kept for the next job, and read again once their file's
    time or size has changed.
    """
    look_afresh()
    search = _Search()
    search.add_loaded()
    for names, children in names_in_functions(functions):
        search.look_up_in_code(names, children)
    search.follow()
    return Shipment(search.found(), importable(search.roots()))


class _Search:
    """Gathers modules; each name is looked up once."""

    def __init__(self) -> None:
        self._found: dict[str, ShippedModule] = {}
        #: Packages that are folders without an __init__.py, as far as they were come across.
        self._folders: dict[str, str] = {}
        self._to_follow: deque[tuple[ShippedModule, Source]] = deque()
        #: Of each name that was looked up: whether it is such a folder.
        self._looked_up: dict[str, bool] = {}
        self._trees: set[str] = set()

    def add_loaded(self) -> None:
        """Take what has been imported, at any time, by anyone."""
        for name, module in list(sys.modules.items()):
            path = file_of(module)
            if path is not None and is_users(path) and name.partition(".")[0] not in PROGRAMS:
                self._add_loaded(name)

    def look_up_in_code(self, names: Sequence[str], children: Sequence[str]) -> None:
        """Take those names that are modules, and those children that are modules of a folder to which a name leads."""
        for name in names:
            if self._look_up(name):
                for child in children:
                    self._look_up(f"{name}.{child}")

    def follow(self) -> None:
        """Take what the sources import, until they lead to nothing new."""
        while self._to_follow:
            module, source = self._to_follow.popleft()
            package = module.name if module.is_package else module.name.rpartition(".")[0]
            for names in source.imports():
                for name in names:
                    self._look_up(absolute(name, package))

    def found(self) -> dict[str, ShippedModule]:
        """All of it, with the folders that lead to it."""
        for name in list(self._found):
            for prefix in prefixes(name):
                if prefix not in self._found and prefix in self._folders:
                    self._found[prefix] = ShippedModule(prefix, None, self._folders[prefix], is_package=True)
        return self._found

    def roots(self) -> set[str]:
        """The first parts of the names that were looked up."""
        return {root for name in self._looked_up if (root := name.partition(".")[0]).isidentifier()}

    def _add_loaded(self, name: str) -> None:
        """Take an imported module, or the outermost package of the user's that it is in."""
        for prefix in prefixes(name):
            module = sys.modules.get(prefix)
            path, locations = file_of(module), folders_of(module)
            if path is None and locations:
                self._folders.setdefault(prefix, locations[0])
            elif path is not None and is_users(path) and (locations or prefix == name):
                self._add(prefix, path, locations)
                return

    def _look_up(self, dotted: str) -> bool:
        """Take what a name leads to, if it is the user's; True if that is a folder without an __init__.py."""
        if dotted not in self._looked_up:
            self._looked_up[dotted] = self._leads_to_a_folder(dotted)
        return self._looked_up[dotted]

    def _leads_to_a_folder(self, dotted: str) -> bool:
        place: Sequence[str] | None = None
        for prefix in prefixes(dotted):
            spec = _spec_of(prefix, place)
            if spec is None:
                return False
            if spec.loader is not None:
                self._add(prefix, spec.origin or "", spec.submodule_search_locations or [])
                return False
            place = [folder for folder in spec.submodule_search_locations or () if is_users_folder(folder)]
            if not place:
                return False
            self._folders.setdefault(prefix, place[0])
        return True

    def _add(self, name: str, path: str, locations: Sequence[str]) -> None:
        """Take a module; a package, which has locations, as a whole."""
        if not locations:
            if "." not in name or not _has_compiled(os.path.dirname(path)):
                self._add_file(name, path, is_package=False)
        elif name not in self._trees:
            self._trees.add(name)
            self._add_tree(name, locations)

    def _add_tree(self, name: str, locations: Sequence[str]) -> None:
        files: dict[str, tuple[str, bool]] = {}
        left = deque((name, folder) for folder in locations)
        seen, n_entries = set(), 0
        while left and n_entries < _MOST_ENTRIES:
            package, folder = left.popleft()
            if (real := os.path.realpath(folder)) in seen:  # links may lead round in circles
                continue
            seen.add(real)
            self._folders.setdefault(package, folder)
            for entry in _entries(folder):
                n_entries += 1
                stem, dot, suffix = entry.name.partition(".")
                if entry.name.endswith(_COMPILED):
                    return
                if not stem.isidentifier() or stem == "__pycache__":
                    continue
                if suffix == "py":
                    is_package = stem == "__init__"
                    files.setdefault(package if is_package else f"{package}.{stem}", (entry.path, is_package))
                elif not dot and entry.is_dir():
                    left.append((f"{package}.{stem}", entry.path))
        for module, (path, is_package) in files.items():
            self._add_file(module, path, is_package)

    def _add_file(self, name: str, path: str, is_package: bool) -> None:
        if name not in self._found and (source := read_source(path)) is not None:
            self._found[name] = ShippedModule(name, source.content, path, is_package)
            self._to_follow.append((self._found[name], source))


# ---- where a name leads


def _spec_of(name: str, place: Sequence[str] | None) -> importlib.machinery.ModuleSpec | None:
    """What an import of the name would find, unless it is not to be shipped, or is among what is loaded."""
    package, _, child = name.rpartition(".")
    if not child.isidentifier() or (not package and (child in PROGRAMS or child in sys.builtin_module_names)):
        return None
    if name in sys.modules:
        module = sys.modules[name]
        if file_of(module) is not None or not (locations := folders_of(module)):
            return None
        spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = locations
        return spec
    try:
        # By its last part: a folder's whole name is looked at as a part of its package, which nobody has imported.
        found = importlib.machinery.PathFinder.find_spec(child, place)
    except Exception:  # of somebody else's finder, for an entry of sys.path
        return None
    if found is None or (found.loader is not None and not is_users(found.origin or "")):
        return None
    return found


def _has_compiled(folder: str) -> bool:
    return any(entry.name.endswith(_COMPILED) for entry in _entries(folder))


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(islice(entries, _MOST_ENTRIES))
    except OSError:  # removed, or not to be read
        return []
