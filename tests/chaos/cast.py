"""The processes: a kernel with slots of its own, and workers behind relays; and what can be done to each.

    kernel ── supervisor ── slots
       ^
       └── relay ── worker ── supervisor ── slots

All are found through /proc, from those that were started here.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from tests.chaos.relay import Relay
from tests.chaos.script import Script
from tests.joiners import WORKER, Command
from tests.ports import free_port
from tests.remote import QUICK, TOKEN

__all__ = ["Cast", "Member"]

_KERNEL = f"{QUICK}\nimport sys\nfrom tests.chaos.kernel import main\nmain(int(sys.argv[1]), int(sys.argv[2]))"
_WORKER = f"{QUICK}\nimport jmr.launch.joining\njmr.launch.joining._LONGEST_PAUSE = 0.5\n{WORKER}"


class Member:
    """The kernel, or a worker: a process, and all that it has started."""

    def __init__(self, name: str, command: Command) -> None:
        self.name = name
        self.command = command

    @property
    def pid(self) -> int:
        """Of its first process."""
        return self.command.process.pid

    @property
    def is_there(self) -> bool:
        """Whether that has not ended."""
        return self.command.process.poll() is None

    def supervisors(self) -> list[int]:
        """Those that live."""
        return children_of(self.pid)

    def slots(self) -> list[int]:
        """Those that live."""
        return [slot for supervisor in self.supervisors() for slot in children_of(supervisor)]

    def folders(self) -> set[Path]:
        """Directories of ours that its processes hold."""
        found = set()
        for pid in self.command.family():
            with contextlib.suppress(OSError):  # it has ended
                for file in Path(f"/proc/{pid}/fd").iterdir():
                    with contextlib.suppress(OSError):
                        found.add(file.readlink())
        return {path for path in found if path.name.startswith("jmr-") and path.is_dir()}


class Cast:
    """All of them; ends them when its `with` block ends."""

    def __init__(self, script: Script, folder: Path) -> None:
        self._script = script
        self._folder = folder
        self._port = free_port()
        self._stack = contextlib.ExitStack()
        self._said = b""
        #: What the kernel and the workers write on standard error.
        self.notes = self._stack.enter_context(open(folder / "stderr", "w+b"))
        self.relays = [self._stack.enter_context(Relay(self._port)) for _ in script.slots]
        #: Every directory that was ever seen.
        self.folders: set[Path] = set()
        self.gone: list[Member] = []
        self.workers: list[Member | None] = [None] * len(script.slots)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for member in self.members():
            for pid in member.command.family():
                send(pid, signal.SIGKILL)
        self._stack.close()

    def members(self) -> Iterator[Member]:
        """All that were ever started."""
        yield from self.gone
        yield from filter(None, [getattr(self, "kernel", None), *self.workers])

    def present(self) -> list[Member]:
        """The kernel, and the workers that were started last."""
        return [self.kernel, *filter(None, self.workers)]

    def start_kernel(self) -> None:
        """Start the kernel, where the one before it was."""
        if hasattr(self, "kernel"):
            self.gone.append(self.kernel)
        self._said = b""
        self.kernel = self._start("kernel", _KERNEL, self._script.n_local, self._port, stdin=subprocess.PIPE)
        assert self.kernel.command.process.stdin is not None
        self._stack.callback(self.kernel.command.process.stdin.close)

    def start_worker(self, index: int) -> None:
        """Start a worker, in the place of one that has ended."""
        before = self.workers[index]
        if before is not None:
            self.gone.append(before)
        where = f"127.0.0.1:{self.relays[index].port}"
        name = f"worker {index}"
        self.workers[index] = self._start(name, _WORKER, where, "--slots", self._script.slots[index], "-v")

    def tell(self, *words: object) -> None:
        """Have the kernel do something."""
        assert self.kernel.command.process.stdin is not None
        os.write(self.kernel.command.process.stdin.fileno(), f"{' '.join(map(str, words))}\n".encode())

    def hear(self, seconds: float) -> dict[str, Any] | None:
        """What the kernel says next; None if it says nothing for so long. Raises EOFError when it has ended."""
        end = time.monotonic() + seconds
        while b"\n" not in self._said:
            if not select.select([self._stdout], [], [], max(0.0, end - time.monotonic()))[0]:
                return None
            part = os.read(self._stdout, 1 << 16)
            if not part:
                raise EOFError
            self._said += part
        line, _, self._said = self._said.partition(b"\n")
        said: dict[str, Any] = json.loads(line)
        return said

    def look(self) -> None:
        """Note which directories there are."""
        for member in self.members():
            if member.is_there:
                self.folders |= member.folders()

    @property
    def _stdout(self) -> int:
        assert self.kernel.command.process.stdout is not None
        return self.kernel.command.process.stdout.fileno()

    def _start(self, name: str, program: str, *arguments: object, **options: Any) -> Member:
        env: dict[str, str | None] = {
            "JMR_TOKEN": TOKEN,
            "JMR_TMP": str(self._folder),
            "HOME": str(self._folder),
            "JMR_MEMORY": "16M" if self._script.is_short_of_memory else None,
        }
        command = Command(*arguments, program=program, env=env, stderr=self.notes, **options)
        self._stack.enter_context(command)
        return Member(name, command)


def children_of(pid: int) -> list[int]:
    """A process's own children, in the order of their pids."""
    found: list[int] = []
    with contextlib.suppress(OSError):  # it has ended
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found += map(int, (task / "children").read_text().split())
    return sorted(found)


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to one that was just there."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
