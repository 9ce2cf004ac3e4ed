"""Progress: what is said about a report, by whom, and when. No threads and no clocks but the fakes."""

from __future__ import annotations

import contextvars
import io
import os
import pty
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from jmr.plan import Plan
from jmr.progress import routing, terminal, where
from jmr.progress.later import Later
from jmr.progress.report import Report, State
from jmr.progress.where import FrontEnd, front_end
from jmr.views import painter, text
from jmr.views.painter import Painter, show
from jmr.views.phases import map_phase, reduce_phase
from jmr.views.summary import bundle, html, line
from jmr.views.text import LogLines, TerminalLine


def a_report(**counts: Any) -> Report:
    report = Report("wordcount", started=100.0, n_slots=2)
    for name, value in counts.items():
        setattr(report, name, value)
    return report


def an_ended_report(state: State = State.DONE, **counts: Any) -> Report:
    return a_report(state=state, ended=102.31, **{"n_records": 1204, "n_pairs": 70_000, "n_keys": 53211} | counts)


class Clock:
    """Time passes only while somebody waits; and `then` happens in it."""

    def __init__(self, ends_at: float, then: Any = lambda now: None) -> None:
        self.now, self.ends_at, self.then = 100.0, ends_at, then

    def __call__(self) -> float:
        return self.now

    def wait(self, timeout: float) -> bool:
        self.now = min(self.now + timeout, self.ends_at)
        self.then(self.now)
        return self.now >= self.ends_at


class View:
    """Remembers what it was shown."""

    period = 0.125

    def __init__(self) -> None:
        self.painted: list[tuple[float, int]] = []
        self.ended_with: State | None = None

    def paint(self, report: Report, now: float) -> None:
        self.painted.append((round(now, 3), report.n_records))

    def end(self, report: Report, now: float) -> None:
        self.ended_with = report.state


# The line that stays


def test_the_summary_says_what_went_in_what_came_out_and_how_long_it_took():
    report = an_ended_report(notes=["source from an earlier cell"])
    assert line(report, 999.0) == (
        "wordcount: 1,204 records -> 53,211 keys in 2.31 s on 2 slots (source from an earlier cell)"
    )


def test_the_summary_counts_what_was_skipped_and_says_where_it_is():
    assert "on 2 slots, 3 skipped: see the result's .errors" in line(an_ended_report(n_skipped=3), 999.0)


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED])
def test_the_summary_of_a_job_that_did_not_finish_says_so(state):
    said = line(an_ended_report(state), 999.0)
    assert said == f"wordcount: {state.value} after 2.31 s on 2 slots, 1,204 records mapped"


def test_the_summary_of_a_job_that_failed_says_why():
    report = an_ended_report(
        State.FAILED, n_records=0, error="MapError: mapfn raised ValueError('<b>')", notes=["a note"]
    )
    told = "failed after 2.31 s on 2 slots (a note): MapError: mapfn raised ValueError("
    assert line(report, 999.0) == f"wordcount: {told}'<b>')"
    assert f"{told}&#x27;&lt;b&gt;&#x27;)" in html(report, 999.0)
    report.error = "x" * 300
    assert line(report, 999.0).endswith(f": {'x' * 197}...")


def test_a_mapfn_that_emits_nothing_is_told():
    def told(**counts: int) -> str:
        return line(an_ended_report(n_keys=0, n_pairs=0, **counts), 999.0)

    assert "-> 0 keys (mapfn emitted nothing: is a yield missing?) in" in told()
    assert "mapfn" not in told(n_skipped=2) + told(n_records=0)


def test_the_last_half_second_is_not_counted_down():
    assert str(map_phase(a_report(n_records=990, n_records_total=1000), 110.0)) == (
        "990 / 1,000 records · 99 records/s"
    )


def test_one_is_not_plural():
    report = a_report(state=State.DONE, ended=100.5, n_records=1, n_keys=1, n_slots=1)
    assert line(report, 0.0) == "wordcount: 1 record -> 1 key in 500 ms on 1 slot"


def test_the_html_escapes_a_name_and_needs_no_style_sheet():
    shown = html(an_ended_report(name="<b>&"), 999.0)
    assert "&lt;b&gt;&amp;" in shown
    assert "1,204 records → 53,211 keys" in shown
    assert "<style" not in shown
    assert "class=" not in shown


