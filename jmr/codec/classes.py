"""Classes that travel by value, and the identities by which they are known where they arrive.

    pickled by value ──> a class and its identity ──> whoever knows a class by that identity takes that one

An identity is made up when a class is first pickled, so the same class has another one in each process that defines it.
What was pickled for one process is to be loaded for a later one, as instances of its own classes: then these must be
known by their old identities, too.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from cloudpickle import cloudpickle as dynamic

from jmr.codec.values import is_by_value

__all__ = ["class_named", "count_known", "know_as", "known_classes"]


def known_classes() -> Iterator[tuple[type, str]]:
    """Classes of this process that were pickled by value and can be found by their names; and their identities."""
    with dynamic._DYNAMIC_CLASS_TRACKER_LOCK:
        known: list[tuple[type, str]] = list(dynamic._DYNAMIC_CLASS_TRACKER_BY_CLASS.items())
    for cls, identity in known:
        if class_named(cls.__module__, cls.__qualname__) is cls:
            yield cls, identity


def count_known() -> int:
    """How many classes have an identity, findable or not."""
    return len(dynamic._DYNAMIC_CLASS_TRACKER_BY_CLASS)


def class_named(module: str, qualname: str) -> type | None:
    """The class that this process has by that name, if it travels by value.

    Examples
    --------
    >>> class_named("collections", "OrderedDict"), class_named("__main__", "no.such")
    (None, None)
    """
    found: object = sys.modules.get(module)
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return found if isinstance(found, type) and is_by_value(module) else None


def know_as(cls: type, identity: str) -> None:
    """Take this class, as long as somebody holds it, for what was pickled as a class of that identity."""
    with dynamic._DYNAMIC_CLASS_TRACKER_LOCK:
        dynamic._DYNAMIC_CLASS_TRACKER_BY_ID[identity] = cls
