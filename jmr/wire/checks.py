"""Whether the fields of a message are what its class says: for peers on other hosts, which may send anything.

    frame ──> fields (JSON) ──well_typed(kind, fields)──> message, or the connection ends

What a number means is for whoever reads the message to check.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["well_typed"]

Check = Callable[[Any], bool]
#: Nothing that is counted or measured is larger; what is larger may not even be a float any more.
_MOST = 1 << 62


def _is(kind: type) -> Check:
    return lambda value: type(value) is kind


def _is_int(value: Any) -> bool:
    return type(value) is int and abs(value) <= _MOST


def _is_float(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= _MOST  # which no NaN is


def _optional(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _sequence(check: Check) -> Check:
    return lambda value: type(value) is list and all(map(check, value))


def _row(*checks: Check) -> Check:
    return lambda value: (
        type(value) is list and len(value) == len(checks) and all(c(v) for c, v in zip(checks, value, strict=True))
    )


_RANGE = _row(_optional(_is(str)), _is_int, _is_int, _optional(_is_int))
#: By the text of the annotation.
_CHECKS: dict[str, Check] = {
    "bool": _is(bool),
    "float": _is_float,
    "int": _is_int,
    "int | None": _optional(_is_int),
    "str": _is(str),
    "str | None": _optional(_is(str)),
    "Range | None": _optional(_RANGE),
    "Sequence[int]": _sequence(_is_int),
    "Sequence[str]": _sequence(_is(str)),
    "Sequence[tuple[int, int]]": _sequence(_row(_is_int, _is_int)),
    "Sequence[tuple[int, Range]]": _sequence(_row(_is_int, _RANGE)),
}


def well_typed(kind: type, names: list[str], fields: list[Any]) -> bool:
    """Whether each field, in the order of `names`, has the type that the class says.

    Examples
    --------
    >>> from jmr.wire.messages import Printed
    >>> names = ["job", "name", "stream"]
    >>> well_typed(Printed, names, [1, "h2/1", 1]), well_typed(Printed, names, [[], "h2/1", 1])
    (True, False)
    """
    return all(_CHECKS[kind.__annotations__[name]](value) for name, value in zip(names, fields, strict=True))