def test_a_bundle_has_a_text_for_those_who_show_no_html():
    report = a_report(state=State.DONE, ended=100.2)
    assert bundle(report, 0.0)["text/plain"] == line(report, 0.0)


# Phases


def test_map_counts_records_because_nobody_knows_how_many_tasks_will_be_cut():
    phase = map_phase(a_report(n_records=250, n_records_total=1000), now=110.0)
    assert (phase.fraction, phase.seconds_left) == (0.25, 30.0)
    assert str(phase) == "250 / 1,000 records · 25 records/s · about 30 s left"


def test_a_source_without_a_length_has_no_fraction_until_reduce_begins():
    report = a_report(n_records=250)
    assert map_phase(report, 110.0).fraction is None
    assert str(map_phase(report, 110.0)) == "250 records so far · 25 records/s"
    report.reduce_began = 110.0
    assert map_phase(report, 120.0).fraction == 1.0


def test_the_rate_of_map_stands_still_when_reduce_has_begun():
    report = a_report(n_records=250, n_records_total=250, reduce_began=110.0)
    assert str(map_phase(report, 900.0)) == "250 / 250 records · 25 records/s"


def test_reduce_is_timed_from_its_own_beginning():
    report = a_report(n_reduce_tasks=8, n_reduce_tasks_done=2)
    assert reduce_phase(report, 110.0) is None
    report.reduce_began = 109.0
    assert reduce_phase(report, 110.0).seconds_left == 3.0


def test_reduce_begins_when_its_tasks_are_known_and_never_where_there_are_none():
    report, before = a_report(), time.monotonic()
    report.begin_reduce(0)
    assert report.reduce_began is None
    report.begin_reduce(8)
    assert report.n_reduce_tasks == 8
    assert before <= report.reduce_began <= time.monotonic()


def test_the_first_two_per_cent_are_no_base_for_a_guess():
    assert map_phase(a_report(n_records=1, n_records_total=1000), 110.0).seconds_left is None


def test_an_empty_source_is_done():
    assert map_phase(a_report(n_records_total=0), 110.0).fraction == 1.0


# The painter


def test_a_long_job_is_painted_until_it_ends_and_leaves_its_summary():
    report, view = a_report(), View()

    def work(now: float) -> None:
        report.n_records = int((now - 100) * 1000)
        if now >= 101:
            report.state = State.DONE

    clock = Clock(ends_at=101.0, then=work)
    job_painter = Painter(report, lambda: view, clock, clock)
    job_painter.run()
    assert view.painted == [(100.0 + n / 8, n * 125) for n in range(9)]
    assert view.ended_with is State.DONE
    assert job_painter.shown


# What only long jobs get


def test_what_is_due_is_done():
    done = threading.Event()
    later = Later(delay=0.0, look_every=0.001, stay=0.0)
    later.at_last(done.set)
    assert done.wait(10)
    assert not later.cancel(done.set)


def test_what_is_cancelled_in_time_is_never_done():
    done = threading.Event()
    later = Later(delay=1e6, look_every=0.001, stay=0.0)
    later.at_last(done.set)
    assert later.cancel(done.set)
    assert not later.cancel(done.set)
    assert not done.is_set()


def test_the_thread_goes_when_nothing_is_due_and_comes_again():
    later = Later(delay=0.0, look_every=0.001, stay=0.0)
    threads = []
    for _ in range(2):
        done = threading.Event()
        later.at_last(done.set)
        threads += [thread for thread in threading.enumerate() if thread.name == "jmr-later"]
        assert done.wait(10)
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()


# Lines


def test_a_log_gets_a_line_per_ten_per_cent_and_no_carriage_return():
    stream = io.StringIO()
    log = LogLines(stream)
    for n in range(1001):
        log.paint(a_report(n_records=n, n_records_total=1000), 100.0 + n / 100)
    log.end(an_ended_report(), 999.0)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 12
    assert lines[3] == "wordcount: map  30% · 300 / 1,000 records · 100 records/s · about 7 s left · after 3 s"
    assert lines[-1] == line(an_ended_report(), 999.0)
    assert "\r" not in stream.getvalue()


def test_a_log_says_when_reduce_has_begun():
    stream = io.StringIO()
    report = a_report(n_records=4, n_records_total=4, n_reduce_tasks=8, n_reduce_tasks_done=2, reduce_began=102.0)
    LogLines(stream).paint(report, 103.0)
    assert stream.getvalue() == "wordcount: reduce  25% · 2 / 8 tasks · 2 tasks/s · about 3 s left · after 3 s\n"


