"""Shows a flow: a card with the picture and tables for a notebook, aligned text for a terminal.

Flow, facts, warnings ──html()──> picture, facts, the same as tables     (survives an untrusted notebook)
                      ──text()──> two tables, facts
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from jmr.views.card import card, picture, table
from jmr.views.dataflow import WIDTH, draw
from jmr.views.flow import Flow, FlowRecord, cells, fit, listed

__all__ = ["Told", "html", "text"]

_COLOUR, _WARNING = "#6366f1", "#d97706"
_MONO = "font-family:var(--jp-code-font-family,ui-monospace,monospace)"
#: Columns of a terminal: all, and of a cell that is not the last. Of a table in a notebook, where cells wrap.
_WIDE, _CELLS = 100, 24
_HTML_WIDE, _HTML_CELLS = 160, 40
_RECORD_HEAD = ("record", "its value", "pairs that mapfn emits")


@dataclass(frozen=True, slots=True)
class Told:
    """All that there is to say."""

    #: "Preview of wordcount", and "the first 3 of 1,000 records → 8 pairs → 5 groups → 5 results".
    title: str
    summary: str
    flow: Flow
    #: Pairs of label and text.
    facts: Sequence[tuple[str, str]]
    #: What the user should do something about.
    warnings: list[str]


def html(told: Told) -> str:
    """A card: what happened, in a picture; what it means for the whole source; the same in tables."""
    flow = told.flow
    head = f"<b>{escape(told.title)}</b>: {escape(told.summary)}"
    parts = [f'<div style="margin-bottom:8px">{head}</div>', *(_warning(each) for each in told.warnings)]
    if flow.records:
        parts.append(f'<div style="margin:10px 0">{picture(draw(flow), _alt(told), WIDTH)}</div>')
    parts.append(_facts(told.facts))
    if flow.records:
        tables = "".join(_html_tables(flow))
        parts.append(f'<details style="margin-top:8px"><summary>The same as tables</summary>{tables}</details>')
    return card(parts, _COLOUR)


def _alt(told: Told) -> str:
    flows = (f"{group.key}: {listed(group, _WIDE)} gives {group.result}" for group in told.flow.groups)
    return f"{told.summary}. {'; '.join(flows)}"


def _warning(warning: str) -> str:
    return f'<div style="color:{_WARNING};margin:2px 0">⚠ {escape(warning)}</div>'


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    """A table without a head; a label does not wrap."""
    row = '<tr style="background:none">'
    cell = '<td style="padding:1px 20px 1px 0;border:none;text-align:left;vertical-align:top'
    rows = (
        f'{row}{cell};white-space:nowrap;opacity:.7">{escape(label)}</td>{cell}">{escape(fact)}</td></tr>'
        for label, fact in facts
    )
    return f'<table style="font-size:13px;border-collapse:collapse;margin:0">{"".join(rows)}</table>' if facts else ""


def _html_tables(flow: Flow) -> Iterator[str]:
    records = _record_rows(flow, _HTML_CELLS, _HTML_WIDE)
    of_records = [[*map(_code, firsts), " ".join(map(_code, pairs))] for firsts, pairs in records]
    head, rows = _group_rows(flow, _HTML_CELLS, _HTML_WIDE)
    of_groups = [[_code(cell) for cell in row] for row in rows]
    for columns, marked in ((_RECORD_HEAD, of_records), (head, of_groups)):
        yield f'<div style="margin-top:8px">{table(columns, marked, "l" * len(columns))}</div>'


def _code(said: str) -> str:
    """A key or value; or a pair, which stays on one line if it is short."""
    style = _MONO if cells(said) > _HTML_CELLS else f"{_MONO};white-space:nowrap"
    return f'<code style="{style}">{escape(said)}</code>' if said else ""


def text(told: Told) -> str:
    """The same for a terminal."""
    lines = [f"{told.title}: {_plain(told.summary)}", *(f"! {each}" for each in told.warnings)]
    if told.flow.records:
        rows = [[*firsts, "   ".join(pairs)] for firsts, pairs in _record_rows(told.flow, _CELLS, _WIDE)]
        lines += ["", *_aligned(_RECORD_HEAD, rows), ""]
    if told.flow.groups:
        lines += [*_aligned(*_group_rows(told.flow, _CELLS, _WIDE)), ""]
    width = max((len(label) for label, _ in told.facts), default=0)
    return "\n".join([*lines, *(f"{label:{width}}  {_plain(fact)}" for label, fact in told.facts)])


def _plain(said: str) -> str:
    """Words of ours, with the arrow that text has elsewhere."""
    return said.replace("→", "->")


def _record_rows(flow: Flow, n_cells: int, wide: int) -> list[tuple[list[str], list[str]]]:
    """Keys and values, cut to so many columns; and pairs, for which there is what those leave of the width."""
    firsts = [[fit(record.key, n_cells), fit(record.value, n_cells)] for record in flow.records]
    room = wide - sum(max(map(cells, column)) for column in zip(*firsts, strict=True))
    rows = [(first, _pairs(record, room)) for first, record in zip(firsts, flow.records, strict=True)]
    if (n_more := flow.n_records - len(flow.records)) > 0:
        rows.append(([f"… {n_more:,} more", ""], []))
    return rows


def _pairs(record: FlowRecord, room: int) -> list[str]:
    """As many as there is room for, one at least, and how many there are besides."""
    said = [fit(f"{pair.key}: {pair.value}", room - 12) for pair in record.pairs]
    ends = list(itertools.accumulate(cells(each) + 3 for each in said))
    n_shown = max(1, sum(1 for end in ends if end <= room - 9)) if said else 0
    if n_shown < len(said) == record.n_pairs and ends[-1] - 3 <= room:
        n_shown = len(said)
    n_more = record.n_pairs - n_shown
    return [*said[:n_shown], *([f"… {n_more:,} more"] if n_more else [])] or ["nothing"]


def _group_rows(flow: Flow, n_cells: int, wide: int) -> tuple[list[str], list[list[str]]]:
    """Likewise; the results get what the others leave of the width."""
    head = ["group", "its values", *(["combined"] if flow.has_combined else []), "result"]
    rows = []
    for group in flow.groups:
        combined = [] if group.combined is None else [group.combined]
        firsts = [fit(each, n_cells) for each in (group.key, listed(group, n_cells), *combined)]
        rows.append([*firsts, fit(group.result, wide - sum(map(cells, firsts)))])
    if (n_more := flow.n_groups - len(flow.groups)) > 0:
        rows.append([f"… {n_more:,} more", *[""] * (len(head) - 1)])
    return head, rows


def _aligned(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Columns under their heads."""
    table = [head, *rows]
    widths = [max(map(cells, column)) for column in zip(*table, strict=True)]
    return [
        "  " + "  ".join(cell + " " * (width - cells(cell)) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
