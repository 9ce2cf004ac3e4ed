"""Every exception that jmr raises, as one tree; the class says who is to blame.

    JmrError
    ├── ArgumentValueError  (also ValueError)   the call: an option out of range
    ├── ArgumentTypeError   (also TypeError)    the call: not callable, not a mapping, ...
    ├── TaskFileError       (also ValueError)   the task file: not there, not Python 3, has no mapfn, ...
    ├── NestedRunError                          the call: jmr.run inside a slot
    ├── SourceError                             your source: not iterable, yields what is no pair, cannot be read
    ├── FunctionError                           your function raised; `__cause__` is its own exception
    │   ├── MapError
    │   ├── CombineError
    │   ├── ReduceError
    │   └── FinalError
    ├── NotPicklableError   (also TypeError)    your objects: something that cannot travel between processes
    ├── NotJSONError        (also ValueError)   your result: JSON has no words for it
    ├── RemoteError                             stands for a user's exception that could not be pickled
    ├── SlotDiedError                           your function ended its slot: exit, signal
    ├── ReplayError         (also AttributeError)   there is no record to run again
    ├── WorkerError                             the worker: it does not start, or keeps dying
    ├── TokenError                              the token that workers on other hosts are known by: missing, not private
    └── JobCancelled        (also KeyboardInterrupt)   somebody cancelled the job

A message says what, with values; where; and what to do next. Every one of them survives pickling.
This room imports another only to show an exception.
"""

from __future__ import annotations

import os
import reprlib
import types
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Protocol, Self

__all__ = [
    "ArgumentTypeError",
    "ArgumentValueError",
    "CombineError",
    "FinalError",
    "FunctionError",
    "JmrError",
    "JobCancelled",
    "MapError",
    "NestedRunError",
    "NotJSONError",
    "NotPicklableError",
    "OfRecord",
    "ReduceError",
    "RemoteError",
    "Replay",
    "ReplayError",
    "SlotDiedError",
    "SourceError",
    "TaskFileError",
    "TokenError",
    "WorkerError",
    "brief",
    "describe",
    "hide_ours",
    "printable",
    "show_in_one_line",
    "without_ours",
]

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_CLOUDPICKLE = f"{os.sep}cloudpickle{os.sep}"


class JmrError(Exception):
    """Anything that jmr itself raises."""

    def _render_traceback_(self) -> list[str]:
        """IPython asks this; left alone, it would always show the innermost frame, which is one of ours."""
        from jmr import tracebacks

        return tracebacks.shown(self, without_ours(self.__traceback__))


class ArgumentValueError(JmrError, ValueError):
    """An argument of the right kind with a value that makes no sense."""


class ArgumentTypeError(JmrError, TypeError):
    """An argument of the wrong kind."""


class TaskFileError(JmrError, ValueError):
    """A task file that cannot be read, is no Python 3, or does not define a job."""


class NestedRunError(JmrError):
    """jmr.run was called by a function that jmr itself runs in a slot."""


class SourceError(JmrError):
    """The source is not iterable, yields something that is not a (key, value) pair, or some of it cannot be read."""


class Replay(Protocol):
    """A record or group, and the function that failed on it."""

    @property
    def key(self) -> Any:
        """The record's, or the group's."""

    @property
    def value(self) -> Any:
        """The record's value, or the group's list of values."""

    @property
    def is_pickled(self) -> bool:
        """Whether it holds no objects of the user's but pickled ones, of bounded size."""

    def run(self) -> Any:
        """Call the function on them."""


class OfRecord:
    """What errors can do that are of one record or group, if somebody knows which."""

    _replay: Replay | None = None

    @property
    def key(self) -> Any:
        """The key of the record, or of the group, as the function got it; a new copy each time."""
        return self.known_replay().key

    @property
    def value(self) -> Any:
        """The record's value, or the group's list of values, as the function got it; a new copy each time."""
        return self.known_replay().value

    def replay(self) -> Any:
        """Call the job's function on that record or group again, here, so that `%debug` and `breakpoint()` work.

        A function that ended its process is called in another one, and how that ends is told as the job told it.

        Returns
        -------
        What the function gives: of mapfn the list of its pairs. That it has not failed this time is printed.

        Raises
        ------
        Exception
            The function's own.
        ReplayError
            The record is not known: too large, say.
        """
        __tracebackhide__ = True
        try:
            return self.known_replay().run()
        except BaseException as error:
            hide_ours(error)
            raise

    @property
    def has_replay(self) -> bool:
        """Whether it is known to be of one record, which may be too large to be kept all the same."""
        return self._replay is not None

    def set_replay(self, replay: Replay | None) -> Self:
        """Say what it is of."""
        self._replay = replay
        return self

    def known_replay(self) -> Replay:
        """The record, and what to do with it. Raises ReplayError if it is of none."""
        if self._replay is None:
            raise ReplayError(f"this {type(self).__name__} is of no single record, so there is nothing to replay")
        return self._replay