def test_a_log_without_a_total_gets_a_line_every_thirty_seconds():
    stream = io.StringIO()
    log = LogLines(stream)
    for second in range(100):
        log.paint(a_report(n_records=second * 10), 100.0 + second)
    assert [each.rsplit(" · ")[-1] for each in stream.getvalue().splitlines()] == [
        "after 0 s",
        "after 30 s",
        "after 1 min 0 s",
        "after 1 min 30 s",
    ]


def test_a_terminal_has_one_line_that_is_written_over():
    stream = io.StringIO()
    terminal = TerminalLine(stream)
    terminal.paint(a_report(n_records=1, n_records_total=4), 101.0)
    terminal.end(an_ended_report(), 999.0)
    written = stream.getvalue().split("\r\x1b[K")
    assert written == [
        "",
        "wordcount: map  25% · 1 / 4 records · 1 records/s · about 3 s left · after 1 s",
        f"{line(an_ended_report(), 0)}\n",
    ]


def test_a_terminal_line_never_wraps():
    stream = io.StringIO()
    view = TerminalLine(stream)
    view.paint(a_report(name="x" * 200), 101.0)
    assert len(stream.getvalue().removeprefix("\r\x1b[K")) == 79
    view.end(an_ended_report(), 999.0)


def test_a_terminal_that_nobody_gave_a_size_gets_what_fits_into_80_columns():
    end, other = pty.openpty()
    assert os.get_terminal_size(other).columns == 0
    with open(end, "rb", buffering=0) as screen, open(other, "w") as stream:
        view = TerminalLine(stream)
        for name, shown in (("words", "words: map · 0 records so far · after 1 s"), ("x" * 200, "x" * 79)):
            view.paint(a_report(name=name), 101.0)
            assert screen.read(1 << 16).decode() == f"\r\x1b[K{shown}"
        view.end(an_ended_report(), 999.0)


def test_who_prints_aside_finds_no_progress_line_in_the_way():
    stream = io.StringIO()
    view = TerminalLine(stream)
    view.paint(a_report(), 101.0)
    with terminal.aside():
        stream.write("[local/1] hello\n")
    assert stream.getvalue().endswith("\r\x1b[K[local/1] hello\n")
    view.end(an_ended_report(), 999.0)
    with terminal.aside():
        pass
    assert stream.getvalue().endswith("slots\n")


def test_lines_of_other_jobs_may_appear_while_somebody_prints():
    views = [TerminalLine(io.StringIO())]
    views[0].paint(a_report(), 101.0)
    n_seen = 0

    def another_job(frame: Any, event: str, arg: Any) -> Any:
        """Called between any two lines of code, as another thread may be."""
        views.append(TerminalLine(io.StringIO()))
        views[-1].paint(a_report(), 101.0)
        return another_job

    tracing = sys.gettrace()
    sys.settrace(another_job)
    try:
        with terminal.aside():
            sys.settrace(tracing)
            n_seen = len(views)
    finally:
        sys.settrace(tracing)
    assert n_seen > 1
    for view in views:
        view.end(an_ended_report(), 999.0)


# Which front end


class Shell:
    """As much of IPython's shell as progress asks."""

    execution_count = 7

    def __init__(self, parent: dict[str, Any] | None) -> None:
        self.kernel = None if parent is None else object()
        self._parent = parent

    def get_parent(self) -> dict[str, Any] | None:
        return self._parent


@pytest.fixture
def in_shell(monkeypatch):
    """Run as if this shell were IPython's."""
    monkeypatch.delenv("JMR_PROGRESS", raising=False)

    def enter(shell: Any) -> None:
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))

    return enter


def a_request(allow_stdin: bool = True, **metadata: Any) -> dict[str, Any]:
    return {"header": {"msg_id": "m1"}, "metadata": metadata, "content": {"allow_stdin": allow_stdin}}


def test_a_notebook_that_nobody_sits_at_gets_lines(in_shell):
    in_shell(Shell(a_request(allow_stdin=False, cellId="c1")))
    assert front_end(None, {}) is FrontEnd.TEXT


def test_voila_has_no_stdin_but_is_looked_at(in_shell):
    in_shell(Shell(a_request(allow_stdin=False)))
    assert front_end(None, {"SERVER_SOFTWARE": "voila/0.5"}) is FrontEnd.WIDGETS


