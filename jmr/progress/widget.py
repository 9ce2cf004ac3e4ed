"""Progress as widgets: a bar for map, a bar for reduce, and at the end one static line in their place.

    WidgetBars() ─> paint: display ─> paint, paint, ... ─> end: the output becomes plain HTML, the widgets are closed

A widget does not survive in a saved notebook, so none may be left in the output. Every widget, layout, style and
changed value is a comm message of 0.3 ms: so they are few and shared, values are sent only when they changed, and
words, which nobody reads eight times a second, only twice. ipywidgets is imported here and nowhere else, and this room
only when a bar is shown.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets

from jmr.progress.phases import Phase, map_phase, reduce_phase
from jmr.progress.routing import displayed
from jmr.progress.summary import COLOURS, MARKS, bundle, html, whole

if TYPE_CHECKING:
    from jmr.progress.report import Report

__all__ = ["WidgetBars"]

MAP_COLOUR, REDUCE_COLOUR, UNKNOWN_COLOUR = "#3b82f6", "#10b981", "#93c5fd"
SWEEP_SECONDS = 4.0
PAINTS_PER_WORD = 4


class WidgetBars:
    """The live view of one job. Made, painted and ended in one thread, whose output is routed to the job's cell."""

    period = 1 / 8

    def __init__(self) -> None:
        _close_kept()
        cell = ipywidgets.Layout(margin="0", width="auto")
        self._head = ipywidgets.HTML(layout=ipywidgets.Layout(margin="0"))
        self._map = _Row("Map", MAP_COLOUR, cell, self._head.style)
        self._reduce = _Row("Reduce", REDUCE_COLOUR, cell, self._head.style)
        self._rows = ipywidgets.GridBox(
            (*self._map.widgets, *self._reduce.widgets),
            layout=ipywidgets.Layout(grid_template_columns="minmax(160px, 1fr) 350px", grid_gap="0 12px"),
        )
        self._box = ipywidgets.VBox(
            (self._head, self._rows),
            layout=ipywidgets.Layout(padding="2px 10px", max_width="860px", overflow="hidden"),
        )
        self._handle: Any = None
        self._n_paints = 0

    def paint(self, report: Report, now: float, reduce_began: float | None) -> None:
        """Send what changed; the first time, show it."""
        with_words = self._n_paints % PAINTS_PER_WORD == 0
        self._n_paints += 1
        if with_words:
            _set(self._head, "value", _head(report, now))
        self._map.paint(map_phase(report, now, reduce_began), now, with_words=with_words)
        reduce = reduce_phase(report, now, reduce_began)
        if reduce is not None:
            self._reduce.paint(reduce, now, with_words=with_words)
        if self._handle is None:
            self._handle = displayed(self._box, display_id=True)

    def end(self, report: Report, now: float) -> None:
        """Put the summary in the view's place."""
        self._handle.update(bundle(report, now), raw=True)
        self._head.value = html(report, now)
        self._box.children = (self._head,)
        self._close_rows()
        _keep(self._box, self._box.layout, self._head, self._head.layout, self._head.style)

    def _close_rows(self) -> None:
        """Every comm of theirs: closing a widget leaves those of its layout and style open."""
        rows = (self._map, self._reduce)
        for part in (self._rows.layout, self._rows, *(part for row in rows for part in row.parts)):
            part.close()


class _Row:
    """A bar and what it says."""

    def __init__(self, name: str, colour: str, layout: Any, text_style: Any) -> None:
        self._colour = colour
        self._bar = ipywidgets.FloatProgress(
            min=0.0,
            max=1.0,
            description=name,
            style={"bar_color": colour, "description_width": "52px"},
            layout=layout,
        )
        self._text = ipywidgets.HTML(layout=layout, style=text_style)
        self.widgets = (self._bar, self._text)
        self.parts = (self._bar.style, layout, *self.widgets)

    def paint(self, phase: Phase, now: float, *, with_words: bool) -> None:
        fraction = phase.fraction
        _set(self._bar.style, "bar_color", UNKNOWN_COLOUR if fraction is None else self._colour)
        _set(self._bar, "value", _sweep(now) if fraction is None else round(fraction, 3))
        if with_words:
            _set(self._text, "value", _numbers(str(phase)))


def _sweep(now: float) -> float:
    """To and fro: the job is alive, and nobody knows how much is left."""
    return round(abs(now / SWEEP_SECONDS % 2 - 1), 3)


def _head(report: Report, now: float) -> str:
    slots = f" · {report.n_slots} slot{'' if report.n_slots == 1 else 's'}" if report.n_slots else ""
    if report.is_waiting:
        slots = " · waiting for a worker to join"
    mark = f'<span style="color:{COLOURS[report.state]}">{MARKS[report.state]}</span>'
    return _numbers(f"{mark} <b>{escape(report.name)}</b> {report.state.value}{slots} · {whole(report.elapsed(now))}")


def _numbers(text: str) -> str:
    """Digits of one width, so that counts do not dance."""
    return f'<span style="font-variant-numeric:tabular-nums;white-space:nowrap">{text}</span>'


def _set(widget: Any, name: str, value: object) -> None:
    """One comm message, and none when nothing changed."""
    if getattr(widget, name) != value:
        setattr(widget, name, value)


# A page that is reloaded while the job runs never hears of the update that replaces the view: it keeps asking for the
# widget, and shows "Loading widget..." for ever if that is closed. So the last job's box stays open, with the summary
# in it, until the next view opens: one box for a kernel, however many jobs it runs.
_kept: list[Any] = []


def _keep(*parts: Any) -> None:
    _close_kept()
    _kept.extend(parts)


def _close_kept() -> None:
    while _kept:
        _kept.pop().close()
