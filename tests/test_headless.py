"""Jobs where there is no notebook to look at: what runs notebooks without a reader, servers of pages, terminals, pipes.

    nbclient, papermill, nbmake, nbconvert ──> few lines on stderr, then the summary, once
    voila                                  ──> the summary, in the page
    a terminal, with IPython and without   ──> one line, rewritten; the summary in its place
    a pipe or a file                       ──> nothing

The job's source yields when somebody has painted it: every job is long enough to be seen, and none waits longer.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import pty
import re
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import nbformat
import pytest
from nbclient import NotebookClient

from tests.ports import free_port
from tests.test_kernel import CHECKOUT, SETUP, environment, kernel_environment  # noqa: F401 - environment is a fixture

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.frontend, pytest.mark.slow]

PATIENCE = 60.0
#: Defines a source that yields when the job has been painted, or at once if nobody paints.
WATCHED = """
import threading
from jmr.views import painter
from jmr.progress.where import FrontEnd, front_end
painter.later.delay = 0.0
painted = threading.Event()
def _paint(self, view, paint=painter.Painter._paint):
    paint(self, view)
    painted.set()
painter.Painter._paint = _paint
def watched():
    assert front_end(None) is FrontEnd.NONE or painted.wait(30)
    yield "a.txt", "to be or not to be"
"""
CELL = """%%mapreduce counts
source = watched()

def mapfn(name, text):
    for word in text.split():
        yield word, 1

def reducefn(word, ones):
    return sum(ones)
"""
SUMMARY = r"counts: 1 record -> 4 keys in [\d.]+ m?s on \d+ slots?"
SCRIPT = f"""import jmr
{WATCHED}
{CELL.partition(chr(10))[2]}
print(jmr.run(source, mapfn, reducefn, name="counts"))
"""
ANSWER = "{'to': 2, 'be': 2, 'or': 1, 'not': 1}"


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    """A notebook with one job that is long enough to be seen."""
    cells = [
        nbformat.v4.new_code_cell(code) for code in (SETUP + WATCHED, CELL, "print(front_end(None).value)\ncounts")
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path = tmp_path / "job.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    return path


def outputs_of(path: Path, front_end: str) -> list[Any]:
    """What the job's cell shows, in a notebook with the right answer that knew what front end it has."""
    *_, job, answer = nbformat.read(path, as_version=4).cells
    assert [answer.outputs[0].text, answer.outputs[1].data["text/plain"]] == [f"{front_end}\n", ANSWER]
    return job.outputs


def assert_reads_well(outputs: list[Any]) -> None:
    """Few lines that stay, on stderr, and then the summary, once."""
    *progress, summary = outputs
    assert {output.name for output in progress} == {"stderr"}
    lines = "".join(output.text for output in progress).splitlines(keepends=True)
    assert 1 <= len(lines) <= 25
    assert [line for line in lines if not re.fullmatch(r"counts: (map|reduce) .* after \d+ s\n", line)] == []
    assert sorted(summary.data) == ["text/html", "text/plain"]
    assert re.match(SUMMARY, summary.data["text/plain"])


