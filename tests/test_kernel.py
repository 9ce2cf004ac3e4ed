"""The front end in real kernels: which cell gets what, and when. A message arrives or a gate opens; nothing sleeps."""

from __future__ import annotations

import json
import os
import queue
import re
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipykernel
import nbformat
import pytest
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).parent.parent
PATIENCE = 30.0
SETUP = "import jmr, os\n%load_ext jmr"
Message = dict[str, Any]


def kernel_environment(folder: Path) -> dict[str, str]:
    """Kernels start as the Python that runs the tests, import this checkout, and see no settings of the user's."""
    spec = folder / "jupyter" / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec.write_text(json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"}))
    return {
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_PATH": str(folder / "jupyter"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH")])),
    }


class Kernel:
    """A kernel, and all that it has said about each cell."""

    def __init__(self, manager: KernelManager) -> None:
        self.manager = manager
        self.client = manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=PATIENCE)
        self.said: dict[str, list[Message]] = defaultdict(list)

    def start(self, code: str, *, in_notebook: bool = False) -> str:
        """Run a cell, as a notebook with a reader would or as nbclient would; its id, at once."""
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": in_notebook}
        request = self.client.session.msg("execute_request", content)
        request["metadata"] = {"cellId": "c1"} if in_notebook else {}
        self.client.shell_channel.send(request)
        return request["header"]["msg_id"]

    def until(self, happened: Callable[[], Any]) -> Any:
        """Listen until it has happened."""
        deadline = time.monotonic() + PATIENCE
        while not (result := happened()):
            try:
                message = self.client.get_iopub_msg(timeout=max(deadline - time.monotonic(), 0))
            except queue.Empty:
                pytest.fail(f"it has not happened; so far: {dict(self.said)}")
            self.said[message["parent_header"].get("msg_id", "")].append(message)
        return result

    def ended(self, cell: str) -> list[Message]:
        """Listen until a cell has ended; its outputs."""
        self.until(lambda: any(m["content"].get("execution_state") == "idle" for m in self.said[cell]))
        return self.outputs(cell)

    def run(self, code: str, *, in_notebook: bool = False) -> list[Message]:
        return self.ended(self.start(code, in_notebook=in_notebook))

    def outputs(self, cell: str) -> list[Message]:
        kinds = {"stream", "display_data", "update_display_data", "execute_result", "error"}
        return [message for message in self.said[cell] if message["msg_type"] in kinds]

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in kernel_environment(tmp_path_factory.mktemp("jupyter")).items():
            patch.setenv(name, value)
        patch.delenv("JMR_PROGRESS", raising=False)
        yield


@pytest.fixture(scope="module")
def one_kernel(environment: None) -> Iterator[Kernel]:
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel()
    kernel = Kernel(manager)
    kernel.run(SETUP)
    yield kernel
    kernel.close()


@pytest.fixture
def kernel(one_kernel: Kernel) -> Kernel:
    """The module's kernel: every test leaves it usable, and that is tested too."""
    one_kernel.said.clear()
    return one_kernel


