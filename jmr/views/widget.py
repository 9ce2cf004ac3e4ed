"""Progress as widgets: a live view with a Cancel button, and at the end one static picture in its place.

    LiveView() ─> paint: display ─> paint, paint, ... ─> end: the output becomes plain HTML, the widgets are closed

       ┌ box ───────────────────────────────────────┐
       │ board    name, state, time        [button] │    when a bar has moved, at most 4 times a second; else twice
       │          map     ━━━━━━━━━━  1,204 / 3,000 │
       │ slots    a row for each                    │    twice a second
       │ failure  the last one, and the last note   │    when there is one: it can be selected and copied
       └────────────────────────────────────────────┘

A widget does not survive in a saved notebook, so none may be left in the output. A page that was reloaded in mid-run
does not see that it is replaced, and saves it: so a line is displayed with it, for whoever has no kernel. Every widget,
layout, style and changed value is a comm message of 0.3 ms: so there are few, and a value is sent only when it changed.
ipywidgets is imported here and in `button` alone, and these only when a view is shown.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import ipywidgets

from jmr.progress.routing import displayed
from jmr.views.board import PERIOD, Board, failure, news
from jmr.views.button import CancelButton
from jmr.views.rows import rows
from jmr.views.style import STYLE
from jmr.views.summary import bundle, unfinished

if TYPE_CHECKING:
    from collections.abc import Callable

    from jmr.progress.report import Report
    from jmr.progress.routing import Parent

__all__ = ["LiveView"]

PAINTS_PER_WORD = 2


class LiveView:
    """The live view of one job. Made, painted and ended in one thread, whose output is routed to the job's cell.

    Parameters
    ----------
    cancel
        Called from whichever thread hears the click; None for a job that has no button.
    parent
        The request of the job's cell.
    blocking
        Whether that cell runs, and keeps the kernel busy, as long as the job does.
    has_card
        Whether the card stays at the end; otherwise, the line alone.
    """

    period = PERIOD

    def __init__(
        self,
        cancel: Callable[[], None] | None = None,
        *,
        parent: Parent | None = None,
        blocking: bool = False,
        has_card: bool = True,
    ) -> None:
        self._cancel = cancel
        self._parent = parent
        self._blocking = blocking
        self._has_card = has_card
        self._shown: _Shown | None = None
        self._n_paints = 0

    def paint(self, report: Report, now: float) -> None:
        """Send what changed; the first time, show it."""
        if self._shown is None:
            self._shown = _Shown(report, self._button(report), now)
        else:
            self._shown.paint(now, with_words=self._n_paints % PAINTS_PER_WORD == 0)
        self._n_paints += 1

    def end(self, report: Report, now: float) -> None:
        """Put the summary in the view's place."""
        assert self._shown is not None
        self._shown.end(now, has_card=self._has_card)

    def _button(self, report: Report) -> CancelButton | None:
        if self._cancel is None:
            return None
        return CancelButton(report, self._cancel, self._parent, blocking=self._blocking)


class _Shown:
    """The widgets, which are made with their first values: a value that is set later is one more message."""

    def __init__(self, report: Report, button: CancelButton | None, now: float) -> None:
        self._report = report
        self._button = button
        self._board_text = Board(report)
        self._board_text.look(now)
        self._words = self._board_text.words()
        layout = ipywidgets.Layout(margin="0")
        if button is not None:
            button.open(now, layout)
        self._board = ipywidgets.HTML(self._board_text.html(self._words), layout=layout)
        style = self._board.style
        self._slots = ipywidgets.HTML(rows(dict(report.slots), now), layout=layout, style=style)
        self._failure = ipywidgets.HTML(STYLE + failure(report) + news(report), layout=layout, style=style)
        self._box = ipywidgets.VBox(self._children(), layout=layout, _dom_classes=("jmr-live",))
        self._handle = displayed(self._box._repr_mimebundle_() | unfinished(report), raw=True, display_id=True)

    def paint(self, now: float, *, with_words: bool) -> None:
        """Send what changed."""
        self._board_text.look(now)
        if self._button is not None and self._button.paint(now):
            self._box.children = self._children()
        if with_words or self._board_text.has_moved:
            self._words = self._board_text.words(is_cancelled=self._button is not None and self._button.is_pressed)
        if with_words:
            _set(self._slots, rows(dict(self._report.slots), now))  # a copy: another thread may add to it
            _set(self._failure, STYLE + failure(self._report) + news(self._report))
        _set(self._board, self._board_text.html(self._words))

    def end(self, now: float, *, has_card: bool) -> None:
        """Leave the summary in the output, and in the box for a page that comes later."""
        try:
            last = bundle(self._report, now, has_card=has_card)
            self._handle.update(last, raw=True)
            self._board.value = last["text/html"]
        finally:
            self._close()

    def _close(self) -> None:
        """Close all but what shows the summary."""
        with self._box.hold_sync():
            self._box.children = (self._board,)
            self._box._dom_classes = ()
        self._slots.close()
        self._failure.close()
        if self._button is not None:
            self._button.close()
        _keep((self._box, self._board, self._board.style, self._board.layout))

    def _children(self) -> tuple[Any, ...]:
        button = () if self._button is None else (self._button.widget,)
        return (self._board, *button, self._slots, self._failure)


def _set(widget: Any, value: str) -> None:
    """One comm message, and none when nothing changed."""
    if widget.value != value:
        widget.value = value


# A page that is reloaded while jobs run never hears of the update that replaces a view: it keeps asking for the widget,
# and shows "Loading widget..." for ever if that is closed. So the boxes of the last jobs stay open, with the summaries
# in them: of as many as may have run before the kernel had time to answer such a page.
MAX_KEPT = 8
_kept: deque[tuple[Any, ...]] = deque()


def _keep(parts: tuple[Any, ...]) -> None:
    _kept.append(parts)
    while len(_kept) > MAX_KEPT:
        for part in _kept.popleft():
            part.close()
