"""Measured in the page: which words are hard to read, and what sticks out of its place.

words(area)     each text with its contrast to what is behind it, as WCAG 2 counts it: 1 to 21
overflow(area)  what is wider than the room that it has
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Locator

__all__ = ["Words", "n_colours", "overflow", "words"]

# A canvas turns any colour that CSS knows into numbers. Opacity is taken as part of the text's colour. A picture is a
# document of its own, so its texts get their colours in a frame of its own.
WORDS = """area => {
    const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
    const rgba = colour => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data].map(x => x / 255);
    };
    const over = (top, below, opacity) => below.map((b, i) => b + (top[i] - b) * top[3] * opacity);
    const ancestors = element => element ? [...ancestors(element.parentElement), element] : [];
    const behind = element => ancestors(element).reduce(
        (below, each) => over(rgba(getComputedStyle(each).backgroundColor), below, 1), [1, 1, 1]);
    const opacity = element => ancestors(element).reduce((o, each) => o * getComputedStyle(each).opacity, 1);
    const luminance = colour => [0.2126, 0.7152, 0.0722].reduce((sum, weight, i) => {
        const c = colour[i];
        return sum + weight * (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    }, 0);
    const contrast = (colour, background, opacity) => {
        const [a, b] = [luminance(over(rgba(colour), background, opacity)), luminance(background)];
        return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    };
    const found = [];
    const walker = document.createTreeWalker(area, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const [text, element] = [walker.currentNode.data.trim(), walker.currentNode.parentElement];
        if (text && element.checkVisibility() && !['STYLE', 'SCRIPT'].includes(element.tagName)) {
            const colour = getComputedStyle(element).color;
            found.push([text, contrast(colour, behind(element), opacity(element)), false]);
        }
    }
    for (const img of area.querySelectorAll('img[src^="data:image/svg+xml;base64,"]')) {
        const source = new TextDecoder().decode(Uint8Array.from(atob(img.src.split(',')[1]), c => c.charCodeAt(0)));
        const frame = document.body.appendChild(document.createElement('iframe'));
        const svg = new DOMParser().parseFromString(source, 'image/svg+xml').documentElement;
        frame.contentDocument.body.append(svg);
        for (const text of svg.querySelectorAll('text')) {
            const style = frame.contentWindow.getComputedStyle(text);
            const opacity = style.opacity * style.fillOpacity;
            found.push([text.textContent, contrast(style.fill, behind(img), opacity), true]);
        }
        frame.remove();
    }
    return found;
}"""

# What is cut off is lost as well, unless three dots say so.
OVERFLOW = """area => {
    const found = [];
    const name = element => `${element.tagName} "${element.textContent.slice(0, 60)}"`;
    const right = area.getBoundingClientRect().right;
    for (const element of [area, ...area.querySelectorAll('*')]) {
        const style = getComputedStyle(element);
        const scrolls = style.overflowX !== 'visible' && style.textOverflow !== 'ellipsis';
        if (element.checkVisibility() && element.clientWidth && scrolls && element.scrollWidth > element.clientWidth) {
            found.push(`${name(element)}: ${element.scrollWidth} > ${element.clientWidth}`);
        } else if (element.getBoundingClientRect().right > right + 1) {
            found.push(`${name(element)} ends at ${element.getBoundingClientRect().right} > ${right}`);
        }
    }
    return found;
}"""


@dataclass(frozen=True, slots=True)
class Words:
    """A text that is shown."""

    text: str
    contrast: float
    in_picture: bool


def words(area: Locator) -> list[Words]:
    """The texts in an element, the hardest to read first; symbols alone are left out: a word beside them says it."""
    found = [Words(*each) for each in area.evaluate(WORDS)]
    return sorted((w for w in found if any(map(str.isalnum, w.text))), key=lambda w: w.contrast)


def overflow(area: Locator) -> list[str]:
    """What is too wide; empty if all is well."""
    found: list[str] = area.evaluate(OVERFLOW)
    return found


def n_colours(png: bytes) -> int:
    """How many colours a picture has: a blank one has one."""
    from PIL import Image

    with Image.open(io.BytesIO(png)) as image:
        colours = image.convert("RGB").getcolors(maxcolors=1 << 24)
    return len(colours or ())
