"""IPython in a terminal, as somebody types in it: a pseudo terminal, and what appears there."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import jmr

TOP = Path(jmr.__file__).parents[1]
DEADLINE = 30.0
_COLOURS_AND_MOVES = re.compile(r"\x1b\[[?\d;]*[A-Za-z]|\x1b\][^\x07]*\x07")


class Terminal:
    """IPython, and what it has written since it was last waited for."""

    def __init__(self, home: Path) -> None:
        self._end, other = pty.openpty()
        environment = {"TERM": "xterm", "IPYTHONDIR": str(home), "PYTHONPATH": str(TOP), "PROMPT_TOOLKIT_NO_CPR": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "IPython", "--no-banner", "--no-confirm-exit", "--colors=NoColor"],
            env={name: value for name, value in os.environ.items() if name != "JMR_PROGRESS"} | environment,
            stdin=other,
            stdout=other,
            stderr=other,
            start_new_session=True,
        )
        os.close(other)
        self._said = b""

    def type(self, keys: str) -> None:
        os.write(self._end, keys.encode())

    def until(self, text: str) -> str:
        """Wait until this has appeared; all that has appeared since."""
        deadline = time.monotonic() + DEADLINE
        while text not in (shown := _COLOURS_AND_MOVES.sub("", self._said.decode(errors="replace"))):
            ready = select.select([self._end], [], [], max(0.0, deadline - time.monotonic()))[0]
            assert ready, f"no {text!r}, but {shown!r}"
            self._said += os.read(self._end, 1 << 16)
        raw, self._said = self._said.decode(errors="replace"), b""
        return raw

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._end)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path / "ipython")
    yield terminal
    terminal.close()


@pytest.mark.slow
def test_a_submitted_job_leaves_what_somebody_types_alone(terminal: Terminal, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    (tmp_path / "waiting.py").write_text(
        "import jmr\n"
        "from jmr.views import painter\n"
        "painter.later.delay = 0.0\n"
        "def mapfn(key, value):\n"
        f"    open({str(gate)!r}).read()\n"
        "    print('from mapfn')\n"
        "    return [(key, value)]\n"
        "job = jmr.submit({1: 1}, mapfn, workers=1, name='slow')\n"
    )
    terminal.until("In [1]:")
    terminal.type(f"%run {tmp_path / 'waiting.py'}\r")
    terminal.until("In [2]:")
    terminal.type("'half a li")
    terminal.until("'half a li")
    with open(gate, "w"):
        pass
    shown = terminal.until("slow: 1 record -> 1 key in ")
    assert re.search(r"\[local/\d\] from mapfn\r\n", shown)
    assert "\r\x1b[K" not in shown, "no line is written over"
    terminal.type("ne'\r")
    assert "slow: map" not in terminal.until("Out[2]: 'half a line'")
