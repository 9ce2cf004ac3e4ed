"""What somebody sees of a job in a real JupyterLab and a real Notebook 7, and what is saved: see `tests.browsers`."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.browsers import KINDS, PATIENCE, NotebookPage, Server, chromium, shut_down_kernels
from tests.test_kernel import Gate, gate  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Locator, Page

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module", params=KINDS)
def server(request, browser: Browser, tmp_path_factory) -> Iterator[Server]:
    """JupyterLab, then Notebook 7."""
    pytest.importorskip(KINDS[request.param].module, reason="the extras `lab` and `test` are not installed")
    server = Server(request.param, tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("home"))
    try:
        server.wait()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="module")
def tab(browser: Browser, server: Server) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.set_default_timeout(PATIENCE * 1000)
    yield page
    page.close()


@pytest.fixture
def page(tab: Page) -> Iterator[Page]:
    """A tab of the browser; no kernel outlives the test."""
    yield tab
    shut_down_kernels(tab)


@pytest.fixture
def notebook(request, page: Page, server: Server) -> Callable[..., NotebookPage]:
    """Open a notebook with these cells, after one that sets up."""
    name = re.sub(r"\W", "-", request.node.name)
    return lambda *cells: NotebookPage.with_cells(page, server, name, cells)


def test_the_bar_moves_while_the_cell_runs_and_one_line_stays(notebook, gate):  # noqa: F811 - the fixture
    n_records = 12
    mapfn = f"def mapfn(k, v):\n    {gate.wait}\n    return [(k % 3, v)]"
    book = notebook(f"%%mapreduce r --workers 2\nsource = [(n, n) for n in range({n_records})]\n{mapfn}", "r[0]")
    book.start(1)
    bar = book.cell(1).locator(".widget-hprogress .progress-bar").first
    bar.wait_for(state="attached")
    assert book.prompt(1) == "[*]:"
    assert width(bar) == 0
    gate.open(2)
    book.page.wait_for_function("bar => parseFloat(bar.style.width) > 10", arg=bar.element_handle())
    assert width(bar) < 100
    assert bar.locator("..").bounding_box()["width"] > 150
    assert f"/ {n_records} records" in book.output(1).inner_text()
    assert book.prompt(1) == "[*]:"
    gate.open(n_records - 2)
    book.ended(1)
    book.output(1).get_by_text(f"{n_records} records → 3 keys in").wait_for()
    assert book.cell(1).locator(".widget-hprogress").count() == 0
    book.run(2)
    assert book.output(2).inner_text().strip() == "[0, 3, 6, 9]"
    assert_saved_well(book, 1)


def width(bar: Locator) -> float:
    return float(bar.evaluate("bar => parseFloat(bar.style.width) || 0"))


def assert_saved_well(book: NotebookPage, i: int) -> None:
    """One output for the job, under 30 KB, and no widget state."""
    saved = book.save()
    assert "widgets" not in saved["metadata"]
    (output,) = saved["cells"][i]["outputs"]
    assert sorted(output["data"]) == ["text/html", "text/plain"]
    assert len(json.dumps(output)) < 30_000


def test_a_short_job_shows_one_line_and_no_bar(notebook):
    book = notebook("%%mapreduce r\nsource = {1: 2}\ndef mapfn(k, v): return [(k, v)]")
    book.run(1)
    book.output(1).get_by_text("1 record → 1 key in").wait_for()
    assert_saved_well(book, 1)


def test_a_failing_mapfn_shows_its_own_line(notebook):
    book = notebook("%%mapreduce r\nsource = {1: 0}\n\ndef mapfn(k, v):\n    return [(k, 1 / v)]")
    book.run(1)
    shown = book.area(1).inner_text()
    assert re.search(r"Cell In\[2\], line 5, in mapfn", shown)
    assert "----> 5     return [(k, 1 / v)]" in shown
    assert "jmr/" not in shown


def test_the_stop_button_ends_a_job_and_the_next_one_runs(notebook, gate):  # noqa: F811 - the fixture
    mapfn = f"def mapfn(k, v):\n    {gate.wait}\n    return [(k, v)]"
    book = notebook(f"%%mapreduce r\nsource = {{1: 2}}\n{mapfn}", "jmr.run({1: 2}, lambda k, v: [(k, v)])")
    book.start(1)
    book.cell(1).locator(".widget-hprogress").first.wait_for()
    book.command("notebook:interrupt-kernel")
    book.ended(1)
    book.output(1).get_by_text("cancelled after").wait_for()
    assert "KeyboardInterrupt" in book.area(1).inner_text()
    assert book.cell(1).locator(".widget-hprogress").count() == 0
    book.run(2)
    assert "{1: [2]}" in book.area(2).inner_text()