class Gate:
    """A pipe that a mapfn waits at, until the test opens it."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self._fd = os.open(path, os.O_RDWR)
        #: Code that waits.
        self.wait = f"open({str(path)!r}, 'rb', buffering=0).read(1)"

    def open(self, n_waiting: int = 1) -> None:
        os.write(self._fd, b"." * n_waiting)

    def close(self) -> None:
        os.close(self._fd)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    gate = Gate(tmp_path / "gate")
    yield gate
    gate.close()


def printed(outputs: list[Message], name: str = "stdout") -> str:
    return "".join(m["content"]["text"] for m in outputs if m["content"].get("name") == name)


LIVE = "application/vnd.jupyter.widget-view+json"


def summaries(outputs: list[Message]) -> list[str]:
    shown = [m["content"]["data"] for m in outputs if m["msg_type"] in ("display_data", "update_display_data")]
    return [data["text/plain"] for data in shown if "text/html" in data and LIVE not in data]


def traceback_of(outputs: list[Message]) -> str:
    (error,) = [m for m in outputs if m["msg_type"] == "error"]
    return re.sub(r"\x1b\[[\d;]*m", "", "\n".join(error["content"]["traceback"]))


def gated_job(gate: Gate, call: str = "jmr.run") -> str:
    """A cell whose second record waits at the gate."""
    mapfn = f"def gated(k, v):\n    k and {gate.wait}\n    return [(k, v)]\n"
    return f"{mapfn}job = {call}({{0: 0, 1: 1}}, gated, name='gated')"


# Without a reader


def test_a_headless_run_writes_lines_that_stay_and_the_summary(kernel, gate):
    cell = kernel.start(gated_job(gate))
    kernel.until(lambda: "gated: map" in printed(kernel.outputs(cell), "stderr"))
    gate.open()
    outputs = kernel.ended(cell)
    lines = printed(outputs, "stderr")
    assert re.search(r"^gated: map +\d+% · [01] / 2 records", lines)
    assert "\r" not in lines
    summary = summaries(outputs)[-1].splitlines()
    assert re.fullmatch(r"gated: 2 records -> 2 keys in [\d.]+ m?s on \d+ slots?", summary[0])
    assert summary[1].startswith("2 records in, 2 pairs, ")


def test_a_short_job_leaves_only_its_summary(kernel):
    outputs = kernel.run("r = jmr.run({1: 2}, lambda k, v: [(k, v)], engine='inline', name='short')")
    assert [m["msg_type"] for m in outputs] == ["display_data"]
    assert sorted(outputs[0]["content"]["data"]) == ["text/html", "text/plain"]


def test_progress_false_leaves_nothing(kernel):
    assert kernel.run("r = jmr.run({1: 2}, lambda k, v: [(k, v)], engine='inline', progress=False)") == []


def test_a_loop_of_short_jobs_leaves_twenty_lines(kernel):
    loop = "for _ in range(50): jmr.run({1: 2}, lambda k, v: [(k, v)], engine='inline')"
    assert len(summaries(kernel.run(loop))) == 20
    assert len(summaries(kernel.run(loop))) == 20


def test_nbclient_keeps_a_notebook_that_reads_well(environment):
    mapfn = "def mapfn(k, v):\n    for word in v.split():\n        yield word, 1\n"
    cell = f"%%mapreduce counts\nsource = {{1: 'a b a'}}\n{mapfn}reducefn = lambda k, vs: sum(vs)"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in (SETUP, cell, "counts")])
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    # The first job of a kernel starts its slots: on a busy machine it takes long enough for a line of progress.
    *lines, summary = notebook.cells[1].outputs
    assert all(line.name == "stderr" for line in lines)
    assert summary.data["text/plain"].startswith("counts: 1 record -> 2 keys in ")
    assert notebook.cells[2].outputs[0].data["text/plain"] == "{'a': 2, 'b': 1}"
    assert "widgets" not in notebook.metadata


# With a reader


WATCH_VIEWS = """
import threading
from jmr.views import painter, widget
from ipywidgets.widgets.widget import _instances
painter.later.delay = 0.0
shown = threading.Event()
def paint(self, *args, paint=widget.LiveView.paint):
    paint(self, *args)
    shown.set()
widget.LiveView.paint = paint
def source():
    "Yields when a bar is on the screen."
    assert shown.wait(30)
    shown.clear()
    yield 1, 2