class FunctionError(JmrError, OfRecord):
    """One of the user's functions failed; `__cause__` is the exception it raised, and its frames end the traceback."""

    def _render_traceback_(self) -> list[str]:
        """The user's exception, as if it had been raised here; then at which record, and where."""
        cause = self.__cause__
        if cause is None or cause.__traceback__ is not None:
            return super()._render_traceback_()
        from jmr import tracebacks

        lines = tracebacks.shown(cause, without_ours(self.__traceback__))
        return tracebacks.stacked(lines, tracebacks.shown_group(cause), tracebacks.last_words(self))


class MapError(FunctionError):
    """mapfn raised, or returned something that is no iterable of pairs."""


class CombineError(FunctionError):
    """combinefn raised."""


class ReduceError(FunctionError):
    """reducefn raised."""


class FinalError(FunctionError):
    """final raised, in the kernel; `result` is the finished job's dict."""

    result: Mapping[Any, Any]


class NotPicklableError(JmrError, OfRecord, TypeError):
    """An object that must travel between processes, and cannot."""


class NotJSONError(JmrError, ValueError):
    """A result that was to be printed as JSON, and holds what JSON cannot."""


class RemoteError(JmrError):
    """Stands for an exception of the user's that could not be pickled: its type and text, and its frames."""


class SlotDiedError(JmrError, OfRecord):
    """The user's code ended the process it ran in, again and again at the same record or group."""


class ReplayError(JmrError, AttributeError):
    """There is no record to run again, or it is not known any more."""


class WorkerError(JmrError):
    """A worker does not start, or dies without a reason that the user's code gave."""


class TokenError(JmrError):
    """The token by which workers on other hosts are known is missing, or not private."""


class JobCancelled(JmrError, KeyboardInterrupt):  # noqa: N818 - named as asyncio and trio name it
    """The job was cancelled; also a KeyboardInterrupt, so that the rest of a cell and Run All stop."""

    def _render_traceback_(self) -> list[str]:
        return [f"JobCancelled: {self}"]


#: Characters in which one of ours says what and where.
_BRIEF_ERROR = 300
#: To sort a larger set takes long.
_MOST_SORTED = 1_000
#: Whose classes say quickly and briefly what they are.
_PLAIN_MODULES = {"builtins", "collections", "datetime", "decimal", "fractions", "numpy", "pathlib", "uuid"}


class _Brief(reprlib.Repr):
    """reprlib with room for a record, and for subclasses of containers too: a Counter of millions has a long repr.

    Dicts keep their order. Without `calls_repr`, no code of a user's class is run.
    """

    def __init__(self, n_items: int, *, calls_repr: bool) -> None:
        super().__init__()
        self._calls_repr = calls_repr
        self.maxlevel, self.maxstring, self.maxother = 4, 120, 160
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxfrozenset = self.maxdeque = n_items

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        if not x or level <= 0:
            return "{...}" if x else "{}"
        items = [f"{self.repr1(k, level - 1)}: {self.repr1(x[k], level - 1)}" for k in islice(x, self.maxdict)]
        return f"{{{', '.join(items + ['...'] * (len(x) > self.maxdict))}}}"

    def repr_set(self, x: set[Any], level: int) -> str:
        few = x if len(x) <= _MOST_SORTED else set(islice(x, self.maxset + 1))
        return super().repr_set(few, level)

    def repr_instance(self, x: Any, level: int) -> str:
        if isinstance(x, bytes | bytearray) and len(x) > self.maxother:
            return f"{x[: self.maxother]!r}..."
        if isinstance(x, tuple) and hasattr(x, "_fields"):
            return self._fields(x, zip(x._fields, x, strict=False), level)
        if not self._calls_repr and type(x).__module__.partition(".")[0] not in _PLAIN_MODULES:
            if hasattr(type(x), "__dataclass_fields__"):
                return self._fields(x, ((name, getattr(x, name, ...)) for name in x.__dataclass_fields__), level)
            return f"<{type(x).__name__}>"
        for base in (str, list, tuple, dict, set, frozenset):
            if isinstance(x, base) and len(x) > self.maxother:
                brief: str = getattr(self, f"repr_{base.__name__}")(x, level)
                return f"{type(x).__name__}({brief})"
        return super().repr_instance(x, level)

    def _fields(self, x: Any, fields: Iterable[tuple[str, Any]], level: int) -> str:
        if level <= 0:
            return f"{type(x).__name__}(...)"
        return f"{type(x).__name__}({', '.join(f'{name}={self.repr1(value, level - 1)}' for name, value in fields)})"


