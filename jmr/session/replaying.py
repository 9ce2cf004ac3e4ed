"""jmr.replay: the record that the last job failed at, given to its function once more.

    run_plan ── fails ──remember──> the last failure ──replay──> the user's exception, live

A job that was cancelled has not failed. What is remembered is the record, if it is pickled, and no frame: a traceback
would keep all that its frames hold.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

from jmr.errors import OfRecord, Replay, ReplayError, hide_ours

__all__ = ["remember", "replay"]


@dataclass(frozen=True, slots=True)
class _Failed:
    job: str
    #: The error, in one line.
    told: str
    #: The error itself, if it is of a record.
    error: weakref.ref[OfRecord] | None
    #: Its replay, if that holds no objects of the user's but pickled ones.
    replay: Replay | None

    def found(self) -> Replay:
        """What can be run again."""
        if self.replay is not None:
            return self.replay
        error = None if self.error is None else self.error()
        if error is not None and error.has_replay:
            return error.known_replay()
        kept = "at no single record" if self.error is None or error is not None else "and its record is gone"
        raise ReplayError(
            f"job {self.job!r}, the last that failed, did so {kept}: {self.told.rstrip('.')}. To step through the "
            'whole job here: engine="inline"'
        )


_last: _Failed | None = None


def remember(job: str, error: BaseException, told: str) -> None:
    """Have `replay` know how a job has failed.

    Parameters
    ----------
    job
        Its name.
    error
        What it raised.
    told
        The same in one line.
    """
    global _last  # noqa: PLW0603 - a process has one last failure
    if not isinstance(error, OfRecord) or not error.has_replay:
        _last = _Failed(job, told, None, None)
        return
    found = error.known_replay()
    _last = _Failed(job, told, weakref.ref(error), found if found.is_pickled else None)


def replay() -> Any:
    """Give the record or group that the last job failed at to its function again, in this process.

    The function is the job's own, and the record is a copy of what it had been given, so it fails as it did: `%debug`
    then stops in the function, and a `breakpoint()` in it works. A function that ended its process is called in another
    one, and how that ends is told. The same as `replay()` of the error that the job raised, which also has the record:
    its `key` and its `value`.

    Returns
    -------
    What the function gives, if it does not fail this time, as is printed then; of mapfn the list of its pairs.

    Raises
    ------
    Exception
        The function's own.
    SlotDiedError
        It ended its process, again.
    ReplayError
        No job has failed, or the last one did so at no single record, or at one that is too large to be kept.

    Examples
    --------
    >>> import jmr
    >>> try:
    ...     jmr.run({"a": 1, "b": 0}, lambda key, value: [(key, 1 / value)], engine="inline")
    ... except jmr.MapError as error:
    ...     print(error.key, error.value)
    b 0
    >>> jmr.replay()
    Traceback (most recent call last):
    ZeroDivisionError: division by zero
    """
    __tracebackhide__ = True
    try:
        if _last is None:
            raise ReplayError("no job has failed in this process, so there is nothing to replay")
        return _last.found().run()
    except BaseException as error:
        hide_ours(error)
        raise
