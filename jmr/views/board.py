"""The live view as HTML: what is running, its bars, the last failure.

    Board(report) ── head(now)  name, state, slots, time          look() takes the counts in, and
                  ── bars()     map, shuffle, reduce              remembers speeds and where bars stood
    failure(report)             what went wrong last
    news(report)                what is to be said besides, if that was not known before: the last of it

Each text replaces the one before it as a whole, which would make a bar jump: so each bar carries where it stood, and
the browser moves it from there. A few texts a second then look as smooth as sixty.
"""

from __future__ import annotations

from html import escape

from jmr.errors import printable
from jmr.progress.report import Report, State
from jmr.progress.words import plural, time_left, whole
from jmr.views.pace import Pace
from jmr.views.phases import Phase, map_phase, reduce_phase, shuffle_phase
from jmr.views.summary import COLOURS

__all__ = ["PERIOD", "Board", "failure", "news"]

#: Seconds from one picture to the next, which is how long a bar moves.
PERIOD = 0.25
#: Endless movements repeat after this; each text says where they go on.
REPEAT = 4.0
#: As much of a note is told.
_MAX_NOTE = 200

NAMES = ("map", "shuffle", "reduce")
#: Beside a bar of which nothing can be said yet.
AFTER_MAP = "after map"


class Board:
    """One job's head and bars. Remembers what one look does not show: speeds, and where the bars stood."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._records = Pace(report.started)
        self._written = Pace(report.started)
        self._taken: Pace | None = None
        self._reduced: Pace | None = None
        self._stood: list[float | None] = [None, None, None]
        self._words: tuple[str, ...] = ()
        self._html = ""
        self._now = report.started
        self._map = map_phase(report, self._now)
        self._shuffle = shuffle_phase(report, self._now)
        self._reduce: Phase | None = None

    def look(self, now: float) -> None:
        """Take the report in."""
        report, self._now = self._report, now
        began = report.reduce_began
        if began is None:
            self._records.look(report.n_records, now)
            self._written.look(report.shuffled_bytes, now)
            self._map = map_phase(report, now, self._records.per_second)
            self._shuffle = shuffle_phase(report, now, self._written.per_second)
            return
        if self._taken is None or self._reduced is None:
            self._taken, self._reduced = Pace(began), Pace(began)
        self._taken.look(report.reduced_bytes, now)
        self._reduced.look(report.n_reduce_tasks_done, now)
        self._map = map_phase(report, now)
        self._shuffle = shuffle_phase(report, now, self._taken.per_second)
        self._reduce = reduce_phase(report, now, self._reduced.per_second)

    def words(self, *, is_cancelled: bool = False) -> tuple[str, ...]:
        """Head, and the words beside each bar: HTML."""
        reduce = AFTER_MAP if self._reduce is None else self._reduce.words
        shuffle = self._shuffle.words if self._report.shuffled_bytes else AFTER_MAP if self._reduce is None else "0 B"
        return self._head(is_cancelled=is_cancelled), self._map.words, shuffle, reduce

    def html(self, words: tuple[str, ...]) -> str:
        """The board with these words, and the bars as they are now; the same text again if nothing has changed."""
        fractions = self._fractions()
        if (words, fractions) != (self._words, self._stood):
            self._html = self._written_anew(words, fractions)
            self._words, self._stood = words, fractions
        return self._html

    @property
    def has_moved(self) -> bool:
        """Whether a bar is to stand elsewhere than in the last text."""
        return self._fractions() != self._stood

    def _fractions(self) -> list[float | None]:
        reduced = 0.0 if self._reduce is None else self._reduce.fraction
        return [None if f is None else round(f, 3) for f in (self._map.fraction, self._shuffle.fraction, reduced)]

    def _written_anew(self, words: tuple[str, ...], fractions: list[float | None]) -> str:
        head, *texts = words
        bars = "".join(_bar(*each) for each in zip(NAMES, self._stood, fractions, texts, strict=True))
        moves = f"--jmr-grow:{PERIOD}s;--jmr-then:-{self._now % REPEAT:.2f}s"
        return f"<div style='{moves}'>{head}<div class='jmr-bars'>{bars}</div></div>"

    def _head(self, *, is_cancelled: bool) -> str:
        report = self._report
        word, colour = report.state.value, COLOURS[report.state]
        if report.state is State.RUNNING and (is_cancelled or report.is_waiting):
            word = "cancelling" if is_cancelled else "waiting for a worker to join"
            colour = COLOURS[State.CANCELLED]
        dot = f"<i style='background:{colour}'></i>"
        slots = plural(report.n_slots, "slot") if report.n_slots else ""
        kept = f"{plural(report.n_tasks_kept, 'task')} kept" if report.n_tasks_kept else ""
        facts = filter(None, [slots, kept, whole(report.elapsed(self._now)), self._left()])
        told = " · ".join(f"<span>{fact}</span>" for fact in facts)
        return (
            f"<div class='jmr-head'><b>{escape(report.name)}</b><span class='jmr-pill'>{dot}{word}</span>"
            f"<span class='jmr-dim'>{told}</span></div>"
        )

    def _left(self) -> str:
        """What is left, as far as it can be known: nobody knows how long reduce takes before it has begun."""
        if self._report.state is not State.RUNNING or self._report.is_waiting:
            return ""
        if self._reduce is not None:
            left = time_left(self._reduce.seconds_left)
            return f"{left} left" if left else ""
        left = time_left(self._map.seconds_left)
        return f"{left} of map left" if left else ""


def failure(report: Report) -> str:
    """How many attempts gave no answer, and why the last one did not."""
    if not report.n_failures:
        return ""
    return (
        f"<div class='jmr-failure'><span class='jmr-bad'>{plural(report.n_failures, 'attempt')} failed</span>"
        f" <span class='jmr-dim'>last: <code>{escape(report.last_failure)}</code></span></div>"
    )


def news(report: Report) -> str:
    """The last note since the job began, unless it tells what `failure` does; at the end, all of them are told."""
    told = report.last_failure
    fresh = [note for note in report.notes[report.n_first_notes :] if not (told and note.startswith(told))]
    return f"<div class='jmr-failure jmr-dim'>{escape(printable(fresh[-1], _MAX_NOTE))}</div>" if fresh else ""


def _bar(name: str, stood: float | None, fraction: float | None, words: str) -> str:
    if fraction is None:
        value, fill = "", f"<div class='jmr-sweep jmr-{name}'></div>"
    else:
        began = fraction if stood is None else stood
        value = f" aria-valuenow='{100 * fraction:.0f}'"
        fill = f"<div class='jmr-fill jmr-{name}' style='width:{fraction:.1%};--jmr-from:{began:.1%}'></div>"
    role = f"role='progressbar' aria-label='{name}' aria-valuemin='0' aria-valuemax='100'{value}"
    return (
        f"<span>{name.capitalize()}</span><div class='jmr-bar' {role}>{fill}</div><span class='jmr-dim'>{words}</span>"
    )
