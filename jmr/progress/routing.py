"""Which cell the output of a thread belongs to.

    calling thread:  parent = current_parent()          the request that runs this cell
    other thread:    with routed_to(parent): print(...)  lands there, whichever cell runs by then

Without this a thread's output goes to the cell that happens to run now. `shell.set_parent` must never be called from a
thread: it moves everybody's output.
"""

from __future__ import annotations

import contextlib
import contextvars
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from jmr.progress.where import kernel_shell

__all__ = ["cell_of", "current_parent", "displayed", "routed_to"]

Parent = Mapping[str, Any]


def current_parent() -> Parent | None:
    """The request that the kernel is answering in this thread; None outside a kernel."""
    shell = kernel_shell()
    return None if shell is None else shell.get_parent() or None


def cell_of(parent: Parent | None) -> str | None:
    """Names one execution of one cell; None where there are no cells."""
    return None if parent is None else _header(parent).get("msg_id")


def displayed(thing: object, **options: Any) -> Any:
    """IPython's `display`, for who has already found that IPython runs."""
    import IPython.display

    display: Any = IPython.display.display
    return display(thing, **options)


@contextlib.contextmanager
def routed_to(parent: Parent | None) -> Iterator[None]:
    """What this thread prints or displays inside goes to the cell that `parent` came from.

    ipykernel 7.4 has a call for it; 7.0 to 7.3 keep a context variable in every output; before that a kernel has one
    parent for all its threads, and nothing is changed.
    """
    shell = kernel_shell()
    if shell is None or parent is None:
        yield
    elif hasattr(shell, "set_thread_parent"):
        token = shell.set_thread_parent(parent)
        try:
            yield
        finally:
            shell.reset_thread_parent(token)
    else:
        with _parent_variables_set(shell, _header(parent)):
            yield


def _header(parent: Parent) -> Any:
    return parent.get("header", parent)


@contextlib.contextmanager
def _parent_variables_set(shell: Any, header: Any) -> Iterator[None]:
    outputs = (sys.stdout, sys.stderr, getattr(shell, "display_pub", None), getattr(shell, "displayhook", None))
    variables = [getattr(output, "_parent_header", None) for output in outputs]
    tokens = [(v, v.set(header)) for v in variables if isinstance(v, contextvars.ContextVar)]
    try:
        yield
    finally:
        for variable, token in tokens:
            variable.reset(token)
