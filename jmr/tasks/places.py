"""Where a key belongs: a number that equal keys share in every process.

    type(key) ── first rule that knows it ──> (place, token), kept in a table by type
    PLACES[type(key)](key)   64 bits, or None where nobody can tell
    TOKENS[type(key)]        None for most; else says whether a NaN is inside, and refuses what is equal only to itself

A place depends on the key's value alone: the slots of a job are many processes, on many hosts, and each of them must
send a key where the others send its equals. So `hash()` of a str is no use (salted per process), and 1, 1.0, True and
Decimal(1), one dict key to Python, must have one place. Numbers go by Python's own numeric hash, and places are mixed
by its tuple hash (xxHash; unsalted over ints): both are one C call, and the same in every process of one minor version
and word size.

Keys that are equal to Python must get the same place, or at least one of them None. So a class with an `__eq__` or a
`__hash__` that this module does not know is never guessed at. It must never import the library of a type (numpy,
decimal, pathlib): a slot starts fast, and whoever has such a key has imported it.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Hashable
from itertools import repeat
from operator import attrgetter
from types import BuiltinFunctionType, FunctionType, MethodType, MethodWrapperType
from typing import Any, TypeAlias
from zlib import crc32

from jmr.codec.process import OWN_MODULES

__all__ = ["PLACES", "TOKENS", "IdentityKeyError", "place", "places"]

Place: TypeAlias = Callable[[Any], int | None]
#: None: a key of this type neither holds a NaN nor must be refused. Else a function: the key's token, or None.
Token: TypeAlias = Callable[[Any], Hashable | None] | None
Rule: TypeAlias = Callable[[type], tuple[Place, Token] | None]

_64_BITS = (1 << 64) - 1
_NAN_PLACE = 0x7FF8_0000_0000_0000


class IdentityKeyError(TypeError):
    """A key that is equal only to itself: its copies in other processes would never meet."""


# A table's `__missing__` runs once per type: after that a key costs one lookup and one call.
class _ByType(dict[type, Any]):
    def __missing__(self, cls: type) -> Any:
        PLACES[cls], TOKENS[cls] = next(found for rule in _RULES if (found := rule(cls)) is not None)
        return self[cls]


PLACES: dict[type, Place] = _ByType()
TOKENS: dict[type, Token] = _ByType()


def place(key: Hashable) -> int | None:
    """A number that equal keys share in every process: their partition is `place(key) % n_partitions`.

    Parameters
    ----------
    key
        Anything that can be a dict's key.

    Returns
    -------
        From 0 to 2**64 - 1, well mixed in the low bits; None where the key, or something inside it, has a type whose
        equality is its own affair (pandas.Timestamp, a class of yours with `__eq__`).

    Raises
    ------
    IdentityKeyError
        If the key, or something inside it, is equal only to itself.
    TypeError
        If the key is not hashable: Python's own error.

    Examples
    --------
    >>> place(1) == place(1.0) == place(True) == place(1 + 0j)
    True
    >>> place("duck") % 16, place(("duck", 1)) % 16
    (7, 13)
    >>> print(place(range(3)))
    None
    """
    return PLACES[type(key)](key)


def places(keys: list[Hashable]) -> list[int | None]:
    """The place of each key; where all keys are of one type, and that is str or int, in half the time."""
    kinds = set(map(type, keys))
    if kinds == {str}:
        try:
            return list(map(crc32, map(str.encode, keys)))  # type: ignore[arg-type]
        except UnicodeEncodeError:  # `_text` knows how
            pass
    if kinds == {int}:
        return [mixed & _64_BITS for mixed in map(hash, zip(keys, repeat(7)))]
    return [PLACES[type(key)](key) for key in keys]


# The sentinels of tokens: keys with NaNs in them become structures that compare as if NaN were equal to NaN.
class _NaN:
    """Every NaN."""


class _NaT:
    """Before the type of a numpy time that is not a time: each unpickled one is a key of its own, too."""


class _Tuple:
    """Before the elements of a tuple: equal to any other tuple with these elements, namedtuples included."""


class _FrozenSet:
    """Before the counted elements of a frozenset: two NaN objects are two elements of it."""


def _element_tokens(elements: list[Any]) -> list[Hashable] | None:
    """The elements, with tokens in place of those that hold a NaN; None if none does."""
    found = False
    for position, element in enumerate(elements):  # to the end, since a later one may be an identity key
        token_of = TOKENS[type(element)]
        if token_of is not None:
            token = token_of(element)
            if token is not None:
                elements[position] = token
                found = True
    return elements if found else None


def _tuple_token(key: tuple[Any, ...]) -> Hashable | None:
    tokens = _element_tokens(list(tuple.__iter__(key)))
    return None if tokens is None else (_Tuple, *tokens)


def _frozenset_token(key: frozenset[Any]) -> Hashable | None:
    tokens = _element_tokens(list(frozenset.__iter__(key)))
    return None if tokens is None else (_FrozenSet, frozenset(Counter(tokens).items()))


def _inexact_token(key: Any) -> Hashable | None:
    return _NaN if key != key else None  # noqa: PLR0124 - only a NaN differs from itself


def _decimal_token(key: Any) -> Hashable | None:
    return _NaN if key.is_nan() else None


def _numpy_time_token(key: Any) -> Hashable | None:
    return (_NaT, type(key)) if key != key else None  # noqa: PLR0124


# The 7 only makes a tuple of it: `hash((key, 7))` is Python's hash of the key, mixed.
def _exact(key: Any) -> int:
    return hash((key, 7)) & _64_BITS


def _inexact(key: Any) -> int:
    return _NAN_PLACE if key != key else hash((key, 7)) & _64_BITS  # noqa: PLR0124


def _decimal(key: Any) -> int:
    return _NAN_PLACE if key.is_nan() else hash((key, 7)) & _64_BITS


# A checksum spreads well enough as it is (Redis Cluster places its keys by one), and mixing costs as much again.
def _text(key: str) -> int:
    try:
        return crc32(str.encode(key))
    except UnicodeEncodeError:  # lone surrogates, as in file names that are no UTF-8
        return crc32(str.encode(key, "utf-8", "surrogatepass"))


def _bytes(key: bytes) -> int:
    return crc32(key)


def _tuple(key: tuple[Any, ...]) -> int | None:
    places = [PLACES[type(element)](element) for element in tuple.__iter__(key)]
    return None if None in places else hash(tuple(places)) & _64_BITS


def _frozenset(key: frozenset[Any]) -> int | None:
    places: list[Any] = [PLACES[type(element)](element) for element in frozenset.__iter__(key)]
    return None if None in places else hash(tuple(sorted(places))) & _64_BITS  # sums of places are no good: {n, -n}


def _date(key: Any) -> int:
    return hash((key.toordinal(), 7)) & _64_BITS


def _datetime(key: Any) -> int:
    since = key.replace(tzinfo=None) - type(key)(1, 1, 1)
    offset = None if key.tzinfo is None else key.replace(fold=0).utcoffset()  # as datetime.__hash__ does
    return _timedelta(since if offset is None else since - offset)


def _time(key: Any) -> int | None:
    if key.tzinfo is not None:
        return None
    return hash((key.hour, key.minute, key.second, key.microsecond)) & _64_BITS


def _timedelta(key: Any) -> int:
    return hash((key.days, key.seconds, key.microseconds)) & _64_BITS


def _uuid(key: Any) -> int:
    return _exact(key.int)


def _path(key: Any) -> int:
    return _text(str(key))


def _class(key: type) -> int:
    return _text(f"{key.__module__}.{key.__qualname__}")


def _function(key: Any) -> int | None:
    """By name, for what pickle sends by name; any other function arrives as a new object each time."""
    owner = getattr(key, "__self__", None)
    if isinstance(owner, type):
        return _text(f"{owner.__module__}.{owner.__qualname__}.{key.__name__}")
    module = getattr(key, "__module__", None)
    found: Any = sys.modules.get(module) if isinstance(module, str) else None
    for name in key.__qualname__.split("."):
        found = getattr(found, name, None)
    if found is not key or module in OWN_MODULES:
        return _identity(key)
    return _text(f"{module}.{key.__qualname__}")


def _unstable(_key: Any) -> None:
    return None


def _identity(key: Any) -> int | None:
    """Refuse a key that is equal only to itself, unless unpickling it gives this very object (a time zone)."""
    if not _is_unpickled_as_itself(key):
        raise IdentityKeyError(
            f"a {type(key).__module__}.{type(key).__qualname__} cannot be a key: {_short_repr(key)} is equal only to "
            "itself, and every process has its own copy of it, so keys that look equal would never meet. Emit a str, a "
            "tuple of its values, or an instance of a frozen dataclass instead."
        )
    return None


def _is_unpickled_as_itself(key: Any) -> bool:
    try:
        reduced = key.__reduce_ex__(4)
        return isinstance(reduced, str) or reduced[0](*reduced[1]) is key
    except Exception:  # the user's code, or not picklable at all
        return False


def _short_repr(key: Any) -> str:
    try:
        text = repr(key)
    except Exception:  # the user's code
        text = object.__repr__(key)
    return text if len(text) <= 100 else f"{text[:97]}..."


# The rules: each says how to place the keys of a type, or None where it is not about that type.


def _acts_as(cls: type, base: type) -> bool:
    """Whether cls is base, or a subclass of it that compares and hashes as base does."""
    return issubclass(cls, base) and _has(cls, base, "__eq__") and _has(cls, base, "__hash__")


def _has(cls: type, base: type, method: str) -> bool:
    """Whether cls has just the method that base has."""
    return getattr(cls, method, None) is getattr(base, method, None)


def _loaded(module: str, name: str) -> Any:
    """An attribute of a module that somebody has imported; None if nobody has."""
    return getattr(sys.modules.get(module), name, None)


def _unhashable_rule(cls: type) -> tuple[Place, Token] | None:
    return (hash, hash) if getattr(cls, "__hash__", None) is None else None  # `hash` raises Python's own error


def _numpy_rule(cls: type) -> tuple[Place, Token] | None:
    generic = _loaded("numpy", "generic")
    if generic is None or not issubclass(cls, generic):
        return None
    np = sys.modules["numpy"]
    base = next((base for base in cls.__mro__ if base.__module__ == "numpy"), cls)
    if not _acts_as(cls, base):
        return _unstable, None
    if issubclass(cls, (np.datetime64, np.timedelta64)):
        return _unstable, _numpy_time_token  # their hash is salted, or not, from one numpy to the next
    if issubclass(cls, (np.integer, np.bool_)):
        return _exact, None
    if issubclass(cls, np.inexact):
        return _inexact, _inexact_token
    if issubclass(cls, np.str_):
        return _text, None
    return (_bytes if issubclass(cls, np.bytes_) else _unstable), None


_BY_BASE: list[tuple[type, Place, Token]] = [
    (str, _text, None),
    (int, _exact, None),
    (float, _inexact, _inexact_token),
    (tuple, _tuple, _tuple_token),
    (bytes, _bytes, None),
    (frozenset, _frozenset, _frozenset_token),
    (complex, _inexact, _inexact_token),
]

_BY_LOADED_BASE: list[tuple[str, str, Place, Token]] = [
    ("decimal", "Decimal", _decimal, _decimal_token),
    ("fractions", "Fraction", _exact, None),
]

# Not their subclasses: a pandas.Timestamp is a datetime, equal to some, with more to it.
_BY_LOADED_TYPE: list[tuple[str, str, Place]] = [
    ("datetime", "date", _date),
    ("datetime", "datetime", _datetime),
    ("datetime", "time", _time),
    ("datetime", "timedelta", _timedelta),
    ("uuid", "UUID", _uuid),
    ("pathlib", "PurePosixPath", _path),
    ("pathlib", "PosixPath", _path),
]


def _value_rule(cls: type) -> tuple[Place, Token] | None:
    """What compares by value, subclasses included: IntEnum and StrEnum, which equal plain values, and namedtuples."""
    for base, place_of, token_of in _BY_BASE:
        if _acts_as(cls, base):
            return place_of, token_of
    for module, name, place_of, token_of in _BY_LOADED_BASE:
        loaded = _loaded(module, name)
        if loaded is not None and _acts_as(cls, loaded):
            return place_of, token_of
    return None


def _library_rule(cls: type) -> tuple[Place, Token] | None:
    for module, name, place_of in _BY_LOADED_TYPE:
        if _loaded(module, name) is cls:
            return place_of, None
    return None


def _singleton_rule(cls: type) -> tuple[Place, Token] | None:
    if cls not in {type(None), type(Ellipsis), type(NotImplemented)}:
        return None
    constant = _text(cls.__qualname__)
    return (lambda _: constant), None


def _class_rule(cls: type) -> tuple[Place, Token] | None:
    """Keys that are classes; cls is their metaclass."""
    return (_class, None) if issubclass(cls, type) and _acts_as(cls, type) else None


def _function_rule(cls: type) -> tuple[Place, Token] | None:
    if cls not in {FunctionType, BuiltinFunctionType, MethodType, MethodWrapperType}:
        return None
    return _function, _refusal(_function)


def _enum_rule(cls: type) -> tuple[Place, Token] | None:
    """Members with no more than identity: by name, or by value for flags, whose combinations may have no name."""
    enum = _loaded("enum", "Enum")
    if enum is None or not issubclass(cls, enum) or not _has(cls, object, "__eq__"):
        return None
    name_of_class = _class(cls)
    attribute = attrgetter("_value_" if issubclass(cls, _loaded("enum", "Flag")) else "_name_")

    def by_member(key: Any) -> int | None:
        return _tuple((name_of_class, attribute(key)))

    return by_member, None


def _dataclass_rule(cls: type) -> tuple[Place, Token] | None:
    """Dataclasses with both methods generated, by class and fields; the class above that has the methods says which."""
    owner = next(base for base in cls.__mro__ if "__eq__" in vars(base))
    generated = _is_generated(owner, "__eq__") and _is_generated(owner, "__hash__")
    if "__dataclass_fields__" not in vars(owner) or not generated or not _acts_as(cls, owner):
        return None
    from dataclasses import fields

    names = [field.name for field in fields(owner) if field.compare and field.hash is not False]
    name_of_class = _class(cls)

    def values(key: Any) -> list[Any]:
        return [getattr(key, name) for name in names]

    def by_fields(key: Any) -> int | None:
        return _tuple((name_of_class, *values(key)))

    def fields_token(key: Any) -> Hashable | None:
        tokens = _element_tokens(values(key))
        return None if tokens is None else (cls, *tokens)

    return by_fields, fields_token


def _is_generated(cls: type, method: str) -> bool:
    # dataclasses compiles its methods from text inside a function of this name. The code's file name ("<string>") says
    # less: a method written by hand in `python -c` has it, too.
    code = getattr(vars(cls).get(method), "__code__", None)
    return getattr(code, "co_qualname", None) == f"__create_fn__.<locals>.{method}"


def _identity_rule(cls: type) -> tuple[Place, Token] | None:
    """Either of the two by identity is enough for a dict to keep equal-looking keys apart."""
    if _has(cls, object, "__eq__") or _has(cls, object, "__hash__"):
        return _identity, _identity
    return None


def _unknown_rule(_cls: type) -> tuple[Place, Token]:
    return _unstable, None


def _refusal(place_of: Place) -> Token:
    """A token function for keys that hold no NaN, and may have to be refused."""

    def token_of(key: Any) -> None:
        place_of(key)

    return token_of


_RULES: list[Rule] = [
    _unhashable_rule,
    _numpy_rule,
    _value_rule,
    _singleton_rule,
    _library_rule,
    _class_rule,
    _function_rule,
    _enum_rule,
    _dataclass_rule,
    _identity_rule,
    _unknown_rule,
]
