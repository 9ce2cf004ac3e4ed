"""A user's exception, carried from a slot to the kernel with its frames.

    slot:   exception, traceback ──raised_from──> Raised (plain values) ──> bytes
    kernel: bytes ──> Raised ──rebuild──> the exception again, its traceback pointing at the user's own lines

Frames cannot be pickled, so a traceback is rebuilt: for each frame a line of code is compiled that raises at the same
file, line and columns, under the same name. Python and IPython then print the source that the kernel knows by that file
name: for a cell, the cell's own lines, carets included.

An exception that does not survive pickling (an `__init__` of its own is enough) is made again without that; if even
this does not give what it was, a RemoteError with its type and text takes its place. Chains (`raise ... from`), notes,
and the exceptions in an ExceptionGroup are kept, with their frames.
"""

from __future__ import annotations

import ast
import contextlib
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from jmr.codec.values import dump, load
from jmr.errors import RemoteError, describe, without_ours

__all__ = ["Raised", "raised_from", "rebuild"]

#: Frames kept of a deep recursion, at each end; who shows them says once what is repeated.
_FRAMES_KEPT = 1_000
#: A larger pickled exception carries data, not a message.
_EXCEPTION_BYTES = 1 << 20
_CHAIN_LENGTH = 8


@dataclass(frozen=True, slots=True)
class Frame:
    """One entry of a traceback; columns count UTF-8 bytes from 0, as `ast` does."""

    filename: str
    name: str
    first_line: int
    line: int
    end_line: int
    column: int
    end_column: int


@dataclass(frozen=True, slots=True)
class Raised:
    """An exception as plain values."""

    type_name: str
    text: str
    blob: bytes | None
    frames: tuple[Frame, ...]
    notes: tuple[str, ...] = ()
    cause: Raised | None = None
    #: `cause` was given by `raise ... from`, not merely being handled at the time.
    explicit: bool = False
    #: What an ExceptionGroup holds.
    members: tuple[Raised, ...] = ()

    def __str__(self) -> str:
        return f"{self.type_name}({self.text})" if self.text else f"{self.type_name}()"


def raised_from(error: BaseException, depth: int = 0) -> Raised:
    """Take an exception apart; `depth` exceptions of its chain were taken apart already."""
    linked = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    members = error.exceptions if isinstance(error, BaseExceptionGroup) and depth < _CHAIN_LENGTH else ()
    return Raised(
        type_name=type(error).__name__,
        text=_text_of(error),
        blob=_pickled(error, members),
        frames=_frames(without_ours(error.__traceback__)),
        notes=_notes_of(error),
        cause=raised_from(linked, depth + 1) if linked is not None and depth < _CHAIN_LENGTH else None,
        explicit=error.__cause__ is not None,
        members=tuple(raised_from(member, depth + 1) for member in members),
    )


def rebuild(raised: Raised) -> BaseException:
    """Make the exception again, with a traceback over the user's frames."""
    error = _unpickled(raised)
    error.__traceback__ = _traceback(raised.frames)
    if raised.cause is not None:
        if raised.explicit:
            error.__cause__ = rebuild(raised.cause)
        else:
            error.__context__ = rebuild(raised.cause)
    return error


def _notes_of(error: BaseException) -> tuple[str, ...]:
    notes = getattr(error, "__notes__", None)
    return tuple(note for note in notes if isinstance(note, str)) if isinstance(notes, list) else ()


def _text_of(error: BaseException) -> str:
    if isinstance(error, SyntaxError):  # its arguments are the line, and where in it
        return repr(str(error))
    inner = describe(error, 2_000)  # "ValueError('odd duck')"
    prefix = type(error).__name__ + "("
    return inner[len(prefix) : -1] if inner.startswith(prefix) and inner.endswith(")") else inner


def _pickled(error: BaseException, members: Sequence[BaseException]) -> bytes | None:
    """A blob of the exception, or of its parts, from which it comes back; a traceback never travels in it."""
    with _bare(error):
        if members:  # they travel with their frames, beside it
            return _blob_of(_Parts.of(error, args=error.args[:1]), error, members)
        return _blob_of(error, error) or _blob_of(_Parts.of(error), error)


@contextlib.contextmanager
def _bare(error: BaseException) -> Iterator[None]:
    """Without its frames and its chain, which travel beside it: Dask has all exceptions pickle theirs."""
    frames, cause, context, suppresses = (
        error.__traceback__,
        error.__cause__,
        error.__context__,
        error.__suppress_context__,
    )
    error.__traceback__ = error.__cause__ = error.__context__ = None
    try:
        yield
    finally:
        error.__traceback__, error.__cause__, error.__context__ = frames, cause, context
        error.__suppress_context__ = suppresses


