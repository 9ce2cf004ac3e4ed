"""Any object to one blob, and back.

    dump(obj) ──> [head, pickle ..., pad, buffer, pad, buffer ...] ──> sendmsg / writev ──> load(bytearray)

Plain pickle first, because it is fast. It pickles a class or function of `__main__` by reference, which another process
cannot resolve, so a pickle that names `__main__` is made again by cloudpickle, by value; so is one that names a module
that was registered for that, such as a task file. Arrays and other objects that offer their memory (PEP 574) travel as
buffers of their own, uncopied, and so do large bytes; loaded from a bytearray, arrays are writable.

    dump_columns(keys, values) ──> one blob a column, or one of all if they are short ──> load_columns

A column of plain values (str, int, float, bytes, None, bool) is pickled without a memo, which takes a fifth of the
time: such values hold nothing that could be shared or lead back to itself.

This module must never ship the content of an open file: whoever reads it elsewhere would not get what a file gives.
"""

from __future__ import annotations

import dis
import functools
import inspect
import io
import itertools
import pickle
import struct
import sys
import types
import weakref
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import NoneType, SimpleNamespace
from typing import Any, ClassVar

import cloudpickle
from cloudpickle import cloudpickle as dynamic

from jmr.codec import process
from jmr.errors import NotPicklableError

__all__ = [
    "PLAIN_TYPES",
    "Buffer",
    "byte_length",
    "dump",
    "dump_at_most",
    "dump_by_value",
    "dump_columns",
    "dump_groups",
    "is_by_value",
    "lent",
    "load",
    "load_all",
    "load_batches",
    "load_columns",
    "reduced",
    "swap_classes",
    "uncopied",
]

Buffer = bytes | bytearray | memoryview
#: What holds nothing but itself; by these very types, not by subclasses.
PLAIN_TYPES = frozenset({str, int, float, bytes, bool, NoneType})
#: Number of buffers, length of the pickle.
_HEAD = struct.Struct("<IQ")
_LENGTH = struct.Struct("<Q")
#: Buffers and blobs start at multiples of this, so that arrays over them are aligned.
_ALIGN = 16
_PROTOCOL = 5
#: The last protocol in which an object's memory is a part of it.
_IN_BAND = 4
#: Pieces smaller than this in sum are joined: a copy is quicker than another item in a list.
_JOINED_BYTES = 1 << 16
#: Columns of fewer values are pickled together: each pickle costs as much as some dozen values.
_FEW = 64
#: Lists of at most so many values, on average, are worth a look at each of their values.
_SHORT = 4
#: So many values of a column tell whether its text repeats itself.
_SAMPLE = 64


def dump(obj: object) -> list[Buffer]:
    """Turn an object into pieces that, joined, are one blob.

    Raises
    ------
    Exception
        Whatever pickling raised: `NotPicklableError` for an open file, TypeError, PicklingError, or an error of the
        object's own `__reduce__`.

    Examples
    --------
    >>> load(bytearray(b"".join(dump({"a": [1, 2]}))))
    {'a': [1, 2]}
    """
    body: list[Buffer] = []
    buffers: list[pickle.PickleBuffer] = []
    try:
        # To a file, it writes frame by frame, and large bytes as they are: nothing is moved to a larger place.
        pickle.Pickler(SimpleNamespace(write=body.append), _PROTOCOL, buffer_callback=buffers.append).dump(obj)
    except Exception:  # whatever it was, cloudpickle knows more kinds of objects, or says what is wrong
        return dump_by_value(obj)
    if any(b"__main__" in piece for piece in body) or _names_registered(body):
        return dump_by_value(obj)
    return _pieces(body, buffers)


def _names_registered(body: list[Buffer]) -> bool:
    registered = cloudpickle.list_registry_pickle_by_value()
    return bool(registered) and any(name.encode() in piece for name in registered for piece in body)


def is_by_value(module: str | None) -> bool:
    """Whether functions and classes of a module travel by value, from here or from a slot that got them so."""
    return module in process.OWN_MODULES or module in cloudpickle.list_registry_pickle_by_value()


def dump_by_value(obj: object) -> list[Buffer]:
    """Like `dump`, with classes and functions of `__main__` and of registered modules inside the blob."""
    buffers: list[pickle.PickleBuffer] = []
    file = io.BytesIO()
    _Pickler(file, _PROTOCOL, buffers.append).dump(obj)
    return _pieces([file.getvalue()], buffers)


