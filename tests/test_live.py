"""The live view in real kernels: what it costs, and whether its Cancel is heard. The front end's messages are ours."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ipywidgets.widgets.widget import _instances
from jupyter_client.manager import KernelManager

from jmr.progress.report import Report, State
from jmr.views import button as button_module
from jmr.views import clicks
from jmr.views import widget as widget_module
from jmr.views.button import CancelButton
from jmr.views.widget import LiveView
from tests.test_kernel import (  # noqa: F401 - fixtures
    PATIENCE,
    SETUP,
    Kernel,
    Message,
    environment,
    gate,
    gated_job,
    printed,
    summaries,
    watched_kernel,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


slow = pytest.mark.slow

#: Each hears clicks in its own way; None is the one that is installed. The newest Pythons try them all: half a minute.
IPYKERNELS = (
    ["6.29.5", "6.31.0", "7.0.1", "7.1.0", "7.2.0", "7.3.0", "7.4.0"] if sys.version_info >= (3, 13) else [None]
)


def installed(version: str) -> Path:
    """Where this ipykernel is: a folder in the tests' environment, filled when it is first asked for."""
    folder = Path(sys.prefix) / "jmr-test" / f"ipykernel-{version}"
    folder.parent.mkdir(exist_ok=True)
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ipykernel").exists():
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
            done = subprocess.run(
                [*pip, "--target", str(folder), f"ipykernel=={version}"], capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
    return folder


class Lab(Kernel):
    """A kernel as JupyterLab talks to it: requests that know of subshells, and clicks."""

    def __init__(self, manager: KernelManager) -> None:
        super().__init__(manager)
        self.version = printed(self.run(f"{SETUP}\nimport ipykernel\nprint(ipykernel.__version__)")).strip()
        self.subshell: str | None = None

    def make_subshell(self) -> None:
        """What JupyterLab does when the first widget is shown, if the kernel can."""
        if int(self.version.split(".")[0]) < 7:
            return
        self.client.control_channel.send(self.client.session.msg("create_subshell_request"))
        reply = self.client.get_control_msg(timeout=PATIENCE)
        assert reply["content"]["status"] == "ok"
        self.subshell = reply["content"]["subshell_id"]

    def start(self, code: str, *, in_notebook: bool = True) -> str:
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": True}
        return self._send("execute_request", content, None)

    def click(self, comm: str) -> None:
        content = {"comm_id": comm, "data": {"method": "custom", "content": {"event": "click"}}}
        self._send("comm_msg", content, self.subshell)

    def _send(self, kind: str, content: dict[str, Any], subshell: str | None) -> str:
        request = self.client.session.msg(kind, content)
        request["header"]["subshell_id"] = subshell
        request["metadata"] = {"cellId": "c1"}
        self.client.shell_channel.send(request)
        return request["header"]["msg_id"]

    def everything(self) -> list[Message]:
        return [message for messages in self.said.values() for message in messages]

    def opened(self, model: str, containing: str = "") -> list[str]:
        """The comms of widgets of this kind, whose first values have this text in them."""
        return [
            message["content"]["comm_id"]
            for message in self.everything()
            if message["msg_type"] == "comm_open"
            and message["content"]["data"]["state"]["_model_name"] == model
            and containing in json.dumps(message["content"]["data"]["state"])
        ]

    def is_closed(self, comm: str) -> bool:
        return any(m["msg_type"] == "comm_close" and m["content"]["comm_id"] == comm for m in self.everything())


@contextlib.contextmanager
def a_lab(version: str | None = None) -> Iterator[Lab]:
    paths = [os.environ["PYTHONPATH"]] if version is None else [str(installed(version)), os.environ["PYTHONPATH"]]
    runtime = Path(os.environ["JUPYTER_RUNTIME_DIR"])
    runtime.mkdir(exist_ok=True)
    connection_file = runtime / f"kernel-{uuid.uuid4()}.json"  # as a Jupyter server calls it
    manager = KernelManager(kernel_name="python3", connection_file=str(connection_file))
    manager.start_kernel(env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)})
    lab = Lab(manager)
    try:
        assert version in (None, lab.version)
        yield lab
    finally:
        lab.close()


