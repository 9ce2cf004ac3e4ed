"""The protocol of an engine, and how a failure becomes the error that the user sees.

    Plan ──Engine.run──> Partition, Partition, ...   (and counts, bad records into the Report)

A failure's error shows the user's own frames: they end its traceback, so that a debugger stops in the user's code.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import traceback
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from jmr import tracebacks
from jmr.codec.failures import Raised, rebuild
from jmr.codec.values import load
from jmr.errors import (
    CombineError,
    FunctionError,
    JmrError,
    MapError,
    NotPicklableError,
    ReduceError,
    SourceError,
    WorkerError,
    describe,
    without_ours,
)
from jmr.plan import Plan
from jmr.progress.report import Report
from jmr.result import BadRecord, Partition
from jmr.sources.base import told_unreadable
from jmr.tasks.contract import Failure

if TYPE_CHECKING:
    from jmr.engines.replay import Replay

__all__ = ["SUBJECTS", "Engine", "Place", "bad_record", "breakpoints_heard", "error_from", "users_place"]

#: File, line, and the name of the module.
Place = tuple[str, int, str]

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_IPYTHON = f"{os.sep}IPython{os.sep}core{os.sep}"

_FUNCTIONS: dict[str, tuple[str, type[FunctionError]]] = {
    "map": ("mapfn", MapError),
    "combine": ("combinefn", CombineError),
    "reduce": ("reducefn", ReduceError),
}
#: What each function is called on.
SUBJECTS = {"map": "record", "combine": "group", "reduce": "group", "final": "item"}


class Engine(Protocol):
    """Runs one plan at a time."""

    def run(self, plan: Plan, report: Report) -> Generator[Partition, None, None]:
        """Yield every partition of the result, decoded; in any order. Closed early, it stops the job."""

    def cancel(self) -> None:
        """Stop what `run` does, from any thread; its iterator raises JobCancelled."""

    def close(self) -> None:
        """End what this engine started, and nothing else."""


def error_from(
    failure: Failure, where: str, original: BaseException | None = None, replay: Replay | None = None
) -> JmrError:
    """Make the error for a failure.

    Parameters
    ----------
    failure
        As a task kept it.
    where
        "split map-4, attempt 1, worker local/1".
    original
        The user's exception itself, where it was raised in this process.
    replay
        Of the record, if it is of one.
    """
    if failure.phase not in _FUNCTIONS:
        return _error_around(failure, where)
    role, kind = _FUNCTIONS[failure.phase]
    at = f"for {SUBJECTS[failure.phase]} key={failure.key_text} ({where})"
    if failure.refused:
        return _refusal(failure, kind, f"\nSeen {at}.").set_replay(replay)
    cause = original if original is not None else rebuild(failure.raised)
    message = f"{role} raised {failure.raised} {at}."
    if failure.raised.type_name == "TypeError" and not without_ours(cause.__traceback__):  # it was the call itself
        message += f"\n{role} is called as {role}(key, {'value' if failure.phase == 'map' else 'values'})."
    if failure.raised.type_name != "NestedRunError":  # inline, that works
        message += f"\n{_way_in(original is not None, replay)}"
    error = kind(message).set_replay(replay).with_traceback(without_ours(cause.__traceback__))
    error.__cause__ = cause.with_traceback(None)
    return error


def _refusal(failure: Failure, kind: type[FunctionError], more: str = "") -> FunctionError | NotPicklableError:
    """For what user code gave, and jmr cannot use: no exception of the user's."""
    refused = NotPicklableError if failure.raised.type_name == "NotPicklableError" else kind
    return refused(_plain_text(failure.raised) + more)


def _way_in(is_here: bool, replay: Replay | None) -> str:
    """How to step through what failed."""
    debug = "%debug" if tracebacks.in_ipython() else "python -m pdb"
    if is_here:
        return f"To step through it: {debug}."
    if replay is None or replay.missing:
        how = "then" if tracebacks.in_ipython() else "under"
        return f'To step through it: run it again with engine="inline", {how} {debug}.'
    if tracebacks.in_ipython():
        return "To step through it here: jmr.replay(), then %debug."
    return f"To step through it: catch this error, and call its replay(), under {debug}."


