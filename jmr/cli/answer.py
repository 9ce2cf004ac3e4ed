"""A result as text: a line for each key, or JSON.

    Result ──as_lines──> 'the': 3                for readers: Python's own notation
           ──as_json──> {"the": 3, ...}          every key is a str
                        [[1, "one"], ...]        else: pairs, since JSON has no other keys

All of it is made before any of it is printed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from jmr.errors import NotJSONError, describe

__all__ = ["as_json", "as_lines"]


def as_lines(result: Mapping[Any, Any]) -> str:
    """A line for each key, in the result's order.

    Examples
    --------
    >>> print(as_lines({"the": 3, (1, 2): None}), end="")
    'the': 3
    (1, 2): None
    """
    return "".join(f"{key!r}: {value!r}\n" for key, value in result.items())


def as_json(result: Mapping[Any, Any]) -> str:
    """One object if every key is a str, else one array of pairs; a line for each key.

    Raises
    ------
    NotJSONError
        Names the first key that JSON cannot hold, or whose value it cannot.

    Examples
    --------
    >>> print(as_json({"the": 3, "cat": [1, None]}), end="")
    {"the": 3,
     "cat": [1, null]}
    >>> print(as_json({1: "one", "2": "two"}), end="")
    [[1, "one"],
     ["2", "two"]]
    """
    if all(isinstance(key, str) for key in result):
        return _bracketed("{}", (f"{_of_key(key)}: {_of_value(key, value)}" for key, value in result.items()))
    return _bracketed("[]", (f"[{_of_key(key)}, {_of_value(key, value)}]" for key, value in result.items()))


def _bracketed(brackets: str, items: Iterable[str]) -> str:
    return brackets[0] + ",\n ".join(items) + brackets[1] + "\n"


def _of_key(key: Any) -> str:
    try:
        return json.dumps(key, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise NotJSONError(f"The key {describe(key)} ({type(key).__name__}) cannot be JSON: {error}.") from None


def _of_value(key: Any, value: Any) -> str:
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise NotJSONError(
            f"The value of key {describe(key)} ({type(value).__name__}) cannot be JSON: {error}. Let reducefn return "
            "numbers, text, lists and dicts."
        ) from None