@pytest.fixture
def lab(environment: None) -> Iterator[Lab]:  # noqa: F811 - the fixture
    with a_lab() as lab:
        yield lab


def can_go_on(lab: Lab) -> None:
    lab.client.kernel_info(reply=True, timeout=PATIENCE)  # in its turn before that, it drops cells: there was an error
    again = lab.run("jmr.run({1: 2}, lambda k, v: [(k, v)])")
    assert again[-1]["content"]["data"]["text/plain"] == "{1: [2]}"


# Clicks


@slow
@pytest.mark.parametrize("version", IPYKERNELS)
def test_cancel_pressed_while_the_cell_runs_ends_the_job(environment, gate, version):  # noqa: F811 - the fixtures
    with a_lab(version) as lab:
        lab.make_subshell()
        cell = lab.start(gated_job(gate))
        if lab.subshell is None:
            press_what_asks_the_server(lab, cell)
            assert lab.opened("ButtonModel") == []
        else:
            press_the_button(lab, cell)
        gate.open(2)
        can_go_on(lab)


@slow
def test_where_subshells_are_switched_off_the_button_is_replaced_by_one_that_asks_the_server(lab, gate):  # noqa: F811
    cell = lab.start(gated_job(gate))
    press_what_asks_the_server(lab, cell)
    assert all(lab.is_closed(real) for real in lab.opened("ButtonModel"))
    gate.open(2)
    can_go_on(lab)


def press_the_button(lab: Lab, cell: str) -> None:
    (button,) = lab.until(lambda: lab.opened("ButtonModel"))
    lab.until(lambda: lab.outputs(cell))
    lab.click(button)
    assert_ended(lab, cell, button, "JobCancelled")


def press_what_asks_the_server(lab: Lab, cell: str) -> None:
    """It asks for an interrupt of this kernel, which the test does in the server's place."""
    (kernel,) = re.findall(r"kernel-(.*)\.json", lab.manager.connection_file)
    (button,) = lab.until(lambda: lab.opened("HTMLModel", f"api/kernels/{kernel}/interrupt"))
    lab.until(lambda: lab.outputs(cell))
    lab.manager.interrupt_kernel()
    assert_ended(lab, cell, button, "KeyboardInterrupt")


def assert_ended(lab: Lab, cell: str, button: str, error_name: str) -> None:
    """The cell failed so, and the summary is there: after it, where the last picture took over two seconds."""
    errors = [m["content"]["ename"] for m in lab.ended(cell) if m["msg_type"] == "error"]
    assert errors == [error_name]
    lab.until(lambda: summaries(lab.outputs(cell)) and lab.is_closed(button))
    assert re.match(r"gated: cancelled after [\d.]+ m?s", summaries(lab.outputs(cell))[-1])


@slow
def test_a_submitted_job_is_cancelled_by_a_click_that_the_main_thread_hears(lab, gate):  # noqa: F811 - the fixture
    """No subshell is needed, and an interrupt would hit whatever runs by then."""
    cell = lab.start(gated_job(gate, "jmr.submit"))
    lab.ended(cell)
    (cancel,) = lab.until(lambda: lab.opened("ButtonModel"))
    lab.until(lambda: lab.outputs(cell))
    lab.click(cancel)
    # Before ipykernel 7 all that a kernel shows belongs to the request that it has answered last: the click.
    where = [cell] if int(lab.version.split(".")[0]) >= 7 else lab.said
    shown = lab.until(lambda: [each for at in where for each in summaries(lab.outputs(at))])
    assert re.match(r"gated: cancelled after [\d.]+ m?s", shown[-1])
    assert lab.opened("HTMLModel", "interrupt") == []
    gate.open(2)
    can_go_on(lab)


# What it costs


