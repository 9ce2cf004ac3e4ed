"""The user's modules, imported on a host that does not have their files.

    a job begins ──install(modules)──> none of them is imported yet, and those of other jobs are out of the way
    import helper ──> ShippedImports.find_spec ──> a module, made of the source that travelled
    the slot turns to another job, and back ──enter(what install gave)──> the very modules that the job had imported

Each job has modules of its own, made once: its functions hold on to what they are made of, and two modules of one name
would have two classes of one name, whose objects are not equal.

Which one wins, where two have the same name: what the worker itself had imported before its slots began, because jmr
needs it; then what was shipped; then what this host has. So a `statistics.py` beside the notebook shadows Python's own
here, as it does there, and an installed package that is older than the user's working copy is not used.

A module looks as if it had been imported from its file: `__file__` is the path that it has at the kernel, and
tracebacks show its lines. No bytecode is read or written: if files lie at that path on this host, they are others.

A module that is nowhere to be found is missing here if the kernel has it. If the kernel has none either, the import
fails there as well, and is an error of the user's like any other.
"""

from __future__ import annotations

import importlib.machinery
import linecache
import os
import sys
import types
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jmr.codec.failures import Raised, rebuild
from jmr.worker.modules import TakenOut, put_back, take_out

__all__ = ["NOTHING", "Installed", "Shipment", "ShippedImports", "ShippedModule", "missing_module", "prefixes"]


@dataclass(frozen=True, slots=True)
class ShippedModule:
    """One module of the user's, on its way to other hosts."""

    name: str
    #: As it lies in the file; None for a folder without an __init__.py, which is a package all the same.
    source: bytes | None
    #: At the kernel: its file, or that folder.
    path: str
    is_package: bool


@dataclass(frozen=True, slots=True)
class Shipment:
    """What travels with a job, so that its imports do on another host what they do at the kernel."""

    #: By dotted name.
    modules: Mapping[str, ShippedModule]
    #: Names without dots that can be imported at the kernel; None if nobody has looked.
    importable: frozenset[str] | None

    def may_have(self, name: str) -> bool:
        """Whether the kernel can import a module that was not found here, as far as can be told.

        Of what is installed, versions may differ, and only names without dots are known. But a package of the user's
        has travelled whole, unless it is a folder without an `__init__.py`, and Python's own are the same here.

        Examples
        --------
        >>> shipment = Shipment({}, frozenset({"json", "numpy"}))
        >>> [shipment.may_have(name) for name in ("numpy", "numpy.strings", "bumpy", "json.bad")]
        [True, True, False, False]
        """
        root = _root(name)
        if self.importable is None:
            return True
        if root not in self.importable or root == name:
            return root in self.importable
        shipped = self.modules.get(root)
        return root not in sys.stdlib_module_names if shipped is None else shipped.source is None


#: Of a job that began before other hosts were in sight.
NOTHING = Shipment({}, None)


@dataclass(eq=False, slots=True)
class Installed:
    """What one job shipped, and what a slot has imported of it. Goes when the job does."""

    shipped: Mapping[str, ShippedModule]
    #: Names of modules that were imported from what was shipped.
    found: set[str] = field(default_factory=set)
    #: While another job has its turn: them, whatever lies below them, and their lines in `linecache`.
    taken: TakenOut = field(default_factory=TakenOut)
    lines: dict[str, Any] = field(default_factory=dict)
    #: While another job has its turn: classes that travelled by value, which are made of them.
    classes: dict[str, type] = field(default_factory=dict)
    #: While this job has: this host's own modules of these names.
    hidden: TakenOut = field(default_factory=TakenOut)


class ShippedImports:
    """Finds modules among those that were shipped with the job; made once, before user code runs."""

    def __init__(self) -> None:
        self._at_home = frozenset(name.partition(".")[0] for name in sys.modules)
        self._job = Installed({})
        #: Of each path: the source that was compiled last, for jobs that ship the same again.
        self._compiled: dict[str, tuple[bytes, types.CodeType]] = {}

    def install(self, modules: Mapping[str, ShippedModule]) -> Installed:
        """Have these imported from now on, each of them anew; `enter` what it returns when it is their turn again."""
        job = Installed({name: module for name, module in modules.items() if _root(name) not in self._at_home})
        self.enter(job)
        return job

    def enter(self, job: Installed) -> None:
        """Have the job's modules where they are looked for, as far as it has imported them, and no other job's."""
        self.leave()
        job.hidden = take_out(_at_or_below(job.shipped))  # which a job that did not ship them has imported
        put_back(job.taken)
        linecache.cache.update(job.lines)
        job.taken, job.lines = TakenOut(), {}
        self._job = job
        if job.shipped:
            sys.meta_path.insert(0, self)

    def leave(self) -> None:
        """Have only this host's own modules, as if no job had shipped any."""
        job, self._job = self._job, Installed({})
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        paths = {job.shipped[name].path for name in job.found} & linecache.cache.keys()
        job.lines = {path: linecache.cache.pop(path) for path in paths}
        job.taken = take_out(_at_or_below(job.found))
        put_back(job.hidden)
        job.hidden = TakenOut()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """As importlib asks each finder of `sys.meta_path`."""
        module = self._job.shipped.get(name)
        if module is None:
            return None
        self._job.found.add(name)
        if module.source is None:
            return _folder_spec(module, path)
        code = self._code_of(module.path, module.source)
        shipped = self._job.shipped
        loader = _Loader(module, shipped) if code is None else _CompiledLoader(module, shipped, code)
        spec = importlib.machinery.ModuleSpec(name, loader, origin=module.path, is_package=module.is_package)
        if module.is_package:
            spec.submodule_search_locations = [os.path.dirname(module.path)]
        return spec

    def _code_of(self, path: str, source: bytes) -> types.CodeType | None:
        """The module's code; None if it does not compile, which is for its import to tell."""
        known = self._compiled.get(path)
        if known is None or known[0] != source:
            try:
                known = source, compile(source, path, "exec", dont_inherit=True)
            except Exception:
                return None
            self._compiled[path] = known
        return known[1]