class _TooLarge(BaseException):
    """Ends pickling."""


def dump_at_most(obj: object, most_bytes: int) -> bytes | None:
    """One blob, writable when it was loaded from a bytearray; None if it would be larger, or cannot be pickled.

    What is larger costs no more time or memory than that.

    Examples
    --------
    >>> dump_at_most("x" * 1_000_000, 1_000) is None, load(dump_at_most("x", 1_000))
    (True, 'x')
    """
    left = most_bytes

    def count(n_bytes: int) -> None:
        nonlocal left
        left -= n_bytes
        if left < 0:
            raise _TooLarge

    def write(piece: bytes) -> None:
        count(len(piece))
        body.append(piece)

    def put_aside(buffer: pickle.PickleBuffer) -> None:
        count(buffer.raw().nbytes)
        buffers.append(buffer)

    body: list[Buffer] = []
    buffers: list[pickle.PickleBuffer] = []
    try:
        _Pickler(SimpleNamespace(write=write), _PROTOCOL, put_aside).dump(obj)
        return b"".join(_pieces(body, buffers))
    except (Exception, _TooLarge):  # pickling runs the objects' own code
        return None


def reduced(obj: object) -> str | tuple[Any, ...]:
    """What an object is taken apart into to be pickled, in the terms of `object.__reduce_ex__`.

    Not for functions, classes and modules, nor for what has a way of its own, such as a list.

    Raises
    ------
    Exception
        Whatever the object's own code raised; TypeError, or `NotPicklableError`, if it cannot be pickled.

    Examples
    --------
    >>> reduced(range(3))
    (<class 'range'>, (0, 3, 1))
    """
    reduce = next((table[type(obj)] for table in _REDUCERS if type(obj) in table), None)
    parts: str | tuple[Any, ...] = obj.__reduce_ex__(_IN_BAND) if reduce is None else reduce(obj)
    return parts


def lent(memory: Any) -> pickle.PickleBuffer:
    """Have an object's memory, as it lies there, travel as a buffer of its own; loaded, it is a memoryview.

    Examples
    --------
    >>> load(bytearray(b"".join(dump(lent(b"abc"))))).tobytes()
    b'abc'
    """
    return pickle.PickleBuffer(memory)


def dump_columns(*columns: list[Any], kinds: Sequence[set[type]] | None = None) -> list[Buffer]:
    """Turn lists, of the same length or empty, into pieces; see `load_columns`.

    What two columns share may come back as two objects.

    Parameters
    ----------
    columns
        The lists.
    kinds
        For each column the types of its values, if somebody knows.

    Raises
    ------
    Exception
        As `dump` does.

    Examples
    --------
    >>> load_columns(bytearray(b"".join(dump_columns(["a", "b"], [1, [2]]))), 2)
    [['a', 'b'], [1, [2]]]
    """
    if len(columns[0]) < _FEW:
        return dump(columns)
    if kinds is None:
        kinds = [set(map(type, column)) for column in columns]
    return [piece for column, of in zip(columns, kinds, strict=True) for piece in _dump_column(column, of)]


def dump_groups(*columns: list[Any], lists: list[list[Any]]) -> list[Buffer]:
    """Like `dump_columns`, with one more column, of lists of which nobody else holds one."""
    if len(lists) < _FEW:
        return dump((*columns, lists))
    short = sum(map(len, lists)) <= _SHORT * len(lists)
    flat = list(itertools.chain.from_iterable(lists)) if short else []
    plain = short and _is_plain(flat, set(map(type, flat)))
    return dump_columns(*columns) + (_dump_fast(lists) if plain else dump(lists))


def _dump_column(column: list[Any], kinds: set[type]) -> list[Buffer]:
    return _dump_fast(column) if _is_plain(column, kinds) else dump(column)


def _is_plain(column: list[Any], kinds: set[type]) -> bool:
    return kinds <= PLAIN_TYPES and not (str in kinds and _repeats_itself(column))


def _dump_fast(column: list[Any]) -> list[Buffer]:
    body: list[Buffer] = []
    pickler = pickle.Pickler(SimpleNamespace(write=body.append), _PROTOCOL)
    pickler.fast = True
    pickler.dump(column)
    return _pieces(body, [])


