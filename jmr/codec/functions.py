"""The user's functions, with what they capture, as one blob a job.

    dump_functions(mapfn=, ...) ── fails ──> blame(mapfn) ──> "mapfn -> helper -> lock"

Functions travel together, so that those which share a global variable at home share it in a slot too.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cloudpickle

from jmr.codec.values import Buffer, dump, dump_by_value
from jmr.errors import NotPicklableError, describe

__all__ = [
    "KNOWN_AS",
    "LARGE_BYTES",
    "Culprit",
    "blame",
    "captured",
    "children",
    "codes",
    "dump_functions",
    "send_by_value",
]

#: From here on the job's functions, with what they capture, are worth a word.
LARGE_BYTES = 10_000_000
#: Among the functions' names: what is no function.
KNOWN_AS = "known as"


def send_by_value(module: types.ModuleType) -> None:
    """Let functions and classes of a module in `sys.modules`, and of later ones by its name, travel by value."""
    cloudpickle.register_pickle_by_value(module)


def dump_functions(
    functions: dict[str, Callable[..., Any] | None], known_as: Sequence[tuple[type, str]] = ()
) -> list[Buffer]:
    """Turn the job's functions, by name, into one blob.

    Parameters
    ----------
    functions
        With their names.
    known_as
        Classes with identities that they had in an earlier process; see `codec.classes`.

    Raises
    ------
    NotPicklableError
        Names the function, and the path from it to the variable that cannot travel.
    """
    try:
        return dump_by_value(functions | {KNOWN_AS: known_as} if known_as else functions)
    except Exception as error:
        for name, function in functions.items():
            if culprit := blame(name, function):
                advice = f"Create it inside {name}, or use what it is made of."
                raise NotPicklableError(
                    f"{culprit.path} cannot be sent to the workers: it is {culprit.told(advice)}"
                ) from error
        raise NotPicklableError(f"the functions cannot be sent to the workers: {error}") from error


@dataclass(frozen=True, slots=True)
class Culprit:
    """What cannot be pickled, deep inside something else."""

    #: "mapfn -> helper -> lock"
    path: str
    obj: object
    reason: Exception

    def told(self, advice: str) -> str:
        """Say what it is, why it cannot travel, and what to do: `advice`, unless the reason brings its own."""
        if isinstance(self.reason, NotPicklableError):
            return str(self.reason)
        return f"{describe(self.obj)} ({type(self.reason).__name__}: {self.reason}). {advice}"


def blame(name: str, obj: object) -> Culprit | None:
    """Find what keeps `obj`, called `name`, from being pickled; None if nothing does."""
    reason = _reason_against(obj)
    if reason is None:
        return None
    path, seen = name, {id(obj)}
    while True:
        for label, child in children(obj):
            if id(child) not in seen and (why := _reason_against(child)) is not None:
                seen.add(id(child))
                path, obj, reason = f"{path} -> {label}", child, why
                break
        else:
            return Culprit(path, obj, reason)


def _reason_against(obj: object) -> Exception | None:
    try:
        dump(obj)
    except Exception as error:  # an object's own __reduce__ may raise anything
        return error
    return None


def children(obj: object) -> Iterator[tuple[str, object]]:
    """What pickling `obj` would pickle next, with the names a reader would use."""
    match obj:
        case types.FunctionType():
            yield from captured(obj)
        case types.MethodType():
            yield "self", obj.__self__
        case functools.partial():
            yield "its function", obj.func
            yield from ((f"argument {index}", value) for index, value in enumerate(obj.args))
            yield from ((f"argument {name}", value) for name, value in obj.keywords.items())
        case dict():
            for key, value in obj.items():
                yield f"key {describe(key, 40)}", key
                yield f"[{describe(key, 40)}]", value
        case list() | tuple() | set() | frozenset():
            for index, item in enumerate(obj):
                yield f"[{index}]", item
        case type():
            for name, value in vars(obj).items():
                yield f".{name}", getattr(value, "__func__", value)
        case _:
            for name, value in getattr(obj, "__dict__", {}).items():
                yield f".{name}", value


def captured(function: types.FunctionType) -> Iterator[tuple[str, object]]:
    """What a function may use from outside, with the names that it has there."""
    for code in codes(function.__code__):
        for name in code.co_names:
            if name in function.__globals__:
                yield name, function.__globals__[name]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # the variable is not bound yet
            continue
    yield from (("a default argument", value) for value in function.__defaults__ or ())
    yield from ((f"default {name}", value) for name, value in (function.__kwdefaults__ or {}).items())
    wrapped = getattr(function, "__wrapped__", None)
    if wrapped is not None:
        yield "__wrapped__", wrapped


def codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """A function's code, and that of the functions and classes inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes(constant)
