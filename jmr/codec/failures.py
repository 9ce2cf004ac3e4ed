"""A user's exception, carried from a slot to the kernel with its frames.

    slot:   exception, traceback ──raised_from──> Raised (plain values) ──> bytes
    kernel: bytes ──> Raised ──rebuild──> the exception again, its traceback pointing at the user's own lines

Frames cannot be pickled, so a traceback is rebuilt: for each frame a line of code is compiled that raises at the same
file, line and columns, under the same name. Python and IPython then print the source that the kernel knows by that file
name: for a cell, the cell's own lines, carets included.

An exception that does not survive pickling (an `__init__` of its own is enough) is replaced by a RemoteError with its
type and text. Chains (`raise ... from`) are kept.
"""

from __future__ import annotations

import ast
import types
from dataclasses import dataclass
from typing import Any

from jmr.codec.values import dump, load
from jmr.errors import RemoteError, describe, without_ours

__all__ = ["Raised", "raised_from", "rebuild"]

#: Frames kept of an endless recursion, at each end.
_FRAMES_KEPT = 20
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

    def __str__(self) -> str:
        return f"{self.type_name}({self.text})" if self.text else f"{self.type_name}()"


def raised_from(error: BaseException, depth: int = 0) -> Raised:
    """Take an exception apart; `depth` exceptions of its chain were taken apart already."""
    linked = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return Raised(
        type_name=type(error).__name__,
        text=_text_of(error),
        blob=_pickled(error),
        frames=_frames(without_ours(error.__traceback__)),
        notes=_notes_of(error),
        cause=raised_from(linked, depth + 1) if linked is not None and depth < _CHAIN_LENGTH else None,
        explicit=error.__cause__ is not None,
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
    inner = describe(error, 2_000)  # "ValueError('odd duck')"
    prefix = type(error).__name__ + "("
    return inner[len(prefix) : -1] if inner.startswith(prefix) and inner.endswith(")") else inner


def _pickled(error: BaseException) -> bytes | None:
    """The exception's blob, if it comes back as the same class; a traceback never travels in it."""
    try:
        blob = b"".join(dump(error))
        if len(blob) <= _EXCEPTION_BYTES and type(load(blob)) is type(error):
            return blob
    except BaseException:
        return None
    return None


def _unpickled(raised: Raised) -> BaseException:
    if raised.blob is not None:
        try:
            error = load(raised.blob)
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
    frames = []
    while traceback is not None:
        frames.append(_frame(traceback))
        traceback = traceback.tb_next
    if len(frames) > 2 * _FRAMES_KEPT:
        frames[_FRAMES_KEPT:-_FRAMES_KEPT] = []
    return tuple(frames)


def _frame(traceback: types.TracebackType) -> Frame:
    code = traceback.tb_frame.f_code
    positions = list(code.co_positions())[traceback.tb_lasti // 2]
    line, end_line, column, end_column = positions
    if line is None or end_line is None or column is None or end_column is None:
        line = end_line = traceback.tb_lineno or code.co_firstlineno or 1
        column = end_column = 0
    return Frame(code.co_filename, code.co_name, code.co_firstlineno, line, end_line, column, end_column)


def _traceback(frames: tuple[Frame, ...]) -> types.TracebackType | None:
    traceback: types.TracebackType | None = None
    for frame in reversed(frames):
        entry = _entry(frame)
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
