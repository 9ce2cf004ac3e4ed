"""The picture of a job: a lane for each slot, a bar for each attempt, as an SVG of bounded size.

    attempts ──few slots──> bars,   coarser and coarser ┐
             ──many──────> shares, coarser and coarser ─┴─ the first that fits ──> Drawing

The drawing is shown as an image, so nothing of the page reaches into it: its words are of a grey that can be read on
white and on black. All bars of a kind are one path with a thick pen, six letters or so a bar.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from html import escape
from operator import attrgetter

from jmr.result import Attempt
from jmr.views.timeline import KINDS, Bars, Lane, Sorted, bars, by_kind, groups, merged, shares, sorted_slots, ticks

__all__ = ["COLOURS", "WIDTH", "Drawing", "draw"]

COLOURS = {"map": "#3b82f6", "reduce": "#10b981", "stopped": "#9ca3af", "backup": "#a855f7", "failed": "#ef4444"}
_INK = "#808080"

#: Natural width, and what is left free beside the lanes.
WIDTH = 820
_RIGHT, _TOP, _BOTTOM = 30, 6, 22
#: More slots than this share lanes.
_MAX_SLOT_LANES, _MAX_SHARED_LANES = 64, 24
#: Columns of a bar, from which on it is one of its own; and of none.
_LEAST = (3, WIDTH)
_STEPS, _MIN_STEPS = 128, 32
#: Of a failed attempt, however short it was.
_MIN_FAILED = 3
_MAX_NAME = 22


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture and what can be said of it."""

    svg: str
    #: kind -> attempts.
    counts: dict[str, int]
    #: Most slots that one lane stands for.
    n_folded: int


def draw(timeline: Sequence[Attempt], seconds: float, limit: int) -> Drawing:
    """Draw the attempts of a job.

    Parameters
    ----------
    timeline
        Attempts in order of their ends.
    seconds
        What the job took.
    limit
        Most characters of the drawing; from some 5,000 on it is kept.
    """
    attempts = by_kind(timeline)
    slots = sorted_slots({attempt.slot for attempt in timeline})
    last = max(map(attrgetter("ended"), timeline))
    svg, n_folded = _first_that_fits(_coarser_and_coarser(attempts, slots, max(seconds, last, 1e-6)), limit)
    return Drawing(svg, {kind: len(some) for kind, some in attempts.items()}, n_folded)


def _first_that_fits(pictures: Iterator[tuple[str, int]], limit: int) -> tuple[str, int]:
    """Or the last, if none does."""
    for picture in pictures:
        if len(picture[0]) <= limit:
            break
    return picture


def _coarser_and_coarser(attempts: Sorted, slots: list[str], seconds: float) -> Iterator[tuple[str, int]]:
    """Pictures, and how many slots share a lane in them."""
    if len(slots) <= _MAX_SLOT_LANES:
        sheet = _Sheet(slots, seconds, _height_of_slots(len(slots)))
        drawn = bars(attempts, sheet.columns / seconds, _LEAST[0])
        for least in _LEAST:
            drawn = merged(drawn, least)
            yield sheet.svg(_bar_paths(drawn, slots, sheet)), 1
    lanes = shares(attempts, groups(slots, _MAX_SHARED_LANES), seconds, _STEPS)
    while True:
        sheet = _Sheet([lane.name for lane in lanes], seconds, _height_of_shares(len(lanes)))
        yield sheet.svg(_share_paths(lanes, sheet)), max(lane.n_slots for lane in lanes)
        if len(lanes[0].busy["map"]) > _MIN_STEPS:
            lanes = [lane.coarser() for lane in lanes]
        elif len(lanes) > 1:
            lanes = [reduce(Lane.joined, lanes[at : at + 2]) for at in range(0, len(lanes), 2)]
        else:
            return


def _height_of_slots(n: int) -> tuple[int, int]:
    """Height of a lane, and the gap below it."""
    return next(
        sizes for most, sizes in ((4, (20, 6)), (12, (15, 4)), (24, (10, 3)), (40, (7, 2)), (n, (5, 1))) if n <= most
    )


def _height_of_shares(n: int) -> tuple[int, int]:
    return next(sizes for most, sizes in ((2, (72, 8)), (6, (36, 6)), (12, (24, 4)), (n, (14, 3))) if n <= most)


