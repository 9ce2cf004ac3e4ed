"""An engine on trial, and how its answers are compared with those of `inline`: items, order and types."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import jmr

__all__ = ["ELSEWHERE", "ENGINES", "PROCESSES", "Trial", "exactly", "on"]

#: Those that need packages, and Java, which not every environment has.
_LARGE = ("dask", "ray", "spark", "connect")
#: In the order in which they are tried. Those that are somebody else's; and those whose workers are processes.
ENGINES = ("inline", "cluster", "executor", "threads", *_LARGE)
ELSEWHERE = ENGINES[2:]
PROCESSES = ("cluster", "executor", *_LARGE)


def marked(names: Sequence[str]) -> list[Any]:
    """The same, as parameters of a fixture."""
    marks = [pytest.mark.engines, pytest.mark.slow]
    return [pytest.param(name, marks=marks if name in _LARGE else []) for name in names]


def on(*names: str) -> pytest.MarkDecorator:
    """For a test that is not for all of them."""
    return pytest.mark.parametrize("engine", marked(names), indirect=True)


class Trial:
    """An engine, and how to run jobs on it."""

    def __init__(self, name: str, value: Any) -> None:
        self.name = name
        #: What `engine=` takes.
        self.value = value

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def run(self, source: Any, mapfn: Any, reducefn: Any = None, **options: Any) -> jmr.Result:
        """As `jmr.run`."""
        __tracebackhide__ = True
        return jmr.run(source, mapfn, reducefn, **({"engine": self.value, "progress": False} | options))

    def submit(self, source: Any, mapfn: Any, reducefn: Any = None, **options: Any) -> jmr.Job:
        """As `jmr.submit`."""
        return jmr.submit(source, mapfn, reducefn, **({"engine": self.value, "progress": False} | options))

    def check(self, source: Any, mapfn: Any, reducefn: Any = None, **options: Any) -> jmr.Result:
        """Run a job there and inline, and find no difference; a source that is read once is given as what makes it."""
        __tracebackhide__ = True
        make = source if callable(source) else lambda: source
        expected = self.run(make(), mapfn, reducefn, **options, engine="inline")
        result = self.run(make(), mapfn, reducefn, **options)
        assert exactly(result) == exactly(expected)
        return result


def exactly(result: dict[Any, Any]) -> list[tuple[Any, Any]]:
    """The items as values that are equal only if they are the same in all that matters."""
    return [(form(key), form(value)) for key, value in result.items()]


def form(thing: Any) -> Any:
    """Types are told apart, equal or not; so are -0.0 and 0.0; NaNs are equal."""
    kind = type(thing)
    if isinstance(thing, np.ndarray):
        return kind, str(thing.dtype), thing.shape, thing.tobytes()
    if isinstance(thing, dict):
        return kind, exactly(thing)
    if isinstance(thing, list | tuple | collections.deque):
        return kind, [form(part) for part in thing]
    if isinstance(thing, set | frozenset):
        return kind, sorted((form(part) for part in thing), key=repr)
    return kind, repr(thing)
