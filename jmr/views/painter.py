"""The one way in: `with show(report, wanted):` around a job, and its progress is seen.

    show ── nobody looks ─> nothing
         └─ 0.3 s ── still running? ─> a daemon thread with a view: paint, wait, paint, ... end
                  └─ ended already?  ─> the calling thread shows the summary line

A job that goes on below a terminal's prompt, where somebody types, shows nothing but its summary line.
Short jobs never flash a bar. In a loop only the first of them leave a line, and only the first of long ones a card.
A painter never makes the job fail or wait: what goes wrong here is said once on the process's own stderr, and dropped.
"""

from __future__ import annotations

import contextlib
import contextvars
import sys
import threading
import time
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from jmr.progress.later import Later
from jmr.progress.routing import Parent, cell_of, current_parent, routed_to
from jmr.progress.where import FrontEnd, front_end, running_shell
from jmr.views.summary import FIRST_PAINT
from jmr.views.text import LogLines, TerminalLine, leave_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jmr.progress.report import Report

__all__ = ["Painter", "View", "show"]

#: So many short jobs of one cell leave a summary line; more are taken for a loop, and stay silent.
MAX_SHORT_LINES = 20
#: So many long jobs of one cell leave a card; those that follow, their line.
MAX_CARDS = 5
#: How long an ended job waits for its painter's last picture.
LAST_PAINT = 2.0


class View(Protocol):
    """Something that a report is painted on."""

    #: Seconds between two pictures.
    period: float

    def paint(self, report: Report, now: float) -> None:
        """Show the report as it is now."""

    def end(self, report: Report, now: float) -> None:
        """Leave the summary in the view's place."""


class Stop(Protocol):
    """The part of `threading.Event` that a painter needs."""

    def wait(self, timeout: float) -> bool:
        """Whether the job has ended, at the latest after `timeout` seconds."""


@contextlib.contextmanager
def show(
    report: Report, wanted: bool | None, *, parent: Parent | None = None, cancel: Callable[[], None] | None = None
) -> Iterator[None]:
    """Show a job's progress while the body runs, and its summary line when it ends.

    Parameters
    ----------
    report
        Read by the painter, never written but for `awaits_view`. `report.end()` must have been called when the body
        ends.
    wanted
        The user's `progress=`: False is silence, True shows every line also where nobody seems to look, None decides by
        where the job runs.
    parent
        The request of the cell that gets the output, if it is not the one that this thread works for.
    cancel
        Ends the job, from any thread; for a view that has a button.
    """
    painter = _guarded(lambda: _start(report, wanted, parent, cancel))
    if painter is None:
        yield
        if wanted is None and report.n_skipped:  # nobody asked for silence, and records are missing
            _guarded(lambda: leave_line(report, time.monotonic(), sys.stderr))
        return
    try:
        yield
    finally:
        _guarded(painter.end)


def _start(
    report: Report, wanted: bool | None, parent: Parent | None, cancel: Callable[[], None] | None
) -> _Shown | None:
    kind = front_end(wanted, tell=_warn)
    if kind is FrontEnd.NONE:
        return None
    return _Shown(report, kind, parent or current_parent(), cancel, always=wanted is True)