class _Sheet:
    """Where things are."""

    def __init__(self, names: Sequence[str], seconds: float, height: tuple[int, int]) -> None:
        self.names = [_shortened(name) for name in names]
        self.seconds = seconds
        self.lane, self._gap = height
        self.left = 10 + round(7.2 * max(map(len, self.names)))
        self.columns = WIDTH - self.left - _RIGHT
        self.bottom = _TOP + len(names) * (self.lane + self._gap)

    def top(self, lane: int) -> int:
        """Of a lane."""
        return _TOP + lane * (self.lane + self._gap)

    def svg(self, paths: Iterator[str]) -> str:
        height = self.bottom + _BOTTOM
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
            f'viewBox="0 0 {WIDTH} {height}" font-family="system-ui,sans-serif" font-size="11" fill="{_INK}">'
            # An image that is squeezed into a narrow page keeps words that can be read.
            "<style>@media(max-width:600px){text{font-size:13px}}</style>"
            f"{self._tracks()}{self._axis()}{''.join(paths)}{self._labels()}</svg>"
        )

    def _tracks(self) -> str:
        tracks = "".join(
            f"M{self.left} {self.top(lane) + self.lane / 2:g}h{self.columns}" for lane in range(len(self.names))
        )
        return f'<path stroke="{_INK}" stroke-opacity=".1" stroke-width="{self.lane}" d="{tracks}"/>'

    def _axis(self) -> str:
        marks = [(self.left + self.columns * at / self.seconds, said) for at, said in ticks(self.seconds)]
        lines = "".join(f"M{x:.0f} {_TOP - 4}V{self.bottom}" for x, _ in marks)
        words = "".join(f'<text x="{x:.0f}" y="{self.bottom + 15}">{said}</text>' for x, said in marks)
        return f'<path stroke="{_INK}" stroke-opacity=".3" d="{lines}"/><g text-anchor="middle">{words}</g>'

    def _labels(self) -> str:
        """Names of lanes; where these are thin, of every second or third."""
        every = -(-12 // (self.lane + self._gap))
        return (
            '<g text-anchor="end">'
            + "".join(
                f'<text x="{self.left - 8}" y="{self.top(at) + self.lane / 2 + 4:g}">{escape(self.names[at])}</text>'
                for at in range(0, len(self.names), every)
            )
            + "</g>"
        )


def _shortened(name: str) -> str:
    """The end of a name says more: it has the slot's number."""
    return name if len(name) <= _MAX_NAME else "…" + name[1 - _MAX_NAME :]


def _bar_paths(drawn: Bars, slots: Sequence[str], sheet: _Sheet) -> Iterator[str]:
    middles = {slot: sheet.top(at) + sheet.lane / 2 for at, slot in enumerate(slots)}
    for kind in KINDS:
        if kind in drawn:
            strokes = "".join(_strokes(lane, sheet.left, middles[slot], kind) for slot, lane in drawn[kind].items())
            yield f'<path stroke="{COLOURS[kind]}" stroke-width="{sheet.lane}" d="{strokes}"/>'


def _strokes(lane: list[list[int]], left: int, y: float, kind: str) -> str:
    """Strokes of the pen, each but the narrowest a column shorter than its bar: so neighbours can be told apart."""
    strokes: list[str] = []
    x = 0
    for start, end in lane:
        width = max(end - start - (end - start >= 3), _MIN_FAILED if kind == "failed" else 1)
        strokes.append(f"m{start - x} 0h{width}" if strokes else f"M{left + start} {y:g}h{width}")
        x = start + width
    return "".join(strokes)


def _share_paths(lanes: Sequence[Lane], sheet: _Sheet) -> Iterator[str]:
    """Areas, one on top of the other: the hindmost is the sum of all."""
    shapes: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for at, lane in enumerate(lanes):
        scale = sheet.lane / lane.n_slots
        heights = [0] * len(lane.busy["map"])
        below = [0.0] * len(heights)
        for kind in KINDS:
            below = [a + b for a, b in zip(below, lane.busy[kind], strict=True)]
            least = 3 if kind == "failed" else 1
            heights = [
                max(round(top * scale), height + least) if busy > 0 else height
                for top, busy, height in zip(below, lane.busy[kind], heights, strict=True)
            ]
            if any(lane.busy[kind]):
                shapes[kind].append(_area(heights, sheet, sheet.top(at) + sheet.lane))
    for kind in reversed(KINDS):
        if shapes[kind]:
            yield f'<path fill="{COLOURS[kind]}" d="{"".join(shapes[kind])}"/>'


def _area(heights: Sequence[int], sheet: _Sheet, bottom: int) -> str:
    """Stairs over a base line."""
    path, height = [f"M{sheet.left} {bottom}"], 0
    for step, new in enumerate([*heights, 0]):
        if new != height:
            x = sheet.left + sheet.columns * step / len(heights)
            path.append(f"H{x:.0f}V{bottom - min(new, sheet.lane)}")
            height = new
    return "".join([*path, "z"])
