r"""JSON lines: one object a line, `{"key": ..., "value": ...}`, in UTF-8.

    keys ──each as text──┐
    values ──each as text┴──> lines

It holds what JSON does: str, int, float, bool, None, lists, dicts with str keys. Tuples become lists, numpy's numbers
plain ones. NaN and the infinities are written as Python's json writes them, `NaN` and `Infinity`, which Python reads
and strict readers do not. A key that is a list in the file was a tuple, and is one again when it is read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from json.encoder import encode_basestring
from typing import Any

from jmr.codec.values import PLAIN_TYPES
from jmr.errors import describe
from jmr.sinks.base import Encoded, PartError

__all__ = ["Lines"]


class Lines:
    """The format; see `jmr.sinks.base.Format`.

    Examples
    --------
    >>> encoded = Lines().encoded(["a", ("b", 1)], [2.5, [None]])
    >>> print(encoded.content.decode(), end="")
    {"key": "a", "value": 2.5}
    {"key": ["b", 1], "value": [null]}
    >>> Lines().decoded(encoded.content)
    (['a', ('b', 1)], [2.5, [None]])
    """

    suffix = ".jsonl"
    title = "JSON"

    def check(self) -> None:
        """It needs nothing."""

    def encoded(self, keys: list[Any], values: list[Any]) -> Encoded:
        """The lines. Types are looked at a column at a time: most are plain, and cost no call of ours each."""
        unfit: dict[int, tuple[bool, str]] = {}
        columns = zip(_texts(keys, True, unfit), _texts(values, False, unfit), strict=True)
        if unfit:
            columns = (texts for index, texts in enumerate(columns) if index not in unfit)  # type: ignore[assignment]
        lines = [f'{{"key": {key}, "value": {value}}}\n' for key, value in columns]
        return Encoded(_in_utf8(lines), unfit)

    def decoded(self, content: bytes) -> tuple[list[Any], list[Any]]:
        """All lines at once: a line's end stands nowhere else, as it is escaped inside of text."""
        try:
            rows = json.loads(f"[{content.decode().rstrip().replace(chr(10), ',')}]")
            keys, values = [row["key"] for row in rows], [row["value"] for row in rows]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise PartError(f"it is not made of lines as jmr writes them: {error}") from error
        if list in set(map(type, keys)):
            keys = list(map(_hashable, keys))
        return keys, values

    def common(self, schemas: list[bytes]) -> bytes:
        """There are none."""
        return b""

    def turned(self, content: bytes, schema: bytes) -> bytes:
        """They stay as they are."""
        return content


def _texts(column: list[Any], is_key: bool, unfit: dict[int, tuple[bool, str]]) -> list[str]:
    write = _writer_of(column)
    if write is not None:
        try:
            return list(map(write, column))
        except ValueError:  # a number with too many digits
            pass
    texts = []
    for index, obj in enumerate(column):
        text = ""
        try:
            text = _encode(obj)
            _check(obj)
        except RecursionError:
            unfit[index] = is_key, "it is too deep"
        except Exception as error:  # an object's own code may be asked, such as that of a subclass of dict
            unfit[index] = is_key, str(error)
        texts.append(text)
    return texts


def _writer_of(column: list[Any]) -> Callable[[Any], str] | None:
    """What writes each of a column's values, if they are all of one plain type."""
    match list(set(map(type, column))):
        case [only] if only is str:
            return encode_basestring
        case [only] if only is int:
            return int.__repr__
        case [only] if only is float and all(map(math.isfinite, column)):
            return float.__repr__
    return None


def _number(obj: Any) -> Any:
    """What numpy's numbers are in Python."""
    if type(obj).__module__ == "numpy" and getattr(obj, "ndim", None) == 0 and hasattr(obj, "dtype"):
        plain = obj.item()
        if isinstance(plain, (bool, int, float)) and not hasattr(plain, "dtype"):
            return plain
    raise TypeError(f"{describe(obj, 60)} is a {type(obj).__name__}")


_encode = json.JSONEncoder(ensure_ascii=False, default=_number).encode


def _check(obj: Any) -> None:
    """Refuse dicts with other keys: json would turn them into text."""
    if type(obj) in PLAIN_TYPES:
        return
    if isinstance(obj, dict):
        for key in obj:
            if not isinstance(key, str):
                raise TypeError(f"a dict has the key {describe(key, 60)}, and only a str can be one")
        inner: Any = obj.values()
    elif isinstance(obj, (list, tuple)):
        inner = obj
    else:
        return
    for each in inner:
        if type(each) not in PLAIN_TYPES:
            _check(each)


def _in_utf8(lines: list[str]) -> bytes:
    try:
        return "".join(lines).encode()
    except UnicodeEncodeError:  # half of a pair of surrogates: as an escape it can be written
        return "".join(line if _is_whole(line) else json.dumps(json.loads(line)) + "\n" for line in lines).encode()


def _is_whole(line: str) -> bool:
    try:
        line.encode()
    except UnicodeEncodeError:
        return False
    return True


def _hashable(key: Any) -> Any:
    return tuple(map(_hashable, key)) if isinstance(key, list) else key
