"""Draws how a job's first records become results: the picture from which MapReduce can be understood.

    records      mapfn      pairs      group by key      groups     reducefn     results
    ┌──────┐          ┌───────┬───┐   ribbons cross,    ┌───┬────┐            ┌───┬───┐
    │ text │ ───────> │  key  │ 1 │ ══════════════════> │key│[1,1]│ ────────> │key│ 2 │
    └──────┘          └───────┴───┘   a colour a key    └───┴────┘            └───┴───┘

What a key is stands on the key's own colour, what a value is on a light ground: both can be read on white and on black,
and from the last row of a classroom.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from jmr.views.flow import Flow, FlowRecord, cells, fit, listed
from jmr.views.shapes import arrow, band, box, label, left_part, ribbon, text

__all__ = ["WIDTH", "draw"]

#: What a card has room for. A drawing that needs less is shown larger, up to this.
WIDTH, _LEAST_WIDTH = 830, 640
#: Of keys: behind the key, behind its values, and of the ribbons.
_KEYS = [
    ("#2563eb", "#dbeafe", "#3b82f6"),
    ("#c2410c", "#ffedd5", "#f97316"),
    ("#047857", "#d1fae5", "#10b981"),
    ("#9333ea", "#f3e8ff", "#a855f7"),
    ("#be123c", "#ffe4e6", "#f43f5e"),
    ("#0e7490", "#cffafe", "#06b6d4"),
    ("#854d0e", "#fef3c7", "#ca8a04"),
    ("#4d7c0f", "#ecfccb", "#84cc16"),
    ("#4338ca", "#e0e7ff", "#818cf8"),
    ("#a21caf", "#fae8ff", "#e879f9"),
]
_RECORD = ("#475569", "#e2e8f0")
_INK = "#111827"
_ROW, _PILL, _GAP, _TOP = 26, 22, 14, 46
#: Of the letters: their width (all have the same), the distance of lines, the space at the edge of a box.
_CELL, _LINE, _PAD = 7.25, 16, 7
_LEAST_RECORD = 2 * _LINE + 12
#: Of columns: the least width, the most that records may need, and what lies between them; and the ribbons.
_LEAST_COLUMN, _MOST_RECORDS, _BETWEEN = 84.0, 190.0, 28.0
_LEAST_RIBBONS, _RIBBONS = 110.0, 150.0
_MONO = "ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace"


@dataclass(frozen=True, slots=True)
class _Column:
    """Where the boxes of one kind stand; `key_width` is the part of their keys."""

    x: float
    width: float
    key_width: float = 0.0

    @property
    def end(self) -> float:
        return self.x + self.width


@dataclass(slots=True)
class _Drawing:
    """What has been drawn so far, and the columns that it stands in."""

    records: _Column
    pairs: _Column
    groups: _Column
    combined: _Column | None
    results: _Column
    width: float
    #: Lines lie below boxes.
    lines: list[str] = field(default_factory=list)
    boxes: list[str] = field(default_factory=list)
    #: Of each group: heights at which its pairs leave their column.
    leaving: dict[int, list[float]] = field(default_factory=dict)


def draw(flow: Flow) -> str:
    """The picture of a flow, as SVG, to be shown `WIDTH` wide."""
    drawing = _columns(flow)
    bottom = max(_draw_records(flow, drawing), _heights_of_groups(flow)[1] + _TOP)
    _draw_groups(flow, drawing, bottom)
    height = bottom + (22 if flow.n_groups > len(flow.groups) or flow.n_records > len(flow.records) else 0)
    parts = [*_headings(flow, drawing), *drawing.lines, *drawing.boxes, *_rest(flow, drawing, bottom)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{drawing.width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {drawing.width:.0f} {height:.0f}" font-size="12" font-family="{_MONO}">{"".join(parts)}</svg>'
    )


def _columns(flow: Flow) -> _Drawing:
    """Give each column what it needs; those that need more than their share get equal parts of what is left."""
    pairs = [pair for record in flow.records for pair in record.pairs]
    keys = [group.key for group in flow.groups]
    texts = [
        ([pair.key for pair in pairs], [pair.value for pair in pairs]),
        (keys, [listed(group, 1_000) for group in flow.groups]),
        (keys, [group.combined or "" for group in flow.groups]),
        (keys, [group.result for group in flow.groups]),
    ]
    if not flow.has_combined:
        del texts[2]
    for_records = max((_needed([each]) for record in flow.records for each in (record.key, record.value)), default=0)
    needs = [min(for_records, _MOST_RECORDS), *(_needed(of_keys) + _needed(of_values) for of_keys, of_values in texts)]
    others = _BETWEEN * (len(needs) - 2)
    widths = _shared([max(_LEAST_COLUMN, need) for need in needs], WIDTH - _LEAST_RIBBONS - others)
    width = min(WIDTH, max(_LEAST_WIDTH, sum(widths) + others + _RIBBONS))
    gaps = [_BETWEEN, width - sum(widths) - others, *[_BETWEEN] * (len(widths) - 3), 0]
    starts = [0.0, *itertools.accumulate(width + gap for width, gap in zip(widths, gaps, strict=True))]
    columns = [_column(x, width, of) for x, width, of in zip(starts[1:], widths[1:], texts, strict=False)]
    combined = columns[2] if flow.has_combined else None
    return _Drawing(_Column(0, widths[0]), columns[0], columns[1], combined, columns[-1], width)


def _needed(texts: Sequence[str]) -> float:
    return max(map(cells, texts), default=0) * _CELL + 2 * _PAD


def _shared(needs: list[float], room: float) -> list[float]:
    """Divide room: small needs are met, large ones get equal parts.

    Examples
    --------
    >>> _shared([100, 50, 80], 300), _shared([300, 50, 200], 300)
    ([100, 50, 80], [125.0, 50, 125.0])
    """
    shares = dict.fromkeys(range(len(needs)), 0.0)
    waiting = sorted(shares, key=lambda index: needs[index])
    while waiting:
        index = waiting.pop(0)
        shares[index] = min(needs[index], room / (len(waiting) + 1))
        room -= shares[index]
    return list(shares.values())


def _column(x: float, width: float, texts: tuple[Sequence[str], Sequence[str]]) -> _Column:
    """Divide boxes among keys and values: by what they need, or, if both need too much, about evenly."""
    for_keys, for_values = map(_needed, texts)
    if for_keys + for_values <= width:
        return _Column(x, width, for_keys)
    return _Column(x, width, max(min(for_keys, 0.55 * width), width - for_values))


def _headings(flow: Flow, drawing: _Drawing) -> Iterator[str]:
    """The functions above the gaps that they bridge, and what is in each column."""
    yield _function((drawing.records.end + drawing.pairs.x) / 2, "mapfn")
    yield _function((drawing.pairs.end + drawing.groups.x) / 2, "group by key")
    last = drawing.groups
    if drawing.combined is not None:
        yield _function((last.end + drawing.combined.x) / 2, "combinefn")
        last = drawing.combined
    if flow.reduces:
        yield _function((last.end + drawing.results.x) / 2, "reducefn")
    for column, n, what in (
        (drawing.records, flow.n_records, "record"),
        (drawing.pairs, flow.n_pairs, "pair"),
        (drawing.groups, flow.n_groups, "group"),
        (drawing.combined, flow.n_groups, "combined"),
        (drawing.results, flow.n_groups, "result"),
    ):
        if column is not None:
            plural = "" if n == 1 or what == "combined" else "s"
            yield label((column.x + column.end) / 2, 36, f"{n:,} {what}{plural}", "middle")


def _function(x: float, name: str) -> str:
    return (
        f'<text x="{x:.1f}" y="13" text-anchor="middle" font-weight="bold" font-size="13" fill="#6366f1">{name}</text>'
        f'<path d="M{x - 4:.1f} 19h8l-4 5z" fill="#6366f1"/>'
    )


def _draw_records(flow: Flow, drawing: _Drawing) -> float:
    """Records and their pairs, from the top; returns where the last one ends."""
    y = float(_TOP)
    for record in flow.records:
        n_rows = max(1, len(record.pairs) + (record.n_pairs > len(record.pairs)))
        height = max(_LEAST_RECORD, n_rows * _ROW - (_ROW - _PILL))
        _draw_record(record, drawing.records, y, height, drawing.boxes)
        first = y + (height - n_rows * _ROW + _ROW - _PILL) / 2
        _draw_pairs(record, drawing, first)
        y += height + _GAP
    return y - _GAP if flow.records else y


def _draw_record(record: FlowRecord, column: _Column, y: float, height: float, boxes: list[str]) -> None:
    n_cells = int((column.width - 2 * _PAD) / _CELL)
    n_lines = int((height - 26) // _LINE)
    boxes.append(box(column.x, y, column.width, height, _RECORD[1]))
    boxes.append(band(column.x, y, column.width, 21, _RECORD[0]))
    boxes.append(text(column.x + _PAD, y + 15, fit(record.key, n_cells), "#fff", bold=True))
    for number, line in enumerate(_wrapped(record.value, n_cells, max(1, n_lines))):
        boxes.append(text(column.x + _PAD, y + 36 + number * _LINE, line, _INK))


def _draw_pairs(record: FlowRecord, drawing: _Drawing, y: float) -> None:
    column = drawing.pairs
    for pair in record.pairs:
        centre = y + _PILL / 2
        colours = _KEYS[pair.group % len(_KEYS)]
        drawing.lines.append(arrow(drawing.records.end, column.x, centre))
        drawing.boxes.append(_two(column, y, _PILL, (pair.key, pair.value), colours))
        drawing.leaving.setdefault(pair.group, []).append(centre)
        y += _ROW
    if not record.n_pairs:
        drawing.boxes.append(label((column.x + column.end) / 2, y + 15, "emits nothing", "middle"))
    elif record.n_pairs > len(record.pairs):
        more = f"… {record.n_pairs - len(record.pairs):,} more"
        drawing.boxes.append(label((column.x + column.end) / 2, y + 15, more, "middle"))


def _heights_of_groups(flow: Flow) -> tuple[list[float], float]:
    """How tall each group is, so that its ribbons do not lie on each other; and what all need."""
    n_pairs = [0] * len(flow.groups)
    for record in flow.records:
        for pair in record.pairs:
            n_pairs[pair.group] += 1
    heights = [max(26.0, 10.0 * n + 6) for n in n_pairs]
    return heights, sum(heights) + 6 * max(0, len(heights) - 1)


def _draw_groups(flow: Flow, drawing: _Drawing, bottom: float) -> None:
    """Groups, what is made of them, and the ribbons that lead there."""
    heights, needed = _heights_of_groups(flow)
    room = bottom - _TOP - needed
    gap = min(22.0, 6 + room / max(1, len(heights)))
    y = _TOP + max(0.0, (bottom - _TOP - sum(heights) - gap * (len(heights) - 1)) / 2)
    for number, (group, height) in enumerate(zip(flow.groups, heights, strict=True)):
        colours = _KEYS[number % len(_KEYS)]
        leaving = drawing.leaving[number]
        for index, start in enumerate(leaving):
            end = y + height * (index + 1) / (len(leaving) + 1)
            drawing.lines.append(ribbon(drawing.pairs.end, start, drawing.groups.x, end, colours[2]))
        values = listed(group, _n_cells(drawing.groups, height))
        drawing.boxes.append(_two(drawing.groups, y, height, (group.key, values), colours))
        last, centre, middle = drawing.groups, y + height / 2, y + (height - _PILL) / 2
        if drawing.combined is not None:
            drawing.lines.append(arrow(last.end, drawing.combined.x, centre))
            drawing.boxes.append(_two(drawing.combined, middle, _PILL, (group.key, group.combined or ""), colours))
            last = drawing.combined
        drawing.lines.append(arrow(last.end, drawing.results.x, centre))
        drawing.boxes.append(_two(drawing.results, middle, _PILL, (group.key, group.result), colours))
        y += height + gap


def _rest(flow: Flow, drawing: _Drawing, bottom: float) -> Iterator[str]:
    if (n_records := flow.n_records - len(flow.records)) > 0:
        yield label(drawing.records.x + _PAD, bottom + 17, f"… {n_records:,} more")
    if (n_groups := flow.n_groups - len(flow.groups)) > 0:
        centre = (drawing.groups.x + drawing.groups.end) / 2
        yield label(centre, bottom + 17, f"… {n_groups:,} more", "middle")


def _two(column: _Column, y: float, height: float, said: tuple[str, str], colours: tuple[str, str, str]) -> str:
    """A box of two parts, a key and what belongs to it."""
    key, value = said
    baseline = y + height / 2 + 4
    value_x = column.x + column.key_width + _PAD
    for_key = int((column.key_width - 2 * _PAD + 1) / _CELL)
    lines = _wrapped(value, _for_value(column), _n_lines(height))
    top = baseline - (len(lines) - 1) * _LINE / 2
    return "".join(
        [
            box(column.x, y, column.width, height, colours[1]),
            left_part(column.x, y, column.key_width, height, colours[0]),
            text(column.x + _PAD, baseline, fit(key, for_key), "#fff", bold=True),
            *(text(value_x, top + number * _LINE, line, _INK) for number, line in enumerate(lines)),
        ]
    )


def _for_value(column: _Column) -> int:
    return int((column.width - column.key_width - 2 * _PAD + 1) / _CELL)


def _n_lines(height: float) -> int:
    return max(1, int((height - 4) // _LINE))


def _n_cells(column: _Column, height: float) -> int:
    """About how long a text may be that is broken into lines there."""
    n_lines = _n_lines(height)
    return n_lines * _for_value(column) - 4 * (n_lines - 1)


def _wrapped(text: str, n_cells: int, n_lines: int) -> list[str]:
    """Break a text at blanks, where there are any, into lines; the last one is cut."""
    lines: list[str] = []
    rest = text
    while len(lines) < n_lines - 1 and cells(rest) > n_cells:
        piece = rest[: max(1, len(fit(rest, n_cells + 1)) - 1)]
        at = piece.rfind(" ")
        piece = piece[: at + 1] if at > n_cells // 4 else piece
        lines.append(piece.rstrip())
        rest = rest[len(piece) :]
    return [*lines, fit(rest, n_cells)]
