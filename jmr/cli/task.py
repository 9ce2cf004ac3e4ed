"""jmr run: a task file from its path to an exit code.

    TASKFILE ──> run, with stdout turned to stderr ──> final, or the answer, on stdout ──> exit code
                  └─ raises ──> the user's frames and one message on stderr

Whoever reads stdout gets the result and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import sys
import traceback
from collections.abc import Callable
from typing import Any, TextIO

from jmr.cli.answer import as_json, as_lines
from jmr.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    FunctionError,
    JmrError,
    TaskFileError,
    TokenError,
    WorkerError,
    brief,
    describe,
    hide_ours,
)
from jmr.result import BadRecords, Result
from jmr.session.calling import run
from jmr.session.taskfile import TaskFile

__all__ = ["run_task"]

DONE, FAILED, MISUSED, INTERRUPTED, UNREAD = 0, 1, 2, 130, 141
#: What a message tells somebody in a notebook, by its first words; and what it tells here.
_INSTEAD = {
    "To step through it": "To step through it: put breakpoint() there, and run it with --engine inline.",
    "To look into it": "To look into it: have it print where it is; its last lines are told. To go on without it: "
    "--on-error skip.",
    "The job itself had finished:": "The job itself had finished; without its final, its result is printed.",
}
#: So many skipped records are told one by one.
_TOLD = 5


def run_task(path: str, *, json: bool = False, listen: str | None = None, **options: Any) -> int:
    """Run a task file; print its result as JSON, or as lines unless its `final` prints.

    Parameters
    ----------
    path
        The task file.
    json
        Print the result as JSON; what `final` prints goes to stderr.
    listen
        Where workers of other hosts may join, and how to have them join is told on stderr.
    options
        Those of `jmr.run`.

    Returns
    -------
    The exit code.
    """
    out = sys.stdout
    try:
        _print_result(path, out, json, listen, options)
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except (TaskFileError, ArgumentTypeError, ArgumentValueError) as error:
        _say(_told(error))
        return MISUSED
    except Exception as error:
        if _is_broken_pipe(error) and _is_closed(out):
            return UNREAD
        hide_ours(error)
        _say_failed(error)
        return FAILED
    return DONE


def _cluster(listen: str | None, options: dict[str, Any]) -> contextlib.AbstractContextManager[object]:
    """One that listens, if one shall; else the job starts the usual one."""
    if listen is None:
        return contextlib.nullcontext()
    from jmr.engines.cluster import Cluster

    try:
        return Cluster(workers=options.get("workers"), listen=listen)
    except (WorkerError, TokenError) as error:
        raise ArgumentValueError(str(error)) from None


def _print_result(path: str, out: TextIO, json: bool, listen: str | None, options: dict[str, Any]) -> None:
    with contextlib.redirect_stdout(sys.stderr), TaskFile(path) as task:
        final = task.parts.get("final")
        if final is not None and not json:
            task.parts["final"] = _printing_to(out, final)
        with _cluster(listen, options):
            result: Result = run(**task.parts, **{"name": task.name} | options)
    _say_skipped(result.errors)
    if json or final is None:
        print(as_json(result) if json else as_lines(result), end="", file=out)
    print(end="", file=out, flush=True)


def _printing_to(out: TextIO, final: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def printing(key: Any, value: Any) -> None:
        with contextlib.redirect_stdout(out):
            final(key, value)

    return printing


def _is_broken_pipe(error: BaseException) -> bool:
    return isinstance(error, BrokenPipeError) or isinstance(error.__cause__, BrokenPipeError)


def _is_closed(out: TextIO) -> bool:
    """Whether it is stdout that nobody reads; if so, Python shall not fail to flush it once more at its end."""
    poll = select.poll()
    poll.register(out, 0)
    if not poll.poll(0):
        return False
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, out.fileno())
    os.close(devnull)
    return True


def _say(message: str) -> None:
    print(f"jmr: {message}", file=sys.stderr)


def _told(error: BaseException) -> str:
    """Its message, with what to do next from here instead of from a notebook."""
    message = str(error).replace('on_error="skip"', "--on-error skip")
    for old, new in _INSTEAD.items():
        message = re.sub(f"^{old}.*", new, message, flags=re.MULTILINE)
    return "\n".join([message, *getattr(error, "__notes__", [])])


def _say_failed(error: Exception) -> None:
    """The user's own exception as Python shows it; what we say about it in one message."""
    if not isinstance(error, JmrError):
        traceback.print_exception(error)
        return
    if isinstance(error, FunctionError) and error.__cause__ is not None:
        traceback.print_exception(error.__cause__.with_traceback(error.__traceback__))
    _say(_told(error))


def _say_skipped(errors: BadRecords) -> None:
    if not errors:
        return
    _say(f"skipped {errors.n_total:,} bad record{'' if errors.n_total == 1 else 's or groups'}:")
    for bad in errors[:_TOLD]:
        print(f"  {bad.phase} key={describe(bad.key)}: {brief(bad.error)}", file=sys.stderr)
    if errors.n_total > _TOLD:
        print(f"  and {errors.n_total - _TOLD:,} more", file=sys.stderr)
