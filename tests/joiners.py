"""`jmr-worker` as a user starts it: in a process of its own, with a home directory of the test's.

It must never see the token of whoever runs the tests.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import jmr

TOP = Path(jmr.__file__).parents[1]
WORKER = "from jmr.cli import worker_main; raise SystemExit(worker_main())"
MAIN = "from jmr.cli import main; raise SystemExit(main())"
DEADLINE = 20.0
_MARK = "JMR_TEST_MARK"
_TAKES_LONG = re.compile(r"^(.* )?jmr-worker: finishing what runs.*\n", re.MULTILINE)


class Command:
    """A command that runs, and what it says on stderr.

    Parameters
    ----------
    arguments
        Of the command.
    program
        What Python is to run.
    python
        Which Python.
    env
        Besides this process's own; None takes a variable out.
    options
        Of `subprocess.Popen`.
    """

    def __init__(
        self,
        *arguments: object,
        program: str = WORKER,
        python: str = sys.executable,
        env: dict[str, str | None] | None = None,
        **options: Any,
    ) -> None:
        self._mark = f"{_MARK}={uuid.uuid4().hex}"
        path = os.pathsep.join(filter(None, [str(TOP), os.environ.get("PYTHONPATH")]))
        changes = {"PYTHONPATH": path, "PYTHONWARNINGS": "error", _MARK: self._mark.partition("=")[2]} | (env or {})
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        self.process = subprocess.Popen(
            [python, "-c", program, *map(str, arguments)],
            env={name: value for name, value in (os.environ | changes).items() if value is not None},
            start_new_session=True,
            **options,
        )
        self._said = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
        self.await_nobody()

    def line(self) -> str:
        """The next line on stderr, in time."""
        end = time.monotonic() + DEADLINE
        assert self.process.stderr is not None
        while b"\n" not in self._said:
            assert select.select([self.process.stderr], [], [], max(0, end - time.monotonic()))[0], self._said
            part = os.read(self.process.stderr.fileno(), 4096)
            assert part, f"it has ended, with {self._said!r}"
            self._said += part
        line, _, self._said = self._said.partition(b"\n")
        return line.decode()

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def end(self) -> tuple[int, str]:
        """Wait for its end; returns its exit code, and what it still said.

        Without the words on an end that takes more than half a second: on a slow machine any end may.
        """
        out, said = self.process.communicate(timeout=DEADLINE)
        self.out = out.decode() if out is not None else ""
        return self.process.returncode, _TAKES_LONG.sub("", (self._said + (said or b"")).decode())

    def family(self) -> dict[int, Path]:
        """All processes that it, and what it started, has started, by pid."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended, or is somebody else's
                if self._mark.encode() in (folder / "environ").read_bytes():
                    found[int(folder.name)] = folder
        return found

    def await_nobody(self) -> None:
        """Wait until all of them have ended."""
        end = time.monotonic() + DEADLINE
        for pid in self.family():
            with contextlib.suppress(ProcessLookupError), open(os.pidfd_open(pid)) as process:
                assert select.select([process], [], [], max(0, end - time.monotonic()))[0], f"{pid} is still there"


def worker(*arguments: object, **options: Any) -> tuple[int, str]:
    """Run jmr-worker to its end: its exit code, and what it said."""
    with Command(*arguments, **options) as command:
        return command.end()


def other_pythons() -> Iterator[tuple[str, str]]:
    """Interpreters of other minor versions that jmr runs on, each with its version: those that tests/run finds."""
    for minor in range(11, 15):
        version = f"3.{minor}"
        pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
        folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
        for folder in [*folders, *pyenv.glob("versions/*/bin")]:
            python = folder / f"python{version}"
            if minor != sys.version_info[1] and os.access(python, os.X_OK) and _is_whole(python, version):
                yield str(python), version
                break


def _is_whole(python: Path, version: str) -> bool:
    """Whether it is a CPython with TLS; a shim of pyenv's is none where its version is switched off."""
    check = "import ssl, sys; print(sys.implementation.name, '%d.%d' % sys.version_info[:2])"
    ran = subprocess.run([python, "-c", check], capture_output=True, text=True, check=False)
    return ran.stdout.split() == ["cpython", version]
