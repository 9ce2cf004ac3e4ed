"""Groups of numbers <-> bytes: keys and lengths by marshal, the numbers of all groups in one array."""

from __future__ import annotations

import marshal
from array import array
from collections.abc import Iterator
from itertools import chain


def pack(groups: dict[object, list], typecode: str) -> bytes:
    """Lists of numbers under keys of plain types; the typecode is `array`'s."""
    lists = groups.values()
    numbers = array(typecode, chain.from_iterable(lists))
    return marshal.dumps((list(groups), [len(values) for values in lists], numbers.tobytes()))


def unpack(blob: memoryview, typecode: str) -> Iterator[tuple[object, list]]:
    """Each key with its list."""
    keys, lengths, packed = marshal.loads(blob)
    numbers = array(typecode)
    numbers.frombytes(packed)
    values = numbers.tolist()
    at = 0
    for key, length in zip(keys, lengths, strict=True):
        yield key, values[at : at + length]
        at += length
