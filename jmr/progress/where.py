"""Which front end looks on: widgets, plain lines, a rewritten terminal line, or nobody.

    progress=False ─> NONE
    JMR_PROGRESS   ─> what it says, if that is one of these
    a kernel       ─> TEXT     when nobody is there to type (nbclient, papermill, nbmake), or in a console
                      WIDGETS  in JupyterLab, Notebook 7, VS Code, Colab, voila, with ipywidgets installed
    no kernel      ─> TERMINAL when stderr is one; else NONE, or TEXT with progress=True

IPython is never imported here: a script that does not use it must not pay for it.
"""

from __future__ import annotations

import enum
import functools
import importlib.util
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["FrontEnd", "front_end", "kernel_shell", "running_shell"]


class FrontEnd(enum.Enum):
    """How progress is shown."""

    #: ipywidgets in a notebook.
    WIDGETS = "widgets"
    #: Lines that stay, few of them: somebody reads a log.
    TEXT = "text"
    #: One line on stderr, rewritten.
    TERMINAL = "terminal"
    #: Nobody looks.
    NONE = "none"


def front_end(
    wanted: bool | None, environ: Mapping[str, str] = os.environ, *, tell: Callable[[str], None] = lambda sentence: None
) -> FrontEnd:
    """Say how a job that starts now shows its progress.

    Parameters
    ----------
    wanted
        The user's `progress=`: False is silence, True at least plain lines, None whatever fits.
    environ
        JMR_PROGRESS (widgets, text, terminal or none) overrides what is found out.
    tell
        Called with a sentence for the user where something is wrong with these surroundings, and is ignored.
    """
    if wanted is False:
        return FrontEnd.NONE
    if (asked := environ.get("JMR_PROGRESS")) and (named := _named(asked, tell)):
        return named
    shell = kernel_shell()
    if shell is not None:
        return _in_kernel(shell.get_parent() or {}, environ, tell)
    return _without_kernel(wanted, environ)


def running_shell() -> Any | None:
    """IPython's shell, if IPython runs."""
    ipython = sys.modules.get("IPython")
    return None if ipython is None else ipython.get_ipython()


def kernel_shell() -> Any | None:
    """IPython's shell, if it belongs to a Jupyter kernel."""
    shell = running_shell()
    return shell if getattr(shell, "kernel", None) is not None else None


def _named(word: str, tell: Callable[[str], None]) -> FrontEnd | None:
    try:
        return FrontEnd(word.strip().lower())
    except ValueError:
        words = ", ".join(each.value for each in FrontEnd)
        tell(f"JMR_PROGRESS is {word!r}, which is ignored; it can be one of: {words}.")
        return None


def _in_kernel(parent: Mapping[str, Any], environ: Mapping[str, str], tell: Callable[[str], None]) -> FrontEnd:
    voila = environ.get("SERVER_SOFTWARE", "").startswith("voila")
    if not voila and parent.get("content", {}).get("allow_stdin") is False:
        return FrontEnd.TEXT
    shows_widgets = voila or "cellId" in parent.get("metadata", {}) or "google.colab" in sys.modules
    return FrontEnd.WIDGETS if shows_widgets and _may_use_ipywidgets(tell) else FrontEnd.TEXT


def _without_kernel(wanted: bool | None, environ: Mapping[str, str]) -> FrontEnd:
    if sys.stderr is not None and sys.stderr.isatty() and environ.get("TERM") != "dumb":
        return FrontEnd.TERMINAL
    return FrontEnd.TEXT if wanted else FrontEnd.NONE


def _may_use_ipywidgets(tell: Callable[[str], None]) -> bool:
    try:
        return _has_ipywidgets()
    except Exception as error:  # an import hook of somebody's, or a module that is half there
        tell(f"ipywidgets cannot be looked for, so progress is shown as text: {type(error).__name__}: {error}")
        return False


@functools.cache
def _has_ipywidgets() -> bool:
    """Found, not imported: that costs 100 ms, and short jobs never show a bar."""
    return importlib.util.find_spec("ipywidgets") is not None