PAINT_FIVE_SECONDS = """
from jmr.progress.report import Report, SlotReport
from jmr.views import painter, widget
class Clock:
    "3,000 tasks in five seconds on two slots; one of them fails now and then."
    now = 0.0
    def __call__(self):
        return self.now
    def wait(self, timeout):
        self.now += timeout
        report.n_records = report.n_map_tasks_done = int(600 * self.now)
        report.shuffled_bytes = 1000 * report.n_records
        report.n_failures = int(self.now)
        report.last_failure = f"map-{report.n_failures} on local/1"
        for i, slot in enumerate(report.slots.values()):
            slot.n_records = slot.n_tasks = report.n_records // 2
            slot.map_seconds, slot.doing = self.now, f"map-{report.n_records + i}"
        return report.n_records >= 3_000
report, clock = Report("simulated", started=0.0, n_slots=2, n_records_total=3_000), Clock()
report.slots.update({"local/1": SlotReport("local"), "local/2": SlotReport("local")})
painter.Painter(report, lambda: widget.LiveView(lambda: None, blocking=False), clock, clock).run()
"""


@slow
def test_three_thousand_steps_cost_less_than_a_hundred_messages(lab):
    """At 0.3 ms each, this is what painting costs; the time itself is measured by tests/benchmarks."""
    cell = lab.start(PAINT_FIVE_SECONDS)
    lab.ended(cell)
    kinds = [message["msg_type"] for message in lab.said[cell]]
    assert 20 < len([kind for kind in kinds if kind.startswith("comm") or "display" in kind]) < 60
    assert kinds.count("display_data") == kinds.count("update_display_data") == 1
    assert "error" not in kinds


@slow
def test_of_twenty_jobs_the_last_eight_leave_a_box(watched_kernel):  # noqa: F811 - the fixture
    cell = "for _ in range({}): r = jmr.run(source(), lambda k, v: [(k, v)], engine='inline')\nprint(len(_instances))"
    n_after_one = int(printed(watched_kernel.run(cell.format(1), in_notebook=True)))
    assert n_after_one == 4
    assert int(printed(watched_kernel.run(cell.format(20), in_notebook=True))) == 8 * n_after_one


THREE_AT_ONCE = """
import threading
from jmr.views import painter, widget
from jmr.views.painter import show
from jmr.progress.report import Report, State
painter.later.delay = 0.0
all_painted = threading.Barrier(4)
class Watched(widget.LiveView):
    def paint(self, *args):
        is_first = self._shown is None
        super().paint(*args)
        if is_first:
            all_painted.wait(30)
widget.LiveView = Watched
reports = [Report(f"job {n}") for n in range(3)]
with show(reports[0], None), show(reports[1], None), show(reports[2], None):
    all_painted.wait(30)
    for report in reports:
        report.end(State.DONE)
for box, board, *_ in widget._kept:
    print(len(box.children), box._dom_classes, box.children[0] is board, board.value)
"""


@slow
def test_jobs_that_run_at_once_each_leave_their_own_summary_for_a_page_that_comes_later(lab):
    said = printed(lab.run(THREE_AT_ONCE)).splitlines()
    assert sorted(re.search(r"job \d", line)[0] for line in said) == ["job 0", "job 1", "job 2"]
    assert all(line.startswith("1 () True") and "0 records → 0 keys" in line for line in said)


# A view, without a kernel


class Shown:
    """As much of an output as a view asks for."""

    def __init__(self, *things: Any, **options: Any) -> None:
        self.data: Any = None

    def update(self, data: Any, *, raw: bool) -> None:
        if self.data == "broken":
            raise ValueError("no kernel any more")
        self.data = data


@pytest.fixture
def open_widgets(monkeypatch) -> Iterator[Callable[[], int]]:
    """How many there are more than before; views are shown nowhere."""
    monkeypatch.setattr(widget_module, "displayed", Shown)
    n_before = len(_instances)
    yield lambda: len(_instances) - n_before
    for parts in widget_module._kept:
        for part in parts:
            part.close()
    widget_module._kept.clear()
    assert len(_instances) == n_before