"""


@pytest.fixture
def watched_kernel(environment) -> Iterator[Kernel]:
    """A kernel whose source waits until a bar is shown."""
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel()
    kernel = Kernel(manager)
    kernel.run(SETUP + WATCH_VIEWS)
    yield kernel
    kernel.close()


def test_in_a_notebook_bars_are_shown_and_replaced_by_one_line(watched_kernel):
    outputs = watched_kernel.run("r = jmr.run(source(), lambda k, v: [(k, v)], name='seen')", in_notebook=True)
    assert [m["msg_type"] for m in outputs] == ["display_data", "update_display_data"]
    live, static = (m["content"] for m in outputs)
    assert sorted(live["data"]) == [LIVE, "text/html", "text/plain"]
    assert live["data"]["text/plain"] == (
        "seen: was running when this was shown; jmr.last or result.summary has its card"
    )
    assert sorted(static["data"]) == ["text/html", "text/plain"]
    assert live["transient"] == static["transient"]
    assert static["data"]["text/plain"].startswith("seen: 1 record -> 1 key in ")


def test_what_is_printed_before_there_is_a_view_stands_below_it(environment, gate):
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel()
    kernel = Kernel(manager)
    try:
        kernel.run(SETUP + "\nfrom jmr.progress import outlet\noutlet._FOR_VIEW = 60.0  # whatever else runs here")
        flood = gated_job(gate).replace("    k and", "    [print('line', i) for i in range(2_000)]\n    k and")
        cell = kernel.start(flood, in_notebook=True)
        kernel.until(lambda: "line 99\n" in printed(kernel.outputs(cell)))
        gate.open()
        first, *others = kernel.ended(cell)
    finally:
        kernel.close()
    assert LIVE in first["content"]["data"]
    assert [m["msg_type"] for m in others if m["msg_type"] != "stream"] == ["update_display_data"]
    assert printed(others).count("] line ") == 1_000


def test_of_a_loop_of_long_jobs_the_first_five_leave_cards(watched_kernel):
    watched_kernel.run("from jmr.views import summary\nsummary.FIRST_PAINT = painter.FIRST_PAINT = 0.0  # all are long")
    loop = "for _ in range(7): r = jmr.run(source(), lambda k, v: [(k, v)], name='loop')"
    for _ in range(2):
        outputs = watched_kernel.run(loop, in_notebook=True)
        said = summaries(outputs)
        assert ["\n" in text for text in said] == [True] * 5 + [False] * 2
        assert all(text.startswith("loop: 1 record -> 1 key in ") for text in said)


# Interrupts


def test_an_interrupt_ends_the_job_and_the_kernel_goes_on(kernel, gate):
    cell = kernel.start(gated_job(gate))
    kernel.until(lambda: "gated: map" in printed(kernel.outputs(cell), "stderr"))
    kernel.manager.interrupt_kernel()
    outputs = kernel.ended(cell)
    assert traceback_of(outputs) == "KeyboardInterrupt: the job was interrupted"
    assert re.match(r"gated: cancelled after [\d.]+ m?s", summaries(outputs)[-1])
    gate.open(2)
    again = kernel.run("jmr.run({1: 2}, lambda k, v: [(k, v)])")
    assert again[-1]["content"]["data"]["text/plain"] == "{1: [2]}"


@pytest.mark.parametrize("wait", ["job.result()", "await job"])
def test_an_interrupt_of_the_waiting_is_one_line_and_the_job_goes_on(kernel, gate, wait):
    kernel.run(gated_job(gate, "jmr.submit"))
    cell = kernel.start("print('waits')\n" + wait)
    kernel.until(lambda: "waits" in printed(kernel.outputs(cell)))
    kernel.manager.interrupt_kernel()
    assert traceback_of(kernel.ended(cell)) == "KeyboardInterrupt: job 'gated' goes on; .cancel() ends it"
    gate.open()
    assert kernel.run("job.result()")[-1]["content"]["data"]["text/plain"] == "{0: [0], 1: [1]}"


@pytest.mark.parametrize("wait", ["job.result()", "await job"])
def test_a_cancelled_job_is_one_line_and_the_kernel_goes_on(kernel, gate, wait):
    kernel.run(gated_job(gate, "jmr.submit") + "\njob.cancel()")
    assert traceback_of(kernel.run(wait)) == "JobCancelled: job 'gated' was cancelled"
    gate.open(2)
    assert kernel.run("jmr.run({1: 2}, lambda k, v: [(k, v)])")[-1]["content"]["data"]["text/plain"] == "{1: [2]}"


# What workers print


def test_what_a_mapfn_prints_is_in_its_cell_before_the_cell_ends(kernel):
    outputs = kernel.run("r = jmr.run({1: 2}, lambda k, v: print('hello from', k))")
    assert re.search(r"^\[local/\d+\] hello from 1$", printed(outputs), re.MULTILINE)


def test_what_a_submitted_job_prints_and_shows_lands_in_its_own_cell(kernel, gate):
    code = gated_job(gate, "jmr.submit").replace("    return", "    print('from', k)\n    return")
    first = kernel.start(code)
    kernel.ended(first)
    gate.open()
    second = kernel.start("job.result()")
    kernel.ended(second)
    has_own_cells = ipykernel.version_info[0] >= 7  # before that, all threads of a kernel print into the cell that runs
    cells = [first] if has_own_cells else [first, second]
    kernel.until(lambda: any(summaries(kernel.outputs(cell)) for cell in cells))
    assert re.search(r"\[local/\d+\] from 1", "".join(printed(kernel.outputs(cell)) for cell in cells))
    assert not has_own_cells or [m["msg_type"] for m in kernel.outputs(second)] == ["execute_result"]


def test_a_warning_of_a_mapfn_names_its_cell_and_line_once(kernel):
    code = (
        "import warnings\ndef mapfn(k, v):\n    warnings.warn('odd duck')\nr = jmr.run(dict.fromkeys(range(99)), mapfn)"
    )
    cell = kernel.start(code)
    said = printed(kernel.ended(cell), "stderr")
    (n,) = [m["content"]["execution_count"] for m in kernel.said[cell] if m["msg_type"] == "execute_input"]
    place = rf"\[local/(\d)\] Cell In\[{n}\], line 3: UserWarning: odd duck"
    assert re.fullmatch(rf"{place}\n\[local/\1\]   warnings.warn\('odd duck'\)\n", said)


def test_what_a_logger_of_the_kernels_would_say_workers_say(kernel):
    kernel.run("import logging; logging.root.setLevel(logging.INFO)")
    outputs = kernel.run("r = jmr.run({1: 2, 3: 4}, lambda k, v: logging.info('in mapfn'))")
    kernel.run("logging.root.setLevel(logging.WARNING)")
    assert re.fullmatch(r"\[local/\d\] INFO:root:in mapfn\n", printed(outputs, "stderr"))


def test_a_flood_ends_with_how_much_more_there_is_and_where(kernel):
    code = "job = jmr.submit({1: 2}, lambda k, v: [print(i) for i in range(12_000)] and None)\nr = job.result()"
    lines = printed(kernel.run(code)).splitlines()
    assert len(lines) == 1_001
    assert lines[-1] == "11,000 more lines: job.log()"
    assert printed(kernel.run("print(job.log().count('\\n'))")) == "12000\n"


# The magics


def completed(kernel: Kernel, code: str) -> list[str]:
    """What the kernel offers a front end at the end of a cell."""
    asked = kernel.client.complete(code, len(code))
    reply = kernel.client.get_shell_msg(timeout=PATIENCE)
    while reply["parent_header"].get("msg_id") != asked:
        reply = kernel.client.get_shell_msg(timeout=PATIENCE)
    content = reply["content"]
    assert code[content["cursor_start"] : content["cursor_end"]] == code.rpartition(" ")[2]
    return content["matches"]


@pytest.mark.parametrize("jedi", [True, False])
def test_a_kernel_completes_options_values_and_names(kernel, jedi):
    kernel.run(f"%config IPCompleter.use_jedi = {jedi}\nsome_documents = {{}}")
    assert completed(kernel, "%%mapreduce --w") == ["--workers"]
    assert completed(kernel, "%mapreduce a b --on-error ") == ["raise", "skip"]
    assert completed(kernel, "%%mapreduce --source some_d") == ["some_documents"]
    assert completed(kernel, "%jmr ")[:2] == ["status", "workers"]


def test_a_submitted_job_is_in_the_list_of_jobs_until_it_ends(kernel, gate):
    kernel.run(gated_job(gate, "jmr.submit"))
    (listed,) = kernel.run("%jmr jobs")
    assert listed["content"]["data"]["text/plain"].startswith("gated  map")
    assert "<td" in listed["content"]["data"]["text/html"]
    gate.open()
    kernel.run("job.result()")
    assert printed(kernel.run("%jmr jobs")) == "No jobs run.\n"


# Errors


def test_a_failing_mapfn_shows_its_cell_and_line(kernel):
    cell = kernel.start("%%mapreduce\n\nsource = {1: 0}\n\ndef mapfn(k, v):\n    x = 1\n    return [(k, x / v)]")
    said = traceback_of(kernel.ended(cell))
    (n,) = [m["content"]["execution_count"] for m in kernel.said[cell] if m["msg_type"] == "execute_input"]
    assert f"Cell In[{n}], line 7, in mapfn" in said.replace("mapfn()", "mapfn").replace("mapfn(k, v)", "mapfn")
    assert "----> 7     return [(k, x / v)]" in said
    assert re.search(r"\n +\^{5}\n", said), "under x / v"
    assert "\nZeroDivisionError: division by zero\n\nMapError: mapfn raised" in said
    assert "mapfn raised ZeroDivisionError('division by zero') for record key=1" in said
    assert said.count("Traceback") == 1
    assert not re.search(r"(jmr/(notebook|session|engines|codec|tasks|worker)|IPython/core)", said)


def test_a_recursion_in_a_kernel_is_shown_in_a_screenful(kernel):
    said = traceback_of(kernel.run("def deeper(n):\n    return deeper(n)\njmr.run({1: 2}, lambda k, v: deeper(v))"))
    assert said.count("\n") < 60


def test_a_failed_job_that_is_awaited_shows_its_own_line_and_who_waits(kernel):
    kernel.run("job = jmr.submit({1: 0}, lambda k, v: 1 / v)")
    said = traceback_of(kernel.run("await job"))
    assert "----> 1 await job" in said
    assert said.count("Cell In[") == 2
    assert "asyncio" not in said


def test_what_cannot_be_pickled_is_shown_without_a_frame_of_ours(kernel):
    said = traceback_of(kernel.run("import threading\nlock = threading.Lock()\njmr.run({1: 2}, lambda k, v: lock)"))
    assert "----> 3 jmr.run({1: 2}, lambda k, v: lock)" in said
    assert "mapfn -> lock cannot be sent to the workers" in said
    assert not re.search(r"(jmr|cloudpickle)/\w+", said)


def test_an_error_in_the_cell_itself_shows_its_line(kernel):
    said = traceback_of(kernel.run("%%mapreduce\n\nx = 1\ny = x / 0"))
    assert "----> 4 y = x / 0" in said
    assert not re.search(r"jmr/(notebook|session)", said)


def test_a_syntax_error_in_the_cell_is_shown_like_any_other(kernel):
    outputs = kernel.run("%%mapreduce\nx = = 1")
    said = traceback_of(outputs)
    assert re.search(r"Cell In\[\d+\], line 2\n +x = = 1", said)
    assert outputs[-1]["content"]["ename"] == "SyntaxError"


# --debug

DEBUGGED = """
%mapreduce {"a": "1", "b": "x"} (lambda key, text: [(key, int(text))]) --debug --no-progress
"""


def test_a_debugger_opens_in_the_cell_of_the_failed_job_and_answers(kernel):
    cell = kernel.start(DEBUGGED, in_notebook=True)
    for command in ("p ('here', key, text)", "q"):
        asked = kernel.client.get_stdin_msg(timeout=PATIENCE)
        assert asked["content"]["prompt"] == "ipdb> "
        kernel.client.input(command)
    outputs = kernel.ended(cell)
    assert "('here', 'b', 'x')" in printed(outputs)
    first, last = (output["content"] for output in outputs if output["msg_type"] == "error")
    assert (first["ename"], last["ename"]) == ("ValueError", "MapError")
    assert len(last["traceback"]) == 1, "its frames were shown before"
    assert kernel.run("1 + 1")[0]["content"]["data"]["text/plain"] == "2"


def test_no_debugger_opens_where_a_notebook_is_run_without_a_reader(kernel):
    (error,) = (o["content"] for o in kernel.run(DEBUGGED) if o["msg_type"] == "error")
    assert error["ename"] == "MapError"
    assert "--debug: this front end takes no input" in "".join(error["traceback"])
