"""Classes that travel by value, and the identities by which they are known where they arrive.

    pickled by value ──> a class and its identity ──> whoever knows a class by that identity takes that one

An identity is made up when a class is first pickled, so the same class has another one in each process that defines it.
What was pickled for one process is to be loaded for a later one, as instances of its own classes: then these must be
known by their old identities, too.
"""

from __future__ import annotations

import sys

from cloudpickle import cloudpickle as dynamic

from jmr.codec.values import is_by_value

__all__ = ["class_named", "identity_of", "know_as"]


def identity_of(cls: type) -> str | None:
    """A class's identity; None if it was not pickled by value."""
    with dynamic._DYNAMIC_CLASS_TRACKER_LOCK:
        identity: str | None = dynamic._DYNAMIC_CLASS_TRACKER_BY_CLASS.get(cls)
    return identity


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