def test_a_notebook_cell_gets_widgets(in_shell):
    in_shell(Shell(a_request(cellId="c1")))
    assert front_end(None, {}) is FrontEnd.WIDGETS


def test_colab_gets_widgets(in_shell, monkeypatch):
    in_shell(Shell(a_request()))
    monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace())
    assert front_end(None, {}) is FrontEnd.WIDGETS


def test_a_notebook_without_ipywidgets_gets_lines(in_shell, monkeypatch):
    in_shell(Shell(a_request(cellId="c1")))
    monkeypatch.setattr(where, "_has_ipywidgets", lambda: False)
    assert front_end(None, {}) is FrontEnd.TEXT


def test_a_console_gets_lines(in_shell):
    in_shell(Shell(a_request()))
    assert front_end(None, {}) is FrontEnd.TEXT


def test_a_terminal_gets_one_line_with_ipython_and_without(in_shell, monkeypatch):
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(isatty=lambda: True))
    for shell in (Shell(None), None):
        in_shell(shell)
        assert front_end(None, {"TERM": "xterm"}) is FrontEnd.TERMINAL


def test_a_script_whose_stderr_is_a_file_is_silent_unless_asked(in_shell):
    in_shell(None)
    assert front_end(None, {}) is FrontEnd.NONE
    assert front_end(True, {}) is FrontEnd.TEXT


def test_progress_false_is_silence_everywhere(in_shell):
    in_shell(Shell(a_request(cellId="c1")))
    assert front_end(False, {"JMR_PROGRESS": "text"}) is FrontEnd.NONE


@pytest.mark.parametrize("kind", FrontEnd)
def test_jmr_progress_overrides(in_shell, kind):
    in_shell(Shell(a_request(cellId="c1")))
    assert front_end(None, {"JMR_PROGRESS": f" {kind.value.upper()}"}) is kind


def test_a_wrong_jmr_progress_is_told_and_ignored(in_shell):
    in_shell(Shell(a_request(cellId="c1")))
    told: list[str] = []
    assert front_end(None, {"JMR_PROGRESS": "fancy"}, tell=told.append) is FrontEnd.WIDGETS
    assert told == ["JMR_PROGRESS is 'fancy', which is ignored; it can be one of: widgets, text, terminal, none."]


def test_an_ipywidgets_that_cannot_be_looked_for_is_told_and_lines_are_shown(in_shell, monkeypatch):
    def find_spec(name: str) -> None:
        raise ImportError("no widgets here")

    monkeypatch.setattr(where.importlib.util, "find_spec", find_spec)
    where._has_ipywidgets.cache_clear()
    in_shell(Shell(a_request(cellId="c1")))
    told: list[str] = []
    assert front_end(None, {}, tell=told.append) is FrontEnd.TEXT
    assert told == ["ipywidgets cannot be looked for, so progress is shown as text: ImportError: no widgets here"]


# Which cell


def test_output_is_routed_by_ipykernels_own_call_where_it_has_one(in_shell):
    calls = []
    shell = Shell(a_request())
    shell.set_thread_parent = lambda parent: calls.append(("set", parent)) or "token"
    shell.reset_thread_parent = lambda token: calls.append(("reset", token))
    in_shell(shell)
    with routing.routed_to({"header": "h"}):
        calls.append("inside")
    assert calls == [("set", {"header": "h"}), "inside", ("reset", "token")]


def test_output_is_routed_by_context_variables_in_older_kernels(in_shell, monkeypatch):
    variable: contextvars.ContextVar[Any] = contextvars.ContextVar("parent_header")
    shell = Shell(a_request())
    shell.display_pub = SimpleNamespace(_parent_header=variable)
    in_shell(shell)
    with routing.routed_to({"header": "h"}):
        assert variable.get() == "h"
    assert variable.get(None) is None


def test_without_a_kernel_routing_does_nothing(in_shell):
    in_shell(None)
    assert routing.current_parent() is None
    with routing.routed_to(None):
        pass


# All of it


def run_job(wanted: bool | None = None, seconds: float = 0.003) -> None:
    report = a_report(n_records=1, n_keys=1)
    with show(report, wanted):
        report.state, report.ended = State.DONE, report.started + seconds


class Terminal(io.StringIO):
    """What a user sees, and what only those see who look at the process's own stderr."""

    def __init__(self) -> None:
        super().__init__()
        self.complaints = io.StringIO()

    def isatty(self) -> bool:
        return True