def run_module(folder: Path, *args: Any, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m ARGS` with nobody at the keyboard."""
    return subprocess.run(
        [sys.executable, "-m", *map(str, args)],
        env=os.environ | kernel_environment(folder) | environ,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@pytest.fixture(autouse=True)
def no_wishes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JMR_PROGRESS", raising=False)


# What runs notebooks without a reader


def execute_with_nbclient(path: Path) -> Path:
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=PATIENCE, kernel_name="python3").execute()
    nbformat.write(notebook, path)
    return path


def execute_with_papermill(path: Path) -> Path:
    run = run_module(path.parent, "papermill", path, path.with_name("out.ipynb"))
    assert run.returncode == 0, run.stderr
    return path.with_name("out.ipynb")


def execute_with_nbmake(path: Path) -> Path:
    run = run_module(path.parent, "pytest", "-q", "-p", "no:cacheprovider", "--nbmake", "--overwrite", path)
    assert run.returncode == 0, run.stdout
    assert "1 passed" in run.stdout
    return path


def execute_with_nbconvert(path: Path) -> Path:
    run = run_module(path.parent, "nbconvert", "--to=notebook", "--execute", "--output=out.ipynb", path)
    assert run.returncode == 0, run.stderr
    return path.with_name("out.ipynb")


RUNNERS = [execute_with_nbclient, execute_with_papermill, execute_with_nbmake, execute_with_nbconvert]
every_runner = pytest.mark.parametrize("execute", RUNNERS, ids=lambda runner: runner.__name__.rpartition("_")[2])


@every_runner
def test_a_notebook_without_a_reader_keeps_few_lines_and_the_summary(notebook, environment, execute):  # noqa: F811
    executed = execute(notebook)
    assert_reads_well(outputs_of(executed, "text"))
    assert "widgets" not in nbformat.read(executed, as_version=4).metadata


@every_runner
def test_jmr_progress_none_keeps_it_empty(notebook, environment, execute, monkeypatch):  # noqa: F811
    monkeypatch.setenv("JMR_PROGRESS", "none")
    assert outputs_of(execute(notebook), "none") == []


def test_jmr_progress_widgets_leaves_nothing_but_the_summary(notebook, environment, monkeypatch):  # noqa: F811
    monkeypatch.setenv("JMR_PROGRESS", "widgets")
    (summary,) = outputs_of(execute_with_nbclient(notebook), "widgets")
    assert sorted(summary.data) == ["text/html", "text/plain"]
    assert re.match(SUMMARY, summary.data["text/plain"])


def test_a_failing_job_fails_the_run(notebook):
    failing = nbformat.read(notebook, as_version=4)
    failing.cells[1].source = failing.cells[1].source.replace("yield word, 1", "yield word, 1 / 0")
    nbformat.write(failing, notebook)
    run = run_module(notebook.parent, "pytest", "-q", "-p", "no:cacheprovider", "--nbmake", notebook)
    assert run.returncode == 1
    assert "mapfn raised ZeroDivisionError('division by zero') for record key='a.txt'" in run.stdout


def test_nbconvert_makes_a_page_that_shows_the_summary(notebook):
    run = run_module(notebook.parent, "nbconvert", "--to=html", "--execute", notebook)
    assert run.returncode == 0, run.stderr
    page = notebook.with_suffix(".html").read_text()
    assert re.search(r"<b>counts</b>", page)
    assert "Loading widget" not in page
    assert 'data-mime-type="application/vnd.jupyter.widget-view+json"' not in page


# voila


@pytest.fixture
def voila(notebook: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A server that makes a page of the notebook whenever somebody asks for it; its address."""
    port = free_port()
    options = [f"--port={port}", "--Voila.ip=127.0.0.1", "--no-browser", "--preheat_kernel=False"]
    folder = notebook.parent
    server = subprocess.Popen(
        [sys.executable, "-m", "voila", *options, notebook],
        env=os.environ | kernel_environment(folder) | getattr(request, "param", {}),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    said = []
    for line in server.stderr:
        said.append(line)
        if "is running at" in line:
            break
    reader = threading.Thread(target=server.stderr.read)  # so that a full pipe never stops it
    reader.start()
    assert "is running at" in said[-1], "".join(said)
    yield f"http://127.0.0.1:{port}/"
    server.terminate()
    server.wait(PATIENCE)
    reader.join(PATIENCE)
    server.stderr.close()


def shown_by(address: str) -> tuple[str, list[dict[str, Any]]]:
    """What a page of voila's shows: printed text, and the outputs that its own script gets as JSON."""
    with urlopen(address, timeout=PATIENCE) as answer:
        page = answer.read().decode()
    found = re.findall(r'<script type="application/vnd.voila.cell-output\+json">(.*?)</script>', page, re.DOTALL)
    return "".join(re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)), [json.loads(output) for output in found]


def test_voila_s_page_shows_the_summary_in_the_widget_s_place(voila):
    printed, (summary, answer) = shown_by(voila)
    assert printed == "widgets\n"
    assert sorted(summary["data"]) == ["text/html", "text/plain"]
    assert re.match(SUMMARY, summary["data"]["text/plain"])
    assert answer["data"]["text/plain"] == ANSWER


@pytest.mark.parametrize("voila", [{"JMR_PROGRESS": "none"}], indirect=True, ids=["none"])
def test_voila_s_page_can_be_without_progress(voila):
    printed, (answer,) = shown_by(voila)
    assert printed == "none\n"
    assert answer["data"]["text/plain"] == ANSWER


# Terminals


def in_a_terminal(command: list[str], folder: Path, typed: str = "", **environ: str) -> str:
    """Run a command in a terminal of 100 columns; all that it has shown."""
    terminal, its_end = pty.openpty()
    environ = {"TERM": "xterm", "COLUMNS": "100", "PYTHON_COLORS": "0"} | environ
    process = subprocess.Popen(
        command,
        env=os.environ | kernel_environment(folder) | environ,
        cwd=folder,
        stdin=its_end,
        stdout=its_end,
        stderr=its_end,
        start_new_session=True,
    )
    os.close(its_end)
    os.write(terminal, typed.encode())
    too_late = threading.Timer(PATIENCE, process.kill)
    too_late.start()
    shown = "".join(read_terminal(terminal))
    too_late.cancel()
    os.close(terminal)
    assert process.wait(PATIENCE) == 0, shown
    return shown.replace("\r\n", "\n")


def read_terminal(terminal: int) -> Iterator[str]:
    """Yield what a terminal shows, until nobody has it open any more."""
    decode = codecs.getincrementaldecoder("utf-8")().decode
    with contextlib.suppress(OSError):  # on Linux, how a terminal says so
        while piece := os.read(terminal, 65536):
            yield decode(piece)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "job.py"
    path.write_text(SCRIPT)
    return path


def test_a_script_in_a_terminal_rewrites_one_line_and_leaves_the_summary(script):
    *rewritten, last = in_a_terminal([sys.executable, str(script)], script.parent).split("\r\x1b[K")
    assert rewritten[0] == ""
    assert len(rewritten) > 1
    assert [line for line in rewritten[1:] if not re.fullmatch(r"counts: (map|reduce) [^\n]*", line)] == []
    assert re.fullmatch(rf"{SUMMARY}\n{re.escape(ANSWER)}\n", last)


def test_a_terminal_can_have_lines_that_stay(script):
    shown = in_a_terminal([sys.executable, str(script)], script.parent, JMR_PROGRESS="text")
    assert "\r" not in shown
    assert re.match(r"counts: map ", shown)
    assert re.search(rf"^{SUMMARY}\n", shown, re.MULTILINE)


def test_a_terminal_can_be_silent(script):
    assert in_a_terminal([sys.executable, str(script)], script.parent, JMR_PROGRESS="none") == ANSWER + "\n"


def test_ipython_in_a_terminal_shows_one_line_and_the_answer(script):
    """The same script as cells: IPython reads them as somebody types them."""
    cells = script.with_suffix(".ipy")
    cells.write_text(f"{SETUP}\n{WATCHED}")
    command = [sys.executable, "-m", "IPython", "--simple-prompt", "--no-banner", "--colors=NoColor", "-i", str(cells)]
    typed = CELL + "\n\nprint(counts)\n\nexit\n"
    shown = in_a_terminal(command, script.parent, typed)
    assert re.search(rf"\r\x1b\[Kcounts: map .*\r\x1b\[K{SUMMARY}", shown), shown
    assert ANSWER in shown


# Pipes and files


def test_a_script_whose_output_goes_to_a_file_is_silent(script):
    assert run_script(script) == (ANSWER + "\n", "")


def test_a_piped_script_can_have_lines(script):
    answer, said = run_script(script, JMR_PROGRESS="text")
    assert answer == ANSWER + "\n"
    assert "\r" not in said
    *progress, last = said.splitlines()
    assert progress
    assert all(re.match(r"counts: (map|reduce) ", line) for line in progress)
    assert re.fullmatch(SUMMARY, last)


def test_a_piped_script_can_have_a_terminal_s_line(script):
    answer, said = run_script(script, JMR_PROGRESS="terminal")
    assert answer == ANSWER + "\n"
    assert re.fullmatch(rf"(\r\x1b\[Kcounts: (map|reduce) [^\r\n]*)+\r\x1b\[K{SUMMARY}\n", said)


def run_script(script: Path, **environ: str) -> tuple[str, str]:
    """What a script writes to stdout and to stderr; carriage returns are kept."""
    run = subprocess.run(
        [sys.executable, script],
        env=os.environ | kernel_environment(script.parent) | environ,
        cwd=script.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE,
    )
    assert run.returncode == 0, run.stderr.decode()
    return run.stdout.decode(), run.stderr.decode()
