"""A supervisor without slots, whose coordinator is the test: when it measures memory, and what it makes of a kill."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from jmr.wire.frames import Receiver, encode
from jmr.wire.messages import Measured, Message, Watch
from jmr.worker.memory import OomKills
from jmr.worker.supervisor import Supervisor


class Coordinator:
    """The other end."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair()
        self._ours.setblocking(False)
        self.supervisor = Supervisor(theirs)
        self._receiver = Receiver()

    def say(self, message: Message) -> None:
        """Have the supervisor hear it."""
        self._ours.sendall(b"".join(encode(message)))
        assert self.supervisor._read_connection()

    def heard(self) -> list[Message]:
        messages: list[Message] = []
        with contextlib.suppress(BlockingIOError):
            while data := self._ours.recv(1 << 16):
                messages += self._receiver.feed(data)
        return messages

    def close(self) -> None:
        for end in (self._ours, self.supervisor._connection, self.supervisor._wakeup, self.supervisor._wakeup_end):
            end.close()
        self.supervisor._selector.close()


@pytest.fixture
def coordinator() -> Iterator[Coordinator]:
    coordinator = Coordinator()
    yield coordinator
    coordinator.close()


def test_it_measures_while_somebody_watches_and_then_sleeps(coordinator):
    supervisor = coordinator.supervisor
    coordinator.say(Watch(is_on=True))
    assert supervisor._measure_at <= time.monotonic()
    supervisor._measure(1000.0)
    (measured,) = coordinator.heard()
    assert isinstance(measured, Measured)
    assert measured.slots == []
    assert supervisor._measure_at == 1001.0
    coordinator.say(Watch(is_on=False))
    supervisor._measure(1001.0)
    assert coordinator.heard() == []
    assert supervisor._measure_at is None


def test_it_does_not_wait_for_a_coordinator_that_reads_nothing(coordinator):
    coordinator.say(Watch(is_on=True))
    for second in range(10_000):
        coordinator.supervisor._measure(float(second))
        if not coordinator.supervisor._may_send():
            break
    assert 10 < second < 9_999
    coordinator.supervisor._measure(20_000.0)
    assert len(coordinator.heard()) == second + 1
    coordinator.supervisor._measure(20_001.0)
    assert len(coordinator.heard()) == 1


@pytest.mark.parametrize(
    ("code", "is_unwanted", "was_oom"),
    [
        (-signal.SIGKILL, False, True),
        (-signal.SIGKILL, True, False),
        (-signal.SIGSEGV, False, False),
        (1, False, False),
    ],
)
def test_only_a_kill_that_nobody_here_has_sent_may_be_for_want_of_memory(coordinator, code, is_unwanted, was_oom):
    kills = iter([0, 1, 1])
    supervisor = coordinator.supervisor
    child = SimpleNamespace(is_unwanted=is_unwanted)
    assert supervisor._was_oom(child, code) is False, "so early, nobody counts"
    supervisor._oom_kills = OomKills(lambda: next(kills))
    assert [supervisor._was_oom(child, code) for _ in range(2)] == [was_oom, False]


@pytest.mark.slow
def test_the_first_job_does_not_wait_for_what_few_jobs_need():
    script = "import sys, jmr.worker.supervisor; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"pathlib", "glob", "tornado", "asyncio", "jmr.worker.memory", "jmr.worker.abroad"} & set(out)