def _repeats_itself(column: list[Any]) -> bool:
    """Whether the memo, which sends equal text once if it is one object, is worth its time."""
    sample = column[:_SAMPLE]
    return 2 * len(set(map(id, sample))) < len(sample)


def load(blob: Buffer) -> Any:
    """Turn one blob back into its object; big buffers are views of `blob`, not copies."""
    obj, _ = _load_at(memoryview(blob), 0)
    return obj


def load_all(blob: Buffer) -> Iterator[Any]:
    """Yield the objects of several blobs that were joined."""
    view, offset = memoryview(blob), 0
    while offset < len(view):
        obj, offset = _load_at(view, offset)
        yield obj


def load_columns(blob: Buffer, n_columns: int) -> list[list[Any]]:
    """Turn what `dump_columns` gave, once or several times in a row, into so many lists."""
    batches = list(load_batches(blob, n_columns))
    if len(batches) == 1:
        return batches[0]
    return [list(itertools.chain.from_iterable(batch[column] for batch in batches)) for column in range(n_columns)]


def load_batches(blob: Buffer, n_columns: int) -> Iterator[list[list[Any]]]:
    """Like `load_columns`, with the lists of each `dump_columns` apart, one after the other."""
    lists: list[Any] = []
    for loaded in load_all(blob):
        if type(loaded) is tuple:  # short columns, all of them
            lists += loaded
        else:
            lists.append(loaded)
        if len(lists) == n_columns:
            yield lists
            lists = []


def uncopied(blob: Buffer) -> Any:
    """The blob as something that an engine's pickle takes along as a buffer, and may give back as a view of its own."""
    return pickle.PickleBuffer(blob)


def byte_length(pieces: Iterable[Buffer]) -> int:
    """Length in bytes of what `dump` gave."""
    return sum(map(len, pieces))


def _pieces(body: list[Buffer], buffers: list[pickle.PickleBuffer]) -> list[Buffer]:
    raws = [buffer.raw() for buffer in buffers]
    head = _HEAD.pack(len(raws), byte_length(body)) + b"".join(_LENGTH.pack(len(raw)) for raw in raws)
    pieces = [head, *body]
    offset = byte_length(pieces)
    for raw in raws:
        pieces += [bytes(-offset % _ALIGN), raw]
        offset += len(pieces[-2]) + len(raw)
    pieces.append(bytes(-offset % _ALIGN))
    return [b"".join(pieces)] if offset < _JOINED_BYTES else pieces


def _load_at(view: memoryview, offset: int) -> tuple[Any, int]:
    n_buffers, body_bytes = _HEAD.unpack_from(view, offset)
    start = offset + _HEAD.size + n_buffers * _LENGTH.size
    end = start + body_bytes
    buffers = []
    position = end
    for i in range(n_buffers):
        position += -(position - offset) % _ALIGN
        (length,) = _LENGTH.unpack_from(view, offset + _HEAD.size + i * _LENGTH.size)
        buffers.append(view[position : position + length])
        position += length
    position += -(position - offset) % _ALIGN
    return pickle.loads(view[start:end], buffers=buffers), position


def _refuse_file(file: io.TextIOWrapper) -> Any:
    if file is sys.stdout or file is sys.stderr:
        return getattr, (sys, "stdout" if file is sys.stdout else "stderr")
    raise NotPicklableError(f"an open file ({file.name!r}). Ship its path, and open it there.")


