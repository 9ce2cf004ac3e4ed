"""What functions, classes and modules are made of: equal parts, and they do the same.

    function ── found by its name ──> its module's print, and the name
             └─ else ── code, defaults, closure, attributes
                        the globals that the code loads, the modules that it imports
    class ───── found by its name ──> its module's print, and the name
             └─ else ── bases, metaclass, and all that its body left

So it is what slots get: what is found by its name is imported there, and the rest travels by value.

Of code counts what it does, and the names and docstrings that it could look at; not where it stands, in which file,
cell or line, nor how often it ran. What it never mentions by name does not count: a module or global that is found only
by a name made at run time, files, environment variables, the clock.
"""

from __future__ import annotations

import abc
import functools
import sys
import types
from collections.abc import Callable
from itertools import chain
from typing import Any

from jmr.checkpoint.bytecode import PLACES, bytecode_parts, names_imported, names_loaded
from jmr.checkpoint.modules import Modules
from jmr.checkpoint.printing import Parts
from jmr.codec.values import is_by_value
from jmr.worker.modules import folders_of
from jmr.worker.names import absolute

__all__ = ["CLASS", "CODE_RULES", "code_parts", "is_code"]

#: The kind of parts that a class has which is not found by its name.
CLASS = "class"
#: What a class has by itself, or gets by being looked at or pickled.
_BY_ITSELF = PLACES | {"__dict__", "__weakref__", "__module__", "__slotnames__", "_abc_impl"}
_BY_ITSELF |= {"__annotations__", "__annotations_cache__", "__annotate_func__"}
#: Of a class's flags: made by a class statement, or as by one.
_MADE_AT_RUN_TIME = 1 << 9
_OF_IMPORT = frozenset({"__builtins__", "__doc__", "__file__", "__loader__", "__name__", "__package__", "__spec__"})
#: What may be found by its name.
_BY_NAME = (types.FunctionType, types.BuiltinFunctionType, functools._lru_cache_wrapper, type)
#: Its registry is what it does; what it found so far, and when, changes with each call.
_GENERIC = functools.singledispatch(lambda _: None).__code__  # type: ignore[attr-defined]


def is_code(obj: object) -> bool:
    """Whether an object is a function, a class or a module, whose value does not depend on who uses it."""
    return isinstance(obj, (types.FunctionType, type, types.ModuleType))


def code_parts(obj: object, modules: Modules) -> Parts | None:
    """Take apart a function, a class, or a module; None for anything else."""
    if isinstance(obj, types.ModuleType):
        return _module(obj, modules)
    if not isinstance(obj, _BY_NAME):
        return None
    module = _home(obj)
    if module is not None:
        return Parts("by its name", [obj.__qualname__, modules.print_of(module)])
    match obj:
        case type():
            return _class(obj, modules)
        case types.FunctionType():
            return _function(obj, modules)
        case functools._lru_cache_wrapper():
            return Parts("cached function", [obj.cache_parameters(), obj.__wrapped__])
        case _:
            return None  # a method of some object, which says so


def _home(obj: Any) -> str | None:
    """The module in which every process finds this very object by its name."""
    name, qualified = getattr(obj, "__module__", None), getattr(obj, "__qualname__", None)
    found: object = sys.modules.get(name) if isinstance(name, str) and not is_by_value(name) else None
    if found is None or not isinstance(qualified, str):
        return None
    for part in qualified.split("."):
        found = getattr(found, part, None)
    return name if found is obj else None


# ---- functions


def _function(function: types.FunctionType, modules: Modules) -> Parts:
    if function.__code__ is _GENERIC:
        return Parts("generic function", [function.__wrapped__, dict(function.registry)])  # type: ignore[attr-defined]
    facts: dict[str, object] = {
        "name": (function.__name__, function.__qualname__, function.__doc__),
        "code": function.__code__,
        "defaults": function.__defaults__,
        "keyword defaults": _sorted(function.__kwdefaults__ or {}),
        "annotations": _annotations(function),
        "attributes": _sorted(vars(function)),
        "closure": function.__closure__,
    }
    module = str(function.__globals__.get("__name__"))
    is_of_it = function.__globals__ is getattr(sys.modules.get(module), "__dict__", None)
    if is_of_it and modules.is_installed(module):  # what it uses of its own module came with it
        facts["globals"] = modules.print_of(module)
    else:
        facts["globals"] = _loaded(function)
        facts["imports"] = [modules.print_of(name) for name in _imported(function)]
    return Parts("function", list(chain.from_iterable(facts.items())))


def _loaded(function: types.FunctionType) -> list[object]:
    """The globals that a function loads, by name; first the names of those that are not there."""
    names = names_loaded(function.__code__)
    there = {name: function.__globals__[name] for name in names if name in function.__globals__}
    return [sorted(names - there.keys()), *_sorted(there)]


def _imported(function: types.FunctionType) -> list[str]:
    package = str(function.__globals__.get("__package__") or "")
    return sorted({absolute(name, package) for name in names_imported(function.__code__)} - {""})


# ---- classes


def _class(cls: type, modules: Modules) -> Parts:
    if not cls.__flags__ & _MADE_AT_RUN_TIME:
        return Parts("compiled class", [cls.__qualname__, modules.print_of(cls.__module__)])
    body = [part for name, value in vars(cls).items() if name not in _BY_ITSELF for part in (name, value)]
    facts: dict[str, object] = {
        "name": (cls.__name__, cls.__qualname__),
        "metaclass": type(cls),
        "bases": cls.__bases__,
        "body": body,
        "annotations": _annotations(cls),
    }
    if "_abc_impl" in vars(cls):
        registered = abc._get_dump(cls)[0]  # type: ignore[attr-defined]
        facts["registered"] = frozenset(there for reference in registered if (there := reference()) is not None)
    return Parts(CLASS, list(chain.from_iterable(facts.items())))


def _annotations(obj: Any) -> dict[str, object]:
    try:
        return dict(obj.__annotations__)
    except Exception:  # they may be made when they are asked for, by the user's code
        return {"": obj.__annotate__}


def _sorted(named: dict[str, Any]) -> list[object]:
    return [part for name in sorted(named, key=str) for part in (name, named[name])]


# ---- modules, and what is made of functions


def _module(module: types.ModuleType, modules: Modules) -> Parts:
    name = module.__name__
    if sys.modules.get(name) is module and not (is_by_value(name) and name != "__main__"):
        return Parts("module", [modules.print_of(name, is_whole=bool(folders_of(module)))])
    held = {name: value for name, value in vars(module).items() if name not in _OF_IMPORT}
    return Parts("made module", [name, *_sorted(held)])


def _cell(cell: types.CellType) -> Parts:
    try:
        return Parts("cell", [cell.cell_contents])
    except ValueError:  # the variable is not bound yet
        return Parts("cell")


#: What can be taken apart without a look at modules.
CODE_RULES: dict[type, Callable[[Any], Parts]] = {
    types.CodeType: bytecode_parts,
    types.CellType: _cell,
    types.MethodType: lambda obj: Parts("method", [obj.__func__, obj.__self__]),
    types.MemberDescriptorType: lambda obj: Parts("slot", [obj.__name__]),
    types.GetSetDescriptorType: lambda obj: Parts("attribute", [obj.__name__]),
    classmethod: lambda obj: Parts("classmethod", [obj.__func__]),
    staticmethod: lambda obj: Parts("staticmethod", [obj.__func__]),
    property: lambda obj: Parts("property", [obj.fget, obj.fset, obj.fdel, obj.__doc__]),
}
