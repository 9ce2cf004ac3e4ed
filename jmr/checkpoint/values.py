"""What data is made of: equal parts, equal value.

    set ───────────> its items, in no order
    numpy array ───> dtype, shape, bytes in C order
    function ... ──> as `code` says
    anything else ─> what pickling takes it apart into: its class, and its state

Types count: 1, 1.0 and True are three values, and so are -0.0 and 0.0. So does the order of a dict.
"""

from __future__ import annotations

import copyreg
import sys
import types
import weakref
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, TypeVar

from jmr.checkpoint.code import CODE_RULES, code_parts
from jmr.checkpoint.modules import Modules
from jmr.checkpoint.printing import Parts
from jmr.codec.values import Buffer, reduced

__all__ = ["parts_of"]

#: Kinds of arrays whose bytes are their value: numbers, times, text of fixed length, structures of such.
_BY_BYTES = frozenset("?biufcmMSUV")
#: Bytes of an array that are put in order at once.
_PIECE_BYTES = 1 << 22


def parts_of(obj: object, modules: Modules) -> Parts:
    """Take an object apart.

    Raises
    ------
    Exception
        As pickling the object would.
    """
    rule = _RULES.get(type(obj))
    if rule is not None:
        return rule(obj)
    parts = code_parts(obj, modules)
    if parts is not None:
        return parts
    if isinstance(obj, (set, frozenset)) and _reduces_as(obj, set, frozenset):
        return Parts("kind of set", [type(obj), obj.__getstate__(), frozenset(obj)])
    numpy = sys.modules.get("numpy")
    arrays = () if numpy is None else (numpy.generic, numpy.ndarray)
    if isinstance(obj, arrays) and _reduces_as(obj, *arrays):
        return _array(obj, numpy)
    return _reduced(obj, modules)


def _reduced(obj: object, modules: Modules) -> Parts:
    parts = reduced(obj)
    if isinstance(parts, str):
        module = getattr(obj, "__module__", None)
        return Parts("by name", [type(obj), parts, modules.print_of(module) if isinstance(module, str) else None])
    make, arguments, state, items, pairs, set_state = (*parts, *(None,) * 4)[:6]
    kind = "object"
    if make is copyreg.__newobj__:  # type: ignore[attr-defined]
        kind, (make, *arguments) = "new object", arguments
    listed = list(items or ())
    rest = [state, set_state, len(listed), *listed, *chain.from_iterable(pairs or ())]
    return Parts(kind, [make, len(arguments), *arguments, *rest], n_apart=1)


def _reduces_as(obj: object, *kinds: type) -> bool:
    """Whether an object is of one of these kinds, and pickled as that kind is, whatever else its class has."""
    ways = ("__reduce__", "__reduce_ex__")
    return any(
        isinstance(obj, kind) and all(getattr(type(obj), way) is getattr(kind, way) for way in ways) for kind in kinds
    )


# ---- containers and bytes


def _dict(obj: dict[Any, Any]) -> Parts:
    return Parts("dict", list(chain.from_iterable(obj.items())))


def _buffer(obj: bytearray | bytes) -> Parts:
    return Parts(type(obj).__name__, [len(obj)], raw=[obj])


def _text(obj: str) -> Parts:
    encoded = obj.encode("utf-8", "surrogatepass")
    return Parts("str", [len(encoded)], raw=[encoded])


def _type_variable(obj: TypeVar) -> Parts:
    """Pickled, it would have an identity of its own in each process."""
    return Parts(
        "TypeVar", [obj.__name__, obj.__bound__, obj.__constraints__, obj.__covariant__, obj.__contravariant__]
    )


# ---- numpy


def _array(array: Any, numpy: Any) -> Parts:
    head = [type(array), array.dtype, array.shape]
    if array.dtype.names is not None:  # there may be gaps between the fields, which hold anything
        fields = numpy.asarray(array)
        return Parts("array of structures", [*head, *[fields[name] for name in array.dtype.names]])
    if array.dtype.kind in _BY_BYTES and not array.dtype.hasobject:
        return Parts("array", head, raw=_pieces(numpy.asarray(array), numpy))
    return Parts("array of objects", [*head, *numpy.asarray(array).ravel().tolist()])


def _pieces(array: Any, numpy: Any) -> Iterator[Buffer]:
    """An array's bytes in C order; what lies in another order is copied piece by piece."""
    if array.flags.c_contiguous:
        yield _bytes_of(array, numpy)
        return
    n_rows = max(1, _PIECE_BYTES * len(array) // max(1, array.nbytes))
    for row in range(0, len(array), n_rows):
        yield _bytes_of(numpy.ascontiguousarray(array[row : row + n_rows]), numpy)


def _bytes_of(array: Any, numpy: Any) -> Buffer:
    if not array.nbytes:
        return b""
    view: Buffer = array.reshape(-1).view(numpy.uint8).data
    return view


_RULES: dict[type, Callable[[Any], Parts]] = {
    list: lambda obj: Parts("list", obj),
    tuple: lambda obj: Parts("tuple", obj),
    dict: _dict,
    set: lambda obj: Parts("set", list(obj), is_ordered=False),
    frozenset: lambda obj: Parts("frozenset", list(obj), is_ordered=False),
    str: _text,
    bytes: _buffer,
    bytearray: _buffer,
    types.MappingProxyType: lambda obj: Parts("mappingproxy", [dict(obj)]),
    TypeVar: _type_variable,
    weakref.WeakSet: lambda obj: Parts("WeakSet", list(obj), is_ordered=False),
    **CODE_RULES,
}