class _Forward:
    """Calls `target`, which is set later: a cached function may call itself, so its cache must exist before it."""

    target: Callable[..., Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.target(*args, **kwargs)


def _empty_cache(parameters: dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(_Forward())


def _fill_cache(cached: Any, function: Callable[..., Any]) -> None:
    cached.__wrapped__.target = function
    functools.update_wrapper(cached, function)
    # update_wrapper points __wrapped__ at the function; a second trip must find the function there, as at home.


# In a slot, a class that came from the kernel goes back by its identity: by value, cloudpickle would write the slot's
# copy of its methods and attributes over the kernel's own class.
_class_blobs: weakref.WeakKeyDictionary[type, bytes] = weakref.WeakKeyDictionary()


def _known_class(identity: str, by_value: bytes) -> Any:
    """The class that this process knows by that identity; else the one that was sent along."""
    known = dynamic._DYNAMIC_CLASS_TRACKER_BY_ID.get(identity)
    return pickle.loads(by_value) if known is None else known


def swap_classes(classes: dict[str, type]) -> dict[str, type]:
    """Have a slot know these classes by their identities, and no others; returns those that it knew.

    A class that travels by value is made of modules, such as one that has its base. Where another job has other modules
    of these names, it must get a class of its own.
    """
    with dynamic._DYNAMIC_CLASS_TRACKER_LOCK:
        known = dict(dynamic._DYNAMIC_CLASS_TRACKER_BY_ID)
        dynamic._DYNAMIC_CLASS_TRACKER_BY_ID.clear()
        dynamic._DYNAMIC_CLASS_TRACKER_BY_ID.update(classes)
    return known


def _class_blob(cls: type) -> bytes:
    if cls not in _class_blobs:
        file = io.BytesIO()
        _ValuePickler(file, _PROTOCOL).dump(cls)
        _class_blobs[cls] = file.getvalue()
    return _class_blobs[cls]


def _code_reduce(code: types.CodeType) -> Any:
    """As cloudpickle does it, with the file's name: from 3.1.3 on it says "<dynamic-code>", and no traceback would show
    the user's lines.
    """
    make, arguments = cloudpickle.Pickler.dispatch_table[types.CodeType](code)
    return _code_of_file, (code.co_filename, make, arguments)


def _code_of_file(filename: str, make: Callable[..., types.CodeType], arguments: tuple[Any, ...]) -> types.CodeType:
    return make(*arguments).replace(co_filename=filename)


def _cached_property_reduce(cached: functools.cached_property[Any]) -> Any:
    return _cached_property, (cached.func, cached.attrname)  # without the lock that it has before Python 3.12


def _cached_property(function: Callable[[Any], Any], name: str | None) -> functools.cached_property[Any]:
    cached = functools.cached_property(function)
    cached.attrname = name
    return cached


def _weak_keys_reduce(weak: weakref.WeakKeyDictionary[Any, Any]) -> Any:
    return weakref.WeakKeyDictionary, (dict(weak),)  # what functools.singledispatch keeps its finds in


def _loaded_in_classes(code: types.CodeType) -> set[str]:
    """Names that the bodies of classes inside code look up; `__name__` is there anyway."""
    names: set[str] = set()
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            names |= _loaded_in_classes(inner)
            if not inner.co_flags & inspect.CO_OPTIMIZED:
                names |= {step.argval for step in dis.get_instructions(inner) if step.opname == "LOAD_NAME"}
    return names - {"__name__"}


class _ValuePickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle, without open files, with the names of source files and what functools makes of functions."""

    dispatch_table: ClassVar[Any] = ChainMap(
        {
            io.TextIOWrapper: _refuse_file,
            types.CodeType: _code_reduce,
            functools.cached_property: _cached_property_reduce,
            weakref.WeakKeyDictionary: _weak_keys_reduce,
        },
        cloudpickle.Pickler.dispatch_table,
    )

    def _dynamic_function_reduce(self, function: types.FunctionType) -> Any:
        """With globals that only the body of a class in the function loads: cloudpickle does not see these."""
        reduction = super()._dynamic_function_reduce(function)
        for name in sorted(_loaded_in_classes(function.__code__) & function.__globals__.keys()):
            reduction[2][1]["__globals__"].setdefault(name, function.__globals__[name])
        return reduction

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, functools._lru_cache_wrapper) and is_by_value(obj.__module__):
            return _empty_cache, (obj.cache_parameters(),), obj.__wrapped__, None, None, _fill_cache
        return super().reducer_override(obj)


class _Pickler(_ValuePickler):
    """The same, in a slot with classes by the identities that they came with."""

    def reducer_override(self, obj: Any) -> Any:
        if process.is_slot and isinstance(obj, type) and obj in dynamic._DYNAMIC_CLASS_TRACKER_BY_CLASS:
            return _known_class, (dynamic._DYNAMIC_CLASS_TRACKER_BY_CLASS[obj], _class_blob(obj))
        return super().reducer_override(obj)


#: Where `_Pickler` finds how to take apart an object, by type. (Looked up one by one: a ChainMap is slow.)
_REDUCERS: list[Any] = [_Pickler.dispatch_table.maps[0], *cloudpickle.Pickler.dispatch_table.maps]