class _Loader(importlib.machinery.SourceFileLoader):
    """Python's own loader, without its files: so its frames are left out of tracebacks, as for any other module."""

    def __init__(self, module: ShippedModule, modules: Mapping[str, ShippedModule]) -> None:
        super().__init__(module.name, module.path)
        self._modules = modules

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """An empty module that knows its file, and has no bytecode."""
        text = self.get_source(spec.name) or ""
        # Without a time, linecache does not ask whether a file of this host has changed.
        linecache.cache[self.path] = (len(text), None, text.splitlines(keepends=True), self.path)
        module = types.ModuleType(spec.name)
        module.__file__ = self.path
        module.__cached__ = None  # type: ignore[attr-defined]
        return module

    def get_source(self, fullname: str) -> str | None:
        """Its text; None if that is in no encoding, of which the compiler will tell."""
        try:
            return super().get_source(fullname)
        except (ImportError, SyntaxError, UnicodeDecodeError):
            return None

    def get_data(self, path: str | bytes) -> bytes:
        """The source that lies at a path at the kernel; this host's files are not looked at."""
        for module in (self._modules[self.name], *self._modules.values()):
            if module.path == path and module.source is not None:
                return module.source
        raise FileNotFoundError(2, "only Python sources were shipped to this host", path)

    def path_stats(self, path: str | bytes) -> Mapping[str, float]:
        """Refuses: bytecode is neither read nor written where a file's time is unknown."""
        raise FileNotFoundError(2, "the file is on another host", path)


class _CompiledLoader(_Loader):
    """Has the code already. Only then is a method of ours called on the way, which an error's traceback would show."""

    def __init__(self, module: ShippedModule, modules: Mapping[str, ShippedModule], code: types.CodeType) -> None:
        super().__init__(module, modules)
        self._code = code

    def get_code(self, fullname: str) -> types.CodeType:
        """What the finder compiled."""
        return self._code


def missing_module(raised: Raised) -> str | None:
    """The module that was not found, if that is why an error was raised, or one that was said to be its cause.

    "numpy" if there is no numpy at all, "numpy.strings" if it is there and lacks that. What user code raises while it
    copes with a missing module is its own affair, unless it is raised `from` that.

    Examples
    --------
    >>> from jmr.codec.failures import raised_from
    >>> try:
    ...     import no_such_package.part
    ... except ImportError as error:
    ...     missing_module(raised_from(error))
    'no_such_package'
    """
    link: Raised | None = raised
    while link is not None:
        if link.type_name == ModuleNotFoundError.__name__:
            error = rebuild(link)
            if isinstance(error, ModuleNotFoundError) and error.name:
                return error.name
        link = link.cause if link.explicit else None
    return None


def prefixes(name: str) -> Iterator[str]:
    """A dotted name's packages, outermost first, and itself.

    Examples
    --------
    >>> list(prefixes("a.b.c"))
    ['a', 'a.b', 'a.b.c']
    """
    for at, character in enumerate(name):
        if character == ".":
            yield name[:at]
    yield name


def _folder_spec(module: ShippedModule, path: Sequence[str] | None) -> importlib.machinery.ModuleSpec:
    """A package of no file: with what this host has in folders of that name, where it has only folders too."""
    spec = importlib.machinery.PathFinder.find_spec(module.name, path)
    if spec is None or spec.loader is not None:
        spec = importlib.machinery.ModuleSpec(module.name, None, is_package=True)
        spec.submodule_search_locations = [module.path]
    return spec


def _at_or_below(names: Collection[str]) -> list[str]:
    """Of what is imported: these modules, and whatever lies below them."""
    roots = set(map(_root, names))
    found = [name for name in sys.modules if _root(name) in roots]
    return [name for name in found if any(prefix in names for prefix in prefixes(name))]


def _root(name: str) -> str:
    return name.partition(".")[0]