def _blob_of(carrier: object, error: BaseException, members: Sequence[BaseException] = ()) -> bytes | None:
    """None if what comes out is not of the exception's class, or would say something else."""
    try:
        blob = b"".join(dump(carrier))
        back = _whole(load(blob), members)
        same = type(back) is type(error) and str(back) == str(error)
    except BaseException:
        return None
    return blob if same and len(blob) <= _EXCEPTION_BYTES else None


def _whole(loaded: Any, members: Sequence[BaseException]) -> Any:
    """The exception that a blob held, as it was or in parts."""
    return loaded.joined(members) if isinstance(loaded, _Parts) else loaded


@dataclass(frozen=True, slots=True)
class _Parts:
    """What an exception is made of, for one whose `__init__` takes other arguments than it hands on."""

    kind: type[BaseException]
    args: tuple[Any, ...]
    attributes: dict[str, Any]

    @classmethod
    def of(cls, error: BaseException, args: tuple[Any, ...] | None = None) -> _Parts:
        """Those of its attributes that can be pickled."""
        attributes = {name: value for name, value in vars(error).items() if _survives(value)}
        return cls(type(error), error.args if args is None else args, attributes)

    def joined(self, members: Sequence[BaseException]) -> BaseException:
        """The exception again; an ExceptionGroup holds these members."""
        if issubclass(self.kind, BaseExceptionGroup):
            error: BaseException = BaseExceptionGroup.__new__(self.kind, self.args[0], members)
        else:
            error = self.kind.__new__(self.kind, *self.args)
            error.args = self.args
        vars(error).update(self.attributes)
        return error


def _survives(value: object) -> bool:
    try:
        load(b"".join(dump(value)))
    except BaseException:
        return False
    return True


def _unpickled(raised: Raised) -> BaseException:
    if raised.blob is not None:
        try:
            error = _whole(load(raised.blob), [rebuild(member) for member in raised.members])
            if isinstance(error, BaseException):
                return error
        except Exception as failure:  # a module that only the slot could import, say
            note = f"(it could not be unpickled here: {describe(failure)})"
            return _stand_in(raised, note)
    return _stand_in(raised)


def _stand_in(raised: Raised, *more: str) -> RemoteError:
    error = RemoteError(str(raised))
    for note in (*raised.notes, *more):
        error.add_note(note)
    return error


def _frames(traceback: types.TracebackType | None) -> tuple[Frame, ...]:
    """Those of one place in the code are one object, so that a recursion's are made and pickled once."""
    frames: list[Frame] = []
    known: dict[tuple[int, int], Frame] = {}
    while traceback is not None:
        place = id(traceback.tb_frame.f_code), traceback.tb_lasti
        if place not in known:
            known[place] = _frame(traceback)
        frames.append(known[place])
        traceback = traceback.tb_next
    if len(frames) > 2 * _FRAMES_KEPT:
        frames[_FRAMES_KEPT:-_FRAMES_KEPT] = []
    return tuple(frames)


def _frame(traceback: types.TracebackType) -> Frame:
    code = traceback.tb_frame.f_code
    index = traceback.tb_lasti // 2  # below 0 in frames that C code made, as Cython does
    positions = islice(code.co_positions(), index, None) if index >= 0 else iter(())
    line, end_line, column, end_column = next(positions, (None, None, None, None))
    if line is None or end_line is None or column is None or end_column is None:
        line = end_line = traceback.tb_lineno or code.co_firstlineno or 1
        column = end_column = 0
    return Frame(code.co_filename, code.co_name, code.co_firstlineno, line, end_line, column, end_column)


def _traceback(frames: tuple[Frame, ...]) -> types.TracebackType | None:
    traceback: types.TracebackType | None = None
    entries: dict[Frame, types.TracebackType] = {}
    for frame in reversed(frames):
        if frame not in entries:
            entries[frame] = _entry(frame)
        entry = entries[frame]
        traceback = types.TracebackType(traceback, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return traceback


def _entry(frame: Frame) -> types.TracebackType:
    """A traceback entry whose frame runs code named and placed like the user's."""
    first_line = min(frame.first_line, frame.line)
    above = first_line - 1  # a code object's lines count from its first, which `replace` moves
    place: dict[str, Any] = {
        "lineno": frame.line - above,
        "end_lineno": frame.end_line - above,
        "col_offset": frame.column,
        "end_col_offset": frame.end_column,
    }
    statement = ast.Raise(exc=ast.Name(id="error", ctx=ast.Load(), **place), cause=None, **place)
    code = compile(ast.Module(body=[statement], type_ignores=[]), frame.filename, "exec")
    code = code.replace(co_name=frame.name, co_qualname=frame.name, co_firstlineno=first_line)
    try:
        exec(code, {"error": _Placeholder(), "__name__": "__main__"})
    except _Placeholder as raised:
        entry = raised.__traceback__.tb_next if raised.__traceback__ is not None else None
    assert entry is not None, "the compiled line raises"
    return entry


class _Placeholder(Exception):  # noqa: N818 - never seen
    """Raised to obtain a frame."""