def describe(obj: object, limit: int = 200, n_items: int = 8, *, calls_repr: bool = True) -> str:
    """Say what an object is in at most `limit` characters; never raises, never walks through a big container.

    Of a container it names `n_items`; what was left out is "...". What cannot be printed is escaped. Without
    `calls_repr`, a class of the user's is named by its fields, or by its name alone: its `__repr__` may do anything.

    Examples
    --------
    >>> describe(list(range(1_000)))
    '[0, 1, 2, 3, 4, 5, 6, 7, ...]'
    """
    try:
        text = _Brief(n_items, calls_repr=calls_repr).repr(obj)
    except (Exception, SystemExit):  # a user's __repr__ may raise anything, and an error message must still come out
        text = f"<{type(obj).__name__} object>"
    return printable(text, limit)


def brief(error: BaseException) -> str:
    r"""An exception among others, in one line: as it is written; of one of ours the first line of what it says.

    Examples
    --------
    >>> brief(ValueError("odd duck")), brief(WorkerError("it died.\nLook at its log."))
    ("ValueError('odd duck')", 'WorkerError: it died.')
    """
    if not isinstance(error, JmrError):
        return describe(error)
    return printable(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}", _BRIEF_ERROR)


def printable(text: str, limit: int) -> str:
    r"""One line of at most `limit` characters, with whatever cannot be printed escaped: it may turn a page around.

    Examples
    --------
    >>> printable("a\nb\x1b[2J\udcff\u202e", limit=80)
    'a b\\x1b[2J\\udcff\\u202e'
    """
    text = " ".join(text[: limit + 1].split("\n"))
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def show_in_one_line(error: BaseException, what: str) -> None:
    """Have IPython show no traceback: where the kernel was when somebody pressed stop tells nobody anything."""
    if not isinstance(error, JmrError):
        error._render_traceback_ = lambda: [f"KeyboardInterrupt: {what}"]  # type: ignore[attr-defined]


def hide_ours(error: BaseException) -> None:
    """Leave our own frames out of an exception and of all that led to it.

    What was being handled when a FunctionError was raised is its cause, or ours. Where IPython finds an ExceptionGroup
    there, it does not ask how the error wants to be shown.
    """
    seen: set[int] = set()
    linked: BaseException | None = error
    while linked is not None and id(linked) not in seen:
        seen.add(id(linked))
        linked.__traceback__ = without_ours(linked.__traceback__)
        if isinstance(linked, FunctionError):
            linked.__context__ = None
        linked = linked.__cause__ or linked.__context__


def without_ours(traceback: types.TracebackType | None) -> types.TracebackType | None:
    """Leave out our own frames, wherever they stand, and cloudpickle's: a reader looks for theirs."""
    kept = []
    while traceback is not None:
        filename = traceback.tb_frame.f_code.co_filename
        if not filename.startswith(_PACKAGE) and _CLOUDPICKLE not in filename:
            kept.append(traceback)
        traceback = traceback.tb_next
    rest: types.TracebackType | None = None
    for entry in reversed(kept):
        line = entry.tb_lineno or entry.tb_frame.f_code.co_firstlineno  # generated code may have no lines
        rest = types.TracebackType(rest, entry.tb_frame, entry.tb_lasti, line)
    return rest