def an_ended_view() -> tuple[LiveView, Report]:
    report = Report("words", started=0.0)
    view = LiveView(lambda: None)
    view.paint(report, 0.3)
    report.state, report.ended = State.DONE, 1.0
    return view, report


def test_a_view_whose_card_cannot_be_made_leaves_the_line(open_widgets, monkeypatch):
    monkeypatch.setattr("jmr.views.final.final_html", None)
    view, report = an_ended_view()
    assert open_widgets() > 4
    view.end(report, 1.0)
    assert view._shown._handle.data["text/plain"].startswith("words: 0 records -> 0 keys in 1.00 s (no card: TypeError")
    assert open_widgets() == 4


def test_a_view_that_cannot_be_replaced_leaves_no_more_widgets_than_another(open_widgets):
    view, report = an_ended_view()
    view._shown._handle.data = "broken"
    with pytest.raises(ValueError, match="no kernel any more"):
        view.end(report, 1.0)
    assert open_widgets() == 4


# The button, without a kernel


class Presses:
    """A button whose job counts how often it was cancelled."""

    def __init__(self, *, blocking: bool = True) -> None:
        self.report = Report("words", started=0.0)
        self.n_cancels = 0
        self.button = CancelButton(self.report, self._cancel, {"header": {}}, blocking=blocking)
        import ipywidgets

        self.layout = ipywidgets.Layout()
        self.button.open(0.0, self.layout)

    def _cancel(self) -> None:
        self.n_cancels += 1

    def close(self) -> None:
        self.button.close()
        self.layout.close()


@pytest.fixture
def pressed(monkeypatch) -> Iterator[Callable[..., Presses]]:
    """Buttons, in a front end that says whether it hears clicks."""
    made: list[Presses] = []

    def make(heard: bool | None, *, blocking: bool = True) -> Presses:
        monkeypatch.setattr(button_module, "are_heard", lambda parent: heard)
        monkeypatch.setattr(button_module, "kernel_id", lambda: "1234")
        made.append(Presses(blocking=blocking))
        return made[-1]

    yield make
    for presses in made:
        presses.close()


def test_a_button_cancels_once_and_says_so_when_it_is_painted(pressed):
    presses = pressed(heard=True)
    presses.button.widget.click()
    presses.button.widget.click()
    assert presses.n_cancels == 1
    assert presses.button.is_pressed
    assert (presses.button.widget.description, presses.button.widget.disabled) == ("Cancel", False)
    assert not presses.button.paint(0.25)
    assert (presses.button.widget.description, presses.button.widget.disabled) == ("Cancelling…", True)


@pytest.mark.parametrize("state", [State.DONE, State.FAILED, State.CANCELLED])
def test_a_click_that_comes_when_the_job_has_ended_does_nothing(pressed, state):
    presses = pressed(heard=True)
    presses.report.end(state)
    presses.button.widget.click()
    assert presses.n_cancels == 0


def test_a_button_that_nobody_will_hear_is_never_shown(pressed):
    assert "api/kernels/1234/interrupt" in pressed(heard=False).button.widget.value


def test_a_button_is_replaced_when_nothing_has_come_to_hear_it(pressed):
    presses = pressed(heard=None)
    assert presses.button.widget.description == "Cancel"
    assert not presses.button.paint(0.9)
    assert presses.button.paint(1.0)
    assert "api/kernels/1234/interrupt" in presses.button.widget.value
    assert not presses.button.paint(1.25)


def test_a_button_that_was_heard_stays(pressed):
    presses = pressed(heard=None)
    presses = pressed(heard=True)
    assert not presses.button.paint(0.25)
    assert not presses.button.paint(9.0)


@pytest.mark.parametrize("heard", [None, False])
def test_the_button_of_a_job_that_blocks_nothing_always_stays(pressed, heard):
    presses = pressed(heard=heard, blocking=False)
    assert not presses.button.paint(9.0)
    presses.button.widget.click()
    assert presses.n_cancels == 1


def test_without_a_server_to_ask_the_button_is_a_hint():
    assert clicks.interrupt_button(None) == "<span class='jmr-dim'>■ stops it</span>"
