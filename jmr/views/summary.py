"""What stays of a job: a line, or from 0.3 s on the whole card.

    report ──unfinished()────> a line for who sees a live view without its kernel
           ──line()───> text ┐
           ──html()───> line ├─ short job ──> Bundle
           ──final.py─> card ┴─ long job

Functions of a report and a time; no clock, no output, no IPython. What only long jobs need is imported when they do.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from jmr.progress.log import Log
from jmr.progress.report import Report, State
from jmr.progress.words import duration, plural

__all__ = [
    "BARREN",
    "FIRST_PAINT",
    "FONT",
    "Bundle",
    "Summary",
    "bundle",
    "headline",
    "how_it_ended",
    "html",
    "is_barren",
    "line",
    "skipped",
    "unfinished",
]

#: The same thing for every reader: mime type -> text.
Bundle = dict[str, str]

#: A job that is done by then, in seconds, shows only its line.
FIRST_PAINT = 0.3
#: As much of the error of a failed job stands in its line.
_MAX_ERROR = 200

COLOURS = {State.RUNNING: "#3b82f6", State.DONE: "#10b981", State.FAILED: "#ef4444", State.CANCELLED: "#f59e0b"}
FONT = "var(--jp-ui-font-family,system-ui,sans-serif)"
#: Of a job whose mapfn left nothing.
BARREN = "mapfn emitted nothing: is a yield missing?"
MARKS = {State.RUNNING: "●", State.DONE: "✓", State.FAILED: "✕", State.CANCELLED: "■"}


def line(report: Report, now: float) -> str:
    """The whole job in one line; of one that failed, also why: nobody may have asked for its result yet.

    Examples
    --------
    >>> report = Report("wordcount", notes=["source from an earlier cell"], started=0.0, n_slots=2)
    >>> report.n_records, report.n_keys, report.state, report.ended = 1204, 53211, State.DONE, 2.31
    >>> line(report, now=9.0)
    'wordcount: 1,204 records -> 53,211 keys in 2.31 s on 2 slots (source from an earlier cell)'
    """
    return f"{headline(report, now)}{_why(report)}"


def headline(report: Report, now: float) -> str:
    """The same without why it failed, for whoever says that at more length."""
    return f"{report.name}: {_facts(report, now)}"


def html(report: Report, now: float) -> str:
    """The same line for a notebook: inline styles only, so that an untrusted notebook shows it too."""
    from html import escape

    return _html(report, escape(_facts(report, now)).replace("-&gt;", "→") + escape(_why(report)))


def _html(report: Report, said: str) -> str:
    from html import escape

    colour, mark = COLOURS[report.state], MARKS[report.state]
    return (
        f'<div style="font-family:{FONT};font-size:13px;padding:2px 10px;border-left:4px solid {colour}">'
        f'<b style="color:{colour}">{mark}</b> <b>{escape(report.name)}</b>: {said}</div>'
    )


def bundle(report: Report, now: float, *, has_card: bool = True) -> Bundle:
    """What a notebook stores of a job: the line of a short one; the card of a long one, if it is to have one.

    Where no card can be made, the line says why.
    """
    if not has_card or report.elapsed(now) < FIRST_PAINT:
        return _line_bundle(report, now)
    try:
        return _full(report, now)
    except Exception as error:  # of keys, values and messages of the user's there is no end
        notes = [*report.notes, f"no card: {type(error).__name__}: {error}"]
        return _line_bundle(replace(report, notes=notes), now)


def _line_bundle(report: Report, now: float) -> Bundle:
    """The line, for every reader."""
    said = {"text/html": html(report, now), "text/plain": line(report, now)}
    return {kind: text.encode(errors="backslashreplace").decode() for kind, text in said.items()}  # for a kernel


def unfinished(report: Report) -> Bundle:
    """What is to be read in a live view's place where its kernel is gone, or its page did not see the end."""
    said = "was running when this was shown; jmr.last or result.summary has its card"
    return {"text/html": _html(report, said), "text/plain": f"{report.name}: {said}"}


class Summary:
    """What is known of a job that has ended; `jmr.last` is the last one's, `result.summary` that of a result.

    In a notebook it shows as a card with the timeline of the job's attempts; its text says the same in two lines. It
    can be copied, and pickled without its log: a result that the next job's functions capture is sent to every slot.
    """

    def __init__(self, report: Report) -> None:
        self._report = report

    def __repr__(self) -> str:
        from jmr.views.final import final_text

        return final_text(self._report, self._report.started)

    def _repr_mimebundle_(self, **options: Any) -> Bundle:
        return _full(self._report, self._report.started)

    def __getstate__(self) -> dict[str, Report]:
        return {"_report": replace(self._report, log=Log())}

    def __deepcopy__(self, memo: object) -> Summary:
        return self  # of a job that has ended, nothing changes

    def log(self) -> str:
        """What the job's functions printed, warned of and logged in slots, each line with its slot's name.

        Up to 8 MB of what workers passed on: the first half and the last, and how many lines are missing where. Empty
        with engine="inline", which prints into the cell itself, and where the summary has been pickled.
        """
        return self._report.log.text()


def _full(report: Report, now: float) -> Bundle:
    from jmr.views.final import final_html, final_text

    return {"text/html": final_html(report, now), "text/plain": final_text(report, now)}


def _facts(report: Report, now: float) -> str:
    notes = f" ({'; '.join(report.notes)})" if report.notes else ""
    missing = f", {skipped(report)}" if report.n_skipped else ""
    return f"{_outcome(report, now)}{missing}{notes}"


def _why(report: Report) -> str:
    error = report.error
    return f": {error if len(error) <= _MAX_ERROR else error[: _MAX_ERROR - 3] + '...'}" if error else ""


def how_it_ended(report: Report, now: float) -> str:
    """How, after what time, and on what.

    Examples
    --------
    >>> how_it_ended(Report("wordcount", started=0.0, ended=6.1, n_slots=4, state=State.DONE), now=9.0)
    'done in 6.10 s on 4 slots'
    """
    when = "in" if report.state is State.DONE else "after"
    return f"{report.state.value} {when} {_time_and_slots(report, now)}"


def _time_and_slots(report: Report, now: float) -> str:
    slots = f" on {plural(report.n_slots, 'slot')}" if report.n_slots else ""
    return f"{duration(report.elapsed(now))}{slots}"


def _outcome(report: Report, now: float) -> str:
    records = plural(report.n_records, "record")
    if report.state is State.DONE:
        why = f" ({BARREN})" if is_barren(report) else ""
        return f"{records} -> {plural(report.n_keys, 'key')}{why} in {_time_and_slots(report, now)}"
    return how_it_ended(report, now) + (f", {records} mapped" if report.n_records else "")


def is_barren(report: Report) -> bool:
    """Whether records went in, and nothing came out, and nobody has been told why."""
    return report.n_records > 0 and report.n_pairs == 0 and report.n_skipped == 0 and report.n_keys == 0


def skipped(report: Report) -> str:
    """How much was set aside, and where it is."""
    return f"{report.n_skipped:,} skipped: see the result's .errors"
