"""The coordinator's end of a worker, with a real supervisor and an owner that only takes notes."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from jmr.coordinator import local as coordinator_local
from jmr.coordinator import worker as coordinator_worker
from jmr.coordinator.local import LocalWorker
from jmr.coordinator.worker import Answer, Slot
from jmr.launch.local import start_local
from jmr.wire.messages import Drained, Measured, Printed, SlotExited

pytestmark = pytest.mark.slow


class Notes:
    """An owner; what it was told, in order."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()

    def guard(self, function: Callable[..., None]) -> Callable[..., None]:
        return function

    def slot_joined(self, slot: Slot) -> None:
        self.told.put_nowait(("joined", slot.name))

    def slot_unwanted(self, slot: Slot) -> None:
        self.told.put_nowait(("unwanted", slot.name))

    def slot_answered(self, slot: Slot, answer: Answer) -> None:
        self.told.put_nowait(("answered", slot.name))

    def slot_died(self, slot: Slot, exited: SlotExited | None) -> None:
        self.told.put_nowait(("died", exited.status) if exited else ("lost", slot.name))

    def printed(self, printed: Printed) -> None:
        self.told.put_nowait(("printed", printed.job))

    def measured(self, worker: LocalWorker, measured: Measured) -> None:
        self.told.put_nowait(("measured", measured.limit_bytes))

    def drained(self, token: int) -> None:
        self.told.put_nowait(("drained", token))

    def worker_broke(self, reason: str) -> None:
        self.told.put_nowait(("broke", reason))

    async def next(self) -> tuple[str, Any]:
        return await asyncio.wait_for(self.told.get(), 20)


@asynccontextmanager
async def worker_of(notes: Notes, directory: Path, n_slots: int) -> AsyncIterator[LocalWorker]:
    worker = LocalWorker(notes, [str(directory)], start_local([str(directory)]), n_slots, itertools.count(1))
    worker.attach()
    try:
        yield worker
    finally:
        worker.close()
        await asyncio.sleep(0)  # lets the closed connections be noticed
        await asyncio.to_thread(worker.join)


def supervisor(worker: LocalWorker) -> int:
    assert worker._supervisor is not None
    return worker._supervisor.process.pid


def test_a_slot_joins_dies_and_another_takes_its_place(tmp_path: Path) -> None:
    async def story() -> None:
        notes = Notes()
        async with worker_of(notes, tmp_path / "spill", 1) as worker:
            assert await notes.next() == ("joined", "local/1")
            worker.kill(worker.slots[0].number)
            assert await notes.next() == ("died", -signal.SIGKILL)
            assert await notes.next() == ("joined", "local/1")
            worker.drain(3)
            assert await notes.next() == ("drained", 3)
            worker.resize(0)
            assert await notes.next() == ("unwanted", "local/1")

    asyncio.run(story())


def test_what_a_lost_supervisor_was_asked_is_answered(tmp_path: Path) -> None:
    async def story() -> None:
        notes = Notes()
        async with worker_of(notes, tmp_path / "spill", 0) as worker:
            os.kill(supervisor(worker), signal.SIGSTOP)
            worker.drain(7)
            os.kill(supervisor(worker), signal.SIGKILL)
            assert await notes.next() == ("drained", 7)

    asyncio.run(story())


def test_a_worker_that_keeps_dying_breaks_and_may_be_tried_again(tmp_path: Path) -> None:
    async def story() -> None:
        notes = Notes()
        async with worker_of(notes, tmp_path / "spill", 0) as worker:
            for token in range(3):
                os.kill(supervisor(worker), signal.SIGSTOP)
                worker.drain(token)
                os.kill(supervisor(worker), signal.SIGKILL)
                assert await notes.next() == ("drained", token)
            assert await notes.next() == ("broke", "the worker on this host does not start: it says nothing")
            assert worker._supervisor is None
            worker.drain(8)
            assert await notes.next() == ("drained", 8)
            worker.try_again()
            worker.resize(1)
            assert await notes.next() == ("joined", "local/1")

    asyncio.run(story())


def test_a_supervisor_whose_coordinator_is_killed_while_it_starts_leaves_no_directory(tmp_path: Path) -> None:
    directory = tmp_path / "spill"
    directory.mkdir()
    starting = start_local([str(directory)])
    assert starting.last_words() == ""
    assert starting.process.returncode == 0
    assert not directory.exists()


