"""The card that a job leaves in its cell: how it ended, its counts, its picture, and the first of its result.

    report ──> header, error, counts, picture, legend, result, notes ──> one framed block, under 28 KB

It is saved with the notebook, so it must be small whatever the job was: words are cut, and the picture, which comes
last, gets the room that they leave.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from jmr.errors import printable
from jmr.progress.report import Report, State
from jmr.progress.words import count, duration, plural, size
from jmr.views.card import card, picture, table
from jmr.views.drawing import COLOURS, WIDTH, Drawing, draw
from jmr.views.summary import BARREN, MARKS, headline, how_it_ended, is_barren, skipped
from jmr.views.summary import COLOURS as STATE_COLOURS

__all__ = ["final_html", "final_text"]

#: Most bytes of the card in a saved notebook, which stores its text as well.
MAX_STORED = 28_000
#: The picture need not have more characters than this, and never gets less; base64 adds a third.
_MAX_SVG, _MIN_SVG = 17_000, 4_000
#: What else the picture brings: its legend, its own words.
_FOR_LEGEND = 1_500
_MAX_NAME, _MAX_LINE, _MAX_ERROR, _MAX_NOTE, _MAX_CELL, _MAX_NOTES = 120, 1_000, 300, 200, 80, 4
_EXACT_BELOW = 10_000_000
_BAD, _WARN = STATE_COLOURS[State.FAILED], STATE_COLOURS[State.CANCELLED]


def final_html(report: Report, now: float) -> str:
    """All that is known of an ended job, as HTML that lasts."""
    before = [_header(report, now), _error(report), _figures(report)]
    after = [_sample(report), *map(_note, _notes(report))]
    room = MAX_STORED - sum(map(_stored_bytes, before + after))
    shown = _timeline(report, now, room)
    return card([*before, *shown, *after], STATE_COLOURS[report.state])


def final_text(report: Report, now: float) -> str:
    """The line that every job leaves, why it failed, and the counts: for whoever sees no HTML."""
    counts = ", ".join(f"{said} {name}" for said, name in [*_flow(report), *_work(report)])
    lines = [printable(headline(report, now), _MAX_LINE), printable(report.error, _MAX_ERROR), counts]
    return "\n".join(filter(None, lines))


def _stored_bytes(html: str) -> int:
    """Of a string in a notebook, which is JSON in UTF-8."""
    return len(html.encode()) + html.count('"') + html.count("\\")


def _header(report: Report, now: float) -> str:
    colour, mark = STATE_COLOURS[report.state], MARKS[report.state]
    return (
        f'<div style="font-size:14px;overflow-wrap:anywhere"><b style="color:{colour}">{mark}</b>&ensp;'
        f"<b>{escape(printable(report.name, _MAX_NAME))}</b> {escape(how_it_ended(report, now))}</div>"
    )


def _error(report: Report) -> str:
    if not report.error:
        return ""
    return (
        f'<div style="margin:6px 0 0 0;overflow-wrap:anywhere"><code style="color:{_BAD};background:none;padding:0;'
        f'font-size:12px;white-space:pre-wrap">{escape(printable(report.error, _MAX_ERROR))}</code></div>'
    )


def _figures(report: Report) -> str:
    """Two tables, which stand side by side where there is room."""
    tables = "".join(_table_of_figures(figures) for figures in (_flow(report), _work(report)) if figures)
    return f'<div style="display:flex;flex-wrap:wrap;margin:8px 0 4px 0">{tables}</div>'


def _flow(report: Report) -> list[tuple[str, str]]:
    """What went in, what became of it, what came out: (how many, of what)."""
    figures = [_figure(report.n_records, "record", " in")]
    if report.n_pairs:
        figures.append(_figure(report.n_pairs, "pair"))
    if report.n_combined_pairs not in {0, report.n_pairs}:
        figures.append((_exact(report.n_combined_pairs), "after combine"))
    if report.shuffled_bytes:
        figures.append((size(report.shuffled_bytes), "shuffled"))
    if report.state is State.DONE:
        figures.append(_figure(report.n_keys, "key", " out"))
    if report.n_skipped:
        figures.append((_exact(report.n_skipped), "skipped"))
    return figures


def _work(report: Report) -> list[tuple[str, str]]:
    """What it took."""
    figures = []
    if n_tasks := report.n_map_tasks_done + report.n_reduce_tasks_done:
        figures.append(_figure(n_tasks, "task"))
    if report.timeline:
        figures.append(_figure(len(report.timeline), "attempt"))
    if report.peak_bytes:
        figures.append((size(report.peak_bytes), "peak memory"))
    return figures


def _figure(n: int, noun: str, whither: str = "") -> tuple[str, str]:
    return _exact(n), f"{noun}{'' if n == 1 else 's'}{whither}"


def _exact(n: int) -> str:
    return f"{n:,}" if n < _EXACT_BELOW else count(n)


def _table_of_figures(figures: list[tuple[str, str]]) -> str:
    style = "padding:0 22px 0 0;border:none;text-align:left;vertical-align:bottom;line-height:1.35;white-space:nowrap;"
    names = "".join(f'<th style="{style}font-size:11px;font-weight:400;opacity:.7">{name}</th>' for _, name in figures)
    values = "".join(f'<td style="{style}font-size:16px;font-weight:600">{said}</td>' for said, _ in figures)
    row = '<tr style="background:none">'
    rows = f"{row}{names}</tr>{row}{values}</tr>"
    return f'<table style="border-collapse:collapse;border:none;margin:0 14px 4px 0">{rows}</table>'


def _timeline(report: Report, now: float, room: int) -> Iterator[str]:
    """The picture and its legend; nothing where no attempt was made."""
    if not report.timeline:
        return
    limit = max(min(_MAX_SVG, (room - _FOR_LEGEND) * 3 // 4), _MIN_SVG)
    drawing = draw(report.timeline, report.elapsed(now), limit)
    yield f'<div style="line-height:0">{picture(drawing.svg, _alt(report, drawing, now), WIDTH)}</div>'
    yield _legend(drawing)


def _alt(report: Report, drawing: Drawing, now: float) -> str:
    counts = ", ".join(f"{n:,} {kind}" for kind, n in drawing.counts.items())
    n_slots = plural(len({attempt.slot for attempt in report.timeline}), "slot")
    n_attempts = plural(len(report.timeline), "attempt")
    return f"Timeline of {n_attempts} ({counts}) on {n_slots} in {duration(report.elapsed(now))}"


def _legend(drawing: Drawing) -> str:
    said = [
        f'<span style="color:{COLOURS[kind]}">■</span> {kind} <span style="opacity:.7">{n:,}</span>'
        for kind, n in drawing.counts.items()
    ]
    if drawing.n_folded > 1:
        said.append(f'<span style="opacity:.7">each row: how many of up to {drawing.n_folded} slots are busy</span>')
    return f'<div style="font-size:11px;margin:2px 0 0 0">{"&emsp;".join(said)}</div>'


def _sample(report: Report) -> str:
    """The first items of the result, in a table that can be folded away."""
    if not report.sample:
        return ""
    rows = [(_code(key), _code(value)) for key, value in report.sample]
    first = f", the first {len(rows)}" if report.n_keys > len(rows) else ""
    return (
        '<details open><summary style="cursor:pointer;font-size:12px;margin:8px 0 2px 0">'
        f"Result: a dict of {plural(report.n_keys, 'key')}{first}</summary>"
        f"{table(('key', 'value'), rows, 'll')}</details>"
    )


def _code(text: str) -> str:
    shown = printable(text, _MAX_CELL)
    return f'<code style="background:none;padding:0;font-size:12px;overflow-wrap:anywhere">{escape(shown)}</code>'


def _notes(report: Report) -> Iterator[tuple[str, str]]:
    """What is to be said besides: colour and words."""
    if is_barren(report):
        yield _WARN, BARREN
    if report.n_skipped:
        yield _WARN, skipped(report)
    if report.last_failure and not (report.n_failures == 1 and _is_told_besides(report)):
        yield _BAD, f"{plural(report.n_failures, 'attempt')} failed; the last: {report.last_failure}"
    for note in report.notes[:_MAX_NOTES]:
        yield "inherit", note


def _is_told_besides(report: Report) -> bool:
    """Whether the last failure has ended the job, or a note tells of it, and of what was done about it."""
    return bool(report.error) or any(note.startswith(report.last_failure) for note in report.notes)


def _note(note: tuple[str, str]) -> str:
    colour, words = note
    opacity = ";opacity:.7" if colour == "inherit" else ""
    return (
        f'<div style="font-size:12px;margin:6px 0 0 0;color:{colour}{opacity};overflow-wrap:anywhere">'
        f"{escape(printable(words, _MAX_NOTE))}</div>"
    )
