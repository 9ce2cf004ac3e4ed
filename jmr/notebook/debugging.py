"""--debug: a job has failed, and a debugger opens at the record, in the function that failed.

    job ── fails ──> replay, here ── raises ──> IPython shows it, and opens %debug ──> the job's own error, in a line

Where no debugger can be had, the job's error says why, in a note.
"""

from __future__ import annotations

import bdb
from collections.abc import Callable
from functools import partial
from typing import Any

from jmr import tracebacks
from jmr.errors import JmrError, OfRecord, ReplayError, SlotDiedError, hide_ours

__all__ = ["debugged"]


def debugged(shell: Any, call: Callable[[], Any]) -> Any:
    """What `call` returns; if it raises an error of one record, that is run again first, in a debugger.

    Raises
    ------
    JmrError
        What `call` has raised.
    """
    __tracebackhide__ = True
    try:
        return call()
    except JmrError as error:
        failed = error
    # Out of its `except`: what happens in the debugger has nothing to do with it.
    if obstacle := _obstacle(shell, failed):
        failed.add_note(f"--debug: {obstacle}")
    else:
        assert isinstance(failed, OfRecord)
        _debug(shell, failed)
    raise failed from failed.__cause__


def _obstacle(shell: Any, error: JmrError) -> str:
    """Why no debugger can be opened; empty if one can."""
    if isinstance(error, SlotDiedError):
        return "what ends its process would end the kernel, so there is no stepping through it."
    if not isinstance(error, OfRecord) or not error.has_replay:
        return "the job failed at no single record, so there is nothing to step through."
    if not _can_ask(shell):
        return "this front end takes no input (it has no stdin), so no debugger could be opened."
    return ""


def _can_ask(shell: Any) -> bool:
    """Whether whoever runs this cell can be asked for something, as a debugger does."""
    kernel = getattr(shell, "kernel", None)  # a terminal's shell has none
    return kernel is None or bool(getattr(kernel, "_allow_stdin", True))


def _debug(shell: Any, error: OfRecord) -> None:
    """Show how it fails now, and open the debugger there, as %debug does."""
    __tracebackhide__ = True
    assert isinstance(error, JmrError)
    try:
        error.replay()
    except KeyboardInterrupt:
        raise
    except bdb.BdbQuit:  # it had stopped at a breakpoint(), and somebody has seen enough
        pass
    except ReplayError as unknown:
        error.add_note(f"--debug: {unknown}")
    except BaseException as raised:
        hide_ours(raised)  # the frame of this very function is there again
        shell.showtraceback()
        if not shell.call_pdb:  # else it has opened one already
            shell.debugger(force=True)
        error._render_traceback_ = partial(tracebacks.last_words, error)  # type: ignore[method-assign]