def bad_record(failure: Failure, plan: Plan, *, travels: bool = True) -> BadRecord:
    """A failure that was set aside, for `result.errors`; `travels` as in `Replay`."""
    from jmr.engines.replay import Replay, function_of  # few jobs need it

    key, value, missing = _record_of(failure)
    error = _refusal(failure, _FUNCTIONS[failure.phase][1]) if failure.refused else rebuild(failure.raised)
    text = tracebacks.named("".join(traceback.format_exception(error)))
    if failure.phase == "read":
        return BadRecord("read", key, value, error, text)
    function = function_of(failure.phase, plan)
    replay = Replay(failure.phase, function, missing=missing, travels=travels)
    return BadRecord(failure.phase, key, value, error, text, replay)


def _record_of(failure: Failure) -> tuple[Any, Any, str]:
    """The record, or its key's text where it cannot be had; and why: one bad record must not cost the result."""
    if failure.record is None:
        return failure.key_text, None, "it cannot be pickled"
    try:
        key, value = load(failure.record)
    except Exception as error:  # unpickling runs the object's own code
        return failure.key_text, None, f"it cannot be unpickled: {describe(error)}"
    return key, value, "" if failure.is_whole else "its value is too large to be kept, or cannot be pickled"


def _error_around(failure: Failure, where: str) -> JmrError:
    """For what failed around the user's functions."""
    raised = failure.raised
    error: JmrError
    match failure.phase:
        case "read":
            cause = rebuild(raised)
            error = SourceError(f"{told_unreadable(failure.key_text, cause)} ({where}).")
            error.__cause__ = cause
            return error
        case "load":
            what = f"what a task needs cannot be unpickled there ({where}): {raised}"
            error = SourceError(f"{what}. Its classes must be importable on the worker, or stand in a cell.")
        case "merge":
            error = NotPicklableError(
                f"a value that mapfn or combinefn gave was pickled, and cannot be unpickled ({where}): {raised}. "
                "Emit what it is made of, or make its class picklable."
            )
        case "pickle":
            error = NotPicklableError(
                f"what mapfn emitted could not be pickled ({where}): {raised}. On a second try it could, so mapfn does "
                "not do the same twice, and which record it was is not known."
            )
        case "group":
            error = MapError(f"a key that mapfn emitted cannot be looked up among the others ({where}): {raised}")
        case "functions":
            error = NotPicklableError(
                f"the job's functions cannot be unpickled on the worker ({where}): {raised}. "
                "What they use must be importable there, or stand in a cell."
            )
        case "spill":
            return WorkerError(f"{_plain_text(raised)} ({where})")
        case _:
            error = WorkerError(f"an attempt failed outside of your functions ({where}): {raised}")
    error.__cause__ = rebuild(raised)
    return error


def _plain_text(raised: Raised) -> str:
    """The message of an error of ours, without its class."""
    original = rebuild(raised)
    return str(original.args[0]) if original.args else str(raised)


@contextlib.contextmanager
def breakpoints_heard() -> Iterator[None]:
    """Have breakpoint() stop here in a kernel, too.

    ipykernel imports debugpy, whose hook passes by where no front end's own debugger is connected. In other threads
    nobody can answer.
    """
    hook, debugpy = sys.breakpointhook, sys.modules.get("debugpy")
    is_main = threading.current_thread() is threading.main_thread()
    is_debugpys = str(getattr(hook, "__module__", "")).partition(".")[0] == "debugpy"
    if debugpy is None or not is_debugpys or not is_main or debugpy.is_client_connected():
        yield
        return
    sys.breakpointhook = sys.__breakpointhook__
    try:
        yield
    finally:
        sys.breakpointhook = hook


def users_place() -> Place:
    """Where the user called jmr, in this thread: the innermost frame that is neither ours nor IPython's."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_inside(frame.f_code.co_filename):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno, str(frame.f_globals.get("__name__", ""))


def _is_inside(filename: str) -> bool:
    return filename.startswith(_OURS) or _IPYTHON in filename
