"""What somebody sees of a job in a real JupyterLab and a real Notebook 7, and what is saved: see `tests.browsers`."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import time
from typing import TYPE_CHECKING

import ipykernel
import nbformat
import pytest
from nbconvert import HTMLExporter

from tests.browsers import KINDS, MAP_BAR, PATIENCE, CommCounter, NotebookPage, Server, chromium, shut_down_kernels
from tests.looks import n_colours, overflow, words
from tests.screenshots.taking import take
from tests.test_kernel import Gate, gate  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.frontend, pytest.mark.slow]

#: Before that, all threads of a kernel print into the cell that runs, and until it ends no button is heard.
HAS_OWN_CELLS = ipykernel.version_info[0] >= 7
SHORT_JOB = "jmr.run({1: 2}, lambda k, v: [(k, v)])[1]"
SVG = "<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'><text fill='#767676'>drawn</text></svg>"
KNOWN_LOOKS = f"""
<body style="background: black"><main style="width: 600px">
<b style="color: white">plain</b> <i style="color: white; opacity: 0">gone</i> <u>✓</u>
<p style="background: white"><s style="background: rgba(0, 0, 0, 0.5); color: white">mixed</s>
<img alt="" src="data:image/svg+xml;base64,{base64.b64encode(SVG.encode()).decode()}"></p>
<div style="overflow: hidden; text-overflow: ellipsis; white-space: nowrap; width: 20px">told by dots</div>
<hr style="width: 700px"></main></body>"""
LOADED_WIDTH = "async img => { await img.decode(); return img.naturalWidth; }"


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


def gated(gate: Gate, n_records: int = 2) -> str:  # noqa: F811
    """A cell whose every record waits at the gate."""
    source = f"source = [(n, n) for n in range({n_records})]"
    return f"%%mapreduce gated --workers 2\n{source}\ndef mapfn(k, v):\n    {gate.wait}\n    return [(k % 3, v)]"


def submitted(gate: Gate) -> str:  # noqa: F811
    """A cell that starts such a job and goes on."""
    mapfn = f"def mapfn(k, v):\n    {gate.wait}\n    print('from', k)\n    return [(k, v)]"
    return f"{mapfn}\njob = jmr.submit({{7: 1}}, mapfn, workers=2, name='submitted')"


def start_and_look(book: NotebookPage, i: int) -> None:
    """Start a cell, and wait for its live view."""
    book.start(i)
    book.live_view(i).wait_for()


def press_cancel(book: NotebookPage, i: int) -> None:
    book.area(i).get_by_role("button", name="Cancel").click()


def assert_cancelled(book: NotebookPage, i: int, how: str) -> None:
    """The summary says so, no view is left, and the exception is one line that says how."""
    book.output(i).get_by_text("cancelled after").wait_for()
    assert book.live_view(i).count() == 0
    (line,) = book.output(i).last.inner_text().strip().splitlines()
    assert how in line


def assert_saved_well(book: NotebookPage, i: int) -> None:
    """One output for the job, under 30 KB, and no widget state."""
    saved = book.save()
    assert "widgets" not in saved["metadata"]
    (output,) = saved["cells"][i]["outputs"]
    assert sorted(output["data"]) == ["text/html", "text/plain"]
    assert len(json.dumps(output)) < 30_000


# While a job runs, and when it ends


def test_the_bar_grows_while_the_cell_runs_and_the_summary_stays(notebook, gate):  # noqa: F811
    book = notebook(gated(gate, n_records=12), "gated[0]")
    start_and_look(book, 1)
    area = book.area(1).element_handle()
    assert book.prompt(1) == "[*]:"
    assert area.evaluate(MAP_BAR) == 0
    gate.open(2)
    book.page.wait_for_function(f"area => ({MAP_BAR})(area) > 10", arg=area)
    assert area.evaluate(MAP_BAR) < 100
    book.output(1).get_by_text("/ 12 records").first.wait_for()
    assert book.prompt(1) == "[*]:"
    gate.open(10)
    book.ended(1)
    book.output(1).get_by_text("done in").wait_for()
    assert book.live_view(1).count() == 0
    book.run(2)
    assert book.output(2).inner_text().strip() == "[0, 3, 6, 9]"
    assert_saved_well(book, 1)


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


def test_three_thousand_steps_cost_at_most_a_hundred_messages(page, notebook):
    counter = CommCounter(page)
    wait = "end = time.perf_counter() + 0.0015\n    while time.perf_counter() < end: pass"
    run = "jmr.run([(n, n) for n in range(3_000)], steps, engine='inline')"
    book = notebook(f"import time\ndef steps(k, v):\n    {wait}\n    return [(k % 10, v)]\n{run}")
    before = counter.n_messages
    book.run(1)
    book.output(1).get_by_text("done in").wait_for()
    print(f"{counter.n_messages - before} comm messages")
    assert 10 < counter.n_messages - before <= 100


def test_a_page_reloaded_in_mid_run_ends_up_with_the_summary(notebook, gate):  # noqa: F811
    book = notebook(gated(gate))
    start_and_look(book, 1)
    book.save()
    book.reload()
    gate.open(2)
    book.output(1).get_by_text("done in").wait_for()
    assert "Loading widget" not in book.area(1).inner_text()


def test_what_a_page_saves_that_was_reloaded_in_mid_run_can_be_read_without_a_kernel(notebook, gate, page, server):  # noqa: F811
    book = notebook(gated(gate))
    start_and_look(book, 1)
    book.save()
    book.reload()
    gate.open(2)
    book.output(1).get_by_text("done in").wait_for()
    book.save()
    cells = nbformat.read(book.path, as_version=4).cells
    (output,) = cells[1].outputs
    assert output.data["text/plain"].startswith("gated: was running when this was shown")
    later = NotebookPage(page, server, f"{book.path.stem}-later")
    later.write(cells)
    later.open()
    later.area(1).get_by_text("was running when this was shown").wait_for()
    assert "widget" not in later.area(1).inner_text().lower()
    exported, _ = HTMLExporter().from_filename(str(later.path))
    assert "<b>gated</b>: was running when this was shown" in exported


# Cancel

#: From Cancel to the end of the cell, which takes a second or two, on a machine that does other things as well.
MOST_SECONDS = 5.0


def test_cancel_ends_the_job_of_a_running_cell_and_run_all(notebook, gate):  # noqa: F811
    book = notebook(gated(gate), SHORT_JOB)
    book.command("notebook:run-all-cells")
    press_cancel(book, 1)
    pressed = time.monotonic()
    book.ended(1)
    assert time.monotonic() - pressed < MOST_SECONDS
    assert_cancelled(book, 1, "was cancelled" if HAS_OWN_CELLS else "KeyboardInterrupt")
    book.not_run(2)
    book.run(2)
    assert "[2]" in book.output(2).last.inner_text()


def test_the_stop_button_ends_the_job_and_run_all(notebook, gate):  # noqa: F811
    book = notebook(gated(gate), SHORT_JOB)
    book.command("notebook:run-all-cells")
    book.live_view(1).wait_for()
    book.command("notebook:interrupt-kernel")
    pressed = time.monotonic()
    book.ended(1)
    assert time.monotonic() - pressed < MOST_SECONDS
    assert_cancelled(book, 1, "KeyboardInterrupt")
    book.not_run(2)
    book.run(2)
    assert "[2]" in book.output(2).last.inner_text()


# jmr.submit


def test_what_a_submitted_job_prints_late_lands_in_its_own_cell(notebook, gate):  # noqa: F811
    book = notebook(submitted(gate), "print('between')", "job.result()")
    book.run(1)
    book.run(2)
    gate.open()
    book.run(3)
    line = re.compile(r"\[local/[12]\] from 7")
    book.page.locator(".jp-Notebook").get_by_text(line).wait_for()
    if HAS_OWN_CELLS:
        assert line.search(book.area(1).inner_text())
        assert book.area(2).inner_text().strip() == "between"
        assert book.output(3).inner_text().strip() == "{7: [1]}"


def test_the_view_of_a_submitted_job_lives_on_while_other_cells_run(notebook, gate):  # noqa: F811
    book = notebook(submitted(gate), "print('between')", "job.result()")
    book.run(1)
    book.live_view(1).wait_for()
    book.run(2)
    assert book.area(2).inner_text().strip() == "between"
    if HAS_OWN_CELLS:
        book.start(3)
    press_cancel(book, 1)
    book.output(1).get_by_text("cancelled after").wait_for()
    if not HAS_OWN_CELLS:
        book.start(3)
    book.ended(3)
    assert "was cancelled" in book.output(3).last.inner_text()


# How it looks


def test_the_measures_of_looks_measure(browser):
    page = browser.new_page()
    page.set_content(KNOWN_LOOKS)
    main = page.locator("main")
    contrasts = {each.text: (round(each.contrast, 1), each.in_picture) for each in words(main)}
    assert contrasts == {
        "gone": (1.0, False),
        "told by dots": (1.0, False),
        "mixed": (4.0, False),
        "drawn": (4.5, True),
        "plain": (21.0, False),
    }
    assert [line.split()[0] for line in overflow(main)] == ["HR"]
    page.close()


@pytest.mark.parametrize("light", [True, False], ids=["light", "dark"])
def test_words_can_be_read(notebook, gate, tmp_path, light):  # noqa: F811
    book = notebook(gated(gate))
    with contextlib.nullcontext() if light else book.dark():
        start_and_look(book, 1)
        assert_readable(book, tmp_path / "live.png")
        gate.open(2)
        book.ended(1)
        book.output(1).get_by_text("done in").wait_for()
        assert_readable(book, tmp_path / "summary.png")


def assert_readable(book: NotebookPage, picture: Path) -> None:
    """As WCAG's level AA asks; a picture, which has one grey for white and for black, can have no better than 4.3."""
    shown = words(book.area(1))
    assert shown
    faint = [each for each in shown if each.contrast < (3.5 if each.in_picture else 4.5)]
    assert not faint
    picture.write_bytes(book.area(1).screenshot())
    assert n_colours(picture.read_bytes()) > 20