@pytest.fixture
def in_a_terminal(in_shell, monkeypatch):
    """A script whose stderr is a terminal; returns what is written there."""
    stream = Terminal()
    for module in (where, painter):  # not sys itself: pytest changes its streams between a fixture and its test
        fake = SimpleNamespace(stderr=stream, __stderr__=stream.complaints, modules=sys.modules)
        monkeypatch.setattr(module, "sys", fake)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(painter, "later", Later(painter.FIRST_PAINT, look_every=0.001, stay=0.0))
    monkeypatch.setattr(painter, "_short_lines", painter._First(painter.MAX_SHORT_LINES))
    monkeypatch.setattr(painter, "_cards", painter._First(painter.MAX_CARDS))
    monkeypatch.setattr(painter, "_complaints", set())
    in_shell(None)
    return stream


def test_a_short_job_leaves_its_line_and_never_has_a_painter(in_a_terminal, monkeypatch):
    monkeypatch.setattr(Painter, "run", None)
    run_job()
    assert in_a_terminal.getvalue() == "wordcount: 1 record -> 1 key in 3.0 ms on 2 slots\n"
    assert not [thread for thread in threading.enumerate() if thread.name == "jmr-painter"]


def test_silence_is_silent(in_a_terminal):
    run_job(wanted=False)
    assert in_a_terminal.getvalue() == ""


def test_a_loop_of_short_jobs_falls_silent(in_a_terminal):
    for _ in range(100):
        run_job()
    assert len(in_a_terminal.getvalue().splitlines()) == painter.MAX_SHORT_LINES


def test_of_a_loop_of_long_jobs_the_first_leave_cards_and_the_others_lines(in_a_terminal, in_shell, monkeypatch):
    left: list[bool] = []
    monkeypatch.setattr(text, "displayed", lambda bundle, raw: left.append("<table" in bundle["text/html"]))
    for cell in ("m1", "m2"):
        in_shell(Shell(a_request(allow_stdin=False) | {"header": {"msg_id": cell}}))
        for _ in range(7):
            run_job()
            run_job(seconds=0.4)
    cards, lines = [False, True] * painter.MAX_CARDS, [False, False] * (7 - painter.MAX_CARDS)
    assert left == (cards + lines) * 2
    run_job(wanted=True, seconds=0.4)
    assert left[-1]


def test_each_cell_may_leave_lines_of_its_own(in_a_terminal, in_shell):
    shell = Shell(None)
    in_shell(shell)
    for _ in range(2):
        shell.execution_count += 1
        for _ in range(100):
            run_job()
    assert len(in_a_terminal.getvalue().splitlines()) == 2 * painter.MAX_SHORT_LINES


def test_who_asks_for_progress_sees_every_line(in_a_terminal):
    for _ in range(30):
        run_job(wanted=True)
    assert len(in_a_terminal.getvalue().splitlines()) == 30


def test_a_failing_painter_is_told_once_and_never_fails_the_job(in_a_terminal, monkeypatch):
    def fail(_: Any) -> None:
        raise OSError("no cell")

    monkeypatch.setattr(painter._Shown, "_cell", fail)
    run_job()
    run_job()
    assert in_a_terminal.complaints.getvalue() == "jmr: progress is not shown: OSError: no cell\n"


@pytest.mark.parametrize("kind", FrontEnd)
def test_a_report_knows_whether_a_live_view_is_to_come(in_a_terminal, monkeypatch, kind):
    monkeypatch.setenv("JMR_PROGRESS", kind.value)
    monkeypatch.setattr(painter.later, "delay", 1e6)
    report = a_report()
    with show(report, None):
        assert report.awaits_view == (kind is FrontEnd.WIDGETS)
        report.state, report.ended = State.DONE, 100.01
    assert not report.awaits_view


def test_a_live_view_is_awaited_until_its_first_picture():
    class Told(View):
        def paint(self, report: Report, now: float) -> None:
            awaited.append(report.awaits_view)

    awaited: list[bool] = []
    clock = Clock(ends_at=100.2)
    Painter(a_report(awaits_view=True), Told, clock, clock).run()
    assert awaited == [True, False, False]


def test_a_live_view_that_fails_is_awaited_no_longer(in_a_terminal, monkeypatch):
    def fail(shown: Any) -> None:
        raise OSError("no widgets")

    monkeypatch.setattr(painter._Shown, "_open_view", fail)
    report = a_report()
    shown = painter._Shown(report, FrontEnd.WIDGETS, None, None, always=False)
    assert painter.later.cancel(shown._begin)
    with pytest.raises(OSError, match="no widgets"):
        shown._run()
    assert not report.awaits_view


