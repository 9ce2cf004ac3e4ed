"""Has the loop that groups a map attempt's pairs spill them, and costs that loop nothing until then.

    too much memory ──signal──> Spilling.ask ──watch──> the loop's next line ──> spill ──> Runs.add, on disk

A signal's handler runs between any two bytecodes: a list may have been looked up and not be added to yet, and a
function of the user's may hold a lock. So a handler must not spill by itself; it has the loop watched until that comes
to its next line, as a debugger would. Loops marked with `spills_before_any_line` are written for that. A look at a flag
after each pair would take a tenth of the loop's time, and a dict of sums that is no plain dict a twentieth.

Until then the user's function runs, perhaps for minutes. `sys.monitoring` watches nothing but the loop; where it is not
(Python 3.11), or has no place left, the thread is traced, which makes what it calls up to five times slower.

A run is what one spill leaves: a blob for each partition. Runs follow each other in the order of their records.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from types import CodeType, FrameType, FunctionType
from typing import Any, Protocol, TypeVar

from jmr.codec.values import Buffer

__all__ = ["Runs", "Spilling", "spills_before_any_line"]

_LOOPS: set[CodeType] = set()
#: Which numbers of `sys.monitoring` may be ours: debuggers, coverage and profilers have others.
_TOOLS = (3, 4)
Loop = TypeVar("Loop", bound=Callable[..., Any])


class Runs(Protocol):
    """Keeps the runs of one attempt outside of memory."""

    def add(self, partitions: Iterable[list[Buffer]]) -> None:
        """Keep one more: for each partition the pieces of a blob, or none. They are made one by one, on the way."""

    def forget(self) -> None:
        """Drop all: the attempt begins anew."""


def spills_before_any_line(loop: Loop) -> Loop:
    """Mark a function that works on groups which may be taken away before any of its lines.

    So each of its lines has to look up what it changes, or be content with changing what is not there any more.
    """
    assert isinstance(loop, FunctionType)
    _LOOPS.add(loop.__code__)
    return loop


class Spilling:
    """What one attempt does when its slot has too much in memory.

    Parameters
    ----------
    runs
        Where it goes; None where nobody asks.
    """

    def __init__(self, runs: Runs | None = None) -> None:
        self._runs = runs
        self._spill: Callable[[], None] | None = None
        self._watch: _Watch | None = None
        #: Whether there is something to spill, and somebody wants that.
        self.is_asked = False
        self.n_runs = 0

    def begin(self, spill: Callable[[], None]) -> None:
        """From now on there is something to spill, and this is how."""
        self._spill = spill

    def end(self) -> None:
        """There is nothing more to spill."""
        self._spill = None
        self.is_asked = False
        self._unwatch()

    def add(self, partitions: Iterable[list[Buffer]]) -> None:
        """Keep a run."""
        assert self._runs is not None
        self.n_runs += 1
        self._runs.add(partitions)

    def start_over(self) -> None:
        """Drop the runs there are: their records are mapped once more."""
        if self.n_runs:
            assert self._runs is not None
            self.n_runs = 0
            self._runs.forget()

    def ask(self, frame: FrameType | None) -> None:
        """Have the attempt spill as soon as it can; harmless at any moment, and any number of times.

        Parameters
        ----------
        frame
            Where this thread is: if a marked loop is below, that spills at its next line. Any other has to look at
            `is_asked` every now and then.
        """
        if self._spill is None:
            return
        self.is_asked = True
        while frame is not None and frame.f_code not in _LOOPS:
            frame = frame.f_back
        if frame is not None and not self._watches(frame):
            waiting = frame.f_trace if isinstance(frame.f_trace, _AtNextLine) else _AtNextLine(self.answer)
            waiting.begin(frame)

    def _watches(self, frame: FrameType) -> bool:
        """Whether the frame's next line can be waited for without tracing what it calls."""
        if sys.version_info < (3, 12):
            return False
        self._unwatch()  # it is the same frame, or one that is gone
        self._watch = _Watch(frame, self.answer)
        return self._watch.begin()

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.stop()
            self._watch = None

    def answer(self) -> None:
        """Spill, if that is asked for. Raises as `Grouped.spill` does."""
        if not self.is_asked or self._spill is None:
            return
        self.is_asked = False
        spill, self._spill = self._spill, None  # who asks meanwhile has not seen yet what it helps
        try:
            spill()
        finally:
            self._spill = spill


class _AtNextLine:
    """A trace function that ends itself, and puts back what a debugger of the user's had there, or has put there."""

    def __init__(self, do: Callable[[], None]) -> None:
        self._do = do
        self._of_thread: Any = None
        self._of_frame: Any = None

    def begin(self, frame: FrameType) -> None:
        """Wait for the frame's next line; once more, if user code has ended that."""
        if sys.gettrace() is not _trace_nothing:
            self._of_thread = sys.gettrace()
        if frame.f_trace is not self:
            self._of_frame = frame.f_trace
        frame.f_trace = self
        sys.settrace(_trace_nothing)

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        if event not in {"line", "return"}:
            return self
        if sys.gettrace() is _trace_nothing:  # else user code has begun to trace meanwhile
            sys.settrace(self._of_thread)
        frame.f_trace = self._of_frame
        if event == "line":
            self._do()
        return self._of_frame


class _Watch:
    """Has something called before the next line of a frame that is running, and of no other.

    Python 3.12 and newer. Once, unless it is stopped before; whoever waits has to stop it, since it holds the frame.
    """

    def __init__(self, frame: FrameType, do: Callable[[], None]) -> None:
        from sys import monitoring  # type: ignore[attr-defined]  # mypy takes this for Python 3.11

        self._monitoring = monitoring
        self._frame: FrameType | None = frame
        self._code = frame.f_code
        self._do = do
        self._tool: int | None = None

    def begin(self) -> bool:
        """Whether there was a place left for it."""
        free = [tool for tool in _TOOLS if self._monitoring.get_tool(tool) is None]
        if not free:
            return False
        self._tool = free[0]
        line = self._monitoring.events.LINE
        self._monitoring.use_tool_id(self._tool, "jmr")
        self._monitoring.register_callback(self._tool, line, self._at_line)
        self._monitoring.set_local_events(self._tool, self._code, line)
        return True

    def stop(self) -> None:
        """Harmless the second time."""
        if self._tool is not None:
            self._monitoring.set_local_events(self._tool, self._code, 0)
            self._monitoring.register_callback(self._tool, self._monitoring.events.LINE, None)
            self._monitoring.free_tool_id(self._tool)
        self._tool = self._frame = None

    def _at_line(self, _code: CodeType, _line: int) -> None:
        if sys._getframe(1) is self._frame:
            self.stop()
            self._do()


def _trace_nothing(_frame: FrameType, _event: str, _: Any) -> None:
    """Of the functions that run before the loop's next line, none is traced."""
