"""HTML that lasts: what survives in an untrusted notebook, in nbconvert, and under the cleaning of a web site.

    parts ──card()──> one framed block
    svg ──picture()──> <img>: a drawing in line with the text would be stripped to a heap of words

Inline styles only: `<style>`, classes and scripts are cleaned away. Colours are such that they can be seen on white
and on black; text takes the colour of whatever surrounds it. Numbers stand in tables, not in pictures alone.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape

from jmr.views.summary import FONT

__all__ = ["card", "picture", "table"]

_BORDER = "1px solid rgba(128,128,128,.35)"


def card(parts: Iterable[str], colour: str) -> str:
    """One framed block, with a coloured edge."""
    return (
        f'<div style="font-family:{FONT};font-size:13px;line-height:1.45;max-width:860px;padding:10px 14px;'
        f'border:{_BORDER};border-left:4px solid {colour};border-radius:6px">{"".join(parts)}</div>'
    )


def picture(svg: str, alt: str, width: int) -> str:
    """A drawing as an image, never wider than what it stands in."""
    data = base64.b64encode(svg.encode(errors="backslashreplace")).decode()
    return f'<img alt="{escape(alt)}" width="{width}" style="max-width:100%" src="data:image/svg+xml;base64,{data}">'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], aligned: str) -> str:
    """Rows of text; `aligned` has an "l" or an "r" for each column. Cells are HTML already."""
    sides = ["left" if side == "l" else "right" for side in aligned]
    style = "padding:2px 24px 2px 0;border:none;text-align:"
    top = "".join(f'<th style="{style}{side}">{cell}</th>' for side, cell in zip(sides, head, strict=True))
    body = "".join(
        "<tr>"
        + "".join(f'<td style="{style}{side}">{cell}</td>' for side, cell in zip(sides, row, strict=True))
        + "</tr>"
        for row in rows
    )
    return f'<table style="font-size:12px;border-collapse:collapse;margin:0"><tr>{top}</tr>{body}</table>'