class Painter:
    """Paints one job's report on one view, until it is told to stop."""

    def __init__(
        self,
        report: Report,
        open_view: Callable[[], View],
        stop: Stop,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._report = report
        self._open_view = open_view
        self._stop = stop
        self._clock = clock
        #: Whether the summary has been shown.
        self.shown = False

    def run(self) -> None:
        """Paint, wait, paint, ... end. Meant for a thread of its own.

        It does not wait for a job's thread that is still in user code when the job has been cancelled.
        """
        view = self._open_view()
        self._paint(view)
        self._report.awaits_view = False
        while not self._stop.wait(view.period) and self._report.ended is None:
            self._paint_again(view)
        self._paint_again(view)
        view.end(self._report, self._clock())
        self.shown = True

    def _paint_again(self, view: View) -> None:
        """A picture that fails is no reason to leave the one before it for ever."""
        _guarded(lambda: self._paint(view))

    def _paint(self, view: View) -> None:
        view.paint(self._report, self._clock())


class _Shown:
    """One job: its painter, in a thread once the job turns out to be long; otherwise its summary line."""

    def __init__(
        self,
        report: Report,
        kind: FrontEnd,
        parent: Parent | None,
        cancel: Callable[[], None] | None,
        *,
        always: bool,
    ) -> None:
        self._report = report
        self._kind = kind
        self._parent = parent
        self._cancel = cancel
        #: Whether the kernel hears nothing else as long as the job runs.
        self._blocking = threading.current_thread() is threading.main_thread()
        #: The caller's context: in some kernels, whoever has none cannot display.
        self._context = contextvars.copy_context()
        self._always = always
        self._is_quiet = kind is FrontEnd.TERMINAL and _is_at_a_prompt()
        self._stream = sys.stderr
        self._stop = threading.Event()
        self._painter = Painter(report, self._open_view, self._stop)
        self._thread: threading.Thread | None = None
        report.awaits_view = kind is FrontEnd.WIDGETS
        if not self._is_quiet:
            later.at_last(self._begin)

    def end(self) -> None:
        """Stop painting, and see to it that the summary line is there."""
        self._report.awaits_view = False
        if not later.cancel(self._begin) and self._has_painted():
            return
        now = time.monotonic()
        is_long = self._report.elapsed(now) >= FIRST_PAINT
        if self._always or is_long or _short_lines.one_more(self._cell()):
            with routed_to(self._parent):
                # At a prompt, IPython puts something there by now that writes above it.
                stream = sys.stderr if self._is_quiet else self._stream
                leave_line(self._report, now, stream, has_card=is_long and self._has_card)

    @cached_property
    def _has_card(self) -> bool:
        """Of a long job; asked for when it is shown, or at its end."""
        return self._always or _cards.one_more(self._cell())

    def _begin(self) -> None:
        run = partial(self._context.run, _guarded, self._run)
        self._thread = threading.Thread(target=run, name="jmr-painter", daemon=True)
        self._thread.start()

    def _has_painted(self) -> bool:
        """Wait for the last picture; whether it has the summary, or will have if it ever comes."""
        self._stop.set()
        if self._thread is None:
            return False
        self._thread.join(LAST_PAINT)
        return self._painter.shown or self._thread.is_alive()

    def _run(self) -> None:
        try:
            with routed_to(self._parent):
                self._painter.run()
        finally:
            self._report.awaits_view = False

    def _open_view(self) -> View:
        if self._kind is FrontEnd.WIDGETS:
            from jmr.views.widget import LiveView

            return LiveView(self._cancel, parent=self._parent, blocking=self._blocking, has_card=self._has_card)
        if self._kind is FrontEnd.TERMINAL:
            return TerminalLine(self._stream)
        return LogLines(self._stream, has_card=self._has_card)

    def _cell(self) -> object:
        shell = running_shell()
        return cell_of(self._parent) or (None if shell is None else shell.execution_count)


def _is_at_a_prompt() -> bool:
    """Whether somebody may be typing in this terminal, where a line that is rewritten would be in the way."""
    is_interactive = running_shell() is not None or hasattr(sys, "ps1")
    return is_interactive and threading.current_thread() is not threading.main_thread()


class _First:
    """Counts what jobs leave, cell by cell."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._cell: object = None
        self._n = 0

    def one_more(self, cell: object) -> bool:
        """Whether this cell may have another."""
        if cell != self._cell:
            self._cell, self._n = cell, 0
        self._n += 1
        return self._n <= self._most


later = Later(FIRST_PAINT)
_short_lines = _First(MAX_SHORT_LINES)
_cards = _First(MAX_CARDS)
_complaints: set[str] = set()


def _guarded(action: Callable[[], Any]) -> Any:
    """Do it; what goes wrong is said once and dropped, because a picture is no reason to lose a job."""
    try:
        return action()
    except Exception as error:
        _complain(f"jmr: progress is not shown: {type(error).__name__}: {error}")


def _complain(sentence: str) -> None:
    """To whoever looks after this process."""
    _say_once(sentence, sys.__stderr__)


def _warn(sentence: str) -> None:
    """To whoever runs this cell."""
    _say_once(f"jmr: {sentence}", sys.stderr)


def _say_once(sentence: str, stream: TextIO | None) -> None:
    if sentence not in _complaints and stream is not None:
        _complaints.add(sentence)
        with contextlib.suppress(Exception):  # whatever may stand there
            print(sentence, file=stream, flush=True)
