"""What the coordinator makes of measurements: with workers that only take notes."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import pytest

from jmr.coordinator.watching import Watching
from jmr.coordinator.worker import Slot, Stop, Worker
from jmr.scheduler.effects import StartAttempt
from jmr.scheduler.jobs import Phase, TaskId
from jmr.wire.messages import KillSlot, Measured, Message, SlotExited, Watch

GB = 10**9
JOB = 7


class Line:
    """A supervisor's, or a slot's."""

    def __init__(self) -> None:
        self.is_open = True
        self.sent: list[Message] = []

    def send(self, message: Message) -> None:
        self.sent.append(message)

    def close(self) -> None:
        self.is_open = False


class Owner:
    """Has a worker of two slots, and takes notes."""

    def __init__(self, number: int | None = None) -> None:
        self.line = Line()
        self.worker = Worker(self, "local" if number is None else "h1", 2, itertools.count(1))  # type: ignore[arg-type]
        self.worker.number = number
        self.worker._control = self.line
        for slot in (1, 2):
            self.worker._slots[slot] = Slot(slot, slot, self.worker, Line(), ready=True)
        self.are_there = [self.worker]
        self.told: list[Any] = []
        self.watching = Watching(self)
        self.watching.tick(has_jobs=True)

    def guard(self, function: Callable[..., None]) -> Callable[..., None]:
        return function

    def workers(self) -> list[Worker]:
        return self.are_there

    def worker_capped(self, number: int | None, most: int | None) -> None:
        self.told.append(("capped", number, most))

    def slot_unwanted(self, slot: Slot) -> None:
        self.told.append(("unwanted", slot.name))

    def slots_measured(self, sizes: Mapping[str, int]) -> None:
        self.told.append(dict(sizes))

    def begin(self, slot: int) -> StartAttempt:
        """Have a slot work."""
        attempt = self.worker._slots[slot].attempt = StartAttempt(slot, TaskId(JOB, Phase.MAP, slot), 1)
        return attempt

    async def measure(self, used: float, **slots: float) -> list[Any]:
        """Of 10 GB, in GB; returns what was told meanwhile."""
        n = len(self.told)
        sizes = [(int(name[1:]), int(size * GB)) for name, size in slots.items()]
        self.watching.measured(self.worker, Measured(int(used * GB), 10 * GB, sizes))
        await asyncio.sleep(0)
        return self.told[n:]

    def killed(self) -> list[int]:
        return [message.slot for message in self.line.sent if isinstance(message, KillSlot)]

    def exit(self, slot: int, **how: Any) -> Stop | None:
        """A slot's process has ended."""
        return self.watching.stop_of(self.worker._slots.pop(slot), SlotExited(slot, -9, 3, 4 * GB, **how))


