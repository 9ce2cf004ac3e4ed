"""Progress as text on stderr: one rewritten line in a terminal, few lines that stay in a log.

    painter ──paint──> TerminalLine   a carriage return and the line again, five times a second
                       LogLines       a line per 10 % of a phase, or per 30 s; never a carriage return

A notebook that runs without a reader keeps these lines for ever, so there are at most about twenty a job.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING, TextIO

from jmr.progress import terminal
from jmr.progress.routing import displayed
from jmr.progress.where import kernel_shell
from jmr.progress.words import whole
from jmr.views.phases import Phase, map_phase, reduce_phase
from jmr.views.summary import bundle, line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jmr.progress.report import Report

__all__ = ["LogLines", "TerminalLine", "how_far", "leave_line"]

LOG_EVERY = 30.0
_ERASE = "\r\x1b[K"


def how_far(report: Report, now: float) -> str:
    """Which phase the job is in, and how far that is."""
    name, phase = _current_phase(report, now)
    per_cent = "" if phase.fraction is None else f" {phase.fraction:4.0%}"
    return f"{name}{per_cent} · {'waiting for a worker to join' if report.is_waiting else phase}"


def _progress_line(report: Report, now: float) -> str:
    return f"{report.name}: {how_far(report, now)} · after {whole(report.elapsed(now))}"


def _current_phase(report: Report, now: float) -> tuple[str, Phase]:
    reduce = reduce_phase(report, now)
    return ("map", map_phase(report, now)) if reduce is None else ("reduce", reduce)


class TerminalLine:
    """One line of a terminal, rewritten."""

    period = 0.2

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        #: Held while the line is written, and while somebody else writes to the terminal.
        self._lock = threading.Lock()

    def paint(self, report: Report, now: float) -> None:
        """Write the line over itself."""
        terminal.appear(self)
        text = _progress_line(report, now)[: self._width()]
        with self._lock:
            self._stream.write(_ERASE + text)
            self._stream.flush()

    def end(self, report: Report, now: float) -> None:
        """Put the summary in the line's place."""
        terminal.vanish(self)
        with self._lock:
            self._stream.write(f"{_ERASE}{line(report, now)}\n")
            self._stream.flush()

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Take the line away while something else is written."""
        with self._lock:
            with contextlib.suppress(OSError, ValueError):  # the terminal is gone, and somebody may write elsewhere
                self._stream.write(_ERASE)
                self._stream.flush()
            yield

    def _width(self) -> int:
        """A line that wraps cannot be written over; the last column makes some terminals wrap."""
        columns = 0
        with contextlib.suppress(OSError, ValueError):
            columns = os.get_terminal_size(self._stream.fileno()).columns
        return (columns or 80) - 1  # a pseudo terminal has 0 until somebody says how many


class LogLines:
    """Lines that stay, few of them."""

    period = 0.5

    def __init__(self, stream: TextIO, *, has_card: bool = True) -> None:
        self._stream = stream
        self._has_card = has_card
        self._last_step: tuple[str, int] | None = None
        self._last_time = float("-inf")

    def paint(self, report: Report, now: float) -> None:
        """Write a line if there is something new to say."""
        name, phase = _current_phase(report, now)
        step = name, int(10 * (phase.fraction or 0))
        if step == self._last_step and now - self._last_time < LOG_EVERY:
            return
        self._last_step, self._last_time = step, now
        self._stream.write(_progress_line(report, now) + "\n")
        self._stream.flush()

    def end(self, report: Report, now: float) -> None:
        """Leave the summary."""
        leave_line(report, now, self._stream, has_card=self._has_card)


def leave_line(report: Report, now: float, stream: TextIO, *, has_card: bool = True) -> None:
    """In a notebook a card, or a line that does not look like an error, as stderr does; elsewhere a line of stream."""
    if kernel_shell() is None:
        stream.write(line(report, now) + "\n")
        stream.flush()
    else:
        displayed(bundle(report, now, has_card=has_card), raw=True)
