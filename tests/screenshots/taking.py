"""Pictures of one job in a real JupyterLab: half done, and done.

    notebook ── run ──> live view ── far enough? ──> live.png
                        summary ───────────────────> summary.png

Each shows the job's cell and what is below it, at twice the size, with as few colours as such a picture needs.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from tests.browsers import MAP_BAR, PATIENCE, NotebookPage, shut_down_kernels

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser, Page

    from tests.browsers import Server

__all__ = ["take"]

LIBRARY = """\
import re
import sysconfig
from pathlib import Path

folder = Path(sysconfig.get_path("stdlib"))
library = {
    path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8", errors="replace")
    for path in sorted(folder.glob("*/*.py"))
}"""
JOB = """\
%%mapreduce phrases --workers 2
def mapfn(path, text):
    words = re.findall("[a-z]+", text.lower())
    for phrase in zip(words, words[1:]):
        yield phrase, 1

def combinefn(phrase, ones):
    return sum(ones)

def reducefn(phrase, ones):
    return sum(ones)

source = library"""
#: What only somebody who works with the notebook needs.
HIDDEN = """
.jp-cell-toolbar, .jp-Collapser { visibility: hidden !important }
.jp-Cell { box-shadow: none !important }
"""
#: Words are painted less often than bars: a picture waits until they agree. Or until there is no view any more.
FAR_ENOUGH = f"""([area, wanted]) => {{
    const bar = ({MAP_BAR})(area);
    const words = area.innerText.replaceAll(',', '');
    const [, n, total] = words.match(/(\\d+) \\/ (\\d+) records/) || [];
    return bar === null || (bar >= wanted && Math.abs(100 * n / total - bar) < 1);
}}"""
SIZE = {"width": 1000, "height": 1200}
N_COLOURS = 256


def take(browser: Browser, server: Server, folder: Path, per_cent: float = 50) -> list[Path]:
    """Run the job and take both pictures.

    They are written into the folder; the first when so much of the records is mapped.
    """
    page = browser.new_page(viewport=SIZE, device_scale_factor=2)
    try:
        page.set_default_timeout(PATIENCE * 1000)
        return _taken(page, server, folder, per_cent)
    finally:
        page.close()


def _taken(page: Page, server: Server, folder: Path, per_cent: float) -> list[Path]:
    live, summary = folder / "live.png", folder / "summary.png"
    book = NotebookPage.with_cells(page, server, "screenshots", [LIBRARY, JOB])
    with book.narrow(SIZE["width"]):
        book.run(1)
        book.start(2)
        book.live_view(2).wait_for()
        page.wait_for_function(FAR_ENOUGH, arg=[book.area(2).element_handle(), per_cent])
        _shoot(book, live)
        assert book.live_view(2).count(), "the job ended before its picture was taken"
        book.ended(2)
        book.output(2).get_by_text("done in").wait_for()
        _shoot(book, summary)
    shut_down_kernels(page)
    return [live, summary]


def _shoot(book: NotebookPage, path: Path) -> None:
    from PIL import Image

    png = book.cell(2).screenshot(style=HIDDEN, animations="disabled")
    with Image.open(io.BytesIO(png)) as image:
        few = image.convert("RGB").quantize(N_COLOURS, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
