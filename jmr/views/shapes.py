"""Shapes of a drawing, as SVG. Every text is escaped here.

x, y, what ──> one or two elements
"""

from __future__ import annotations

from html import escape

__all__ = ["GREY", "arrow", "band", "box", "label", "left_part", "ribbon", "text"]

#: Can be read on white and on black.
GREY = "#7d8899"


def box(x: float, y: float, width: float, height: float, colour: str) -> str:
    """A box with round corners."""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="5" fill="{colour}"/>'


def band(x: float, y: float, width: float, height: float, colour: str) -> str:
    """The upper part of a box, square below."""
    path = f"M{x:.1f} {y + height:.1f}v{5 - height:.1f}a5 5 0 0 1 5-5h{width - 10:.1f}a5 5 0 0 1 5 5v{height - 5:.1f}z"
    return f'<path d="{path}" fill="{colour}"/>'


def left_part(x: float, y: float, width: float, height: float, colour: str) -> str:
    """The left part of a box, square on its right."""
    path = f"M{x + width:.1f} {y:.1f}v{height:.1f}h{5 - width:.1f}a5 5 0 0 1-5-5v{10 - height:.1f}a5 5 0 0 1 5-5z"
    return f'<path d="{path}" fill="{colour}"/>'


def text(x: float, y: float, text: str, colour: str, *, bold: bool = False) -> str:
    """A line of text, as it is."""
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}"{weight} xml:space="preserve">{escape(text)}</text>'


def label(x: float, y: float, text: str, anchor: str = "start") -> str:
    """A word beside the drawing."""
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{GREY}" text-anchor="{anchor}">{escape(text)}</text>'


def ribbon(x: float, y: float, to_x: float, to_y: float, colour: str) -> str:
    """A soft line from left to right."""
    half = (x + to_x) / 2
    path = f"M{x:.1f} {y:.1f}C{half:.1f} {y:.1f} {half:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}"
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="5" stroke-opacity=".65"/>'


def arrow(x: float, to_x: float, y: float) -> str:
    """A straight one, with a head, and some air at its ends."""
    return (
        f'<path d="M{x + 3:.1f} {y:.1f}H{to_x - 7:.1f}" stroke="{GREY}" stroke-width="1.5"/>'
        f'<path d="M{to_x - 9:.1f} {y - 4:.1f}l7 4l-7 4z" fill="{GREY}"/>'
    )
