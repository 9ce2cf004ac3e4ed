"""The names under which code may import something: read off the code, which is never run.

    functions ──names_in_functions──> for each piece of code all names in it, be they of modules or of something else
    a source  ──names_in_source────> what its import statements name, and import_module("...")

What is reachable from a function belongs to it: the functions and classes that it uses, captures or is made of, as far
as they are the user's own. Of data only a little is looked at.
"""

from __future__ import annotations

import ast
import functools
import sys
import threading
import types
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from jmr.codec.functions import captured, codes
from jmr.codec.values import PLAIN_TYPES
from jmr.worker.modules import file_of, is_users

__all__ = ["PROGRAMS", "absolute", "names_in_functions", "names_in_source"]

#: Modules that are run, not imported.
PROGRAMS = frozenset({"__main__", "__mp_main__", "__task__"})
_IMPORTERS = frozenset({"import_module", "__import__"})
#: Two threads that parse at once make Python 3.11 raise SystemError (AST constructor recursion depth mismatch).
_parsing = threading.Lock()
_MOST_OBJECTS = 10_000
#: Of one list or dict.
_MOST_ITEMS = 100
#: Where functools, property and the like keep the function that they are made of.
_WRAPPED = ("__func__", "__self__", "__wrapped__", "fget", "fset", "fdel", "func", "args", "keywords")
_WRAPPERS = (
    functools.partial,
    functools.partialmethod,
    functools.cached_property,
    functools._lru_cache_wrapper,
    types.MethodType,
    staticmethod,
    classmethod,
    property,
)


def names_in_functions(functions: Iterable[Callable[..., Any] | None]) -> Iterator[tuple[list[str], list[str]]]:
    """Yield, for each piece of code that the functions may run, the names in it, and those that it imports from one."""
    left: deque[object] = deque(functions)
    seen: dict[int, object] = {}
    while left and len(seen) < _MOST_OBJECTS:
        obj = left.popleft()
        if id(obj) in seen or type(obj) in PLAIN_TYPES:
            continue
        seen[id(obj)] = obj
        try:
            yield from _names_of(obj)
            left.extend(_reachable(obj))
        except Exception:  # a stand-in for something else, which runs code of its own when looked at
            continue


def names_in_source(source: bytes) -> list[list[str]]:
    r"""What each import statement names, relative names with their dots; nothing if it is not Python.

    Examples
    --------
    >>> names_in_source(b"import numpy, a.b\nfrom . import c\nfrom .d import e")
    [['numpy', 'a.b'], ['.', '.c'], ['.d', '.d.e']]
    """
    try:
        with _parsing, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    return [names for node in ast.walk(tree) if (names := _imported(node))]


def absolute(name: str, package: str) -> str:
    """What a name with leading dots means in a package; no name at all if that is outside of everything.

    Examples
    --------
    >>> absolute("..c", "a.b")
    'a.c'
    """
    relative = name.lstrip(".")
    if relative == name:
        return name
    parts = package.split(".")
    n_kept = len(parts) + 1 - (len(name) - len(relative))
    return ".".join([*parts[:n_kept], *([relative] if relative else [])]) if n_kept > 0 else ""


def _imported(node: ast.AST) -> list[str]:
    match node:
        case ast.Import():
            return [alias.name for alias in node.names]
        case ast.ImportFrom():
            base = "." * node.level + (node.module or "")
            dot = "." if node.module else ""
            return [base, *(f"{base}{dot}{alias.name}" for alias in node.names)]
        case ast.Call(func=ast.Name() | ast.Attribute() as called, args=[ast.Constant(value=str(name)), *_]):
            return [name] if (called.id if isinstance(called, ast.Name) else called.attr) in _IMPORTERS else []
        case _:
            return []


def _names_of(obj: object) -> Iterator[tuple[list[str], list[str]]]:
    if isinstance(obj, types.FunctionType | type) and not _is_elsewhere(obj.__module__):
        yield [obj.__module__], []
    if isinstance(obj, types.FunctionType) and not _is_elsewhere(obj.__module__):
        for code in codes(obj.__code__):
            names = list(code.co_names)
            if _IMPORTERS & set(names):
                names += [constant for constant in code.co_consts if isinstance(constant, str)]
            yield names, [name for name in code.co_names if any(name in imported for imported in _from_lists(code))]


def _from_lists(code: types.CodeType) -> list[tuple[Any, ...]]:
    """What may be the names of `from package import ...`, which the compiler keeps as a tuple."""
    return [constant for constant in code.co_consts if isinstance(constant, tuple)]


def _reachable(obj: object) -> Iterable[object]:
    """What an object leads to, where functions may be."""
    if isinstance(obj, types.FunctionType):
        return [] if _is_elsewhere(obj.__module__) else [value for _, value in captured(obj)]
    if isinstance(obj, type):
        return [] if _is_elsewhere(obj.__module__) else [*obj.__bases__, *vars(obj).values()]
    if isinstance(obj, types.ModuleType):
        return []
    if isinstance(obj, dict):
        return list(islice(obj.values(), _MOST_ITEMS))
    if isinstance(obj, list | tuple | set | frozenset):
        return list(islice(obj, _MOST_ITEMS))
    if isinstance(obj, _WRAPPERS):
        return [getattr(obj, name, None) for name in _WRAPPED]
    if _is_elsewhere(type(obj).__module__):
        return []
    return [type(obj), *getattr(obj, "__dict__", {}).values()]


def _is_elsewhere(module: object) -> bool:
    """Whether what belongs to a module is there on other hosts too, or is looked for there."""
    if not isinstance(module, str) or module in PROGRAMS:
        return False
    path = file_of(sys.modules.get(module))
    return module.partition(".")[0] in sys.stdlib_module_names if path is None else not is_users(path)