def test_nothing_sticks_out_of_a_narrow_window(notebook, gate):  # noqa: F811
    book = notebook(gated(gate))
    with book.narrow(640):
        start_and_look(book, 1)
        assert overflow(book.area(1)) == []
        gate.open(2)
        book.ended(1)
        book.output(1).get_by_text("done in").wait_for()
        assert overflow(book.area(1)) == []


# The README's pictures


@pytest.mark.parametrize("server", ["lab"], indirect=True)
def test_the_pictures_for_the_readme_can_be_taken(browser, server, tmp_path):
    for path in take(browser, server, tmp_path, per_cent=0):
        assert 10_000 < path.stat().st_size < 200_000
        assert n_colours(path.read_bytes()) > 20


# A year later


def test_a_notebook_opened_without_a_kernel_and_untrusted_can_be_read(notebook, gate, page, server):  # noqa: F811
    book = notebook(gated(gate, n_records=12))
    start_and_look(book, 1)
    gate.open(12)
    book.ended(1)
    book.output(1).get_by_text("done in").wait_for()
    cells = nbformat.from_dict(book.save())["cells"]
    later = NotebookPage(page, server, f"{book.path.stem}-later")
    later.write([cells[1], nbformat.v4.new_code_cell("# never signed")], kernel="gone")
    later.open()
    later.no_kernel()
    assert not later.is_trusted(0)
    shown = later.area(0)
    picture = shown.locator("img").first
    assert picture.evaluate(LOADED_WIDTH) > 100
    assert picture.bounding_box()["width"] > 100
    assert re.search(r"done in [\d.]+ m?s on 2 slots", shown.inner_text())
    assert re.search(r"records in\b.*\n12\b", shown.inner_text())


def test_a_button_in_a_cell_is_heard_by_its_kernel(notebook):
    """Whatever else fails here: widgets work in this front end."""
    callback = "button.on_click(lambda button: setattr(button, 'description', 'heard'))"
    book = notebook(f"import ipywidgets\nbutton = ipywidgets.Button(description='press')\n{callback}\nbutton")
    book.run(1)
    book.area(1).get_by_role("button", name="press").click()
    book.area(1).get_by_role("button", name="heard").wait_for()
