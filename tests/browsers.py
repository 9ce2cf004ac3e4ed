"""A real JupyterLab, or a real Notebook 7, in a real Chromium: for the tests, and for the README's screenshots.

    chromium() ──> Browser ──> a page
    Server(kind, root, home)     a front end with no settings but its own
    NotebookPage(page, server)   a notebook in it, as somebody sees it: run a cell, look at its output, save

What happens is waited for in the page; nothing sleeps.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import nbformat
import pytest

from tests.ports import free_port
from tests.test_kernel import SETUP, kernel_environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from playwright.sync_api import Browser, Locator, Page

__all__ = ["KINDS", "MAP_BAR", "PATIENCE", "CommCounter", "NotebookPage", "Server", "chromium", "shut_down_kernels"]

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


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser of our own; skips where there is none."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        pytest.skip("playwright is not installed: pip install 'jmr[test]'")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=CHROMIUM_FLAGS, headless=True)
        try:
            yield browser
        finally:
            browser.close()


# The server


@dataclass(frozen=True, slots=True)
class Kind:
    """How a front end is started, and where it shows a notebook."""

    module: str
    #: Its own settings on the command line begin with this.
    app: str
    #: What goes before a notebook's path.
    page: str


KINDS = {
    "lab": Kind("jupyterlab", "LabApp", "lab/tree/{}?reset&"),
    "notebook": Kind("notebook", "JupyterNotebookApp", "notebooks/{}?"),
}


class Server:
    """A front end with no settings but its own."""

    def __init__(self, kind: str, root: Path, home: Path) -> None:
        self.kind = KINDS[kind]
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
            f"{self.kind.app}.expose_app_in_browser": "True",
        }
        command = [sys.executable, "-m", self.kind.module, "--no-browser", "--allow-root"]
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

    def address(self, path: str) -> str:
        """Where a notebook is shown."""
        return f"{self.url}/{self.kind.page.format(path)}token={TOKEN}"

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


# A notebook

NOTEBOOK_IS_SHOWN = """() => {
    const panel = window.jupyterapp && window.jupyterapp.shell.currentWidget;
    return !!(panel && panel.context && panel.context.isReady);
}"""
#: Before this, key presses and runs are swallowed.
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
START_COMMAND = "name => { window.jupyterapp.commands.execute(name); }"
SAVE = "async () => { await window.jupyterapp.commands.execute('docmanager:save'); }"
SET_THEME = "async theme => { await window.jupyterapp.commands.execute('apputils:change-theme', { theme }); }"
IS_LIGHT = "light => document.body.dataset.jpThemeLight === String(light)"
SHUT_DOWN = "async () => { await window.jupyterapp.serviceManager.sessions.shutdownAll(); }"
#: How much of a live view's first bar is filled, in per cent; null while there is none.
MAP_BAR = """area => {
    const bars = [...area.querySelectorAll('.jupyter-widgets *')].filter(each => each.style.width.endsWith('%'));
    return bars.length ? parseFloat(bars[0].style.width) : null;
}"""
IS_TRUSTED = "i => window.jupyterapp.shell.currentWidget.content.widgets[i].model.trusted"
HAS_RUN = re.compile(r"\[\d+\]:")


class NotebookPage:
    """A notebook in the browser."""

    def __init__(self, page: Page, server: Server, name: str) -> None:
        self.page = page
        self.path = server.root / f"{name}.ipynb"
        self._address = server.address(self.path.name)

    @classmethod
    def with_cells(cls, page: Page, server: Server, name: str, cells: Sequence[str]) -> NotebookPage:
        """A new one whose kernel is ready: these cells, after one that sets up and has run."""
        book = cls(page, server, name)
        book.write([nbformat.v4.new_code_cell(cell) for cell in [SETUP, *cells]])
        book.open()
        page.wait_for_function(KERNEL_IS_IDLE)
        book.run(0)
        return book

    def write(self, cells: Sequence[Any], kernel: str = "python3") -> None:
        notebook = nbformat.v4.new_notebook(cells=list(cells))
        notebook.metadata["kernelspec"] = {"name": kernel, "display_name": kernel, "language": "python"}
        nbformat.write(notebook, self.path)

    def open(self) -> None:
        self.page.goto(self._address)
        self.page.wait_for_function(NOTEBOOK_IS_SHOWN)

    def reload(self) -> None:
        self.page.reload()
        self.page.wait_for_function(NOTEBOOK_IS_SHOWN)

    def cell(self, i: int) -> Locator:
        return self.page.locator(".jp-NotebookPanel .jp-Notebook .jp-CodeCell").nth(i)

    def area(self, i: int) -> Locator:
        """All that a cell has put out."""
        return self.cell(i).locator(".jp-OutputArea").first

    def live_view(self, i: int) -> Locator:
        """The widgets of a job that runs."""
        return self.area(i).locator(".jupyter-widgets").first

    def output(self, i: int) -> Locator:
        """One output of a cell, or each of them."""
        return self.cell(i).locator(".jp-OutputArea-output")

    def prompt(self, i: int) -> str:
        return self.cell(i).locator(".jp-InputPrompt").first.inner_text().strip()

    def start(self, i: int) -> None:
        self.page.evaluate(RUN_CELL, i)

    def command(self, name: str) -> None:
        """Start one of the front end's own commands."""
        self.page.evaluate(START_COMMAND, name)

    def ended(self, i: int) -> None:
        """Wait until a cell has its number."""
        from playwright.sync_api import expect

        expect(self.cell(i).locator(".jp-InputPrompt").first).to_have_text(HAS_RUN, timeout=PATIENCE * 1000)

    def run(self, i: int) -> None:
        self.start(i)
        self.ended(i)

    def not_run(self, i: int) -> None:
        """Wait until a cell has given up waiting for its turn."""
        from playwright.sync_api import expect

        expect(self.cell(i).locator(".jp-InputPrompt").first).to_have_text("[ ]:", timeout=PATIENCE * 1000)

    def no_kernel(self) -> None:
        """Say so, when the front end asks which kernel it shall be."""
        self.page.locator(".jp-Dialog").get_by_role("button", name="No Kernel").click()
        self.page.locator(".jp-Dialog").wait_for(state="detached")

    def is_trusted(self, i: int) -> bool:
        trusted: bool = self.page.evaluate(IS_TRUSTED, i)
        return trusted

    @contextlib.contextmanager
    def narrow(self, width: int) -> Iterator[None]:
        """In a window of this width, with nothing beside the notebook."""
        size = self.page.viewport_size
        assert size is not None
        self.page.evaluate("() => { window.jupyterapp.shell.collapseLeft(); }")
        self.page.set_viewport_size({"width": width, "height": size["height"]})
        try:
            yield
        finally:
            self.page.set_viewport_size(size)

    @contextlib.contextmanager
    def dark(self) -> Iterator[None]:
        self._set_theme("JupyterLab Dark", light=False)
        try:
            yield
        finally:
            self._set_theme("JupyterLab Light", light=True)

    def _set_theme(self, name: str, *, light: bool) -> None:
        self.page.evaluate(SET_THEME, name)
        self.page.wait_for_function(IS_LIGHT, arg=light)

    def save(self) -> dict[str, Any]:
        """Save it; what the file has then."""
        self.page.evaluate(SAVE)
        saved: dict[str, Any] = json.loads(self.path.read_text())
        return saved


def shut_down_kernels(page: Page) -> None:
    page.evaluate(SHUT_DOWN)


class CommCounter:
    """Counts what a kernel sends to the widgets of a page. Made before the page is opened."""

    def __init__(self, page: Page) -> None:
        self.n_messages = 0
        page.on("websocket", lambda socket: socket.on("framereceived", self._count))

    def _count(self, frame: bytes | str) -> None:
        text = frame if isinstance(frame, bytes) else frame.encode()
        self.n_messages += bool(re.search(rb'"msg_type": ?"comm_(open|msg|close)"', text))
