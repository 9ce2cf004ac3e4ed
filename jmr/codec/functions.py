"""The user's functions, with what they capture, as one blob a job.

    dump_functions(mapfn=, ...) ── fails ──> blame(mapfn) ──> "mapfn -> helper -> lock"

Functions travel together, so that those which share a global variable at home share it in a slot too.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from typing import Any

from jmr.codec.values import Buffer, dump, dump_by_value
from jmr.errors import NotPicklableError, describe

__all__ = ["blame", "dump_functions"]


def dump_functions(functions: dict[str, Callable[..., Any] | None]) -> list[Buffer]:
    """Turn the job's functions, by name, into one blob.

    Raises
    ------
    NotPicklableError
        Names the function, and the path from it to the variable that cannot travel.
    """
    try:
        return dump_by_value(functions)
    except Exception as error:
        for name, function in functions.items():
            if found := blame(name, function):
                path, culprit, reason = found
                raise NotPicklableError(
                    f"{path} cannot be sent to the workers: {describe(culprit)}: {reason}. "
                    f"Create it inside {name}, or pass what it is made of."
                ) from error
        raise NotPicklableError(f"the functions cannot be sent to the workers: {error}") from error


def blame(name: str, obj: object) -> tuple[str, object, str] | None:
    """Find what keeps `obj` from being pickled.

    Returns
    -------
    The path to it, itself, and pickle's reason; None if `obj` pickles.
    """
    reason = _reason_against(obj)
    if reason is None:
        return None
    path, seen = name, {id(obj)}
    while True:
        for label, child in _children(obj):
            if id(child) not in seen and (why := _reason_against(child)) is not None:
                seen.add(id(child))
                path, obj, reason = f"{path} -> {label}", child, why
                break
        else:
            return path, obj, reason


def _reason_against(obj: object) -> str | None:
    try:
        dump(obj)
    except Exception as error:  # an object's own __reduce__ may raise anything
        return f"{type(error).__name__}: {error}"
    return None


def _children(obj: object) -> Iterator[tuple[str, object]]:
    """What pickling `obj` would pickle next, with the names a reader would use."""
    match obj:
        case types.FunctionType():
            yield from _captured(obj)
        case types.MethodType():
            yield "self", obj.__self__
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


def _captured(function: types.FunctionType) -> Iterator[tuple[str, object]]:
    for name in _global_names(function.__code__):
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


def _global_names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _global_names(constant)
