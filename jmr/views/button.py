"""The Cancel button of a live view.

    shown ── pressed ──> cancel(), "Cancelling..." ── job ends ──> gone
          └─ 1 s, and no click would be heard ──> a button that asks the server to interrupt the kernel

The click is heard in a subshell's thread, or in the main thread once that is free: it calls `cancel` and leaves a note;
what is to be seen of it is painted by the painter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ipywidgets

from jmr.progress.report import Report, State
from jmr.views.clicks import are_heard, hear_by_any_shell, interrupt_button, kernel_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from jmr.progress.routing import Parent

__all__ = ["CancelButton"]

#: Seconds that a front end has to make a subshell for the first widget that it shows.
PATIENCE = 1.0


class CancelButton:
    """One job's button. All but the click itself happens in the painter's thread.

    Parameters
    ----------
    cancel
        Called once at most, and never for a job that has ended.
    parent
        The request of the cell that the button stands under.
    blocking
        Whether that cell runs as long as the job does. Where it does not, an interrupt would hit something else.
    """

    def __init__(self, report: Report, cancel: Callable[[], None], parent: Parent | None, *, blocking: bool) -> None:
        self._report = report
        self._cancel = cancel
        self._parent = parent
        self._in_doubt = blocking
        self._shown_at = 0.0
        self.is_pressed = False
        #: What is shown; None before `open`.
        self.widget: Any = None

    def open(self, now: float, layout: Any) -> None:
        """Make what is to be shown first."""
        self._shown_at = now
        if self._in_doubt and are_heard(self._parent) is False:
            self._ask_the_server(layout)
        else:
            classes = ("jmr-corner", "jmr-cancel")
            self.widget = ipywidgets.Button(
                description="Cancel", tooltip="Stop this job", layout=layout, _dom_classes=classes
            )
            self.widget.on_click(self._press)
            hear_by_any_shell(self.widget)

    def paint(self, now: float) -> bool:
        """Show what has become of it; whether another widget must be shown."""
        if self.is_pressed:
            self._show_pressed()
        elif self._in_doubt and (heard := are_heard(self._parent)):
            self._in_doubt = not heard
        elif self._in_doubt and now - self._shown_at >= PATIENCE:
            layout = self.widget.layout
            self.close()
            self._ask_the_server(layout)
            return True
        return False

    def close(self) -> None:
        """Take it away. Its layout is not its own."""
        self.widget.style.close()
        self.widget.close()

    def _ask_the_server(self, layout: Any) -> None:
        self._in_doubt = False
        self.widget = ipywidgets.HTML(interrupt_button(kernel_id()), layout=layout, _dom_classes=("jmr-corner",))

    def _press(self, _: Any) -> None:
        """In a thread of the kernel's: nothing is painted here."""
        if self._report.state is State.RUNNING and not self.is_pressed:
            self.is_pressed = True
            self._cancel()

    def _show_pressed(self) -> None:
        if not self.widget.disabled:
            with self.widget.hold_sync():
                self.widget.disabled = True
                self.widget.description = "Cancelling…"
