"""Slots that somebody has stopped: for how long that is borne, and what becomes of their tasks."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

import jmr
from jmr.coordinator import desk
from jmr.coordinator import local as coordinator_local
from jmr.launch import agent, local
from jmr.wire.messages import Measured, Message, Watch
from jmr.worker.stops import Stops


def ended_at(watched: Stops, *, until: int, since: int = 0) -> dict[int, int]:
    """By slot, the second in which it is to be ended, if we look every second."""
    return {slot: second for second in range(since, until) for slot in watched.too_long(float(second))}


def test_a_slot_is_ended_once_when_it_was_stopped_for_a_minute():
    watched = Stops()
    watched.stopped(1, 0.0)
    watched.stopped(2, 20.0)
    assert watched.check_at is not None
    assert ended_at(watched, since=1, until=200)[1] == 60


def test_each_slot_has_a_minute_of_its_own():
    watched = Stops()
    watched.stopped(1, 0.0)
    assert ended_at(watched, since=1, until=21) == {}
    watched.stopped(2, 20.5)
    assert ended_at(watched, since=21, until=200) == {1: 60, 2: 81}


def test_a_slot_that_goes_on_has_the_next_time_a_minute_again():
    watched = Stops()
    watched.stopped(1, 0.0)
    assert ended_at(watched, since=1, until=60) == {}
    watched.went_on(1)
    assert watched.check_at is None
    watched.stopped(1, 1000.0)
    assert ended_at(watched, since=1001, until=1100) == {1: 1060}


def test_while_we_stood_still_ourselves_nobody_was_late():
    watched = Stops()
    watched.stopped(1, 0.0)
    assert watched.too_long(1.0) == []
    assert watched.too_long(500.0) == []
    assert ended_at(watched, since=501, until=600) == {1: 557}


def test_nobody_looks_where_nobody_is_stopped():
    watched = Stops()
    assert watched.check_at is None
    watched.went_on(1)
    watched.stopped(1, 5.0)
    assert watched.check_at == 6.0
    watched.went_on(1)
    assert watched.check_at is None


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Supervisors that bear a stopped slot for 0.2 s."""
    program = local._program
    begins = "from jmr.worker.supervisor"
    sooner = f"from jmr.worker import stops; stops.MOST_SECONDS = 0.2; stops.CHECK_SECONDS = 0.05; {begins}"
    monkeypatch.setattr(local, "_program", lambda *given: program(*given).replace(begins, sooner))


@pytest.mark.slow
def test_the_task_of_a_slot_that_stays_stopped_runs_again_and_is_not_to_blame(impatient: None, tmp_path: Path) -> None:
    def stopped_once(key: int, value: int) -> list[tuple[str, int]]:
        if key == 1:
            try:
                os.close(os.open(tmp_path / "stopped", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGSTOP)
        return [("sum", value)]

    with jmr.Cluster(workers=1) as cluster:
        source = {1: 1, 2: 2, 3: 4}
        result = jmr.run(source, stopped_once, lambda key, values: sum(values), max_attempts=1, engine=cluster)
    assert result == {"sum": 7}
    assert [attempt.outcome for attempt in result.timeline].count("stopped") == 1
    assert {attempt.outcome for attempt in result.timeline} == {"done", "stopped"}
    assert "local/1 was stopped by a signal for a minute, and its work done again" in str(result.summary)


@pytest.mark.slow
def test_a_slot_that_is_stopped_for_a_moment_goes_on(impatient: None, tmp_path: Path) -> None:
    def stopped(key: int, value: int) -> list[tuple[str, int]]:
        if os.fork() == 0:
            os.kill(os.getppid(), signal.SIGSTOP)
            os.kill(os.getppid(), signal.SIGCONT)
            os._exit(0)
        os.wait()
        return [("sum", value)]

    with jmr.Cluster(workers=1) as cluster:
        source = dict.fromkeys(range(100), 1)
        result = jmr.run(source, stopped, lambda key, values: sum(values), max_attempts=1, engine=cluster)
    assert result == {"sum": 100}
    assert {attempt.outcome for attempt in result.timeline} == {"done"}


@pytest.mark.slow
def test_a_supervisor_on_another_host_that_somebody_has_stopped_is_let_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "CHECK_SECONDS", 0.02)
    monkeypatch.setattr(agent, "_ANSWER_SECONDS", 0.1)

    async def story() -> None:
        membership = agent.Membership(n_slots=1)
        link = membership.make_link(lambda certificate: pytest.fail("nobody connects"))
        sent: asyncio.Queue[Message] = asyncio.Queue()
        monkeypatch.setattr(link, "send", sent.put_nowait)
        os.kill(membership._supervisor.process.pid, signal.SIGSTOP)
        beating = asyncio.ensure_future(membership._beat(link))
        membership._obey(Watch(is_on=True))
        while not isinstance(await asyncio.wait_for(sent.get(), 20), Measured):
            pass
        beating.cancel()
        await membership.close()

    asyncio.run(story())


@pytest.mark.slow
def test_slots_print_on_though_somebody_has_stopped_their_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    def printed(key: int, value: int) -> list[tuple[str, int]]:
        os.kill(os.getppid(), signal.SIGSTOP)
        for _ in range(3_000):
            print("x" * 100)  # more than a pipe holds
        return [("sum", value)]

    monkeypatch.setattr(desk, "_TICK_SECONDS", 0.02)
    monkeypatch.setattr(coordinator_local, "_OBEY_SECONDS", 0.2)
    with jmr.Cluster(workers=1) as cluster:
        job = jmr.submit({1: 1}, printed, lambda key, values: sum(values), engine=cluster, progress=False)
        assert job.result(30) == {"sum": 1}
    assert [attempt.outcome for attempt in job.result().timeline] == ["done", "done"]
