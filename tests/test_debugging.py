"""In IPython: %debug after a replay, and --debug, which opens the debugger where a job has failed."""

from __future__ import annotations

import bdb
import io
import pickle
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

import jmr
from jmr.engines import replay as engines_replay
from jmr.notebook.debugging import debugged
from tests.shells import plain

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

ENGINES = [None, "inline"]


@pytest.fixture
def debugger(ip: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Gives whoever asks in a debugger these commands, one a line; IPython keeps its debugger, with its streams."""
    ip.run_cell("%pdb off")

    def answer(commands: str) -> None:
        monkeypatch.setattr(ip.InteractiveTB, "pdb", None)
        monkeypatch.setattr(sys, "stdin", io.StringIO(commands))

    return answer


CELL = """
def mapfn(key, value):
    text = value.upper()
    return [(key, int(text))]
"""


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return plain("".join(capsys.readouterr()))


def test_debug_stops_in_the_users_frame_after_a_replay(ip, capsys, debugger):
    ip.run_cell(CELL)
    assert not ip.run_cell("jmr.run({'a': '1', 'b': 'x'}, mapfn, progress=False)").success
    capsys.readouterr()
    assert not ip.run_cell("jmr.replay()").success
    shown = said(capsys)
    assert "ValueError: invalid literal for int() with base 10: 'X'" in shown
    assert "----> 3     return [(key, int(text))]" in shown
    assert "jmr/" not in shown
    debugger("p (key, value, text)\nup\np __name__\nq\n")
    ip.run_cell("%debug")
    shown = said(capsys)
    assert "('b', 'x', 'X')" in shown
    assert "'__main__'" in shown, "above it there is nothing of ours"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("magic", ["cell", "line", "file"])
def test_the_debug_option_opens_a_debugger_at_the_record(  # noqa: PLR0917
    ip, capsys, debugger, tmp_path, engine, magic
):
    source = "source = {'a': '1', 'b': 'x'}"
    inline = "--engine inline" if engine else ""
    (tmp_path / "job.py").write_text(source + CELL)
    cells = {
        "cell": f"%%mapreduce --debug {inline}\n{source}{CELL}",
        "line": f"{source}{CELL}\nresult = %mapreduce source mapfn --debug {inline}",
        "file": f"%mapreduce {tmp_path}/job.py --debug {inline}",
    }
    debugger("p ('here', key, text)\nq\n")
    result = ip.run_cell(cells[magic])
    assert isinstance(result.error_in_exec, jmr.MapError)
    shown = said(capsys)
    assert "('here', 'b', 'X')" in shown
    assert shown.count("Traceback") == 1, "the job's own error is a line below"
    assert "hidden" not in shown, "there is nothing of ours"
    assert (
        shown.index("ValueError: invalid") < shown.index("('here'") < shown.index("MapError: mapfn raised ValueError")
    )
    assert pickle.loads(pickle.dumps(result.error_in_exec)).key == "b"


def test_whoever_quits_at_a_breakpoint_is_in_no_other_debugger(ip, monkeypatch):
    def quits() -> None:
        raise bdb.BdbQuit

    monkeypatch.setattr(sys, "breakpointhook", quits)
    monkeypatch.setattr(ip, "debugger", lambda **_: pytest.fail("a second debugger"))
    ip.user_ns["source"] = {1: 2}
    result = ip.run_cell("%%mapreduce --debug\ndef mapfn(key, value):\n    breakpoint()")
    assert isinstance(result.error_in_exec, jmr.MapError)


def test_the_debug_option_changes_nothing_where_nothing_fails(ip):
    result = ip.run_cell("%mapreduce {1:2} (lambda,k,v:[(k,v)]) --debug".replace("lambda,", "lambda "))
    assert result.result == {1: [2]}


def test_the_debug_option_says_why_there_is_no_debugger(ip, capsys, debugger, monkeypatch):
    debugger("")
    assert not ip.run_cell("source = 5" + CELL + "\n%mapreduce source mapfn --debug").success
    assert "--debug: the job failed at no single record, so there is nothing to step through." in said(capsys)
    cell = "source = {1: 'x'}" + CELL + "\n%mapreduce source mapfn --debug"
    with monkeypatch.context() as patch:
        patch.setattr(engines_replay, "MOST_KEPT_BYTES", 3)
        ip.run_cell(cell)
    assert "--debug: the record is not known here: it takes more than" in said(capsys)


def test_no_debugger_is_opened_where_nobody_can_answer_it() -> None:
    calls: list[int] = []

    def mapfn(key: int, value: int) -> Any:
        calls.append(key)
        return [][key]

    shell = SimpleNamespace(kernel=SimpleNamespace(_allow_stdin=False))
    with pytest.raises(jmr.MapError) as caught:
        debugged(shell, lambda: jmr.run({1: 0}, mapfn, engine="inline", progress=False))
    assert caught.value.__notes__ == [
        "--debug: this front end takes no input (it has no stdin), so no debugger could be opened."
    ]
    assert calls == [1], "nor is anything replayed"


@pytest.mark.slow
def test_the_debug_option_does_not_end_the_kernel(ip, capsys, debugger):
    debugger("")
    cell = "import os\n%mapreduce {1:2} (lambda k, v: os._exit(3)) --debug --max-attempts 1"
    assert isinstance(ip.run_cell(cell).error_in_exec, jmr.SlotDiedError)
    assert "--debug: what ends its process would end the kernel" in said(capsys)


def test_a_bad_record_is_replayed_in_a_cell_and_debugged(ip, capsys, debugger):
    ip.run_cell(CELL)
    ip.run_cell("result = jmr.run({'a': 'y', 'b': 'x'}, mapfn, progress=False, on_error='skip')")
    assert not ip.run_cell("result.errors[1].replay()").success
    assert "jmr/" not in said(capsys)
    debugger("p (key, text)\nq\n")
    ip.run_cell("%debug")
    assert "('b', 'X')" in said(capsys)
