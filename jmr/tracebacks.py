"""How IPython shows an exception of ours, or one that a user's function raised elsewhere.

    exception, its frames ──shown──> IPython's own lines, with carets under what failed
                          ──shown_group──> what an ExceptionGroup holds, which IPython does not show
    exception of ours     ──last_words──> its class and message, as IPython ends a traceback
    exception             ──place──> where it was raised
    text of a traceback   ──named──> the same, with cells named as IPython names them
    file and line         ──located──> the same in words, likewise

IPython is never imported here: whoever asks runs in it, or asks for `place`, `named` or `located`, which do without.
"""

from __future__ import annotations

import itertools
import linecache
import os
import re
import sys
import traceback as tracebacks
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

__all__ = ["in_ipython", "last_words", "located", "named", "place", "shown", "shown_group", "stacked"]

_IPYTHON = f"{os.sep}IPython{os.sep}core{os.sep}"
#: Frames shown of a deep recursion, at each end.
_FRAMES_SHOWN = 20
_MORE = "    [... more of the same]\n"
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
_ARROW = re.compile(r"-+> *\d+ ")
_FILE = re.compile(r'File "(.+?)", line')


def shown(error: BaseException, frames: TracebackType | None) -> list[str]:
    """What IPython shows of an exception that has these frames.

    What led to it is left out if nothing of the user's stands in its frames: the message says it too.
    """
    frames = _some(frames)
    cause = error.__cause__
    if cause is not None and cause.__traceback__ is None:
        error.__cause__ = None
    try:
        lines: list[str] = _shell().InteractiveTB.structured_traceback(type(error), error, frames, tb_offset=0)
    finally:
        if cause is not None:
            error.__cause__ = cause
    return _with_carets(_without_repeats(lines), frames)


def shown_group(error: BaseException) -> list[str]:
    """The exceptions in an ExceptionGroup, with their frames, as Python shows them; nothing for any other exception."""
    if not isinstance(error, BaseExceptionGroup):
        return []
    found = tracebacks.TracebackException.from_exception(error)
    found.__cause__ = found.__context__ = None
    text = "".join(found.format())
    return [named(text.rstrip())]


def in_ipython() -> bool:
    """Whether there is a %debug."""
    return _shell() is not None


def last_words(error: BaseException) -> list[str]:
    """Its class, message and notes, as IPython ends a traceback."""
    lines: list[str] = _shell().InteractiveTB.format_exception(type(error).__name__, error)
    return lines


def stacked(*blocks: list[str]) -> list[str]:
    """One below the other, with an empty line between; in some modes IPython puts nothing between lines."""
    lines: list[str] = []
    for block in filter(None, blocks):
        if lines and _shell().InteractiveTB.tb_join_char:
            lines.append("")
        elif lines and not lines[-1].endswith("\n"):
            lines[-1] += "\n"
        lines += block
    return lines


def named(text: str) -> str:
    """A traceback as Python prints it, but with "Cell In[3], line" for the file that IPython compiles that cell as."""
    return _FILE.sub(lambda match: f"{_cell(match[1]) or match[0].removesuffix(', line')}, line", text)


def located(filename: str, line: int | str) -> str:
    """A line in one word, or as IPython names it: "words.py:5", or "Cell In[3], line 5"."""
    cell = _cell(filename)
    return f"{cell}, line {line}" if cell else f"{filename}:{line}"


def place(error: BaseException) -> str:
    """Where it was raised: the innermost line of a cell, such as "Cell In[3], line 5", or of any file; else nothing."""
    entries = [(entry.tb_frame.f_code.co_filename, entry.tb_lineno) for entry in _entries(error.__traceback__)]
    cells = [(cell, number) for filename, number in entries if (cell := _cell(filename))]
    files = [(f'File "{filename}"', number) for filename, number in entries]
    return "".join(f"{name}, line {number}" for name, number in (cells or files)[-1:])


def _shell() -> Any:
    """IPython's shell, if IPython runs."""
    ipython = sys.modules.get("IPython")
    return None if ipython is None else ipython.get_ipython()


def _cell(filename: str) -> str:
    """As IPython names the cell that it compiled as this file: "Cell In[3]"; empty if it is none."""
    shell = _shell()
    return " ".join((shell.compile.format_code_name(filename) if shell is not None else None) or ())


def _entries(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _some(frames: TracebackType | None) -> TracebackType | None:
    """Leave out how IPython runs a cell or a magic, as older versions do not; and the middle of a deep recursion.

    And what IPython cannot show: frames without lines, as generated code may have; and it would never end with one that
    stands before its first instruction, as those that C code makes do.
    """
    kept = [entry for entry in _entries(frames) if _can_be_shown(entry.tb_frame)]
    if len(kept) > 2 * _FRAMES_SHOWN:
        kept[_FRAMES_SHOWN:-_FRAMES_SHOWN] = []
    rest: TracebackType | None = None
    for entry in reversed(kept):
        rest = TracebackType(rest, entry.tb_frame, max(entry.tb_lasti, 0), entry.tb_lineno)
    return rest


def _can_be_shown(frame: FrameType) -> bool:
    return frame.f_lineno is not None and _IPYTHON not in frame.f_code.co_filename


def _without_repeats(lines: list[str]) -> list[str]:
    """A frame that is shown again and again is shown twice; not every IPython does that for cells."""
    found: list[str] = []
    for text, again in itertools.groupby(lines):
        n_times = len(list(again))
        found += [text, text, _MORE] if n_times > 3 and _COLOUR.sub("", text).strip() else [text] * n_times
    return found


def _with_carets(lines: list[str], frames: TracebackType | None) -> list[str]:
    """Mark what failed in the innermost frame: the last arrow is its."""
    entries = list(_entries(frames))
    columns = _columns(entries[-1]) if entries else None
    if columns is None:
        return lines
    texts = "\n".join(lines).split("\n")
    for index, text in reversed(list(enumerate(texts))):
        plain = _COLOUR.sub("", text)
        if arrow := _ARROW.match(plain):
            marks = _marks(plain, arrow.end(), entries[-1], columns)
            return [*texts[: index + 1], *marks, *texts[index + 1 :]]
    return lines


def _columns(entry: TracebackType) -> tuple[int, int] | None:
    """From where to where in its line, in bytes of UTF-8, stands what failed; None if unknown, or in several lines."""
    positions = itertools.islice(entry.tb_frame.f_code.co_positions(), entry.tb_lasti // 2, None)
    line, end_line, start, end = next(positions, (None, None, None, None))
    if line is None or start is None or end is None or line != end_line or start >= end:
        return None
    return start, end


def _marks(plain: str, n_before: int, entry: TracebackType, columns: tuple[int, int]) -> list[str]:
    """Carets for a line that IPython printed, after `n_before` characters of its own and perhaps indented less."""
    frame = entry.tb_frame
    source = linecache.getline(frame.f_code.co_filename, entry.tb_lineno, frame.f_globals).rstrip()
    printed = plain[n_before:].rstrip()
    if source.strip() != printed.strip():
        return []
    start, end = (len(source.encode()[:column].decode(errors="replace")) for column in columns)
    if source[start:end] == source.strip():  # the whole line failed
        return []
    shift = n_before + len(printed) - len(source)
    return [" " * (start + shift) + "^" * (end - start)]
