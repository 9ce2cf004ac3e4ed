"""The front end in a real JupyterLab, in a real Chromium: what somebody who looks at it sees, and what is saved."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import nbformat
import pytest

from tests.test_kernel import SETUP, Gate, gate, kernel_environment  # noqa: F401 - gate is a fixture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.slow

PATIENCE = 60.0
TOKEN = "0123456789abcdef"
CHROMIUM_FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
KERNEL_IS_IDLE = """() => {
    const panel = window.jupyterapp && window.jupyterapp.shell.currentWidget;
    const context = panel && panel.context && panel.context.sessionContext;
    const kernel = context && context.isReady && context.session && context.session.kernel;
    return !!kernel && kernel.connectionStatus === 'connected' && kernel.status === 'idle';
}"""
RUN_CELL = """i => {
    const notebook = window.jupyterapp.shell.currentWidget.content;
    notebook.deselectAll();
    notebook.activeCellIndex = i;
    window.jupyterapp.commands.execute('notebook:run-cell');
}"""
SAVE = "async () => { await window.jupyterapp.commands.execute('docmanager:save'); }"


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A tab of a browser of our own."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        pytest.skip("playwright is not installed: pip install 'jmr[test]'")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS, headless=True)
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.set_default_timeout(PATIENCE * 1000)
        yield page
        browser.close()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Server:
    """A JupyterLab with no settings but its own."""

    def __init__(self, root: Path, home: Path) -> None:
        self.root = root
        self.url = f"http://127.0.0.1:{free_port()}"
        self.log: list[str] = []
        self._answers = threading.Event()
        options = {
            "ServerApp.port": self.url.rpartition(":")[2],
            "ServerApp.ip": "127.0.0.1",
            "ServerApp.port_retries": "0",
            "ServerApp.root_dir": str(root),
            "IdentityProvider.token": TOKEN,
            "LabApp.expose_app_in_browser": "True",
        }
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
        self.process = subprocess.Popen(
            [*command, *(f"--{name}={value}" for name, value in options.items())],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | server_environment(home),
            cwd=root,
            text=True,
        )
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    def wait(self) -> None:
        assert self._answers.wait(PATIENCE), "".join(self.log)
        assert self.process.poll() is None, "".join(self.log)

    def _read_log(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.log.append(line)
                if "is running at" in line:
                    self._answers.set()
        self._answers.set()

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(15)


def server_environment(home: Path) -> dict[str, str]:
    settings = home / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}))
    return kernel_environment(home) | {
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory, page: Page) -> Iterator[Server]:
    pytest.importorskip("jupyterlab", reason="the extra `lab` is not installed")
    server = Server(tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("home"))
    try:
        server.wait()
        yield server
    finally:
        server.close()


class Notebook:
    """A notebook in the browser, its kernel ready."""

    def __init__(self, page: Page, server: Server, name: str, cells: list[str]) -> None:
        self.page = page
        self.path = server.root / f"{name}.ipynb"
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in [SETUP, *cells]])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, self.path)
        page.goto(f"{server.url}/lab/tree/{self.path.name}?reset&token={TOKEN}")
        page.wait_for_function(KERNEL_IS_IDLE)
        self.run(0)

    def cell(self, i: int) -> Locator:
        return self.page.locator(".jp-NotebookPanel .jp-Notebook .jp-CodeCell").nth(i)

    def output(self, i: int) -> Locator:
        return self.cell(i).locator(".jp-OutputArea-output")

    def prompt(self, i: int) -> str:
        return self.cell(i).locator(".jp-InputPrompt").first.inner_text().strip()

    def start(self, i: int) -> None:
        self.page.evaluate(RUN_CELL, i)

    def ended(self, i: int) -> None:
        from playwright.sync_api import expect

        expect(self.cell(i).locator(".jp-InputPrompt").first).to_have_text(
            re.compile(r"\[\d+\]:"), timeout=PATIENCE * 1000
        )

    def run(self, i: int) -> None:
        self.start(i)
        self.ended(i)

    def saved_outputs(self, i: int) -> list[dict[str, Any]]:
        self.page.evaluate(SAVE)
        saved = json.loads(self.path.read_text())
        assert "widgets" not in saved["metadata"]
        return saved["cells"][i]["outputs"]


@pytest.fixture
def notebook(request, page: Page, server: Server) -> Iterator[Callable[..., Notebook]]:
    """Open a notebook with these cells, after one that sets up."""
    yield lambda *cells: Notebook(page, server, request.node.name, list(cells))
    kernels = "async () => { await window.jupyterapp.serviceManager.sessions.shutdownAll(); }"
    page.evaluate(kernels)


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
    (saved,) = book.saved_outputs(1)
    assert sorted(saved["data"]) == ["text/html", "text/plain"]


def width(bar: Locator) -> float:
    return float(bar.evaluate("bar => parseFloat(bar.style.width) || 0"))


def test_a_short_job_shows_one_line_and_no_bar(notebook):
    book = notebook("%%mapreduce r\nsource = {1: 2}\ndef mapfn(k, v): return [(k, v)]")
    book.run(1)
    book.output(1).get_by_text("1 record → 1 key in").wait_for()
    (saved,) = book.saved_outputs(1)
    assert sorted(saved["data"]) == ["text/html", "text/plain"]


def test_a_failing_mapfn_shows_its_own_line(notebook):
    book = notebook("%%mapreduce r\nsource = {1: 0}\n\ndef mapfn(k, v):\n    return [(k, 1 / v)]")
    book.run(1)
    shown = book.cell(1).locator(".jp-OutputArea").inner_text()
    assert re.search(r"Cell In\[2\], line 5, in mapfn", shown)
    assert "----> 5     return [(k, 1 / v)]" in shown
    assert "jmr/" not in shown


def test_the_stop_button_ends_a_job_and_the_next_one_runs(notebook, gate):  # noqa: F811 - the fixture
    mapfn = f"def mapfn(k, v):\n    {gate.wait}\n    return [(k, v)]"
    book = notebook(f"%%mapreduce r\nsource = {{1: 2}}\n{mapfn}", "jmr.run({1: 2}, lambda k, v: [(k, v)])")
    book.start(1)
    book.cell(1).locator(".widget-hprogress").first.wait_for()
    book.page.evaluate("() => { window.jupyterapp.commands.execute('notebook:interrupt-kernel'); }")
    book.ended(1)
    book.output(1).get_by_text("cancelled after").wait_for()
    assert "KeyboardInterrupt" in book.cell(1).locator(".jp-OutputArea").inner_text()
    assert book.cell(1).locator(".widget-hprogress").count() == 0
    book.run(2)
    assert "{1: [2]}" in book.cell(2).locator(".jp-OutputArea").inner_text()