def story(tell: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def test() -> None:
        asyncio.run(tell())

    test.__name__, test.__doc__ = tell.__name__, tell.__doc__
    return test


def test_memory_is_measured_while_there_are_jobs_and_no_longer():
    owner = Owner()
    owner.watching.tick(has_jobs=True)
    assert owner.line.sent == [Watch(is_on=True)]
    owner.watching.tick(has_jobs=False)
    owner.watching.tick(has_jobs=False)
    assert owner.line.sent == [Watch(is_on=True), Watch(is_on=False)]


def test_a_supervisor_that_was_started_again_is_told_again():
    owner = Owner()
    owner.worker._slots.clear()
    owner.worker._lose_all()
    owner.watching.tick(has_jobs=True)
    owner.worker._control = owner.line
    owner.watching.tick(has_jobs=True)
    assert owner.line.sent == [Watch(is_on=True), Watch(is_on=True)]


@story
async def test_what_slots_have_is_shown():
    owner = Owner()
    assert await owner.measure(5, s1=1, s2=2, s99=3) == [{"local/1": GB, "local/2": 2 * GB}]


@story
async def test_of_measurements_that_have_piled_up_the_last_counts():
    owner = Owner()
    owner.watching.measured(owner.worker, Measured(99 * GB, 100 * GB, []))
    owner.watching.measured(owner.worker, Measured(98 * GB, 100 * GB, []))
    assert await owner.measure(1, s1=1) == [{"local/1": GB}]


@story
async def test_a_measurement_that_comes_when_all_is_over_changes_nothing():
    owner = Owner()
    owner.watching.tick(has_jobs=False)
    assert await owner.measure(9, s1=9) == []
    owner.watching.tick(has_jobs=True)
    owner.are_there = []
    assert await owner.measure(9, s1=9) == []


@story
async def test_a_tight_host_is_capped_until_there_is_room_or_nothing_runs():
    owner = Owner(number=4)
    assert (await owner.measure(8.5, s1=4, s2=4))[1:] == [("capped", 4, 1)]
    assert (await owner.measure(5, s1=2, s2=2))[1:] == [("capped", 4, None)]
    await owner.measure(8.5, s1=4, s2=4)
    owner.watching.tick(has_jobs=False)
    assert owner.told[-1] == ("capped", 4, None)


@story
async def test_a_worker_that_is_gone_is_forgotten():
    owner = Owner(number=4)
    await owner.measure(8.5, s1=4, s2=4)
    owner.are_there = []
    owner.watching.tick(has_jobs=True)
    assert owner.told[-1] == ("capped", 4, None)
    assert owner.watching._pressures == {}


@story
async def test_the_largest_slot_of_a_full_host_is_stopped_and_its_task_is_not_to_blame():
    owner = Owner()
    attempt = owner.begin(1)
    owner.begin(2)
    await owner.measure(9.62, s1=5, s2=4)
    assert owner.killed() == [1]
    stop = owner.exit(1)
    why = "was stopped at 5.00 GB: 96 % of this host's 10.0 GB of memory was used"
    assert stop == Stop(attempt, why, is_blamed=False)
    assert owner.told[-1] == ("capped", None, 1)
    await owner.measure(5, s2=4)
    owner.watching.job_over(JOB)
    assert owner.told[-1] == ("capped", None, None)


@story
async def test_who_is_stopped_alone_is_to_blame_unless_it_began_something_else_meanwhile():
    for moves_on in (False, True):
        owner = Owner(number=4)
        owner.begin(1)
        await owner.measure(9.6, s1=9, s2=0.01)
        if moves_on:
            owner.begin(1)
        stop = owner.exit(1)
        assert stop is not None
        assert stop.why == "was stopped at 9.00 GB: 96 % of h1's 10.0 GB of memory was used"
        assert stop.is_blamed is not moves_on


@story
async def test_an_idle_slot_that_keeps_much_is_stopped_by_the_scheduler_which_might_use_it_now():
    owner = Owner()
    owner.begin(1)
    assert (await owner.measure(9.6, s1=5, s2=4))[1:] == [("capped", None, 1), ("unwanted", "local/2")]
    assert owner.killed() == []
    assert owner.exit(2) is None


@story
async def test_of_those_whom_the_kernel_killed_only_one_that_was_alone_is_to_blame():
    owner = Owner()
    first, second = owner.begin(1), owner.begin(2)
    why = "was ended at 4.00 GB by the system, which had no memory left"
    assert owner.exit(1, is_oom=True) == Stop(first, why, is_blamed=False)
    assert owner.told == [("capped", None, 1)]
    assert owner.exit(2, is_oom=True) == Stop(second, why, is_blamed=True)


def test_who_was_killed_by_somebody_else_did_not_end_for_want_of_memory():
    owner = Owner()
    owner.begin(1)
    assert owner.exit(1) is None


@pytest.mark.parametrize(
    "measured", [Measured(-1, 10, []), Measured(1, 0, []), Measured(1, 10, [(1, 5), (2, -1)])], ids=str
)
def test_what_cannot_be_right_is_no_measurement(measured):
    with pytest.raises(Exception, match="a supervisor does not say Measured"):
        Owner().worker._hear_supervisor(measured)