@pytest.mark.parametrize("what", ["kill", "watch"])
def test_a_supervisor_that_somebody_has_stopped_is_let_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(coordinator_local, "_OBEY_SECONDS", 0.1)

    async def story() -> None:
        notes = Notes()
        async with worker_of(notes, tmp_path / "spill", 1) as worker:
            assert await notes.next() == ("joined", "local/1")
            stopped = supervisor(worker)
            os.kill(stopped, signal.SIGSTOP)
            if what == "kill":
                worker.kill(worker.slots[0].number)
                assert await notes.next() == ("died", -signal.SIGKILL)
                assert await notes.next() == ("joined", "local/1")
            else:
                worker.watch(is_on=True)
                assert (await notes.next())[0] == "measured"
                worker.drain(7)
                while (told := await notes.next())[0] == "measured":
                    pass
                assert told == ("drained", 7)
            assert supervisor(worker) == stopped

    asyncio.run(story())


def test_a_supervisor_that_does_not_do_what_it_is_told_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator_local, "_OBEY_SECONDS", 0.1)

    async def story() -> None:
        notes = Notes()
        async with worker_of(notes, tmp_path / "spill", 1) as worker:
            assert await notes.next() == ("joined", "local/1")
            stopped = supervisor(worker)
            stays_stopped(worker, monkeypatch)
            worker.kill(worker.slots[0].number)
            assert await notes.next() == ("lost", "local/1")
            assert await notes.next() == ("joined", "local/1")
            assert supervisor(worker) != stopped

    asyncio.run(story())


def stays_stopped(worker: LocalWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop its supervisor, whoever lets it go on."""
    pid = supervisor(worker)
    os.kill(pid, signal.SIGSTOP)
    kill = os.kill
    monkeypatch.setattr(
        os, "kill", lambda to, number: None if (to, number) == (pid, signal.SIGCONT) else kill(to, number)
    )


def test_how_a_slot_died_is_told_though_its_supervisor_is_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coordinator_worker, "_GRACE_SECONDS", 0.0)

    async def story() -> None:
        notes = Notes()
        async with worker_of(notes, tmp_path / "spill", 1) as worker:
            assert await notes.next() == ("joined", "local/1")
            (slot,) = worker.slots
            worker.drain(7)  # the slot may join before the supervisor has let go of its connection
            assert await notes.next() == ("drained", 7)
            pid = supervisor(worker)
            (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            os.kill(pid, signal.SIGSTOP)
            os.kill(int(child), signal.SIGSEGV)
            while not slot.hung_up:
                await asyncio.sleep(0)
            os.kill(pid, signal.SIGCONT)
            assert await notes.next() == ("died", -signal.SIGSEGV)

    asyncio.run(story())


def test_a_supervisor_that_does_what_it_is_told_stays(tmp_path: Path) -> None:
    async def story() -> None:
        notes = Notes()
        async with worker_of(notes, tmp_path / "spill", 1) as worker:
            assert await notes.next() == ("joined", "local/1")
            worker.kill(worker.slots[0].number)
            assert await notes.next() == ("died", -signal.SIGKILL)
            assert await notes.next() == ("joined", "local/1")
            assert worker._obeying is None

    asyncio.run(story())


def test_a_supervisor_is_asked_again_if_it_was_told_more_since(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coordinator_local, "_OBEY_SECONDS", 0.1)

    async def story() -> None:
        notes = Notes()
        async with worker_of(notes, tmp_path / "spill", 2) as worker:
            assert {await notes.next(), await notes.next()} == {("joined", "local/1"), ("joined", "local/2")}
            stays_stopped(worker, monkeypatch)
            for slot in worker.slots:
                worker.kill(slot.number)
            worker._hear_supervisor(Drained(coordinator_local._OBEYED))  # to the first, just before it was stopped
            assert {await notes.next(), await notes.next()} == {("lost", "local/1"), ("lost", "local/2")}

    asyncio.run(story())


def test_a_supervisor_that_is_stopped_ends_with_its_coordinator(tmp_path: Path) -> None:
    (tmp_path / "spill").mkdir()

    async def story() -> None:
        notes = Notes()
        async with worker_of(notes, tmp_path / "spill", 1) as worker:
            assert await notes.next() == ("joined", "local/1")
            os.kill(supervisor(worker), signal.SIGSTOP)

    asyncio.run(story())
    assert not (tmp_path / "spill").exists()
