"""What workers print, shown in the cell that started the job.

    coordinator ──put, put_notice──> Log (more of it)
                                └──> a thread ──> sys.stdout, sys.stderr of the cell (what fits)
    job ends ──close──> "12,403 more lines: jmr.last.log() has all but 2,000"

The thread begins with the first line and ends with the job: so lines are seen while the calling thread is busy, in a
slow source say, and a job that prints nothing pays nothing. Where a live view is about to come, the first lines wait a
moment for it: it would stand below them, and below a flood out of sight. A flood is cut to what a page can bear, and
counted. The coordinator never waits for whoever reads the lines.
"""

from __future__ import annotations

import contextlib
import contextvars
import linecache
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from jmr.progress.log import Log, labelled
from jmr.progress.routing import current_parent, routed_to
from jmr.progress.terminal import aside
from jmr.progress.where import running_shell
from jmr.progress.words import plural

__all__ = ["MOST_BYTES", "MOST_LINES", "Outlet"]

#: Shown of what one job prints; and the same of what it warns of and logs, which must not drown in the rest.
MOST_LINES = 1_000
MOST_BYTES = 1 << 16
#: Of one line.
_LINE_BYTES = 1 << 12
#: Seconds that the first lines wait for a view at most, so that a broken one holds nothing; and from look to look.
_FOR_VIEW, _LOOK_EVERY = 0.5, 0.02
#: How long an ended job waits until all is shown, in seconds.
_LAST_LINES = 10.0

#: A slot's name, and a line of a file.
_Source = tuple[str, str, int]
#: A stream, whole lines, and what is to be quoted below them.
_Shown = tuple[int, str, _Source | None]


class Outlet:
    """Shows what one job's slots print. Made in the thread whose cell gets it.

    `awaits_view` says whether a view will be shown that is not there yet.
    """

    def __init__(
        self,
        log: Log,
        awaits_view: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._awaits_view = awaits_view
        self._clock = clock
        self._parent = current_parent()
        #: The caller's context: in some kernels, whoever has none cannot display.
        self._context = contextvars.copy_context()
        self._prints, self._notices = _Room(), _Room()
        #: Lines that are not shown, by stream.
        self._n_more = {1: 0, 2: 0}
        self._queue: queue.SimpleQueue[_Shown | None] = queue.SimpleQueue()
        #: Held while the thread is started, or is told to end.
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def put(self, name: str, stream: int, text: bytes, n_hidden: int = 0) -> None:
        """Have whole lines shown, soon, as far as there is room; `n_hidden` more were not passed on."""
        self._log.add(name, stream, text, n_hidden)
        shown, n_left = self._prints.fitting(text)
        self._n_more[stream] += n_left + n_hidden
        if shown:
            self._show(stream, labelled(name, shown))

    def put_notice(self, name: str, text: str, path: str, line: int, n: int) -> None:
        """Have a warning or a log record, which came n times, shown, unless one like it was before.

        The line of the file `path` is the user's that led to it; "" if that is not to be shown.
        """
        said = f"{_place(path, line)}: {text}" if path else text
        if not self._log.add_notice(name, said, n):
            return
        shown, n_left = self._notices.fitting(said.encode(errors="backslashreplace") + b"\n")
        self._n_more[2] += n_left
        if shown:
            self._show(2, labelled(name, shown), (name, path, line) if path else None)

    def close(self) -> None:
        """Wait until all is shown, and say how much is not. Nothing is shown after that."""
        n_more = sum(self._n_more.values())
        if n_more:
            stream = 1 if self._n_more[1] else 2
            self._n_more = {1: 0, 2: 0}
            self._show(stream, _told_more(n_more, self._log))
        with self._lock:
            self._closed.set()
            if self._thread is None and self._queue.empty():
                return
            self._queue.put(None)
        if self._thread is None:
            self._run()
        else:
            self._thread.join(_LAST_LINES)  # then nobody reads them, and a result waits

    def _show(self, stream: int, text: str, source: _Source | None = None) -> None:
        with self._lock:
            if self._closed.is_set():
                return
            self._queue.put((stream, text, source))
            if self._thread is None:
                thread = threading.Thread(target=partial(self._context.run, self._run), name="jmr-output", daemon=True)
                with contextlib.suppress(RuntimeError):  # there can be no more threads now: the next line tries again
                    thread.start()
                    self._thread = thread

    def _run(self) -> None:
        with routed_to(self._parent):
            self._let_the_view_come_first()
            while (shown := self._queue.get()) is not None:
                stream, text, source = shown
                _write(stream, text if source is None else text + _quoted(*source))

    def _let_the_view_come_first(self) -> None:
        until = self._clock() + _FOR_VIEW
        while self._awaits_view() and self._clock() < until and not self._closed.wait(_LOOK_EVERY):
            pass


class _Room:
    """What a page still bears."""

    def __init__(self) -> None:
        self._n_lines = MOST_LINES
        self._n_bytes = MOST_BYTES

    def fitting(self, text: bytes) -> tuple[bytes, int]:
        """As many whole lines as there is room for, and how many are left; once one is, so are all that follow."""
        if not self._n_lines:
            return b"", text.count(b"\n")
        lines = text.split(b"\n", self._n_lines + 1)
        rest = lines.pop()
        kept = []
        for line in lines[: self._n_lines]:
            cut = line if len(line) <= _LINE_BYTES else line[:_LINE_BYTES] + b" ..."
            self._n_bytes -= len(cut) + 1
            if self._n_bytes < 0:
                break
            kept.append(cut + b"\n")
        n_left = len(lines) - len(kept) + rest.count(b"\n")
        self._n_lines = 0 if n_left else self._n_lines - len(kept)
        return b"".join(kept), n_left


def _told_more(n_more: int, log: Log) -> str:
    """How many lines are not shown, and where they are; of a flood that was too fast, some are nowhere."""
    lines = plural(n_more, "more line")
    if log.n_hidden >= n_more:
        return f"{lines}: too many to keep\n"
    return f"{lines}: {log.call}" + (f" has all but {log.n_hidden:,}\n" if log.n_hidden else "\n")


def _place(path: str, line: int) -> str:
    """Where something is; a cell is called what IPython calls it."""
    compiler: Any = getattr(running_shell(), "compile", None)
    named = compiler.format_code_name(path) if hasattr(compiler, "format_code_name") else None
    return f"{path}:{line}" if named is None else f"{' '.join(named)}, line {line}"


def _quoted(name: str, path: str, line: int) -> str:
    """The line itself, as Python shows it below a warning. It may lie in a file, so nobody may wait for this."""
    known = path in linecache.cache or os.path.isfile(path)  # to read a pipe may take for ever
    source = linecache.getline(path, line).strip() if known else ""
    return f"[{name}]   {source}\n" if source else ""


def _write(stream: int, text: str) -> None:
    """Write whole lines at once, each with its end."""
    out = sys.stdout if stream == 1 else sys.stderr
    if out is None:
        return
    with contextlib.suppress(Exception), aside():  # closed, a pipe that nobody reads, or whatever else stands there
        encoding = getattr(out, "encoding", None) or "utf-8"
        out.write(text.encode(encoding, errors="backslashreplace").decode(encoding))
        out.flush()
