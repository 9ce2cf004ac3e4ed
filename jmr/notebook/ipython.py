"""What the magics take from IPython, with types: its own differ from version to version, and some are wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import IPython.core.completer
import IPython.core.magic
import IPython.core.magic_arguments
from IPython.core.error import UsageError

__all__ = [
    "Function",
    "Magics",
    "SimpleCompletion",
    "UsageError",
    "argument",
    "cell_magic",
    "context_matcher",
    "line_magic",
    "magic_arguments",
    "magics_class",
    "needs_local_scope",
    "no_var_expand",
]

Function = TypeVar("Function", bound=Callable[..., Any])


class Decorator(Protocol):
    """Leaves the type of what it decorates alone."""

    def __call__(self, function: Function, /) -> Function: ...


_completer: Any = IPython.core.completer
_magic: Any = IPython.core.magic
_magic_arguments: Any = IPython.core.magic_arguments

Magics: Any = _magic.Magics
magics_class: Decorator = _magic.magics_class
cell_magic: Callable[[str], Decorator] = _magic.cell_magic
line_magic: Callable[[str], Decorator] = _magic.line_magic
needs_local_scope: Decorator = _magic.needs_local_scope
no_var_expand: Decorator = _magic.no_var_expand
argument: Callable[..., Decorator] = _magic_arguments.argument
magic_arguments: Callable[..., Decorator] = _magic_arguments.magic_arguments
#: None before IPython 8.6.
context_matcher: Any = getattr(_completer, "context_matcher", None)
SimpleCompletion: Any = getattr(_completer, "SimpleCompletion", None)
