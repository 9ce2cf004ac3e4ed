"""What the user asked for, checked and frozen.

    jmr.run(source, mapfn, ...) ──> Plan ──> an engine

A mistake in the call is told here, before anything starts. A plan never touches the source's records.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from jmr.errors import ArgumentTypeError, ArgumentValueError, describe, printable

if TYPE_CHECKING:
    from jmr.sinks.sink import Sink

__all__ = ["ENGINES", "MOST_WORKERS", "Plan", "checked_count"]

#: Those that have a name; the others are objects.
ENGINES = ("inline", "dask", "ray", "spark")

MOST_WORKERS = 10_000
#: The largest sensible numbers. Each map task cuts its output into n_partitions parts, so more is slower for everybody.
#: Most characters of a job's name: it stands in lines.
_NAME_WIDTH = 100
_MOST = {"workers": MOST_WORKERS, "n_partitions": 100_000, "max_attempts": 1_000}
#: No workers on this host: then those on others do all the work.
_LEAST = {"workers": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One job; the field names are the arguments of `jmr.run`."""

    source: Any
    mapfn: Callable[[Any, Any], Any]
    reducefn: Callable[[Any, list[Any]], Any] | None = None
    combinefn: Callable[[Any, list[Any]], Any] | None = None
    final: Callable[[Any, Any], Any] | None = None
    engine: Any = None
    workers: int | None = None
    n_partitions: int | None = None
    max_attempts: int = 4
    on_error: Literal["raise", "skip"] = "raise"
    #: None: where the engine can.
    speculate: bool | None = None
    #: A directory's path.
    checkpoint: str | None = None
    #: Where the results are written, if they are not brought back.
    out: Sink | None = None
    progress: bool | None = None
    name: str = "job"

    @classmethod
    def checked(cls, source: Any, mapfn: Any, reducefn: Any = None, *, name: Any = None, **options: Any) -> Plan:
        """Check every argument but the records.

        Raises
        ------
        ArgumentTypeError, ArgumentValueError
            Says which argument, its value, and what it should be.
        """
        if unknown := options.keys() - {field.name for field in fields(cls)}:
            raise ArgumentTypeError(f"jmr.submit has no option {min(unknown)!r}; see help(jmr.submit)")
        functions = {role: options.get(role) for role in ("combinefn", "final")}
        for role, function in {"mapfn": mapfn, "reducefn": reducefn, **functions}.items():
            _check_function(role, function)
        if name is not None and not isinstance(name, str):
            raise ArgumentTypeError(f"name must be a str, not {describe(name)}")
        for option, most in _MOST.items():
            value = options.pop(option, None)
            if value is not None:
                options[option] = checked_count(option, value, most=most, least=_LEAST.get(option, 1))
        on_error = options.get("on_error", "raise")
        if not isinstance(on_error, str) or on_error not in ("raise", "skip"):
            raise ArgumentValueError(f"on_error must be 'raise' or 'skip', not {describe(on_error)}")
        speculate = options.get("speculate")
        if speculate is not None and not isinstance(speculate, bool):
            raise ArgumentTypeError(f"speculate must be True, False or None, not {describe(speculate)}")
        if options.get("checkpoint") is not None:
            options["checkpoint"] = _checked_checkpoint(options["checkpoint"])
        if options.get("out") is not None:
            options["out"] = _checked_out(options)
        progress = options.get("progress")
        if progress is not None and not isinstance(progress, bool):
            raise ArgumentTypeError(f"progress must be True, False or None, not {describe(progress)}")
        return cls(
            source=source,
            mapfn=mapfn,
            reducefn=reducefn,
            name=printable(name or _name_of(mapfn), _NAME_WIDTH),
            **options,
        )

    @property
    def functions(self) -> dict[str, Any]:
        """What slots call, by name; and, in a job that writes its results, what does."""
        functions: dict[str, Any] = {"mapfn": self.mapfn, "combinefn": self.combinefn, "reducefn": self.reducefn}
        return functions if self.out is None else functions | {"out": self.out}

    @property
    def skips(self) -> bool:
        """Whether bad records are set aside instead of ending the job."""
        return self.on_error == "skip"


def _check_function(role: str, function: Any) -> None:
    if function is None and role != "mapfn":
        return
    if not callable(function):
        optional = "" if role == "mapfn" else ", or be left out"
        raise ArgumentTypeError(
            f"{role} must be a function of (key, {_SECOND[role]}){optional}; got {describe(function)} "
            f"({type(function).__name__})"
        )
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise ArgumentTypeError(f"{role} is an async function, and a slot has no event loop: write it with plain def")


_SECOND = {"mapfn": "value", "reducefn": "values", "combinefn": "values", "final": "value"}


def checked_count(option: str, value: Any, *, most: int, least: int = 1) -> int:
    """Check an option that is a whole number of things."""
    try:
        count = operator.index(value)
    except TypeError:
        count = None
    if count is None or isinstance(value, bool):
        raise ArgumentTypeError(f"{option} must be a whole number, not {describe(value)} ({type(value).__name__})")
    if not least <= count <= most:
        raise ArgumentValueError(f"{option} must be from {least} to {most:,}, not {count}")
    return count


def _checked_checkpoint(value: Any) -> str:
    """A str, or an object that stands for a path."""
    from jmr.urls import is_url, shown  # few jobs need it

    path = type(value).__fspath__(value) if hasattr(type(value), "__fspath__") else value
    if not isinstance(path, str):
        raise ArgumentTypeError(
            f"checkpoint must be a directory's path, not {describe(value)} ({type(value).__name__})"
        )
    if not path or "\0" in path:
        raise ArgumentValueError(f"checkpoint must be a directory's path, not {describe(value)}")
    if is_url(path):
        raise ArgumentValueError(
            f"checkpoint={shown(path)!r} is a URL, and a checkpoint needs a directory on this host"
        )
    return path


def _checked_out(options: dict[str, Any]) -> Sink:
    from jmr.sinks.sink import sink_for  # few jobs need it

    sink = sink_for(options["out"])
    if options.get("final") is not None:
        raise ArgumentValueError(
            "final is called with every result in this process, and out= has them written without bringing them here: "
            "leave out one of the two"
        )
    return sink


def _name_of(mapfn: Any) -> str:
    name = getattr(mapfn, "__name__", type(mapfn).__name__)
    return "job" if name in ("mapfn", "<lambda>") else str(name)