def test_what_is_wrong_with_the_surroundings_is_told_once_where_the_user_looks(in_a_terminal, monkeypatch):
    monkeypatch.setenv("JMR_PROGRESS", "fancy")
    run_job()
    run_job()
    told, *lines = in_a_terminal.getvalue().splitlines()
    assert told.startswith("jmr: JMR_PROGRESS is 'fancy', which is ignored")
    assert lines == ["wordcount: 1 record -> 1 key in 3.0 ms on 2 slots"] * 2
    assert in_a_terminal.complaints.getvalue() == ""


def test_a_picture_that_fails_is_told_and_the_view_ends_all_the_same(in_a_terminal):
    class Fails(View):
        def paint(self, report: Report, now: float) -> None:
            super().paint(report, now)
            if len(self.painted) > 1:
                raise ValueError("no colours")

    view, clock = Fails(), Clock(ends_at=101.0)
    Painter(a_report(), lambda: view, clock, clock).run()
    assert len(view.painted) == 9
    assert view.ended_with is State.RUNNING
    assert in_a_terminal.complaints.getvalue() == "jmr: progress is not shown: ValueError: no colours\n"


def test_a_view_that_fails_leaves_the_summary_line(in_a_terminal, monkeypatch):
    monkeypatch.setattr(painter.later, "delay", 0.0)
    failed = threading.Event()

    class Broken:
        def __init__(self, stream: Any) -> None:
            failed.set()
            raise OSError("no screen")

    monkeypatch.setattr(painter, "TerminalLine", Broken)
    report = a_report(n_records=1, n_keys=1)
    with show(report, None):
        assert failed.wait(10)
        report.state, report.ended = State.DONE, 102.0
    assert in_a_terminal.getvalue() == "wordcount: 1 record -> 1 key in 2.00 s on 2 slots\n"
    assert "OSError: no screen" in in_a_terminal.complaints.getvalue()


def test_a_job_behind_a_prompt_leaves_it_alone_until_its_end(in_a_terminal, in_shell, monkeypatch):
    in_shell(Shell(None))
    monkeypatch.setattr(painter.later, "delay", 0.0)
    above_the_prompt = Terminal()

    def job():
        report = a_report(n_records=1, n_keys=1)
        with show(report, None):
            assert not painter.later._due, "no painter will begin"
            painter.sys.stderr = above_the_prompt
            report.state, report.ended = State.DONE, 102.0

    thread = threading.Thread(target=job)
    thread.start()
    thread.join(10)
    assert in_a_terminal.getvalue() == in_a_terminal.complaints.getvalue() == ""
    assert above_the_prompt.getvalue() == "wordcount: 1 record -> 1 key in 2.00 s on 2 slots\n"


def test_the_jobs_own_error_comes_out_of_show(in_a_terminal):
    report = a_report()
    report.state, report.ended = State.FAILED, 100.5
    with pytest.raises(ZeroDivisionError), show(report, None):
        1 / 0
    assert in_a_terminal.getvalue() == "wordcount: failed after 500 ms on 2 slots\n"


def test_the_line_of_a_running_job_is_painted_by_a_thread(in_a_terminal, monkeypatch):
    painted = threading.Event()

    class Told(TerminalLine):
        def paint(self, *args: Any) -> None:
            super().paint(*args)
            painted.set()

    monkeypatch.setattr(painter.later, "delay", 0.0)
    monkeypatch.setattr(painter, "TerminalLine", Told)
    report = a_report(n_records=1, n_records_total=2, n_pairs=1)
    with show(report, None):
        assert painted.wait(10)
        report.state, report.ended = State.DONE, 102.0
    first, *_, last = in_a_terminal.getvalue().split("\r\x1b[K")[1:]
    assert first.startswith("wordcount: map  50% · 1 / 2 records")
    assert last == "wordcount: 1 record -> 0 keys in 2.00 s on 2 slots\n"


def test_a_job_s_name_is_one_short_line_that_can_be_printed():
    plan = Plan.checked({}, len, name="exe.\u202egpj\x1b[2J\n" + "x" * 10**6)
    assert plan.name.startswith("exe.\\u202egpj\\x1b[2J xxx")
    assert len(plan.name) == 100
